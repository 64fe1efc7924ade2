"""Reading what a client asks for.

Every field is served, known to be harmless, or refused by name; none is silently ignored. Messages
show numbers but never a string, which could be content.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, get_args

from foggen_runtime.errors import RequestError
from foggen_runtime.handoff.policy import Route
from foggen_runtime.jsonio import is_unicode

_MAX_NAME = 64  # characters of an unknown field's name to show


@dataclass(frozen=True)
class ChatRequest:
    """One question, and how the client wants it asked.

    Attributes:
        question: The text of the only user message.
        stream: Send the answer as it comes.
        include_usage: End a stream with a chunk that holds the usage.
        max_tokens: The most tokens a local answer may have.
        tau: Below this confidence the question is deferred; None for the server's.
        route: Who may answer; None for the server's.
    """

    question: str
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    tau: float | None = None
    route: Route | None = None


@dataclass(frozen=True)
class _Rule:
    """Which values of a field are served."""

    accepts: Callable[[Any], bool]
    must: str


def _is_number(value: object) -> bool:
    finite = isinstance(value, (int, float)) and not isinstance(value, bool)
    return finite and (isinstance(value, int) or math.isfinite(value))  # type: ignore[arg-type]


def _is_integer(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or _is_whole(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def _is_zero(value: object) -> bool:
    return _is_number(value) and value == 0


def _one_of(*values: object) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(known) and value == known for known in values)


_FLAG = _Rule(lambda value: isinstance(value, bool), "true or false")
_TEXT = _Rule(lambda value: isinstance(value, str), "a string")
_OBJECT = _Rule(lambda value: isinstance(value, dict), "an object")
_COUNT = _Rule(lambda value: _is_integer(value) and value >= 1, "an integer of at least 1")
_NOTHING = _Rule(lambda value: value is None, "left out: it is not supported")
_NO_TOOLS = _Rule(_one_of([]), "left out or empty: there are no tools")
_NO_CHOICE = _Rule(_one_of("none"), "left out or `none`: there are no tools")
_NO_PENALTY = _Rule(_is_zero, "left out or 0: decoding is greedy")

# What each field may hold besides null, which counts as leaving it out.
FIELDS: dict[str, _Rule] = {
    "model": _Rule(lambda value: isinstance(value, str) and value != "", "the name of a model"),
    "messages": _Rule(lambda value: isinstance(value, list), "a list of messages"),
    "stream": _FLAG,
    "stream_options": _OBJECT,
    "max_tokens": _COUNT,
    "max_completion_tokens": _COUNT,
    "x_foggen": _OBJECT,
    "temperature": _Rule(_is_zero, "0: decoding is greedy"),
    "top_p": _Rule(lambda value: _is_number(value) and 0 < value <= 1, "above 0 and at most 1"),
    "n": _Rule(lambda value: _is_integer(value) and value == 1, "1: there is one answer"),
    "seed": _Rule(_is_integer, "an integer"),
    "user": _TEXT,
    "safety_identifier": _TEXT,
    "prompt_cache_key": _TEXT,
    "metadata": _OBJECT,
    "parallel_tool_calls": _FLAG,
    "store": _Rule(_one_of(False), "left out or false: nothing is stored"),
    "service_tier": _Rule(_one_of("auto", "default"), "left out, `auto` or `default`"),
    "modalities": _Rule(_one_of(["text"]), 'left out or ["text"]'),
    "response_format": _Rule(_one_of({"type": "text"}), 'left out or {"type": "text"}'),
    "presence_penalty": _NO_PENALTY,
    "frequency_penalty": _NO_PENALTY,
    "logit_bias": _Rule(_one_of({}), "left out or empty: it is not supported"),
    "logprobs": _Rule(_one_of(False), "left out or false: x_foggen has the probabilities"),
    "top_logprobs": _Rule(_is_zero, "left out or 0: x_foggen has the probabilities"),
    "stop": _Rule(_one_of([]), "left out or empty: it is not supported"),
    "tools": _NO_TOOLS,
    "functions": _NO_TOOLS,
    "tool_choice": _NO_CHOICE,
    "function_call": _NO_CHOICE,
    "audio": _NOTHING,
    "prediction": _NOTHING,
    "reasoning_effort": _NOTHING,
    "verbosity": _NOTHING,
    "web_search_options": _NOTHING,
}
_MESSAGE_FIELDS = ("role", "content", "name")
_ONE_MESSAGE = (
    "must be exactly one message, of role user: the local model was tuned for single questions, "
    "and a conversation is not cut down to one"
)


def read_chat_request(body: bytes, max_question: int) -> ChatRequest:
    """Read and check the JSON body of a chat completion request.

    Args:
        body: The bytes as they came.
        max_question: The most characters a question may have.

    Raises:
        RequestError: It is not such a request, or asks for something that is not served; status
            400.
    """
    document = _parse(body)
    for name, value in document.items():
        _check(name, value)
    for name in ("model", "messages"):
        if document.get(name) is None:
            raise _refused(name, "missing_required_parameter", f"{name}: is missing")
    stream = bool(document.get("stream"))
    tau, route = _read_extension(document.get("x_foggen") or {})
    limits = [document.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return ChatRequest(
        question=_read_question(document["messages"], max_question),
        stream=stream,
        include_usage=_read_stream_options(document.get("stream_options") or {}),
        max_tokens=min((int(limit) for limit in limits if limit is not None), default=None),
        tau=tau,
        route=route,
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _refused(None, "invalid_json", "body: must be JSON in UTF-8, is not") from error
    if not isinstance(document, dict):
        message = f"body: must be an object, is {_shown(document)}"
        raise _refused(None, "invalid_json", message)
    return document


def _check(name: str, value: object) -> None:
    """Refuse what is unknown or not served."""
    rule = FIELDS.get(name)
    if rule is None:
        short = "".join(c if c.isprintable() else "?" for c in name[:_MAX_NAME])
        raise _refused(
            short, "unknown_parameter", f"{short}: is not a field that this server knows"
        )
    if value is not None and not rule.accepts(value):
        message = f"{name}: must be {rule.must}; is {_shown(value)}"
        raise _refused(name, "unsupported_value", message)


def _read_question(messages: list[object], max_question: int) -> str:
    """Return the text of the only message.

    Raises:
        RequestError: There are more, or it is not a user's text.
    """
    if len(messages) != 1:
        text = f"messages: {_ONE_MESSAGE}; are {len(messages)}"
        raise _refused("messages", "unsupported_messages", text)
    message = messages[0]
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _refused("messages[0]", "invalid_type", "messages[0]: must be an object with a role")
    if message["role"] != "user":
        raise _refused("messages[0].role", "unsupported_messages", f"messages: {_ONE_MESSAGE}")
    if set(message) - set(_MESSAGE_FIELDS):
        raise _refused("messages[0]", "unknown_parameter", "messages[0]: has an unknown field")
    if not isinstance(message.get("name"), str | None):
        raise _refused("messages[0].name", "invalid_type", "messages[0].name: must be a string")
    question = _read_content(message.get("content"))
    _check_question(question, max_question)
    return question


def _read_content(content: object) -> str:
    """Return a message's text: a string, or a list of one text part."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        part = content[0]
        text = part.get("text")
        if set(part) == {"type", "text"} and part["type"] == "text" and isinstance(text, str):
            return text
    where = "messages[0].content"
    message = f"{where}: must be a string or a list of one text part; is {_shown(content)}"
    raise _refused(where, "unsupported_value", message)


