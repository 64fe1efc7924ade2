"""The sessions that onnxruntime opens, with the options it was given."""

from typing import Any

import pytest

from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.quiet_onnxruntime import ort


def watch_sessions(monkeypatch: pytest.MonkeyPatch) -> list[EngineOptions]:
    """Return a list that gets what onnxruntime itself says each session from now on runs with."""
    opened: list[EngineOptions] = []

    class Watched(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            given = self.get_session_options()
            spinning = given.get_session_config_entry("session.intra_op.allow_spinning")
            disabled = given.get_session_config_entry("mlas.disable_kleidiai")
            opened.append(
                EngineOptions(
                    threads=given.intra_op_num_threads,
                    spinning=spinning == "1",
                    arena=given.enable_cpu_mem_arena,
                    kleidiai=disabled == "0",
                )
            )

    monkeypatch.setattr(ort, "InferenceSession", Watched)
    return opened
