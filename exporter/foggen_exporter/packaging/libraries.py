"""What the runtime needs on a board: pip chooses and unpacks it for that machine."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from foggen_exporter.packaging.targets import Target
from foggen_exporter.packaging.trimming import is_licence, is_needed
from foggen_runtime.errors import ConfigError

DISTRIBUTION = "foggen"
# Extras of foggen that run on boards; one that this version of foggen lacks is left out.
_EXTRAS = ("serve",)

# Declared, but not needed to run a model: onnxruntime's Python code imports these only in tools.
_UNUSED = frozenset(
    {
        ("onnxruntime", "flatbuffers"),
        ("onnxruntime", "packaging"),
        ("onnxruntime", "protobuf"),
        ("onnxruntime", "sympy"),
        ("onnxruntime", "coloredlogs"),
    }
)
# What pip says about a failure: errors, and below them the requirements that contradict each other.
_REASON = re.compile(
    r"^(?:ERROR: (?!ResolutionImpossible)| {4}(?=The user|\S+ \S+ depends))(.*)$", re.M
)


@dataclass(frozen=True)
class Library:
    """A distribution, as pip unpacks it for one version of Python.

    Attributes:
        name: Its normalized name.
        metadata: Its core metadata.
        needs: Normalized names of the distributions that it needs there.
        wheel: File name of the wheel it comes from.
        sha256: Hash of that wheel.
        info: Name of its `.dist-info` directory.
        files: By name, what goes on the board, and licences.
    """

    name: str
    metadata: Message
    needs: tuple[str, ...]
    wheel: str
    sha256: str
    info: str
    files: Mapping[str, bytes]

    @property
    def version(self) -> str:
        """Its version."""
        return str(self.metadata["Version"])


@dataclass(frozen=True)
class Resolution:
    """Everything that a package takes from wheels.

    Attributes:
        libraries: By name, a library for each Python.
        needs: By name, the names each distribution needs, foggen's own too.
    """

    libraries: Mapping[str, tuple[Library, ...]]
    needs: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Pip:
    """This Python's pip, which looks for wheels where it is configured to look.

    Attributes:
        target: What the wheels are for.
        cache: A directory of wheels, searched first; other programs may put wheels there, too.
        constraint: pip's constraints file; what it does not name comes in the version installed
            here.
        announce: Called with a sentence before something is downloaded.
    """

    target: Target
    cache: Path
    constraint: Path | None
    announce: Callable[[str], None]

    def resolve(self, pythons: Sequence[str]) -> Resolution:
        """Return everything that foggen needs, for each of these versions of Python.

        Raises:
            ConfigError: pip finds no versions that suit, or no wheels.
        """
        libraries: dict[str, list[Library]] = {}
        needs: dict[str, set[str]] = {}
        for python in pythons:
            own = self._own_needs(python)
            roots = tuple(canonicalize_name(need.name) for need in own)
            unpacked = self._unpacked(own, python)
            for name, its_needs in self._reached(roots, unpacked, python).items():
                needs.setdefault(name, set()).update(its_needs)
                if name != DISTRIBUTION:
                    libraries.setdefault(name, []).append(unpacked[name])
        return Resolution(
            {name: tuple(libraries[name]) for name in sorted(libraries)},
            {name: tuple(sorted(needs[name])) for name in sorted(needs)},
        )

    def _own_needs(self, python: str) -> list[Requirement]:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
        extras = set(_EXTRAS).intersection(metadata.get_all("Provides-Extra") or ())
        lines = metadata.get_all("Requires-Dist") or ()
        return list(_applying(lines, self.target.environment(python), ("", *extras)))

    def _reached(
        self, roots: tuple[str, ...], unpacked: Mapping[str, Library], python: str
    ) -> dict[str, tuple[str, ...]]:
        """Return who needs what, from foggen down, without what only unused requirements bring."""
        reached, pending = {DISTRIBUTION: roots}, list(roots)
        while pending:
            name = pending.pop()
            if name in reached:
                continue
            if name not in unpacked:
                # pip judges markers (`python_version < "3.13"`) by the Python that it runs on.
                raise ConfigError(
                    f"wheels: {name} is needed on {self.target.name}, Python {python}, but not by "
                    f"the Python of this workstation; run foggen-package with Python {python}"
                )
            reached[name] = unpacked[name].needs
            pending += reached[name]
        return reached

    def _unpacked(self, needs: Sequence[Requirement], python: str) -> dict[str, Library]:
        with tempfile.TemporaryDirectory(prefix="foggen-package-") as temporary:
            directory, report = Path(temporary, "lib"), Path(temporary, "report.json")
            wanted = Path(temporary, "wanted.txt")
            wanted.write_text("".join(f"{_bare(need)}\n" for need in needs), encoding="utf-8")
            versions = self._constraints(Path(temporary, "versions.txt"))
            common = [
                *("--disable-pip-version-check", "--only-binary=:all:"),
                *("--find-links", str(self.cache), "--requirement", str(wanted)),
                *(word for path in versions for word in ("--constraint", str(path))),
                *("--implementation", "cp", "--python-version", python),
                *(word for platform in self.target.platforms for word in ("--platform", platform)),
            ]
            install = ["install", "--no-index", "--no-compile", *common]
            install += ["--target", str(directory), "--report", str(report)]
            if _pip(install).returncode:
                self._download(common, python)
                self._check(_pip(install), python)
            return _read(directory, report, self.target.environment(python))

    def _constraints(self, path: Path) -> list[Path]:
        """Write a constraints file of what is installed here; return all that apply."""
        versions: dict[str, str] = {}
        for found in importlib.metadata.distributions():
            versions.setdefault(canonicalize_name(found.name), found.version)
        for name in constrained_names(self.constraint) if self.constraint else ():
            versions.pop(name, None)
        lines = [f"{name}=={version}\n" for name, version in versions.items()]
        path.write_text("".join(lines), encoding="utf-8")
        return [path, self.constraint] if self.constraint else [path]

    def _download(self, common: Sequence[str], python: str) -> None:
        self.announce(f"Downloading libraries for {self.target.name}, Python {python}")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache, prefix=".download-") as partial:
                self._check(_pip(["download", *common, "--dest", partial]), python)
                for wheel in Path(partial).glob("*.whl"):
                    wheel.replace(self.cache / wheel.name)
        except OSError as error:
            raise ConfigError(f"cache: cannot write to {self.cache}: {error}") from error

    def _check(self, done: subprocess.CompletedProcess[str], python: str) -> None:
        if done.returncode:
            reasons = _REASON.findall(f"{done.stderr}\n{done.stdout}")
            raise ConfigError(
                f"wheels: pip failed for {self.target.name}, Python {python}: "
                f"{'; '.join(reasons) or done.stderr.strip()}"
            )


def _pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _bare(need: Requirement) -> str:
    """Write a requirement without its marker, which was evaluated for the target."""
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{need.name}{extras}{need.specifier}"


def _applying(
    lines: Iterable[str], environment: Mapping[str, str], extras: Sequence[str] = ("",)
) -> Iterator[Requirement]:
    for line in lines:
        need = Requirement(line)
        if need.marker is None or any(
            need.marker.evaluate({**environment, "extra": extra}) for extra in extras
        ):
            yield need


def constrained_names(constraint: Path) -> set[str]:
    """Return the normalized names that begin a line of a constraints file; pip checks the rest.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        text = constraint.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"constraint: cannot read {constraint}: {error}") from error
    found = (re.match(r"\w[\w.-]*", line.lstrip()) for line in text.splitlines())
    return {canonicalize_name(match[0]) for match in found if match}