def _check_question(question: str, max_question: int) -> None:
    where = "messages[0].content"
    if not question.strip():
        raise _refused(where, "empty_question", f"{where}: must not be empty")
    if len(question) > max_question:
        message = f"{where}: must have at most {max_question} characters, has {len(question)}"
        raise _refused(where, "question_too_long", message)
    if not is_unicode(question):
        message = f"{where}: must be valid Unicode, has a lone surrogate"
        raise _refused(where, "invalid_unicode", message)


def _read_stream_options(options: Mapping[str, object]) -> bool:
    """Return whether the stream should end with the usage."""
    for name, value in options.items():
        if name not in ("include_usage", "include_obfuscation"):
            raise _refused("stream_options", "unknown_parameter", "stream_options: unknown field")
        if value is not None and not isinstance(value, bool):
            where = f"stream_options.{name}"
            raise _refused(where, "invalid_type", f"{where}: must be true or false")
    return bool(options.get("include_usage"))


def _read_extension(extension: Mapping[str, Any]) -> tuple[float | None, Route | None]:
    """Return tau and route of an `x_foggen` object."""
    if set(extension) - {"tau", "route"}:
        raise _refused("x_foggen", "unknown_parameter", "x_foggen: may hold tau and route only")
    tau, route = extension.get("tau"), extension.get("route")
    if tau is not None and not (_is_number(tau) and 0 <= tau <= 1):
        message = f"x_foggen.tau: must be within [0, 1], is {_shown(tau)}"
        raise _refused("x_foggen.tau", "unsupported_value", message)
    if route is not None and route not in get_args(Route):
        message = f"x_foggen.route: must be one of {', '.join(get_args(Route))}"
        raise _refused("x_foggen.route", "unsupported_value", message)
    return tau if tau is None else float(tau), route


def _shown(value: object) -> str:
    """Return a value as a message shows it: numbers as they are, only the type of anything else."""
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return json.dumps(value)[:_MAX_NAME]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refused(param: str | None, code: str, message: str) -> RequestError:
    return RequestError(400, code, message, param)
