"""transformers' `generate` with torch in bfloat16."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.peers.measuring import Mark, Peer, Request, run


class Marker(BaseStreamer):
    """Marks every token written; what is put first is the prompt."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Take one token."""
        if not self._prompt:
            self._mark()
        self._prompt = False

    def end(self) -> None:
        """Do nothing at the end."""


class TorchBf16(Peer):
    """A checkpoint."""

    def __init__(self, request: Request) -> None:
        torch.set_num_threads(request.threads)
        self._model = AutoModelForCausalLM.from_pretrained(request.model, dtype=torch.bfloat16)
        self._model.generation_config.eos_token_id = None

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Generate greedily."""
        ids = torch.tensor([list(prompt)])
        self._model.generate(  # type: ignore[misc, unused-ignore]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            streamer=Marker(mark),
        )


if __name__ == "__main__":
    run(TorchBf16)
