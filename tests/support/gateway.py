"""`foggen serve` on a free port, in a thread of this process, over a real socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.ask.model import Model
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import OpenOptions
from foggen_runtime.serving.server import Server, open_socket
from foggen_runtime.serving.settings import Settings
from foggen_runtime.serving.turns import Turns
from tests.support.fake_model import FakeModel

OPTIONS = OpenOptions(EngineOptions(threads=1, spinning=False))
DEFAULTS = Settings(port=0)
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Gateway:
    """A running server.

    Attributes:
        url: Its root.
        http: A client for it.
    """

    url: str
    http: httpx.Client

    def chat(self, question: str, **fields: object) -> httpx.Response:
        """Ask, with more fields of the request."""
        return self.http.post(CHAT, json=request(question, **fields))

    def wait_for(self, **counts: int) -> None:
        """Wait until the status shows these counts."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            status = self.http.get("/status").json()
            if all(status[name] == count for name, count in counts.items()):
                return
            time.sleep(0.01)
        raise AssertionError(f"the status never showed {counts}, last {status}")


def request(question: str, **fields: object) -> dict[str, object]:
    """Return a request's JSON body."""
    return {"model": "any", "messages": [{"role": "user", "content": question}], **fields}


@contextmanager
def serving(
    settings: Settings = DEFAULTS,
    cloud: Cloud | None = None,
    policy: Policy | None = None,
    model: Model | None = None,
) -> Iterator[Gateway]:
    """Serve a model, a fake one if none is given, until the end of the block."""
    settings = replace(settings, port=0)
    with Foggen(model or FakeModel(), cloud, policy, Turns()) as foggen:
        server = Server(foggen, settings, open_socket(settings))
        thread = threading.Thread(target=server.run)
        thread.start()
        key = settings.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with httpx.Client(base_url=server.url, headers=headers, timeout=30) as http:
                assert http.get("/healthz").status_code == 200
                yield Gateway(server.url, http)
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive(), "the server must end when told to"
