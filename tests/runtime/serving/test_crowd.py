"""Many idle and slow connections to `foggen serve`, which may open few files."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import BundleOf
from tests.support.crowd import seconds_to_health
from tests.support.load import rss_bytes
from tests.support.serve_process import process


def test_idle_connections_do_not_keep_others_out(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(tiny_bundle("int4"), files=256, log=log) as (url, running), ExitStack() as idle:
        address = urlsplit(url)
        for number in range(300):
            where = (str(address.hostname), address.port or 0)
            source = (f"127.0.{number % 64}.2", 0)
            client = idle.enter_context(socket.create_connection(where, 30, source))
            client.sendall(b"GET /healthz HTTP/1.1\r\nHo" if number % 2 else b"")
        for _ in range(8):
            assert seconds_to_health(url) < 10
            time.sleep(0.25)
        running.terminate()
        assert running.wait(30) == 0
    assert log.stat().st_size < 1000


@pytest.mark.long
def test_a_crowd_that_comes_again_does_not_keep_others_out(
    tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    """Needs a machine with little else to do."""
    log, health = tmp_path / "log", []
    with process(tiny_bundle("int4"), files=1024, log=log) as (url, running):
        crowd = [sys.executable, "-m", "tests.support.crowd", url, "5000"]
        subprocess.run([*crowd, "20"], capture_output=True, check=True)
        before = rss_bytes(running.pid)
        with subprocess.Popen([*crowd, "120"], stdout=subprocess.PIPE, text=True) as staying:
            while staying.poll() is None:
                health.append(seconds_to_health(url))
                assert len(os.listdir(f"/proc/{running.pid}/fd")) < 1024
                time.sleep(0.25)
            counted = json.loads(staying.communicate()[0])
        grown = rss_bytes(running.pid) - before
        running.terminate()
        assert running.wait(30) == 0
    assert max(health) < 1
    assert counted["opened"] >= 5000
    assert log.stat().st_size < 10_000
    assert grown < 10e6
