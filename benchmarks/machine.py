"""What a result was measured on, and where results are written."""

import json
import os
import platform
import re
from pathlib import Path

from benchmarks.workspace import REPOSITORY

RESULTS = REPOSITORY / "benchmarks" / "results"
# The widest of these that the processor has decides which integer kernels run.
_FEATURES = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2", "i8mm", "asimddp", "asimd")


def machine() -> dict[str, object]:
    """Describe the machine."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    memory = Path("/proc/meminfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    kilobytes = re.search(r"^MemTotal:\s*(\d+)", memory, re.MULTILINE)
    return {
        "kind": machine_kind(),
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(kilobytes[1]) * 1024 / 1e9) if kilobytes else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def machine_kind() -> str:
    """Name the kind of machine by what decides speed: architecture, kernels, cores."""
    words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    feature = next((name for name in _FEATURES if name in words), "base")
    return f"{platform.machine()}-{feature}-{os.cpu_count()}core"


def write_results(name: str, document: object, markdown: str) -> None:
    """Write a JSON document and what to read of it, side by side."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")
