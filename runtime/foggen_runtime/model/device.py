"""What a device is: board, cores, instructions, memory, system.

ARM's `/proc/cpuinfo` names a core by two numbers, implementer and part. The names are from Arm's
Technical Reference Manuals (MIDR_EL1), as util-linux' `lscpu` lists them too.
"""

import platform
import re
from collections import Counter
from dataclasses import dataclass

from foggen_runtime.model.kernel_files import KernelFiles

_CPUS = "sys/devices/system/cpu"
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4B: "Cortex-A78C",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
    0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
}
_ARM = 0x41

# The instructions that decide which integer and half-precision kernels run, spelled as in cpuinfo.
_FEATURES = (
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme", "sme2"),
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
)


@dataclass(frozen=True)
class CoreGroup:
    """Processors of one kind; `max_mhz` is the highest frequency the hardware offers."""

    name: str
    count: int
    max_mhz: float | None = None


@dataclass(frozen=True)
class Device:
    """The device measured on; `features` are the instructions that decide which kernels run."""

    board: str | None
    cores: tuple[CoreGroup, ...]
    architecture: str
    features: tuple[str, ...]
    memory_bytes: int | None
    system: str | None
    kernel: str | None
    python: str

    @property
    def cpu(self) -> str:
        """The kinds of cores as one name, e.g. `4x Cortex-A76 + 4x Cortex-A55`."""
        return " + ".join(f"{group.count}x {group.name}" for group in self.cores)


def describe_device(files: KernelFiles | None = None) -> Device:
    """Describe the device this process runs on, as far as the kernel shows it."""
    files = files or KernelFiles()
    cpuinfo = files.text("proc/cpuinfo") or ""
    words = set(cpuinfo.split())
    release = re.search(r'^PRETTY_NAME="?([^"\n]*)', files.text("etc/os-release") or "", re.M)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", files.text("proc/meminfo") or "", re.M)
    return Device(
        board=_board(files),
        cores=_cores(files, cpuinfo),
        architecture=platform.machine(),
        features=tuple(name for name in _FEATURES if name in words),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        system=release[1] if release else None,
        kernel=files.text("proc/sys/kernel/osrelease"),
        python=platform.python_version(),
    )


def _board(files: KernelFiles) -> str | None:
    """Return the board's name from the device tree, or the PC's from its firmware."""
    return files.text("proc/device-tree/model") or files.text("sys/class/dmi/id/product_name")


def _cores(files: KernelFiles, cpuinfo: str) -> tuple[CoreGroup, ...]:
    """Group the processors of cpuinfo by name and highest frequency."""
    blocks = [dict(_fields(block)) for block in cpuinfo.split("\n\n")]
    kinds: Counter[tuple[str, float | None]] = Counter()
    for block in blocks:
        if number := re.fullmatch(r"\d+", block.get("processor", "")):
            kilohertz = files.number(f"{_CPUS}/cpu{number[0]}/cpufreq/cpuinfo_max_freq")
            kinds[_core_name(block), kilohertz / 1e3 if kilohertz else None] += 1
    return tuple(CoreGroup(name, count, mhz) for (name, mhz), count in kinds.items())


def _fields(block: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in block.splitlines())
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def _core_name(block: dict[str, str]) -> str:
    if name := block.get("model name"):
        return name
    try:
        implementer, part = (int(block[f"CPU {key}"], 16) for key in ("implementer", "part"))
    except (KeyError, ValueError):
        return platform.machine()
    known = _ARM_PARTS.get(part) if implementer == _ARM else None
    return known or f"implementer {implementer:#x} part {part:#x}"
