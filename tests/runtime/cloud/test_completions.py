"""Reading what an OpenAI-compatible server answers, byte for byte."""

import json

import pytest

from foggen_runtime.cloud.completions import CloudAnswer, StreamReader, read_completion
from foggen_runtime.cloud.quoting import shown
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
        (b"", "ended before the answer did"),
        (b": nothing but comments\n\n", "ended before the answer did"),
        (b"data: " + event("a") + b"\n\n", "ended before the answer did"),
        (b"data: " + event("a")[:-5], "not a JSON object"),
        (b"data: 5\n\n", "not a JSON object"),
        (b"data: \xff\xfe\n\n", "not a JSON object"),
        (b"data: " + b"[" * 100_000 + b"\n\n", "not a JSON object"),
        (b"data: [DONE]\n\n", "holds no text"),
        (b"data: " + event(" \n", "stop") + b"\n\n", "holds no text"),
        (b"data: " + event(["a"], "stop") + b"\n\n", "not valid text"),
        (b'data: {"choices": [{"delta": {"content": "\\ud83e"}}]}\n\n', "not valid text"),
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
        (b"", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"{}", "holds no text"),
        (b'{"choices": null}', "holds no text"),
        (b'{"choices": []}', "holds no text"),
        (b'{"choices": {"0": {}}}', "holds no text"),
        (b'{"choices": [{"message": null}]}', "holds no text"),
        (b'{"choices": [{"message": {"content": ""}}]}', "holds no text"),
        (b'{"choices": [{"message": {"content": 5}}]}', "not valid text"),
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


BOM = b"\xef\xbb\xbf"
REASONED = (
    b": OPENROUTER PROCESSING\r\n\r\n",
    b"data:\r\n\r\n",
    b"event: ping\r\ndata: {}\r\n\r\n",
    'data: {"choices":[{"delta":{"role":"assistant","reasoning":"Не B?"}}]}\n\n'.encode(),
    b'data: {"choices":[{"delta":{"content":"<think>C?</th"}}]}\n\n',
    b"data: \n\n",
    b'data: {"choices":[{"delta":{"content":"ink>\\n\\n"}}]}\r\r',
    b'data: {"choices":[{"delta":{"content":[{"type":"text","text":"It is "},'
    b'{"type":"reference","reference_ids":[1]}]}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"A 🦊"},"finish_reason":"stop"}]}\n\n'.encode(),
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n',
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("start", [b"", BOM], ids=["plain", "BOM"])
def test_a_stream_reads_the_same_cut_at_every_two_places(start: bytes) -> None:
    body = start + b"".join(REASONED)
    whole = CloudAnswer("It is A 🦊", "stop", 3, 9, reasoning="Не B?C?")
    for cut in range(len(body) + 1):
        for second in range(cut, len(body) + 1, 97):
            texts, read_answer = read(body[:cut], body[cut:second], body[second:])
            assert ("".join(texts), read_answer) == (whole.text, whole), (cut, second)


def test_a_byte_order_mark_before_the_first_event_or_a_document_hides_nothing() -> None:
    assert read(BOM + b"data: " + event("a", "stop") + b"\n\n") == (["a"], answer("a"))
    document = b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}'
    assert read_completion(BOM + document, ()) == answer("a")


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"content": None, "reasoning": "hm"},
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": "<think>"},
        {"content": "a"},
        {"refusal": "No"},
    ],
    ids=str,
)
def test_thoughts_in_any_form_show_the_model_at_work(delta: object) -> None:
    reader = StreamReader(())
    list(reader.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"))
    assert reader.begun


@pytest.mark.parametrize(
    "data",
    [
        b": keep-alive",
        b"data:",
        b"data: {}",
        b'data: {"choices": [{"delta": {"role": "assistant", "content": "", "refusal": null}}]}',
        b'data: {"choices": [{"delta": {"content": null, "reasoning": "", "tool_calls": []}}]}',
    ],
)
def test_what_keeps_the_connection_alive_shows_nothing(data: bytes) -> None:
    reader = StreamReader(())
    assert list(reader.feed(data + b"\n\n")) == []
    assert not reader.begun


def message(**fields: object) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **fields}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def delta(**fields: object) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": "stop"}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("fields", "text", "reasoning"),
    [
        ({"content": "a", "reasoning_content": "hm"}, "a", "hm"),
        ({"content": "a", "reasoning": "hm", "reasoning_content": "hm"}, "a", "hm"),
        ({"content": "a", "reasoning": {"effort": "low"}}, "a", ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab", ""),
        ({"content": [{"type": "output_text", "text": "a"}]}, "a", ""),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            "a",
            "hm",
        ),
        ({"content": "<think>hm</think>\n\na"}, "a", "hm"),
        ({"content": "hm\n</think>\n\na"}, "a", "hm\n"),
        ({"content": "a", "refusal": None}, "a", ""),
    ],
)
def test_text_and_thoughts_are_told_apart_streamed_or_not(
    fields: dict[str, object], text: str, reasoning: str
) -> None:
    expected = CloudAnswer(text, "stop", None, None, reasoning=reasoning)
    assert read_completion(message(**fields), ()) == expected
    assert read(delta(**fields))[1] == expected


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"content": None, "refusal": "I cannot\nhelp."}, "I cannot help."),
        ({"content": "", "refusal": "No."}, "No."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"refusal": "You asked: tell me how"}, "(message withheld: it repeats the question or"),
    ],
)
def test_a_refusal_is_an_answer_without_text(fields: dict[str, object], refusal: str) -> None:
    secrets = ("tell me how",)
    answers = [read_completion(message(**fields), secrets)]
    reader = StreamReader(secrets)
    assert list(reader.feed(delta(**fields))) == []
    answers.append(reader.answer())
    for each in answers:
        assert each.text == ""
        assert each.refusal is not None
        assert each.refusal.startswith(refusal)


