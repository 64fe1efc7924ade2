"""Many clients at once; `python -m benchmarks.serve_load` is the long version."""

import os
import threading

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.local_model import LocalModel
from foggen_runtime.serving.settings import Settings
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.gateway import CHAT, OPTIONS, serving
from tests.support.load import Load


def test_many_clients_get_answers_or_429(tiny_bundle: BundleOf) -> None:
    before = threading.active_count()
    model = LocalModel(Bundle.open(tiny_bundle("int4")), OPTIONS)
    with serving(Settings(queue=4), model=model) as gateway:
        load = Load(f"{gateway.url}{CHAT}", QUESTIONS[:100], clients=40, seconds=3, pid=os.getpid())
        outcome = load.run()
        gateway.wait_for(running=0, waiting=0)
        status = gateway.http.get("/status").json()
    assert set(outcome.statuses) == {200, 429}
    assert not outcome.errors
    assert outcome.broken == 0
    assert sum(status["answers"].values()) >= outcome.statuses[200] > 20
    # Clients that go when their time is up leave questions in the line: no error of the server.
    assert set(status["errors"]) == {"queue_full"}
    assert threading.active_count() <= before
