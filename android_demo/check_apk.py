"""Check an APK: `python3 android_demo/check_apk.py APK --aapt2 AAPT2 --json report.json`.

Native libraries must suit kernels with pages of 16 KB: uncompressed, at a multiple of 16384 in the
file, and with every LOAD segment aligned to at least that. Classes must need no call sites, which
Android does not resolve as the JVM does. Uses the standard library only.
"""

import argparse
import json
import struct
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

PAGE_BYTES = 16384
PERMISSIONS = {"android.permission.INTERNET"}
CLEARTEXT_HOSTS = {"localhost", "127.0.0.1"}
# TensorInfo.toString() of onnxruntime makes a lambda; nothing here calls it.
TOLERATED_CALL_SITES = 1
_LOCAL_HEADER_BYTES = 30
_PT_LOAD = 1
_CALL_SITES = 0x0007


class CheckError(Exception):
    """A rule that the APK breaks."""


@dataclass
class Report:
    """What the APK is made of.

    Attributes:
        bytes: Size of the file.
        methods: Method references of all its dex files.
        call_sites: Places that make a lambda at run time.
        permissions: What it asks the user or the system for.
        libraries: Native libraries by path, with the least alignment of their LOAD segments.
    """

    bytes: int
    methods: int
    call_sites: int
    permissions: list[str]
    libraries: dict[str, int]


def load_alignment(elf: bytes) -> int:
    """Return the least alignment of a 64-bit little-endian ELF file's LOAD segments, in bytes.

    Raises:
        CheckError: It is of another kind.
    """
    if elf[:6] != b"\x7fELF\x02\x01":
        raise CheckError("a native library must be a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    alignments = []
    for place in range(table, table + size * count, size):
        (kind,) = struct.unpack_from("<I", elf, place)
        if kind == _PT_LOAD:
            alignments.append(struct.unpack_from("<Q", elf, place + 48)[0])
    if not alignments:
        raise CheckError("a native library must have LOAD segments")
    return int(min(alignments))


def dex_counts(dex: bytes) -> tuple[int, int]:
    """Return how many method references and call sites a dex file has (its header and map list)."""
    if dex[:4] != b"dex\n":
        raise CheckError("a dex file must begin with its magic number")
    (methods,) = struct.unpack_from("<I", dex, 88)
    (place,) = struct.unpack_from("<I", dex, 52)
    (entries,) = struct.unpack_from("<I", dex, place)
    sites = 0
    for index in range(entries):
        kind, _, size, _ = struct.unpack_from("<HHII", dex, place + 4 + 12 * index)
        if kind == _CALL_SITES:
            sites = size
    return methods, sites


def data_offset(file: Path, info: zipfile.ZipInfo) -> int:
    """Return where an entry's data begins in the file."""
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        name, extra = struct.unpack_from("<HH", stream.read(_LOCAL_HEADER_BYTES), 26)
    return int(info.header_offset + _LOCAL_HEADER_BYTES + name + extra)


def check_libraries(file: Path) -> dict[str, int]:
    """Return each native library's alignment.

    Raises:
        CheckError: One does not suit pages of 16 KB.
    """
    found = {}
    with zipfile.ZipFile(file) as apk:
        for info in apk.infolist():
            if not info.filename.endswith(".so"):
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise CheckError(f"{info.filename}: must be stored uncompressed")
            offset = data_offset(file, info)
            if offset % PAGE_BYTES:
                raise CheckError(
                    f"{info.filename}: must lie at a multiple of {PAGE_BYTES}, is at {offset}"
                )
            found[info.filename] = load_alignment(apk.read(info))
            if found[info.filename] < PAGE_BYTES:
                raise CheckError(
                    f"{info.filename}: LOAD segments must be aligned to {PAGE_BYTES}, "
                    f"are to {found[info.filename]}"
                )
    return found


def check_classes(file: Path) -> tuple[int, int]:
    """Return the method references and call sites of all dex files.

    Raises:
        CheckError: There are no classes, or too many call sites.
    """
    with zipfile.ZipFile(file) as apk:
        names = [name for name in apk.namelist() if name.endswith(".dex")]
        counts = [dex_counts(apk.read(name)) for name in names]
    if not counts:
        raise CheckError("the APK must hold classes.dex")
    methods, sites = (sum(column) for column in zip(*counts, strict=True))
    if sites > TOLERATED_CALL_SITES:
        raise CheckError(
            f"classes: must have at most {TOLERATED_CALL_SITES} call sites, have {sites}"
        )
    return methods, sites


def check_cleartext(manifest: str, configuration: str) -> None:
    """Check who may be asked by plain HTTP, in the XML as `aapt2 dump xmltree` shows it.

    Args:
        manifest: The manifest.
        configuration: Its network security configuration.

    Raises:
        CheckError: Others than the device itself.
    """
    if "networkSecurityConfig" not in manifest:
        raise CheckError("the manifest must name a network security configuration")
    lines = [line.strip() for line in configuration.splitlines()]
    hosts = {line.split("'")[1] for line in lines if line.startswith("T: '")}
    bases = [lines[at + 1] for at, line in enumerate(lines) if line.startswith("E: base-config")]
    if (
        bases != ["A: cleartextTrafficPermitted=false"]
        or not hosts <= CLEARTEXT_HOSTS
        or "A: includeSubdomains=true" in lines
    ):
        raise CheckError(f"plain HTTP: must be for {sorted(CLEARTEXT_HOSTS)}, is {configuration}")


def dump(aapt2: list[str], *arguments: str) -> str:
    """Return what `aapt2 dump` prints."""
    done = subprocess.run([*aapt2, "dump", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def check(file: Path, aapt2: list[str]) -> Report:
    """Check everything but the signature, which `apksigner` does.

    Raises:
        CheckError: A rule is broken.
    """
    lines = dump(aapt2, "permissions", str(file)).splitlines()
    permissions = [line.split("'")[1] for line in lines if line.startswith("uses-permission")]
    if set(permissions) != PERMISSIONS:
        raise CheckError(f"permissions: must be {sorted(PERMISSIONS)}, are {permissions}")
    check_cleartext(
        dump(aapt2, "xmltree", str(file), "--file", "AndroidManifest.xml"),
        dump(aapt2, "xmltree", str(file), "--file", "res/xml/network_security.xml"),
    )
    libraries = check_libraries(file)
    methods, sites = check_classes(file)
    return Report(file.stat().st_size, methods, sites, permissions, libraries)


def main() -> int:
    """Print the report, or what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apk", type=Path)
    parser.add_argument(
        "--aapt2", default="aapt2", help="the program, with words before it if need be"
    )
    parser.add_argument("--json", type=Path, help="also write the report here")
    arguments = parser.parse_args()
    try:
        report = check(arguments.apk, arguments.aapt2.split())
    except CheckError as error:
        print(f"{arguments.apk}: {error}", file=sys.stderr)
        return 1
    text = json.dumps(asdict(report), indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
