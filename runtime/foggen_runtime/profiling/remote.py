"""Profiling on another device: push the bundle, run foggen there, bring the JSON back.

The device is reached with the user's own `ssh` and `scp`, or `adb`.
"""

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Protocol

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import MANIFEST_FILE
from foggen_runtime.errors import ConfigError, DeviceError
from foggen_runtime.profiling.schema import Profile, parse_profile

_PUSHED = "pushed"
_FROM_WHEEL = "from foggen_runtime.cli import main; main()"


class Connection(Protocol):
    """A way to a device."""

    @property
    def directory(self) -> str:
        """Where on the device files go."""

    def push_command(self, files: Sequence[Path], directory: str) -> list[str]:
        """Return the local command that copies files into a directory of the device."""

    def run_command(self, command: str) -> list[str]:
        """Return the local command that runs a shell's command line on the device."""


@dataclass(frozen=True)
class Ssh:
    """A host that ssh knows how to reach; `config` is a file as for `ssh -F`."""

    host: str
    directory: str = "foggen-profile"
    config: Path | None = None

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-"):
            raise ConfigError(f"host: must be a host's name, is {self.host!r}")

    def push_command(self, files: Sequence[Path], directory: str) -> list[str]:
        """Copy with scp."""
        names = [str(file.resolve()) for file in files]
        return ["scp", *self._options(), "-q", "--", *names, f"{self.host}:{directory}/"]

    def run_command(self, command: str) -> list[str]:
        """Run with ssh."""
        return ["ssh", *self._options(), "--", self.host, command]

    def _options(self) -> list[str]:
        return ["-F", str(self.config)] if self.config else []


@dataclass(frozen=True)
class Adb:
    """An Android device by its serial number."""

    serial: str
    directory: str = "/data/local/tmp/foggen-profile"

    def push_command(self, files: Sequence[Path], directory: str) -> list[str]:
        """Copy with adb."""
        return ["adb", "-s", self.serial, "push", *map(str, files), f"{directory}/"]

    def run_command(self, command: str) -> list[str]:
        """Run with adb."""
        return ["adb", "-s", self.serial, "shell", command]


@dataclass(frozen=True)
class RemoteFoggen:
    """How foggen is started there.

    Attributes:
        command: As typed in the device's shell; with a wheel, its Python.
        wheel: A wheel of foggen to push and use; what it depends on must be there.
    """

    command: str = "foggen"
    wheel: Path | None = None

    def start(self, directory: str) -> str:
        """Return the beginning of the command line."""
        if self.wheel is None:
            return self.command
        path = shlex.quote(f"{directory}/{self.wheel.name}")
        return f"PYTHONPATH={path} {self.command} -c {shlex.quote(_FROM_WHEEL)}"


def profile_remotely(
    connection: Connection, bundle: Bundle, foggen: RemoteFoggen, options: Sequence[str]
) -> Profile:
    """Profile a bundle on another device.

    Args:
        connection: The way there.
        bundle: What to push, unless it is there already.
        foggen: How to start foggen there.
        options: Of `foggen profile`, less those about where it runs and where results go.

    Raises:
        DeviceError: A command failed, or what came back is no profile.
    """
    if foggen.wheel:
        _push(connection, [foggen.wheel], connection.directory)
    there = _push_bundle(connection, bundle)
    arguments = shlex.join(["profile", there, *options, "--json"])
    text = _run(connection, f"{foggen.start(connection.directory)} {arguments}")
    try:
        return parse_profile(json.loads(text), "device")
    except (ValueError, ConfigError) as error:
        raise DeviceError(
            f"device: must print a profile, printed {text[:60]!r}: {error}"
        ) from error


def _push_bundle(connection: Connection, bundle: Bundle) -> str:
    """Push the files, then a mark that they are all there; a marked bundle is not pushed again."""
    there = f"{connection.directory}/{bundle.manifest.sha256}"
    mark = shlex.quote(f"{there}/{_PUSHED}")
    if "yes" in _run(connection, f"if test -e {mark}; then echo yes; fi"):
        return there
    names = sorted(PurePosixPath(name) for name in (*bundle.manifest.files, MANIFEST_FILE))
    for parent, group in groupby(sorted(names, key=_parent), key=_parent):
        _push(connection, [bundle.path(str(name)) for name in group], f"{there}/{parent}")
    _run(connection, f"touch {mark}")
    return there


def _parent(name: PurePosixPath) -> str:
    return str(name.parent)


def _push(connection: Connection, files: Sequence[Path], directory: str) -> None:
    _run(connection, f"mkdir -p {shlex.quote(directory)}")
    _call(connection.push_command(files, directory))


def _run(connection: Connection, command: str) -> str:
    return _call(connection.run_command(command))


def _call(command: Sequence[str]) -> str:
    """Run a local command; what it says on standard error is the user's to see."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise DeviceError(f"{command[0]}: cannot be started: {error}") from error
    if done.returncode:
        raise DeviceError(f"{shlex.join(command)}: failed with status {done.returncode}")
    return done.stdout
