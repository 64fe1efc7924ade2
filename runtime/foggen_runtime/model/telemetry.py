"""onnxruntime's telemetry, which foggen turns off.

From version 1.29 on, onnxruntime keeps an id of the device and a store of events in the user's
cache directory, and sends the events to Microsoft: the processor, the memory, names and hashes of
the models that are opened. It starts with the library, so `disable_telemetry_events()` comes too
late. Only an environment variable stops it in time, so this is the one exception to our rule that a
library leaves the environment alone. For users, see docs/privacy.md.
"""

import os

OFF_VARIABLE = "ORT_DISABLE_TELEMETRY"
WANTED_VARIABLE = "FOGGEN_ORT_TELEMETRY"


def turn_off_telemetry() -> None:
    """Keep onnxruntime from collecting and sending anything, if it is not imported yet.

    This holds for this process and those it starts. If `FOGGEN_ORT_TELEMETRY` is 1, the environment
    stays as it is.
    """
    if os.environ.get(WANTED_VARIABLE) != "1":
        os.environ[OFF_VARIABLE] = "1"
