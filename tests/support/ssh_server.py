"""An sshd of our own on loopback, and the configuration with which ssh reaches it."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin")


class SshServer:
    """Takes one key, for this user, on a free port; a context manager.

    Attributes:
        config: For `ssh -F`; the server is its host `board`.
        home: An empty directory for what is pushed; sessions begin in this user's own home.
    """

    def __init__(self, directory: Path) -> None:
        self.config = directory / "ssh_config"
        self.home = directory / "home"
        self.home.mkdir()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for name in ("host_key", "user_key"):
            path = self._directory / name
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._write(port)
        assert SSHD
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd locks its own child up
        command = [SSHD, "-D", "-e", "-f", str(self._directory / "sshd_config")]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._wait_for(port)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def _write(self, port: int) -> None:
        directory = self._directory
        (directory / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\n"
            f"AuthorizedKeysFile {directory}/user_key.pub\nStrictModes no\nUsePAM no\n"
            f"PermitRootLogin prohibit-password\nPidFile none\n"
            "Subsystem sftp internal-sftp\n",
            encoding="utf-8",
        )
        self.config.write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {directory}/user_key\n  IdentitiesOnly yes\n  BatchMode yes\n"
            "  StrictHostKeyChecking no\n  LogLevel ERROR\n"
            f"  UserKnownHostsFile {directory}/known_hosts\n",
            encoding="utf-8",
        )

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "sshd did not start"
                time.sleep(0.05)
            else:
                return
