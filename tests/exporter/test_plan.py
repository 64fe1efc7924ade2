"""Whatever is refused is refused before anything that takes long: calibrating, tracing, writing."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner, Result

from foggen_exporter.cli import export_command
from foggen_runtime.bundle.manifest import Manifest
from tests.conftest import TINY
from tests.support.checkpoints import (
    TinyQwen3,
    edit_json,
    edit_tensors,
    shard,
    write_checkpoint,
)

TINY_CHECKPOINT = TINY / "checkpoint"
LONG_STEPS = (
    "foggen_exporter.architectures.layers.Layer.__init__",
    "foggen_exporter.graphs.builder.WeightFile.__init__",
    "foggen_exporter.optimum_export.export_graph",
)
Damage = Callable[[Path], object]


@pytest.fixture(autouse=True)
def nothing_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let every step that takes long fail the test."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a step that takes long was begun")

    for step in LONG_STEPS:
        monkeypatch.setattr(step, reached)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let optimum be installed."""
    module = ModuleType("optimum.exporters.onnx")
    module.main_export = None  # type: ignore[attr-defined]
    for name in ("optimum", "optimum.exporters"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def run(checkpoint: Path, *arguments: str) -> Result:
    return CliRunner().invoke(export_command, [str(checkpoint), "-o", "bundle", *arguments])


def refusal(checkpoint: Path, *arguments: str) -> str:
    """Return the message; nothing long was begun, and nothing is left behind."""
    before = sorted(Path.cwd().iterdir())
    result = run(checkpoint, *arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert sorted(Path.cwd().iterdir()) == before
    return result.stderr


def shaped(shape: TinyQwen3) -> Damage:
    def write(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        (directory / "generation_config.json").unlink()
        write_checkpoint(directory, replace(shape, vocab_size=1152))

    return write


def configured(**values: object) -> Damage:
    return lambda directory: edit_json(
        directory / "config.json", lambda config: config.update(values)
    )


def spoiled(directory: Path) -> None:
    """Put a NaN into the last tensor that an export would read."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.3.mlp.down_proj.weight"][-1, -1] = float("nan")

    edit_tensors(directory, change)


def incomplete(directory: Path) -> None:
    shard(directory, 2)
    (directory / "model-00002-of-00002.safetensors").unlink()


def wrapped(directory: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"_orig_mod.{name}"] = tensors.pop(name)

    edit_tensors(directory, change)


def without_tokenizer(directory: Path) -> None:
    for path in (*directory.glob("tokenizer*"), *directory.glob("chat_template*")):
        path.unlink()


@pytest.mark.parametrize("quant", ["int8", "int4-gptq", "int4-mixed"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            shaped(TinyQwen3(hidden_size=80)),
            "input size must be a multiple of 32, the smallest block, is 80",
        ),
        (shaped(TinyQwen3(head_dim=40)), "head_dim: must be a multiple of 16"),
        (spoiled, "layers.3.mlp.down_proj.weight: must be finite, holds NaN"),
        (configured(max_position_embeddings=64), "max_position_embeddings: must be at least 104"),
        (configured(layer_types=["full_attention"]), "layer_types: must be a list with one for"),
        (incomplete, "model-00002-of-00002.safetensors: is missing"),
        (without_tokenizer, "tokenizer"),
    ],
)
def test_a_checkpoint(tmp_path: Path, damage: Damage, message: str, quant: str) -> None:
    checkpoint = Path(shutil.copytree(TINY_CHECKPOINT, tmp_path / "checkpoint"))
    damage(checkpoint)
    assert message in refusal(checkpoint, "--quant", quant)


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        (TinyQwen3(intermediate_size=144), "layers.0.down_proj"),
        (
            TinyQwen3(num_attention_heads=3, num_key_value_heads=1, head_dim=16),
            "layers.0.o_proj",
        ),
    ],
)
def test_blocks_that_divide_no_layer(tmp_path: Path, shape: TinyQwen3, matrix: str) -> None:
    checkpoint = Path(shutil.copytree(TINY_CHECKPOINT, tmp_path / "checkpoint"))
    shaped(shape)(checkpoint)
    for quant in ("int4", "int4-mixed", "int8-weight"):
        assert f"{matrix}: input size must be a multiple" in refusal(checkpoint, "--quant", quant)


def test_blocks_that_give_way_are_named_beforehand(tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(TINY_CHECKPOINT, tmp_path / "checkpoint"))
    shaped(TinyQwen3(hidden_size=192))(checkpoint)
    result = run(checkpoint, "--quant", "int4")  # ends where the graph is begun
    assert (
        "Some blocks are smaller than the recipe's, to divide a matrix: qkv_proj of 64, for its "
        "192 columns; gate_up_proj of 64, for its 192 columns; embedding of 64, for its 192 columns"
    ) in result.stderr
    assert "smaller" not in run(TINY_CHECKPOINT, "--quant", "int4").stderr


TWO_DRAFTS = """
levels = ["0.21", "0.22", "0.31", "0.32"]
confidence = "Confidence: {level}"
separator = "\\n"
answer_prefix = "Final answer:"
min_template_probability = 0.5
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("int4-mixed", "--budget", "2"), "budget: must be at least 3.0 MB"),
        (("int8", "--budget", "2"), "budget: int8 does not choose bits"),
        (("int4-gptq", "--context-length", "10"), "--context-length: must be at least 104 to hold"),
        (
            ("int4-gptq", "--context-length", "103"),
            "--context-length: must be at least 104 to hold",
        ),
        (("int8", "--block-size", "32"), "--block-size: int8 has no 4-bit blocks"),
        (("int8", "--template", "drafts.toml", "--loop"), "loop: the template must branch along"),
        (("int8", "--loop", "--head", "choices"), "head: must be full with --loop"),
        (("int8", "--template", "no.toml"), "template: must be one of mcq or a TOML file"),
        (("int8", "--calibration", "no.jsonl"), "no.jsonl: cannot be read"),
        (("int8", "--report", "bundle/r.md"), "report: must be outside the bundle"),
        (("int8", "--report", "there.md"), "report: there.md exists already"),
        (("int8", "--max-flip-rate", "0.001"), "176 questions are too few"),
        (("int8", "--tau", "2"), "tau: must be within [0, 1]"),
        (("int8", "--output", "there.md"), "must be a directory, there.md is a file"),
        (("int8", "--output", "full"), "full is not empty and is not a bundle"),
        (("int8", "--output", "."), "must end in the name of the new bundle"),
        (("int8", "--adapter", "full"), "adapter_config.json: cannot be read"),
        (("int8", "--graph", "optimum"), "quant: must be one of fp32, int8-weight, int4 with"),
    ],
)
def test_an_option(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "drafts.toml").write_text(TWO_DRAFTS)
    (tmp_path / "there.md").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert message in refusal(TINY_CHECKPOINT, "--quant", *arguments)


