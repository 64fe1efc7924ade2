"""One engine for several questions at once: each gets what it would get alone."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from foggen_runtime.arrays import Float32
from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import ConfigError, EngineError, QuestionError
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.result import Result
from foggen_runtime.serving.turns import Turns
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer, Fault
from tests.support.fake_engine import FakeEngine
from tests.support.fake_model import SURE, UNSURE, FakeModel
from tests.support.gateway import OPTIONS


def facts(result: Result) -> tuple[object, ...]:
    return (
        result.answer,
        result.confidence,
        result.level_probabilities,
        result.usage.prompt_tokens,
        result.usage.decoded_tokens,
    )


@pytest.fixture
def shared() -> Iterator[Foggen]:
    with Foggen(FakeModel(), turns=Turns()) as foggen:
        yield foggen


def test_threads_get_what_they_would_get_alone(tiny_bundle: BundleOf) -> None:
    bundle = tiny_bundle("int4")
    with Foggen.open(bundle, options=OPTIONS) as alone:
        expected = [alone.ask(text, route="local_only") for text in QUESTIONS[:40]]
    with (
        Foggen.open(bundle, options=OPTIONS, turns=Turns()) as shared,
        ThreadPoolExecutor(4) as pool,
    ):
        asked = list(pool.map(lambda text: shared.ask(text, route="local_only"), QUESTIONS[:40]))
    assert list(map(facts, asked)) == list(map(facts, expected))
    assert [one.usage for one in asked] == [one.usage for one in expected]


def test_a_question_that_is_kept_has_the_engine_to_the_end_of_its_answer(
    shared: Foggen, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    forward = FakeEngine.forward

    def recording(engine: FakeEngine, ids: Sequence[int]) -> Float32:
        threads.append(threading.get_ident())
        time.sleep(0.001)  # whoever waits may come in
        return forward(engine, ids)

    monkeypatch.setattr(FakeEngine, "forward", recording)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(shared.ask, [SURE] * 12))
    passes = results[0].usage.forward_passes
    assert passes > 1
    for start in range(0, len(threads), passes):
        assert len(set(threads[start : start + passes])) == 1
    assert [result.usage.forward_passes for result in results] == [passes] * 12


@pytest.mark.parametrize("others", [0, 5])
def test_an_answer_after_the_cloud_failed_is_not_another_questions(others: int) -> None:
    expected = Foggen(FakeModel()).ask(UNSURE, route="local_only")
    handed, asked = threading.Event(), threading.Event()

    def wait(_: str) -> str:
        handed.set()
        asked.wait(10)
        return "B"

    policy = Policy(on_unreachable="answer_locally")
    with (
        CloudServer(wait, Fault.CUT) as server,
        Foggen(FakeModel(), Cloud(server.url, "big"), policy, Turns()) as shared,
        ThreadPoolExecutor(1) as pool,
    ):
        deferred = pool.submit(shared.ask, UNSURE)
        assert handed.wait(10)
        for _ in range(others):
            shared.ask(SURE, route="local_only")
        asked.set()
        result = deferred.result(20)
    assert (result.source, result.deferral) == ("local", "below_tau")
    assert facts(result) == facts(expected)
    # One pass more where others had the engine: the decision had to be made again.
    assert result.usage.forward_passes == expected.usage.forward_passes + bool(others)


def stream_partly(foggen: Foggen) -> None:
    stream = foggen.stream(SURE)
    next(stream)
    stream.close()  # type: ignore[attr-defined]


def ask_with_unknown_choice(foggen: Foggen) -> None:
    foggen.ask(SURE, decoding=Decoding(choices=("no letter",)))


@pytest.mark.parametrize(
    "ask",
    [stream_partly, ask_with_unknown_choice, lambda foggen: foggen.ask("")],
    ids=["cancelled", "refused", "empty"],
)
def test_what_ends_early_gives_the_engine_to_the_next(
    shared: Foggen, ask: Callable[[Foggen], object]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with suppress(ConfigError, QuestionError):
            pool.submit(ask, shared).result(10)
        assert pool.submit(shared.ask, SURE).result(10).source == "local"


@pytest.mark.parametrize("failing", [1, 2])
def test_an_engine_that_fails_is_the_next_ones_too(
    shared: Foggen, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    forward, calls = FakeEngine.forward, iter(range(1, 100))

    def fail_once(engine: FakeEngine, ids: Sequence[int]) -> Float32:
        if next(calls) == failing:
            raise EngineError("broken")
        return forward(engine, ids)

    monkeypatch.setattr(FakeEngine, "forward", fail_once)
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(shared.ask, SURE).result(10)
        assert (failed.source, failed.reason) == ("none", "local_error")
        assert pool.submit(shared.ask, SURE).result(10).source == "local"


def test_turns_go_in_order_also_before_who_is_quick_to_ask_again() -> None:
    turns = Turns()
    order: list[int] = []

    def other(number: int) -> None:
        turns.take()
        order.append(number)
        turns.give()

    threads = [threading.Thread(target=other, args=(number,)) for number in range(5)]
    turns.take()
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    order.append(-1)
    turns.give()
    turns.take()
    order.append(5)
    turns.give()
    for thread in threads:
        thread.join(10)
    assert order == [-1, 0, 1, 2, 3, 4, 5]


def test_numbers_tell_whether_others_had_a_turn() -> None:
    turns = Turns()
    first = turns.take()
    turns.give()
    assert turns.take() == first + 1
    turns.give()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(turns.take).result(10)
        turns.give()
    assert turns.take() == first + 3
