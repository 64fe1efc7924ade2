"""The command `foggen-export`."""

import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
from tqdm import tqdm

from foggen_exporter.bundle_directory import bundle_directory, check_target
from foggen_exporter.calibration import CalibrationSet
from foggen_exporter.checkpoint import Checkpoint, TensorSource
from foggen_exporter.export import Export, ExportSettings, Origin
from foggen_exporter.hub import resolve_checkpoint
from foggen_exporter.judging import Judging, Wishes
from foggen_exporter.lora import MergedCheckpoint
from foggen_exporter.recipes import RECIPES, find_recipe
from foggen_exporter.template import load_template
from foggen_runtime.errors import ConfigError, FoggenError
from foggen_runtime.manifest import Manifest

DEFAULT_CHECKPOINT = "issai/foggen"
REFERENCE_RECIPE = "fp32"


@dataclass(frozen=True)
class Request:
    """The command line, as typed."""

    checkpoint: str
    revision: str | None
    adapter: Path | None
    quant: str
    output: Path | None
    template: str
    tau: float
    context_length: int
    prefix_snapshot: bool
    calibration: Path | None
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
        recipe = find_recipe(self.quant)
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
        )


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 exported, 1 not exported (nothing is left behind but a report), "
    "2 wrong usage.",
)
@click.argument("checkpoint", default=DEFAULT_CHECKPOINT)
@click.option("--quant", type=click.Choice(list(RECIPES)), required=True, help="Recipe.")
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
    "--calibration",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help="Questions that int8 and int4-gptq quantize by.  [default: a built-in set]",
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
    help="Questions for --report and --max-flip-rate, as `foggen compare` takes them.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's facts as JSON.")
@click.version_option(package_name="foggen")
def export_command(**options: object) -> None:
    """Export CHECKPOINT, a directory or a hub id, to a bundle.

    Without CHECKPOINT, issai/foggen is downloaded from the hub.

    \b
    Example:
      foggen-export --quant int4
      foggen-export ./my-foggen --quant int8 -o my-bundle
      foggen-export --quant int4 --data questions.jsonl --max-flip-rate 0.02
    """
    request = Request(**options)  # type: ignore[arg-type]
    started = time.perf_counter()
    try:
        manifest = _export(request)
    except FoggenError as error:
        raise click.ClickException(str(error)) from error
    _report(request, manifest, time.perf_counter() - started)


def _export(request: Request) -> Manifest:
    settings = request.settings
    target = request.target
    check_target(target, force=request.force)
    wishes = Wishes(request.data, request.report, request.max_flip_rate)
    judging = Judging.of(wishes, target)
    if judging and settings.recipe.calibrated:
        _check_apart(judging, settings.calibration)
    click.echo(f"{request.checkpoint} -> {target} ({request.quant})", err=True)
    path, commit = resolve_checkpoint(request.checkpoint, request.revision, _announce)
    source: TensorSource = Checkpoint.open(path)
    if request.adapter:
        source = MergedCheckpoint.open(source, request.adapter)
    for warning in source.warnings:
        click.echo(f"Warning: {warning}", err=True)
    adapter = request.adapter.resolve().name if request.adapter else None
    origin = Origin(request.name, commit, adapter)
    with bundle_directory(target) as directory:
        _write(Export(source, origin, settings, directory))
        if judging:
            _judge(judging, source, origin, settings, directory)
    return Manifest.load(target)


def _check_apart(judging: Judging, calibration: CalibrationSet) -> None:
    """Refuse to judge a recipe by questions it was made with."""
    asked = {question.question for question in judging.questions}
    if shared := len(asked.intersection(calibration.questions)):
        raise ConfigError(
            f"data: must hold no question that the recipe is calibrated on, holds {shared}"
        )


def _write(export: Export) -> None:
    with tqdm(total=export.step_count, unit="step", disable=None) as bar:
        for step in export.steps():
            bar.set_description(step)
            bar.update()


def _judge(
    judging: Judging,
    source: TensorSource,
    origin: Origin,
    settings: ExportSettings,
    directory: Path,
) -> None:
    """Compare the bundle with one in fp32, which is there only that long; fp32 with itself."""
    reference_settings = replace(settings, recipe=find_recipe(REFERENCE_RECIPE))
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}.") as beside:
        reference = directory
        if settings.recipe != reference_settings.recipe:
            reference = Path(beside)
            _write(Export(source, origin, reference_settings, reference))
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