def test_an_answer_that_a_content_filter_withheld_is_a_refusal() -> None:
    body = b"data: " + event(None, "content_filter") + b"\n\ndata: [DONE]\n\n"
    assert read(body)[1].refusal == "withheld (content_filter)"
    cut = b"data: " + event("a") + b"\n\ndata: " + event(None, "content_filter") + b"\n\n"
    assert read(cut)[1] == answer("a", "content_filter")


@pytest.mark.parametrize("fields", [{"reasoning": "hm"}, {"content": "<think>hm"}])
def test_thoughts_alone_are_no_answer_and_the_message_says_what_to_do(
    fields: dict[str, object],
) -> None:
    for reading in (lambda: read_completion(message(**fields), ()), lambda: read(delta(**fields))):
        with pytest.raises(HandoffError, match=r"only reasoning .*; allow more tokens") as caught:
            reading()
        assert caught.value.reason == "cloud_invalid"


@pytest.mark.parametrize(
    ("error", "reason", "status"),
    [
        ({"code": 503, "message": "no provider"}, "cloud_error", 503),
        ({"code": "429", "message": "slow down"}, "cloud_rejected", 429),
        ({"code": "server_error", "message": "gone"}, "cloud_invalid", None),
        ({"code": 1}, "cloud_invalid", None),
        ({"code": "9" * 5000}, "cloud_invalid", None),
    ],
)
def test_an_error_in_place_of_an_answer_counts_as_the_status_it_names(
    error: dict[str, object], reason: str, status: int | None
) -> None:
    document = {"error": error, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}
    nested = {"choices": [{"error": error, "message": {"content": ""}}]}
    for body in (document, nested):
        with pytest.raises(HandoffError, match="answered with an error") as caught:
            read_completion(json.dumps(body).encode(), ())
        assert (caught.value.reason, caught.value.status) == (reason, status)
