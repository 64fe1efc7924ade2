"""What tuning found out about a bundle on a device: a file next to the bundle, not part of it.

It is valid for one processor, one onnxruntime and one bundle, and is ignored anywhere else, so it
may be copied along with a bundle.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE, MAX_MANIFEST_BYTES
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import lies_inside, read_small_text, write_text_atomically
from foggen_runtime.jsonio import FieldError, dumps, from_json, parse_json, shown
from foggen_runtime.model.device import describe_device
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.model.versions import onnxruntime_version

if TYPE_CHECKING:
    from foggen_runtime.model.engine import EngineOptions

DEVICE_PROFILE_VERSION = 1
_MAX_THREADS = 1024


@dataclass(frozen=True)
class DeviceKey:
    """What a device profile is valid for."""

    cpu: str
    onnxruntime: str
    bundle_sha256: str


@dataclass(frozen=True)
class Candidate:
    """One way to use the device; `threads` is null for as many as there are big cores."""

    threads: int | None
    spinning: bool
    kleidiai: bool

    def __post_init__(self) -> None:
        # The profile may have come with a bundle from elsewhere, so its values are not trusted.
        if self.threads is not None and not 1 <= self.threads <= _MAX_THREADS:
            raise ValueError(
                f"threads: must be within [1, {_MAX_THREADS}], is {shown(self.threads)}"
            )

    def __str__(self) -> str:
        spinning, kleidiai = ("on" if flag else "off" for flag in (self.spinning, self.kleidiai))
        return f"threads {self.threads or 'by default'}, spinning {spinning}, KleidiAI {kleidiai}"


@dataclass(frozen=True)
class Trial:
    """How long a candidate took.

    Attributes:
        decision_ms: Median of `processes_ms`.
        processes_ms: Each process's median time to decision.
        changed_confidences: How many questions got another confidence than from the first
            candidate.
    """

    candidate: Candidate
    decision_ms: float
    processes_ms: tuple[float, ...]
    changed_confidences: int


@dataclass(frozen=True)
class DeviceProfile:
    """The best way found to run a bundle on a device, and the candidates it was chosen from."""

    schema_version: int
    created: str
    key: DeviceKey
    chosen: Candidate
    trials: tuple[Trial, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return dataclasses.asdict(self)

    def save(self, path: Path) -> None:
        """Write it, in one step.

        Raises:
            ConfigError: It cannot be written.
        """
        try:
            write_text_atomically(path, dumps(self, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error}") from error


def device_key(bundle: Bundle, root: Path = Path("/")) -> DeviceKey:
    """Return what a device profile of this bundle would be valid for if made here and now."""
    cpu = describe_device(KernelFiles(root)).cpu
    return DeviceKey(cpu, onnxruntime_version(), bundle.manifest.sha256)


def find_device_profile(bundle: Bundle, root: Path = Path("/")) -> DeviceProfile | None:
    """Return the device profile next to a bundle if it is valid here.

    Raises:
        ConfigError: There is a file, but it is not a device profile.
    """
    path = bundle.path(DEVICE_PROFILE_FILE)
    remedy = f"remove the file, or run {shlex.join(['foggen', 'tune', str(bundle.directory)])}"
    try:
        if not lies_inside(path, bundle.directory):
            raise ConfigError(
                f"{path}: must lie inside the bundle, is a link that leads out of it; remove it"
            )
        document = parse_json(read_small_text(path, MAX_MANIFEST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; {remedy}") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > DEVICE_PROFILE_VERSION:
        return None
    try:
        profile = from_json(DeviceProfile, document, str(path))
    except FieldError as error:
        raise ConfigError(f"{error}; {remedy}") from error
    return profile if profile.key == device_key(bundle, root) else None


def load_device_profile(bundle: Bundle) -> "EngineOptions":
    """Return how to run a bundle here: as it was tuned, or else by the defaults.

    Raises:
        ConfigError: There is a device profile, but it cannot be read.
    """
    return tuned_options(find_device_profile(bundle))


def tuned_options(profile: DeviceProfile | None) -> "EngineOptions":
    """Return the engine options a device profile chose; without one, the defaults."""
    from foggen_runtime.model.engine import EngineOptions

    if profile is None:
        return EngineOptions()
    chosen = profile.chosen
    return EngineOptions(threads=chosen.threads, spinning=chosen.spinning, kleidiai=chosen.kleidiai)
