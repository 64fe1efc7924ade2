"""Decide and answer with nothing but onnxruntime: token ids in, decision and tokens out.

python ask.py BUNDLE/loop.onnx 0.5 32 < prompt_ids.json
"""

import json
import os
import sys

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it is read when onnxruntime is imported

import onnxruntime


def main(path: str, tau: str, max_new_tokens: str) -> None:
    """Ask once, and print the outcome as JSON."""
    prompt_ids = json.load(sys.stdin)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {
        "input_ids": np.array([prompt_ids], np.int64),
        "tau": np.array(float(tau), np.float32),
        "max_new_tokens": np.array(int(max_new_tokens), np.int64),
    }
    outcome = dict(zip(names, session.run(names, feeds), strict=True))
    print(json.dumps({name: value.tolist() for name, value in outcome.items()}))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
