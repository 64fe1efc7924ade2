"""What the policy does to a question: on a fake model, and from start to end on the tiny FogGen."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime import (
    Budget,
    Cancellation,
    CancelledError,
    Cloud,
    ConfigError,
    Foggen,
    HandoffError,
    LogSettings,
    OutboxLimits,
    Policy,
    Redaction,
    Result,
    StateError,
)
from foggen_runtime.ask.asking import Means, Request, Tau, ask
from foggen_runtime.ask.model import Model
from foggen_runtime.bundle.manifest import RoutingInfo
from foggen_runtime.handoff.budget import DailyBudget
from foggen_runtime.handoff.decision_log import DecisionLog
from foggen_runtime.handoff.flushing import FlushOptions
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OnUnreachable
from foggen_runtime.handoff.sending import Handoff
from foggen_runtime.handoff.services import Services
from foggen_runtime.model.decoding import Decoding
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS, first
from tests.support.calibrations import calibration
from tests.support.cloud_server import CloudServer
from tests.support.clouds import FakeCloud, failing
from tests.support.fake_model import MANIFEST, SURE, UNSURE, FakeModel
from tests.support.results import queued

GONE = HandoffError("cloud_unreachable", "nobody there")
DEAD = Cloud("http://127.0.0.1:9/v1", "big", max_retries=0)
TAU = Tau(0.5, "default", "verbalized")


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


def run(
    model: FakeModel, services: Services, question: str, *, stream: bool = False
) -> list[str | Result]:
    request = Request(question, services.policy.route, Decoding(), stream)
    return list(ask(Means.of(model, services), request, TAU))


def outcome(
    model: FakeModel, policy: Policy, question: str, cloud: FakeCloud | None = None
) -> Result:
    handoff = Handoff(cloud, policy) if cloud else None
    result = run(model, Services(policy, handoff), question)[-1]
    assert isinstance(result, Result)
    return result


def test_a_failed_handoff_is_answered_here_if_the_policy_says_so(
    model: FakeModel,
) -> None:
    policy = Policy(on_unreachable="answer_locally")
    result = outcome(model, policy, UNSURE, FakeCloud(failing(GONE)))
    assert (result.source, result.reason, result.deferral) == (
        "local",
        "cloud_unreachable",
        "below_tau",
    )
    assert result.detail == "nobody there"
    alone = outcome(model, Policy(route="local_only"), UNSURE)
    assert (result.answer, result.choice) == (alone.answer, alone.choice)
    assert result.usage.forward_passes == alone.usage.forward_passes
    assert result.timing_ms.handoff is not None
    assert result.timing_ms.answer is not None


def test_without_a_cloud_it_is_answered_here_too(model: FakeModel) -> None:
    result = outcome(model, Policy(on_unreachable="answer_locally"), UNSURE)
    assert (result.source, result.reason, result.deferral) == ("local", "no_cloud", "below_tau")
    assert result.answer


def test_a_failed_handoff_has_no_answer_by_default(model: FakeModel) -> None:
    result = outcome(model, Policy(), UNSURE, FakeCloud(failing(GONE)))
    assert (result.source, result.answer) == ("none", None)
    assert (result.reason, result.deferral) == ("cloud_unreachable", "below_tau")


def test_what_is_kept_was_not_deferred(model: FakeModel) -> None:
    assert outcome(model, Policy(), SURE, FakeCloud()).deferral is None
    assert outcome(model, Policy(route="local_only"), UNSURE).deferral is None
    assert outcome(model, Policy(), UNSURE).deferral == "below_tau"
    assert outcome(model, Policy(route="cloud_only"), SURE, FakeCloud()).deferral == "mode"


def test_the_policy_sets_the_route(model: FakeModel) -> None:
    cloud = FakeCloud()
    assert outcome(model, Policy(route="cloud_only"), SURE, cloud).source == "cloud"
    assert outcome(model, Policy(route="local_only"), UNSURE, cloud).source == "local"
    assert len(cloud.asked) == 1


def test_the_cloud_alone_has_no_local_answer(model: FakeModel) -> None:
    policy = Policy(route="cloud_only", on_unreachable="answer_locally")
    result = outcome(model, policy, SURE, FakeCloud(failing(GONE)))
    assert (result.source, result.reason, result.deferral) == ("none", "cloud_unreachable", "mode")


def test_after_a_part_of_the_clouds_answer_no_local_one_follows(model: FakeModel) -> None:
    class Breaking(FakeCloud):
        def stream(
            self,
            question: str,
            *,
            idempotency_key: str | None = None,
            cancellation: Cancellation | None = None,
        ) -> Iterator[str]:
            yield "The ans"
            raise HandoffError("cloud_timeout", "too slow")

    policy = Policy(on_unreachable="answer_locally")
    services = Services(policy, Handoff(Breaking(), policy))
    *pieces, result = run(model, services, UNSURE, stream=True)
    assert isinstance(result, Result)
    assert pieces == ["The ans"]
    assert (result.source, result.reason, result.answer) == ("none", "cloud_timeout", None)


@pytest.mark.parametrize("rule", ["queue", "answer_locally", "fail"])
def test_what_is_no_longer_wanted_goes_nowhere(
    model: FakeModel, tmp_path: Path, rule: OnUnreachable
) -> None:
    cancellation = Cancellation()

    def leave(_: str) -> str:
        cancellation.cancel()
        cancellation.check()
        raise AssertionError("cancelled")

    limits = Budget(calls=9, file=tmp_path / "budget")
    policy = Policy(on_unreachable=rule, outbox=OutboxLimits(tmp_path / "outbox"), budget=limits)
    cloud, log = FakeCloud(leave), DecisionLog(LogSettings(tmp_path / "log"))
    with Outbox(policy.outbox) as outbox, closing(DailyBudget(limits)) as budget:
        services = Services(policy, Handoff(cloud, policy, budget), outbox, log)
        request = Request(UNSURE, "auto", Decoding(), cancellation=cancellation)
        for _ in range(2):  # the second time before anything is sent
            with pytest.raises(CancelledError):
                list(ask(Means.of(model, services), request, TAU))
        assert outbox.entries() == []
        assert len(cloud.asked) == 1
        assert budget.spent().calls == 1
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["cancelled"] * 2


def test_a_stream_that_fails_at_once_is_answered_here(model: FakeModel) -> None:
    policy = Policy(on_unreachable="answer_locally")
    services = Services(policy, Handoff(FakeCloud(failing(GONE)), policy))
    *pieces, result = run(model, services, UNSURE, stream=True)
    assert isinstance(result, Result)
    assert "".join(map(str, pieces)).strip() == result.answer
    assert result.source == "local"


def test_the_connection_is_warmed_only_where_a_handoff_may_come(model: FakeModel) -> None:
    cloud = FakeCloud()
    for route, warmed in (("local_only", 0), ("cloud_only", 0), ("auto", 1)):
        outcome(model, Policy(route=route), SURE, cloud)  # type: ignore[arg-type]
        assert cloud.warmed == warmed
    outcome(model, Policy(never_send=(".",)), SURE, cloud)
    assert cloud.warmed == 1


@pytest.mark.parametrize(
    ("on_unreachable", "source"), [("fail", "none"), ("queue", "none"), ("answer_locally", "local")]
)
def test_a_forbidden_question_stays_on_the_device(
    model: FakeModel, tmp_path: Path, on_unreachable: str, source: str
) -> None:
    cloud = FakeCloud()
    policy = Policy(
        never_send=("(?i)capital|which|what",),
        on_unreachable=on_unreachable,  # type: ignore[arg-type]
    )
    with Outbox(OutboxLimits(tmp_path / "outbox")) as outbox:
        result = run(model, Services(policy, Handoff(cloud, policy), outbox), UNSURE)[-1]
        assert outbox.counts().accepted == 0
    assert isinstance(result, Result)
    assert (result.source, result.reason, result.deferral) == (source, "never_send", "below_tau")
    assert (cloud.asked, cloud.warmed) == ([], 0)


def test_the_outbox_holds_what_would_be_sent(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(on_unreachable="queue", redact=(Redaction(r"[A-Z]\w+", "#"),))
    with Outbox(OutboxLimits(tmp_path / "outbox")) as outbox:
        cloud = FakeCloud(failing(GONE))
        result = run(model, Services(policy, Handoff(cloud, policy), outbox), UNSURE)[-1]
        (entry,) = outbox.entries()
    assert isinstance(result, Result)
    assert (result.source, result.reason, result.deferral) == (
        "queued",
        "cloud_unreachable",
        "below_tau",
    )
    assert entry.id == result.id == cloud.asked[0][1]
    assert entry.question == policy.redacted(UNSURE) != UNSURE
    assert replace(entry.result, timing_ms=result.timing_ms) == result


def test_a_full_outbox_is_an_honest_result(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(on_unreachable="queue")
    with Outbox(OutboxLimits(tmp_path / "outbox", max_entries=1)) as outbox:
        services = Services(policy, Handoff(FakeCloud(failing(GONE)), policy), outbox)
        outbox.accept("another question", queued())
        result = run(model, services, UNSURE)[-1]
    assert isinstance(result, Result)
    assert (result.source, result.reason) == ("none", "outbox_full")
    assert "max_entries: must be at most 1" in str(result.detail)
    assert "cloud_unreachable: nobody there" in str(result.detail)


def test_an_outbox_that_fails_is_an_honest_result(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(on_unreachable="queue")
    outbox = Outbox(OutboxLimits(tmp_path / "outbox"))
    outbox.close()
    result = run(model, Services(policy, None, outbox), UNSURE)[-1]
    assert isinstance(result, Result)
    assert (result.source, result.reason) == ("none", "outbox_failed")


def test_tau_has_an_order() -> None:
    with Foggen(FakeModel(), policy=Policy(tau=0.9)) as foggen:
        policy = foggen.ask(UNSURE)
        call = foggen.ask(UNSURE, tau=0.1)
    with Foggen(FakeModel(), policy=Policy(tau=0.8, tau_source="flag")) as foggen:
        flag = foggen.ask(UNSURE)
    assert (policy.tau, policy.tau_source) == (0.9, "policy")
    assert (call.tau, call.tau_source) == (0.1, "call")
    assert (flag.tau, flag.tau_source) == (0.8, "flag")


def test_tau_of_a_calibration_is_named() -> None:
    manifest = replace(MANIFEST, routing=RoutingInfo(0.7, calibration(tau=0.7)))
    with Foggen(FakeModel(manifest=manifest)) as foggen:
        result = foggen.ask(SURE)
    assert (result.tau, result.tau_source) == (0.7, "calibration")


def sent_bytes(model: Model, policy: Policy, question: str) -> list[bytes]:
    """Return the bodies of the requests that asking and streaming make."""
    with CloudServer(lambda _: "It is B.") as server:
        with Foggen(model, Cloud(server.url, "big"), policy) as foggen:
            assert foggen.ask(question).source == "cloud"
            *_, streamed = foggen.stream(question)
            assert isinstance(streamed, Result)
            assert streamed.source == "cloud"
        return [request.body for request in server.requests]


def test_the_users_message_is_all_that_leaves_the_device(tiny_bundle: BundleOf) -> None:
    with Foggen.open(tiny_bundle("int4")) as foggen:
        unsure = first(foggen, "below_tau")
    plain = {"model": "big", "messages": [{"role": "user", "content": unsure}], "stream": False}
    for body in sent_bytes(foggen.model, Policy(), unsure):
        document = json.loads(body)
        assert document.pop("stream_options", None) in (None, {"include_usage": True})
        assert {**document, "stream": False} == plain
        for word in (b"onfidence", b"self-aware", b"Final answer", b"tau", b"tiny"):
            assert word not in body


def test_the_policys_messages_are_what_leaves_the_device(model: FakeModel) -> None:
    policy = Policy(
        cloud_prompt="{question}\nOne letter, please.",
        cloud_system_prompt="Be brief.",
        redact=(Redaction(r"[A-Z]\w{3,}", "#"),),
    )
    for body in sent_bytes(model, policy, UNSURE):
        system, user = json.loads(body)["messages"]
        assert system == {"role": "system", "content": "Be brief."}
        redacted = policy.redacted(UNSURE)
        assert user == {"role": "user", "content": f"{redacted}\nOne letter, please."}
        for word in set(UNSURE.split()) - set(redacted.split()):
            assert word.encode() not in body


def test_prose_and_letter_end_in_the_same_field(model: FakeModel) -> None:
    with CloudServer(lambda _: "Well, I am sure that the answer is B.") as server:
        with Foggen(model, Cloud(server.url, "big")) as foggen:
            local, cloud = foggen.ask(SURE), foggen.ask(UNSURE)
        endpoint = server.url
    assert local.choice == local.answer
    assert (cloud.choice, cloud.answer) == ("B", "Well, I am sure that the answer is B.")
    assert cloud.cloud
    assert cloud.cloud.endpoint == endpoint
    assert local.cloud is None


def test_offline_from_start_to_end(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    bundle = tiny_bundle("int4")
    policy = Policy(on_unreachable="queue", outbox=OutboxLimits(tmp_path / "outbox"))
    with Foggen.open(bundle, DEAD, policy=policy) as foggen:
        results = [foggen.ask(question) for question in QUESTIONS[:20]]
        waiting = [result for result in results if result.source == "queued"]
        assert {result.source for result in results} == {"local", "queued"}
        report = foggen.flush()
        assert (report.answered, report.stopped) == (0, "cloud_unreachable")
        assert report.remaining == len(waiting) > 2
    with CloudServer(lambda _: "B") as server:
        with Foggen.open(bundle, Cloud(server.url, "big"), policy=policy) as foggen:
            report = foggen.flush(FlushOptions(waiting=True))
        keys = [request.headers["idempotency-key"] for request in server.requests]
    assert (report.answered, report.remaining) == (len(waiting), 0)
    assert keys == [result.id for result in waiting]
    with Outbox(policy.outbox) as outbox:
        assert {entry.result.answer for entry in outbox.entries()} == {"B"}


def test_what_one_thread_opened_another_may_use(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(
        on_unreachable="queue",
        outbox=OutboxLimits(tmp_path / "outbox"),
        budget=Budget(calls=100, file=tmp_path / "budget"),
        decision_log=LogSettings(tmp_path / "log"),
    )
    with (
        Foggen(model, DEAD, policy=policy) as foggen,
        ThreadPoolExecutor(1) as pool,
    ):
        result = pool.submit(foggen.ask, UNSURE).result()
    assert (result.source, result.reason) == ("queued", "cloud_unreachable")
    assert len(logged(tmp_path / "log")) == 1


def test_the_budget_outlives_the_process(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(budget=Budget(calls=2, file=tmp_path / "budget"))
    results = []
    with CloudServer(lambda _: "B") as server:
        for _ in range(3):
            with Foggen(model, Cloud(server.url, "m"), policy=policy) as foggen:
                results.append(foggen.ask(UNSURE))
        assert len(server.requests) == 2
    assert [result.source for result in results] == ["cloud", "cloud", "none"]
    assert results[-1].reason == "budget"
    assert "2 of 2 are used" in str(results[-1].detail)


def logged(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_question_is_logged_once(model: FakeModel, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    policy = Policy(decision_log=LogSettings(path))
    questions = [SURE, UNSURE]
    with Foggen(model, policy=policy) as foggen:
        results = [foggen.ask(question) for question in questions]
        stream = foggen.stream(SURE)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    *records, cancelled = logged(path)
    assert [record["id"] for record in records] == [result.id for result in results]
    assert [record["confidence"] for record in records] == [one.confidence for one in results]
    assert cancelled["reason"] == "cancelled"
    text = path.read_text(encoding="utf-8")
    assert all(question.splitlines()[0] not in text for question in questions)


def test_an_answer_is_worth_more_than_its_record(model: FakeModel, tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    policy = Policy(decision_log=LogSettings(directory / "log.jsonl"))
    with Foggen(model, policy=policy) as foggen:
        directory.rename(tmp_path / "moved")
        result = foggen.ask(SURE)
    assert result.source == "local"
    assert "log.jsonl: cannot be written" in str(result.detail)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Policy(on_unreachable="queue"), "outbox.file: must be set"),
        (Policy(budget=Budget(calls=1)), "budget.file: must be set"),
        (Policy(cloud_system_prompt="x"), "cloud_system_prompt: must be set in the policy or"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(
    model: FakeModel, policy: Policy, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Foggen(model, replace(DEAD, system_prompt="y"), policy=policy)


def test_a_file_that_is_no_outbox_is_refused(model: FakeModel, tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    policy = Policy(on_unreachable="queue", outbox=OutboxLimits(path))
    with pytest.raises(StateError, match="a file of another kind"):
        Foggen(model, policy=policy)


def test_flushing_needs_an_outbox_and_a_cloud(model: FakeModel, tmp_path: Path) -> None:
    policy = Policy(on_unreachable="queue", outbox=OutboxLimits(tmp_path / "outbox"))
    with (
        Foggen(model, DEAD) as no_outbox,
        Foggen(model, policy=policy) as no_cloud,
    ):
        with pytest.raises(ConfigError, match="on_unreachable: must be queue to flush, is fail"):
            no_outbox.flush()
        with pytest.raises(ConfigError, match="cloud: must be set to flush"):
            no_cloud.flush()
