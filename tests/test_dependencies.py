"""What is imported is declared: in the base dependencies, or in the extra that a part needs."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWN = {"foggen_runtime", "foggen_exporter"}
# Where optimum-onnx is not installed, nothing says what it holds.
PACKAGES = {"optimum": ["optimum-onnx"], **packages_distributions()}
# It comes with optimum, whose exporter traces with it; the exporter needs it for that alone.
PACKAGES["torch"] = ["optimum-onnx"]
# The parts that an extra is for; all else must do with the base dependencies.
EXTRAS = {
    "runtime/foggen_runtime/evaluation/comparison_page.py": ("report",),
    "runtime/foggen_runtime/reports/drawing.py": ("report",),
    "runtime/foggen_runtime/evaluation/pictures.py": ("report",),
    "runtime/foggen_runtime/evaluation/ray_executor.py": ("ray",),
    # Says how to install it where it is missing.
    "runtime/foggen_runtime/bundle/hub.py": ("export",),
    "runtime/foggen_runtime/serving/": ("serve",),
    "runtime/foggen_runtime/text/library.py": ("tokenizers",),
    "exporter/": ("export", "optimum"),
    "exporter/foggen_exporter/gguf/": ("gguf", "tokenizers"),
}


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the packages that a module imports anywhere, with the lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno


def canonical(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", name, maxsplit=1)[0]).lower()


def declared(path: str) -> set[str]:
    """Return the distributions that a module may import from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = list(project["dependencies"])
    for part, extras in EXTRAS.items():
        if path.startswith(part):
            names += [name for extra in extras for name in project["optional-dependencies"][extra]]
    return set(map(canonical, names))


def undeclared(folder: str) -> list[str]:
    """Return each import of what is not declared, with its place."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        allowed = declared(where)
        for package, line in imported(path):
            distributions = set(map(canonical, PACKAGES.get(package, [package])))
            if package not in sys.stdlib_module_names | OWN and not distributions & allowed:
                found.append(f"{where}:{line}: {package}")
    return found


@pytest.mark.parametrize("folder", ["runtime", "exporter"])
def test_every_import_is_declared(folder: str) -> None:
    assert undeclared(folder) == []


def test_an_import_that_comes_along_with_another_package_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PACKAGES, "httpx", ["some-other-distribution"])
    assert any("cloud/endpoints.py" in each for each in undeclared("runtime"))
