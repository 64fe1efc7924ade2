"""Reading requests: what is served, what is harmless, and what is refused by name."""

import json
from pathlib import Path

import pytest

from foggen_runtime.errors import RequestError
from foggen_runtime.serving.requests import FIELDS, ChatRequest, read_chat_request
from tests.support.gateway import request

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
SECRET = "the content"


def read(**fields: object) -> ChatRequest:
    return read_chat_request(json.dumps(request("What?", **fields)).encode(), 100)


def refused(body: object) -> RequestError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestError) as caught:
        read_chat_request(data, 100)
    assert caught.value.status == 400
    assert SECRET not in str(caught.value)
    return caught.value


def test_a_plain_request() -> None:
    assert read() == ChatRequest("What?")


def test_a_list_of_one_text_part_is_text() -> None:
    body = request("", messages=[{"role": "user", "content": [{"type": "text", "text": "What?"}]}])
    assert read_chat_request(json.dumps(body).encode(), 100).question == "What?"


def test_all_that_is_served() -> None:
    wanted = read(
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=7,
        max_completion_tokens=9,
        x_foggen={"tau": 1, "route": "local_only"},
    )
    assert wanted == ChatRequest("What?", True, True, 7, 1.0, "local_only")


HARMLESS = {
    "temperature": 0,
    "top_p": 0.9,
    "n": 1,
    "seed": -3,
    "user": SECRET,
    "safety_identifier": SECRET,
    "prompt_cache_key": SECRET,
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "store": False,
    "service_tier": "auto",
    "modalities": ["text"],
    "response_format": {"type": "text"},
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logit_bias": {},
    "logprobs": False,
    "top_logprobs": 0,
    "stop": [],
    "tools": [],
    "functions": [],
    "tool_choice": "none",
    "function_call": "none",
}


@pytest.mark.parametrize(("name", "value"), HARMLESS.items())
def test_harmless_fields_change_nothing(name: str, value: object) -> None:
    assert read(**{name: value}) == ChatRequest("What?")


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"model", "messages"}))
def test_null_is_as_good_as_leaving_out(name: str) -> None:
    assert read(**{name: None}) == ChatRequest("What?")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("model", 1),
        ("model", None),
        ("messages", {}),
        ("messages", None),
        ("stream", 1),
        ("stream_options", []),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_completion_tokens", "7"),
        ("temperature", 0.7),
        ("temperature", False),
        ("top_p", 0),
        ("top_p", 1.1),
        ("n", 2),
        ("n", True),
        ("seed", "x"),
        ("user", 1),
        ("metadata", "x"),
        ("store", True),
        ("service_tier", "priority"),
        ("modalities", ["text", "audio"]),
        ("response_format", {"type": "json_object"}),
        ("presence_penalty", 0.1),
        ("frequency_penalty", -1),
        ("logit_bias", {"1": 1}),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("stop", ["\n"]),
        ("stop", SECRET),
        ("tools", [{"type": "function"}]),
        ("functions", [{}]),
        ("tool_choice", "auto"),
        ("function_call", {"name": SECRET}),
        ("audio", {}),
        ("prediction", {}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("x_foggen", 0.5),
        ("best_of", 2),
    ],
)
def test_what_is_not_served_is_refused_by_name(name: str, value: object) -> None:
    error = refused(request("What?", **{name: value}))
    assert error.param == name
    assert str(error).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["tau", "route", "other"])
@pytest.mark.parametrize("value", [[], 1.5, -0.1, "moon", True])
def test_x_foggen_is_checked(name: str, value: object) -> None:
    error = refused(request("What?", x_foggen={name: value}))
    assert str(error.param).startswith("x_foggen")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": SECRET}, {"role": "user", "content": "What?"}],
        [{"role": "user", "content": "One?"}, {"role": "user", "content": "Two?"}],
        [{"role": "assistant", "content": SECRET}],
        [{"role": "developer", "content": SECRET}],
        [{"role": 1, "content": SECRET}],
        [{"content": SECRET}],
        [SECRET],
        [None],
    ],
)
def test_only_one_user_message_is_taken(messages: object) -> None:
    assert str(refused(request("", messages=messages)).param).startswith("messages")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty_question"),
        (" \n", "empty_question"),
        ("x" * 101, "question_too_long"),
        ("\ud800", "invalid_unicode"),
        (None, "unsupported_value"),
        (7, "unsupported_value"),
        ([], "unsupported_value"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "unsupported_value"),
        ([{"type": "image_url", "image_url": {"url": SECRET}}], "unsupported_value"),
        ([{"type": "text", "text": 1}], "unsupported_value"),
        ([SECRET], "unsupported_value"),
    ],
)
def test_content_that_cannot_be_asked(content: object, code: str) -> None:
    error = refused(request("", messages=[{"role": "user", "content": content}]))
    assert (error.param, error.code) == ("messages[0].content", code)


def test_the_longest_question_is_taken() -> None:
    body = json.dumps(request("x" * 100)).encode()
    assert len(read_chat_request(body, 100).question) == 100


@pytest.mark.parametrize("message", [{"extra": 1}, {"name": 1}, {"tool_calls": []}])
def test_unknown_parts_of_a_message_are_refused(message: dict[str, object]) -> None:
    body = request("", messages=[{"role": "user", "content": "What?", **message}])
    assert str(refused(body).param).startswith("messages[0]")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        json.dumps(request("What?")).encode("utf-16"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused(body).code == "invalid_json"


def test_an_unknown_name_is_shown_short_and_printable() -> None:
    error = refused(request("What?", **{"x\ud800\n" + "y" * 100: 1}))
    assert error.param == "x??" + "y" * 61


def test_the_documentation_names_every_field() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in FIELDS if f"`{name}`" not in text] == []
