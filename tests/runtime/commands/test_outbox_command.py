"""Queueing, listing, delivering and deleting on the command line."""

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.cli import foggen
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer, Reply

DEAD = ("--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "big")


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(foggen, arguments, input=stdin)


def cloud(server: CloudServer) -> tuple[str, ...]:
    return ("--cloud-url", server.url, "--cloud-model", "big")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: BundleOf) -> str:
    return str(tiny_bundle("int4"))


@pytest.fixture(scope="module")
def unsure(bundle: str) -> str:
    return next(text for text in QUESTIONS if run("ask", bundle, text).exit_code == 5)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "foggen"


@pytest.fixture
def queued(bundle: str, unsure: str) -> str:
    """The id of a question in the user's outbox."""
    asked = run("ask", bundle, unsure, *DEAD, "--on-unreachable", "queue", "--json")
    assert asked.exit_code == 8, asked.output
    document = json.loads(asked.stdout)
    assert document["source"] == "queued"
    return str(document["id"])


def test_a_queued_question_says_how_to_go_on(bundle: str, unsure: str, state: Path) -> None:
    result = run("ask", bundle, unsure, *DEAD, "--on-unreachable", "queue")
    assert result.exit_code == 8
    assert result.stdout == ""
    assert result.stderr.startswith("Queued as ")
    assert "[cloud_unreachable: " in result.stderr
    assert "foggen outbox flush" in result.stderr
    assert (state / "outbox.sqlite3").exists()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_the_outbox_may_be_named(bundle: str, unsure: str, tmp_path: Path, state: Path) -> None:
    path = str(tmp_path / "my.sqlite3")
    arguments = (*DEAD, "--on-unreachable", "queue", "--outbox", path)
    assert run("ask", bundle, unsure, *arguments).exit_code == 8
    assert len(run("outbox", "list", "--db", path).stdout.splitlines()) == 1
    assert not state.exists()
    assert run("outbox", "list").exit_code == 2


def test_a_queued_question_is_listed_and_shown(queued: str, unsure: str) -> None:
    (line,) = run("outbox", "list").stdout.splitlines()
    assert line.startswith(queued[:12])
    assert "accepted  " + " ".join(unsure.split())[:40] in line
    (document,) = json.loads(run("outbox", "list", "--json").stdout)
    assert (document["id"], document["question"]) == (queued, unsure)
    page = run("outbox", "show", queued[:8]).stdout
    assert unsure in page
    assert f"id           {queued}" in page
    shown = json.loads(run("outbox", "show", queued, "--json").stdout)
    assert shown == document
    assert shown["result"]["deferral"] == "below_tau"
    assert run("outbox", "list", "--state", "answered").stdout == ""
    missing = run("outbox", "show", "none")
    assert missing.exit_code == 2
    assert "id: must be the id of one entry, is 'none'" in missing.stderr


def test_when_the_cloud_is_back_the_question_is_answered(queued: str) -> None:
    failed = run("outbox", "flush", *DEAD)
    assert failed.exit_code == 8
    assert failed.stdout == "0 answered, 1 failed, 1 waiting; stopped: cloud_unreachable\n"
    with CloudServer(lambda _: "It is B.") as server:
        early = run("outbox", "flush", *cloud(server), "--json")
        assert (early.exit_code, json.loads(early.stdout)["remaining"]) == (8, 1)
        flushed = run("outbox", "flush", *cloud(server), "--now", "--json")
        again = run("outbox", "flush", *cloud(server))
        keys = [request.headers["idempotency-key"] for request in server.requests]
    assert (flushed.exit_code, json.loads(flushed.stdout)["answered"]) == (0, 1)
    assert (again.exit_code, again.stdout) == (0, "0 answered, 0 failed, 0 waiting\n")
    assert keys == [queued]
    result = json.loads(run("outbox", "show", queued, "--json").stdout)["result"]
    assert (result["source"], result["answer"], result["choice"]) == ("cloud", "It is B.", "B")
    assert "-> It is B." in run("outbox", "show", queued).stdout


def test_the_clouds_wait_is_shown(queued: str) -> None:
    busy = Reply(429, b"{}", headers=(("Retry-After", "1000"),))
    with CloudServer(fault=busy) as server:
        flushed = run("outbox", "flush", *cloud(server), "--cloud-timeout", "1")
    assert flushed.exit_code == 8
    assert "stopped: cloud_rejected, the cloud asks to wait 1000 s" in flushed.stdout


