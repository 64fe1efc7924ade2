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
        ("First A seemed right. The answer is A? No, the answer is B.", "B"),
        (r"Thus \boxed{C}, though the answer is long", "C"),
        (r"\boxed{\text{D}}", "D"),
        ("I would take option **B** here", "B"),
        ("The answer is B, as option A is wrong", "B"),
        ("The correct choice is (A)", "A"),
    ],
)
def test_letters(answer: str, choice: str | None) -> None:
    assert parse_choice(answer) == choice


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("B", "B"),
        ("E", None),
        ("Answer: I am not sure", None),
        ("Answer: I take option B", "B"),
        ("It is B.", "B"),
        ("It is either A, or B", None),
        ("A dog is B", "B"),
        ("A dog is an animal", None),
        ("It's B'nai B'rith", None),
    ],
)
def test_only_letters_of_the_options_count(answer: str, choice: str | None) -> None:
    assert parse_choice(answer, ("A", "B")) == choice


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which?\nA) 1\nB) 2\nC) 3", ("A", "B", "C")),
        ("Which? A) 1 B) 2", ("A", "B")),
        ("Which?\n(A) 1\n(B) 2", ("A", "B")),
        ("Which?\nA. 1\nB. 2", ("A", "B")),
        ("What is the capital of France?", ()),
        ("When does E. coli grow?\nA) Now\nB) Never", ("A", "B")),
        ("Red (R) or white?\nA) 1.1 V\nB) 2.2 V. C) none", ("A", "B", "C")),
        ("Who?\nA) H. L. A. Hart\nB) J. K. Rowling\nC) B. B. King", ("A", "B", "C")),
        ("J. K. L. Smith said: A) yes B) no", ("A", "B")),
        ("Which?\nF) 1\nG) 2\nH) 3", ("F", "G", "H")),
        ("Where is vitamin A. found?", ()),
    ],
)
def test_options(question: str, options: tuple[str, ...]) -> None:
    assert question_options(question) == options
