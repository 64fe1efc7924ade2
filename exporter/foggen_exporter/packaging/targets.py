"""The kinds of Linux that packages are made for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.utils import parse_wheel_filename

from foggen_runtime.errors import ConfigError

_OLDEST_GLIBC = 17  # manylinux2014; none of our libraries has wheels for less
_NEWEST_GLIBC = 28  # Debian 10, Ubuntu 20.04
_PYTHON = re.compile(r"3\.(1[1-9])")


@dataclass(frozen=True)
class Target:
    """A kind of board.

    Attributes:
        name: As typed after `--target`.
        machine: What `uname -m` says there.
    """

    name: str
    machine: str

    @property
    def platforms(self) -> list[str]:
        """Platform tags of wheels that run there, the newest glibc first (PEP 600)."""
        minors = range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in minors),
            f"manylinux2014_{self.machine}",
        ]

    def environment(self, python: str) -> dict[str, str]:
        """Return the environment for evaluating requirements' markers (PEP 508), with no extra."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (Target("linux-arm64", "aarch64"), Target("linux-x64", "x86_64"))
}


def parse_pythons(text: str) -> tuple[str, ...]:
    """Read e.g. `3.11,3.12`; the versions come back in ascending order.

    Raises:
        ConfigError: Something in it is not a version of Python that foggen runs on.
    """
    names = {name.strip() for name in text.split(",")}
    for name in sorted(names):
        if not _PYTHON.fullmatch(name):
            raise ConfigError(f"python: must be versions from 3.11 on, e.g. 3.11,3.12; is {text!r}")
    return tuple(sorted(names))


def oldest_glibc(wheel: str) -> tuple[int, int] | None:
    """Return the oldest glibc that a wheel of this file name runs on; None if it needs none."""
    found = []
    for tag in parse_wheel_filename(wheel)[3]:
        if match := re.match(r"manylinux_(\d+)_(\d+)_", tag.platform):
            found.append((int(match[1]), int(match[2])))
        elif tag.platform.startswith("manylinux2014_"):
            found.append((2, _OLDEST_GLIBC))
    return min(found, default=None)
