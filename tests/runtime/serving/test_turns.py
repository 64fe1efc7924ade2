"""One engine for several questions at once: each gets what it would get alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.result import Result
from foggen_runtime.serving.turns import Turns, open_shared
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer, Fault
from tests.support.gateway import OPTIONS


def facts(result: Result) -> tuple[object, ...]:
    return (
        result.answer,
        result.confidence,
        result.level_probabilities,
        result.usage.prompt_tokens,
        result.usage.decoded_tokens,
    )


def test_threads_get_what_they_would_get_alone(tiny_bundle: BundleOf) -> None:
    bundle = tiny_bundle("int4")
    with Foggen.open(bundle, options=OPTIONS) as alone:
        expected = [alone.ask(text, route="local_only") for text in QUESTIONS[:40]]
    with open_shared(bundle, None, OPTIONS, Policy()) as shared, ThreadPoolExecutor(4) as pool:
        asked = pool.map(lambda text: shared.ask(text, route="local_only"), QUESTIONS[:40])
        assert list(map(facts, asked)) == list(map(facts, expected))


def test_an_answer_after_the_cloud_failed_is_not_another_questions(
    tiny_bundle: BundleOf, unsure: str
) -> None:
    bundle = tiny_bundle("int4")
    with Foggen.open(bundle, options=OPTIONS) as alone:
        expected = alone.ask(unsure, route="local_only")
    handed, others = threading.Event(), threading.Event()

    def wait(_: str) -> str:
        handed.set()
        others.wait(10)
        return "B"

    policy = Policy(on_unreachable="answer_locally")
    with (
        CloudServer(wait, Fault.CUT) as server,
        open_shared(bundle, Cloud(server.url, "big"), OPTIONS, policy) as shared,
        ThreadPoolExecutor(1) as pool,
    ):
        deferred = pool.submit(shared.ask, unsure)
        assert handed.wait(10)
        for text in QUESTIONS[:5]:
            shared.ask(text, route="local_only")
        others.set()
        result = deferred.result(20)
    assert (result.source, result.deferral) == ("local", "below_tau")
    assert facts(result) == facts(expected)
    # One pass more than alone: the decision had to be made again.
    assert result.usage.forward_passes == expected.usage.forward_passes + 1


def test_turns_go_in_order_also_before_who_is_quick_to_ask_again() -> None:
    turns = Turns()
    order: list[int] = []

    def other(number: int) -> None:
        turns.take()
        order.append(number)
        turns.give()

    threads = [threading.Thread(target=other, args=(number,)) for number in range(5)]
    assert not turns.take()
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    order.append(-1)
    turns.give()
    assert not turns.take()
    order.append(5)
    turns.give()
    for thread in threads:
        thread.join(10)
    assert order == [-1, 0, 1, 2, 3, 4, 5]


def test_who_comes_back_in_a_moment_finds_all_as_it_was() -> None:
    turns = Turns()
    turns.take()
    turns.leave()
    assert turns.take()
    turns.leave()
    taken = threading.Event()

    def other() -> None:
        turns.take()
        taken.set()
        turns.give()

    thread = threading.Thread(target=other)
    thread.start()
    assert taken.wait(10)
    assert not turns.take()
    turns.give()
    thread.join(10)
