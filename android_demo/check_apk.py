"""Check an APK: `python3 android_demo/check_apk.py APK --aapt2 AAPT2 --json report.json`.

Native libraries must suit kernels with pages of 16 KB: uncompressed, at a multiple of 16384 in the
file, and with every LOAD segment aligned to at least that. Classes must make no lambdas at run
time, which Android does not link as the JVM does. Uses the standard library only.
"""

import argparse
import json
import re
import struct
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

PAGE_BYTES = 16384
# What the application asks for, and what for.
PERMISSIONS = {
    "android.permission.INTERNET": "bundles, and the cloud",
    "android.permission.FOREGROUND_SERVICE": "a benchmark or a delivery goes on without a screen",
    "android.permission.FOREGROUND_SERVICE_DATA_SYNC": "the delivery, from Android 14 on",
    "android.permission.FOREGROUND_SERVICE_SPECIAL_USE": "the benchmark, from Android 14 on",
    "android.permission.POST_NOTIFICATIONS": "their progress, if the user agrees",
    "android.permission.WAKE_LOCK": "the processor stays on until they end",
}
CLEARTEXT_HOSTS = {"localhost", "127.0.0.1"}
# Parts of libraries that make lambdas at run time, and that nothing here calls.
UNUSED = {
    "ai/onnxruntime/TensorInfo.class",  # toString()
    "ai/onnxruntime/providers/StringConfigProviderOptions.class",
    "ai/onnxruntime/providers/OrtCUDAProviderOptions.class",
    "ai/onnxruntime/providers/OrtTensorRTProviderOptions.class",
    "kotlin/comparisons/ComparisonsKt__ComparisonsKt.class",  # compareBy() of several, nullsFirst()
    "kotlin/streams/jdk8/StreamsKt.class",
    "kotlinx/coroutines/ThreadPoolDispatcherKt__ThreadPoolDispatcherKt.class",
    "kotlinx/coroutines/debug/AgentPremain.class",
    "kotlinx/coroutines/future/FutureKt.class",
}
_LOCAL_HEADER_BYTES = 30
_PT_LOAD = 1
_CALL_SITES = 0x0007
# Sizes of a class file's constants by tag (JVM specification, 4.4); 1 has its own length.
_CONSTANT_BYTES = {3: 5, 4: 5, 5: 9, 6: 9, 7: 3, 8: 3, 9: 5, 10: 5, 11: 5, 12: 5}
_CONSTANT_BYTES |= {15: 4, 16: 3, 17: 5, 18: 5, 19: 3, 20: 3}
_INVOKE_DYNAMIC = 18
_SERVICE_TYPE = re.compile(r"foregroundServiceType\(\w+\)=(0x[0-9a-f]+)")
# Classes of onnxruntime's AAR that send its telemetry.
_TELEMETRY = re.compile(rb"Lai/onnxruntime/[Tt]elemetry[\w/$]*;")
_SPECIAL_USE = 0x40000000
_SPECIAL_USE_PROPERTY = "android.app.PROPERTY_SPECIAL_USE_FGS_SUBTYPE"


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
        CheckError: There are no classes, or some of onnxruntime's telemetry.
    """
    with zipfile.ZipFile(file) as apk:
        files = {name: apk.read(name) for name in apk.namelist() if name.endswith(".dex")}
    if not files:
        raise CheckError("the APK must hold classes.dex")
    for name, dex in files.items():
        if found := _TELEMETRY.search(dex):
            raise CheckError(
                f"{name}: must hold none of onnxruntime's telemetry, holds {found[0].decode()}"
            )
    counts = [dex_counts(dex) for dex in files.values()]
    methods, sites = (sum(column) for column in zip(*counts, strict=True))
    return methods, sites


def makes_lambdas(code: bytes) -> bool:
    """Tell whether a class file has a call site that is linked at run time."""
    (count,) = struct.unpack_from(">H", code, 8)
    place, index = 10, 1
    while index < count:
        tag = code[place]
        if tag == _INVOKE_DYNAMIC:
            return True
        text = struct.unpack_from(">H", code, place + 1)[0] if tag == 1 else 0
        place += 3 + text if tag == 1 else _CONSTANT_BYTES[tag]
        index += 2 if tag in (5, 6) else 1
    return False


def check_lambdas(folder: Path) -> None:
    """Check the class files that were dexed.

    Raises:
        CheckError: One makes lambdas at run time, and is not among those that nothing calls.
    """
    for path in sorted(folder.rglob("*.class")):
        name = path.relative_to(folder).as_posix()
        if name not in UNUSED and makes_lambdas(path.read_bytes()):
            raise CheckError(f"{name}: must make no lambdas at run time, compile it without")


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


def check_permissions(listed: str) -> list[str]:
    """Return the permissions that `aapt2 dump permissions` lists.

    Raises:
        CheckError: They are not those of `PERMISSIONS`.
    """
    lines = listed.splitlines()
    permissions = [line.split("'")[1] for line in lines if line.startswith("uses-permission")]
    if set(permissions) != set(PERMISSIONS):
        raise CheckError(f"permissions: must be {sorted(PERMISSIONS)}, are {permissions}")
    return permissions


def check_services(manifest: str) -> None:
    """Check that Android 14 lets the services of a manifest come to the foreground.

    Raises:
        CheckError: One names no type, or is of a special use that it does not describe.
    """
    for service in manifest.split("E: service ")[1:]:
        own = service.split("E: activity ")[0]
        named = _SERVICE_TYPE.search(own)
        if named is None:
            raise CheckError("service: must name a foregroundServiceType")
        if int(named[1], 16) & _SPECIAL_USE and _SPECIAL_USE_PROPERTY not in own:
            raise CheckError(f"service: a special use must have a property {_SPECIAL_USE_PROPERTY}")


def check_providers(manifest: str) -> None:
    """Check that nothing starts before the application.

    Raises:
        CheckError: There is a provider.
    """
    if "E: provider " in manifest:
        raise CheckError(
            "the manifest must have no provider: a library's starts by itself, as the one of "
            'onnxruntime\'s telemetry does; remove it with tools:node="remove"'
        )


def dump(aapt2: list[str], *arguments: str) -> str:
    """Return what `aapt2 dump` prints."""
    done = subprocess.run([*aapt2, "dump", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def check(file: Path, aapt2: list[str]) -> Report:
    """Check everything but the signature, which `apksigner` does.

    Raises:
        CheckError: A rule is broken.
    """
    permissions = check_permissions(dump(aapt2, "permissions", str(file)))
    manifest = dump(aapt2, "xmltree", str(file), "--file", "AndroidManifest.xml")
    check_services(manifest)
    check_providers(manifest)
    check_cleartext(
        manifest, dump(aapt2, "xmltree", str(file), "--file", "res/xml/network_security.xml")
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
    parser.add_argument("--classes", type=Path, help="also check the class files that were dexed")
    arguments = parser.parse_args()
    try:
        if arguments.classes:
            check_lambdas(arguments.classes)
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
