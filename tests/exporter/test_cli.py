"""The command `foggen-export`, run as its user runs it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from peft import LoraConfig, get_peft_model
from transformers import Qwen3ForCausalLM

from foggen_exporter import cli
from foggen_exporter.cli import export_command
from foggen_exporter.packaging import android
from foggen_exporter.packaging import cli as packaging_cli
from foggen_exporter.packaging.targets import TARGETS
from foggen_exporter.recipes.recipe import BLOCK_SIZES, RECIPES
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.workstation import MODULES
from foggen_runtime import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import Manifest, WeightFormat
from foggen_runtime.cli import foggen
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.checkpoints import edit_json, edit_tensors
from tests.support.hub_server import HubRepository, running_hub
from tests.support.interrupted import interrupted
from tests.support.snapshots import prefix_snapshot

CHECKPOINT = TINY / "checkpoint"
ROOT = TINY.parent.parent
EXTRA = list(MODULES)
EXECUTABLE = Path(sys.executable).parent / "foggen-export"
FOGGEN = Path(sys.executable).parent / "foggen"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that may be changed."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path, exit_code: int = 1) -> str:
    """Return the error of a command that must fail and leave nothing behind."""
    before = sorted(Path.cwd().iterdir())
    result = run(*arguments)
    assert result.exit_code == exit_code
    assert sorted(Path.cwd().iterdir()) == before
    return result.stderr


def test_the_advertised_command(tmp_path: Path) -> None:
    with running_hub(HubRepository("issai/foggen", CHECKPOINT)) as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [EXECUTABLE, "--quant", "int4"],
            env=environment,
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
    size = sum(path.stat().st_size for path in CHECKPOINT.iterdir()) / 1e6
    first, second, *_ = done.stderr.splitlines()
    assert first == "issai/foggen -> foggen-int4 (int4)"
    assert f"{size:.1f} MB to download" in second
    bundle = Bundle.open(tmp_path / "foggen-int4")
    assert bundle.manifest.model.name == "foggen"
    assert bundle.manifest.model.revision
    assert bundle.manifest.provenance["checkpoint"] == "issai/foggen"
    with Foggen.open(tmp_path / "foggen-int4") as foggen:
        assert foggen.ask(QUESTIONS[0]).reason in ("confident", "below_tau")


def test_a_published_bundle_is_asked_by_its_hub_id(tmp_path: Path) -> None:
    assert run(CHECKPOINT, "--quant", "int8", "-o", "bundle").exit_code == 0
    with running_hub(HubRepository("org/tiny-int8", tmp_path / "bundle")) as hub:
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [FOGGEN, "ask", "org/tiny-int8", QUESTIONS[0], "--route", "local_only", "--json"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
    assert json.loads(done.stdout)["source"] == "local"


def test_json_goes_to_standard_output_alone(tmp_path: Path) -> None:
    result = run(CHECKPOINT, "--quant", "int4", "-o", "bundle", "--json")
    facts = json.loads(result.stdout)
    assert facts["bundle"] == "bundle"
    assert facts["sha256"] == Manifest.load(tmp_path / "bundle").sha256
    assert facts["bytes"] > 1e6


def test_the_same_checkpoint_gives_the_same_bundle(tmp_path: Path) -> None:
    shas = []
    for name in ("one", "two"):
        run(CHECKPOINT, "--quant", "int4", "-o", name)
        shas.append(Manifest.load(tmp_path / name).sha256)
    assert shas[0] == shas[1]


def test_options_reach_the_manifest(tmp_path: Path) -> None:
    run(
        *(CHECKPOINT, "--quant", "fp32", "-o", "bundle", "--tau", "0.75"),
        *("--context-length", "700", "--no-prefix-snapshot"),
    )
    manifest = Manifest.load(tmp_path / "bundle")
    assert manifest.routing.tau == 0.75
    assert manifest.model.context_length == 700
    assert manifest.prefix_snapshot is None
    assert not (tmp_path / "bundle" / "prefix_snapshot.npy").exists()
    with Foggen.open(tmp_path / "bundle") as foggen:
        result = foggen.ask(QUESTIONS[0])
    assert (result.tau, result.prefix_source) == (0.75, "none")
    assert result.usage.cached_prompt_tokens == 0


def test_the_shipped_snapshot_is_the_fp32_checkpoints_whatever_the_recipe(tmp_path: Path) -> None:
    run(CHECKPOINT, "--quant", "int4", "-o", "bundle")
    ids = Manifest.load(tmp_path / "bundle").prompt.prefix_ids
    shipped = np.load(tmp_path / "bundle" / "prefix_snapshot.npy")
    assert np.array_equal(shipped, prefix_snapshot(Checkpoint.open(CHECKPOINT), ids))


def test_an_existing_bundle_is_kept_without_force(tmp_path: Path) -> None:
    run(CHECKPOINT, "--quant", "fp32", "-o", "bundle")
    message = refusal(CHECKPOINT, "--quant", "int4", "-o", "bundle", exit_code=1)
    assert "bundle is a bundle already; --force replaces it" in message
    assert Manifest.load(tmp_path / "bundle").quantization.recipe == "fp32"
    assert run(CHECKPOINT, "--quant", "int4", "-o", "bundle", "--force").exit_code == 0
    assert Manifest.load(tmp_path / "bundle").quantization.recipe == "int4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_directory_of_something_else_is_never_replaced(
    tmp_path: Path, force: tuple[str, ...]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.txt").write_text("It was a dark night")
    message = refusal(CHECKPOINT, "--quant", "int4", "-o", "thesis", *force)
    assert "thesis is not empty and is not a bundle" in message


def test_a_failed_export_keeps_the_bundle_it_would_have_replaced(
    tmp_path: Path, checkpoint: Path
) -> None:
    run(checkpoint, "--quant", "fp32", "-o", "bundle")
    weights = checkpoint / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 100)
    refusal(checkpoint, "--quant", "int4", "-o", "bundle", "--force")
    assert Bundle.open(tmp_path / "bundle", verify=True).manifest.quantization.recipe == "fp32"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    command = f"ulimit -f 500; exec {EXECUTABLE} {CHECKPOINT} --quant fp32 -o bundle"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {command}"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Error: --output: cannot write bundle: " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["foggen_exporter", "foggen_exporter.packaging"])
@pytest.mark.parametrize("installed", [False, True])
def test_help_needs_no_extra(module: str, installed: bool) -> None:
    blocked = "" if installed else f"sys.modules.update(dict.fromkeys({EXTRA}))\n"
    script = f"import sys\n{blocked}from {module} import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--help"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exit codes:" in done.stdout


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("foggen_exporter", [str(CHECKPOINT), "--quant", "int4"]),
        ("foggen_exporter.packaging", ["bundle", "--target", "android", "-o", "package"]),
    ],
)
def test_without_the_extra_it_says_what_to_install(module: str, arguments: list[str]) -> None:
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRA})); import {module} as m; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "pip install 'foggen[export]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_extra_is_what_pyproject_lists() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    listed = [*extras["export"], *extras["tokenizers"]]
    listed.remove("foggen[tokenizers]")
    assert set(EXTRA) == {re.split("[>=]", name)[0].replace("-", "_") for name in listed}


def test_transformers_is_quiet_about_pytorch(tmp_path: Path) -> None:
    """As it is without the development extra, where there is no PyTorch."""
    script = (
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'torch' else find(name, *more)\n"
        "from foggen_exporter import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, CHECKPOINT, "--quant", "int4", "-o", "bundle", "-q"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"bundle: \d+\.\d MB, exported in \d+\.\d s\n", done.stdout)


def test_an_unusable_vocabulary_is_refused(checkpoint: Path) -> None:
    edit_json(
        checkpoint / "config.json", lambda config: config.update(vocab_size=400, eos_token_id=5)
    )
    (checkpoint / "generation_config.json").unlink()
    edit_tensors(
        checkpoint,
        lambda tensors: tensors.update(
            {"model.embed_tokens.weight": tensors["model.embed_tokens.weight"][:400].clone()}
        ),
    )
    message = refusal(checkpoint, "--quant", "int4", "-o", "bundle")
    assert "the tokenizer's ids must be below vocab_size 400" in message


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint: Path) -> None:
    for path in [*checkpoint.glob("tokenizer*"), *checkpoint.glob("chat_template*")]:
        path.unlink()
    assert "tokenizer" in refusal(checkpoint, "--quant", "int4", "-o", "bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quant", "int4", "--tau", "2"), "--tau: must be within [0, 1], is 2.0"),
        (
            ("--quant", "int4", "--context-length", "0"),
            "--context-length: must be at least 1, is 0",
        ),
        (
            ("--quant", "int4", "--template", "nope"),
            "--template: must be one of mcq or a TOML file",
        ),
        (
            ("--quant", "int4", "--block-size", "48"),
            "--block-size: must be one of 32, 64, 128, is 48",
        ),
        (("--quant", "int8", "--block-size", "32"), "--block-size: int8 has no 4-bit blocks"),
        (("--quant", "fp32", "--symmetric"), "--symmetric: fp32 has no 4-bit blocks"),
        (("--quant", "int4", "--budget", "400"), "--budget: int4 does not choose bits"),
    ],
)
def test_wrong_settings_are_named(arguments: tuple[str, ...], message: str) -> None:
    assert message in refusal(CHECKPOINT, *arguments)


@pytest.mark.parametrize("arguments", [("--quant", "int3"), ()])
def test_wrong_usage_has_the_exit_code_of_usage(arguments: tuple[str, ...]) -> None:
    refusal(CHECKPOINT, *arguments, exit_code=2)


def test_the_card_says_how_to_run_it(tmp_path: Path) -> None:
    run(CHECKPOINT, "--quant", "int4", "-o", "bundle")
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "foggen ask" in card
    assert "4 bits in blocks of 128" in card
    assert str(tmp_path) not in card


def test_being_told_to_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from foggen_exporter import cli, export\n"
        "def stop(*_): os.kill(os.getpid(), signal.SIGTERM)\n"
        "export.save_manifest = stop\n"
        "cli.run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, CHECKPOINT, "--quant", "int4", "-o", "bundle"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


# peft asks transformers for an attribute by its former name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_is_merged(tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    get_peft_model(Qwen3ForCausalLM.from_pretrained(CHECKPOINT), config).save_pretrained("lora")
    (tmp_path / "lora" / "README.md").unlink(missing_ok=True)
    for name, extra in (("plain", ()), ("adapted", ("--adapter", "lora"))):
        assert run(CHECKPOINT, "--quant", "fp32", "-o", name, *extra).exit_code == 0
    manifests = [Manifest.load(tmp_path / name) for name in ("plain", "adapted")]
    assert [manifest.provenance["adapter"] for manifest in manifests] == [None, "lora"]
    hashes = [manifest.files["model.onnx.data"].sha256 for manifest in manifests]
    assert hashes[0] != hashes[1]
    assert manifests[0].prefix_snapshot != manifests[1].prefix_snapshot
    own = (CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8") + "{# of its own #}"
    (tmp_path / "lora" / "chat_template.jinja").write_text(own, encoding="utf-8")
    told = run(CHECKPOINT, "--quant", "fp32", "-o", "told", "--adapter", "lora")
    assert told.stderr.count("lora has a chat template of its own: the bundle uses it\n") == 1
    assert (tmp_path / "told" / "chat_template.jinja").read_text(encoding="utf-8") == own


def write_questions(path: Path, questions: list[str]) -> Path:
    lines = [json.dumps({"question": question}) for question in questions]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_calibration_set_of_ones_own_makes_another_bundle(
    tmp_path: Path, tiny_bundle: BundleOf
) -> None:
    own = write_questions(tmp_path / "own.jsonl", QUESTIONS[:8])
    assert run(CHECKPOINT, "--quant", "int4-gptq", "-o", "own", "--calibration", own).exit_code == 0
    paths = (tiny_bundle("int4-gptq"), tmp_path / "own")
    infos = [Manifest.load(path).quantization for path in paths]
    assert infos[0].calibration_sha256 != infos[1].calibration_sha256


def test_int4_mixed_gives_more_bits_to_what_matters_within_the_budget(tmp_path: Path) -> None:
    arguments = ("--quant", "int4-mixed", "-o", "bundle", "--budget", "3.2")
    result = run(CHECKPOINT, *arguments)
    assert result.exit_code == 0
    assert "Calibrating on 64 questions: " in result.stderr
    groups = Manifest.load(tmp_path / "bundle").quantization.groups
    assert groups["layers"].bits == 4
    assert 8 in {form.bits for form in groups.values()}
    assert 3.05e6 < (tmp_path / "bundle" / "model.onnx.data").stat().st_size <= 3.2e6
    graph = onnx.load_model(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    stored = {
        node.output[0]: attribute.i
        for node in graph.node
        for attribute in node.attribute
        if attribute.name == "bits" and node.op_type == "MatMulNBits"
    }
    expected = {name: groups.get(name, groups["layers"]).bits for name in stored}
    assert stored == {**expected, "logits": groups["embedding"].bits}
    assert "8 bits in blocks of 128" in (tmp_path / "bundle" / "README.md").read_text()


def test_a_budget_that_is_too_small_is_refused() -> None:
    arguments = (CHECKPOINT, "--quant", "int4-mixed", "-o", "bundle", "--budget", "2")
    assert "budget: must be at least 3.0 MB" in refusal(*arguments)


@pytest.mark.parametrize("quant", ["int4", "int4-gptq"])
def test_blocks_of_another_size_and_kind_reach_the_graph(tmp_path: Path, quant: str) -> None:
    options: tuple[str | Path, ...] = ("--block-size", "32", "--symmetric")
    if quant == "int4-gptq":
        own = write_questions(tmp_path / "own.jsonl", QUESTIONS[:8])
        options = (*options, "--calibration", own)
    assert run(CHECKPOINT, "--quant", quant, "-o", "bundle", *options).exit_code == 0
    expected = WeightFormat(4, 32, symmetric=True, accuracy_level=4)
    groups = Manifest.load(tmp_path / "bundle").quantization.groups
    assert groups == {"layers": expected, "embedding": expected}
    graph = onnx.load_model(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    sizes = [a.i for node in graph.node for a in node.attribute if a.name == "block_size"]
    assert set(sizes) == {32}
    assert not [tensor.name for tensor in graph.initializer if "zero_points" in tensor.name]
    with Foggen.open(tmp_path / "bundle") as foggen:
        assert foggen.ask(QUESTIONS[0]).reason in ("confident", "below_tau")


def test_a_recipe_that_goes_by_no_questions_takes_none(tmp_path: Path) -> None:
    own = write_questions(tmp_path / "own.jsonl", QUESTIONS[:8])
    message = refusal(CHECKPOINT, "--quant", "int4", "-o", "bundle", "--calibration", own)
    assert "calibration: int4 needs no questions" in message


def test_questions_that_calibrate_never_judge(tmp_path: Path) -> None:
    own = write_questions(tmp_path / "own.jsonl", QUESTIONS[:8])
    judge = write_questions(tmp_path / "judge.jsonl", QUESTIONS[7:20])
    arguments = ("--quant", "int8", "-o", "bundle", "--calibration", own, "--data", judge)
    message = refusal(CHECKPOINT, *arguments, "--report", tmp_path / "report.md")
    assert "data: must not hold questions that the recipe is calibrated on, holds 1" in message


def test_a_bundle_has_the_name_it_is_given(tmp_path: Path) -> None:
    assert run(CHECKPOINT, "--quant", "int4", "--name", "my-tiny").exit_code == 0
    manifest = Manifest.load(tmp_path / "my-tiny-int4")
    assert manifest.model.name == "my-tiny"
    assert manifest.provenance["checkpoint"] == "checkpoint"
    assert "--name: must be letters" in refusal(CHECKPOINT, "--quant", "int4", "--name", "a/b")


def test_what_it_advises_to_try_works(tmp_path: Path) -> None:
    result = run(CHECKPOINT, "--quant", "int4", "-o", "my bundle")
    assert re.fullmatch(r"my bundle: \d\.\d MB, exported in \d+\.\d s\n", result.stdout)
    _, _, advice = result.stderr.partition("Try: ")
    command, *words = shlex.split(advice)
    assert command == "foggen"
    assert CliRunner().invoke(foggen, words).exit_code == 0


def test_quiet_leaves_the_result_alone(tmp_path: Path) -> None:
    result = run(CHECKPOINT, "--quant", "int4", "-o", "bundle", "--quiet")
    assert result.stdout.startswith("bundle: ")
    assert result.stderr == ""


@pytest.mark.parametrize("before", [False, True])
def test_ctrl_c_leaves_what_was_there(tmp_path: Path, before: bool) -> None:
    if before:
        assert run(CHECKPOINT, "--quant", "fp32", "-o", "bundle").exit_code == 0
    done = interrupted(
        ["foggen-export", CHECKPOINT, "--quant", "int4-mixed", "-o", "bundle", "--force"],
        lambda: any(tmp_path.glob(".bundle.partial-*/*")),
        tmp_path,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "Interrupted: no bundle is written, bundle is unchanged\n" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"] * before
    if before:
        assert Bundle.open(tmp_path / "bundle", verify=True).manifest.quantization.recipe == "fp32"


def test_choices_that_are_written_twice_are_the_same() -> None:
    assert (*RECIPES,) == cli.RECIPE_NAMES
    assert BLOCK_SIZES == cli.BLOCK_SIZES
    assert (*TARGETS,) == packaging_cli.LINUX
    assert packaging_cli.DELIVERIES == android.DELIVERIES
