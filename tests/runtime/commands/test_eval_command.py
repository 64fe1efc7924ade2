"""`foggen eval`, run as its user runs it."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.cli import foggen
from tests.conftest import TINY, BundleOf
from tests.support.cloud_server import CloudServer

LINES = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:15]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def run(*arguments: str | Path | float) -> Result:
    words = ["eval", *map(str, arguments), "--threads", "1", "--no-spinning"]
    return CliRunner().invoke(foggen, words)


def rows(records: Path) -> list[dict[str, Any]]:
    """Return the records without their times."""
    documents = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    for document in documents[1:]:
        assert document.pop("timing_ms")["total"] > 0
    return documents


def test_json_holds_what_asking_question_by_question_gives(
    tiny_bundle: BundleOf, data: Path
) -> None:
    result = run(tiny_bundle("int4"), data, "--tau", 0.75, "--json")
    assert result.exit_code == 0, result.stderr
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    documents = [json.loads(line) for line in LINES]
    with Foggen.open(tiny_bundle("int4"), options=options) as opened:
        asked = [opened.ask(one["question"], tau=0.75) for one in documents]
        answered = [opened.ask(one["question"], route="local_only") for one in documents]
    kept = [one.source == "local" for one in asked]
    local = [
        one.choice == document["answer"] for one, document in zip(answered, documents, strict=True)
    ]
    cloud = [one["cloud_answer"] == one["answer"] for one in documents]
    system = [
        here if stays else there for stays, here, there in zip(kept, local, cloud, strict=True)
    ]
    summary = json.loads(result.stdout)
    assert summary["routed_share"] == pytest.approx(1 - sum(kept) / 15)
    assert summary["local_accuracy"] == pytest.approx(sum(local) / 15)
    assert summary["system_accuracy"] == pytest.approx(sum(system) / 15)
    assert set(summary["by_domain"]) == {one["domain"] for one in documents}


def test_interrupted_at_any_record_and_resumed_the_records_are_the_same(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.jsonl"
    assert run(tiny_bundle("int4"), data, "--records", whole).exit_code == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 16
    for kept in range(1, 16, 2):
        part = tmp_path / "part.jsonl"
        part.write_bytes(b"".join(lines[:kept]) + lines[kept][: 10 * kept])
        result = run(tiny_bundle("int4"), data, "--records", part)
        assert result.exit_code == 0, result.stderr
        assert rows(part) == rows(whole)


def test_two_workers_write_the_same_records(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    run(tiny_bundle("int4"), data, "--records", one)
    assert run(tiny_bundle("int4"), data, "--records", two, "--workers", 2).exit_code == 0
    assert rows(one) == rows(two)


def test_killed_and_resumed_the_records_are_the_same(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    """A kill of the process that hands out work also ends its workers."""
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:150]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    killed, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    command = [str(Path(sys.executable).parent / "foggen"), "eval", str(tiny_bundle("int4"))]
    words = [str(data), "--records", str(killed), "--workers", "2", "--threads", "1"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE) as process:
        while process.poll() is None and (
            not killed.exists() or killed.read_bytes().count(b"\n") < 10
        ):
            time.sleep(0.01)
        process.kill()
        # Workers hold the pipe, too: it ends when the last of them has ended.
        process.communicate(timeout=30)
    assert killed.read_bytes().count(b"\n") < 151
    assert run(tiny_bundle("int4"), data, "--records", killed).exit_code == 0
    assert run(tiny_bundle("int4"), data, "--records", whole).exit_code == 0
    assert rows(killed) == rows(whole)


def test_malformed_lines_are_reported_and_skipped_only_if_told(
    tiny_bundle: BundleOf, data: Path
) -> None:
    data.write_text("\n".join([LINES[0], "{", LINES[1]]), encoding="utf-8")
    refused = run(tiny_bundle("int4"), data)
    assert refused.exit_code == 2
    assert "line 2: must be a JSON object" in refused.stderr
    skipped = run(tiny_bundle("int4"), data, "--skip-bad", "--json")
    assert skipped.exit_code == 0
    assert "line 2 is skipped: must be a JSON object" in skipped.stderr
    assert json.loads(skipped.stdout)["questions"] == 2


def test_pages_and_pictures_are_written(tiny_bundle: BundleOf, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = [tmp_path / name for name in ("page.html", "page.md", "picture.svg")]
    result = run(
        *(tiny_bundle("int4"), data, "--html", names[0], "--md", names[1]),
        *("--picture", names[2], "--prices", "per_call=0.5", "--markdown"),
    )
    assert result.exit_code == 0, result.stderr
    html, md, svg = (name.read_text(encoding="utf-8") for name in names)
    assert md == result.stdout
    assert svg[svg.index("<svg") :] in html
    assert not re.search(r'(src|href)="(?!#)|url\((?!#)|@import|<script', html)


def test_a_missing_directory_is_refused_before_anything_runs(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    result = run(tiny_bundle("int4"), data, "--md", tmp_path / "no" / "page.md")
    assert result.exit_code == 2
    assert "md: its directory must exist" in result.stderr


@pytest.mark.parametrize("prices", ["per_cal=1", "prompt=x", "per_call=-1"])
def test_wrong_prices_are_refused(tiny_bundle: BundleOf, data: Path, prices: str) -> None:
    assert run(tiny_bundle("int4"), data, "--prices", prices).exit_code == 2


def test_the_cloud_is_asked_for_answers_that_the_data_lacks(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    document = json.loads(LINES[0])
    del document["cloud_answer"]
    data.write_text(json.dumps(document) + "\n" + LINES[1] + "\n", encoding="utf-8")
    records = tmp_path / "records.jsonl"
    with CloudServer(lambda _: f"The answer is {document['answer']}.") as server:
        cloud = ("--cloud-url", server.url, "--cloud-model", "big")
        result = run(tiny_bundle("int4"), data, "--records", records, "--json", *cloud)
        assert result.exit_code == 0, result.stderr
        assert len(server.requests) == 1
    header, first, _ = rows(records)
    assert header["cloud"] == "big"
    assert first["cloud_correct"] is True
    assert json.loads(result.stdout)["system_accuracy"] is not None


def test_without_the_clouds_answers_system_accuracy_is_null(
    tiny_bundle: BundleOf, data: Path
) -> None:
    document = json.loads(LINES[0])
    del document["cloud_answer"]
    data.write_text(json.dumps(document), encoding="utf-8")
    summary = json.loads(run(tiny_bundle("int4"), data, "--json").stdout)
    assert summary["system_accuracy"] is None
    assert summary["local_accuracy"] == 1.0
