import pytest

from foggen_runtime.choice import parse_choice, question_options


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("B", "B"),
        (" B ", "B"),
        ("B) Paris", "B"),
        ("(C)", "C"),
        ("D.", "D"),
        ("**A**: because", "A"),
        ("The answer is B.", "B"),
        ("I think so. Final answer: C", "C"),
        ("answer: (D)", "D"),
        ("A dog is an animal", None),
        ("The answer is a dog", None),
        ("Paris", None),
        ("", None),
    ],
)
def test_letters(answer: str, choice: str | None) -> None:
    assert parse_choice(answer) == choice


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which?\nA) 1\nB) 2\nC) 3", ("A", "B", "C")),
        ("Which? A) 1 B) 2", ("A", "B")),
        ("Which?\n(A) 1\n(B) 2", ("A", "B")),
        ("Which?\nA. 1\nB. 2", ("A", "B")),
        ("What is the capital of France?", ()),
    ],
)
def test_options(question: str, options: tuple[str, ...]) -> None:
    assert question_options(question) == options
