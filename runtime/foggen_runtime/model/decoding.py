"""How to decode a question."""

from dataclasses import dataclass
from typing import Literal, get_args

from foggen_runtime.errors import ConfigError

DecodingMode = Literal["constrained", "greedy", "step"]


@dataclass(frozen=True)
class Decoding:
    """How to decode.

    Attributes:
        mode: `constrained` reads the level among the template's branches in one pass; `greedy`
            verifies drafts against plain greedy decoding; `step` is plain greedy decoding.
        max_new_tokens: The most tokens to write after the confidence, the answer prefix included.
        choices: In constrained mode, the only letters the answer may begin with.
    """

    mode: DecodingMode = "constrained"
    max_new_tokens: int = 256
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(DecodingMode):
            raise ConfigError(
                f"decoding: must be one of {', '.join(get_args(DecodingMode))}, is {self.mode!r}"
            )
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: must be at least 1, is {self.max_new_tokens}")
        if self.choices is not None and (not self.choices or self.mode != "constrained"):
            raise ConfigError(
                f"choices: must be letters, with decoding constrained; are {self.choices} "
                f"with decoding {self.mode}"
            )
