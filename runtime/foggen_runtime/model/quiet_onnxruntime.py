"""The only module that imports onnxruntime: everyone else takes `ort` from here.

Importing it has a side effect, on purpose: `foggen_runtime.model.telemetry` says which, and why.
"""

from foggen_runtime.model.telemetry import turn_off_telemetry

turn_off_telemetry()

import onnxruntime as ort  # noqa: E402 -- it reads the environment when it is imported

__all__ = ["ort"]
