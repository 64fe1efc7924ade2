"""The questions a profile asks: built in, from a file, or of a given length in tokens."""

from collections.abc import Callable
from itertools import cycle, islice

from foggen_runtime.text.questions import shipped_questions

_FILLER = ("the", "day", "after", "it", "was", "a", "quiet", "morning", "in", "town", "and")


def built_in_questions() -> tuple[str, ...]:
    """Return the multiple-choice questions that ship with the runtime."""
    shipped = shipped_questions("foggen_runtime.profiling", "questions.jsonl")
    return tuple(question.question for question in shipped)


def repeated(questions: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return `count` questions, starting over if there are fewer."""
    return tuple(islice(cycle(questions), count))


def padded(question: str, tokens: int, count: Callable[[str], int]) -> str:
    """Put filler words before a question until its prompt has about `tokens` tokens.

    Args:
        question: What stays as it is, at the end.
        tokens: The prompt's length, everything around the question included.
        count: Returns the length of a question's whole prompt in tokens.
    """
    filler = ""
    refused = 0
    for word in cycle(_FILLER):
        longer = f"{filler} {word}".lstrip()
        length = count(f"{longer}.\n{question}")
        if length <= tokens:
            filler, refused = longer, 0
        else:
            refused += 1
        if length == tokens or refused == len(_FILLER):
            break
    return f"{filler}.\n{question}" if filler else question
