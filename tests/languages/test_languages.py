"""The loop inside the model from Python, Node and Java, and bundles in other runtimes.

`make test-languages` fetches what this needs into work/languages and runs it.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.loop import LOOP_FILE
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.decide.plain import greedy_steps
from foggen_runtime.model.telemetry import OFF_VARIABLE
from tests.support.telemetry import Home

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
TINY = REPOSITORY / "tests" / "tiny_foggen"
EXAMPLES = REPOSITORY / "examples" / "loop"
FETCHED = REPOSITORY / "work" / "languages"
MAX_NEW_TOKENS = 24

pytestmark = pytest.mark.languages


@dataclass(frozen=True)
class Exported:
    """A bundle with every extra graph, prompts, and what our engine writes after them."""

    bundle: Path
    prompts: list[list[int]]
    written: list[list[int]]


@pytest.fixture(scope="module", params=["fp32", "int8", "int4"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    bundle = tmp_path_factory.mktemp(request.param)
    settings = ExportSettings(
        find_recipe(request.param), load_template("mcq"), loop=True, genai=True
    )
    checkpoint = Checkpoint.open(TINY / "checkpoint")
    for _ in Export.of(checkpoint, Origin("tiny"), settings, bundle).steps():
        pass
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:20]
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(bundle, options=options) as foggen:
        prompts = [foggen.prompt_ids(json.loads(line)["question"]) for line in lines]
        written = [plain_greedy(foggen, prompt) for prompt in prompts]
    return Exported(bundle, prompts, written)


def plain_greedy(foggen: Foggen, prompt: list[int]) -> list[int]:
    """Return what our engine writes token by token after the whole prompt, without a snapshot."""
    engine, eos = foggen.model.engine, foggen.model.bundle.manifest.model.eos_token_ids
    engine.cache.truncate(0)
    first = int(engine.forward(prompt)[-1].argmax())
    return [first, *greedy_steps(engine, first, MAX_NEW_TOKENS - 1, eos)]


def command_for(language: str) -> list[str | Path]:
    """Return what starts an example.

    Node finds packages above the script, so the script lies beside them.
    """
    if language == "python":
        return [sys.executable, EXAMPLES / "ask.py"]
    if language == "node":
        return ["node", shutil.copy(EXAMPLES / "ask.mjs", FETCHED / "node")]
    (jar,) = (FETCHED / "java").glob("onnxruntime-*.jar")
    return ["java", "-cp", jar, EXAMPLES / "Ask.java"]


def run(command: Sequence[str | Path], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("language", ["python", "node", "java"])
class TestExamples:
    """Each example decides as the host does, and fails loudly on what it is given wrongly."""

    @pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
    def test_it_prints_the_decision_and_the_tokens(
        self, exported: Exported, language: str, tau: float
    ) -> None:
        loop = exported.bundle / LOOP_FILE
        done = run([*command_for(language), loop, str(tau), "24"], json.dumps(exported.prompts[0]))
        assert done.returncode == 0, done.stderr
        outcome = json.loads(done.stdout)
        assert set(outcome) == {
            *("token_ids", "confidence", "level_probabilities", "template_probability", "deferred")
        }
        assert outcome["deferred"] == (outcome["confidence"] < tau)
        assert sum(outcome["level_probabilities"]) == pytest.approx(1, abs=1e-4)
        if not outcome["deferred"]:
            assert outcome["token_ids"] == exported.written[0]

    def test_a_wrong_path_fails(self, language: str, tmp_path: Path) -> None:
        done = run([*command_for(language), tmp_path / "missing.onnx", "0.5", "24"], "[1, 2]")
        assert done.returncode != 0
        assert "missing.onnx" in done.stderr

    def test_truncated_weights_fail(
        self, exported: Exported, language: str, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(exported.bundle, broken)
        data = broken / "model.onnx.data"
        with data.open("r+b") as file:
            file.truncate(data.stat().st_size // 2)
        done = run([*command_for(language), broken / LOOP_FILE, "0.5", "24"], "[1, 2]")
        assert done.returncode != 0
        assert "model.onnx.data" in done.stderr or "external" in done.stderr.lower()

    def test_it_leaves_no_telemetry(
        self, exported: Exported, language: str, tmp_path: Path
    ) -> None:
        home = Home(tmp_path / "user")
        command = [*command_for(language), exported.bundle / LOOP_FILE, "0.5", "24"]
        done = home.run(command, json.dumps(exported.prompts[0]))
        if language == "java":
            assert "set ORT_DISABLE_TELEMETRY=1" in done.stderr
            assert home.left() == []
            done = home.run(command, json.dumps(exported.prompts[0]), **{OFF_VARIABLE: "1"})
        assert done.returncode == 0, done.stderr
        assert home.left() == []

    @pytest.mark.parametrize("tau", ["1.5", "-0.1"])
    def test_a_tau_outside_0_and_1_fails(self, exported: Exported, language: str, tau: str) -> None:
        loop = exported.bundle / LOOP_FILE
        done = run([*command_for(language), loop, tau, "24"], json.dumps(exported.prompts[0]))
        assert done.returncode != 0
        assert "tau: must be at" in done.stderr


def test_examples_are_short() -> None:
    for example in EXAMPLES.iterdir():
        assert len(example.read_text(encoding="utf-8").splitlines()) < 60


def test_onnxruntime_genai_writes_the_same_tokens(exported: Exported, tmp_path: Path) -> None:
    python = FETCHED / "genai" / "bin" / "python"
    script: list[str | Path] = [
        python,
        HERE / "genai_tokens.py",
        exported.bundle,
        str(MAX_NEW_TOKENS),
    ]
    home = Home(tmp_path / "user")
    done = home.run(script, json.dumps(exported.prompts))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == exported.written
    assert home.left() == []


def test_transformers_js_writes_the_same_tokens(exported: Exported, tmp_path: Path) -> None:
    script = shutil.copy(HERE / "tokens.mjs", FETCHED / "node")
    home = Home(tmp_path / "user")
    command = ["node", script, exported.bundle, str(MAX_NEW_TOKENS)]
    done = home.run(command, json.dumps(exported.prompts))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == exported.written
    assert home.left() == []
