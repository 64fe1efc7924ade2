"""Questions to a cloud that fails a third of the time, with an outbox behind them."""

from pathlib import Path

import pytest

from tests.support.fault_workload import Workload
from tests.support.outbox_workload import Account, run


def check(account: Account) -> None:
    print(account)
    assert (account.lost, account.stored_twice, account.mixed_up) == (0, 0, 0)
    assert account.answered_at_once + account.queued == account.questions
    assert account.queued > 0
    assert account.faults > account.questions * account.fault_rate / 2


@pytest.mark.parametrize("ignore_idempotency", [False, True])
def test_nothing_is_lost_or_stored_twice(tmp_path: Path, ignore_idempotency: bool) -> None:
    workload = Workload(
        60,
        threads=32,
        fault_rate=0.5,
        ignore_idempotency=ignore_idempotency,
        first_token_timeout=0.3,
    )
    account = run(workload, tmp_path)
    check(account)
    if ignore_idempotency:
        assert account.duplicate_upstream_calls > 0


@pytest.mark.long
@pytest.mark.parametrize("ignore_idempotency", [False, True])
def test_none_of_10000_is_lost_or_stored_twice(tmp_path: Path, ignore_idempotency: bool) -> None:
    check(run(Workload(10_000, ignore_idempotency=ignore_idempotency), tmp_path))
