"""Reading what an OpenAI-compatible server answers.

Anything but an answer is a HandoffError, with the reason `cloud_invalid` or, if the body is an
error that names an HTTP status, with that status's reason. Functions that quote the server take the
`secrets` that no message may repeat: the question and the key.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from foggen_runtime.cloud.quoting import dig, load, plain_name, server_message, shown
from foggen_runtime.cloud.thoughts import ThoughtFilter, split_unopened
from foggen_runtime.errors import HandoffError
from foggen_runtime.jsonio import is_unicode

_BOM = b"\xef\xbb\xbf"
# The fields with a reasoning model's thoughts as plain text; servers in transition fill both.
_REASONING = ("reasoning_content", "reasoning", "thinking")
# Finish reasons of an answer that was withheld.
_WITHHELD = ("content_filter", "refusal", "safety")


@dataclass(frozen=True)
class CloudAnswer:
    """What the cloud answered; None for what it did not say.

    Attributes:
        text: The whole answer, without the thoughts before it; empty if the model refused.
        finish_reason: `stop`, `length`, or some other word of the server's.
        prompt_tokens: As counted by the server.
        completion_tokens: As counted by the server, thoughts included.
        endpoint: The base URL of the endpoint that answered.
        model: The model that answered, as the server names it.
        attempts: How often an endpoint was tried, this answer included.
        request_id: The server's name for the request: its `X-Request-ID`, or the completion's `id`.
        reasoning: The model's thoughts, as far as the server sent them.
        refusal: If the model refused, why, as one short line.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    endpoint: str | None = None
    model: str | None = None
    attempts: int = 1
    request_id: str | None = None
    reasoning: str = ""
    refusal: str | None = None


def read_completion(body: bytes, secrets: tuple[str, ...]) -> CloudAnswer:
    """Read the JSON body of a chat completion.

    Raises:
        HandoffError: It is not a completion, reports an error, or holds no text.
    """
    reading = _Reading(secrets)
    reading.take(body, "message")
    reading.finish()
    return reading.answer()


class StreamReader:
    """Reads a streamed chat completion as its bytes come.

    The stream is whole once `[DONE]` or a finish reason was seen.

    Attributes:
        done: Whether `[DONE]` was seen: nothing more will be read.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.done = False
        self._events = _EventReader()
        self._reading = _Reading(secrets)

    @property
    def begun(self) -> bool:
        """Whether the model is at work: some text or thoughts have come, or a refusal."""
        return self._reading.begun

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the pieces of text that end within this chunk.

        Raises:
            HandoffError: An event is not a piece of a completion, or reports an error.
        """
        return self._texts(self._events.feed(chunk))

    def finish(self) -> Iterator[str]:
        """Yield what is left when the stream ends; errors are those of `feed`."""
        yield from self._texts(self._events.finish())
        if text := self._reading.finish():
            yield text

    def answer(self) -> CloudAnswer:
        """Return the whole answer, after the end.

        Its text is the pieces joined, with one exception: if only the closing tag shows that what
        came before were thoughts, those pieces have already been yielded.

        Raises:
            HandoffError: The stream ended early or without text.
        """
        if not self.done and not self._reading.finished:
            raise _invalid("the stream ended before the answer did")
        return self._reading.answer()

    def _texts(self, events: Iterator[bytes]) -> Iterator[str]:
        for data in events:
            self.done = self.done or data.strip() == b"[DONE]"
            if self.done:
                return
            if text := self._reading.take(data, "delta"):
                yield text


class _EventReader:
    """Parses server-sent events: yields the `data` of each, with the spaces around it.

    As in the HTML standard, an event without data does not count, and a byte order mark may come
    before the first.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # of a line
        self._data: list[bytes] = []  # of an event
        self._first = True  # the line to come is the first

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that end within this chunk: CR, LF or CRLF end a line, nothing else."""
        self._rest.append(chunk)
        # A line of megabytes may come in many chunks; it must not be searched again with each.
        if b"\n" not in chunk and b"\r" not in b"".join(self._rest[-2:]):
            return
        lines = b"".join(self._rest).splitlines(keepends=True)
        # A CR at the end waits too: its LF may be in the next chunk.
        self._rest = [lines.pop()] if lines and not lines[-1].endswith(b"\n") else []
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def finish(self) -> Iterator[bytes]:
        """Yield an event that the end cut short, as it is."""
        for line in (*b"".join(self._rest).splitlines(), b""):
            yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[bytes]:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value)
        elif not line and self._data:
            data = b"\n".join(self._data)
            self._data.clear()
            if data.strip():
                yield data


