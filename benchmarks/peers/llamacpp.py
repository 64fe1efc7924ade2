"""llama.cpp through llama-cpp-python.

Options: empty to evaluate every prompt whole; `prefix` for what the package does by itself, which
is to keep the cache of the tokens that a prompt shares with the one before.
"""

from collections.abc import Sequence
from itertools import islice

from llama_cpp import Llama

from benchmarks.peers.measuring import Mark, Peer, Request, run


class LlamaCpp(Peer):
    """A GGUF file."""

    def __init__(self, request: Request) -> None:
        self._keep_prefix = request.option == "prefix"
        self._llama = Llama(
            request.model,
            n_ctx=1024,
            n_threads=request.threads,
            n_threads_batch=request.threads,
            verbose=False,
        )

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Generate greedily; `generate` knows no end of sequence."""
        if not self._keep_prefix:
            self._llama.reset()
        tokens = self._llama.generate(list(prompt), temp=0.0)
        for _ in islice(tokens, count):
            mark()


if __name__ == "__main__":
    run(LlamaCpp)
