"""The process of one round: read a request from standard input, measure, print a report.

Nothing heavy may be imported before the clock is first read.
"""

import sys
import time


def main() -> None:
    """Measure as standard input says; on an error, print it to standard error and exit with 1."""
    begin = time.monotonic()
    import json

    from foggen_runtime.errors import FoggenError
    from foggen_runtime.jsonio import dumps, from_json
    from foggen_runtime.profiling import measuring
    from foggen_runtime.profiling.request import RoundRequest

    imported = time.monotonic()
    try:
        request = from_json(RoundRequest, json.load(sys.stdin), "request")
        if request.trace:
            print(dumps(measuring.trace(request)))
        else:
            print(dumps(measuring.measure(request, (begin, imported))), flush=True)
    except FoggenError as error:
        sys.exit(str(error))
