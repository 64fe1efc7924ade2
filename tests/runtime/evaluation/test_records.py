"""A record file survives interruption, and harms no other file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from foggen_runtime import ConfigError
from foggen_runtime.evaluation.decisions import Decisions, read_cloud_replies
from foggen_runtime.evaluation.records import Record, RecordWriter, Tokens
from tests.support.recorded import HEADER


def record(name: str, **changes: object) -> Record:
    made = Record(
        id=name,
        domain=None,
        answer="A",
        local_answer="A",
        local_choice="A",
        local_correct=True,
        cloud_answer=None,
        cloud_correct=None,
        confidence=0.75,
        expected_confidence=0.7,
        level_probabilities=None,
        tokens=Tokens(100, 10),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def write(path: Path, *records: Record) -> Path:
    with RecordWriter(path, HEADER) as writer:
        for one in records:
            writer.append(one)
    return path


def test_a_file_cut_at_any_byte_is_gone_on_with(tmp_path: Path) -> None:
    records = [record("a"), record("b\u2028", local_answer="one\u2028two\x85"), record("c")]
    whole = write(tmp_path / "whole", *records).read_bytes()
    for cut in range(0, len(whole), 3):
        path = tmp_path / "cut"
        path.write_bytes(whole[:cut])
        with RecordWriter(path, HEADER) as writer:
            assert list(writer.written) == [one.id for one in records][: len(writer.written)]
            for one in records[len(writer.written) :]:
                writer.append(one)
        assert path.read_bytes() == whole


def test_records_are_read_back(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r",
        record("a", cloud_correct=True, local_answer="x\u2028y"),
        record("b", confidence=None, expected_confidence=None, local_correct=False),
    )
    decisions = Decisions.read(path)
    assert decisions.ids == ("a", "b")
    assert decisions.header == HEADER
    assert decisions.verbalized.tolist() == [0.75, -np.inf]
    assert decisions.local_correct.tolist() == [True, False]
    assert decisions.cloud_correct[0] == 1
    assert np.isnan(decisions.cloud_correct[1])


@pytest.mark.parametrize("text", ['{"question": "x"}\nno line break', "not json", '{"bundle": "x"'])
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="must hold records of the same bundle"):
        RecordWriter(path, HEADER)
    assert path.read_text(encoding="utf-8") == text


def test_records_of_another_bundle_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r", record("a"))
    with pytest.raises(ConfigError, match="of the same bundle, data and decoding"):
        RecordWriter(path, dataclasses.replace(HEADER, bundle_sha256="2" * 64))


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with (
        RecordWriter(path, HEADER),
        pytest.raises(ConfigError, match="is being written by another process"),
    ):
        RecordWriter(path, HEADER)
    write(path, record("a"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a record file"),
        ('{"bundle": 1}\n', "is not a record file"),
        ("HEADER\n", "must hold at least one record"),
        ('HEADER\n{"id": "a"}\n', "lacks a field"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    header = write(tmp_path / "good").read_text(encoding="utf-8").strip()
    path = tmp_path / "r"
    path.write_text(text.replace("HEADER", header), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Decisions.read(path)


def test_another_clouds_answers_replace_the_recorded_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "r", record("a", cloud_correct=True), record("b"), record("c"))
    answers = tmp_path / "cloud.jsonl"
    answers.write_text(
        '{"id": "a", "cloud_answer": "The answer is B."}\n{"id": "b", "cloud_correct": true}\n',
        encoding="utf-8",
    )
    found = Decisions.read(path, read_cloud_replies(answers)).cloud_correct
    assert found[:2].tolist() == [0, 1]
    assert np.isnan(found[2])
    answers.write_text('{"id": "z", "cloud_answer": "A"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="cloud_answers: must answer at least one"):
        Decisions.read(path, read_cloud_replies(answers))
    answers.write_text('{"id": "z"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cloud.jsonl:1: cloud_answer: must be given"):
        read_cloud_replies(answers)
