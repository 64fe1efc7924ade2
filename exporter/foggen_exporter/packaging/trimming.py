"""Leaving out of wheels what a board never runs."""

import re
import struct
from collections.abc import Mapping

# By distribution: directories and files that nothing the runtime imports ever reads.
_UNUSED: Mapping[str, tuple[str, ...]] = {
    "numpy": (
        "numpy/_core/include/",
        "numpy/_core/lib/",
        "numpy/_core/_simd",
        "numpy/_pyinstaller/",
        "numpy/distutils/",
        "numpy/f2py/",
        "numpy/random/",
    ),
    "onnxruntime": (
        "onnxruntime/backend/",
        "onnxruntime/datasets/",
        # The library for C programs; the Python binding contains all of it.
        "onnxruntime/capi/libonnxruntime.so",
        "onnxruntime/quantization/",
        "onnxruntime/tools/",
        "onnxruntime/transformers/",
    ),
}
_UNUSED_NAMES = re.compile(
    r".*\.(pyi|pxd|pyx|c|cpp|h|hpp|a|lib|md|rst)"
    r"|_\w*_tests\.\S+\.so"  # numpy's compiled tests
)
_TESTS = re.compile(r"(^|/)(tests|_tests)/")
_LICENCE = re.compile(r"(licen[cs]e|copying|notice|authors|thirdpartynotices)", re.IGNORECASE)


def is_licence(name: str) -> bool:
    """Whether a file of a wheel is a licence, a notice or a list of what was built in."""
    base = name.rpartition("/")[2]
    if base.endswith((".py", ".so")):
        return False
    return bool(_LICENCE.match(base)) or ".dist-info/sboms/" in name or "/licenses/" in name


def is_needed(distribution: str, name: str) -> bool:
    """Whether a file of a wheel goes among the libraries on the board.

    Of `.dist-info` only the metadata stays: it names the version, and licences go elsewhere.
    """
    directory, _, base = name.rpartition("/")
    if directory.endswith(".dist-info") or ".dist-info/" in name:
        return base == "METADATA"
    if is_licence(name):
        return False
    if _TESTS.search(name) or _UNUSED_NAMES.fullmatch(base):
        return False
    return not name.startswith(_UNUSED.get(distribution, ()))


def without_symbols(content: bytes) -> bytes:
    """Blank what no segment of a 64-bit little-endian ELF file loads: symbols for debuggers.

    Loaders use only the program headers; sections, and the symbol table that only they name, are
    for linkers and debuggers (System V gABI, chapters 4 and 5). Anything else is returned as it is.
    """
    if content[:6] != b"\x7fELF\x02\x01":
        return content
    (program_offset,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    loaded = [(0, 64), (program_offset, program_offset + size * count)]
    for number in range(count):
        offset, file_size = struct.unpack_from(
            "<Q16xQ", content, program_offset + size * number + 8
        )
        loaded.append((offset, offset + file_size))
    kept = bytearray(max(end for _, end in loaded))
    for start, end in loaded:
        kept[start:end] = content[start:end]
    struct.pack_into("<Q", kept, 40, 0)  # e_shoff
    struct.pack_into("<HH", kept, 60, 0, 0)  # e_shnum, e_shstrndx
    return bytes(kept)
