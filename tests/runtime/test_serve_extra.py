"""`foggen serve` where its extra is not installed."""

import pytest
from click.testing import CliRunner

from foggen_runtime.cli import foggen


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foggen_runtime.commands.serve.find_spec", lambda _: None)
    result = CliRunner().invoke(foggen, ["serve", "no-bundle"])
    assert result.exit_code == 2
    assert "serve: needs starlette, uvicorn, prometheus_client: pip install" in result.stderr
    assert "'foggen[serve]'" in result.stderr


def test_its_help_needs_no_extra() -> None:
    result = CliRunner().invoke(foggen, ["serve", "--help"])
    assert result.exit_code == 0
    assert "Example:" in result.stdout
