"""What a processor can do, as far as packed weights depend on it."""

import hashlib
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Instructions, and on ARM the core's maker and model, which choose kernels too.
_FIELDS = ("flags", "Features", "CPU implementer", "CPU part")


def processor_id(cpuinfo: Path = _CPUINFO) -> str:
    """Return the architecture and a hash of the instructions that all and some cores have.

    Where the system does not list instructions, the processor's name stands for them.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    described = {
        (name.strip(), " ".join(sorted(value.split())))
        for name, _, value in pairs
        if name.strip() in _FIELDS
    }
    text = repr(sorted(described) or platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
