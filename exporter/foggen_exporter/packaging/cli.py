"""The command `foggen-package`."""

import json
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foggen_exporter.workstation import WorkstationCommand, require_extra
from foggen_runtime.commands.command_line import BundleType, Choice, exit_codes, interruptible
from foggen_runtime.commands.terminal import is_quiet, note, quiet_option
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.bundle.bundle import Bundle

ANDROID = "android"
# The values of `targets.TARGETS` and `android.DELIVERIES`, written again because those modules need
# the extra.
LINUX = ("linux-arm64", "linux-x64")
DELIVERIES = ("install-time", "fast-follow", "on-demand")
DEFAULT_PYTHONS = "3.11,3.12,3.13"
DEFAULT_DELIVERY = "fast-follow"
_ARCHIVE_SUFFIX = ".tar.xz"


@dataclass(frozen=True)
class Request:
    """The command line, as typed."""

    bundle: str
    target: str
    output: Path
    pythons: str | None
    with_model: bool
    split: str | None
    constraint: Path | None
    cache: Path | None
    delivery: str | None
    force: bool
    as_json: bool

    def check(self) -> None:
        """Refuse options that contradict each other, before anything is downloaded.

        Raises:
            ConfigError: An option does not suit the target.
        """
        linux_only = {
            "python": self.pythons,
            "without-model": None if self.with_model else True,
            "split": self.split,
            "constraint": self.constraint,
            "cache": self.cache,
        }
        wrong = linux_only if self.target == ANDROID else {"delivery": self.delivery}
        for name, value in wrong.items():
            if value is not None:
                raise ConfigError(f"{name}: must be left out for --target {self.target}")
        if self.target != ANDROID and not self.output.name.endswith(_ARCHIVE_SUFFIX):
            raise ConfigError(f"output: must end in {_ARCHIVE_SUFFIX}, is {self.output}")


_EPILOG = exit_codes(
    130,
    special={
        0: "packaged",
        1: "not packaged: options contradict each other, or the bundle or a library cannot be "
        "used; nothing is left behind",
        2: "wrong usage: there is no such option or choice",
        143: "stopped by SIGTERM",
    },
)


