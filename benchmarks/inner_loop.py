"""loop.onnx driven by onnxruntime alone, as any program would."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foggen_runtime.model.quiet_onnxruntime import ort


@dataclass(frozen=True)
class Outcome:
    """What one call gives."""

    token_ids: tuple[int, ...]
    confidence: float
    deferred: bool


class InnerLoop:
    """A session of loop.onnx."""

    def __init__(self, path: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        if threads == 1:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(path, options)

    def ask(self, ids: Sequence[int], tau: float, max_new_tokens: int) -> Outcome:
        """Decide, and answer if the confidence is at least tau."""
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "tau": np.array(tau, np.float32),
            "max_new_tokens": np.array(max_new_tokens, np.int64),
        }
        names = ["token_ids", "confidence", "deferred"]
        tokens, confidence, deferred = self._session.run(names, feeds)
        return Outcome(tuple(tokens.tolist()), float(confidence), bool(deferred))
