"""A server with an outbox delivers what waits in it while it runs."""

import json
import time
from pathlib import Path

import pytest

from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OutboxLimits, Policy
from tests.support.cloud_server import CloudServer, Reply
from tests.support.gateway import serving

BROKEN = Reply.error(500, "out of order")


def policy_with(path: Path, seconds: float) -> Policy:
    outbox = OutboxLimits(path / "outbox.sqlite3", flush_seconds=seconds)
    return Policy(on_unreachable="queue", outbox=outbox)


def test_queued_questions_are_delivered_while_it_runs(tmp_path: Path, unsure: str) -> None:
    policy = policy_with(tmp_path, 0.05)
    with CloudServer(str.upper, BROKEN) as server, Outbox(policy.outbox) as outbox:
        cloud = Cloud(server.url, "big", max_retries=0)
        with serving(cloud=cloud, policy=policy) as gateway:
            queued = gateway.chat(unsure)
            assert queued.headers["X-Foggen-Source"] == "queued"
            server.fault = None
            # A delivery that failed waits for seconds before the next attempt.
            deadline = time.monotonic() + 20
            while not outbox.counts().answered and time.monotonic() < deadline:
                time.sleep(0.02)
        (entry,) = outbox.entries("answered")
    assert entry.result.answer == unsure.upper()
    assert entry.id == queued.json()["x_foggen"]["id"]
    keys = [received.headers["idempotency-key"] for received in server.requests]
    assert set(keys) == {entry.id}
    assert json.loads(server.requests[-1].body)["messages"][-1]["content"] == unsure


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_it_waits_as_long_as_the_policy_says(tmp_path: Path, unsure: str, seconds: float) -> None:
    policy = policy_with(tmp_path, seconds)
    with CloudServer(str.upper, BROKEN) as server, Outbox(policy.outbox) as outbox:
        cloud = Cloud(server.url, "big", max_retries=0)
        with serving(cloud=cloud, policy=policy) as gateway:
            gateway.chat(unsure)
            server.fault = None
            time.sleep(0.3)
        assert outbox.counts().accepted == 1
