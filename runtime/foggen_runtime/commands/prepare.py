"""`foggen prepare`: pack a bundle's weights for this device, once."""

import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes, interruptible
from foggen_runtime.commands.outputs import json_option
from foggen_runtime.commands.terminal import note, quiet_option


@click.command("prepare", cls=Command, epilog=exit_codes(0, 2, 3, 130))
@click.argument("bundle", type=BundleType())
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to write the prepared model, or remove it from.  [default: BUNDLE.prepared]",
)
@click.option(
    "--kleidiai/--no-kleidiai",
    default=None,
    help="Prepare for ARM's KleidiAI kernels.  [default: as tuned, else kleidiai]",
)
@click.option("--remove", is_flag=True, help="Remove the prepared model and free its space.")
@json_option("what was done as JSON")
@quiet_option
def prepare_command(
    bundle: str, *, output: Path | None, kleidiai: bool | None, remove: bool, as_json: bool
) -> None:
    """Pack the weights of BUNDLE (a directory or a hub id) for this device's processor.

    Later starts map the packed weights from disk: they are faster, and the system can take the
    memory back. The bundle itself stays as it is. The prepared model is used as long as
    onnxruntime, the processor and the bundle stay the same; after a change, prepare again.

    \b
    Example:
      foggen prepare foggen-int4
      foggen prepare foggen-int4 --remove
    """
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.model.device_profile import load_device_profile
    from foggen_runtime.model.prepared import prepared_directory
    from foggen_runtime.model.preparing import check_space, needed_bytes, prepare, remove_prepared

    opened = Bundle.open(locate_bundle(bundle))
    directory = output or prepared_directory(opened)
    if remove:
        _say(remove_prepared(opened, directory), directory, as_json)
        return
    check_space(opened, directory)
    needed = needed_bytes(opened) / 1e6
    note(f"Needs about {needed:.0f} MB of disk for {directory}")
    options = load_device_profile(opened)
    if kleidiai is not None:
        options = replace(options, kleidiai=kleidiai)
    started = time.perf_counter()
    with interruptible(f"{directory} is unchanged"):
        prepared = prepare(opened, options, directory)
    seconds = time.perf_counter() - started
    if as_json:
        facts = {**asdict(prepared), "directory": str(prepared.directory)}
        click.echo(dumps({**facts, "seconds": round(seconds, 3)}))
        return
    click.echo(f"{directory}: {prepared.bytes / 1e6:.1f} MB, prepared in {seconds:.1f} s")


def _say(freed: int, directory: Path, as_json: bool) -> None:
    from foggen_runtime.jsonio import dumps

    if as_json:
        click.echo(dumps({"directory": str(directory), "removed_bytes": freed}))
    elif freed:
        click.echo(f"{directory}: removed, {freed / 1e6:.1f} MB")
    else:
        click.echo(f"{directory}: nothing was prepared")
