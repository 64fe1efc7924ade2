"""Texts that are made to stall a parser do not stall the server."""

import threading
import time

import pytest

from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.handoff.policy import Policy, Redaction
from tests.support.cloud_server import CloudServer
from tests.support.gateway import CHAT, request, serving

pytestmark = pytest.mark.serial

STALLING = "\n" * 30_000


def test_healthz_answers_while_a_cloud_pads_its_answer(unsure: str) -> None:
    with (
        CloudServer(lambda _: f"The answer is{STALLING}B") as server,
        serving(cloud=Cloud(server.url, "big")) as gateway,
    ):
        longest = 0.0
        asking = threading.Thread(target=gateway.chat, args=(unsure,))
        asking.start()
        while asking.is_alive():
            started = time.monotonic()
            assert gateway.http.get("/healthz").status_code == 200
            longest = max(longest, time.monotonic() - started)
        assert longest < 5


def test_rules_that_would_stall_a_backtracking_engine_do_their_work(unsure: str) -> None:
    policy = Policy(redact=(Redaction(r"(\w+\s?)+!"),), choice_pattern=r"(?:\s|\n)*([AB])$")
    with (
        CloudServer(lambda _: f"The answer is{STALLING}B") as server,
        serving(cloud=Cloud(server.url, "big"), policy=policy) as gateway,
    ):
        response = gateway.chat(unsure + " word" * 500, x_foggen={"route": "cloud_only"})
        assert response.json()["x_foggen"]["choice"] == "B"


def test_rules_run_beside_the_event_loop(unsure: str) -> None:
    threads = []

    def note(_: str) -> bool:
        threads.append(threading.current_thread().name)
        return False

    with (
        CloudServer(lambda _: "B") as server,
        serving(cloud=Cloud(server.url, "big"), policy=Policy(never_send_if=note)) as gateway,
    ):
        assert gateway.http.post(CHAT, json=request(unsure)).status_code == 200
    assert threads
    assert all(name.startswith("foggen-ask") for name in threads)
