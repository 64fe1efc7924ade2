"""Write ``heldout.jsonl``: questions never trained on, with a simulated cloud's answers.

Run from anywhere: ``python tests/tiny_foggen/heldout.py``. Standard library only.
"""

import json
import random
from pathlib import Path
from typing import NamedTuple

from questions import Question, generate

PATH = Path(__file__).parent / "heldout.jsonl"
SEED = 7
COUNT = 1200
CLOUD_ACCURACY = 0.9


class HeldOut(NamedTuple):
    """One held-out question as stored, a line of JSON each."""

    id: str
    domain: str
    question: str
    options: dict[str, str]
    answer: str
    cloud_answer: str


def with_cloud(question: Question, rng: random.Random) -> HeldOut:
    """Add the answer of a stronger model, wrong with a fixed probability."""
    wrong = [letter for letter in question.options if letter != question.answer]
    cloud = question.answer if rng.random() < CLOUD_ACCURACY else rng.choice(wrong)
    return HeldOut(*question[:5], cloud_answer=cloud)


def read_heldout() -> list[HeldOut]:
    """Return the stored questions."""
    lines = PATH.read_text(encoding="utf-8").splitlines()
    return [HeldOut(**json.loads(line)) for line in lines]


def main() -> None:
    """Generate and store the questions."""
    rng = random.Random(SEED)
    rows = [with_cloud(question, rng) for question in generate(SEED, COUNT)]
    lines = [json.dumps(row._asdict()) + "\n" for row in rows]
    PATH.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
