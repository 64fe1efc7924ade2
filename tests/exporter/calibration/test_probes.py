"""Prompts with a whole reply, and the places where it chooses."""

import pytest
from transformers import AutoTokenizer

from foggen_exporter.calibration.probes import ProbeSet, probe_set, probing_questions
from foggen_exporter.text.prompt import prompt_info, template_info
from foggen_exporter.text.reply_template import load_template
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import TINY

CHECKPOINT = TINY / "checkpoint"
FULL = AutoTokenizer.from_pretrained(CHECKPOINT)
PROMPT = prompt_info(FULL, load_template("mcq"))
TEMPLATE = template_info(FULL, load_template("mcq"))


@pytest.fixture(scope="module")
def tokenizer() -> QuestionTokenizer:
    return QuestionTokenizer.from_file(CHECKPOINT / "tokenizer.json")


def probes(tokenizer: QuestionTokenizer, questions: list[str]) -> ProbeSet:
    return probe_set(questions, tokenizer, PROMPT, TEMPLATE)


def test_choices_are_the_levels_digits_and_the_options_letter(
    tokenizer: QuestionTokenizer,
) -> None:
    questions = [f"Pick {n}.\nA) 1\nB) 2\nC) 3" for n in range(5)]
    found = probes(tokenizer, questions)
    assert found.prefix_ids == PROMPT.prefix_ids
    texts = [FULL.decode(list(probe.ids)) for probe in found.probes]
    # 1.0 passes only the first branch, and is left to the others.
    replies = [str(text).partition("Confidence: ")[2] for text in texts]
    levels = ["0.0", "0.25", "0.5", "0.75", "0.0"]
    assert replies == [f"{level}\nFinal answer:" for level in levels]
    for level, probe in zip(levels, found.probes, strict=True):
        chosen = [[FULL.decode([token]) for token in choice.tokens] for choice in probe.choices]
        assert [set(part) for part in chosen] == [
            {"0", "1"},
            {"0", "2", "5", "7"},
            {" A", " B", " C"},
        ]
        assert [choice.taken for choice in probe.choices][2] is None
        for choice, digit in zip(probe.choices, (level[0], level[2]), strict=False):
            assert choice.taken is not None
            assert FULL.decode([choice.tokens[choice.taken]]) == digit
            # Row -1 follows the last token: the row before a token is one earlier than the token.
            assert probe.ids[len(probe.ids) + choice.row + 1] == choice.tokens[choice.taken]
        assert probe.choices[2].row == -1
    assert found.rows == max(-probe.choices[0].row for probe in found.probes)


def test_a_question_without_options_shows_the_levels_alone(tokenizer: QuestionTokenizer) -> None:
    (probe,) = probes(tokenizer, ["Who wrote it?"]).probes
    assert len(probe.choices) == 2


def test_of_many_questions_the_shortest_of_each_part_probe(tokenizer: QuestionTokenizer) -> None:
    questions = [f"Pick {n}{' quite' * (n % 4 != 2)}.\nA) 1\nB) 2" for n in range(32)]
    expected = [questions[n] for n in range(2, 32, 4)]
    assert probing_questions(questions) == expected
    assert probing_questions(questions[:3]) == questions[:3]
    found = probes(tokenizer, questions).probes
    assert len(found) == len(expected)
    for question, probe in zip(expected, found, strict=True):
        assert question in str(FULL.decode(list(probe.ids)))
