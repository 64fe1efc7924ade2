"""The command line of `foggen-export`, as typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GraphKind = Literal["foggen", "optimum"]
HeadKind = Literal["full", "choices"]


@dataclass(frozen=True)
class Request:
    """The command line, as typed."""

    checkpoint: str
    name: str | None
    revision: str | None
    adapter: Path | None
    quant: str
    graph: GraphKind
    output: Path | None
    template: str
    tau: float
    context_length: int
    prefix_snapshot: bool
    calibration: Path | None
    block_size: int | None
    symmetric: bool
    budget: float | None
    loop: bool
    genai: bool
    head: HeadKind
    data: Path | None
    report: Path | None
    max_flip_rate: float | None
    force: bool
    as_json: bool

    @property
    def origin(self) -> str:
        """The checkpoint's hub id, or the name of its directory or file."""
        path = Path(self.checkpoint)
        return path.resolve().name if path.exists() else self.checkpoint

    @property
    def target(self) -> Path:
        """Where the bundle goes: `./<name>-<recipe>` by default."""
        name = self.name or self.origin.rpartition("/")[2].removesuffix(".gguf")
        return self.output or Path(f"{name}-{self.quant}")
