"""The command `foggen-export`."""

import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from foggen_exporter.request import GraphKind, HeadKind, Request
from foggen_exporter.workstation import WorkstationCommand, require_extra
from foggen_runtime.commands.command_line import (
    BundleType,
    Choice,
    exit_codes,
    interruptible,
)
from foggen_runtime.commands.terminal import note, quiet_option

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import Manifest

DEFAULT_CHECKPOINT = "issai/foggen"
# The values of `recipes.recipe`, written again because every TAB would wait for that module.
RECIPE_NAMES = ("fp32", "int8", "int8-weight", "int4", "int4-gptq", "int4-mixed")
BLOCK_SIZES = (32, 64, 128)

_EPILOG = exit_codes(
    130,
    special={
        0: "exported",
        1: "not exported: an option has a wrong value, the checkpoint cannot be used, or too "
        "many decisions differ from fp32; only a report is left behind",
        2: "wrong usage: there is no such option or choice",
        143: "stopped by SIGTERM",
    },
)


@click.command(
    cls=WorkstationCommand,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.argument("checkpoint", default=DEFAULT_CHECKPOINT, type=BundleType())
@click.option("--quant", type=Choice(RECIPE_NAMES), required=True, help="Recipe.")
@click.option(
    "--graph",
    type=Choice(get_args(GraphKind)),
    default="foggen",
    show_default=True,
    help="What builds the graph: `optimum` exports architectures that foggen does not know, into "
    "a bundle that is slower and needs more memory.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Bundle to write.")
@click.option("--name", help="The bundle's name. [default: the checkpoint's]")
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
    help="Include the KV cache of the prompt's constant part.",
)
@click.option(
    "--head",
    type=Choice(get_args(HeadKind)),
    default="full",
    show_default=True,
    help="Which tokens the model can write: with `choices`, only those of a multiple-choice "
    "reply, which takes less memory but allows only constrained decoding.",
)
@click.option(
    "--calibration",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help="Questions to calibrate int8, int4-gptq and int4-mixed on. [default: a built-in set]",
)
@click.option(
    "--block-size",
    type=int,
    metavar="|".join(map(str, BLOCK_SIZES)),
    help="How many weights share a scale, for the int4 recipes; fewer where that does not divide a "
    "matrix.  [default: 128]",
)
@click.option(
    "--symmetric",
    is_flag=True,
    help="Leave out the zero points, for the int4 recipes: ARM then uses other kernels, with "
    "other results.",
)
@click.option(
    "--budget",
    type=float,
    metavar="MB",
    help="Size of the weights' file for int4-mixed: the matrices that matter most to the "
    "decision get 8 bits until it is reached. [default: a tenth more than all in 4 bits]",
)
@click.option(
    "--loop",
    is_flag=True,
    help="Add loop.onnx: the whole decoding loop as one graph over the same weights, which "
    "onnxruntime can run from any language.",
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
    help="Compare the bundle's decisions with those of fp32, and write the result to this "
    "Markdown file and a .json next to it. This needs space for an fp32 bundle next to the "
    "output (2.4 GB for issai/foggen).",
)
@click.option(
    "--max-flip-rate",
    type=float,
    metavar="SHARE",
    help="Fail unless, with 95 % confidence, at most this share of decisions, e.g. 0.02, differs "
    "from those of fp32. Needs the same space.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help="Questions for --report and --max-flip-rate, as `foggen compare` takes them.  "
    "[default: a built-in set]",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle and report.")
@click.option("--json", "as_json", is_flag=True, help="Print the bundle's facts as JSON.")
@quiet_option
@click.version_option(package_name="foggen")
def export_command(**options: object) -> None:
    """Export CHECKPOINT (a directory, a GGUF file or a hub id) to a bundle.

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
    require_extra("foggen-export")
    # Only its tokenizers are used, so its warning about a missing PyTorch does not matter.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with interruptible(f"no bundle is written, {request.target} is unchanged"):
        from foggen_exporter.exporting import export

        started = time.perf_counter()
        manifest = export(request)
    _report(request, manifest, time.perf_counter() - started)


def _report(request: Request, manifest: "Manifest", seconds: float) -> None:
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
    note(f"Try: foggen ask {shlex.quote(str(request.target))} 'Which is larger?\nA. 3\nB. 5'")


def run() -> None:
    """Run the command; on SIGTERM, clean up as after an error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    export_command()