class _Reading:
    """What has been read of one answer so far.

    Attributes:
        begun: Whether the model is at work.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self.begun = False
        self._secrets = secrets
        self._facts = CloudAnswer("", None, None, None)
        self._filter = ThoughtFilter()
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []

    @property
    def finished(self) -> bool:
        """Whether a finish reason was seen."""
        return self._facts.finish_reason is not None

    def take(self, data: bytes, holder: str) -> str:
        """Read a completion (with its text in `message`) or a piece of one (in `delta`).

        Returns:
            What it adds to the answer's text.

        Raises:
            HandoffError: It is neither, or reports an error.
        """
        document = load(data)
        if not isinstance(document, dict):
            raise _invalid("the answer is not a JSON object")
        for error in (document.get("error"), dig(document, "choices", 0, "error")):
            if error:
                raise _reported(error, server_message(data, self._secrets))
        message = _Message.read(dig(document, "choices", 0, holder))
        self._facts = _join(self._facts, document, self._secrets)
        self.begun = self.begun or message.begun
        self._reasoning.append(message.reasoning)
        self._refusal.append(message.refusal)
        text = self._filter.feed(message.text)
        self._texts.append(text)
        return text

    def finish(self) -> str:
        """Return what the end adds to the answer's text."""
        text = self._filter.finish()
        self._texts.append(text)
        return text

    def answer(self) -> CloudAnswer:
        """Return the whole answer.

        Raises:
            HandoffError: It holds neither text nor refusal.
        """
        thoughts, text = split_unopened("".join(self._texts))
        reasoning = "".join((*self._reasoning, *self._filter.thoughts, thoughts))
        answer = replace(self._facts, text=text, reasoning=reasoning)
        if text.strip():
            return answer
        refusal = "".join(self._refusal)
        if refusal.strip() or answer.finish_reason in _WITHHELD:
            refusal = shown(refusal, self._secrets) or f"withheld ({answer.finish_reason})"
            return replace(answer, text="", refusal=refusal)
        if reasoning.strip():
            why = f"finish_reason {answer.finish_reason}"
            raise _invalid(f"the answer holds only reasoning ({why}); allow more tokens")
        raise _invalid("the answer holds no text")


@dataclass(frozen=True)
class _Message:
    """One message of a chat completion, or a delta of one, in the forms that servers send.

    Attributes:
        text: The answer's, perhaps with thoughts between tags.
        reasoning: Thoughts that came separately from the text.
        refusal: What came instead of an answer.
        begun: Whether it shows that the model is at work.
    """

    text: str
    reasoning: str
    refusal: str
    begun: bool

    @classmethod
    def read(cls, value: object) -> Self:
        """Read it from a JSON value; its content may be a text or a list of parts.

        Raises:
            HandoffError: There is something else where the text should be.
        """
        fields = value if isinstance(value, dict) else {}
        content = fields.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = "".join(_text(part, "text", ("text", "output_text")) for part in parts)
        thoughts = [_string(fields, name) for name in _REASONING]
        reasoning = next(filter(None, thoughts), "") + "".join(map(_thought, parts))
        refusal = _string(fields, "refusal")
        refusal += "".join(_text(part, "refusal", ("refusal",)) for part in parts)
        if not is_unicode(text + reasoning + refusal):
            raise _no_text()
        # Some thoughts come encrypted, or in one server's own format.
        alive = any(fields[name] for name in fields if "reason" in name or "think" in name)
        return cls(text, reasoning, refusal, bool(text or reasoning or refusal or alive))


def failure_reason(status: int) -> str:
    """Return a HandoffError's reason for an HTTP status."""
    return {4: "cloud_rejected", 5: "cloud_error"}.get(status // 100, "cloud_invalid")


def _reported(error: object, said: str) -> HandoffError:
    """Return an error that came with status 200; its code is often the true status."""
    code = str(dig(error, "code"))
    if code.isascii() and code.isdigit() and 400 <= int(code[:4]) < 600:
        what = f"cloud: answered with an error {code}{said}"
        return HandoffError(failure_reason(int(code)), what, status=int(code))
    return _invalid(f"answered with an error{said}")


def _join(facts: CloudAnswer, document: dict[str, object], secrets: tuple[str, ...]) -> CloudAnswer:
    """Add what a document says besides the text."""
    finish_reason = dig(document, "choices", 0, "finish_reason")
    prompt = _count(dig(document, "usage", "prompt_tokens"))
    completion = _count(dig(document, "usage", "completion_tokens"))
    return replace(
        facts,
        finish_reason=(finish_reason if isinstance(finish_reason, str) else "")
        or facts.finish_reason,
        prompt_tokens=facts.prompt_tokens if prompt is None else prompt,
        completion_tokens=facts.completion_tokens if completion is None else completion,
        model=facts.model or plain_name(document.get("model"), secrets),
        request_id=facts.request_id or plain_name(document.get("id"), secrets),
    )


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _text(part: object, field: str, kinds: tuple[str, ...]) -> str:
    """Return a part's text; none if the part is of another kind."""
    if not isinstance(part, dict):
        raise _no_text()
    if part.get("type") not in kinds:
        return ""
    text = part.get(field)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise _no_text()
    return text


def _thought(part: dict[str, object]) -> str:
    """Return the thoughts in a part as Mistral's reasoning models send it."""
    inner = part.get("thinking")
    if isinstance(inner, list):
        return "".join(_string(each, "text") for each in inner)
    return _string(part, "thinking")


def _string(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def _no_text() -> HandoffError:
    return _invalid("the answer's content is not valid text")


def _invalid(what: str) -> HandoffError:
    return HandoffError("cloud_invalid", f"cloud: {what}")
