"""Which distributions the runtime needs on a board, each in one version."""

import importlib.metadata
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from foggen_exporter.packaging.targets import Target
from foggen_exporter.packaging.wheels import Pin, Wheel, WheelStore
from foggen_runtime.errors import ConfigError

DISTRIBUTION = "foggen"
# Parts of foggen that run on boards; one that this version of foggen lacks is left out.
_EXTRAS = ("serve",)

# Declared, but not needed to run a model: onnxruntime's Python code imports these in tools alone.
_UNUSED = frozenset(
    {
        ("onnxruntime", "flatbuffers"),
        ("onnxruntime", "packaging"),
        ("onnxruntime", "protobuf"),
        ("onnxruntime", "sympy"),
        ("onnxruntime", "coloredlogs"),
    }
)


@dataclass(frozen=True)
class Resolution:
    """Everything that a package takes from wheels.

    Attributes:
        wheels: By pin, the wheels for each Python, which may be one and the same.
        needs: By name, the names each distribution needs, foggen's own too.
    """

    wheels: Mapping[Pin, tuple[Wheel, ...]]
    needs: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Resolver:
    """Follows requirements from foggen down.

    Attributes:
        store: Gives the wheels.
        target: What they are for.
        pythons: Versions of Python they must run on.
        versions: By name, which version to take; other names in the version installed here.
    """

    store: WheelStore
    target: Target
    pythons: Sequence[str]
    versions: Mapping[NormalizedName, Version]

    def resolve(self) -> Resolution:
        """Fetch the wheels of everything that foggen needs.

        Raises:
            ConfigError: A version is not known, does not satisfy what needs it, or has no wheel.
        """
        needs: dict[str, set[str]] = {DISTRIBUTION: set()}
        wheels: dict[Pin, dict[str, Wheel]] = {}
        for python in self.pythons:
            pending = [(DISTRIBUTION, need) for need in self._own(python)]
            met: set[Pin] = set()
            while pending:
                found = [(parent, self._pin(parent, need)) for parent, need in pending]
                for parent, pin in found:
                    needs.setdefault(parent, set()).add(pin.name)
                new = sorted({pin for _, pin in found} - met, key=str)
                met.update(new)
                fetched = self.store.fetch(new, self.target, python)
                for pin, wheel in fetched.items():
                    wheels.setdefault(pin, {})[python] = wheel
                    needs.setdefault(pin.name, set())
                pending = [
                    (pin.name, need)
                    for pin, wheel in fetched.items()
                    for need in self._of(wheel, python)
                ]
        return Resolution(
            {pin: tuple(wheels[pin].values()) for pin in sorted(wheels, key=str)},
            {name: tuple(sorted(needs[name])) for name in sorted(needs)},
        )

    def _own(self, python: str) -> Iterator[Requirement]:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
        extras = set(_EXTRAS).intersection(metadata.get_all("Provides-Extra") or ())
        yield from self._applying(metadata.get_all("Requires-Dist") or (), python, ("", *extras))

    def _of(self, wheel: Wheel, python: str) -> Iterator[Requirement]:
        for need in self._applying(wheel.metadata.get_all("Requires-Dist") or (), python, ("",)):
            if (wheel.pin.name, canonicalize_name(need.name)) not in _UNUSED:
                yield need

    def _applying(
        self, lines: Sequence[str], python: str, extras: Sequence[str]
    ) -> Iterator[Requirement]:
        environment = self.target.environment(python)
        for line in lines:
            need = Requirement(line)
            if need.marker is None or any(
                need.marker.evaluate({**environment, "extra": extra}) for extra in extras
            ):
                yield need

    def _pin(self, parent: str, need: Requirement) -> Pin:
        name = canonicalize_name(need.name)
        version = self.versions.get(name)
        if version is None:
            try:
                version = Version(importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                raise ConfigError(
                    f"wheels: {parent} needs {need}, which is not installed here; install it, or "
                    f"name its version by --constraint"
                ) from None
        if not need.specifier.contains(version, prereleases=True):
            raise ConfigError(f"wheels: {parent} needs {need}, the version to take is {version}")
        return Pin(name, version)


def read_constraints(path: Path) -> dict[NormalizedName, Version]:
    """Read pip's constraints file: lines such as `numpy==2.4.6`.

    Raises:
        ConfigError: It cannot be read, or a line names no one version.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"constraint: cannot read {path}: {error}") from error
    versions = {}
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text:
            name, version = _pinned(text, f"constraint: {path}:{number}")
            versions[name] = version
    return versions


def _pinned(text: str, where: str) -> tuple[NormalizedName, Version]:
    try:
        need = Requirement(text)
    except InvalidRequirement as error:
        raise ConfigError(f"{where}: must be NAME==VERSION, is {text!r}") from error
    exact = [spec.version for spec in need.specifier if spec.operator == "=="]
    if len(exact) != 1 or len(need.specifier) != 1 or "*" in exact[0]:
        raise ConfigError(f"{where}: must be NAME==VERSION, is {text!r}")
    return canonicalize_name(need.name), Version(exact[0])
