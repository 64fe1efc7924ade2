"""Sensors, from files as kernels write them; what hides is absent, never 0."""

from pathlib import Path

import pytest

from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling.samples import Battery, Conditions, Reading
from foggen_runtime.profiling.sensors import Sensors
from tests.support.kernel_root import write_files

CPU = "sys/devices/system/cpu"


def read(root: Path, files: dict[str, str]) -> Conditions:
    return Sensors(KernelFiles(write_files(root, files))).read()


def test_frequencies_are_in_megahertz_and_governors_named_once(tmp_path: Path) -> None:
    files = {}
    for number, kilohertz in enumerate((1500000, 2400000)):
        files[f"{CPU}/cpu{number}/cpufreq/scaling_cur_freq"] = str(kilohertz)
        files[f"{CPU}/cpu{number}/cpufreq/scaling_governor"] = "ondemand"
    conditions = read(tmp_path, files)
    assert conditions.frequencies_mhz == (Reading("cpu0", 1500.0), Reading("cpu1", 2400.0))
    assert conditions.governors == ("ondemand",)


def test_temperatures_by_zone(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone"
    conditions = read(
        tmp_path,
        {
            f"{zone}0/type": "cpu-thermal",
            f"{zone}0/temp": "61850",
            f"{zone}1/temp": "-4000",
            f"{zone}2/temp": "0",  # a sensor that is off
            f"{zone}3/temp": "-274000",  # and another way to say so
            f"{zone}4/type": "gpu-thermal",
        },
    )
    assert conditions.temperatures_c == (
        Reading("cpu-thermal", 61.85),
        Reading("thermal_zone1", -4.0),
    )


def test_throttling_counts_and_states_may_be_zero(tmp_path: Path) -> None:
    cooling = "sys/class/thermal/cooling_device"
    conditions = read(
        tmp_path,
        {
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "0",
            f"{cooling}0/type": "cpufreq-cpu0",
            f"{cooling}0/cur_state": "3",
            f"{cooling}1/type": "pwm-fan",
            f"{cooling}1/cur_state": "2",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
        },
    )
    assert conditions.throttling == (
        Reading("cpu0 throttle count", 0.0),
        Reading("cooling_device0 cpufreq-cpu0 state", 3.0),
        Reading("firmware get_throttled", float(0x50005)),
    )


def test_power_from_meters_rails_and_supplies(tmp_path: Path) -> None:
    conditions = read(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/name": "meter",
            "sys/class/hwmon/hwmon0/power1_input": "4500000",
            "sys/class/hwmon/hwmon1/name": "ina3221",
            "sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
            "sys/class/hwmon/hwmon1/in1_input": "5000",
            "sys/class/hwmon/hwmon1/curr1_input": "1200",
            "sys/class/hwmon/hwmon1/in2_input": "5000",
            "sys/class/hwmon/hwmon1/curr2_input": "0",
            "sys/class/power_supply/battery/type": "Battery",
            "sys/class/power_supply/battery/capacity": "81",
            "sys/class/power_supply/battery/status": "Discharging",
            "sys/class/power_supply/battery/voltage_now": "4000000",
            "sys/class/power_supply/battery/current_now": "-500000",
            "sys/class/power_supply/usb/type": "USB",
        },
    )
    assert conditions.power_w == (
        Reading("meter power1", 4.5),
        Reading("ina3221 VDD_IN", 6.0),
        Reading("battery", 2.0),
    )
    assert conditions.batteries == (Battery("battery", 81.0, "Discharging"),)


def test_energy_counters_become_power_between_two_readings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    files = {f"{zone}/name": "package-0", f"{zone}/max_energy_range_uj": "100000000"}
    sensors = Sensors(KernelFiles(tmp_path))
    readings = []
    for moment, energy in ((10.0, 90_000_000), (12.0, 98_000_000), (14.0, 4_000_000)):
        write_files(tmp_path, {**files, f"{zone}/energy_uj": str(energy)})
        monkeypatch.setattr("time.monotonic", lambda moment=moment: moment)
        readings.append(sensors.read().power_w)
    # The last counter has wrapped around: 2 J to the end of its range, and 4 J after it.
    assert readings == [(), (Reading("package-0", 4.0),), (Reading("package-0", 3.0),)]


def test_a_machine_that_hides_its_sensors(tmp_path: Path) -> None:
    assert Sensors(KernelFiles(tmp_path)).read() == Conditions()


@pytest.mark.parametrize("text", ["", "n/a", "<unsupported>", "0"])
def test_a_sensor_that_says_nothing_counts_as_none(tmp_path: Path, text: str) -> None:
    conditions = read(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": text,
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": text,
            "sys/class/hwmon/hwmon0/power1_input": text,
            "sys/class/power_supply/ac/power_now": text,
            "sys/class/powercap/intel-rapl:0/energy_uj": text,
        },
    )
    assert conditions == Conditions()
