"""How a device is doing: frequency, temperature, throttling, power and battery.

Kernel interfaces: cpufreq, thermal and power_supply of Documentation/ABI, hwmon, powercap; the
Raspberry Pi's firmware shows its throttling in `get_throttled`. A reading of exactly 0 degrees or 0
watts comes from a sensor that is off, so it is ignored.
"""

import time
from collections.abc import Iterator

from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling.samples import Battery, Conditions, Reading

_CPUS = "sys/devices/system/cpu"
_HWMON = "sys/class/hwmon"
_POWER_SUPPLY = "sys/class/power_supply"
_POWERCAP = "sys/class/powercap"
_PI_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PLAUSIBLE_C = (-55.0, 150.0)


class Sensors:
    """Reads the sensors; energy counters give the mean power since the reading before."""

    def __init__(self, files: KernelFiles | None = None) -> None:
        self._files = files or KernelFiles()
        self._energy: dict[str, tuple[float, float]] = {}

    def read(self) -> Conditions:
        """Read everything that is there."""
        return Conditions(
            frequencies_mhz=tuple(self._frequencies()),
            governors=self._governors(),
            temperatures_c=tuple(self._temperatures()),
            throttling=tuple(self._throttling()),
            power_w=(*self._power(), *self._powercap()),
            batteries=tuple(self._batteries()),
            load_average=self._load_average(),
        )

    def _frequencies(self) -> Iterator[Reading]:
        for path in self._files.glob(f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq"):
            if kilohertz := self._files.number(path):
                yield Reading(path.split("/")[-3], kilohertz / 1e3)

    def _governors(self) -> tuple[str, ...]:
        paths = self._files.glob(f"{_CPUS}/cpu[0-9]*/cpufreq/scaling_governor")
        return tuple(dict.fromkeys(name for path in paths if (name := self._files.text(path))))

    def _temperatures(self) -> Iterator[Reading]:
        for path in self._files.glob("sys/class/thermal/thermal_zone*/temp"):
            millidegrees = self._files.number(path)
            zone = path.removesuffix("/temp")
            if millidegrees and _PLAUSIBLE_C[0] < millidegrees / 1e3 < _PLAUSIBLE_C[1]:
                name = self._files.text(f"{zone}/type") or zone.split("/")[-1]
                yield Reading(name, millidegrees / 1e3)

    def _throttling(self) -> Iterator[Reading]:
        for path in self._files.glob(f"{_CPUS}/cpu[0-9]*/thermal_throttle/core_throttle_count"):
            if (count := self._files.number(path)) is not None:
                yield Reading(f"{path.split('/')[-3]} throttle count", count)
        for path in self._files.glob("sys/class/thermal/cooling_device*/cur_state"):
            device = path.removesuffix("/cur_state")
            kind = self._files.text(f"{device}/type") or ""
            state = self._files.number(path)
            if state is not None and ("cpu" in kind.lower() or kind == "Processor"):
                yield Reading(f"{device.split('/')[-1]} {kind} state", state)
        if (bits := self._files.text(_PI_FIRMWARE)) is not None:
            yield Reading("firmware get_throttled", float(int(bits, 16)))

    def _power(self) -> Iterator[Reading]:
        """Power meters, and pairs of voltage and current, e.g. the INA3221 of a Jetson."""
        for path in self._files.glob(f"{_HWMON}/hwmon*/power[0-9]*_input"):
            yield from self._reading(self._hwmon_name(path), self._files.number(path), 1e6)
        for path in self._files.glob(f"{_HWMON}/hwmon*/curr[0-9]*_input"):
            voltage_path = path.replace("/curr", "/in")
            milliamperes, millivolts = map(self._files.number, (path, voltage_path))
            if milliamperes and millivolts:
                yield from self._reading(
                    self._hwmon_name(voltage_path), milliamperes * millivolts, 1e6
                )
        for supply in self._files.glob(f"{_POWER_SUPPLY}/*"):
            yield from self._reading(supply.split("/")[-1], self._supply_power(supply), 1e6)

    def _powercap(self) -> Iterator[Reading]:
        """Mean power since the last reading, from counters of microjoules that wrap around."""
        now = time.monotonic()
        for path in self._files.glob(f"{_POWERCAP}/*/energy_uj"):
            energy = self._files.number(path)
            if energy is None:
                continue
            zone = path.removesuffix("/energy_uj")
            before, then = self._energy.get(path, (energy, now))
            self._energy[path] = energy, now
            spent = energy - before
            if spent < 0:
                spent += self._files.number(f"{zone}/max_energy_range_uj") or 0.0
            if spent > 0 and now > then:
                name = self._files.text(f"{zone}/name") or zone.split("/")[-1]
                yield Reading(name, spent / 1e6 / (now - then))

    def _supply_power(self, supply: str) -> float | None:
        """Return a battery's or supply's microwatts: `power_now`, or voltage times current."""
        if (power := self._files.number(f"{supply}/power_now")) is not None:
            return abs(power)
        volts, amperes = (
            self._files.number(f"{supply}/{name}_now") for name in ("voltage", "current")
        )
        return abs(volts * amperes) / 1e6 if volts and amperes else None

    def _batteries(self) -> Iterator[Battery]:
        for path in self._files.glob(f"{_POWER_SUPPLY}/*/type"):
            supply = path.removesuffix("/type")
            if self._files.text(path) == "Battery":
                yield Battery(
                    supply.split("/")[-1],
                    self._files.number(f"{supply}/capacity"),
                    self._files.text(f"{supply}/status"),
                )

    def _hwmon_name(self, path: str) -> str:
        chip, _, channel = path.rpartition("/")
        label = self._files.text(f"{chip}/{channel.replace('_input', '_label')}")
        name = self._files.text(f"{chip}/name") or chip.split("/")[-1]
        return f"{name} {label or channel.removesuffix('_input')}"

    def _load_average(self) -> float | None:
        words = (self._files.text("proc/loadavg") or "").split()
        return float(words[0]) if words else None

    @staticmethod
    def _reading(name: str, value: float | None, scale: float) -> Iterator[Reading]:
        if value:
            yield Reading(name, value / scale)
