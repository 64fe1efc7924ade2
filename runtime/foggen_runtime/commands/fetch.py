"""`foggen fetch`: a published bundle, over links that break."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foggen_runtime.commands.command_line import Command, exit_codes, interruptible
from foggen_runtime.commands.outputs import json_option
from foggen_runtime.commands.terminal import progress, quiet_option

if TYPE_CHECKING:
    from foggen_runtime.bundle.download import Advance
    from foggen_runtime.bundle.manifest import Manifest

_EPILOG = exit_codes(0, 2, 11, 130, special={3: "the bundle is damaged, or not the one wanted"})


@click.command(cls=Command, epilog=_EPILOG)
@click.argument("url")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Where to put it."
)
@click.option("--sha256", metavar="HASH", help="The bundle's hash; refuse any other bundle.")
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    help="Seconds to wait for a connection, and for the next bytes.",
)
@click.option(
    "--attempts", default=5, show_default=True, help="Give up after this many failures in a row."
)
@click.option("--proxy", metavar="URL", help="HTTP proxy.")
@json_option("the bundle's facts as JSON")
@quiet_option
def fetch(
    url: str,
    output: Path,
    sha256: str | None,
    *,
    timeout: float,
    attempts: int,
    proxy: str | None,
    as_json: bool,
) -> None:
    """Fetch a bundle from URL, a directory on a web server.

    If it is interrupted, run it again to continue where it stopped. The bundle appears at OUTPUT
    once all of it has arrived and every hash is right.

    \b
    Example:
      foggen fetch https://models.example/foggen-int4/ -o foggen-int4
    """
    from foggen_runtime.bundle.download import Download, DownloadOptions
    from foggen_runtime.jsonio import dumps

    options = DownloadOptions(timeout=timeout, attempts=attempts, proxy=proxy)
    download = Download(url, output, sha256, options)
    kept = f"what has arrived is kept in {download.partial}; run the same command again to continue"
    with interruptible(kept), ExitStack() as stack:

        def announce(manifest: "Manifest", missing: int) -> "Advance":
            return stack.enter_context(progress(missing, manifest.model.name))

        manifest = download.run(announce)
    size = sum(info.bytes for info in manifest.files.values())
    if as_json:
        click.echo(dumps({"bundle": str(output), "sha256": manifest.sha256, "bytes": size}))
        return
    click.echo(f"{output}: {size / 1e6:.1f} MB, bundle sha256 {manifest.sha256}")
