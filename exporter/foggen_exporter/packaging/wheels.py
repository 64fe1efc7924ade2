"""Wheels for another machine, fetched by pip and kept in a directory."""

import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import cached_property
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import NormalizedName, parse_wheel_filename
from packaging.version import Version

from foggen_exporter.packaging.targets import Target, interpreter_of
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import sha256_file

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Pin:
    """One version of one distribution."""

    name: NormalizedName
    version: Version

    def __str__(self) -> str:
        """Write it as pip reads it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk."""

    path: Path

    @cached_property
    def pin(self) -> Pin:
        """Which distribution it is."""
        name, version, _, _ = parse_wheel_filename(self.path.name)
        return Pin(name, version)

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """What it runs on."""
        return parse_wheel_filename(self.path.name)[3]

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file."""
        return sha256_file(self.path)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Contents by name, each checked against the hash that the wheel's RECORD has for it.

        Raises:
            ConfigError: The wheel is damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
                files = {info.filename: archive.read(info) for info in infos}
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise self._damaged(str(error)) from error
        self._check_record(files)
        return files

    @cached_property
    def info(self) -> str:
        """Its `.dist-info` directory, with the slash.

        Raises:
            ConfigError: The wheel has none.
        """
        for name in self.files:
            if name.endswith(".dist-info/METADATA"):
                return name.removesuffix("METADATA")
        raise self._damaged("it has no METADATA")

    @cached_property
    def metadata(self) -> Message:
        """Its core metadata."""
        return Parser().parsestr(self.files[f"{self.info}METADATA"].decode("utf-8"))

    def _check_record(self, files: dict[str, bytes]) -> None:
        record = next((name for name in files if name.endswith(".dist-info/RECORD")), None)
        if record is None:
            raise self._damaged("it has no RECORD")
        for line in files[record].decode("utf-8").splitlines():
            name, digest, _ = line.rsplit(",", 2)
            if digest and digest != _record_digest(files.get(name.strip('"'), b"")):
                raise self._damaged(f"{name} is not the file its RECORD lists")

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError(f"wheel: {self.path} is damaged: {reason}; remove it and try again")


def _record_digest(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True)
class WheelStore:
    """A directory of wheels, filled by pip from wherever pip is configured to look.

    Attributes:
        directory: Where they lie; any other program may put wheels there, too.
        announce: Called with a sentence before something is downloaded.
    """

    directory: Path
    announce: Announce

    def find(self, pin: Pin, target: Target, python: str) -> Wheel | None:
        """Return the best wheel that is there already, or None."""
        stem = str(pin.name).replace("-", "_")
        found = []
        ranks = {tag: rank for rank, tag in enumerate(target.tags(python))}
        for path in self.directory.glob("*.whl"):
            if path.name.lower().replace("-", "_").replace(".", "_").startswith(f"{stem}_"):
                wheel = Wheel(path)
                rank = min((ranks[tag] for tag in wheel.tags if tag in ranks), default=None)
                if wheel.pin == pin and rank is not None:
                    found.append((rank, path.name, wheel))
        return min(found)[2] if found else None

    def fetch(self, pins: Sequence[Pin], target: Target, python: str) -> dict[Pin, Wheel]:
        """Return a wheel for each pin, downloading what is not there.

        Raises:
            ConfigError: pip cannot run, or finds no such wheel for the target.
        """
        missing = [pin for pin in pins if self.find(pin, target, python) is None]
        if missing:
            self.announce(f"Downloading for {target.name}, Python {python}: {_listed(missing)}")
            self._download(missing, target, python)
        wheels = {pin: self.find(pin, target, python) for pin in pins}
        for pin, wheel in wheels.items():
            if wheel is None:
                raise ConfigError(f"wheels: pip gave none of {pin} for {target.name}, {python}")
        return {pin: wheel for pin, wheel in wheels.items() if wheel is not None}

    def _download(self, pins: Sequence[Pin], target: Target, python: str) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.directory, prefix=".download-") as partial:
                command = _pip_download(pins, target, python, Path(partial))
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    last = done.stderr.strip().rpartition("\n")[2]
                    raise ConfigError(f"wheels: pip failed for {_listed(pins)}: {last}")
                for wheel in Path(partial).glob("*.whl"):
                    wheel.replace(self.directory / wheel.name)
        except OSError as error:
            raise ConfigError(f"cache: cannot write to {self.directory}: {error}") from error


def _pip_download(pins: Sequence[Pin], target: Target, python: str, into: Path) -> list[str]:
    interpreter = interpreter_of(python)
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--dest", str(into)),
        *("--python-version", python, "--implementation", "cp"),
        *("--abi", interpreter, "--abi", "abi3", "--abi", "none"),
        *(word for platform in target.platforms for word in ("--platform", platform)),
        *map(str, pins),
    ]


def _listed(pins: Sequence[Pin]) -> str:
    return ", ".join(map(str, pins))
