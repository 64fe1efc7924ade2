"""`foggen serve` as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOGGEN = Path(sys.executable).parent / "foggen"


def start(
    bundle: Path, *options: str, key: str = "", files: int | None = None, log: Path | None = None
) -> subprocess.Popen[str]:
    """Start the command on a free port.

    Args:
        bundle: What to serve.
        options: More of the command line.
        key: What clients must send.
        files: How many files it may open, as `ulimit -n` says; None for as many as this process.
        log: Where its standard error goes; None for a pipe.
    """
    limit = [] if files is None else ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    command = [
        str(FOGGEN),
        "serve",
        str(bundle),
        "--port",
        "0",
        "--threads",
        "1",
        "--no-spinning",
        *options,
    ]
    with open(log or os.devnull, "w", encoding="utf-8") as errors:
        return subprocess.Popen(
            [*limit, *command],
            stdout=subprocess.PIPE,
            stderr=errors if log else subprocess.PIPE,
            env={**os.environ, "FOGGEN_API_KEY": key},
            text=True,
        )


@contextmanager
def process(
    bundle: Path, *options: str, key: str = "", files: int | None = None, log: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the command, and give its URL and the process; it is killed at the end."""
    running = start(bundle, *options, key=key, files=files, log=log)
    with running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip(), running
        finally:
            running.kill()
