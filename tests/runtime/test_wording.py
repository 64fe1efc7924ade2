"""Words that follow the numbers before them."""

import pytest

from foggen_runtime.wording import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "question", "0 questions"),
        (1, "question", "1 question"),
        (2, "question", "2 questions"),
        (1, "process", "1 process"),
        (3, "process", "3 processes"),
    ],
)
def test_a_noun_follows_its_number(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
