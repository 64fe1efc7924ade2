"""Questions that show quantizing which activations occur."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foggen_exporter.calibration.activations import CalibrationPrompts
from foggen_runtime.bundle.manifest import PromptInfo, TemplateInfo
from foggen_runtime.text.questions import read_questions, shipped_questions
from foggen_runtime.text.tokenizer import QuestionTokenizer

# More questions make no measurable difference, but cost time and memory.
MAX_QUESTIONS = 64


@dataclass(frozen=True)
class CalibrationSet:
    """Questions as a user would type them."""

    questions: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the first questions of a file: JSON Lines, each an object with a `question`.

        Raises:
            ConfigError: It cannot be read, holds no question, or has a wrong line.
        """
        questions = read_questions(path).questions[:MAX_QUESTIONS]
        return cls(tuple(question.question for question in questions))

    @classmethod
    def built_in(cls) -> Self:
        """Return the questions that ship with the exporter."""
        questions = shipped_questions(__package__, "calibration_questions.jsonl")
        return cls(tuple(question.question for question in questions))

    @property
    def sha256(self) -> str:
        """Hash the questions."""
        return hashlib.sha256(json.dumps(self.questions).encode()).hexdigest()


def calibration_prompts(
    questions: Sequence[str],
    tokenizer: QuestionTokenizer,
    prompt: PromptInfo,
    template: TemplateInfo,
    tail: int,
) -> CalibrationPrompts:
    """Put questions into the prompt, each with the beginning of a reply.

    The confidence levels take turns: what the model would say is not known yet, and nearly all
    tokens of a reply are the same for every level.
    """
    suffixes = []
    for i, question in enumerate(questions):
        level_ids = template.level_ids[i % len(template.level_ids)]
        reply = (*level_ids, *template.separator_ids, *template.answer_prefix_ids)
        ids = tokenizer.prompt_ids(prompt, question)
        suffixes.append((*ids[len(prompt.prefix_ids) :], *reply))
    return CalibrationPrompts(prompt.prefix_ids, tuple(suffixes), tail)
