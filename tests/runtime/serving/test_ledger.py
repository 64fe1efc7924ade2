"""What is counted, read with Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from foggen_runtime.result import BundleRef, Result, Timing
from foggen_runtime.serving.connections import Connections, Limits
from foggen_runtime.serving.desk import Desk
from foggen_runtime.serving.ledger import Ledger
from foggen_runtime.serving.settings import Settings
from tests.support.gateway import Gateway, serving


def samples(gateway: Gateway) -> dict[str, float]:
    """Return every sample by its name and labels, as in `name{label=value}`."""
    response = gateway.http.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        sample.name
        + "".join(
            f"{{{key}={value}}}" for key, value in sorted(sample.labels.items())
        ): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_and_status_count_the_same(sure: str, unsure: str) -> None:
    with serving() as gateway:
        answers = [gateway.chat(text).json() for text in (sure, sure, unsure)]
        gateway.chat("")
        gateway.chat("What?", n=2)
        gateway.http.get("/nowhere")
        counted, status = samples(gateway), gateway.http.get("/status").json()
    assert counted["foggen_answers_total{reason=confident}{source=local}"] == 2
    assert counted["foggen_answers_total{reason=below_tau}{source=none}"] == 1
    assert status["answers"] == {"local": 2, "cloud": 0, "queued": 0, "none": 1}
    assert status["routed_share"] == 1 - 2 / 3
    for code in ("empty_question", "unsupported_value", "not_found"):
        assert counted[f"foggen_errors_total{{code={code}}}"] == status["errors"][code] == 1
    spent = [answer["x_foggen"]["usage"] for answer in answers]
    assert counted["foggen_tokens_total{kind=prompt}"] == sum(u["prompt_tokens"] for u in spent)
    assert counted["foggen_tokens_total{kind=decoded}"] == sum(u["decoded_tokens"] for u in spent)
    assert counted["foggen_phase_seconds_count{phase=decision}"] == 3
    totals = [answer["x_foggen"]["timing_ms"]["total"] for answer in answers]
    assert abs(1e3 * counted["foggen_phase_seconds_sum{phase=total}"] - sum(totals)) < 1e-6
    assert [line["total_ms"] for line in status["decisions"]] == totals[::-1]
    assert sum(status["latency"]["counts"]) == 3
    levels = {f"{answer['x_foggen']['confidence']:g}" for answer in answers}
    assert sum(counted[f"foggen_confidence_total{{level={level}}}"] for level in levels) == 3
    assert counted["foggen_questions_running"] == counted["foggen_questions_waiting"] == 0
    assert counted["foggen_connections"] >= 1
    assert counted["process_resident_memory_bytes"] > 1e6


def test_a_time_is_in_the_first_bucket_that_holds_it() -> None:
    bundle = BundleRef("tiny", "0" * 64)
    desk = Desk(lambda *_: iter(()), threads=0, waiting=0)
    connections = Connections(Limits.of(Settings()))
    for milliseconds, bucket in ((1, 0), (10, 0), (10.1, 1), (400, 5), (30_000, 10), (30_001, 11)):
        ledger = Ledger(bundle, "0", desk, connections)
        timing = Timing(total=milliseconds)
        ledger.answered(Result("A", "local", "mode", 0.5, "call", bundle, timing_ms=timing))
        assert ledger.status()["latency"]["counts"][bucket] == 1


def test_the_status_keeps_the_last_decisions_only(gateway: Gateway, sure: str) -> None:
    for _ in range(25):
        gateway.chat(sure)
    status = gateway.http.get("/status")
    assert len(status.json()["decisions"]) == 20
    assert sure not in status.text
