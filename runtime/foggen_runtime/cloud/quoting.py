"""Quoting a server's text in messages and results, without repeating secrets.

The `secrets` are the question and the key.
"""

import json
from functools import lru_cache

_QUOTED = 200  # characters of a server's message that are shown
_ECHO = 12  # characters in a row that count as repeating a secret


def server_message(body: bytes, secrets: tuple[str, ...]) -> str:
    """Return `: MESSAGE` from an error body, in the forms that servers use, or nothing."""
    document = load(body)
    for path in (("error", "message"), ("error",), ("message",), ("detail",)):
        message = dig(document, *path)
        if isinstance(message, str) and message:
            return f": {shown(message, secrets)}"
    return ""


def shown(text: str, secrets: tuple[str, ...]) -> str:
    """Shorten a server's text to one printable line; withhold it if it repeats part of a secret."""
    line = _one_line(text[: 4 * _QUOTED])[: _QUOTED + _ECHO]
    for secret in map(_one_line, secrets):
        size = min(_ECHO, len(secret))
        if size and any(line[i : i + size] in secret for i in range(len(line) - size + 1)):
            return "(message withheld: it repeats the question or the key)"
    return line[:_QUOTED]


def plain_name(value: object, secrets: tuple[str, ...]) -> str | None:
    """Return a server's name for something; None if there is none that may be shown."""
    name = shown(value, secrets) if isinstance(value, str) else ""
    return name if name and name == value else None


def load(data: bytes) -> object:
    """Return the JSON value, or None if it is not JSON."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value


def dig(value: object, *path: str | int) -> object:
    """Follow keys and indices into a JSON value; None if the path ends early."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


@lru_cache(8)  # the same question is compared with what a server says in each event
def _one_line(text: str) -> str:
    """Return the text with each run of unprintable characters and spaces as one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
