import statistics

import numpy as np
import pytest

from foggen_runtime.profiling.samples import QuestionSample
from foggen_runtime.profiling.summary import distribution, summarize
from tests.support.profiles import make_round, make_sample


def test_percentiles_are_those_of_the_standard_library() -> None:
    values = list(np.random.default_rng(0).lognormal(size=101))
    described = distribution(values)
    assert described
    percentiles = statistics.quantiles(values, n=100, method="inclusive")
    assert described.p50 == pytest.approx(statistics.median(values))
    assert described.p90 == pytest.approx(percentiles[89])
    assert described.p99 == pytest.approx(percentiles[98])
    assert described.mean == pytest.approx(statistics.mean(values))
    assert described.stddev == pytest.approx(statistics.stdev(values))


def test_what_did_not_happen_does_not_count() -> None:
    described = distribution([1.0, None, 3.0])
    assert described
    assert (described.count, described.mean) == (2, 2.0)
    assert distribution([None]) is None
    one = distribution([2.0])
    assert one
    assert one.stddev is None


def deferred(decision: float, total: float, handoff: float | None) -> QuestionSample:
    return make_sample(outcome="deferred", decision_ms=decision, total_ms=total, handoff_ms=handoff)


def test_wasted_work_is_the_deferred_questions_local_time() -> None:
    local = make_sample(outcome="local", decision_ms=10.0, total_ms=40.0)
    samples = (local, deferred(10.0, 110.0, 100.0), deferred(30.0, 30.0, None))
    summary = summarize([make_round(questions=samples)])
    assert summary.wasted
    assert summary.wasted.decision_ms.p50 == 20.0
    assert summary.wasted.share_of_local_time == pytest.approx(40 / 80)
    assert {name: outcome.count for name, outcome in summary.outcomes.items()} == {
        "local": 1,
        "deferred": 2,
    }
    assert summary.questions_ms["handoff"].count == 1
    assert summary.outcomes["local"].times_ms["total"].p50 == 40.0


def test_nothing_deferred_wastes_nothing() -> None:
    assert summarize([make_round()]).wasted is None
