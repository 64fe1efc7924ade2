"""Versions of what computes."""

from importlib.metadata import PackageNotFoundError, version

from foggen_runtime.profiling.schema import Software


def software() -> Software:
    """Return the versions of foggen and onnxruntime."""
    return Software(_version("foggen"), onnxruntime_version())


def onnxruntime_version() -> str:
    """Return onnxruntime's version, without importing it where its package says which it is."""
    known = _version("onnxruntime")
    if known is None:
        from foggen_runtime.engine import ONNXRUNTIME_VERSION

        return ONNXRUNTIME_VERSION
    return known


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
