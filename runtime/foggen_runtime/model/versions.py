"""Versions of the libraries that compute."""

from importlib.metadata import PackageNotFoundError, version


def onnxruntime_version() -> str:
    """Return onnxruntime's version, without importing it if its package's metadata says it."""
    known = installed_version("onnxruntime")
    if known is None:
        from foggen_runtime.model.engine import ONNXRUNTIME_VERSION

        return ONNXRUNTIME_VERSION
    return known


def installed_version(package: str) -> str | None:
    """Return a distribution's version, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
