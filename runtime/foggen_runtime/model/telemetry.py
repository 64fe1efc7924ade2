"""onnxruntime's telemetry, which foggen turns off.

From version 1.29 on, onnxruntime writes an identifier of the device and a store of events under the
user's cache directory, and sends the events to Microsoft: the processor, the memory, names and
hashes of the models that are opened. It starts with the library, so `disable_telemetry_events()`
comes too late. A variable of the environment is all that stops it in time, hence the one exception
to the rule that libraries leave the environment alone. docs/privacy.md is for users.
"""

import os

OFF_VARIABLE = "ORT_DISABLE_TELEMETRY"
WANTED_VARIABLE = "FOGGEN_ORT_TELEMETRY"


def turn_off_telemetry() -> None:
    """Keep onnxruntime, if it is not imported yet, from collecting and sending anything.

    It holds for this process and those it starts. Where `FOGGEN_ORT_TELEMETRY` is 1, the
    environment stays as it is.
    """
    if os.environ.get(WANTED_VARIABLE) != "1":
        os.environ[OFF_VARIABLE] = "1"
