"""What the tests of the server share; without the extra `serve` there is nothing to test."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from foggen_runtime.ask.foggen import Foggen
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS

if TYPE_CHECKING:
    from tests.support.gateway import Gateway

if find_spec("uvicorn") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def sure(tiny_bundle: BundleOf) -> str:
    """Return a question that is answered locally."""
    return _first(tiny_bundle, "confident")


@pytest.fixture(scope="session")
def unsure(tiny_bundle: BundleOf) -> str:
    """Return a question that defers."""
    return _first(tiny_bundle, "below_tau")


@pytest.fixture(scope="module")
def gateway(tiny_bundle: BundleOf) -> Iterator["Gateway"]:
    """Serve without a cloud or a key."""
    from tests.support.gateway import serving

    with serving(tiny_bundle("int4")) as running:
        yield running


def _first(tiny_bundle: BundleOf, reason: str) -> str:
    with Foggen.open(tiny_bundle("int4")) as foggen:
        return next(text for text in QUESTIONS if foggen.ask(text).reason == reason)
