"""Calibrations made up for tests."""

from foggen_runtime.bundle.manifest import CalibrationInfo, ConfidenceKind


def calibration(tau: float, on: ConfidenceKind = "verbalized") -> CalibrationInfo:
    """Return a calibration that chose this tau."""
    return CalibrationInfo(
        method="observed",
        target="max_cloud_share",
        limit=0.4,
        on=on,
        tau=tau,
        observed=0.39,
        bound=None,
        certainty=None,
        questions=100,
        data_sha256="1" * 64,
        date="2026-01-31",
        level_shares=(0.1, 0.2, 0.1, 0.2, 0.4),
    )
