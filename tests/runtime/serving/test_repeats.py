"""Messages that come again and again."""

import logging

import pytest

from foggen_runtime.serving.repeats import few_repeats


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_message_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    monkeypatch.setattr("foggen_runtime.serving.repeats.time", clock)
    logger = logging.getLogger("uvicorn.error")
    with few_repeats():
        for second in range(150):
            clock.now = float(second)
            logger.warning("client %d sent no HTTP", second)
            logger.error("Fatal error\nprotocol: <object %d>" % second)  # noqa: UP031
    logger.warning("client %d sent no HTTP", 150)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [
        "client 0 sent no HTTP",
        "client 60 sent no HTTP (and 59 times before)",
        "client 120 sent no HTTP (and 59 times before)",
        "client 150 sent no HTTP",
    ]
    assert len(caplog.records) == 7
