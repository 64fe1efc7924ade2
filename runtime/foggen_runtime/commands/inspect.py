"""`foggen inspect`: what a bundle is."""

import dataclasses
from typing import TYPE_CHECKING

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes
from foggen_runtime.commands.outputs import json_option
from foggen_runtime.commands.terminal import terminal_width
from foggen_runtime.printing import printable_name
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import Manifest, WeightFormat
    from foggen_runtime.bundle.weight_groups import WeightGroup
    from foggen_runtime.model.prepared import Prepared

_INDENT = 16


@click.command(cls=Command, epilog=exit_codes(0, 2, 3))
@click.argument("bundle", type=BundleType())
@click.option("--verify", is_flag=True, help="Hash every file, even if that was done before.")
@json_option("the manifest as JSON")
def inspect(bundle: str, *, verify: bool, as_json: bool) -> None:
    """Describe BUNDLE (a directory or a hub id), and check its files.

    Sizes are always checked; hashes on first use or with --verify.

    \b
    Example:
      foggen inspect foggen-int4 --verify
    """
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.model.device_profile import find_device_profile, tuned_options
    from foggen_runtime.model.prepared import find_prepared
    from foggen_runtime.reports.pages import filled

    opened = Bundle.open(locate_bundle(bundle), verify=verify)
    tuned = find_device_profile(opened)
    prepared = find_prepared(opened, tuned_options(tuned), verify=verify)
    if as_json:
        here = {
            "prepared": {**dataclasses.asdict(prepared), "directory": str(prepared.directory)},
            "device_profile": tuned.to_dict() if tuned else None,
        }
        click.echo(dumps({"sha256": opened.manifest.sha256, **here, **opened.manifest.to_dict()}))
        return
    here_facts = [
        ("prepared", _readiness(prepared)),
        ("device profile", f"{tuned.chosen} ({tuned.created})" if tuned else "none"),
    ]
    for name, value in [*_facts(opened.manifest), *here_facts]:
        line = f"{printable_name(name):<{_INDENT - 1}} {printable_name(value)}"
        click.echo(filled(line, terminal_width(), " " * _INDENT))


def _readiness(prepared: "Prepared") -> str:
    if prepared.status == "none":
        return "no"
    where = f"{prepared.directory}, {prepared.bytes / 1e6:.1f} MB"
    return f"no longer: {prepared.detail} ({where})" if prepared.detail else f"yes ({where})"


def _facts(manifest: "Manifest") -> list[tuple[str, str]]:
    from foggen_runtime.bundle.weight_groups import weight_groups

    model, template = manifest.model, manifest.template
    size = sum(info.bytes for info in manifest.files.values())
    groups = weight_groups(manifest.quantization.groups)
    snapshot = manifest.prefix_snapshot
    return [
        ("model", _model(manifest)),
        ("checkpoint", _checkpoint(manifest)),
        ("recipe", f"{manifest.quantization.recipe}"),
        *((f"  {group.name}", _group(group)) for group in groups),
        ("size", f"{size / 1e6:.1f} MB in {counted(len(manifest.files), 'file')}"),
        ("context", f"{model.context_length} tokens"),
        ("levels", ", ".join(template.levels)),
        ("tau", _tau(manifest)),
        ("prompt prefix", f"{len(manifest.prompt.prefix_ids)} tokens"),
        ("prefix snapshot", snapshot.file if snapshot else "none"),
        ("output head", _head(manifest)),
        ("onnxruntime", f">= {manifest.graph.onnxruntime}"),
        ("bundle sha256", manifest.sha256),
    ]


def _model(manifest: "Manifest") -> str:
    model = manifest.model
    return f"{model.name} ({model.architecture}, {counted(model.num_hidden_layers, 'layer')})"


def _checkpoint(manifest: "Manifest") -> str:
    revision = manifest.model.revision
    name = str(manifest.provenance.get("checkpoint"))
    return f"{name}, revision {revision}" if revision else name


def _tau(manifest: "Manifest") -> str:
    calibration = manifest.routing.calibration
    if calibration is None:
        return f"{manifest.routing.tau:g} (default)"
    questions = counted(calibration.questions, "question")
    return (
        f"{calibration.tau:.4g} on {calibration.on} confidence ({calibration.target} "
        f"{calibration.limit:g}, {calibration.method}, {questions}, {calibration.date})"
    )


def _head(manifest: "Manifest") -> str:
    head = manifest.graph.head
    if head is None:
        return f"{manifest.model.vocab_size} tokens"
    return f"{len(head.token_ids)} tokens ({head.kind}): constrained decoding only"


def _group(group: "WeightGroup") -> str:
    return _format(group.form) + (f", in layers {group.layers}" if group.layers else "")


def _format(form: "WeightFormat") -> str:
    if form.block_size is not None:
        zero = "" if form.symmetric else ", zero points"
        return f"{form.bits} bits, blocks of {form.block_size}{zero}"
    if form.activation_bits is not None:
        return f"{form.bits} bits, activations {form.activation_bits} bits"
    return f"{form.bits} bits"
