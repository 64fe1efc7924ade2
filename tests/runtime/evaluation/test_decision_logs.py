"""Logs that the runtime wrote itself, as data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foggen_runtime import ConfigError, LogSettings
from foggen_runtime.evaluation.decision_logs import is_decision_log, read_decision_log
from foggen_runtime.handoff.decision_log import DecisionLog
from foggen_runtime.result import BundleRef, Result, Source

TINY = BundleRef("tiny", "0" * 64)


def result(confidence: float | None, source: Source, reason: str, deferral: str | None) -> Result:
    blank = Result(None, "none", reason, 0.5, "default", TINY, deferral=deferral)
    expected = None if confidence is None else confidence * 0.9
    return replace(blank, source=source, confidence=confidence, expected_confidence=expected)


def log(path: Path, *results: Result) -> Path:
    written = DecisionLog(LogSettings(file=path))
    for one in results:
        written.write("a question", one)
    return path


def test_local_decisions_are_counted_and_others_passed_over(tmp_path: Path) -> None:
    path = log(
        tmp_path / "log.jsonl",
        result(1.0, "local", "confident", None),
        result(0.25, "cloud", "below_tau", "below_tau"),
        result(0.75, "none", "cloud_timeout", "malformed"),
        result(None, "cloud", "malformed", "malformed"),
        result(None, "cloud", "mode", "mode"),
        replace(result(0.5, "local", "confident", None), bundle=BundleRef("old", "9" * 64)),
        result(0.5, "local", "confident", None),
    )
    logged = read_decision_log(path)
    assert is_decision_log(path)
    assert logged.verbalized.tolist() == [1.0, 0.25, -np.inf, -np.inf, 0.5]
    assert (logged.went, logged.others, logged.bundle_sha256) == (3, 2, TINY.sha256)
    assert logged.routed_share(0.5, "verbalized") == 0.6
    assert logged.routed_share(0.5, "expected") == 0.8
    assert logged.level_counts([0.0, 0.25, 0.5, 0.75, 1.0]) == (2, 0, 1, 1, 0, 1)


def test_what_a_power_cut_left_is_passed_over(tmp_path: Path) -> None:
    path = log(tmp_path / "log.jsonl", result(1.0, "local", "confident", None))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole[:40] + "\n" + whole, encoding="utf-8")
    assert len(read_decision_log(path)) == 2


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"bundle": "tiny"}\n', encoding="utf-8")
    assert not is_decision_log(path)
    with pytest.raises(ConfigError, match="is not a decision log"):
        read_decision_log(path)
    path.write_text('{"record_version": 99}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="record_version: must be at most 1, is 99"):
        read_decision_log(path)
    log(tmp_path / "other", result(1.0, "local", "confident", None))
    with pytest.raises(ConfigError, match="must hold a local decision of the bundle"):
        read_decision_log(tmp_path / "other", "5" * 64)
