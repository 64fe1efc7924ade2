"""What real servers and the proxies before them send."""

import gzip
import json
import zlib
from dataclasses import replace

import openai
import pytest

from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.cloud.responses import Decompressor
from foggen_runtime.errors import HandoffError
from tests.support.cloud_server import MODEL, CloudServer, Fault, Reply, Script
from tests.support.local_cloud import LocalCloud, LocalClouds

QUESTION = "Which is larger? A) 3 B) 5"
DOCUMENT = b'{"choices": [{"message": {"content": "It is B"}, "finish_reason": "stop"}]}'
EVENTS = (
    b'data: {"choices": [{"delta": {"content": "It is B"}, "finish_reason": "stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
LINES = b"".join(b"event %d\n" % i for i in range(10_000))


def cloud_of(server: CloudServer | LocalCloud) -> Cloud:
    return Cloud(server.url, MODEL, api_key="sk-0123456789abcdef", max_retries=0)


def ask(
    cloud: Cloud, transport: LocalCloud | LocalClouds | None = None, *, stream: bool
) -> CloudAnswer:
    with CloudClient(cloud, transport=transport) as client:
        if not stream:
            return client.complete(QUESTION)
        *pieces, answer = client.stream(QUESTION)
    assert isinstance(answer, CloudAnswer)
    assert "".join(map(str, pieces)) == answer.text
    return answer


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def thinking(seconds: float, count: int, field: str = "reasoning_content") -> Script:
    """Think for a while, in bits, then answer."""
    thought = {"choices": [{"index": 0, "delta": {field: "hm "}}]}
    event = b"data: " + json.dumps(thought).encode() + b"\n\n"
    return Script((*(seconds / count, event) * count, seconds / count, EVENTS))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_no_silence(field: str) -> None:
    with CloudServer(fault=thinking(1.2, 8, field)) as server:
        answer = ask(replace(cloud_of(server), first_token_timeout=0.7), stream=True)
        with (
            openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as peer,
            peer.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
            ) as chunks,
        ):
            theirs = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert (answer.text, answer.reasoning) == (theirs, "hm " * 8) == ("It is B", "hm " * 8)


def test_thoughts_end_at_the_total_timeout_and_a_pause_in_them_at_the_first_token_timeout() -> None:
    server = LocalCloud(fault=thinking(30.0, 300))
    cloud = replace(cloud_of(server), first_token_timeout=0.4, total_timeout=0.8)
    with pytest.raises(HandoffError, match=r"total_timeout of 0.8 s"):
        ask(cloud, server, stream=True)
    server.fault = thinking(30.0, 1)
    with pytest.raises(HandoffError, match=r"first_token_timeout of 0.4 s"):
        ask(cloud, server, stream=True)


def test_comments_and_empty_events_are_silence_before_the_first_sign() -> None:
    keepalive = (0.05, b": keep-alive\n\ndata:\n\ndata: {}\n\n") * 100
    server = LocalCloud(fault=Script(keepalive))
    cloud = replace(cloud_of(server), first_token_timeout=0.4)
    with pytest.raises(HandoffError, match=r"first_token_timeout of 0.4 s"):
        ask(cloud, server, stream=True)


def test_thoughts_are_nothing_handed_out_so_another_endpoint_may_follow() -> None:
    thought = b'data: {"choices": [{"delta": {"reasoning": "hm"}}]}\n\n'
    first, second = LocalCloud(fault=Script((thought,))), LocalCloud(str.lower, name="second")
    cloud = replace(cloud_of(first), fallbacks=(Endpoint(second.url, MODEL),))
    assert ask(cloud, LocalClouds(first, second), stream=True).endpoint == second.url


def test_empty_lines_before_a_whole_answer_are_no_silence() -> None:
    lines = (0.1, b"\n") * 8
    server = LocalCloud(fault=Script((*lines, DOCUMENT), "application/json"))
    answer = ask(replace(cloud_of(server), first_token_timeout=0.5), server, stream=False)
    assert answer.text == "It is B"


