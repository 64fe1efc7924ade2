"""Our own engine, through its Python API.

Options: empty for constrained decoding, `step` for the plain loop. The weights are random, so
`ask` would call every confidence malformed: the decoder is driven as `ask` drives it.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.measuring import Mark, Peer, Request, run
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.decide.plain import greedy_steps
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions


class Foggen(Peer):
    """A bundle; its prefix snapshot is used if it has one."""

    def __init__(self, request: Request) -> None:
        options = OpenOptions(engine=EngineOptions(threads=request.threads))
        self._model = LocalModel(Bundle.open(Path(request.model)), options)

    def question(self, prompt: Sequence[int], mark: Mark) -> None:
        """Decide in one forward pass; feed the answer's prefix and take the letter."""
        prefix = self._model.bundle.manifest.template.answer_prefix_ids
        decoder = self._model.decoder(Decoding())
        decoder.decide(prompt[self._model.prefix_length :])
        mark()
        for _ in decoder.answer(len(prefix) + 1):
            pass
        mark()

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Step greedily from an empty cache."""
        self._model.engine.cache.truncate(0)
        self._steps(prompt, count, mark)

    def _steps(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        engine = self._model.engine
        token = int(engine.forward(prompt)[-1].argmax())
        mark()
        for _ in greedy_steps(engine, token, count - 1, eos_token_ids=()):
            mark()


class SteppingFoggen(Foggen):
    """What `--decoding step` does, but past the template that random weights never write."""

    def question(self, prompt: Sequence[int], mark: Mark) -> None:
        """Step through the whole output."""
        Peer.question(self, prompt, mark)

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Step greedily; after a snapshot if the prompt begins with its tokens."""
        prefix_ids = self._model.bundle.manifest.prompt.prefix_ids
        length = self._model.prefix_length
        kept = length if tuple(prompt[:length]) == tuple(prefix_ids) else 0
        self._model.engine.cache.truncate(kept)
        self._steps(prompt[kept:], count, mark)


def load(request: Request) -> Peer:
    """Open the bundle."""
    return SteppingFoggen(request) if request.option == "step" else Foggen(request)


if __name__ == "__main__":
    run(load)
