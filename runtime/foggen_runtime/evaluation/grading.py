"""Whether an answer is right.

If the right answer is one letter from A to Z, the question is multiple choice, and a reply is right
if its option letter is the same. Otherwise a reply is right if its text is the same after
`normalized`.
"""

import re
import string

from foggen_runtime.cloud.thoughts import without_thoughts
from foggen_runtime.text.choice import parse_choice, question_options
from foggen_runtime.text.questions import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_right(question: Question, text: str | None, choice: str | None) -> bool | None:
    """Judge a reply; None if the right answer is not known.

    Args:
        question: What was asked.
        text: The reply.
        choice: The option letter in it, if it has one.
    """
    if question.answer is None:
        return None
    if is_letter(question.answer):
        return choice == question.answer
    return text is not None and normalized(text) == normalized(question.answer)


def reply_is_right(question: Question, text: str) -> bool | None:
    """Judge a reply whose option letter has yet to be found, thoughts left out."""
    text = without_thoughts(text)
    return is_right(question, text, parse_choice(text, question_options(question.question)))


def cloud_is_right(question: Question) -> bool | None:
    """Whether the cloud's answer is right; None if that is not known."""
    if question.cloud_correct is not None or question.cloud_answer is None:
        return question.cloud_correct
    return reply_is_right(question, question.cloud_answer)


def is_letter(text: str) -> bool:
    """Whether an answer is an option's letter."""
    return len(text) == 1 and "A" <= text <= "Z"


def normalized(text: str) -> str:
    """Return a free answer as it is compared: lower case, no punctuation, articles or extra spaces.

    As SQuAD's official evaluation does (Rajpurkar et al., arXiv 1606.05250).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())
