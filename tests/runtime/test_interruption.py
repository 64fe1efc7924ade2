"""Ctrl-C: exit code 130, a sentence on what is kept, and nothing half written."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import Foggen
from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE
from foggen_runtime.cli import foggen
from foggen_runtime.files import stops_put_off
from foggen_runtime.placing import Kind, Place
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer
from tests.support.interrupted import interrupted

DATA = TINY / "heldout.jsonl"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(foggen, [str(argument) for argument in arguments])


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    """A bundle that may be written to."""
    return Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))


@pytest.fixture
def third_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is pressed while the third question is asked."""
    ask, asked = Foggen.ask, []

    def interrupting(self: Foggen, question: str, *rest: object, **more: object) -> object:
        asked.append(question)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ask(self, question, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Foggen, "ask", interrupting)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def refused(result: Result, sentence: str) -> None:
    """Hold a result against what an interrupted command must say."""
    assert result.exit_code == 130, result.output
    assert result.stdout == ""
    assert result.stderr.rstrip().splitlines()[-1] == f"Interrupted: {sentence}"


@pytest.mark.usefixtures("third_question")
def test_an_evaluation_keeps_its_records_and_goes_on(bundle: Path, tmp_path: Path) -> None:
    records, page = tmp_path / "records.jsonl", tmp_path / "page.md"
    arguments = ("eval", bundle, DATA, "--records", records, "--md", page)
    refused(run(*arguments), f"{records} holds 2 records; run the same command again to continue")
    assert len(records.read_text(encoding="utf-8").splitlines()) == 1 + 2
    assert not page.exists()


@pytest.mark.usefixtures("third_question")
@pytest.mark.parametrize(
    "arguments", [("eval", "BUNDLE", DATA), ("calibrate", "BUNDLE", DATA, "--max-cloud-share", "1")]
)
def test_without_records_nothing_is_kept(bundle: Path, arguments: tuple[str | Path, ...]) -> None:
    manifest = (bundle / "foggen.json").read_bytes()
    result = run(*(bundle if word == "BUNDLE" else word for word in arguments))
    refused(result, "no answers are kept; use --records FILE to keep them")
    assert (bundle / "foggen.json").read_bytes() == manifest


@pytest.mark.usefixtures("third_question")
def test_a_comparison_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    result = run("compare", bundle, bundle, "--md", tmp_path / "page.md")
    refused(result, "no answers are kept, nothing was written")
    assert not (tmp_path / "page.md").exists()


def test_a_profile_writes_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foggen_runtime.profiling.runner.run_round", interrupt)
    result = run("profile", bundle, "--output", tmp_path / "profile.json")
    refused(result, "the measurement is not complete, nothing was written")
    assert not (tmp_path / "profile.json").exists()


