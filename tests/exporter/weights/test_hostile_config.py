"""A `config.json` with anything in any field: a clear refusal or a working bundle, no traceback."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.errors import CheckpointError
from tests.conftest import TINY
from tests.support.checkpoints import TinyQwen3, write_checkpoint
from tests.support.export import export_bundle

HOSTILE: dict[str, Any] = {
    "null": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "huge": 10**400,
    "fraction": 0.5,
    "large number": 1e300,
    "small number": 1e-300,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "string": "auto",
    "empty list": [],
    "list": [[None]],
    "empty object": {},
    "object": {"full_attention": "x"},
}
# What transformers 4 writes, and what is read inside other fields.
MORE = ("torch_dtype", "rope_scaling", "rope_theta", "quantization_config", "partial_rotary_factor")
INNER = (
    ("rope_parameters", "rope_theta"),
    ("rope_parameters", "rope_type"),
    ("rope_parameters", "type"),
    ("rope_parameters", "partial_rotary_factor"),
    ("rope_parameters", "full_attention"),
    ("eos_token_id", 0),
    ("architectures", 0),
    ("layer_types", 0),
)
Change = tuple[str | int, ...]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a tokenizer, and no `generation_config.json` to say what ends a text."""
    directory = tmp_path_factory.mktemp("pristine")
    shape = TinyQwen3(vocab_size=1152, hidden_size=32, num_hidden_layers=1, head_dim=16)
    write_checkpoint(directory, shape)
    (directory / "generation_config.json").unlink()
    for pattern in ("tokenizer*", "chat_template*"):
        for path in (TINY / "checkpoint").glob(pattern):
            shutil.copy(path, directory)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["eos_token_id"] = [config["eos_token_id"]]
    path.write_text(json.dumps(config))
    return directory


def changes(config: dict[str, Any]) -> Iterator[Change]:
    for name in (*config, *MORE):
        yield (name,)
    yield from INNER


def changed(config: dict[str, Any], change: Change, value: object) -> dict[str, Any]:
    copy = json.loads(json.dumps(config))
    *outer, last = change
    inner = copy
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return copy  # type: ignore[no-any-return]


def refusal(directory: Path) -> str | None:
    try:
        Checkpoint.open(directory)
    except CheckpointError as error:
        return str(error)
    return None


def names(change: Change, message: str) -> bool:
    """Whether a message names the field; of the rotary parameters, the one that is needed."""
    fields = {"rope_theta"} if change[0] in ("rope_parameters", "rope_scaling") else set()
    return any(field in message for field in {*map(str, change[:1]), *fields})


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_field_is_refused_by_its_name_or_does_no_harm(
    pristine: Path, tmp_path: Path, kind: str
) -> None:
    directory = Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
    path, value = directory / "config.json", HOSTILE[kind]
    config = harmless = json.loads(path.read_text())
    refused = []
    for change in changes(config):
        path.write_text(json.dumps(changed(config, change, value)))
        if message := refusal(directory):
            assert names(change, message), (change, message)
            refused.append(change)
        else:
            harmless = changed(harmless, change, value) if len(change) == 1 else harmless
    assert ("head_dim",) in refused
    path.write_text(json.dumps(harmless))
    bundle = export_bundle(directory, tmp_path / "bundle", "fp32")
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(bundle, options=options) as foggen:
        foggen.ask("Which is larger?\nA. 3\nB. 5")


def test_a_missing_field_does_no_harm_or_is_named(pristine: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
    path = directory / "config.json"
    config = json.loads(path.read_text())
    harmless = dict(config)
    for name in config:
        path.write_text(json.dumps({key: config[key] for key in config if key != name}))
        if message := refusal(directory):
            assert names((name,), message), (name, message)
        else:
            del harmless[name]
    assert "hidden_size" in harmless
    assert "dtype" not in harmless
    path.write_text(json.dumps(harmless))
    export_bundle(directory, tmp_path / "bundle", "fp32")


def test_json_that_nests_too_deep_is_refused(pristine: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(pristine, tmp_path / "checkpoint"))
    (directory / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        Checkpoint.open(directory)