@pytest.mark.usefixtures("optimum")
@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (
            shaped(TinyQwen3(hidden_size=96)),
            ("int4",),
            "q_proj: input size must be a multiple",
        ),
        (spoiled, ("fp32",), "down_proj.weight: must be finite"),
        (configured(max_position_embeddings=64), ("fp32",), "max_position_embeddings: must be"),
        (configured(vocab_size="x"), ("fp32",), "vocab_size"),
        (configured(dtype="auto"), ("fp32",), "no usable configuration"),
        (wrapped, ("fp32",), "_orig_mod.model.embed_tokens.weight should be model.embed_tokens"),
        (incomplete, ("fp32",), "model-00002-of-00002.safetensors: is missing"),
        (without_tokenizer, ("fp32",), "tokenizer"),
        (lambda _: None, ("fp32", "--context-length", "10"), "--context-length: must be at least"),
        (lambda _: None, ("fp32", "--loop"), "loop: must be left out with graph optimum"),
    ],
)
def test_a_checkpoint_for_optimum(
    tmp_path: Path, damage: Damage, arguments: tuple[str, ...], message: str
) -> None:
    checkpoint = Path(shutil.copytree(TINY_CHECKPOINT, tmp_path / "checkpoint"))
    damage(checkpoint)
    assert message in refusal(checkpoint, "--graph", "optimum", "--quant", *arguments)


def test_want_of_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    arguments = ("--graph", "optimum", "--quant", "fp32")
    assert "graph: optimum needs an environment" in refusal(Path("org/nowhere"), *arguments)


def test_the_least_context_length_holds_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused with a minimum is exported with it, and answers."""
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    from foggen_runtime import EngineOptions, Foggen, OpenOptions

    assert run(TINY_CHECKPOINT, "--quant", "fp32", "--context-length", "104").exit_code == 0
    assert Manifest.load(Path("bundle")).model.context_length == 104
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open("bundle", options=options) as foggen:
        assert foggen.ask("?").reason != "context_length"
        assert foggen.ask("? ?").reason == "context_length"


@pytest.mark.parametrize("place", ["checkpoint", "output"])
def test_a_path_that_is_not_utf8(tmp_path: Path, place: str) -> None:
    name = "lat\udce9"
    checkpoint = TINY_CHECKPOINT
    arguments: tuple[str, ...] = ("--quant", "int8")
    if place == "checkpoint":
        checkpoint = Path(shutil.copytree(TINY_CHECKPOINT, tmp_path / name))
    else:
        arguments = (*arguments, "--output", name)
    message = refusal(checkpoint, *arguments)
    assert f"{place}: its path must be UTF-8, is b'" in message
    assert "lat\\xe9" in message
