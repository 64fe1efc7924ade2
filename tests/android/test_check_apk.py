"""The rules of `android_demo/check_apk.py`, on files made here and on one of the system's."""

import importlib.util
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "android_demo" / "check_apk.py"
SPEC = importlib.util.spec_from_file_location("check_apk", PATH)
assert SPEC is not None
assert SPEC.loader is not None
check_apk = importlib.util.module_from_spec(SPEC)
sys.modules["check_apk"] = check_apk
SPEC.loader.exec_module(check_apk)

MANIFEST = "A: networkSecurityConfig=@0x7f050000"
CONFIGURATION = """E: network-security-config (line=3)
    E: base-config (line=4)
      A: cleartextTrafficPermitted=false
    E: domain-config (line=5)
      A: cleartextTrafficPermitted=true
        E: domain (line=6)
          A: includeSubdomains=false
            T: 'localhost'
"""


def elf(*alignments: int) -> bytes:
    """Make a header of a 64-bit ELF file with LOAD segments of these alignments."""
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(alignments))
    segments = [
        struct.pack("<IIQQQQQQ", 1, 0, 0, 0, 0, 0, 0, alignment) for alignment in alignments
    ]
    return bytes(header) + b"".join(segments)


def dex(methods: int, sites: int) -> bytes:
    """Make a header and a map list of a dex file."""
    header = bytearray(112)
    header[:4] = b"dex\n"
    struct.pack_into("<I", header, 52, 112)
    struct.pack_into("<I", header, 88, methods)
    return bytes(header) + struct.pack("<IHHII", 1, 7, 0, sites, 0)


def apk(folder: Path, library: bytes, padding: int, kind: int = zipfile.ZIP_STORED) -> Path:
    """Write a ZIP file whose library lies behind an extra field of some bytes."""
    path = folder / "test.apk"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("lib/arm64-v8a/libx.so")
        info.compress_type = kind
        info.extra = struct.pack("<HH", 0xD935, padding - 4) + bytes(padding - 4)
        file.writestr(info, library)
    return path


ALIGNED = check_apk.PAGE_BYTES - 30 - len("lib/arm64-v8a/libx.so")


def test_a_library_for_large_pages_passes(tmp_path: Path) -> None:
    path = apk(tmp_path, elf(65536, 16384), ALIGNED)
    assert check_apk.check_libraries(path) == {"lib/arm64-v8a/libx.so": 16384}


@pytest.mark.parametrize(
    ("library", "padding", "kind", "message"),
    [
        (elf(16384, 4096), ALIGNED, zipfile.ZIP_STORED, "aligned to 16384, are to 4096"),
        (elf(16384), ALIGNED + 4096, zipfile.ZIP_STORED, "at a multiple of 16384, is at 20480"),
        (elf(16384), ALIGNED, zipfile.ZIP_DEFLATED, "stored uncompressed"),
        (elf(), ALIGNED, zipfile.ZIP_STORED, "must have LOAD segments"),
        (b"\x7fELF\x01\x01" + bytes(99), ALIGNED, zipfile.ZIP_STORED, "64-bit little-endian"),
    ],
)
def test_other_libraries_are_refused(
    tmp_path: Path, library: bytes, padding: int, kind: int, message: str
) -> None:
    with pytest.raises(check_apk.CheckError, match=message):
        check_apk.check_libraries(apk(tmp_path, library, padding, kind))


def test_methods_and_call_sites_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "test.apk"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("classes.dex", dex(60_000, 1))
        file.writestr("classes2.dex", dex(100, 0))
    assert check_apk.check_classes(path) == (60_100, 1)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("classes.txt", b"")
    with pytest.raises(check_apk.CheckError, match=r"must hold classes\.dex"):
        check_apk.check_classes(path)


def class_file(*constants: bytes) -> bytes:
    """Make the start of a class file with these constants."""
    count = 1 + sum(2 if constant[0] == 5 else 1 for constant in constants)
    return b"\xca\xfe\xba\xbe" + struct.pack(">HHH", 0, 52, count) + b"".join(constants)


