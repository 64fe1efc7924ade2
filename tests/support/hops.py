"""How often whoever reads along with a call must turn to another file.

A **hop** is a call from code of one of the project's modules into that of another. What a library
calls back counts as called by the module that called the library. What `dataclass` generates is of
the module of its class, so making a value of another module's class is a hop too. A generator
counts when it is entered, not each time it goes on.
"""

import sys
from collections.abc import Callable
from types import FrameType

_PROJECT = ("foggen_runtime.", "foggen_exporter.", "foggen_trainer.")


def hops(call: Callable[[], object]) -> list[str]:
    """Make a call, and return its hops in order, each as `from -> to`."""
    found: list[str] = []
    entered: set[FrameType] = set()  # of a generator the frame stays the same

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or frame in entered:
            return
        entered.add(frame)
        module, caller = _module(frame), frame.f_back
        while module and caller:
            if calling := _module(caller):
                if calling != module:
                    names = caller.f_code.co_qualname, frame.f_code.co_qualname
                    found.append(f"{calling}.{names[0]} -> {module}.{names[1]}")
                return
            caller = caller.f_back

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


def _module(frame: FrameType) -> str | None:
    name: str = frame.f_globals.get("__name__", "")
    return name if name.startswith(_PROJECT) else None
