"""Every path and number of a manifest, replaced by what a stranger might put there.

Each bundle is opened, inspected and asked in a process that is stopped when it takes too long, and
that tells which files it opened. It ends in an error that names the field, or in a bundle that
works; never in a traceback, and no file outside of the bundle is read.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime.bundle.manifest import MANIFEST_FILE
from tests.conftest import BundleOf

_NUMBERS: tuple[Any, ...] = (
    -1,
    0,
    1,
    10**9,
    2**31,
    2**63,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "1",
    None,
    [],
)
_TEXTS: tuple[Any, ...] = (
    *("", ".", "..", "/etc/hostname", "../outside.npy", "pipe.npy", "pipe.onnx", "out.npy"),
    *("out.onnx", "sub/out.npy", "sub", "\x1b[31mred", "a\0b", "*/_ORT_MEM_ADDR_/*", "x" * 5000),
    *(7, None, True, [], {}),
)
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    float("nan"),
    "",
    [],
    {},
    [None],
    {"": None},
    {"..": {}},
)
_TRAPS = ("pipe.npy", "pipe.onnx", "out.npy", "out.onnx")
# Never handed to anything: what they say is shown, no more.
_SAID_ONLY = re.compile(
    r"model\.(name|revision|architecture|num_attention_heads)|quantization|routing\.calibration"
    r"|provenance|prompt\.(system|question|strip)|prefix_snapshot\.key|template\.answer_prefix$"
)

# Reads manifests, one on each line; opens and asks the bundle, and says what came of each.
_VICTIM = """
import faulthandler, json, os, sys, traceback
from pathlib import Path
from click.testing import CliRunner
from foggen_runtime.cli import foggen
from foggen_runtime.errors import FoggenError
from foggen_runtime import BundleError, Decoding, EngineOptions, Foggen, OpenOptions

bundle, opened = Path(sys.argv[1]), []
for warm in range(2):  # imports read files, too
    with Foggen.open(bundle, options=OpenOptions(EngineOptions(threads=1))) as ready:
        ready.ask("Which?\\nA. 1\\nB. 2")
CliRunner().invoke(foggen, ["inspect", str(bundle)])
sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)

def outcome():
    shown = CliRunner().invoke(foggen, ["inspect", str(bundle)])
    if not (shown.exception is None or isinstance(shown.exception, SystemExit)):
        return {"traceback": "inspect: " + "".join(traceback.format_exception(shown.exception))}
    try:
        with Foggen.open(bundle, options=OpenOptions(EngineOptions(threads=1))) as foggen_:
            result = foggen_.ask("Which?\\nA. 1\\nB. 2", decoding=Decoding(max_new_tokens=4))
        return {"asked": result.reason, "output": shown.output}
    except BundleError as error:
        return {"refused": str(error), "output": shown.output}
    except Exception as error:
        return {"traceback": "".join(traceback.format_exception(error))}

for line in sys.stdin:
    faulthandler.dump_traceback_later(30, exit=True)
    (bundle / "foggen.json").write_text(json.loads(line), encoding="utf-8")
    opened.clear()
    found = outcome()
    found["opened"] = sorted(set(opened))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(found), flush=True)
"""


@pytest.fixture(scope="module")
def bundle(tiny_bundle: BundleOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with traps in it: pipes, and links that lead out of it."""
    place = tmp_path_factory.mktemp("hostile")
    target = Path(shutil.copytree(tiny_bundle("int4"), place / "bundle"))
    (place / "outside.npy").write_bytes((target / "prefix_snapshot.npy").read_bytes())
    (place / "outside.onnx").write_bytes((target / "model.onnx").read_bytes())
    for ending in ("npy", "onnx"):
        os.mkfifo(target / f"pipe.{ending}")
        (target / f"out.{ending}").symlink_to(place / f"outside.{ending}")
    (target / "sub").symlink_to(place)
    return target


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the paths of a document's parts: of a list of many only its first."""
    if path:
        yield path
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = list(enumerate(value))[:1]
    for key, item in inner:
        yield from leaves(item, (*path, key))


def hostile_values(value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return _TEXTS
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _NUMBERS
    return _OTHERS


def variants(document: dict[str, Any]) -> Iterator[tuple[str, object, str]]:
    """Yield the field, its new value and the text of each hostile manifest."""
    for path in leaves(document):
        *parents, last = path
        name = ".".join(map(str, path))
        original: Any = document
        for key in path:
            original = original[key]
        for value in hostile_values(original):
            changed = deepcopy(document)
            target: Any = changed
            for key in parents:
                target = target[key]
            target[last] = value
            yield name, value, json.dumps(changed)
            if isinstance(value, str) and value in _TRAPS and path[-1] in ("file", "loop_file"):
                # As its maker would: listed, with the size and hash of what it leads to.
                like = "model.onnx" if value.endswith("onnx") else "prefix_snapshot.npy"
                changed["files"][value] = document["files"][like]
                yield name, value, json.dumps(changed)


def test_every_path_and_number_of_the_manifest(bundle: Path) -> None:
    document = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    document["graph"]["loop_file"] = "model.onnx"
    cases = list(variants(document))
    # Without a snapshot, whose key covers the shape, the graph alone can contradict.
    without = {**document, "prefix_snapshot": None}
    cases += [case for case in variants(without) if case[0].startswith(("model.", "graph."))]
    assert len(cases) > 1000
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(bundle)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    wrong = []
    with process:
        for name, value, text in [("", "", json.dumps(document)), *cases]:
            process.stdin.write(json.dumps(text) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, f"{name} = {value!r}: hangs or dies"
            assert name or "asked" in line, line
            if problem := complaint(bundle, (name, value), json.loads(line)):
                wrong.append(f"{name} = {str(value)[:40]!r}: {problem}")
        process.stdin.close()
    assert not wrong, "\n".join(wrong)


def complaint(bundle: Path, case: tuple[str, object], outcome: dict[str, Any]) -> str | None:
    """Say what is wrong with how a hostile manifest was met."""
    strangers = [path for path in outcome["opened"] if is_strange(bundle, path)]
    if strangers:
        return f"{strangers[0]} was opened"
    if "traceback" in outcome:
        return str(outcome["traceback"])
    if any(not char.isprintable() and char != "\n" for char in outcome["output"]):
        return f"control characters reach the terminal: {outcome['output']!r}"
    message = outcome.get("refused")
    if message is None or says_why(case, message):
        return None
    return f"does not name the field: {message}"


def says_why(case: tuple[str, object], message: str) -> bool:
    """Whether an error names the field, or a value that is a name itself."""
    name, value = case
    if name.startswith("files.") or _SAID_ONLY.match(name):
        return True
    named = [part for part in name.split(".") if not part.isdigit()][-1:]
    named.append("prefix_snapshot.key")  # which stands for shape and prompt, too
    if isinstance(value, str) and value:
        named.append(value)
    return any(word in message for word in named)


def is_strange(bundle: Path, path: str) -> bool:
    """Whether a file is neither the bundle's nor one the system has for every process."""
    place = Path(path)
    if not place.is_absolute():
        return path.startswith("..") or any(trap in path for trap in _TRAPS)
    if place.parent == bundle:
        return place.name in _TRAPS
    return place.is_relative_to(bundle.parent) or path == "/etc/hostname"
