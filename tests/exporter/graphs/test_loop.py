"""The loop inside the model decides and answers as the host's loop does."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.loop import LOOP_FILE, write_loop
from foggen_exporter.graphs.loop_parts import LoopTables
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import ConfigError, Decoding, EngineOptions, Foggen, OpenOptions
from foggen_runtime.ask.model import Model
from foggen_runtime.bundle.manifest import Manifest, TemplateInfo
from foggen_runtime.model.quiet_onnxruntime import ort
from foggen_runtime.model.snapshot import SNAPSHOT_FILE

TINY = Path(__file__).parents[2] / "tiny_foggen"
QUESTIONS = [
    json.loads(line)["question"]
    for line in (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:40]
]
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
BundleWithLoop = Callable[[str], Path]


@pytest.fixture(scope="module")
def bundle_with_loop(tmp_path_factory: pytest.TempPathFactory) -> BundleWithLoop:
    root = tmp_path_factory.mktemp("loops")

    @cache
    def export(quant: str) -> Path:
        directory = root / quant
        directory.mkdir()
        settings = ExportSettings(
            find_recipe(quant.removesuffix("-plain")),
            load_template("mcq"),
            prefix_snapshot=not quant.endswith("-plain"),
            loop=True,
        )
        checkpoint = Checkpoint.open(TINY / "checkpoint")
        for _ in Export.of(checkpoint, Origin("tiny"), settings, directory).steps():
            pass
        return directory

    return export


class InnerLoop:
    """loop.onnx, as any program would run it."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(path, options)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, ids: list[int], tau: float, max_new_tokens: int = 256) -> dict[str, object]:
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "tau": np.array(tau, np.float32),
            "max_new_tokens": np.array(max_new_tokens, np.int64),
        }
        values = self._session.run(self._names, feeds)
        return {name: value.tolist() for name, value in zip(self._names, values, strict=True)}


def opened(bundle: Path) -> Foggen:
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    return Foggen.open(bundle, options=options)


def written(model: Model, ids: list[int], *, kept: bool, limit: int = 256) -> list[int]:
    """Return what the host's loop writes."""
    decoder = model.decoder(Decoding())
    tokens = list(decoder.decide(ids[model.prefix_length :]).tokens)
    return [*tokens, *decoder.answer(limit)] if kept else tokens


@pytest.mark.parametrize("quant", ["fp32", "int8", "int4", "int4-plain"])
def test_the_loop_decides_and_writes_as_the_host_does(
    bundle_with_loop: BundleWithLoop, quant: str
) -> None:
    bundle = bundle_with_loop(quant)
    loop = InnerLoop(bundle / LOOP_FILE)
    with opened(bundle) as foggen:
        for number, question in enumerate(QUESTIONS):
            tau, ids = TAUS[number % len(TAUS)], foggen.prompt_ids(question)
            result = foggen.ask(question, tau=tau)
            outcome = loop(ids, tau)
            assert outcome["confidence"] == result.confidence
            assert outcome["deferred"] == (result.reason != "confident")
            assert outcome["level_probabilities"] == pytest.approx(
                result.level_probabilities, abs=1e-6
            )
            assert outcome["template_probability"] == pytest.approx(
                result.template_probability, abs=1e-5
            )
            kept = result.reason == "confident"
            assert outcome["token_ids"] == written(foggen.model, ids, kept=kept)


def test_prompts_without_the_shipped_prefix_are_read_whole(
    bundle_with_loop: BundleWithLoop,
) -> None:
    """A cached prefix must serve no other prompt, also none that is shorter or ends with it."""
    bundle = bundle_with_loop("fp32")
    loop, plain = (
        InnerLoop(bundle_with_loop(quant) / LOOP_FILE) for quant in ("fp32", "fp32-plain")
    )
    with opened(bundle) as foggen:
        prefix = list(foggen.model.bundle.manifest.prompt.prefix_ids)
        ids = foggen.prompt_ids(QUESTIONS[0])
    changed = [ids[1], *ids[1:]]
    for prompt in (changed, ids[5:], prefix, ids[:3], ids[3:9]):
        one, other = loop(prompt, 0.0), plain(prompt, 0.0)
        assert one["token_ids"] == other["token_ids"]
        assert one["level_probabilities"] == pytest.approx(other["level_probabilities"], abs=1e-5)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
