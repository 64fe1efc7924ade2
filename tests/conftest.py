"""Bundles of the tiny trained FogGen, exported once and kept while the sources stay the same.

On the bare wheel, without the export extra, `FOGGEN_TEST_BUNDLES` names a directory that has them,
and the tests that export are left out.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from foggen_runtime.model.telemetry import turn_off_telemetry

turn_off_telemetry()  # for whatever a test imports or starts
# Set for pytest-xdist's workers, as if they wrote to a terminal.
os.environ.pop("COLUMNS", None)

TESTS = Path(__file__).parent
TINY = TESTS / "tiny_foggen"
CAN_EXPORT = find_spec("onnx") is not None
_EXPORTING = (
    *("foggen_exporter", "import onnx\n"),
    *("tests.support.random_bundle", "tests.support.tokenizers"),
)

collect_ignore = [
    str(path.relative_to(TESTS))
    for path in TESTS.rglob("test_*.py")
    if not CAN_EXPORT and any(name in path.read_text(encoding="utf-8") for name in _EXPORTING)
]


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep notes about verified files, of subprocesses too, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


BundleOf = Callable[[str], Path]

_LONG_RUNNING = ("slow", "long", "languages", "optimum")
_LONGEST_SECONDS = 7200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests that need minutes of CPU the time they may need, on a busy machine too."""
    for item in items:
        if any(item.get_closest_marker(name) for name in _LONG_RUNNING):
            item.add_marker(pytest.mark.timeout(_LONGEST_SECONDS))


@pytest.fixture(scope="session")
def tiny_bundle() -> BundleOf:
    """Return a function from a recipe's name to a bundle of the tiny FogGen. Do not write to it."""
    if not CAN_EXPORT:
        root = Path(os.environ["FOGGEN_TEST_BUNDLES"]).resolve()
        return lambda quant: root / quant

    from tests.support.kept_bundles import kept_bundle

    return cache(partial(kept_bundle, TINY / "checkpoint"))
