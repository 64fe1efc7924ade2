"""What a device says of itself, read from files as kernels write them."""

import platform
from pathlib import Path

import pytest

from foggen_runtime.model.device import describe_device
from foggen_runtime.model.kernel_files import KernelFiles
from tests.support.kernel_root import PI5_CPUINFO, RK3588_CPUINFO, write_files


def test_a_raspberry_pi(tmp_path: Path) -> None:
    root = write_files(
        tmp_path,
        {
            "proc/cpuinfo": PI5_CPUINFO,
            "proc/meminfo": "MemTotal:        8255856 kB\nMemFree:           10 kB",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
            "proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-2712",
        },
    )
    device = describe_device(KernelFiles(root))
    assert device.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert device.cpu == "4x Cortex-A76"
    assert device.features == ("asimd", "asimddp", "asimdhp")
    assert device.memory_bytes == 8255856 * 1024
    assert device.system == "Debian GNU/Linux 12 (bookworm)"
    assert device.kernel == "6.6.31+rpt-rpi-2712"


def test_kinds_of_cores_are_told_apart(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": RK3588_CPUINFO}
    for number in range(8):
        kilohertz = 1800000 if number < 4 else 2400000
        files[f"sys/devices/system/cpu/cpu{number}/cpufreq/cpuinfo_max_freq"] = str(kilohertz)
    device = describe_device(KernelFiles(write_files(tmp_path, files)))
    assert device.cpu == "4x Cortex-A55 + 4x Cortex-A76"
    assert [group.max_mhz for group in device.cores] == [1800.0, 2400.0]


def test_a_core_without_a_known_name_keeps_its_numbers(tmp_path: Path) -> None:
    text = "processor : 0\nCPU implementer : 0x51\nCPU part : 0x802\n\nHardware : Qualcomm"
    device = describe_device(KernelFiles(write_files(tmp_path, {"proc/cpuinfo": text})))
    assert device.cpu == "1x implementer 0x51 part 0x802"


def test_a_device_that_shows_nothing(tmp_path: Path) -> None:
    device = describe_device(KernelFiles(tmp_path))
    assert (device.board, device.memory_bytes, device.system, device.kernel) == (None,) * 4
    assert device.cores == ()
    assert device.features == ()
    assert device.cpu == ""


@pytest.mark.skipif(platform.system() != "Linux", reason="reads Linux' files")
def test_this_machine_is_described_as_python_describes_it() -> None:
    device = describe_device()
    assert device.kernel == platform.release()
    assert device.architecture == platform.machine()
    assert sum(group.count for group in device.cores) >= 1
