"""`foggen compare`, run as its user runs it."""

import json
import re
import shutil
import sys
import weakref
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest
from foggen_runtime.cli import foggen
from foggen_runtime.text.questions import judging_questions
from tests.conftest import TINY, BundleOf

LINES = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[::20]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def run(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(foggen, ["compare", *map(str, arguments), "--threads", "1"])


def local_results(bundle: Path) -> list[tuple[float | None, str | None]]:
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(bundle, options=options) as opened:
        results = [opened.ask(json.loads(line)["question"], route="local_only") for line in LINES]
    return [(result.confidence, result.choice) for result in results]


def test_json_holds_what_asking_each_bundle_gives(tiny_bundle: BundleOf, data: Path) -> None:
    bundles = tiny_bundle("fp32"), tiny_bundle("int4")
    result = run(*bundles, "--data", data, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    reference, other = (local_results(bundle) for bundle in bundles)
    for row in document["flips_by_tau"]:
        deferred = [
            [(confidence or 0) < row["tau"] for confidence, _ in results]
            for results in (reference, other)
        ]
        flips = [a != b for a, b in zip(*deferred, strict=True)]
        assert row["flips"]["count"] == sum(flips)
    right = [json.loads(line)["answer"] for line in LINES]
    for side, results in (("reference", reference), ("other", other)):
        hits = sum(choice == answer for (_, choice), answer in zip(results, right, strict=True))
        assert document["accuracy"][side]["count"] == hits
    assert sum(map(sum, document["confusion"])) == document["questions"] == 60
    assert [document[side]["recipe"] for side in ("reference", "other")] == ["fp32", "int4"]


def test_a_bundle_agrees_with_itself(tiny_bundle: BundleOf, data: Path) -> None:
    result = run(tiny_bundle("int4"), tiny_bundle("int4"), "--data", data, "--json")
    document = json.loads(result.stdout)
    assert document["flips"]["count"] == 0
    assert document["answer_agreement"]["rate"] == 1
    assert document["expected_confidence_change"] == 0


def test_without_questions_the_built_in_ones_are_asked(tiny_bundle: BundleOf) -> None:
    result = run(tiny_bundle("fp32"), tiny_bundle("int4"), "--limit", 24, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    asked = judging_questions()[:24]
    assert document["questions"] == 24
    assert document["domains"][0]["domain"] == asked[0].domain
    assert document["accuracy"]["reference"]["total"] == 24


def test_the_page_goes_to_standard_output_and_to_a_file(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    result = run(
        *(tiny_bundle("fp32"), tiny_bundle("int8"), "--data", data, "--limit", 7),
        *("--tau", "0.75", "--md", tmp_path / "page.md"),
    )
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("# int8 against fp32\n")
    assert result.stdout.startswith("int8 against fp32\n")
    assert "|" not in result.stdout
    assert set(re.findall(r"[\d.]+%", page)) == set(re.findall(r"[\d.]+%", result.stdout))
    assert "at tau = 0.75: " in result.stdout
    assert " of 7, " in result.stdout


def test_a_picture_is_drawn(tiny_bundle: BundleOf, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, start in (("flips.svg", b"<?xml"), ("flips.png", b"\x89PNG")):
        result = run(
            *(tiny_bundle("fp32"), tiny_bundle("int8"), "--data", data, "--limit", 7),
            *("--picture", tmp_path / name),
        )
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / name).read_bytes().startswith(start)


def with_manifest(bundle: Path, copy: Path, path: tuple[str, str], value: object) -> Path:
    """Copy a bundle, and change one field of its manifest."""
    shutil.copytree(bundle, copy)
    document = json.loads((copy / MANIFEST_FILE).read_text(encoding="utf-8"))
    document[path[0]][path[1]] = value
    (copy / MANIFEST_FILE).write_text(json.dumps(document), encoding="utf-8")
    return copy


def test_tau_is_the_references_unless_given(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    copy = with_manifest(tiny_bundle("int8"), tmp_path / "copy", ("routing", "tau"), 0.7)
    arguments = ("--data", data, "--limit", 2, "--json")
    assert json.loads(run(copy, tiny_bundle("int8"), *arguments).stdout)["tau"] == 0.7
    assert json.loads(run(tiny_bundle("int8"), copy, *arguments).stdout)["tau"] == 0.5


def test_other_levels_are_refused_before_anything_is_asked(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    levels = [*Manifest.load(tiny_bundle("int4")).template.levels[:-1], "0.9"]
    copy = with_manifest(tiny_bundle("int4"), tmp_path / "copy", ("template", "levels"), levels)
    (copy / "model.onnx").unlink()
    result = run(tiny_bundle("int4"), copy, "--data", data)
    assert result.exit_code == 2
    assert "the reference has 0.0, 0.25, 0.5, 0.75, 1.0, the other 0.0, 0.25, 0.5, 0.75, 0.9" in (
        result.stderr
    )


def test_one_bundle_is_open_at_a_time(
    tiny_bundle: BundleOf, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[weakref.ref[object]] = []
    open_bundle = Foggen.open

    def recording(path: Path, options: OpenOptions) -> Foggen:
        assert [engine() for engine in engines] == [None] * len(engines)
        opened = open_bundle(path, options=options)
        engines.append(weakref.ref(opened.model.engine))
        return opened

    monkeypatch.setattr(Foggen, "open", recording)
    result = run(tiny_bundle("fp32"), tiny_bundle("int8"), "--data", data, "--limit", 2)
    assert result.exit_code == 0, result.exception
    assert len(engines) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--picture", "flips.jpg"), "picture: must end in .svg or .png, is flips.jpg"),
        (("--picture", "no/flips.svg"), "picture: its directory must exist, no does not"),
        (("--md", "no/page.md"), "md: its directory must exist, no does not"),
        (("--tau", "1.5"), "tau: must be within [0, 1], is 1.5"),
        (("--limit", "0"), "0 is not in the range x>=1"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_asked(
    tiny_bundle: BundleOf, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(tiny_bundle("int8"), tiny_bundle("int8"), "--data", data, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_a_picture_without_matplotlib_is_refused_before_anything_is_asked(
    tiny_bundle: BundleOf, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(tiny_bundle("int8"), "nowhere", "--data", data, "--picture", "flips.svg")
    assert result.exit_code == 2
    assert "pip install 'foggen[report]'" in result.stderr


def test_a_missing_bundle_has_its_exit_code(tiny_bundle: BundleOf, data: Path) -> None:
    result = run(tiny_bundle("int8"), "nowhere", "--data", data)
    assert result.exit_code == 3
    assert "'nowhere'" in result.stderr


def test_an_unwritable_page_is_named(tiny_bundle: BundleOf, data: Path) -> None:
    result = run(
        *(tiny_bundle("int8"), tiny_bundle("int8"), "--data", data),
        *("--limit", 1, "--md", "x" * 300),
    )
    assert result.exit_code == 2
    assert "output: cannot be written: " in result.stderr
