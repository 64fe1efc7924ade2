"""Ask a bundle questions, and print what it decides as one JSON line for each.

Runs in whatever Python an emulated machine has: needs only the runtime, found by `PYTHONPATH`.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime import EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.jsonio import dumps


@dataclass(frozen=True)
class Decided:
    """What is compared between machines.

    Attributes:
        kept: Whether the question would be answered locally.
        confidence: As in the runtime's result, like the fields after it.
    """

    kept: bool
    confidence: float | None
    level_probabilities: tuple[float, ...] | None
    expected_confidence: float | None
    choice: str | None


def decided(result: Result) -> Decided:
    """Return what is compared of a result.

    Raises:
        RuntimeError: The engine failed.
    """
    if result.reason == "local_error":
        raise RuntimeError(result.detail)
    return Decided(
        kept=result.reason == "confident",
        confidence=result.confidence,
        level_probabilities=result.level_probabilities,
        expected_confidence=result.expected_confidence,
        choice=result.choice,
    )


def main() -> None:
    """Read the arguments, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("held_out", type=Path, help="JSON lines with a field `question`")
    parser.add_argument("--questions", type=int, help="ask only the first so many")
    parser.add_argument("--tau", type=float, required=True)
    parser.add_argument("--no-kleidiai", action="store_true")
    arguments = parser.parse_args()
    lines = arguments.held_out.read_text(encoding="utf-8").splitlines()
    engine = EngineOptions(threads=1, spinning=False, kleidiai=not arguments.no_kleidiai)
    with Foggen.open(arguments.bundle, options=OpenOptions(engine=engine)) as foggen:
        for line in lines[: arguments.questions]:
            question = json.loads(line)["question"]
            result = foggen.ask(question, tau=arguments.tau, route="local_only")
            print(dumps(decided(result)), flush=True)


if __name__ == "__main__":
    main()
