"""What a newcomer follows through the code is short; `tests/support/hops.py` says what counts."""

from foggen_runtime import EngineOptions, Foggen, OpenOptions
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import first
from tests.support.hops import hops

OPTIONS = OpenOptions(EngineOptions(threads=1, spinning=False))


def test_a_question_answered_here_takes_25_hops(tiny_bundle: BundleOf) -> None:
    with Foggen.open(tiny_bundle("int4"), options=OPTIONS) as foggen:
        question = first(foggen, "confident")
        path = hops(lambda: foggen.ask(question))
    assert 10 < len(path) <= 25, "\n".join(path)
