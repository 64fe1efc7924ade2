"""The prompt prefix snapshot: the KV cache of the constant part of the prompt, from the export.

It was computed by the fp32 checkpoint, so it is valid for exactly one set of weights, tokenizer and
prompt; its key says which. It is a plain array that numpy maps.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import TOKENIZER_FILE, Manifest, ModelInfo
from foggen_runtime.errors import BundleError

SNAPSHOT_FILE = "prefix_snapshot.npy"

_REMEDY = "export the bundle again, or open it with --recompute-prefix"


def snapshot_key(
    weights_sha256: str, tokenizer_sha256: str, prefix_ids: Sequence[int], model: ModelInfo
) -> str:
    """Return one SHA-256 over everything a snapshot depends on.

    The weights' hash covers their folding, but neither the rest of the recipe nor the machine: one
    snapshot serves every recipe with the same folding.
    """
    shape = [model.num_hidden_layers, model.num_key_value_heads, model.head_dim]
    parts = [weights_sha256, tokenizer_sha256, list(prefix_ids), model.architecture, shape]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load_snapshot(bundle: Bundle) -> Float32:
    """Map the snapshot of a bundle that has one.

    Returns:
        (layers, 2, num_key_value_heads, prefix tokens, head_dim), float32.

    Raises:
        BundleError: It cannot be read, or belongs to other weights, another tokenizer or another
            prompt.
    """
    manifest = bundle.manifest
    if manifest.prefix_snapshot is None:
        raise BundleError(f"{bundle.directory}: prefix_snapshot: the bundle has none")
    path = bundle.path(manifest.prefix_snapshot.file)
    key = expected_key(manifest)
    if manifest.prefix_snapshot.key != key:
        raise BundleError(
            f"{path}: prefix_snapshot.key: must be {key} for these weights, tokenizer and prompt, "
            f"is {manifest.prefix_snapshot.key}; {_REMEDY}"
        )
    try:
        # Unlike `np.load`, this reads nothing but arrays: no pickle, no zip archive.
        snapshot: Float32 = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read: {error}; {_REMEDY}") from error
    model, tokens = manifest.model, len(manifest.prompt.prefix_ids)
    shape = (model.num_hidden_layers, 2, model.num_key_value_heads, tokens, model.head_dim)
    if snapshot.shape != shape or snapshot.dtype != np.float32:
        raise BundleError(
            f"{path}: must be float32 {shape}, is {snapshot.dtype} {snapshot.shape}; {_REMEDY}"
        )
    return snapshot


def expected_key(manifest: Manifest) -> str:
    """Return the key that a snapshot must have to fit the rest of the manifest."""
    weights = manifest.provenance.get("weights_sha256", "")
    tokenizer = manifest.files[TOKENIZER_FILE].sha256
    return snapshot_key(str(weights), tokenizer, manifest.prompt.prefix_ids, manifest.model)
