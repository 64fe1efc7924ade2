"""The command `foggen-export`."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import click
from tqdm import tqdm

from foggen_exporter.bundle_directory import bundle_directory, remove_leftovers
from foggen_exporter.bundle_files import BundleExport
from foggen_exporter.calibration import CalibrationSet
from foggen_exporter.checkpoint import Checkpoint, TensorSource
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, HeadKind, Origin
from foggen_exporter.hub import resolve_checkpoint
from foggen_exporter.judging import Judging, Wishes
from foggen_exporter.lora import MergedCheckpoint
from foggen_exporter.optimum_export import OptimumCheckpoint, OptimumExport, check_settings
from foggen_exporter.recipes import BLOCK_SIZES, RECIPES, find_recipe
from foggen_exporter.template import load_template
from foggen_runtime.bundle import BUNDLE
from foggen_runtime.errors import ConfigError, FoggenError
from foggen_runtime.files import check_utf8
from foggen_runtime.manifest import Manifest
from foggen_runtime.placing import Place
from foggen_runtime.printing import printable_text

DEFAULT_CHECKPOINT = "issai/foggen"
REFERENCE_RECIPE = "fp32"

GraphKind = Literal["foggen", "optimum"]
MakeExport = Callable[[ExportSettings, Path], BundleExport]


@dataclass(frozen=True)
class Request:
    """The command line, as typed."""

    checkpoint: str
    revision: str | None
    adapter: Path | None
    quant: str
    graph: GraphKind
    output: Path | None
    template: str
    tau: float
    context_length: int
    prefix_snapshot: bool
    calibration: Path | None
    block_size: int | None
    symmetric: bool
    budget: float | None
    loop: bool
    genai: bool
    head: HeadKind
    data: Path | None
    report: Path | None
    max_flip_rate: float | None
    force: bool
    as_json: bool

    @property
    def name(self) -> str:
        """The checkpoint's hub id, or its directory's name without the way to it."""
        path = Path(self.checkpoint)
        return path.resolve().name if path.is_dir() else self.checkpoint

    @property
    def target(self) -> Path:
        """Where the bundle goes: `./<name>-<recipe>` unless said otherwise."""
        return self.output or Path(f"{self.name.rpartition('/')[2]}-{self.quant}")

    @property
    def settings(self) -> ExportSettings:
        """What to make of the checkpoint."""
        recipe = find_recipe(self.quant).with_blocks(self.block_size, symmetric=self.symmetric)
        calibration = CalibrationSet.built_in()
        if self.calibration:
            if not recipe.calibrated:
                raise ConfigError(f"calibration: {recipe.name} goes by no questions, leave it out")
            calibration = CalibrationSet.read(self.calibration)
        return ExportSettings(
            recipe=recipe,
            template=load_template(self.template),
            calibration=calibration,
            tau=self.tau,
            context_length=self.context_length,
            prefix_snapshot=self.prefix_snapshot,
            budget=None if self.budget is None else round(1e6 * self.budget),
            loop=self.loop,
            genai=self.genai,
            head=self.head,
        )


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 exported, 1 not exported (nothing is left behind but a report, or a "
    "finished bundle whose place was taken meanwhile), 2 wrong usage.",
)
@click.argument("checkpoint", default=DEFAULT_CHECKPOINT)
@click.option("--quant", type=click.Choice(list(RECIPES)), required=True, help="Recipe.")
@click.option(
    "--graph",
    type=click.Choice(get_args(GraphKind)),
    default="foggen",
    show_default=True,
    help="Who makes the graph: `optimum` exports architectures that foggen has no file for; the "
    "bundle is slower then, and needs more memory.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.")
@click.option("--revision", help="Branch, tag or commit of a hub repository.")
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="PEFT LoRA adapter to merge into the checkpoint.",
)
@click.option("--template", default="mcq", show_default=True, help="Built-in name, or a TOML file.")
@click.option("--tau", default=0.5, show_default=True, help="The bundle's default threshold.")
@click.option(
    "--context-length", default=4096, show_default=True, help="Tokens of prompt and answer."
)
@click.option(
    "--prefix-snapshot/--no-prefix-snapshot",
    default=True,
    show_default=True,
    help="Ship the KV cache of the constant part of the prompt.",
)
@click.option(
    "--head",
    type=click.Choice(get_args(HeadKind)),
    default="full",
    show_default=True,
    help="Which tokens the model can write: with `choices` only those of a multiple-choice reply, "
    "for constrained decoding alone; it takes less memory.",
)
@click.option(
    "--calibration",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help="Questions that int8, int4-gptq and int4-mixed quantize by.  [default: a built-in set]",
)
@click.option(
    "--block-size",
    type=int,
    metavar="|".join(map(str, BLOCK_SIZES)),
    help="Weights that share a scale, for the int4 recipes.  [default: 128]",
)
@click.option(
    "--symmetric",
    is_flag=True,
    help="Leave out the zero points, for the int4 recipes: ARM then takes other kernels, with "
    "other results.",
)
@click.option(
    "--budget",
    type=float,
    metavar="MB",
    help="What the weights' file of int4-mixed may take: the matrices that matter most to the "
    "decision get 8 bits until it is full.  [default: a tenth more than all in 4 bits]",
)
@click.option(
    "--loop",
    is_flag=True,
    help="Add loop.onnx: the whole decoding loop as one graph over the same weights, to be run by "
    "onnxruntime from any language.",
)
@click.option(
    "--genai",
    is_flag=True,
    help="Add what onnxruntime-genai needs to run the bundle: a graph and its description.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.md",
    help="Compare the bundle's decisions with those of fp32, and write a page there and FILE.json. "
    "An fp32 bundle is written beside the output meanwhile (2.4 GB for issai/foggen).",
)
@click.option(
    "--max-flip-rate",
    type=float,
    metavar="SHARE",
    help="Fail, e.g. at 0.02, unless with 95 % confidence at most this share of decisions differs "
    "from those of fp32. Needs the same space.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Questions for --report and --max-flip-rate, as `foggen compare` takes them.  "
    "[default: a built-in set]",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle, and report.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's facts as JSON.")
@click.version_option(package_name="foggen")
def export_command(**options: object) -> None:
    """Export CHECKPOINT, a directory or a hub id, to a bundle.

    Without CHECKPOINT, issai/foggen is downloaded from the hub.

    \b
    Example:
      foggen-export --quant int4
      foggen-export ./my-foggen --quant int8 -o my-bundle
      foggen-export --quant int4-mixed --budget 360
      foggen-export --quant int4 --report flips.md
      foggen-export --quant int4 --data questions.jsonl --max-flip-rate 0.02
    """
    request = Request(**options)  # type: ignore[arg-type]
    started = time.perf_counter()
    try:
        manifest = _export(request)
    except FoggenError as error:
        raise click.ClickException(printable_text(str(error))) from error
    _report(request, manifest, time.perf_counter() - started)


def _export(request: Request) -> Manifest:
    target = request.target
    for option, path in (
        ("checkpoint", Path(request.checkpoint)),
        ("output", target),
        ("adapter", request.adapter or Path()),
    ):
        check_utf8(option, path)
    settings = request.settings
    place = Place.directory(target, BUNDLE, force=request.force)
    wishes = Wishes(request.data, request.report, request.max_flip_rate, request.force)
    judging = Judging.of(wishes, target)
    if judging and settings.recipe.calibrated:
        _check_apart(judging, settings.calibration)
    if request.graph == "optimum":
        check_settings(settings, request.adapter)
    click.echo(f"{request.checkpoint} -> {target} ({request.quant})", err=True)
    path, commit = resolve_checkpoint(request.checkpoint, request.revision, _announce)
    make = _opened(request, path, Origin(request.name, commit, request.adapter))
    _clear(place.path)
    with bundle_directory(place) as directory:
        export = make(settings, directory)
        for note in export.notes:
            _announce(note)
        _write(export)
        if judging:
            _judge(judging, make, settings, directory)
    return Manifest.load(target)


def _clear(target: Path) -> None:
    """Free the space that exports which were killed still take."""
    leftovers = remove_leftovers(target)
    for path in leftovers.removed:
        _announce(f"Removed {path}, left by an export that was killed")
    for path in leftovers.kept:
        _announce(f"Warning: {path} is of another export; if none runs, remove it")


def _opened(request: Request, path: Path, origin: Origin) -> MakeExport:
    """Open the checkpoint in a directory, and return what makes exports of it."""
    if request.graph == "optimum":
        return partial(OptimumExport, OptimumCheckpoint.open(path), origin)
    source: TensorSource = Checkpoint.open(path)
    if request.adapter:
        source = MergedCheckpoint.open(source, request.adapter)
    for warning in source.warnings:
        click.echo(f"Warning: {printable_text(warning)}", err=True)
    return partial(Export, source, origin)


def _check_apart(judging: Judging, calibration: CalibrationSet) -> None:
    """Refuse to judge a recipe by questions it was made with."""
    asked = {question.question for question in judging.questions}
    if shared := len(asked.intersection(calibration.questions)):
        raise ConfigError(
            f"data: must hold no question that the recipe is calibrated on, holds {shared}"
        )


def _write(export: BundleExport) -> None:
    if export.cost:
        _announce(export.cost)
    with tqdm(total=export.step_count, unit="step", disable=None) as bar:
        for step in export.steps():
            bar.set_description(step)
            bar.update()


def _judge(judging: Judging, make: MakeExport, settings: ExportSettings, directory: Path) -> None:
    """Compare the bundle with one in fp32, which is there only that long; fp32 with itself."""
    reference_settings = replace(settings, recipe=find_recipe(REFERENCE_RECIPE))
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}.") as beside:
        reference = directory
        if settings.recipe != reference_settings.recipe:
            reference = Path(beside)
            _write(make(reference_settings, reference))
        total = 2 * len(judging.questions)
        with tqdm(total=total, desc="comparing", unit="question", disable=None) as bar:
            flips = judging.judge(reference, directory, bar.update).flips
    _announce(f"{flips.count} of {flips.total} decisions differ from fp32's ({flips.rate:.2%})")


def _announce(sentence: str) -> None:
    click.echo(sentence, err=True)


def _report(request: Request, manifest: Manifest, seconds: float) -> None:
    size = sum(info.bytes for info in manifest.files.values())
    if request.as_json:
        facts = {
            "bundle": str(request.target),
            "sha256": manifest.sha256,
            "recipe": manifest.quantization.recipe,
            "bytes": size,
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"{request.target}: {size / 1e6:.1f} MB, exported in {seconds:.1f} s")
    click.echo(f"Try: foggen ask {request.target} 'Which is larger? A) 3 B) 5'")


def run() -> None:
    """Run the command; being told to stop cleans up as an error does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    export_command()