@both_ways
@pytest.mark.parametrize(
    ("coding", "compressed"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_a_compressed_answer_is_read_although_none_was_asked_for(
    stream: bool, coding: str, compressed: object
) -> None:
    assert callable(compressed)
    body, kind = (EVENTS, "text/event-stream") if stream else (DOCUMENT, "application/json")
    reply = Reply(200, compressed(body), kind, (("Content-Encoding", coding),))
    with CloudServer(fault=reply) as server:
        assert ask(cloud_of(server), stream=stream).text == "It is B"
        assert server.requests[0].headers["accept-encoding"] == "identity"
        with openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as peer:
            theirs = peer.chat.completions.with_raw_response.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}]
            )
    # An old name for gzip, which the package does not know.
    assert coding == "x-gzip" or theirs.content == body


@both_ways
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (gzip.compress(bytes(64 << 20)), "exceeds 8388608 bytes"),
        (DOCUMENT, "not valid gzip"),
    ],
    ids=["bomb", "not compressed"],
)
def test_a_bomb_and_what_is_not_compressed_are_refused(
    stream: bool, body: bytes, message: str
) -> None:
    reply = Reply(200, body, headers=(("Content-Encoding", "gzip"),))
    server = LocalCloud(fault=reply)
    with pytest.raises(HandoffError, match=message) as caught:
        ask(cloud_of(server), server, stream=stream)
    assert caught.value.reason == "cloud_invalid"


@both_ways
def test_an_error_may_be_compressed_and_an_unknown_coding_is_named(stream: bool) -> None:
    busy = gzip.compress(b'{"error": {"message": "busy"}}')
    server = LocalCloud(fault=Reply(400, busy, headers=(("Content-Encoding", "gzip"),)))
    with pytest.raises(HandoffError, match=r"HTTP 400: busy$"):
        ask(cloud_of(server), server, stream=stream)
    server.fault = Reply(200, b"?", headers=(("Content-Encoding", "br"),))
    with pytest.raises(HandoffError, match=r"gzip or deflate\), is 'application/json' \(br\)"):
        ask(cloud_of(server), server, stream=stream)


@both_ways
def test_without_a_content_type_the_body_is_what_was_asked_for(stream: bool) -> None:
    server = LocalCloud(fault=Reply(200, EVENTS if stream else DOCUMENT, None))
    assert ask(cloud_of(server), server, stream=stream).text == "It is B"


@both_ways
@pytest.mark.parametrize(
    ("body", "kind"),
    [(EVENTS, "text/event-stream"), (DOCUMENT, "application/json; charset=utf-8")],
)
def test_a_server_may_stream_or_not_whatever_was_asked_for(
    stream: bool, body: bytes, kind: str
) -> None:
    server = LocalCloud(fault=Reply(200, body, kind))
    assert ask(cloud_of(server), server, stream=stream).text == "It is B"


@both_ways
@pytest.mark.parametrize("setting", [None, True, False])
def test_what_the_endpoint_is_asked_for_follows_its_setting_else_the_caller(
    stream: bool, setting: bool | None
) -> None:
    server = LocalCloud()
    answer = ask(replace(cloud_of(server), stream=setting), server, stream=stream)
    body = json.loads(server.requests[0].body)
    streamed = stream if setting is None else setting
    assert body["stream"] is streamed
    assert ("stream_options" in body) is streamed
    assert server.requests[0].headers["accept"].endswith("event-stream" if streamed else "json")
    assert (answer.text, answer.prompt_tokens) == (QUESTION.upper(), len(QUESTION))


def test_a_stream_that_nobody_sees_may_be_asked_for_again() -> None:
    cut, other = LocalCloud(fault=Fault.CUT), LocalCloud(name="other")
    cloud = replace(cloud_of(cut), stream=True, fallbacks=(Endpoint(other.url, MODEL),))
    assert ask(cloud, LocalClouds(cut, other), stream=False).endpoint == other.url


def test_a_stream_that_nobody_sees_tells_in_time_of_a_server_that_hangs() -> None:
    server = LocalCloud(fault=Fault.HANG)
    cloud = replace(cloud_of(server), first_token_timeout=0.2, stream=True)
    with pytest.raises(HandoffError, match=r"first_token_timeout of 0.2 s"):
        ask(cloud, server, stream=False)


