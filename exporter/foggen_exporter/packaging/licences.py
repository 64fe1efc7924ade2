"""Licences of everything in a package."""

import importlib.metadata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser

from foggen_exporter.packaging.archive import Entry
from foggen_exporter.packaging.libraries import Library
from foggen_exporter.packaging.trimming import is_licence
from foggen_runtime.errors import ConfigError

_CLASSIFIER = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Component:
    """A distribution in a package, and its licence.

    Attributes:
        name: Its normalized name.
        version: Its version.
        licence: What its metadata say: an SPDX expression, or a name.
        is_expression: Whether that is an SPDX expression.
        files: Licences, notices and lists of built-in parts, by name inside `licenses/`.
        wheels: SHA-256 of the wheels it was taken from, by file name.
    """

    name: str
    version: str
    licence: str
    is_expression: bool
    files: dict[str, bytes]
    wheels: dict[str, str]


def component_of(libraries: Sequence[Library]) -> Component:
    """Describe a distribution by what was unpacked from it for each Python.

    Raises:
        ConfigError: Nothing in its metadata says what its licence is.
    """
    first = libraries[0]
    label = f"{first.name}-{first.version}"
    files = {}
    for library in libraries:
        for name in sorted(filter(is_licence, library.files)):
            inside = name.removeprefix(f"{library.info}/").removeprefix("licenses/")
            files[f"{label}/{inside}"] = library.files[name]
    wheels = {library.wheel: library.sha256 for library in libraries}
    return Component(first.name, first.version, *_terms(first.metadata, label), files, wheels)


def own_component(distribution: importlib.metadata.Distribution) -> Component:
    """Describe foggen itself, as it is installed here.

    Raises:
        ConfigError: The installation has lost its licence.
    """
    label = f"{distribution.name}-{distribution.version}"
    paths = [path for path in distribution.files or () if is_licence(path.as_posix())]
    if not paths:
        raise ConfigError(f"licences: {label} is installed without its LICENSE; install it again")
    files = {f"{label}/{path.name}": path.read_binary() for path in paths}
    terms = _terms(Parser().parsestr(distribution.read_text("METADATA") or ""), label)
    return Component(distribution.name, distribution.version, *terms, files, {})


def _terms(metadata: Message, label: str) -> tuple[str, bool]:
    if expression := metadata.get("License-Expression"):
        return str(expression), True
    if (licence := str(metadata.get("License") or "").strip()) and "\n" not in licence:
        return licence, False
    for classifier in metadata.get_all("Classifier") or ():
        if classifier.startswith(_CLASSIFIER):
            return classifier.removeprefix(_CLASSIFIER), False
    raise ConfigError(f"licences: the metadata of {label} does not name one")


def licence_entries(components: Iterable[Component]) -> list[Entry]:
    """Return `licenses/`: every file, and an index of which component is under what."""
    components = tuple(components)
    lines = ["# Licences of what is in this package\n", "\n"]
    lines += ["| component | version | licence | files |\n", "|---|---|---|---|\n"]
    for part in components:
        names = ", ".join(sorted(part.files)) or "none in its wheel"
        lines.append(f"| {part.name} | {part.version} | {part.licence} | {names} |\n")
    lines.append(
        "\nWhere a wheel brings no text of its own, the text of Apache-2.0 is foggen's LICENSE. "
        "The model's licence is in the bundle's README.md.\n"
    )
    index = Entry("licenses/README.md", "".join(lines).encode())
    files = {name: content for part in components for name, content in part.files.items()}
    return [index, *(Entry(f"licenses/{name}", files[name]) for name in sorted(files))]
