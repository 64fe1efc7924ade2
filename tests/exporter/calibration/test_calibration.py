"""Calibration questions, and the prompts made of them."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from foggen_exporter.calibration.calibration import (
    MAX_QUESTIONS,
    CalibrationSet,
    calibration_prompts,
)
from foggen_exporter.text.prompt import prompt_info, template_info
from foggen_exporter.text.reply_template import load_template
from foggen_runtime.errors import ConfigError
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import TINY


def write(path: Path, questions: list[str]) -> Path:
    lines = [json.dumps({"question": question}) + "\n" for question in questions]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    questions = [f"Is it {n}?" for n in range(MAX_QUESTIONS + 5)]
    found = CalibrationSet.read(write(tmp_path / "questions.jsonl", questions))
    assert found.questions == tuple(questions[:MAX_QUESTIONS])


def test_other_questions_have_another_hash(tmp_path: Path) -> None:
    one, same, other = (
        CalibrationSet.read(write(tmp_path / f"{name}.jsonl", [text]))
        for name, text in (("one", "A?"), ("same", "A?"), ("other", "B?"))
    )
    assert one.sha256 == same.sha256 != other.sha256


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold at least one question"):
        CalibrationSet.read(write(tmp_path / "questions.jsonl", []))


def test_prompts_go_on_where_the_prefix_ends_and_begin_a_reply() -> None:
    checkpoint = TINY / "checkpoint"
    full = AutoTokenizer.from_pretrained(checkpoint)
    prompt = prompt_info(full, load_template("mcq"))
    template = template_info(full, load_template("mcq"))
    tokenizer = QuestionTokenizer.from_file(checkpoint / "tokenizer.json")
    questions = [f"Pick {n}.\nA) 1\nB) 2" for n in range(7)]
    prompts = calibration_prompts(questions, tokenizer, prompt, template, tail=7)
    assert prompts.prefix_ids == prompt.prefix_ids
    for i, (question, suffix) in enumerate(zip(questions, prompts.suffixes, strict=True)):
        text = str(full.decode(list(suffix)))
        assert text.startswith(f"user\n{question}<|im_end|>\n<|im_start|>assistant\n")
        assert text.endswith(f"Confidence: {template.levels[i % 5]}\nFinal answer:")