def test_lambdas_are_refused_where_they_would_run(tmp_path: Path) -> None:
    text = b"\x01" + struct.pack(">H", 3) + b"\x12\x12\x12"
    plain = (text, b"\x05" + bytes([18] * 8), b"\x07\x00\x01")
    (tmp_path / "A.class").write_bytes(class_file(*plain))
    unused = tmp_path / "kotlin" / "streams" / "jdk8" / "StreamsKt.class"
    unused.parent.mkdir(parents=True)
    unused.write_bytes(class_file(*plain, b"\x12\x00\x00\x00\x00"))
    check_apk.check_lambdas(tmp_path)
    (tmp_path / "B.class").write_bytes(unused.read_bytes())
    with pytest.raises(check_apk.CheckError, match=r"B\.class: must make no lambdas"):
        check_apk.check_lambdas(tmp_path)


def test_plain_http_is_for_the_device_itself() -> None:
    check_apk.check_cleartext(MANIFEST, CONFIGURATION)
    for old, new in (
        ("'localhost'", "'example.com'"),
        ("includeSubdomains=false", "includeSubdomains=true"),
        ("cleartextTrafficPermitted=false", "cleartextTrafficPermitted=true"),
        ("E: base-config", "E: other-config"),
    ):
        with pytest.raises(check_apk.CheckError, match="plain HTTP"):
            check_apk.check_cleartext(MANIFEST, CONFIGURATION.replace(old, new))
    with pytest.raises(check_apk.CheckError, match="must name"):
        check_apk.check_cleartext("", CONFIGURATION)


def test_permissions_are_those_that_have_a_reason() -> None:
    lines = [f"uses-permission: name='{name}'" for name in check_apk.PERMISSIONS]
    listed = "\n".join(["package: foggen.app", *lines])
    assert check_apk.check_permissions(listed) == list(check_apk.PERMISSIONS)
    camera = "uses-permission: name='android.permission.CAMERA'"
    for other in (f"{listed}\n{camera}", "\n".join(lines[1:])):
        with pytest.raises(check_apk.CheckError, match="permissions: must be"):
            check_apk.check_permissions(other)


def test_services_may_come_to_the_foreground() -> None:
    kind = "A: android:foregroundServiceType(0x01010599)=0x"
    described = "E: property\nA: name(0x1)=" + check_apk._SPECIAL_USE_PROPERTY
    check_apk.check_services(f"E: service (line=1)\n{kind}40000001\n{described}")
    check_apk.check_services(f"E: service (line=1)\n{kind}1")
    for manifest, message in (
        ("E: service (line=1)\nA: x=1", "must name a foregroundServiceType"),
        (f"E: service (line=1)\n{kind}40000001", "must have a property"),
        (f"{described}\nE: service (line=1)\n{kind}40000001", "must have a property"),
    ):
        with pytest.raises(check_apk.CheckError, match=message):
            check_apk.check_services(manifest)


def test_a_library_that_starts_by_itself_is_refused() -> None:
    check_apk.check_providers("E: application (line=1)\nE: activity (line=2)")
    with pytest.raises(check_apk.CheckError, match=r"no provider.*telemetry"):
        check_apk.check_providers(
            'E: application\nE: provider (line=2)\nA: name="ai.onnxruntime.X"'
        )


@pytest.mark.parametrize(
    "name", ["Lai/onnxruntime/TelemetryInitializer;", "Lai/onnxruntime/telemetry/HttpClient;"]
)
def test_classes_of_the_telemetry_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "test.apk"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("classes.dex", dex(100, 0) + b"Lai/onnxruntime/OrtSession;\0")
    check_apk.check_classes(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("classes2.dex", dex(100, 0) + name.encode() + b"\0")
    with pytest.raises(check_apk.CheckError, match=r"classes2\.dex.*telemetry"):
        check_apk.check_classes(path)


def test_alignment_is_what_readelf_says() -> None:
    library = next(Path("/usr/lib").glob("*-linux-gnu/libc.so.6"), None)
    if library is None or shutil.which("readelf") is None:
        pytest.skip("needs a 64-bit glibc and binutils")
    done = subprocess.run(
        ["readelf", "--segments", "--wide", library], capture_output=True, text=True, check=True
    )
    loads = [line.split() for line in done.stdout.splitlines() if line.strip().startswith("LOAD")]
    expected = min(int(fields[-1], 16) for fields in loads)
    assert check_apk.load_alignment(library.read_bytes()) == expected
