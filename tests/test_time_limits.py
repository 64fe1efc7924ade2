"""No test hangs for ever."""

import pytest


def test_a_test_may_take_minutes_at_most(request: pytest.FixtureRequest) -> None:
    assert 0 < float(request.config.getini("timeout")) <= 300