def _read(directory: Path, report: Path, environment: Mapping[str, str]) -> dict[str, Library]:
    """Read what pip unpacked, and from its report which wheels it took."""
    wheels = {
        canonicalize_name(item["metadata"]["name"]): item["download_info"]
        for item in json.loads(report.read_text(encoding="utf-8"))["install"]
    }
    libraries: dict[str, Library] = {}
    for found in importlib.metadata.distributions(path=[str(directory)]):
        name = canonicalize_name(found.name)
        # Scripts and data lie outside, as ../../bin/x.
        files = {str(path): path for path in found.files or () if ".." not in path.parts}
        needs = {canonicalize_name(n.name) for n in _applying(found.requires or (), environment)}
        libraries[name] = Library(
            name=name,
            metadata=Parser().parsestr(found.read_text("METADATA") or ""),
            needs=tuple(sorted(need for need in needs if (name, need) not in _UNUSED)),
            wheel=unquote(wheels[name]["url"]).rpartition("/")[2],
            sha256=wheels[name]["archive_info"]["hashes"]["sha256"],
            info=next(path.rpartition("/")[0] for path in files if path.endswith("info/METADATA")),
            files={
                path: place.read_binary()
                for path, place in files.items()
                if is_needed(name, path) or is_licence(path)
            },
        )
    return libraries
