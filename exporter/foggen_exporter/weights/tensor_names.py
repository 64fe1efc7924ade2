"""Tensors' names without what training wraps around a model."""

from collections.abc import Iterable
from pathlib import Path

from foggen_runtime.errors import CheckpointError

# Modules that torch.compile, FSDP and activation checkpointing put around others.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_PARALLEL = "module"  # around a whole model: DataParallel, DeepSpeed
_PEFT = "base_model.model."
# What PEFT adds to a module until it is merged.
_ADAPTER_PARTS = frozenset(
    {
        "base_layer",
        "lora_A",
        "lora_B",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
        "modules_to_save",
        "original_module",
    }
)


def unwrapped(name: str) -> str:
    """Return a tensor's name in the model itself, whatever its modules were wrapped in."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == _PARALLEL:
        parts = parts[1:]
    return ".".join(parts)


def merged(name: str) -> str:
    """Return the name as `unwrapped` does, also without what an adapter leaves once merged."""
    return unwrapped(name).removeprefix(_PEFT)


def check_merged(directory: Path, names: Iterable[str]) -> None:
    """Check that no unmerged adapter is left next to the weights it belongs to.

    Raises:
        CheckpointError: There is one.
    """
    for name in names:
        if not _ADAPTER_PARTS.isdisjoint(name.split(".")):
            raise CheckpointError(
                f"{directory}: holds an adapter that is not merged, in {name}; merge it with "
                "PEFT's merge_and_unload and save the result with save_pretrained, or export the "
                "base checkpoint with --adapter"
            )
