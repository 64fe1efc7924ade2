"""An ARM64 Python with the runtime's libraries, in a directory of an x86-64 Debian machine.

Needs no root, no binfmt and no chroot: packages of Debian and wheels are downloaded and unpacked,
and qemu's user mode runs the interpreter. `python -m benchmarks.emulation.arm64_root` makes it
under `work/arm64`, 320 MB; where that is done already, nothing is downloaded or changed.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.workspace import REPOSITORY, run

_SUITE = "bookworm"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_EMULATORS = "qemu-user-static"
_PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0"),
    *("liblzma5", "libssl3", "libuuid1", "python3.11-minimal", "libpython3.11-minimal"),
    "libpython3.11-stdlib",
)
_WHEELS = (
    *("onnxruntime", "numpy", "regex", "click", "httpx", "anyio", "h11", "httpcore"),
    *("certifi", "idna", "typing_extensions"),
)
_WHEEL_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


@dataclass(frozen=True)
class Cpu:
    """What a processor tells Linux; must match what qemu executes, or kernels are misjudged.

    Attributes:
        part: Its number among ARM's designs.
        features: What `/proc/cpuinfo` lists.
    """

    part: str
    features: str


CPUS: Mapping[str, Cpu] = {
    # Has the dot product: Raspberry Pi 5, RK3588.
    "cortex-a76": Cpu(
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
    ),
    # Has none: Raspberry Pi 4.
    "cortex-a72": Cpu("0xd08", "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
}

_CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: {part}
CPU revision\t: 0

"""