def test_purging_asks_before_questions_are_lost(queued: str) -> None:
    assert run("outbox", "purge").stdout == "0 deleted\n"
    assert run("outbox", "purge", "--accepted", stdin="n\n").exit_code == 1
    assert len(run("outbox", "list").stdout.splitlines()) == 1
    deleted = run("outbox", "purge", "--accepted", "--yes", "--json")
    assert json.loads(deleted.stdout) == {"deleted": 1}


def test_flushing_honours_the_policy(queued: str, unsure: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[budget]\ncalls = 0\n", encoding="utf-8")
    with CloudServer() as server:
        flushed = run("outbox", "flush", *cloud(server), "--policy", str(policy))
        assert server.requests == []
    assert flushed.stdout == "0 answered, 0 failed, 1 waiting; stopped: budget\n"


def test_flushing_needs_a_cloud(queued: str) -> None:
    flushed = run("outbox", "flush")
    assert flushed.exit_code == 2
    assert "--cloud-url URL --cloud-model NAME" in flushed.stderr


def test_a_broken_outbox_has_its_own_exit_code(state: Path) -> None:
    state.mkdir(parents=True)
    (state / "outbox.sqlite3").write_text("no database, for sure " * 100)
    result = run("outbox", "list")
    assert result.exit_code == 9
    assert "outbox.sqlite3: file is not a database" in result.stderr


@pytest.mark.parametrize("name", ["", "list", "show", "flush", "purge"])
def test_help_has_an_example(name: str) -> None:
    assert "Example:" in run("outbox", *filter(None, [name]), "--help").stdout


def test_a_policy_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("tau = 0.5\n", encoding="utf-8")
    assert run("policy", "check", str(path)).exit_code == 0
    path.write_text("tau = 5\n", encoding="utf-8")
    wrong = run("policy", "check", str(path))
    assert wrong.exit_code == 2
    assert "tau: must be within [0, 1], is 5" in wrong.stderr


def test_flags_win_over_the_policy(bundle: str, unsure: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('tau = 0.9\nroute = "local_only"\n', encoding="utf-8")
    file = ("--policy", str(path), "--json")
    from_file = json.loads(run("ask", bundle, unsure, *file).stdout)
    assert (from_file["tau"], from_file["tau_source"]) == (0.9, "policy")
    assert from_file["source"] == "local"
    asked = run("ask", bundle, unsure, *file, "--tau", "0.8", "--route", "auto")
    from_flag = json.loads(asked.stdout)
    assert (from_flag["tau"], from_flag["tau_source"]) == (0.8, "flag")
    assert from_flag["source"] == "none"


def test_decisions_are_logged_with_content_when_asked_for(
    bundle: str, unsure: str, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    assert run("ask", bundle, unsure, "--log-content").exit_code == 2
    run("ask", bundle, unsure, "--decision-log", str(path))
    run("ask", bundle, unsure, "--decision-log", str(path), "--log-content")
    plain, full = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert "question" not in plain
    assert full["question"] == unsure


def test_an_answer_in_spite_of_the_confidence(bundle: str, unsure: str) -> None:
    result = run("ask", bundle, unsure, *DEAD, "--on-unreachable", "answer_locally")
    assert result.exit_code == 0
    assert "[local: cloud_unreachable: " in result.stderr


def test_servers_are_tried_in_order_each_with_its_key(
    bundle: str, unsure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOGGEN_CLOUD_API_KEY", "first-key")
    monkeypatch.setenv("FOGGEN_CLOUD_API_KEY_2", "second-key")
    with CloudServer(fault=Reply.error(401, "no")) as one, CloudServer(lambda _: "B") as two:
        result = run("ask", bundle, unsure, *cloud(one), "--cloud-fallback", two.url, "other")
        (request,) = two.requests
        assert {asked.headers["authorization"] for asked in one.requests} == {"Bearer first-key"}
    assert result.exit_code == 0
    assert request.headers["authorization"] == "Bearer second-key"
    assert json.loads(request.body)["model"] == "other"


def test_the_default_files_are_the_users(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foggen_runtime.commands.options import state_directory

    assert state_directory() == state
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", os.fspath(state / "home"))
    assert state_directory() == state / "home" / ".local" / "state" / "foggen"


@pytest.mark.usefixtures("queued")
def test_a_list_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("outbox", "list").stdout
    monkeypatch.setenv("COLUMNS", "70")
    (line,) = run("outbox", "list").stdout.splitlines()
    assert len(line) <= 70 < len(whole)
