"""The two layouts a bundle takes on its way to Android: an asset pack for Play, and `adb push`."""

import importlib.resources
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from foggen_exporter.packaging.listed_files import ListedFile, bundle_contents
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.errors import ConfigError
from foggen_runtime.placing import Kind

FORMAT_VERSION = 1
PACK_NAME = "foggen_bundle"
_FACTS_FILE = "package.json"
_ASSET_PACK, _ADB_PUSH = "asset-pack", "adb-push"
DELIVERIES = ("install-time", "fast-follow", "on-demand")

# Compressed download size of one asset pack, Google Play's limit:
# https://support.google.com/googleplay/android-developer/answer/9859372
_PACK_LIMIT_BYTES = 1_500_000_000
# What aapt and aapt2 by default leave out of assets or (.gz) unpack and rename.
_LOST_AS_ASSET = re.compile(
    r"(^|/)\.|(^|/)_[^/]*/|~$|\.(gz|scc)$|(^|/)(CVS|thumbs\.db|picasa\.ini)$"
)


def _contents(directory: Path) -> set[str] | None:
    """Return what the layouts consist of; None if a directory holds something else."""
    try:
        facts = json.loads((directory / _FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(facts, dict) or facts.get("target") != "android":
        return None
    return {_FACTS_FILE, _ASSET_PACK, _ADB_PUSH}


LAYOUTS = Kind("package for android", _contents)


def check_assets(bundle: Bundle) -> None:
    """Refuse a bundle that would not survive as an asset pack.

    Raises:
        ConfigError: It is too large, or a file has a name that the packager drops.
    """
    size = sum(info.bytes for info in bundle.manifest.files.values())
    if size > _PACK_LIMIT_BYTES:
        raise ConfigError(
            f"bundle: must have at most {_PACK_LIMIT_BYTES} bytes to fit an asset pack, "
            f"has {size}; choose int8 or int4"
        )
    for name in bundle.manifest.files:
        if _LOST_AS_ASSET.search(name):
            raise ConfigError(f"bundle: Android's packager would drop or rename {name!r}")


def write_layouts(
    bundle: Bundle, directory: Path, delivery: str, advance: Callable[[int], object]
) -> None:
    """Fill an empty directory with both layouts; their equal files are hard links where possible.

    Args:
        bundle: What to lay out.
        directory: Where.
        delivery: One of `DELIVERIES`.
        advance: Called with a number of bytes written.

    Raises:
        OSError: It cannot be written.
        ConfigError: A file is not the one that was checked.
    """
    manifest = bundle.manifest
    assets = directory / _ASSET_PACK / PACK_NAME / "src" / "main" / "assets" / "foggen"
    pushed = directory / _ADB_PUSH / "bundle"
    for name, content in bundle_contents(bundle).items():
        for place in (assets, pushed):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
        _write(content, assets / name)
        _link(assets / name, pushed / name)
        advance((assets / name).stat().st_size)
    values = {"PACK": PACK_NAME, "DELIVERY": delivery, "ID": manifest.sha256[:12]}
    _render("build.gradle.kts", directory / _ASSET_PACK / PACK_NAME, values)
    script = _render("push.sh", directory / _ADB_PUSH, values)
    readable = script.stat().st_mode
    script.chmod(readable | (readable & 0o444) >> 2)  # whoever may read it may run it
    sums = [f"{info.sha256}  {name}\n" for name, info in sorted(manifest.files.items())]
    (directory / _ADB_PUSH / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    facts = {
        "format_version": FORMAT_VERSION,
        "target": "android",
        "asset_pack": {"name": PACK_NAME, "delivery": delivery, "directory": "foggen"},
        "bundle": {
            "name": manifest.model.name,
            "recipe": manifest.quantization.recipe,
            "sha256": manifest.sha256,
        },
    }
    (directory / _FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _write(content: bytes | ListedFile, target: Path) -> None:
    if isinstance(content, bytes):
        target.write_bytes(content)
        return
    with content.open() as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _render(name: str, directory: Path, values: Mapping[str, str]) -> Path:
    template = importlib.resources.files(__package__).joinpath("templates", "phone", name)
    text = template.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path
