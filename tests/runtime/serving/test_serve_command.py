"""`foggen serve` as a process of its own."""

import os
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from foggen_runtime.cli import foggen
from foggen_runtime.commands.serve import serve
from foggen_runtime.serving.settings import Settings
from tests.conftest import BundleOf
from tests.support.cloud_server import CloudServer
from tests.support.gateway import CHAT, request
from tests.support.serve_process import FOGGEN, process

KEY = "a-key-of-tests-0123456789"


def run(*options: str, key: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FOGGEN, "serve", *options],
        capture_output=True,
        check=False,
        env={**os.environ, "FOGGEN_API_KEY": key},
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_runs(
    tiny_bundle: BundleOf, sure: str, number: signal.Signals
) -> None:
    def slow(_: str) -> str:
        running.send_signal(number)
        return "B"

    with CloudServer(slow) as server:
        options = ("--cloud-url", server.url, "--cloud-model", "big")
        with process(tiny_bundle("int4"), *options) as (url, running):
            body = request(sure, x_foggen={"route": "cloud_only"})
            response = httpx.post(f"{url}{CHAT}", json=body, timeout=30)
            assert response.json()["choices"][0]["message"]["content"] == "B"
            _, errors = running.communicate(timeout=30)
    assert running.returncode == 0
    assert "Traceback" not in errors


def test_flags_reach_the_server(tiny_bundle: BundleOf, unsure: str) -> None:
    with process(
        tiny_bundle("int4"), "--tau", "0", "--log-requests", "--host", "localhost", key=KEY
    ) as (url, running):
        assert httpx.post(f"{url}{CHAT}", json=request(unsure)).status_code == 401
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.post(f"{url}{CHAT}", json=request(unsure), headers=headers, timeout=30)
        assert answer.json()["x_foggen"]["tau_source"] == "flag"
        assert answer.headers["X-Foggen-Source"] == "local"
        running.terminate()
        _, errors = running.communicate(timeout=30)
    assert f"POST {CHAT} 200 " in errors
    assert unsure not in errors
    assert KEY not in errors


def test_an_open_address_without_a_key_is_refused(tiny_bundle: BundleOf) -> None:
    done = run(str(tiny_bundle("int4")), "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "so it needs an API key; set --api-key-file" in done.stderr
    assert done.stdout == ""


def test_a_missing_bundle_has_its_exit_code(tmp_path: Path) -> None:
    done = run(str(tmp_path), "--port", "0")
    assert done.returncode == 3
    assert "is not a bundle" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "70000"), "port: must be within [0, 65535], is 70000"),
        (("--queue", "-1"), "queue: must be at least 0, is -1"),
        (("--max-body", "0"), "--max-body: must be at least 1, is 0"),
        (("--grace", "-1"), "grace: must be within"),
        (("--max-connections", "0"), "--max-connections: must be at least 1, is 0"),
        (("--header-timeout", "0"), "--header-timeout: must be above 0 and at most 86400 s, is 0"),
        (("--max-new-tokens", "0"), "--max-new-tokens: must be at least 1, is 0"),
    ],
)
def test_wrong_usage(options: tuple[str, ...], message: str) -> None:
    done = run("no-bundle", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_help_has_an_example_and_the_defaults_are_the_settings() -> None:
    assert serve.help is not None
    assert "Example:" in serve.help
    assert "serve" in foggen.list_commands(None)  # type: ignore[arg-type]
    defaults = {option.name: option.default for option in serve.params}
    settings = Settings()
    for name in ("host", "port", "queue", "handoffs", "max_body", "max_question", "grace"):
        assert defaults[name] == getattr(settings, name)
    for name in ("header_timeout", "body_timeout", "send_timeout"):
        assert defaults[name] == getattr(settings, name)
    assert defaults["max_new_tokens"] == settings.max_new_tokens
    assert defaults["mode"] == settings.mode
