"""The page on policies shows what works, and names every key."""

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from foggen_runtime.cli import foggen
from foggen_runtime.handoff.policy import Policy
from tests.conftest import BundleOf
from tests.support.cloud_server import CloudServer

PAGE = (Path(__file__).parent.parent / "docs" / "policy.md").read_text(encoding="utf-8")
KEYS = PAGE.partition("## Which tau")[0]
CLOUD_URL = "http://127.0.0.1:8000/v1"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def here(tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the bundle and the policy that the page names."""
    (tmp_path / "foggen-int4").symlink_to(tiny_bundle("int4"))
    (tmp_path / "policy.toml").write_text(blocks("toml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def test_policies_are_read(tmp_path: Path) -> None:
    assert blocks("toml")
    for block in blocks("toml"):
        path = tmp_path / "policy.toml"
        path.write_text(block, encoding="utf-8")
        assert Policy.load(path) != Policy()


def test_commands_run(here: Path) -> None:
    lines = [command for block in blocks("sh") for command in re.split(r"\n(?=foggen )", block)]
    assert len(lines) == 5
    offline = ["ask", "foggen-int4", "What is 1?", "--on-unreachable", "queue", "--tau", "1"]
    assert CliRunner().invoke(foggen, offline).exit_code == 8
    with CloudServer() as server:
        for line in lines:
            words = shlex.split(line.replace(CLOUD_URL, server.url))
            done = CliRunner().invoke(foggen, words[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"


def test_examples_in_python_run(here: Path) -> None:
    assert blocks("python")
    with CloudServer() as server:
        for block in blocks("python"):
            names: dict[str, object] = {}
            exec(block.replace(CLOUD_URL, server.url), names)
            assert getattr(names["result"], "source", None) in ("local", "cloud")


@pytest.mark.prose
def test_every_key_is_named() -> None:
    table = set(re.findall(r"^\| `([a-z_.]+)` \|", KEYS, re.MULTILINE))
    policy = Policy()
    keys: set[str] = set()
    for field in fields(policy):
        value = getattr(policy, field.name)
        if is_dataclass(value):
            keys.update(f"{field.name}.{inner.name}" for inner in fields(value))
        else:
            keys.add(field.name)
    assert table == keys - {"tau_source", "never_send_if", "answer_parser"}


@pytest.mark.prose
def test_defaults_are_those_of_the_policy() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `?([^|`]+)`? \|", KEYS, re.MULTILINE))
    policy = Policy()
    assert int(rows["outbox.max_entries"]) == policy.outbox.max_entries
    assert int(rows["outbox.max_bytes"]) == policy.outbox.max_bytes
    assert int(rows["decision_log.max_bytes"]) == policy.decision_log.max_bytes
    assert int(rows["decision_log.max_files"]) == policy.decision_log.max_files
    assert rows["route"].strip('"') == policy.route
    assert rows["on_unreachable"].strip('"') == policy.on_unreachable
    assert (rows["warm"], policy.warm) == ("true", True)
    assert (rows["decision_log.content"], policy.decision_log.content) == ("false", False)
