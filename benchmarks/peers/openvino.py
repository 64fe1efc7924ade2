"""OpenVINO GenAI's LLMPipeline.

Options: empty with its prefix cache off, `prefix` with it on.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino_genai as ov_genai

from benchmarks.peers.measuring import Mark, Peer, Request, run


class Marker(ov_genai.StreamerBase):  # type: ignore[misc]
    """Marks every token written."""

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self._mark = mark

    def write(self, token: int | list[int]) -> ov_genai.StreamingStatus:
        """Take one token, or several at once."""
        for _ in token if isinstance(token, list) else [token]:
            self._mark()
        return ov_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Do nothing at the end."""


class OpenVino(Peer):
    """A model exported by optimum-intel."""

    def __init__(self, request: Request) -> None:
        scheduler = ov_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = request.option == "prefix"
        self._pipeline = ov_genai.LLMPipeline(
            request.model,
            "CPU",
            scheduler_config=scheduler,
            INFERENCE_NUM_THREADS=request.threads,
        )

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Generate greedily."""
        config = ov_genai.GenerationConfig()
        config.max_new_tokens = count
        config.ignore_eos = True
        config.do_sample = False
        ids = ov.Tensor(np.array([prompt], np.int64))
        self._pipeline.generate(ids, config, Marker(mark))


if __name__ == "__main__":
    run(OpenVino)
