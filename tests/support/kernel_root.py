"""A directory that stands for / with the files a kernel shows."""

from pathlib import Path

# A Raspberry Pi 5 and an RK3588, as their kernels write them, shortened to what is read.
PI5_CPUINFO = "".join(
    f"processor\t: {number}\nBogoMIPS\t: 108.00\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
    "lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\n"
    "CPU part\t: 0xd0b\nCPU revision\t: 1\n\n"
    for number in range(4)
)
RK3588_CPUINFO = "".join(
    f"processor\t: {number}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n"
    f"CPU part\t: {'0xd05' if number < 4 else '0xd0b'}\n\n"
    for number in range(8)
)


def write_files(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root, with the line break a kernel ends them with."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    return root
