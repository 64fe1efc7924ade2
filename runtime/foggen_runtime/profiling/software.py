"""Versions that decide speed, as a profile has them."""

from foggen_runtime.model.versions import installed_version, onnxruntime_version
from foggen_runtime.profiling.schema import Software


def software() -> Software:
    """Return the versions of foggen and onnxruntime."""
    return Software(installed_version("foggen"), onnxruntime_version())