def test_tuning_says_which_bundles_are_done(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foggen_runtime.profiling.tuning.tune", interrupt)
    refused(run("tune", bundle), "nothing was written")
    assert not (bundle / DEVICE_PROFILE_FILE).exists()


def test_an_unprepared_bundle_stays_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foggen_runtime.model.preparing.save_prepacked", interrupt)
    before = sorted(bundle.parent.iterdir())
    refused(run("prepare", bundle), f"{bundle}.prepared is unchanged")
    assert sorted(bundle.parent.iterdir()) == before


def test_a_replay_keeps_its_records(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "records.jsonl"
    small = tmp_path / "small.jsonl"
    lines = DATA.read_text(encoding="utf-8").splitlines(keepends=True)
    small.write_text("".join(lines[:3]), encoding="utf-8")
    assert run("eval", bundle, small, "--records", records).exit_code == 0
    monkeypatch.setattr("foggen_runtime.evaluation.routing.sweep", interrupt)
    result = run("replay", records, "--md", tmp_path / "page.md")
    refused(result, "the records are unchanged, no output is half written")
    assert not (tmp_path / "page.md").exists()


def test_a_flush_leaves_the_entry_in_the_outbox(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = tmp_path / "outbox.sqlite3"
    queue = ("--on-unreachable", "queue", "--outbox", db, "--tau", "1")
    unsure = next(text for text in QUESTIONS if run("ask", bundle, text, *queue).exit_code == 8)
    with CloudServer(lambda _: "B") as server:
        flush = ("outbox", "flush", "--now", "--db", db, "--cloud-url", server.url)
        with monkeypatch.context() as patch:
            patch.setattr("foggen_runtime.handoff.flushing._deliver", interrupt)
            result = run(*flush, "--cloud-model", "m")
        refused(result, "the answers that came are stored, the other entries are still waiting")
        assert run(*flush, "--cloud-model", "m").exit_code == 0
    assert unsure


class Slow(SimpleHTTPRequestHandler):
    """Sends half of the weights, and then nothing until it is told to go on."""

    go_on = threading.Event()

    def copyfile(self, source: object, outputfile: object) -> None:
        assert hasattr(source, "read")
        assert hasattr(outputfile, "write")
        content = source.read()
        if self.path.endswith("model.onnx.data"):
            outputfile.write(content[: len(content) // 2])
            self.go_on.wait(60)
            content = b""
        outputfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_download_goes_on_where_it_stopped(bundle: Path, tmp_path: Path) -> None:
    handler = partial(Slow, directory=str(bundle))
    arrived = tmp_path / ".fetched.partial"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        done = interrupted(
            ["foggen", "fetch", url, "-o", "fetched"],
            lambda: any(path.stat().st_size > 1e5 for path in arrived.glob("model.onnx.data*")),
            tmp_path,
        )
        Slow.go_on.set()
        server.shutdown()
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    kept = "what has arrived is kept in .fetched.partial; run the same command again to continue"
    assert f"Interrupted: {kept}\n" in done.stderr
    assert not (tmp_path / "fetched").exists()
    assert arrived.is_dir()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_processes_of_an_evaluation_end_without_a_word(
    bundle: Path, tmp_path: Path, workers: str
) -> None:
    records = tmp_path / "records.jsonl"

    def begun() -> bool:
        return records.exists() and records.read_bytes().count(b"\n") > 2

    command: list[str | Path] = [
        "foggen",
        "eval",
        str(bundle),
        DATA,
        "--records",
        records,
        "--workers",
        workers,
    ]
    done = interrupted(command, begun, tmp_path)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    whole = records.read_text(encoding="utf-8")
    assert f"Interrupted: {records} holds " in done.stderr
    assert whole.endswith("\n")


KIND = Kind("thing", lambda _: {"name"})


def replace_in_spite_of_ctrl_c(new: Path, place: Place) -> None:
    with stops_put_off():
        os.kill(os.getpid(), signal.SIGINT)
        place.put(new)


def test_a_new_directory_takes_its_place_before_ctrl_c_does(tmp_path: Path) -> None:
    new, target = (tmp_path / name for name in ("new", "target"))
    for path in (new, target):
        path.mkdir()
        (path / "name").write_text(path.name)
    place = Place.directory(target, KIND, force=True)
    with pytest.raises(KeyboardInterrupt):
        replace_in_spite_of_ctrl_c(new, place)
    assert (target / "name").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


@pytest.mark.parametrize("moment", ["rename", "rmtree"])
def test_at_any_moment_there_is_a_whole_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """SIGINT arrives with each step of the exchange."""
    new, target = (tmp_path / name for name in ("new", "target"))
    for path in (new, target):
        path.mkdir()
        (path / "name").write_text(path.name)
    place = Place.directory(target, KIND, force=True)
    owner: object = Path if moment == "rename" else shutil
    step: Callable[..., object] = getattr(owner, moment)

    def interrupting(*rest: object, **more: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return step(*rest, **more)

    monkeypatch.setattr(owner, moment, interrupting)
    with pytest.raises(KeyboardInterrupt):
        place.put(new)
    assert (target / "name").read_text() in ("new", "target")
