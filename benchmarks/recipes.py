"""What each piece of a recipe contributes, on the tiny FogGen and with injected outliers.

Every variant is judged against fp32 on the held-out questions, which calibrated none of them.
Writes results/recipes.json and .md; run as `python -m benchmarks.recipes` (`make recipes`).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from benchmarks.flips import TAU, TINY, defers
from benchmarks.machine import write_results
from foggen_exporter.bundle_files import GRAPH_FILE
from foggen_exporter.calibration import MAX_QUESTIONS, CalibrationSet, calibration_prompts
from foggen_exporter.checkpoint import Checkpoint
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.integer_matmul import ROW_AXES
from foggen_exporter.recipes import BLOCK_SIZES, EMBEDDING_GROUP, Recipe, find_recipe
from foggen_exporter.template import load_template
from foggen_runtime import Decoding, EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.manifest import TOKENIZER_FILE, Manifest, file_info
from foggen_runtime.tokenizer import QuestionTokenizer
from tests.support.outliers import (
    PLACES,
    FirstTokenOutliers,
    Outliers,
    add_first_token_outliers,
    add_outliers,
)
from tests.tiny_foggen.questions import generate

FACTOR = 256.0
OUTLIER_QUESTIONS = 400
NOTE = f"""\
Against fp32 at tau = {TAU}: 1200 held-out questions of the tiny FogGen, the first \
{OUTLIER_QUESTIONS} under outliers. Made by `python -m benchmarks.recipes`."""
FIRST_TOKENS = FirstTokenOutliers()
ONE_TOKEN = Decoding(max_new_tokens=1)
CALIBRATION_SEED = 555


@dataclass(frozen=True)
class Variant:
    """One way to make and open a bundle.

    Attributes:
        calibration: The questions to calibrate by.
        one_scale: Whether all rows of a chunk share one activation scale, as with
            `DynamicQuantizeMatMul`.
        recomputed: Whether the quantized graph computes the prefix itself.
    """

    name: str
    recipe: Recipe
    calibration: CalibrationSet
    one_scale: bool = False
    recomputed: bool = False


@dataclass(frozen=True)
class Row:
    """One variant against fp32: over all questions, or under outliers over the first of them.

    Attributes:
        outliers: Where they were injected.
        flips: Share of decisions that differ.
        level_changes: Share of confidence levels that differ.
        distance: Mean total variation distance between the levels' probabilities.
    """

    outliers: str
    variant: str
    flips: float
    level_changes: float
    distance: float


def clean_variants() -> Iterator[Variant]:
    """Yield the recipes, and what they would be without one of their pieces."""
    built_in = CalibrationSet.built_in()
    fresh = generate(CALIBRATION_SEED, MAX_QUESTIONS, "tune")
    in_domain = CalibrationSet(tuple(question.question for question in fresh))
    int8, int4, gptq = map(find_recipe, ("int8", "int4", "int4-gptq"))
    yield Variant("int8, built-in questions", int8, built_in)
    yield Variant("int8, questions of the domain", int8, in_domain)
    yield Variant("int8-weight", find_recipe("int8-weight"), built_in)
    yield Variant("int4", int4, built_in)
    yield Variant("int4, smoothed", replace(int4, smoothing=True), built_in)
    yield Variant("int4-gptq, built-in questions", gptq, built_in)
    yield Variant("int4-gptq, questions of the domain", gptq, in_domain)
    yield Variant("int4-gptq, not smoothed", replace(gptq, smoothing=False), built_in)
    mixed = find_recipe("int4-mixed")
    yield Variant("int4-mixed, built-in questions", mixed, built_in)
    yield Variant("int4-mixed, questions of the domain", mixed, in_domain)
    nearest = replace(mixed, error_feedback=False)
    yield Variant("int4-mixed, without error feedback", nearest, built_in)
    eight = frozenset({EMBEDDING_GROUP})
    fixed = replace(mixed.with_finer(eight), finer=None)
    yield Variant("int4-gptq, embedding always in 8 bits", fixed, built_in)


def block_variants() -> Iterator[Variant]:
    """Yield the 4-bit recipes in blocks of every size, with and without zero points."""
    for name in ("int4", "int4-gptq"):
        for size in BLOCK_SIZES:
            for symmetric in (False, True):
                zero = "symmetric" if symmetric else "zero points"
                recipe = find_recipe(name).with_blocks(size, symmetric=symmetric)
                built_in = CalibrationSet.built_in()
                yield Variant(f"{name}, blocks of {size}, {zero}", recipe, built_in)


def level_variants() -> Iterator[Variant]:
    """Yield recipes whose head, or layers, or both compute in fp32 (`accuracy_level` 1, not 4)."""
    for name in ("int4", "int4-gptq", "int8-weight", "int8"):
        recipe, built_in = find_recipe(name), CalibrationSet.built_in()
        head = replace(recipe.embedding, accuracy_level=1)
        yield Variant(f"{name}, head at level 1", replace(recipe, embedding=head), built_in)
        if recipe.layers.accuracy_level is not None:
            layers = replace(recipe.layers, accuracy_level=1)
            both = replace(recipe, layers=layers, embedding=head)
            yield Variant(f"{name}, layers at level 1", replace(recipe, layers=layers), built_in)
            yield Variant(f"{name}, all at level 1", both, built_in)


def int8_variants() -> Iterator[Variant]:
    """Yield W8A8 with and without each of its three pieces."""
    for one_scale in (True, False):
        for smoothing in (False, True):
            for recomputed in (True, False):
                scales = "one scale for all rows" if one_scale else "a scale for each row"
                smooth = "smoothed" if smoothing else "not smoothed"
                prefix = "own prefix" if recomputed else "fp32 prefix"
                yield Variant(
                    f"int8, {scales}, {smooth}, {prefix}",
                    replace(find_recipe("int8"), smoothing=smoothing),
                    CalibrationSet.built_in(),
                    one_scale,
                    recomputed,
                )


def outlier_variants() -> Iterator[Variant]:
    """Yield what is asked under outliers."""
    yield from int8_variants()
    built_in, gptq = CalibrationSet.built_in(), find_recipe("int4-gptq")
    for name in ("int8-weight", "int4", "int4-gptq", "int4-mixed"):
        yield Variant(name, find_recipe(name), built_in)
    yield Variant("int4-gptq, not smoothed", replace(gptq, smoothing=False), built_in)


def ask_all(
    checkpoint: Path, variant: Variant, bundle: Path, questions: Sequence[str]
) -> list[Result]:
    """Make the bundle and return the decision on every question, with a token of the answer."""
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    settings = ExportSettings(variant.recipe, load_template("mcq"), calibration=variant.calibration)
    for _ in Export(Checkpoint.open(checkpoint), Origin("tiny"), settings, bundle).steps():
        pass
    if variant.one_scale:
        share_scale(bundle)
    engine = EngineOptions(threads=1, spinning=False)
    options = OpenOptions(engine, recompute_prefix=variant.recomputed)
    with Foggen.open(bundle, options=options) as foggen:
        return [foggen.ask(q, route="local_only", decoding=ONE_TOKEN) for q in questions]


def domain_prompts(bundle: Path) -> list[tuple[int, ...]]:
    """Return prompts of the tiny FogGen's domain with a reply, none of a held-out question."""
    manifest = Manifest.load(bundle)
    tokenizer = QuestionTokenizer.from_file(bundle / TOKENIZER_FILE)
    texts = [question.question for question in generate(CALIBRATION_SEED, MAX_QUESTIONS, "tune")]
    found = calibration_prompts(texts, tokenizer, manifest.prompt, manifest.template, tail=1)
    return [(*found.prefix_ids, *suffix) for suffix in found.suffixes]