def test_max_new_tokens_counts_what_follows_the_confidence(
    bundle_with_loop: BundleWithLoop, limit: int
) -> None:
    bundle = bundle_with_loop("fp32")
    with opened(bundle) as foggen:
        ids = foggen.prompt_ids(QUESTIONS[0])
        outcome = InnerLoop(bundle / LOOP_FILE)(ids, 0.0, limit)
        assert outcome["token_ids"] == written(foggen.model, ids, kept=True, limit=limit)


def test_a_long_answer_grows_the_cache(bundle_with_loop: BundleWithLoop, tmp_path: Path) -> None:
    """Without an end the answer goes on beyond the cache's first room."""
    bundle = tmp_path / "endless"
    shutil.copytree(bundle_with_loop("fp32"), bundle)
    manifest = Manifest.load(bundle)
    model = replace(manifest.model, eos_token_ids=(manifest.model.vocab_size - 1,))
    files = {name: info for name, info in manifest.files.items() if name != LOOP_FILE}
    graph = replace(manifest.graph, loop_file=None)
    replace(manifest, model=model, graph=graph, files=files).save(bundle)
    snapshot = bundle / SNAPSHOT_FILE
    write_loop(bundle / manifest.graph.file, model, manifest.template, manifest.prompt, snapshot)
    with opened(bundle) as foggen:
        ids = foggen.prompt_ids(QUESTIONS[0])
        expected = written(foggen.model, ids, kept=True, limit=60)
    assert len(expected) > 60
    assert InnerLoop(bundle / LOOP_FILE)(ids, 0.0, 60)["token_ids"] == expected


@pytest.fixture
def session(bundle_with_loop: BundleWithLoop) -> InnerLoop:
    return InnerLoop(bundle_with_loop("fp32") / LOOP_FILE)


@pytest.mark.parametrize(
    ("ids", "tau", "limit", "rule"),
    [
        ([1, 2], 1.01, 8, "tau: must be at most 1"),
        ([1, 2], -0.01, 8, "tau: must be at least 0"),
        ([1, 2], float("nan"), 8, "tau: must be at"),
        ([1, 2], 0.5, 0, "max_new_tokens: must be at least 1"),
        ([], 0.5, 8, "input_ids: must not be empty"),
        ([1] * 2040, 0.5, 8, "input_ids: must be at most 2036"),
    ],
)
def test_inputs_that_mean_nothing_fail_with_the_rule(
    session: InnerLoop, ids: list[int], tau: float, limit: int, rule: str
) -> None:
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument, match=rule):
        session(ids, tau, limit)


def test_the_loop_shares_the_weights_and_is_small(bundle_with_loop: BundleWithLoop) -> None:
    bundle = bundle_with_loop("int4")
    manifest = Manifest.load(bundle)
    assert manifest.graph.loop_file == LOOP_FILE
    assert manifest.files[LOOP_FILE].bytes < 100_000
    assert [name for name in manifest.files if name.endswith(".data")] == ["model.onnx.data"]


def test_a_template_with_several_drafts_has_no_loop() -> None:
    template = TemplateInfo(
        levels=("0", "0.5", "1"),
        level_ids=((1, 2, 5), (1, 2, 6), (1, 3, 4)),
        separator_ids=(9,),
        answer_prefix="",
        answer_prefix_ids=(8,),
        min_template_probability=0.5,
    )
    LoopTables.of(template)
    several = replace(
        template,
        levels=("0", "0.25", "0.5", "1"),
        level_ids=((1, 2, 5), (1, 2, 6), (1, 3, 4), (1, 3, 7)),
    )
    with pytest.raises(ConfigError, match="loop: the template must branch along one draft, has 2"):
        LoopTables.of(several)
