"""Carrying out what `foggen-export` was asked for.

Everything heavy is imported here, so that --help comes without it.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.bundle.contents import BundleExport
from foggen_exporter.bundle.directory import bundle_directory, remove_leftovers
from foggen_exporter.calibration.calibration import CalibrationSet
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.judging import Judging, Wishes
from foggen_exporter.optimum_export import OptimumCheckpoint, OptimumExport, check_settings
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.request import Request
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.locating import is_gguf, resolve_checkpoint
from foggen_exporter.weights.lora import MergedCheckpoint
from foggen_runtime.bundle.bundle import BUNDLE
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.commands.terminal import is_quiet, note, warn
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import check_utf8
from foggen_runtime.placing import Place

REFERENCE_RECIPE = "fp32"

_NAME = re.compile(r"\w[\w.-]*")

MakeExport = Callable[[ExportSettings, Path], BundleExport]


def export(request: Request) -> Manifest:
    """Write the bundle, and judge it if asked to.

    Raises:
        FoggenError: It cannot be exported, or differs too much from fp32; nothing is left behind.
    """
    if request.name is not None and not _NAME.fullmatch(request.name):
        raise ConfigError(f"name: must be letters, digits, `.`, `_` and `-`, is {request.name!r}")
    target = request.target
    for option, given in (
        ("checkpoint", Path(request.checkpoint)),
        ("output", target),
        ("adapter", request.adapter or Path()),
    ):
        check_utf8(option, given)
    settings = _settings(request)
    place = Place.directory(target, BUNDLE, force=request.force)
    wishes = Wishes(request.data, request.report, request.max_flip_rate, request.force)
    judging = Judging.of(wishes, target)
    if judging and settings.recipe.calibrated:
        _check_apart(judging, settings.calibration)
    if request.graph == "optimum":
        if is_gguf(Path(request.checkpoint)):
            raise ConfigError("graph: must be foggen for a GGUF file, is optimum")
        check_settings(settings, request.adapter)
    note(f"{request.checkpoint} -> {target} ({request.quant})")
    path, commit = resolve_checkpoint(request.checkpoint, request.revision, note)
    origin = Origin(request.origin, commit, request.adapter, request.name)
    with _opened(request, path, origin) as make:
        _clear(place.path)
        _make(make, settings, place, judging)
    return Manifest.load(target)


def _make(
    make: MakeExport, settings: ExportSettings, place: Place, judging: Judging | None
) -> None:
    with bundle_directory(place) as directory:
        made = make(settings, directory)
        for sentence in made.notes:
            note(sentence)
        _write(made)
        if judging:
            _judge(judging, make, settings, directory)


def _settings(request: Request) -> ExportSettings:
    """Return what to make of the checkpoint."""
    recipe = find_recipe(request.quant).with_blocks(request.block_size, symmetric=request.symmetric)
    calibration = CalibrationSet.built_in()
    if request.calibration:
        if not recipe.calibrated:
            raise ConfigError(f"calibration: {recipe.name} needs no questions, leave it out")
        calibration = CalibrationSet.read(request.calibration)
    return ExportSettings(
        recipe=recipe,
        template=load_template(request.template),
        calibration=calibration,
        tau=request.tau,
        context_length=request.context_length,
        prefix_snapshot=request.prefix_snapshot,
        budget=None if request.budget is None else round(1e6 * request.budget),
        loop=request.loop,
        genai=request.genai,
        head=request.head,
    )


def _clear(target: Path) -> None:
    """Free the space that killed exports still take."""
    leftovers = remove_leftovers(target)
    for path in leftovers.removed:
        note(f"Removed {path}, left by an export that was killed")
    for path in leftovers.kept:
        warn(f"{path} belongs to another export; if none is running, remove it")


@contextmanager
def _opened(request: Request, path: Path, origin: Origin) -> Iterator[MakeExport]:
    """Open the checkpoint in a directory or file, and yield what plans its export."""
    if request.graph == "optimum":
        yield partial(OptimumExport, OptimumCheckpoint.open(path), origin)
        return
    with _source(path) as source:
        if request.adapter:
            source = MergedCheckpoint.open(source, request.adapter)
        for warning in source.warnings:
            warn(warning)
        yield partial(Export.of, source, origin)


def _source(path: Path) -> AbstractContextManager[TensorSource]:
    if not is_gguf(path):
        return nullcontext(Checkpoint.open(path))
    if not find_spec("gguf"):
        raise ConfigError(f"checkpoint: {path} needs gguf: pip install 'foggen[gguf]'")
    from foggen_exporter.gguf.checkpoint import opened_gguf

    return opened_gguf(path)


def _check_apart(judging: Judging, calibration: CalibrationSet) -> None:
    """Refuse to judge a recipe by questions it was calibrated on."""
    asked = {question.question for question in judging.questions}
    if shared := len(asked.intersection(calibration.questions)):
        raise ConfigError(
            f"data: must not hold questions that the recipe is calibrated on, holds {shared}"
        )


def _write(export: BundleExport) -> None:
    if cost := export.cost():
        note(cost)
    with tqdm(total=export.step_count, unit="step", disable=is_quiet() or None) as bar:
        for step in export.steps():
            bar.set_description(step)
            bar.update()


def _judge(judging: Judging, make: MakeExport, settings: ExportSettings, directory: Path) -> None:
    """Compare the bundle with one in fp32, written for the purpose; fp32 with itself."""
    reference_settings = replace(settings, recipe=find_recipe(REFERENCE_RECIPE))
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}.") as beside:
        reference = directory
        if settings.recipe != reference_settings.recipe:
            reference = Path(beside)
            _write(make(reference_settings, reference))
        total = 2 * len(judging.questions)
        hidden = is_quiet() or None
        with tqdm(total=total, desc="comparing", unit="question", disable=hidden) as bar:
            flips = judging.judge(reference, directory, bar.update).flips
    note(f"{flips.count} of {flips.total} decisions differ from fp32's ({flips.rate:.2%})")