def share_scale(bundle: Path) -> None:
    """Let one activation scale span all rows: take the largest magnitude over all axes."""
    path = bundle / GRAPH_FILE
    model = onnx.load_model(path, load_external_data=False)
    (axes,) = (tensor for tensor in model.graph.initializer if tensor.name == ROW_AXES)
    axes.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 1, 2]), ROW_AXES))
    onnx.save_model(model, path)
    manifest = Manifest.load(bundle)
    replace(manifest, files={**manifest.files, GRAPH_FILE: file_info(path)}).save(bundle)


def compare(
    outliers: str, variant: str, results: Sequence[Result], reference: Sequence[Result]
) -> Row:
    """Return a variant's row."""
    pairs = list(zip(results, reference, strict=True))
    levels = [(a.level_probabilities or (), b.level_probabilities or ()) for a, b in pairs]
    distances = [sum(abs(p - q) for p, q in zip(*both, strict=True)) / 2 for both in levels]
    return Row(
        outliers,
        variant,
        flips=sum(defers(a) != defers(b) for a, b in pairs) / len(pairs),
        level_changes=sum(a.confidence != b.confidence for a, b in pairs) / len(pairs),
        distance=sum(distances) / len(pairs),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| outliers | variant | flips | level changes | distance |", "|---|---|---|---|---|"]
    lines.extend(
        f"| {row.outliers} | {row.variant} | {row.flips:.2%} | {row.level_changes:.2%} "
        f"| {row.distance:.4f} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Judge every variant and write the results."""
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        bundle, injected = Path(directory) / "bundle", Path(directory) / "injected"
        fp32 = Variant("fp32", find_recipe("fp32"), CalibrationSet.built_in())
        reference = ask_all(TINY / "checkpoint", fp32, bundle, questions)
        prompts = domain_prompts(bundle)

        def judge(outliers: str, checkpoint: Path, variants: Iterator[Variant]) -> None:
            for variant in variants:
                count = OUTLIER_QUESTIONS if checkpoint == injected else len(questions)
                results = ask_all(checkpoint, variant, bundle, questions[:count])
                rows.append(compare(outliers, variant.name, results, reference[:count]))
                print(table(rows[-1:]).splitlines()[-1], flush=True)

        judge("none", TINY / "checkpoint", clean_variants())
        judge("none", TINY / "checkpoint", int8_variants())
        judge("none", TINY / "checkpoint", block_variants())
        judge("none", TINY / "checkpoint", level_variants())
        shutil.copytree(TINY / "checkpoint", injected)
        add_first_token_outliers(injected, prompts, FIRST_TOKENS)
        judge(f"first {FIRST_TOKENS.tokens} tokens", injected, int8_variants())
        for place in PLACES:
            shutil.rmtree(injected, ignore_errors=True)
            shutil.copytree(TINY / "checkpoint", injected)
            add_outliers(injected, Outliers(FACTOR, [place]))
            judge(f"{place}, {FACTOR:g}x", injected, outlier_variants())
    counts = {"questions": len(questions), "questions_under_outliers": OUTLIER_QUESTIONS}
    document = {"tau": TAU, **counts, "rows": [asdict(row) for row in rows]}
    write_results("recipes", document, f"{NOTE}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
