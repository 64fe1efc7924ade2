from collections.abc import Iterator
from pathlib import Path

import pytest

from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import HandoffError
from foggen_runtime.handoff.budget import DailyBudget
from foggen_runtime.handoff.policy import Budget, Policy, Redaction
from foggen_runtime.handoff.sending import Handoff
from tests.support.clouds import FakeCloud, failing
from tests.support.results import queued

KEY = "key-1"


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[DailyBudget]:
    budget = DailyBudget(Budget(calls=2, tokens=100, file=tmp_path / "budget"))
    yield budget
    budget.close()


def test_only_the_redacted_message_reaches_the_cloud() -> None:
    cloud = FakeCloud()
    policy = Policy(redact=(Redaction(r"\d+", "#"),), cloud_prompt="Q: {question}")
    handoff = Handoff(cloud, policy)
    for ask in (handoff.complete, handoff.stream):
        *_, answer = ask("Is 12 prime?", KEY)
        assert isinstance(answer, CloudAnswer)
    # Servers may refuse a key that comes again with another body.
    assert cloud.asked == [("Q: Is # prime?", KEY), ("Q: Is # prime?", f"{KEY}-stream")]


def test_a_forbidden_question_neither_reaches_the_cloud_nor_warms_it() -> None:
    cloud = FakeCloud()
    handoff = Handoff(cloud, Policy(never_send=("secret",)))
    with pytest.raises(HandoffError, match="never_send"):
        list(handoff.complete("a secret", KEY))
    handoff.warm("a secret")
    assert (cloud.asked, cloud.warmed) == ([], 0)
    handoff.warm("no such thing")
    assert cloud.warmed == 1
    Handoff(cloud, Policy(warm=False)).warm("no such thing")
    assert cloud.warmed == 1


def test_beyond_the_budget_nothing_is_sent(budget: DailyBudget) -> None:
    cloud = FakeCloud()
    handoff = Handoff(cloud, Policy(), budget)
    for _ in range(2):
        list(handoff.complete("a", KEY))
    with pytest.raises(HandoffError, match=r"budget.calls"):
        list(handoff.stream("a", KEY))
    assert len(cloud.asked) == 2
    assert (budget.spent().calls, budget.spent().tokens) == (2, 14)


def test_tokens_that_a_server_does_not_count_are_estimated(budget: DailyBudget) -> None:
    cloud = FakeCloud()
    cloud.counts = (None, 5)
    list(Handoff(cloud, Policy(), budget).stream("ab" * 10, KEY))
    assert budget.spent().tokens == 5 + 5


@pytest.mark.parametrize(("sent", "calls"), [(False, 0), (True, 1)])
def test_a_call_that_never_left_the_device_costs_nothing(
    budget: DailyBudget, sent: bool, calls: int
) -> None:
    cloud = FakeCloud(failing(HandoffError("cloud_unreachable", "gone", sent=sent)))
    with pytest.raises(HandoffError, match="gone"):
        list(Handoff(cloud, Policy(), budget).complete("a", KEY))
    assert budget.spent().calls == calls


def test_without_its_count_the_budget_forbids(budget: DailyBudget) -> None:
    cloud = FakeCloud()
    budget.close()
    with pytest.raises(HandoffError, match="closed database") as info:
        list(Handoff(cloud, Policy(), budget).complete("a", KEY))
    assert info.value.reason == "budget_failed"
    assert cloud.asked == []


def test_an_answer_fills_the_result() -> None:
    handoff = Handoff(FakeCloud(), Policy())
    answer = CloudAnswer("It is B.\nAnswer: B", "stop", 5, 6, "http://cloud/v1", "big", 2, "req-1")
    asked = queued()
    result = handoff.answered(asked, "Which?\nA) 1\nB) 2", answer)
    assert (result.source, result.reason, result.deferral) == ("cloud", "below_tau", "below_tau")
    assert (result.answer, result.choice) == ("It is B.\nAnswer: B", "B")
    assert (result.usage.cloud_prompt_tokens, result.usage.cloud_completion_tokens) == (5, 6)
    assert result.cloud
    assert (result.cloud.endpoint, result.cloud.model) == ("http://cloud/v1", "big")
    assert (result.cloud.attempts, result.cloud.request_id) == (2, "req-1")
    assert (result.id, result.confidence) == (asked.id, asked.confidence)


def test_a_refusal_has_its_words_and_no_answer(budget: DailyBudget) -> None:
    answer = CloudAnswer("", "stop", 5, 6, "http://cloud/v1", "big", refusal="I will not say B.")
    result = Handoff(FakeCloud(), Policy(), budget).answered(queued(), "A) 1\nB) 2", answer)
    assert (result.source, result.reason, result.deferral) == (
        "cloud",
        "cloud_refused",
        "below_tau",
    )
    assert (result.answer, result.choice) == (None, None)
    assert result.detail == "cloud: refused to answer: I will not say B."
    assert result.usage.cloud_completion_tokens == 6


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Well. <think>The answer is A? No.</think> It is B", "B"),
        ("It is B <think>or is the answer A", "B"),
        ("<think>The answer is A", None),
    ],
)
def test_no_letter_is_taken_from_thoughts(text: str, choice: str | None) -> None:
    answer = CloudAnswer(text, "stop", 5, 6)
    for policy in (Policy(), Policy(choice_pattern=r"is ([AB])")):
        result = Handoff(FakeCloud(), policy).answered(queued(), "Which?\nA) 1\nB) 2", answer)
        assert (result.answer, result.choice) == (text, choice)


def test_thoughts_cost_tokens_too(budget: DailyBudget) -> None:
    answer = CloudAnswer("abcd", "stop", None, None, reasoning="abcd" * 9)
    cloud = FakeCloud(lambda _: answer)
    list(Handoff(cloud, Policy(), budget).complete("abcd", KEY))
    assert budget.spent().tokens == 1 + 10
