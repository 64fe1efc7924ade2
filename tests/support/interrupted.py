"""Commands that are interrupted by Ctrl-C, as a terminal does it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent


def interrupted(
    command: Sequence[str | Path], begun: Callable[[], bool], cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Send SIGINT to a command and all its processes once it has begun its work.

    Args:
        command: One of the project's commands and its arguments.
        begun: Whether the moment has come.
        cwd: Where it runs.
    """
    with subprocess.Popen(
        [BIN / command[0], *command[1:]],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not begun() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
