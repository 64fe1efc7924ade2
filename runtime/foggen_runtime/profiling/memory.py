"""A process's resident memory as Linux counts it."""

import re

from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling.samples import MemoryState


def memory_state(files: KernelFiles) -> MemoryState:
    """Return what this process holds now, from /proc/self/status and smaps_rollup.

    `anonymous_bytes` includes shared memory: neither can be dropped.
    """
    status = _kilobytes(files.text("proc/self/status"))
    rollup = _kilobytes(files.text("proc/self/smaps_rollup"))
    anonymous, shared = status.get("RssAnon"), status.get("RssShmem")
    return MemoryState(
        rss_bytes=status.get("VmRSS"),
        anonymous_bytes=None if anonymous is None else anonymous + (shared or 0),
        file_bytes=status.get("RssFile"),
        pss_bytes=rollup.get("Pss"),
        swap_bytes=status.get("VmSwap"),
    )


def peak_rss_bytes(files: KernelFiles) -> int | None:
    """Return the largest resident set of this process so far, mapped files included."""
    return _kilobytes(files.text("proc/self/status")).get("VmHWM")


def _kilobytes(text: str | None) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", text or "", re.MULTILINE)
    return {name: int(number) * 1024 for name, number in lines}
