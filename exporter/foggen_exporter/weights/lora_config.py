"""What `adapter_config.json` of a PEFT LoRA adapter says."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from foggen_exporter.weights.checkpoint_files import read_json_object
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json

if TYPE_CHECKING:
    import re2

Number = TypeVar("Number", int, float)

# Fields that change what is computed from the adapter, or which weights it belongs on.
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
            CheckpointError: A field is missing or wrong, or asks for a kind of adapter that is
                not merged here.
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


def _by_pattern(patterns: Mapping[str, Number] | None, module: str, default: Number) -> Number:
    """Look a module up as PEFT does: the first pattern that matches the end of its name."""
    for pattern, value in (patterns or {}).items():
        if _compiled(pattern).match(module):
            return value
    return default


@lru_cache
def _compiled(pattern: str) -> "re2._Regexp":
    """Compile a pattern for a module's whole name; an adapter's author may have made it to stall.

    Raises:
        ValueError: It is none that can be matched in linear time.
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
