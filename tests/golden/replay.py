"""Replay the golden questions, and print the traces: `python -m tests.golden.replay BUNDLE MODE …`.

Runs in whatever Python an emulated machine has: needs only the runtime, found by `PYTHONPATH`.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from foggen_runtime.model.decoding import DecodingMode
from tests.golden.traces import open_recording, read_questions, record


def main() -> None:
    """Read the arguments, ask and print a line of JSON for each trace.

    Only by the route `auto`: below tau the trace ends where the device hands off, and its tokens
    go on to the end all the same.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("modes", nargs="+", choices=get_args(DecodingMode))
    arguments = parser.parse_args()
    questions = [asked.question for asked in read_questions().questions]
    with open_recording(arguments.bundle) as foggen:
        for trace in record(foggen, questions, arguments.modes, routes=("auto",)):
            print(json.dumps(asdict(trace)), flush=True)


if __name__ == "__main__":
    main()
