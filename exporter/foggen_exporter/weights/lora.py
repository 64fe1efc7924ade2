"""Merging a PEFT LoRA adapter into a checkpoint while it is read."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from foggen_exporter.architectures.config import EMBEDDING, LM_HEAD
from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.weights.checkpoint import DerivedCheckpoint
from foggen_exporter.weights.checkpoint_files import check_pulled, read_json_object
from foggen_exporter.weights.tensor_files import (
    DTYPES,
    TensorFiles,
    rows_per_chunk,
    same_values,
)
from foggen_exporter.weights.tensor_names import unwrapped
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json

if TYPE_CHECKING:
    import re2

Number = TypeVar("Number", int, float)

# Fields that change what the adapter computes, or which weights it applies to.
_NOT_BUILT = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
# Other initializations change the base weights, so that the adapter does not fit the original.
_INITIALIZATIONS = (None, True, False, "gaussian", "eva", "orthogonal")
_WEIGHT_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
# PEFT's suffixes after a module's name, and what such a tensor is to the module.
_PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding a",
    ".lora_embedding_B": "embedding b",
    ".base_layer.weight": "base",
    ".weight": "replacement",
}


@dataclass(frozen=True)
class LoraConfig:
    """The fields of `adapter_config.json` that merging depends on."""

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    bias: str = "none"
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if self.peft_type != "LORA":
            raise ValueError(f"peft_type: must be LORA, is {self.peft_type}")
        if self.bias != "none":
            raise ValueError(f"bias: must be none, is {self.bias}")
        for pattern in (*(self.rank_pattern or ()), *(self.alpha_pattern or ())):
            _compiled(pattern)
        for name, rank in {"r": self.r, **(self.rank_pattern or {})}.items():
            if rank < 1:
                raise ValueError(f"{name}: a rank must be at least 1, is {rank}")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read `adapter_config.json`.

        Raises:
            CheckpointError: A field is missing or wrong, or asks for a kind of adapter that cannot
                be merged here.
        """
        document = read_json_object(path)
        for name in _NOT_BUILT:
            if document.get(name):
                raise CheckpointError(
                    f"{path}: {name}: is not supported, is {json.dumps(document[name])[:60]}; "
                    "merge the adapter with PEFT's merge_and_unload and export the result"
                )
        initialization = document.get("init_lora_weights")
        if initialization not in _INITIALIZATIONS:
            raise CheckpointError(
                f"{path}: init_lora_weights: {initialization!r} changes the base weights, so the "
                "adapter does not fit the original ones; merge it with PEFT and export the result"
            )
        names = {entry.name for entry in dataclasses.fields(cls)}
        try:
            return from_json(
                cls, {name: value for name, value in document.items() if name in names}, str(path)
            )
        except FieldError as error:
            raise CheckpointError(str(error)) from error

    def rank(self, module: str) -> int:
        """Return the rank of a module's update."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """Return the factor on `B @ A`."""
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


@dataclass(frozen=True)
class MergedCheckpoint(DerivedCheckpoint):
    """A checkpoint with an adapter merged in; a `TensorSource`."""

    tied: bool
    warnings: tuple[str, ...]
    merge: "_Merge"

    @classmethod
    def open(cls, base: TensorSource, directory: Path) -> Self:
        """Read an adapter's configuration and headers, and check that it fits the base.

        Raises:
            CheckpointError: A file is missing or broken, the adapter is of a kind that is not
                merged here, or its tensors do not fit the base checkpoint.
        """
        check_pulled(directory, _WEIGHT_FILE)
        config = LoraConfig.read(directory / "adapter_config.json")
        files = TensorFiles([_weight_file(directory)], unwrapped)
        files.check_dtypes()
        merge = _read_merge(base, files, config)
        tied, warnings = merge.judge_head()
        return cls(base, tied, base.warnings + warnings, merge)

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a merged tensor as float32.

        Raises:
            CheckpointError: A file cannot be read any more, or a value is NaN or infinite.
        """
        return self.merge.rows(name, start, stop)

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a merged tensor as float32; raises as `rows` does."""
        return self.merge.take(name, indices)

    def check_finite(self) -> None:
        """Read all weights once, the base's and the adapter's; raises as `rows` does."""
        self.base.check_finite()
        self.merge.files.check_finite()

    def weights_sha256(self) -> str:
        """Hash the base's weights, the adapter's and its scales.

        The merged values themselves would hash differently from one BLAS library to the next.
        """
        scales = sorted((name, update.scale) for name, update in self.merge.updates.items())
        parts = [self.base.weights_sha256(), self.merge.files.sha256(), scales]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _LowRankUpdate:
    """What is added to a weight: `scale * (b @ a)`, transposed for an embedding."""

    a: str  # (rank, in)
    b: str  # (out, rank)
    scale: float
    transposed: bool

    def rows(self, files: TensorFiles, start: int, stop: int) -> Float32:
        if self.transposed:
            return self._product(files, files.tensor(self.a)[:, start:stop])
        return self._product(files, files.rows(self.b, start, stop))

    def take(self, files: TensorFiles, indices: Sequence[int]) -> Float32:
        if self.transposed:
            return self._product(files, files.tensor(self.a)[:, list(indices)])
        return self._product(files, files.take(self.b, indices))

    def _product(self, files: TensorFiles, part: Float32) -> Float32:
        """Multiply a part of `b`, or of `a` if transposed, with all of the other."""
        left, right = part, files.tensor(self.b if self.transposed else self.a)
        if self.transposed:
            # Laid out as for a linear layer, so that tied updates come out equal bit for bit.
            left, right = np.ascontiguousarray(part.T), np.ascontiguousarray(right.T)
        product: Float32 = left @ right
        product *= np.float32(self.scale)
        return product


@dataclass(frozen=True)
class _Merge:
    """A base checkpoint and, by weight name, what an adapter does to it."""

    base: TensorSource
    files: TensorFiles
    updates: Mapping[str, _LowRankUpdate]
    replacements: Mapping[str, str]

    def rows(self, weight: str, start: int, stop: int) -> Float32:
        if weight in self.replacements:
            replaced = self.files.rows(self.replacements[weight], start, stop)
            return self.base.config.as_computed(weight, replaced)
        merged = self.base.rows(weight, start, stop)
        if weight in self.updates:
            step = rows_per_chunk(merged.shape, merged.itemsize)
            for at in range(0, len(merged), step):
                part = merged[at : at + step]
                part += self.updates[weight].rows(self.files, start + at, start + at + len(part))
        return merged

    def take(self, weight: str, indices: Sequence[int]) -> Float32:
        if weight in self.replacements:
            replaced = self.files.take(self.replacements[weight], indices)
            return self.base.config.as_computed(weight, replaced)
        merged = self.base.take(weight, indices)
        if weight in self.updates:
            merged += self.updates[weight].take(self.files, indices)
        return merged

    def judge_head(self) -> tuple[bool, tuple[str, ...]]:
        touched = [
            name
            for name in (EMBEDDING, LM_HEAD)
            if name in self.updates or name in self.replacements
        ]
        if not touched:
            return self.base.tied, ()
        if same_values(self.rows, (EMBEDDING, LM_HEAD), self.base.shape(EMBEDDING)):
            return True, ()
        if not self.base.tied:
            return False, ()
        return False, (
            f"the adapter changes {' and '.join(touched)}, which the checkpoint ties: both are "
            "exported, so the bundle is larger",
        )


def _weight_file(directory: Path) -> Path:
    path = directory / _WEIGHT_FILE
    if not path.exists() and (directory / "adapter_model.bin").exists():
        raise CheckpointError(
            f"{directory}: has no adapter_model.safetensors but adapter_model.bin, which is a "
            "pickle; load it with PEFT and save it with save_pretrained, which writes safetensors"
        )
    return path


def _read_merge(base: TensorSource, files: TensorFiles, config: LoraConfig) -> _Merge:
    known = base.config.expected_tensors()
    updates, replacements = {}, {}
    for module, parts in _by_module(files).items():
        weight = f"{module}.weight"
        if weight not in known:
            raise CheckpointError(f"adapter: {module}: the checkpoint has no {weight}")
        if set(parts) == {"replacement"}:
            _check_shape(files, parts["replacement"], base.shape(weight))
            replacements[weight] = parts["replacement"]
            continue
        if "base" in parts:
            _check_base_copy(base, files, weight, parts.pop("base"))
        updates[weight] = _read_update(files, parts, config, module, base.shape(weight))
    if not updates and not replacements:
        raise CheckpointError("adapter: must hold tensors, holds none")
    return _Merge(base, files, updates, replacements)


def _by_module(files: TensorFiles) -> dict[str, dict[str, str]]:
    """Sort the adapter's tensors by module: `{module: {part: tensor name}}`."""
    modules: dict[str, dict[str, str]] = {}
    for name in files.entries:
        suffix = next((suffix for suffix in _PARTS if name.endswith(suffix)), None)
        if suffix is None or not name.startswith(_PREFIX):
            raise CheckpointError(f"adapter: {name}: is not of a kind that can be merged")
        module = name.removeprefix(_PREFIX).removesuffix(suffix)
        modules.setdefault(module, {})[_PARTS[suffix]] = name
    return modules


