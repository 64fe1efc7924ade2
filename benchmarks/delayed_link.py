"""What a connection opened ahead saves on a slow link: time to the first token of the cloud.

    device ── 100 ms ──> proxy ── loopback ──> TLS server
           <── 100 ms ──

The client is ours, TLS 1.3 goes end to end, and the server answers at once, so all that is measured
is round trips. The device decides for a while, here by sleeping, and hands off: once with a
connection opened as the decision began, once without. Writes results/delayed-link.json and .md; run
as `python -m benchmarks.delayed_link` (`make bench-warm`, a minute).
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks.machine import machine, write_results
from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.endpoints import Cloud
from tests.support.tls_server import TlsServer, self_signed

QUESTION = "Which is larger?\n\nA. 3\nB. 5"


class DelayedLink:
    """A proxy on loopback that delivers bytes late; a context manager.

    The kernel accepts a connection at once, which on a real link takes a round trip. So what the
    client sends within its first round trip counts as sent at the end of that.

    Attributes:
        url: The base to give to clients.
    """

    def __init__(self, upstream: str, delay: float) -> None:
        """Listen nowhere yet.

        Args:
            upstream: The base URL of the server.
            delay: Seconds each way.
        """
        self._port = int(upstream.removesuffix("/v1").rpartition(":")[2])
        self._delay = delay
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._stopping = asyncio.Event()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._relay, "127.0.0.1", 0) as server:
            self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            self._listening.set()
            await self._stopping.wait()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected = self._loop.time() + 2 * self._delay
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(ConnectionError):
            await asyncio.gather(
                self._carry(reader, to_server, connected), self._carry(from_server, writer, 0.0)
            )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, earliest: float
    ) -> None:
        """Deliver one direction's bytes in order, each the delay after it was sent."""
        while data := await reader.read(1 << 16):
            due = max(self._loop.time(), earliest) + self._delay
            self._loop.call_at(due, writer.write, data)
        self._loop.call_at(max(self._loop.time(), earliest) + self._delay, writer.close)


@dataclass(frozen=True)
class Row:
    """Seconds to the cloud's first text, for a decision that takes so long.

    Attributes:
        decision: Seconds until it is known that the cloud is asked.
        cold: From the question, with the connection made after the decision.
        warm: With one opened as the decision began.
    """

    decision: float
    cold: list[float]
    warm: list[float]

    @property
    def saved(self) -> float:
        """Seconds, by the medians."""
        return statistics.median(self.cold) - statistics.median(self.warm)


def first_text(client: CloudClient, decision: float, *, ahead: bool) -> float:
    """Decide, hand off, and return the seconds from the question to the cloud's first text."""
    start = time.perf_counter()
    if ahead:
        client.warm()
    time.sleep(decision)
    stream = client.stream(QUESTION)
    next(stream)
    seconds = time.perf_counter() - start
    stream.close()
    return seconds


def measure(decision: float, delay: float, rounds: int) -> Row:
    """Ask in turns, one connection a question, after one of each that does not count."""
    row = Row(decision, [], [])
    with tempfile.TemporaryDirectory() as directory:
        certificate = self_signed(Path(directory))
        with (
            TlsServer(certificate) as server,
            DelayedLink(server.url, delay) as link,
            CloudClient(Cloud(link.url, "big", ca_file=str(certificate))) as client,
        ):
            for _ in range(rounds + 1):
                row.cold.append(first_text(client, decision, ahead=False))
                row.warm.append(first_text(client, decision, ahead=True))
    return Row(decision, row.cold[1:], row.warm[1:])


def page(about: dict[str, object], delay: float, rows: Sequence[Row]) -> str:
    """Return the results as Markdown."""

    def spread(seconds: list[float]) -> str:
        return f"{1e3 * statistics.median(seconds):.0f} ± {1e3 * statistics.stdev(seconds):.0f}"

    lines = [
        "# A connection opened ahead, on a slow link",
        "",
        f"{about['cpu']}, {about['cores']} cores, load {about['load_average']:.1f} at the start. A "
        f"proxy of ours holds all bytes {1e3 * delay:.0f} ms each way, and what the client sends "
        "first for the round trip that TCP's handshake takes; TLS 1.3 end to end; the server "
        f"answers at once. Milliseconds from the question to the cloud's first text, median ± "
        f"standard deviation of {len(rows[0].cold)}.",
        "",
        "| decision takes | connected after it | connected ahead | saved |",
        "|---|---|---|---|",
        *(
            f"| {1e3 * row.decision:.0f} | {spread(row.cold)} | {spread(row.warm)} "
            f"| {1e3 * row.saved:.0f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure decisions of several lengths and write the results."""
    parser = argparse.ArgumentParser(description="Hand off over a slow link.")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds each way")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    about = machine()
    rows = [measure(decision, options.delay, options.rounds) for decision in (0.1, 0.2, 0.5)]
    text = page(about, options.delay, rows)
    document = {"machine": about, "delay_s": options.delay, "rows": [asdict(row) for row in rows]}
    write_results("delayed-link", document, text)
    print(text)


if __name__ == "__main__":
    main()
