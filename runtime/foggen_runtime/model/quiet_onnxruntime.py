"""The only module that imports onnxruntime: everyone else takes `ort` from here.

Importing it has a side effect on purpose: see `foggen_runtime.model.telemetry`.
"""

from foggen_runtime.model.telemetry import turn_off_telemetry

turn_off_telemetry()

import onnxruntime as ort  # noqa: E402 -- it reads the environment when it is imported

__all__ = ["ort"]
