"""What the tests of the server share; without the extra `serve` there is nothing to test."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_model import SURE, UNSURE

if TYPE_CHECKING:
    from tests.support.gateway import Gateway

if find_spec("uvicorn") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def sure() -> str:
    """Return a question that the fake model answers itself."""
    return SURE


@pytest.fixture
def unsure() -> str:
    """Return a question that the fake model defers."""
    return UNSURE


@pytest.fixture(scope="module")
def gateway() -> Iterator["Gateway"]:
    """Serve the fake model without a cloud or a key."""
    from tests.support.gateway import serving

    with serving() as running:
        yield running
