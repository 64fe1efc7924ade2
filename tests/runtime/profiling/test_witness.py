"""Figures against witnesses outside: /usr/bin/time, the kernel, a server that keeps time."""

import os
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling.memory import memory_state, peak_rss_bytes
from foggen_runtime.profiling.question_set import built_in_questions
from foggen_runtime.profiling.request import CloudAccess
from foggen_runtime.profiling.runner import Plan, run_round
from foggen_runtime.profiling.samples import ProcessPhases
from foggen_runtime.profiling.schema import Settings
from tests.conftest import BundleOf
from tests.support.cloud_server import MODEL, CloudServer

TIME = Path("/usr/bin/time")
SETTINGS = Settings(threads=1, spinning=False, questions=12, repetitions=2)


def plan(bundle: Path, settings: Settings = SETTINGS) -> Plan:
    return Plan(Bundle.open(bundle), settings, built_in_questions())


@pytest.mark.long
@pytest.mark.skipif(not TIME.exists(), reason="needs /usr/bin/time of GNU")
def test_time_and_memory_are_those_of_gnu_time(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    launcher = (str(TIME), "-f", "%e %M", "-o", str(witness))
    request = plan(tiny_bundle("int4"), replace(SETTINGS, launcher=launcher)).request()
    measured = run_round(request)
    elapsed_s, peak_kb = map(float, witness.read_text(encoding="utf-8").split())
    phases = measured.phases_ms
    names = {field.name for field in fields(ProcessPhases)}
    accounted = sum(
        getattr(phases, name) for name in names - {"wall", "unaccounted", "first_decision"}
    )
    assert accounted == pytest.approx(1e3 * elapsed_s, rel=0.05)
    assert phases.wall == pytest.approx(1e3 * elapsed_s, rel=0.05)
    assert measured.memory.peak_rss_bytes == pytest.approx(1024 * peak_kb, rel=0.02)


def test_the_questions_are_what_their_phase_holds(tiny_bundle: BundleOf) -> None:
    measured = run_round(plan(tiny_bundle("int4")).request())
    total = sum(sample.total_ms for sample in measured.questions)
    assert len(measured.questions) == 12
    assert 0.7 < total / measured.phases_ms.questions < 1  # a busy machine pauses in between, too
    for sample in measured.questions:
        assert sample.tokenize_ms is not None
        assert sample.prefill_ms is not None
        assert sample.decision_ms is not None
        assert sample.tokenize_ms + sample.prefill_ms <= sample.decision_ms <= sample.total_ms
        assert (sample.letter_ms is None) == (sample.outcome == "deferred")


def test_rates_are_tokens_over_the_streams_time(tiny_bundle: BundleOf) -> None:
    settings = replace(SETTINGS, prompt_length=96, generated_length=32, repetitions=20)
    measured = run_round(plan(tiny_bundle("int4"), settings).request())
    assert set(measured.streams) == {"pp96", "tg32"}
    seconds = sum(96 / rate for rate in measured.streams["pp96"])
    seconds += sum(32 / rate for rate in measured.streams["tg32"])
    # The phase also holds the repetition of each that warms up.
    assert 0.7 < 1e3 * seconds / measured.phases_ms.streams < 1


def test_the_handoff_takes_what_the_server_takes(tiny_bundle: BundleOf) -> None:
    def slow(text: str) -> str:
        time.sleep(0.08)
        return text.upper()

    settings = replace(SETTINGS, questions=3, warm_up=0, tau=1.0, cloud=True)
    with CloudServer(slow) as server:
        access = CloudAccess(server.url, MODEL, None)
        measured = run_round(replace(plan(tiny_bundle("int4"), settings), cloud=access).request())
    handoffs = [sample.handoff_ms for sample in measured.questions if sample.outcome == "deferred"]
    assert handoffs
    assert len(server.requests) == len(handoffs)
    assert all(80 <= (handoff or 0) < 400 for handoff in handoffs)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux' files")
def test_memory_is_what_another_file_of_the_kernel_says() -> None:
    state = memory_state(KernelFiles())
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()
    page = os.sysconf("SC_PAGESIZE")
    assert state.rss_bytes == pytest.approx(int(pages[1]) * page, rel=0.02)
    assert state.file_bytes == pytest.approx(int(pages[2]) * page, rel=0.02)
    assert state.anonymous_bytes is not None
    assert state.file_bytes is not None
    assert state.anonymous_bytes + state.file_bytes == pytest.approx(state.rss_bytes, rel=0.02)
    peak = peak_rss_bytes(KernelFiles())
    assert peak is not None
    assert peak >= 0.98 * (state.rss_bytes or 0)


def test_memory_that_the_kernel_hides_is_not_zero(tmp_path: Path) -> None:
    state = memory_state(KernelFiles(tmp_path))
    assert set(vars(state).values()) == {None}
    assert peak_rss_bytes(KernelFiles(tmp_path)) is None
