from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError, HandoffError
from foggen_runtime.handoff.budget import DailyBudget, Spent
from foggen_runtime.handoff.policy import Budget

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
DAY = 86_400.0


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_calls_run_out_and_come_back_at_midnight(tmp_path: Path) -> None:
    clock = Clock()
    budget = DailyBudget(Budget(calls=2, file=tmp_path / "budget"), clock)
    assert budget.reserve() == "2023-11-15"
    budget.reserve()
    with pytest.raises(
        HandoffError, match=r"budget.calls: 2 of 2 are used up on 2023-11-15"
    ) as info:
        budget.reserve()
    assert info.value.reason == "budget"
    clock.now = NOON + DAY / 2
    assert budget.reserve() == "2023-11-16"
    budget.close()


def test_tokens_run_out(tmp_path: Path) -> None:
    budget = DailyBudget(Budget(tokens=100, file=tmp_path / "budget"), Clock())
    budget.spend(budget.reserve(), 99)
    budget.spend(budget.reserve(), 1)
    with pytest.raises(HandoffError, match=r"budget.tokens: 100 of 100"):
        budget.reserve()
    budget.close()


def test_the_count_survives_a_restart_and_is_shared(tmp_path: Path) -> None:
    limits = Budget(calls=3, file=tmp_path / "budget")
    first, second = DailyBudget(limits, Clock()), DailyBudget(limits, Clock())
    first.reserve()
    second.spend(second.reserve(), 7)
    first.close()
    second.close()
    again = DailyBudget(limits, Clock())
    assert again.spent() == Spent("2023-11-15", 2, 7)
    again.reserve()
    with pytest.raises(HandoffError):
        again.reserve()
    again.close()


def test_a_call_that_was_never_made_is_given_back(tmp_path: Path) -> None:
    budget = DailyBudget(Budget(calls=1, file=tmp_path / "budget"), Clock())
    for _ in range(3):
        budget.refund(budget.reserve())
    assert budget.spent().calls == 0
    budget.close()


def test_a_budget_needs_a_file() -> None:
    with pytest.raises(ConfigError, match=r"budget.file: must be set"):
        DailyBudget(Budget(calls=1))
