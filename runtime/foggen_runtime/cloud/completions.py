"""What an OpenAI-compatible server answers, read from its bytes.

Anything but an answer is a HandoffError with the reason `cloud_invalid`. Functions that quote the
server take the `secrets` that no message may repeat: the question and the key.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from foggen_runtime.errors import HandoffError

_QUOTED = 200  # characters of a server's message that are shown
_ECHO = 12  # characters in a row that count as repeating a secret


@dataclass(frozen=True)
class CloudAnswer:
    """What the cloud answered; what it did not tell is None.

    Attributes:
        text: The whole answer.
        finish_reason: `stop`, `length`, or another word of the server's.
        prompt_tokens: As the server counted.
        completion_tokens: As the server counted.
        endpoint: The base URL of the endpoint that answered.
        model: The model that answered, as the server names it.
        attempts: How often an endpoint was tried, this answer included.
        request_id: The server's name for the request: its `X-Request-ID`, or the completion's `id`.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    endpoint: str | None = None
    model: str | None = None
    attempts: int = 1
    request_id: str | None = None


def read_completion(body: bytes, secrets: tuple[str, ...]) -> CloudAnswer:
    """Read the JSON body of a chat completion.

    Raises:
        HandoffError: It is no completion, reports an error, or holds no text.
    """
    return _require_text(_read(body, "message", secrets))


class StreamReader:
    """Reads a streamed chat completion as its bytes come.

    The stream is whole once `[DONE]` or a finish reason was seen.

    Attributes:
        done: Whether `[DONE]` was seen: nothing more will be read.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.done = False
        self._secrets = secrets
        self._events = _EventReader()
        self._answer = CloudAnswer("", None, None, None)

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the pieces of text that end within this chunk.

        Raises:
            HandoffError: An event is no piece of a completion, or reports an error.
        """
        return self._texts(self._events.feed(chunk))

    def finish(self) -> Iterator[str]:
        """Yield what a stream that ends here still holds; errors are those of `feed`."""
        return self._texts(self._events.finish())

    def answer(self) -> CloudAnswer:
        """Return the whole answer, after the end.

        Raises:
            HandoffError: The stream ended early or without text.
        """
        if not self.done and self._answer.finish_reason is None:
            raise _invalid("the stream ended within the answer")
        return _require_text(self._answer)

    def _texts(self, events: Iterator[bytes]) -> Iterator[str]:
        for data in events:
            self.done = self.done or data.strip() == b"[DONE]"
            if self.done:
                return
            piece = _read(data, "delta", self._secrets)
            self._answer = _join(self._answer, piece)
            if piece.text:
                yield piece.text


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


def plain_name(value: object, secrets: tuple[str, ...]) -> str | None:
    """Return a server's name for something; None where there is none that may be shown."""
    name = shown(value, secrets) if isinstance(value, str) else ""
    return name if name and name == value else None


def is_text(text: str) -> bool:
    """Tell whether the string can be written as UTF-8: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _EventReader:
    """Takes server-sent events apart: yields the `data` of each, spaces around it included."""

    def __init__(self) -> None:
        self._rest = b""  # of a line
        self._data: list[bytes] = []  # of an event

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that end within this chunk: CR, LF or CRLF end a line, nothing else."""
        lines = (self._rest + chunk).splitlines(keepends=True)
        # A CR at the end waits too: its LF may be in the next chunk.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def finish(self) -> Iterator[bytes]:
        """Yield an event cut short by the end, as it is."""
        for line in (*self._rest.splitlines(), b""):
            yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[bytes]:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value)
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data.clear()


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
        model=plain_name(document.get("model"), secrets),
        request_id=plain_name(document.get("id"), secrets),
    )


def _join(answer: CloudAnswer, piece: CloudAnswer) -> CloudAnswer:
    prompt, completion = piece.prompt_tokens, piece.completion_tokens
    return replace(
        answer,
        text=answer.text + piece.text,
        finish_reason=piece.finish_reason or answer.finish_reason,
        prompt_tokens=answer.prompt_tokens if prompt is None else prompt,
        completion_tokens=answer.completion_tokens if completion is None else completion,
        model=answer.model or piece.model,
        request_id=answer.request_id or piece.request_id,
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