@dataclass(frozen=True)
class Arm64Root:
    """The directory and what lies where in it."""

    directory: Path = REPOSITORY / "work" / "arm64"

    @property
    def qemu_aarch64(self) -> Path:
        """Runs ARM64 programs."""
        return self.directory / "qemu" / "usr" / "bin" / "qemu-aarch64-static"

    @property
    def qemu_x86_64(self) -> Path:
        """Runs x86-64 programs as another x86-64 processor would."""
        return self.qemu_aarch64.with_name("qemu-x86_64-static")

    @property
    def site(self) -> Path:
        """The unpacked wheels, for `PYTHONPATH`."""
        return self.directory / "site"

    @property
    def python(self) -> Path:
        """The ARM64 interpreter."""
        return self.directory / "root" / "usr" / "bin" / "python3.11"

    def sysroot(self, cpu: str) -> Path:
        """Where ARM64 programs find their libraries, and the processor they think they run on."""
        return self.directory / "cpus" / cpu

    @property
    def _debs(self) -> Path:
        return self.directory / "debs"

    @property
    def _wheels(self) -> Path:
        return self.directory / "wheels"

    @property
    def _stamp(self) -> Path:
        return self.directory / "made.json"

    def emulator_version(self) -> str:
        """Return e.g. `qemu 7.2.22`."""
        command = [str(self.qemu_aarch64), "--version"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return f"qemu {text.split()[2]}"

    def make(self) -> None:
        """Download what is missing and unpack it, unless that is done.

        Raises:
            RuntimeError: The machine is not x86-64, or its apt sources name no Debian mirror.
            subprocess.CalledProcessError: A download or its verification failed.
        """
        if platform.machine() != "x86_64":
            raise RuntimeError(f"the emulators are for x86_64, this is {platform.machine()}")
        pins = {name: version(name) for name in _WHEELS}
        cpus = {name: asdict(cpu) for name, cpu in CPUS.items()}
        wanted = {"suite": _SUITE, "packages": _PACKAGES, "pins": pins, "cpus": cpus}
        made = json.dumps({**wanted, "cores": os.cpu_count()}, indent=1)
        if self._stamp.exists() and self._stamp.read_text(encoding="utf-8") == made:
            return
        self._stamp.unlink(missing_ok=True)
        self._download_packages()
        self._download_wheels(pins)
        self._unpack(pins)
        for name, cpu in CPUS.items():
            self._describe(name, cpu)
        self._stamp.write_text(made, encoding="utf-8")

    def _download_packages(self) -> None:
        self._debs.mkdir(parents=True, exist_ok=True)
        wanted = {_EMULATORS: "amd64", **dict.fromkeys(_PACKAGES, "arm64")}
        missing = [
            f"{name}:{architecture}"
            for name, architecture in wanted.items()
            if not any(self._debs.glob(f"{name}_*_{architecture}.deb"))
        ]
        if missing:
            environment = {**os.environ, "APT_CONFIG": str(self._apt_configuration())}
            for words in (["update"], ["download", *missing]):
                subprocess.run(
                    ["apt-get", "--quiet", *words],
                    cwd=self._debs,
                    env=environment,
                    stdout=sys.stderr,
                    check=True,
                )

    def _apt_configuration(self) -> Path:
        """Write a configuration of apt that neither reads nor changes the machine's packages."""
        apt = self.directory / "apt"
        for name in ("state/lists/partial", "cache/archives/partial"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        (apt / "status").touch()
        line = f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n"
        (apt / "sources.list").write_text(line, encoding="utf-8")
        configuration = apt / "apt.conf"
        configuration.write_text(
            'APT::Architecture "arm64";\nAPT::Architectures { "arm64"; "amd64"; };\n'
            'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n'
            f'Dir::State "{apt}/state";\nDir::State::status "{apt}/status";\n'
            f'Dir::Cache "{apt}/cache";\nDir::Etc::sourcelist "{apt}/sources.list";\n'
            'Dir::Etc::sourceparts "/dev/null";\n',
            encoding="utf-8",
        )
        return configuration

    def _download_wheels(self, pins: Mapping[str, str]) -> None:
        missing = [
            f"{name}=={pin}"
            for name, pin in pins.items()
            if not any(self._wheels.glob(f"{name}-{pin}-*.whl"))
        ]
        if missing:
            platforms = [
                word for name in _WHEEL_PLATFORMS for word in ("--platform", f"{name}_aarch64")
            ]
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp"),
                *("--abi", "cp311", "--abi", "abi3", "--abi", "none", *platforms),
                *("--dest", self._wheels, *missing),
            )

    def _unpack(self, pins: Mapping[str, str]) -> None:
        for name in ("qemu", "root", "site", "cpus"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        emulators = self.qemu_aarch64, self.qemu_x86_64
        unpack_package(
            newest(self._debs, f"{_EMULATORS}_*_amd64.deb"),
            self.directory / "qemu",
            [f"./usr/bin/{emulator.name}" for emulator in emulators],
        )
        for name in _PACKAGES:
            unpack_package(newest(self._debs, f"{name}_*_arm64.deb"), self.directory / "root")
        for name, pin in pins.items():
            with zipfile.ZipFile(newest(self._wheels, f"{name}-{pin}-*.whl")) as wheel:
                wheel.extractall(self.site)

    def _describe(self, name: str, cpu: Cpu) -> None:
        """Link the root's directories, and beside them write what the processor is.

        Without its own `/proc/cpuinfo` the guest reads the host's, and onnxruntime crashes.
        """
        sysroot = self.sysroot(name)
        (sysroot / "proc").mkdir(parents=True)
        for part in (self.directory / "root").iterdir():
            (sysroot / part.name).symlink_to(Path("..") / ".." / "root" / part.name)
        blocks = [
            _CPUINFO.format(number=number, features=cpu.features, part=cpu.part)
            for number in range(os.cpu_count() or 1)
        ]
        (sysroot / "proc" / "cpuinfo").write_text("".join(blocks), encoding="utf-8")


def _mirror() -> str:
    """Return the mirror that the machine's own sources name for its own release."""
    command = ["apt-get", "indextargets", "--no-release-info"]
    command += ["--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for target in targets.splitlines():
        if target.startswith(f"{release} main "):
            return target.split()[2]
    raise RuntimeError(f"apt sources: must name a Debian mirror for {release!r} main, name none")


def newest(directory: Path, pattern: str) -> Path:
    """Return the last file, by time, that matches."""
    return max(directory.glob(pattern), key=lambda path: path.stat().st_mtime)


def unpack_package(package: Path, directory: Path, members: Sequence[str] = ()) -> None:
    """Unpack a Debian package, or some of its members.

    Raises:
        subprocess.CalledProcessError: The package is damaged, or lacks a member.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as files:
        words = ["tar", "-x", "-C", str(directory), *members]
        subprocess.run(words, stdin=files.stdout, check=True)
    if files.returncode:
        raise subprocess.CalledProcessError(files.returncode, command)


def main() -> None:
    """Make it where the benchmarks look for it."""
    root = Arm64Root()
    root.make()
    print(root.directory)


if __name__ == "__main__":
    main()
