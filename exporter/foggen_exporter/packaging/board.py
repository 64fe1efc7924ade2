"""The package for Linux boards: libraries, runtime, bundle and installer."""

import importlib.metadata
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import foggen_runtime
from foggen_exporter.packaging.archive import Entry
from foggen_exporter.packaging.libraries import DISTRIBUTION, Resolution
from foggen_exporter.packaging.licences import (
    Component,
    component_of,
    licence_entries,
    own_component,
)
from foggen_exporter.packaging.listed_files import bundle_contents
from foggen_exporter.packaging.sbom import bill_of_materials
from foggen_exporter.packaging.targets import Target, oldest_glibc
from foggen_exporter.packaging.trimming import is_needed, without_symbols
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.errors import ConfigError

FORMAT_VERSION = 1
_PROGRAMS = ("foggen", "install.sh")
# Differs between wheels for different Pythons only in what built them.
_BUILD_REPORTS = frozenset({"numpy/__config__.py"})
_BLOCK_BYTES = 4096  # what the smallest file takes on a disk


@dataclass(frozen=True)
class BoardPackage:
    """Everything that goes into the package of one kind of board.

    Attributes:
        target: The kind of board.
        pythons: Versions of Python that it should run on, ascending.
        resolution: The libraries.
        bundle: The model.
        with_model: Whether the model goes in.
    """

    target: Target
    pythons: Sequence[str]
    resolution: Resolution
    bundle: Bundle
    with_model: bool

    @property
    def name(self) -> str:
        """Name of the package and of the directory that it unpacks to."""
        version = importlib.metadata.version(DISTRIBUTION)
        return f"{DISTRIBUTION}-{version}-{self.target.name}"

    @property
    def glibc(self) -> str:
        """The oldest glibc that it runs on, e.g. `2.28`."""
        found = [
            oldest
            for libraries in self.resolution.libraries.values()
            for library in libraries
            if (oldest := oldest_glibc(library.wheel)) is not None
        ]
        major, minor = max(found, default=(2, 17))
        return f"{major}.{minor}"

    def entries(self) -> list[Entry]:
        """Return the archive's contents; the installer comes last, so a truncated archive has none.

        Raises:
            ConfigError: Wheels for several Pythons cannot share a directory, or name no licence.
        """
        components = self._components()
        libraries = _libraries(self.resolution)
        code = [entry for entry in libraries if ".so" in entry.name.rpartition("/")[2]]
        text = [entry for entry in libraries if entry not in code]
        text += [*_runtime_entries(), *licence_entries(components)]
        text += [
            Entry("sbom.cdx.json", self._sbom(components).encode()),
            Entry("package.json", self._description(components).encode()),
            Entry("README.md", self._rendered("README.md")),
            Entry("foggen.service", self._rendered("foggen.service")),
            Entry("bin/foggen", self._rendered("foggen"), executable=True),
        ]
        text.sort(key=lambda entry: entry.name)
        model = self._model_entries() if self.with_model else []
        sums, installer = self._seal([*text, *code, *model])
        return [
            Entry(f"{self.name}/{entry.name}", entry.content, entry.executable)
            for entry in (*text, *code, *model, sums, installer)
        ]

    def _components(self) -> list[Component]:
        own = own_component(importlib.metadata.distribution(DISTRIBUTION))
        return [own, *map(component_of, self.resolution.libraries.values())]

    def _sbom(self, components: Sequence[Component]) -> str:
        manifest = self.bundle.manifest
        return bill_of_materials(self.name, components, self.resolution.needs, manifest)

    def _description(self, components: Sequence[Component]) -> str:
        manifest = self.bundle.manifest
        facts = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "target": self.target.name,
            "pythons": list(self.pythons),
            "glibc": self.glibc,
            "versions": {part.name: part.version for part in components},
            "wheels": {name: part.wheels[name] for part in components for name in part.wheels},
            "bundle": {
                "name": manifest.model.name,
                "recipe": manifest.quantization.recipe,
                "sha256": manifest.sha256,
                "included": self.with_model,
            },
        }
        return json.dumps(facts, indent=1) + "\n"

    def _model_entries(self) -> list[Entry]:
        contents = bundle_contents(self.bundle)
        return [Entry(f"bundle/{name}", content) for name, content in contents.items()]

    def _seal(self, entries: Sequence[Entry]) -> tuple[Entry, Entry]:
        """Return the hashes of all files, and the installer, which holds the hash of those."""
        lines = sorted(f"{entry.sha256}  {entry.name}\n" for entry in entries)
        sums = Entry("SHA256SUMS", "".join(lines).encode())
        space = sum(-(-entry.size // _BLOCK_BYTES) * _BLOCK_BYTES for entry in entries)
        # A module's compiled form is about as large as the module.
        space += sum(entry.size + _BLOCK_BYTES for entry in entries if entry.name.endswith(".py"))
        values = {"NEEDED_KIB": str(space // 1024 + 1), "SUMS_SHA256": sums.sha256}
        return sums, Entry("install.sh", self._rendered("install.sh", values), executable=True)

    def _rendered(self, name: str, more: Mapping[str, str] | None = None) -> bytes:
        """Return a template of `templates/board/` with this package's values."""
        values = {
            "PACKAGE": self.name,
            "ARCHITECTURE": self.target.machine,
            "PYTHONS": " ".join(self.pythons),
            "GLIBC": self.glibc,
            "BUNDLE_SHA256": self.bundle.manifest.sha256,
            "BUNDLE": "current/bundle" if self.with_model else "bundle",
            **(more or {}),
        }
        template = importlib.resources.files(__package__).joinpath("templates", "board", name)
        text = template.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        return text.encode()


def _libraries(resolution: Resolution) -> list[Entry]:
    """Return `lib/` without foggen: extension modules of all Pythons lie side by side.

    Their names tell them apart (PEP 3149); all other files must be the same in each wheel.
    """
    files: dict[str, bytes] = {}
    for distribution, libraries in resolution.libraries.items():
        for library in libraries:
            for name, content in library.files.items():
                if not is_needed(distribution, name):
                    continue
                slim = without_symbols(content)
                if files.setdefault(name, slim) != slim and name not in _BUILD_REPORTS:
                    raise ConfigError(
                        f"python: wheels of {distribution} for several Pythons differ in {name}; "
                        "make one package for each"
                    )
    return [Entry(f"lib/{name}", files[name]) for name in sorted(files, key=_alike)]


def _alike(name: str) -> tuple[str, str]:
    """Sort a module's builds for several Pythons next to each other."""
    return name.partition(".cpython-")[0], name


def _runtime_entries() -> list[Entry]:
    """Return the runtime as it is installed here, and the metadata that name its version."""
    package = Path(foggen_runtime.__file__).parent
    entries = [
        Entry(f"lib/{package.name}/{path.relative_to(package).as_posix()}", path.read_bytes())
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    metadata = (distribution.read_text("METADATA") or "").encode()
    info = f"lib/{DISTRIBUTION}-{distribution.version}.dist-info/METADATA"
    return [*entries, Entry(info, metadata)]
