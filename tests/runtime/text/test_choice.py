import json
from typing import Any

import pytest

from foggen_runtime.text.choice import parse_choice, question_options
from tests.golden.traces import FOLDER

# The Kotlin core is held to the same table.
TABLE = json.loads((FOLDER / "choices.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", TABLE["answers"], ids=lambda case: case["answer"])
def test_letter_of_an_answer(case: dict[str, Any]) -> None:
    assert parse_choice(case["answer"], tuple(case["options"])) == case["choice"]


@pytest.mark.parametrize("case", TABLE["questions"], ids=lambda case: case["question"])
def test_options_of_a_question(case: dict[str, Any]) -> None:
    assert question_options(case["question"]) == tuple(case["options"])


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("The answer is B. " + "Because. " * 50_000, "B"),
        ("Because. " * 50_000 + "The answer is B.", "B"),
        ("Because. " * 50_000 + "The answer is B. " + "Because. " * 50_000, None),
    ],
)
def test_the_middle_of_a_very_long_answer_is_not_read(answer: str, choice: str | None) -> None:
    assert parse_choice(answer, ("A", "B")) == choice
