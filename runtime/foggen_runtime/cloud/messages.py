"""One message of a chat completion, or a delta of one, in the forms that servers send."""

from dataclasses import dataclass
from typing import Self

from foggen_runtime.cloud.quoting import is_text
from foggen_runtime.errors import HandoffError

# Where the thoughts of a reasoning model are as plain text; servers in transition send them twice.
_REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Message:
    """What it says.

    Attributes:
        text: Of the answer, and perhaps thoughts between tags.
        reasoning: Thoughts that came apart from the text.
        refusal: In place of an answer.
        begun: Whether it shows the model at work.
    """

    text: str
    reasoning: str
    refusal: str
    begun: bool

    @classmethod
    def read(cls, value: object) -> Self:
        """Read it from a JSON value; its content may be a text or a list of parts.

        Raises:
            HandoffError: There is something else in place of a text.
        """
        fields = value if isinstance(value, dict) else {}
        content = fields.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        text = "".join(_text(part, "text", ("text", "output_text")) for part in parts)
        thoughts = [_string(fields, name) for name in _REASONING]
        reasoning = next(filter(None, thoughts), "") + "".join(map(_thought, parts))
        refusal = _string(fields, "refusal")
        refusal += "".join(_text(part, "refusal", ("refusal",)) for part in parts)
        if not is_text(text + reasoning + refusal):
            raise _no_text()
        # Some thoughts come encrypted, or in a form of one server's own.
        alive = any(fields[name] for name in fields if "reason" in name or "think" in name)
        return cls(text, reasoning, refusal, bool(text or reasoning or refusal or alive))


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
    """Return the thoughts of a part of Mistral's reasoning models."""
    inner = part.get("thinking")
    if isinstance(inner, list):
        return "".join(_string(each, "text") for each in inner)
    return _string(part, "thinking")


def _string(fields: object, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def _no_text() -> HandoffError:
    return HandoffError("cloud_invalid", "cloud: the answer's content is no valid text")
