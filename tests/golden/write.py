"""Write the golden traces with this runtime: `python -m tests.golden.write`.

What is stored is the contract that this runtime and the Kotlin one are held to; write it again
only when the tiny FogGen, a recipe or the decision itself changes, and look at the difference.
"""

import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from foggen_runtime.files import write_text_atomically
from tests.conftest import TINY
from tests.golden.questions import golden_questions
from tests.golden.subjects import SUBJECTS
from tests.golden.traces import (
    FOLDER,
    QUESTIONS_FILE,
    Asked,
    Golden,
    Questions,
    open_recording,
    record,
)


def main() -> None:
    """Make every bundle that has traces of its own, ask, and store what happened."""
    questions = golden_questions()
    with tempfile.TemporaryDirectory() as folder:
        for name, subject in SUBJECTS.items():
            if subject.traces != name:
                continue
            bundle = subject.make(TINY / "checkpoint", Path(folder) / name)
            with open_recording(bundle) as foggen:
                asked = tuple(Asked(text, tuple(foggen.prompt_ids(text))) for text in questions)
                traces = tuple(record(foggen, questions, subject.modes))
            golden = Golden(subject.recipe, version("onnxruntime"), traces)
            write_text_atomically(FOLDER / f"{name}.json", _lines(asdict(golden), "traces"))
    write_text_atomically(QUESTIONS_FILE, _lines(asdict(Questions(asked)), "questions"))


def _lines(document: dict[str, object], listed: str) -> str:
    """Return JSON text with one line for each item of the list, so that differences are read."""
    items = document.pop(listed)
    if not isinstance(items, tuple | list):
        raise TypeError(f"{listed}: must be a list, is {type(items).__name__}")
    head = "".join(f'"{name}": {json.dumps(value)},\n' for name, value in document.items())
    lines = ",\n".join(json.dumps(item, ensure_ascii=False, allow_nan=False) for item in items)
    return f'{{\n{head}"{listed}": [\n{lines}\n]\n}}\n'


if __name__ == "__main__":
    main()
