"""Many clients at once against a chat completions server."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

_ABANDONED = 0.02  # share of the requests that their client gives up on at once
_PATIENCE = 0.005  # seconds until then
_PERIOD = 0.5  # seconds between two looks at the memory


@dataclass
class Outcome:
    """What came back.

    Attributes:
        statuses: Responses by HTTP status.
        errors: What went wrong without a status, by the kind of exception.
        sources: Whole answers by who gave them.
        broken: 200s that were no whole answer.
        abandoned: Requests that their clients gave up on.
        seconds: Times of the answered ones.
        rss_bytes: The server's resident memory, twice a second.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    abandoned: int = 0
    seconds: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """Who asks what for how long.

    Attributes:
        url: The server's chat completions.
        questions: What is asked, at random.
        clients: How many ask at once.
        seconds: For how long.
        pid: The server's process, whose memory is watched; None for none.
    """

    url: str
    questions: Sequence[str]
    clients: int
    seconds: float
    pid: int | None = None

    def run(self) -> Outcome:
        """Ask until the time is up."""
        return asyncio.run(self._run())

    async def _run(self) -> Outcome:
        outcome = Outcome()
        end = time.monotonic() + self.seconds
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as http:
            clients = [self._ask(http, outcome, end, seed) for seed in range(self.clients)]
            await asyncio.gather(self._watch(outcome, end), *clients)
        return outcome

    async def _ask(self, http: httpx.AsyncClient, outcome: Outcome, end: float, seed: int) -> None:
        generator = random.Random(seed)
        while time.monotonic() < end:
            question, streamed = generator.choice(self.questions), generator.random() < 0.5
            body = {
                "model": "any",
                "messages": [{"role": "user", "content": question}],
                "stream": streamed,
            }
            patience = _PATIENCE if generator.random() < _ABANDONED else None
            started = time.monotonic()
            try:
                async with asyncio.timeout(patience):
                    response = await http.post(self.url, json=body)
            except TimeoutError:
                outcome.abandoned += 1
            except httpx.HTTPError as error:
                outcome.errors[type(error).__name__] += 1
            else:
                self._note(outcome, response, time.monotonic() - started)
                if response.status_code == 429:
                    wait = int(response.headers["Retry-After"])
                    await asyncio.sleep(wait * generator.uniform(0.5, 1))

    def _note(self, outcome: Outcome, response: httpx.Response, seconds: float) -> None:
        outcome.statuses[response.status_code] += 1
        if response.status_code != 200:
            return
        outcome.seconds.append(seconds)
        streamed = response.headers["Content-Type"].startswith("text/event-stream")
        whole = response.text.endswith("data: [DONE]\n\n") if streamed else response.text[-1] == "}"
        source = response.text.partition('"x_foggen":')[2].partition('"source":"')[2]
        outcome.broken += not (whole and source)
        outcome.sources[source.partition('"')[0]] += 1

    async def _watch(self, outcome: Outcome, end: float) -> None:
        while self.pid is not None and time.monotonic() < end:
            outcome.rss_bytes.append(rss_bytes(self.pid))
            await asyncio.sleep(_PERIOD)


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise ValueError(f"/proc/{pid}/status: must have VmRSS, has none")
