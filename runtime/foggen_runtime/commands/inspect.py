"""`foggen inspect`: what a bundle is."""

import click

from foggen_runtime.bundle import Bundle
from foggen_runtime.hub import locate_bundle
from foggen_runtime.jsonio import dumps
from foggen_runtime.manifest import Manifest, WeightFormat


@click.command()
@click.argument("bundle")
@click.option("--verify", is_flag=True, help="Hash every file, not only on first use.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def inspect(bundle: str, *, verify: bool, as_json: bool) -> None:
    """Show what BUNDLE, a directory or a hub id, is, and check its files.

    Sizes are always checked, hashes on first use or with --verify. Exit code 3 when something is
    missing or altered.

    \b
    Example:
      foggen inspect foggen-int4 --verify
    """
    opened = Bundle.open(locate_bundle(bundle), verify=verify)
    if as_json:
        click.echo(dumps({"sha256": opened.manifest.sha256, **opened.manifest.to_dict()}))
        return
    for name, value in _facts(opened.manifest):
        click.echo(f"{name:<16} {value}")


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    model, template = manifest.model, manifest.template
    size = sum(info.bytes for info in manifest.files.values())
    groups = manifest.quantization.groups.items()
    snapshot = manifest.prefix_snapshot
    return [
        ("model", f"{model.name} ({model.architecture}, {model.num_hidden_layers} layers)"),
        ("checkpoint", f"{manifest.provenance.get('checkpoint')}, revision {model.revision}"),
        ("recipe", f"{manifest.quantization.recipe}"),
        *((f"  {group}", _format(form)) for group, form in groups),
        ("size", f"{size / 1e6:.1f} MB in {len(manifest.files)} files"),
        ("context", f"{model.context_length} tokens"),
        ("levels", ", ".join(template.levels)),
        ("tau", f"{manifest.routing.tau:g}{'' if manifest.routing.calibration else ' (default)'}"),
        ("prompt prefix", f"{len(manifest.prompt.prefix_ids)} tokens"),
        ("prefix snapshot", snapshot.file if snapshot else "none"),
        ("onnxruntime", f">= {manifest.graph.onnxruntime}"),
        ("bundle sha256", manifest.sha256),
    ]


def _format(form: WeightFormat) -> str:
    if form.block_size is not None:
        return f"{form.bits} bits, blocks of {form.block_size}"
    if form.activation_bits is not None:
        return f"{form.bits} bits, activations {form.activation_bits} bits"
    return f"{form.bits} bits"
