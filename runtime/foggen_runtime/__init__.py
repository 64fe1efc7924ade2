"""Run a FogGen bundle: decide in one forward pass, answer here, or hand off to a cloud.

Example:
    >>> from foggen_runtime import Cloud, Foggen
    >>> cloud = Cloud("http://127.0.0.1:8000/v1", "big-model")
    >>> with Foggen.open("foggen-int4", cloud) as foggen:
    ...     result = foggen.ask("Which is larger? A) 3 B) 5")
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.cloud.cancellation import Cancellation
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.errors import (
        BundleError,
        CancelledError,
        CheckpointError,
        ConfigError,
        EngineError,
        FoggenError,
        HandoffError,
        QuestionError,
        StateError,
    )
    from foggen_runtime.handoff.policy import Budget, LogSettings, OutboxLimits, Policy, Redaction
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.model.engine import EngineOptions
    from foggen_runtime.model.local_model import OpenOptions
    from foggen_runtime.result import Result

__all__ = [
    "Budget",
    "BundleError",
    "Cancellation",
    "CancelledError",
    "CheckpointError",
    "Cloud",
    "ConfigError",
    "Decoding",
    "EngineError",
    "EngineOptions",
    "Foggen",
    "FoggenError",
    "HandoffError",
    "LogSettings",
    "OpenOptions",
    "OutboxLimits",
    "Policy",
    "QuestionError",
    "Redaction",
    "Result",
    "StateError",
]

_MODULES = {
    "Budget": "handoff.policy",
    "Cancellation": "cloud.cancellation",
    "Cloud": "cloud.endpoints",
    "Decoding": "model.decoding",
    "EngineOptions": "model.engine",
    "Foggen": "ask.foggen",
    "LogSettings": "handoff.policy",
    "OpenOptions": "model.local_model",
    "OutboxLimits": "handoff.policy",
    "Policy": "handoff.policy",
    "Redaction": "handoff.policy",
    "Result": "result",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `foggen --help` starts at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