@click.command(
    cls=WorkstationCommand,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.argument("bundle", type=BundleType())
@click.option(
    "--target", type=Choice([*LINUX, ANDROID]), required=True, help="What to package for."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Archive to write (.tar.xz); for android, a directory.",
)
@click.option(
    "--python",
    "pythons",
    metavar="VERSIONS",
    help=f"Versions of Python it should run on.  [default: {DEFAULT_PYTHONS}]",
)
@click.option(
    "--without-model",
    "with_model",
    flag_value=False,
    default=True,
    help="Leave the model out; the board gets it with `foggen fetch`.",
)
@click.option("--split", metavar="SIZE", help="Write parts of at most this size, e.g. 50MB.")
@click.option(
    "--constraint",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Versions of libraries, as a constraints file for pip. [default: those installed here]",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep downloaded wheels there.  [default: ~/.cache/foggen/wheels]",
)
@click.option(
    "--delivery",
    type=Choice(DELIVERIES),
    help=f"When Play delivers the asset pack (android).  [default: {DEFAULT_DELIVERY}]",
)
@click.option("--force", is_flag=True, help="Replace an existing package.")
@click.option("--json", "as_json", is_flag=True, help="Print the package's facts as JSON.")
@quiet_option
@click.version_option(package_name="foggen")
def package_command(**options: object) -> None:
    """Package BUNDLE (a directory or a hub id) for boards or phones.

    For Linux: the runtime, its libraries as pip finds them, the bundle and an installer that needs
    neither network nor root. For Android: an asset pack and a layout for `adb push`. The same input
    gives the same bytes.

    \b
    Example:
      foggen-package foggen-int4 --target linux-arm64 -o foggen-arm64.tar.xz
      foggen-package foggen-int4 --target linux-arm64 --split 50MB -o foggen-arm64.tar.xz
      foggen-package foggen-int4 --target android -o foggen-android
    """
    request = Request(**options)  # type: ignore[arg-type]
    require_extra("foggen-package")
    started = time.perf_counter()
    request.check()
    with interruptible(f"no package is written, {request.output} is unchanged"):
        facts = _android(request) if request.target == ANDROID else _linux(request)
    _report(request, facts, started)


def _opened(request: Request) -> "Bundle":
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle

    return Bundle.open(locate_bundle(request.bundle), verify=True)


def _linux(request: Request) -> dict[str, object]:
    from tqdm import tqdm

    from foggen_exporter.packaging.archive import ArchivePlace, parse_size, write_archive
    from foggen_exporter.packaging.board import BoardPackage
    from foggen_exporter.packaging.libraries import Pip
    from foggen_exporter.packaging.targets import TARGETS, parse_pythons
    from foggen_runtime.files import sha256_file

    place = ArchivePlace.of(request.output, force=request.force)
    target = TARGETS[request.target]
    pythons = parse_pythons(request.pythons or DEFAULT_PYTHONS)
    part_bytes = parse_size(request.split) if request.split else None
    bundle = _opened(request)
    cache = request.cache or Path.home() / ".cache" / "foggen" / "wheels"
    resolution = Pip(target, cache, request.constraint, note).resolve(pythons)
    package = BoardPackage(target, pythons, resolution, bundle, request.with_model)
    entries = package.entries()
    total = sum(entry.size for entry in entries)
    hidden = is_quiet() or None
    with tqdm(total=total, desc="compressing", unit="B", unit_scale=True, disable=hidden) as bar:
        paths = write_archive(place, entries, part_bytes, bar.update)
    return {
        "package": str(request.output),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths
        },
        "pythons": list(pythons),
        "glibc": package.glibc,
        "bundle_sha256": bundle.manifest.sha256,
    }


def _android(request: Request) -> dict[str, object]:
    from tqdm import tqdm

    from foggen_exporter.packaging.android import LAYOUTS, check_assets, write_layouts
    from foggen_exporter.packaging.archive import partial_files
    from foggen_runtime.placing import Place

    place = Place.directory(request.output, LAYOUTS, force=request.force)
    bundle = _opened(request)
    check_assets(bundle)
    delivery = request.delivery or DEFAULT_DELIVERY
    total = sum(info.bytes for info in bundle.manifest.files.values())
    with (
        partial_files(place.path) as partial,
        tqdm(
            total=total, desc="copying", unit="B", unit_scale=True, disable=is_quiet() or None
        ) as bar,
    ):
        layouts = partial / "layouts"
        layouts.mkdir()
        write_layouts(bundle, layouts, delivery, bar.update)
        place.put(layouts)
    return {
        "package": str(request.output),
        "delivery": delivery,
        "bundle_sha256": bundle.manifest.sha256,
    }


def _report(request: Request, facts: dict[str, object], started: float) -> None:
    seconds = round(time.perf_counter() - started, 3)
    if request.as_json:
        click.echo(json.dumps({**facts, "target": request.target, "seconds": seconds}))
        return
    if request.target == ANDROID:
        click.echo(f"{request.output}: packaged for {request.target} in {seconds:.1f} s")
        note(f"Asset pack: {request.output}/asset-pack; by cable: {request.output}/adb-push")
        return
    files = facts["files"]
    assert isinstance(files, dict)
    size = sum(info["bytes"] for info in files.values())
    click.echo(
        f"{request.output}: {size / 1e6:.1f} MB, packaged for {request.target} in {seconds:.1f} s"
    )
    name = shlex.quote(request.output.name)
    unpack = f"cat {name}.[0-9]* | tar xJ" if request.split else f"tar xf {name}"
    note(f"On the board: {unpack} && foggen-*/install.sh")


def run() -> None:
    """Run the command; on SIGTERM, clean up as after an error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    package_command()