@both_ways
@pytest.mark.parametrize("status", [408, 425, 429, 498, 500, 520, 521, 522, 523, 524, 529])
def test_what_may_pass_is_tried_again(stream: bool, status: int) -> None:
    server = LocalCloud()
    server.first = [replace(Reply.error(status, "busy"), headers=(("Retry-After", "0"),))]
    answer = ask(replace(cloud_of(server), max_retries=1), server, stream=stream)
    assert (answer.text, answer.attempts) == (QUESTION.upper(), 2)


@both_ways
@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("https://new.example/v2/chat/completions", "to https://new.example/v2, which is not"),
        ("//new.example:8443/v1/chat/completions", "to http://new.example:8443/v1, which is not"),
        (
            "https://user:pass@new.example/login?token=abc#x",
            "to https://new.example/login, which is not",
        ),
        ("/v2/chat/completions", "/v2, which is not followed"),
    ],
)
def test_a_redirect_says_where_to_and_what_to_do(
    stream: bool, status: int, location: str, place: str
) -> None:
    reply = Reply(status, b"", headers=(("Location", location),))
    server = LocalCloud(fault=reply)
    with pytest.raises(HandoffError) as caught:
        ask(cloud_of(server), server, stream=stream)
    error = caught.value
    assert (error.reason, error.status, len(server.requests)) == ("cloud_invalid", status, 1)
    assert place in str(error)
    assert "change its URL to" in str(error)
    assert "pass" not in str(error)
    assert "abc" not in str(error)


@pytest.mark.parametrize("location", ["", "http://[", "?q=Which is larger? A) 3"])
def test_a_redirect_to_nowhere_is_told_without_it(location: str) -> None:
    reply = Reply(302, b"", headers=(("Location", location),))
    server = LocalCloud(fault=reply)
    with pytest.raises(HandoffError, match="HTTP 302") as told:
        ask(cloud_of(server), server, stream=False)
    assert "Which is" not in str(told.value)


@both_ways
def test_a_refusal_is_no_failure_of_the_cloud(stream: bool) -> None:
    said = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    choice = {"index": 0, "delta" if stream else "message": said, "finish_reason": "stop"}
    document = json.dumps({"choices": [choice]}).encode()
    body = b"data: " + document + b"\n\ndata: [DONE]\n\n" if stream else document
    kind = "text/event-stream" if stream else "application/json"
    server, other = LocalCloud(fault=Reply(200, body, kind)), LocalCloud(name="other")
    cloud = replace(cloud_of(server), fallbacks=(Endpoint(other.url, MODEL),))
    answer = ask(cloud, LocalClouds(server, other), stream=stream)
    assert other.requests == []
    assert (answer.text, answer.refusal) == ("", "I cannot help with that.")


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_the_body_comes_out_however_it_is_cut(compress: object, size: int) -> None:
    assert callable(compress)
    body = compress(LINES)
    reading = Decompressor()
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert b"".join(piece for chunk in chunks for piece in reading.feed(chunk)) == LINES


def test_what_was_flushed_comes_at_once() -> None:
    writing = zlib.compressobj(wbits=31)
    reading = Decompressor()
    for event in (b"data: a\n\n", b"data: b\n\n"):
        chunk = writing.compress(event) + writing.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(reading.feed(chunk)) == event


def test_a_bomb_comes_in_small_pieces_that_can_be_refused() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    pieces = Decompressor().feed(bomb)
    assert [len(next(pieces)) for _ in range(3)] == [1 << 16] * 3
    assert sum(map(len, pieces)) == (64 << 20) - (3 << 16)


def test_what_follows_the_end_is_left_alone_and_what_is_not_compressed_is_refused() -> None:
    assert b"".join(Decompressor().feed(gzip.compress(b"a") + b"junk")) == b"a"
    with pytest.raises(zlib.error):
        list(Decompressor().feed(b"data: a\n\n"))
