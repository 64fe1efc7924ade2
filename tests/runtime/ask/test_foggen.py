"""Deciding, answering and handing off, on the tiny trained FogGen."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from foggen_runtime import (
    BundleError,
    Cloud,
    ConfigError,
    Decoding,
    Foggen,
    OpenOptions,
    QuestionError,
    Result,
)
from foggen_runtime.bundle.manifest import MANIFEST_FILE
from tests.conftest import TINY, BundleOf
from tests.support.cloud_server import CloudServer
from tests.support.fake_model import SURE, UNSURE, FakeModel

QUESTIONS: list[str] = [
    json.loads(line)["question"]
    for line in (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
]


@pytest.fixture(scope="module")
def foggen(tiny_bundle: BundleOf) -> Iterator[Foggen]:
    with Foggen.open(tiny_bundle("int4")) as opened:
        yield opened


def first(foggen: Foggen, reason: str) -> str:
    """Return the first held-out question that ends with this reason."""
    return next(text for text in QUESTIONS if foggen.ask(text).reason == reason)


def test_a_confident_question_is_answered_here(foggen: Foggen) -> None:
    result = foggen.ask(first(foggen, "confident"))
    assert (result.source, result.finish_reason) == ("local", "stop")
    assert result.answer == result.choice
    assert result.confidence is not None
    assert result.confidence >= result.tau == 0.5
    assert result.tau_source == "default"


def test_below_tau_without_a_cloud_there_is_no_answer(foggen: Foggen) -> None:
    result = foggen.ask(first(foggen, "below_tau"))
    assert (result.source, result.answer, result.finish_reason) == ("none", None, None)
    assert result.confidence is not None
    assert result.confidence < 0.5
    assert result.usage.forward_passes == 1


def test_probabilities_add_up(foggen: Foggen) -> None:
    result = foggen.ask(QUESTIONS[0])
    assert result.level_probabilities is not None
    assert sum(result.level_probabilities) == pytest.approx(1)
    levels = foggen.model.bundle.manifest.template.level_values
    mean = sum(np.multiply(levels, result.level_probabilities))
    assert result.expected_confidence == pytest.approx(mean)


def test_timing_and_usage_add_up(foggen: Foggen) -> None:
    question = first(foggen, "confident")
    result = foggen.ask(question)
    usage, timing = result.usage, result.timing_ms
    assert usage.prompt_tokens == len(foggen.prompt_ids(question))
    assert usage.cached_prompt_tokens == len(foggen.model.bundle.manifest.prompt.prefix_ids)
    assert usage.forward_passes == 3
    assert timing.tokenize is not None
    assert timing.prefill is not None
    assert timing.decision is not None
    assert timing.answer is not None
    assert timing.tokenize + timing.prefill <= timing.decision
    assert timing.decision + timing.answer <= timing.total


def test_tau_of_the_call_wins(foggen: Foggen) -> None:
    question = first(foggen, "below_tau")
    result = foggen.ask(question, tau=0)
    assert (result.source, result.tau, result.tau_source) == ("local", 0, "call")


def test_questions_do_not_disturb_each_other(foggen: Foggen) -> None:
    alone = [foggen.ask(text).level_probabilities for text in QUESTIONS[:5]]
    again = [foggen.ask(text).level_probabilities for text in reversed(QUESTIONS[:5])]
    assert alone == again[::-1]


def test_local_only_answers_whatever_the_confidence(foggen: Foggen) -> None:
    result = foggen.ask(first(foggen, "below_tau"), route="local_only")
    assert (result.source, result.reason) == ("local", "mode")
    assert result.answer


def test_the_answer_is_held_to_the_choices(foggen: Foggen) -> None:
    question = first(foggen, "confident")
    free = foggen.ask(question).choice
    other = next(letter for letter in "AB" if letter != free)
    decoding = Decoding(choices=(other,))
    assert foggen.ask(question, decoding=decoding).choice == other


@pytest.mark.parametrize("mode", ["constrained", "greedy", "step"])
def test_a_stream_ends_with_the_result_that_ask_gives(foggen: Foggen, mode: str) -> None:
    question = first(foggen, "confident")
    decoding = Decoding(mode)  # type: ignore[arg-type]
    *pieces, result = foggen.stream(question, decoding=decoding)
    assert isinstance(result, Result)
    assert "".join(map(str, pieces)).strip() == result.answer
    asked = foggen.ask(question, decoding=decoding)
    assert result.id != asked.id
    untimed = dataclasses.replace(asked, timing_ms=result.timing_ms, id=result.id)
    assert untimed == result


def test_a_cancelled_stream_leaves_the_model_usable(foggen: Foggen) -> None:
    question = first(foggen, "confident")
    expected = foggen.ask(question).level_probabilities
    stream = foggen.stream(question)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert foggen.ask(question).level_probabilities == expected


@pytest.mark.parametrize("question", ["", "  \n ", "\ud800"])
def test_what_is_no_question_is_refused(foggen: Foggen, question: str) -> None:
    with pytest.raises(QuestionError):
        foggen.ask(question)


@pytest.mark.parametrize("tau", [-0.1, 1.1, float("nan")])
def test_tau_outside_its_range_is_refused(foggen: Foggen, tau: float) -> None:
    with pytest.raises(ConfigError, match="tau: must be within"):
        foggen.ask("Which?", tau=tau)


def test_an_unknown_route_is_refused(foggen: Foggen) -> None:
    with pytest.raises(ConfigError, match="route: must be one of auto, local_only, cloud_only"):
        foggen.ask("Which?", route="moon")  # type: ignore[arg-type]


def test_a_question_too_long_for_the_context_is_deferred(foggen: Foggen) -> None:
    result = foggen.ask("very " * 5000 + "long?")
    assert (result.source, result.reason) == ("none", "context_length")
    assert "the bundle takes" in str(result.detail)


def test_below_tau_the_cloud_answers() -> None:
    with CloudServer(lambda _: "The answer is B.") as server:
        with Foggen(FakeModel(), Cloud(server.url, "big")) as handing:
            result = handing.ask(UNSURE)
            *pieces, streamed = handing.stream(UNSURE)
        bodies = [json.loads(request.body) for request in server.requests]
    assert (result.source, result.reason) == ("cloud", "below_tau")
    assert (result.answer, result.choice) == ("The answer is B.", "B")
    assert result.timing_ms.handoff is not None
    assert "".join(map(str, pieces)) == "The answer is B."
    assert isinstance(streamed, Result)
    assert streamed.source == "cloud"
    for body in bodies:
        assert body["messages"] == [{"role": "user", "content": UNSURE}]


def test_a_confident_question_never_reaches_the_cloud() -> None:
    with (
        CloudServer(lambda _: "B") as server,
        Foggen(FakeModel(), Cloud(server.url, "big")) as handing,
    ):
        assert handing.ask(SURE).source == "local"
        assert handing.ask(SURE, route="local_only").source == "local"
        assert server.requests == []
        assert handing.ask(SURE, route="cloud_only").source == "cloud"
        assert len(server.requests) == 1


def test_a_dead_cloud_is_an_honest_result() -> None:
    with Foggen(FakeModel(), Cloud("http://127.0.0.1:9/v1", "big")) as handing:
        result = handing.ask(UNSURE)
    assert (result.source, result.reason, result.answer) == ("none", "cloud_unreachable", None)
    assert result.detail
    assert result.confidence is not None


@pytest.fixture
def copy(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle("fp32"), tmp_path / "bundle"))


def rewrite(copy: Path, section: str, name: str, value: object) -> None:
    path = copy / MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document[section][name] = value
    path.write_text(json.dumps(document), encoding="utf-8")


def test_with_and_without_the_snapshot_the_fp32_decisions_are_the_same(
    tiny_bundle: BundleOf,
) -> None:
    bundle = tiny_bundle("fp32")
    recompute = OpenOptions(recompute_prefix=True)
    with Foggen.open(bundle) as restored, Foggen.open(bundle, options=recompute) as computed:
        assert (restored.model.prefix_source, computed.model.prefix_source) == (
            "snapshot",
            "recomputed",
        )
        for question in QUESTIONS[:200]:
            one, other = restored.ask(question), computed.ask(question)
            assert (one.confidence, one.answer) == (other.confidence, other.answer)
            assert one.level_probabilities == pytest.approx(other.level_probabilities, abs=1e-4)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("prompt", "prefix_ids", [1, 2, 3]),
        ("provenance", "weights_sha256", "0" * 64),
        ("model", "architecture", "Other"),
    ],
)
def test_a_snapshot_of_something_else_is_refused(
    copy: Path, section: str, name: str, value: object
) -> None:
    rewrite(copy, section, name, value)
    with pytest.raises(BundleError, match=r"prefix_snapshot.key: must be .*--recompute-prefix"):
        Foggen.open(copy)


def test_a_missing_snapshot_is_refused_or_recomputed(copy: Path) -> None:
    (copy / "prefix_snapshot.npy").unlink()
    with pytest.raises(BundleError, match=r"prefix_snapshot.npy: cannot be read"):
        Foggen.open(copy)
    with Foggen.open(copy, options=OpenOptions(recompute_prefix=True)) as foggen:
        assert foggen.ask(QUESTIONS[0]).prefix_source == "recomputed"


def test_output_unlike_the_template_defers() -> None:
    foggen = Foggen(FakeModel({SURE: "Well, Paris."}))
    result = foggen.ask(SURE)
    assert (result.source, result.reason) == ("none", "malformed")
    assert "template_probability" in str(result.detail)
    # Other decodings write what the model wants, and so need no such minimum.
    result = foggen.ask(SURE, decoding=Decoding("greedy"))
    assert (result.reason, result.detail) == ("malformed", "the output left the template")


def test_an_answer_without_its_prefix_defers() -> None:
    result = Foggen(FakeModel({SURE: "Confidence: 1.0\nParis"})).ask(
        SURE, decoding=Decoding("greedy")
    )
    assert (result.source, result.reason, result.confidence) == ("none", "malformed", 1.0)
    assert result.detail == "the output left the template after the level"
    assert result.timing_ms.answer is not None


def test_an_improbable_template_is_no_matter_where_the_level_was_not_forced(
    copy: Path,
) -> None:
    rewrite(copy, "template", "min_template_probability", 1.0)
    rewrite(copy, "prefix_snapshot", "key", "")
    with Foggen.open(copy, options=OpenOptions(recompute_prefix=True)) as foggen:
        assert foggen.ask(QUESTIONS[0]).reason == "malformed"
        assert foggen.ask(QUESTIONS[0], decoding=Decoding("greedy")).reason != "malformed"
