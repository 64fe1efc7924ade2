"""What an OpenAI-compatible server answers, read from its bytes.

Anything but an answer is a HandoffError with the reason `cloud_invalid`. Functions that quote the
server take the `secrets` that no message may repeat: the question and the key.
"""

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from foggen_runtime.errors import HandoffError

_QUOTED = 200  # characters of a server's message that are shown
_ECHO = 12  # characters in a row that count as repeating a secret


@dataclass(frozen=True)
class CloudAnswer:
    """What the cloud answered; token counts are None where it did not tell."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


def read_completion(body: bytes, secrets: tuple[str, ...]) -> CloudAnswer:
    """Read the JSON body of a chat completion.

    Raises:
        HandoffError: It is no completion, reports an error, or holds no text.
    """
    return _require_text(_read(body, "message", secrets))


def read_stream(
    chunks: Iterable[bytes], secrets: tuple[str, ...]
) -> Generator[str, None, CloudAnswer]:
    """Read a streamed chat completion: yield its text piece by piece, return the whole.

    The stream is whole once `[DONE]` or a finish reason was seen.

    Raises:
        HandoffError: An event is no piece of a completion or reports an error, or the stream ends
            early or without text.
    """
    answer = CloudAnswer("", None, None, None)
    done = False
    for data in _events(chunks):
        if done := data.strip() == b"[DONE]":
            break
        piece = _read(data, "delta", secrets)
        answer = _join(answer, piece)
        if piece.text:
            yield piece.text
    if not done and answer.finish_reason is None:
        raise _invalid("the stream ended within the answer")
    return _require_text(answer)


def server_message(body: bytes, secrets: tuple[str, ...]) -> str:
    """Return `: <message>` of an error body, in the forms servers use, or nothing."""
    document = _load(body)
    for path in (("error", "message"), ("error",), ("message",), ("detail",)):
        message = _dig(document, *path)
        if isinstance(message, str) and message:
            return f": {shown(message, secrets)}"
    return ""


def shown(text: str, secrets: tuple[str, ...]) -> str:
    """Shorten foreign text to one printable line; withhold it where it repeats a secret's part."""
    line = _one_line(text[: 4 * _QUOTED])[: _QUOTED + _ECHO]
    for secret in map(_one_line, secrets):
        size = min(_ECHO, len(secret))
        if size and any(line[i : i + size] in secret for i in range(len(line) - size + 1)):
            return "(message withheld: it repeats the question or the key)"
    return line[:_QUOTED]


def is_text(text: str) -> bool:
    """Tell whether the string can be written as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the `data` of each server-sent event, spaces around it included.

    An event cut short by the end comes as it is.
    """
    data: list[bytes] = []
    for line in _lines(chunks):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value)
        elif not line and data:
            yield b"\n".join(data)
            data.clear()
    if data:
        yield b"\n".join(data)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends: CR, LF or CRLF, and no other character ends one."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        # A CR at the end waits too: its LF may be in the next chunk.
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield line.rstrip(b"\r\n")
    yield from rest.splitlines()


def _read(data: bytes, holder: str, secrets: tuple[str, ...]) -> CloudAnswer:
    """Read a completion (its text is in `message`) or a piece of one (in `delta`)."""
    document = _load(data)
    if not isinstance(document, dict):
        raise _invalid("the answer is no JSON object")
    if document.get("error"):
        raise _invalid(f"answered with an error{server_message(data, secrets)}")
    text = _dig(document, "choices", 0, holder, "content")
    if text is None:
        text = ""
    if not isinstance(text, str) or not is_text(text):
        raise _invalid("the answer's content is no valid text")
    finish_reason = _dig(document, "choices", 0, "finish_reason")
    return CloudAnswer(
        text,
        finish_reason if isinstance(finish_reason, str) else None,
        _count(_dig(document, "usage", "prompt_tokens")),
        _count(_dig(document, "usage", "completion_tokens")),
    )


def _join(answer: CloudAnswer, piece: CloudAnswer) -> CloudAnswer:
    prompt, completion = piece.prompt_tokens, piece.completion_tokens
    return CloudAnswer(
        answer.text + piece.text,
        piece.finish_reason or answer.finish_reason,
        answer.prompt_tokens if prompt is None else prompt,
        answer.completion_tokens if completion is None else completion,
    )


def _require_text(answer: CloudAnswer) -> CloudAnswer:
    if not answer.text.strip():
        raise _invalid("the answer holds no text")
    return answer


def _load(data: bytes) -> object:
    """Return the JSON value, or None where there is none."""
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value


def _dig(value: object, *path: str | int) -> object:
    """Follow keys and indices into a JSON value; None where the path ends early."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _one_line(text: str) -> str:
    """Return the text with each run of unprintable characters and spaces as one space."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _invalid(what: str) -> HandoffError:
    return HandoffError("cloud_invalid", f"cloud: {what}")
