"""What packed weights depend on in a processor."""

import hashlib
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# The instructions, and on ARM the core's maker and model, which also decide which kernels run.
_FIELDS = ("flags", "Features", "CPU implementer", "CPU part")


def processor_id(cpuinfo: Path = _CPUINFO) -> str:
    """Return the architecture and a hash of the instructions: those of all cores, and of some.

    If the system does not list instructions, the processor's name is used instead.
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