def _read_update(
    files: TensorFiles,
    parts: Mapping[str, str],
    config: LoraConfig,
    module: str,
    shape: tuple[int, ...],
) -> _LowRankUpdate:
    embedding = set(parts) == {"embedding a", "embedding b"}
    if len(shape) != 2 or (not embedding and set(parts) != {"a", "b"}):
        raise CheckpointError(
            f"adapter: {module}: must have an A and a B for a matrix, "
            f"has {', '.join(sorted(parts.values()))} for {list(shape)}"
        )
    a, b = (parts[part] for part in sorted(parts))
    height, width = reversed(shape) if embedding else shape
    rank = config.rank(module)
    _check_shape(files, a, (rank, width))
    _check_shape(files, b, (height, rank))
    return _LowRankUpdate(a, b, config.scale(module), embedding)


def _check_shape(files: TensorFiles, name: str, shape: tuple[int, ...]) -> None:
    found = files.entries[name].shape
    if found != shape:
        raise CheckpointError(
            f"adapter: {name}: shape must be {list(shape)} by the checkpoint and "
            f"adapter_config.json, is {list(found)}"
        )


def _check_base_copy(base: TensorSource, files: TensorFiles, weight: str, copy: str) -> None:
    """Check that PEFT's copy of a base weight equals the checkpoint's, but for rounding."""
    _check_shape(files, copy, base.shape(weight))
    dtype = DTYPES[files.entries[copy].dtype]

    def rows(name: str, start: int, stop: int) -> Float32:
        if name == copy:
            return files.rows(copy, start, stop)
        return base.rows(weight, start, stop).astype(dtype).astype(np.float32)

    if not same_values(rows, (weight, copy), base.shape(weight)):
        raise CheckpointError(
            f"adapter: {copy}: must equal the checkpoint's {weight}; the adapter was trained on "
            "another base"
        )


def _by_pattern(patterns: Mapping[str, Number] | None, module: str, default: Number) -> Number:
    """Look a module up as PEFT does: the first pattern that matches the end of its name."""
    for pattern, value in (patterns or {}).items():
        if _compiled(pattern).match(module):
            return value
    return default


@lru_cache
def _compiled(pattern: str) -> "re2._Regexp":
    """Compile a pattern for a module's whole name, safely: a malicious one could stall.

    Raises:
        ValueError: It cannot be matched in linear time.
    """
    import re2  # few adapters have any

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(rf"(.*\.)?({pattern})$", options)
    except re2.error as error:
        raise ValueError(
            f"{pattern}: must be a regular expression without look-around and the like: {error}"
        ) from error
