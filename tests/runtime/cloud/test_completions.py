"""Reading what an OpenAI-compatible server answers, byte for byte."""

import json

import pytest

from foggen_runtime.cloud.completions import CloudAnswer, StreamReader, read_completion, shown
from foggen_runtime.errors import HandoffError


def event(content: object = None, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice]}, ensure_ascii=False).encode()


def read(*chunks: bytes) -> tuple[list[str], CloudAnswer]:
    reader = StreamReader(())
    texts = [text for chunk in chunks for text in reader.feed(chunk)]
    texts += reader.finish()
    return texts, reader.answer()


def answer(text: str, finish_reason: str | None = "stop") -> CloudAnswer:
    return CloudAnswer(text, finish_reason, None, None)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("colon", [b"data: ", b"data:"])
@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 1000])
def test_a_stream_reads_the_same_however_it_is_written_and_cut(
    line_end: bytes, colon: bytes, piece_bytes: int
) -> None:
    lines = [b": comment", b"", b"event: x", colon + event("Жауабы:\u2028"), b"retry: 3", b""]
    lines += [colon + event(" 🦊\x85", "stop"), b"", colon + b"[DONE]", b"", b""]
    body = line_end.join(lines)
    pieces = [body[i : i + piece_bytes] for i in range(0, len(body), piece_bytes)]
    assert read(*pieces) == (["Жауабы:\u2028", " 🦊\x85"], answer("Жауабы:\u2028 🦊\x85"))


def test_data_lines_of_one_event_belong_together() -> None:
    body = b'data: {"choices": [{"delta":\r\ndata: {"content": "a"}}]}\r\n\r\ndata: [DONE]\r\n\r\n'
    for cut in range(len(body)):
        assert read(body[:cut], body[cut:]) == (["a"], answer("a", None))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: " + event("a") + b"\n\ndata: [DONE]\n\n", answer("a", None)),
        (b"data: " + event("a", "length") + b"\n\n", answer("a", "length")),
        (b"data: " + event("a") + b"\n\ndata: [DONE]", answer("a", None)),
        (b"data: " + event("a", "stop"), answer("a")),
        (b"data: " + event("a", "stop") + b"\n\ndata: " + event() + b"\n\n", answer("a")),
        (b"data: " + event("a") + b"\n\ndata: [DONE]\n\ndata: junk\n\n", answer("a", None)),
    ],
)
def test_a_stream_is_whole_with_done_or_a_finish_reason(body: bytes, expected: CloudAnswer) -> None:
    assert read(body) == (["a"], expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "ended within"),
        (b": nothing but comments\n\n", "ended within"),
        (b"data: " + event("a") + b"\n\n", "ended within"),
        (b"data: " + event("a")[:-5], "no JSON object"),
        (b"data: 5\n\n", "no JSON object"),
        (b"data: \xff\xfe\n\n", "no JSON object"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "no JSON object"),
        (b"data: [DONE]\n\n", "holds no text"),
        (b"data: " + event(" \n", "stop") + b"\n\n", "holds no text"),
        (b"data: " + event(["a"], "stop") + b"\n\n", "no valid text"),
        (b'data: {"choices": [{"delta": {"content": "\\ud83e"}}]}\n\n', "no valid text"),
        (b'data: {"error": {"message": "out of\\nmemory"}}\n\n', "error: out of memory$"),
    ],
)
def test_a_broken_stream_is_invalid(body: bytes, message: str) -> None:
    with pytest.raises(HandoffError, match=message) as caught:
        read(body)
    assert caught.value.reason == "cloud_invalid"


def test_pieces_come_before_what_breaks_the_stream() -> None:
    stream = StreamReader(()).feed(b"data: " + event("a") + b"\n\ndata: junk\n\n")
    assert next(stream) == "a"
    with pytest.raises(HandoffError):
        next(stream)


def test_usage_is_the_last_that_was_told() -> None:
    told = [{"prompt_tokens": 0, "completion_tokens": 1}, None, {"completion_tokens": 2}, {}]
    events = [
        b'data: {"choices": [{"delta": {"content": "a"}}], "usage": %b}\n\n'
        % json.dumps(usage).encode()
        for usage in told
    ]
    assert read(*events, b"data: [DONE]\n\n")[1] == CloudAnswer("aaaa", None, 0, 2)


@pytest.mark.parametrize("usage", [None, 3, {}, {"prompt_tokens": True, "completion_tokens": -1}])
def test_a_completion_with_strange_usage_still_answers(usage: object) -> None:
    choices = [{"message": {"content": "a"}, "finish_reason": 7}]
    body = json.dumps({"choices": choices, "usage": usage, "error": None}).encode()
    assert read_completion(body, ()) == answer("a", None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON object"),
        (b"<html>", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b"{}", "holds no text"),
        (b'{"choices": null}', "holds no text"),
        (b'{"choices": []}', "holds no text"),
        (b'{"choices": {"0": {}}}', "holds no text"),
        (b'{"choices": [{"message": null}]}', "holds no text"),
        (b'{"choices": [{"message": {"content": null, "refusal": "no"}}]}', "holds no text"),
        (b'{"choices": [{"message": {"content": ""}}]}', "holds no text"),
        (b'{"choices": [{"message": {"content": 5}}]}', "no valid text"),
        (b'{"error": {"message": "busy"}}', "error: busy$"),
        (b'{"error": {"code": 1}}', "error$"),
        (b'{"error": "busy"}', "error: busy$"),
    ],
)
def test_what_is_no_completion_is_invalid(body: bytes, message: str) -> None:
    with pytest.raises(HandoffError, match=message) as caught:
        read_completion(body, ())
    assert caught.value.reason == "cloud_invalid"


def test_foreign_text_is_shown_as_one_short_line() -> None:
    assert shown("a\x1b[31m\n\n b\ud83e", ()) == "a [31m b"
    assert shown("абв" * 1000, ("question",)) == ("абв" * 1000)[:200]


@pytest.mark.parametrize("start", [0, 100, 187, 188, 195, 199])
def test_foreign_text_is_withheld_where_it_repeats_a_secret(start: int) -> None:
    secret = "Қай  жылы \n Қазақстан тәуелсіздік алды?"
    text = "." * start + secret + "." * 50
    assert "withheld" in shown(text, ("", secret))
    assert "withheld" in shown(text.replace("\n", " "), (secret,))
    assert "withheld" in shown("." * start + secret[12:24], (secret,))
    assert "withheld" in shown("pass 2+2?", ("2+2?",))
    assert "withheld" not in shown(text, ("another question", ""))
