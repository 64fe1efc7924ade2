"""The cloud client, beside the `openai` package.

Against a real server where bytes on the wire, TLS, cancelling or dripping are in question.
"""

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import openai
import pytest

from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.errors import ConfigError, HandoffError, QuestionError
from tests.support.cloud_server import MODEL, CloudServer, Fault, Reply
from tests.support.local_cloud import LocalCloud, LocalClouds

KEY = "sk-0123456789abcdef"
QUESTION = "Қазақстанның астанасы қай қала? 🦊\u2028\r\nA. Астана\nB. Алматы\u0000\\\"'</s>"
ANSWER = b'{"choices": [{"message": {"content": "a"}}]}'

Ask = Callable[[CloudClient, str], CloudAnswer]


def whole(client: CloudClient, question: str) -> CloudAnswer:
    return client.complete(question)


def streamed(client: CloudClient, question: str) -> CloudAnswer:
    *deltas, answer = client.stream(question)
    assert isinstance(answer, CloudAnswer)
    assert "".join(map(str, deltas)) == answer.text
    return answer


both_ways = pytest.mark.parametrize("ask", [whole, streamed])


def cloud_of(server: CloudServer | LocalCloud) -> Cloud:
    return Cloud(server.url, MODEL, api_key=KEY, max_retries=0)


def client_of(server: LocalCloud) -> CloudClient:
    return CloudClient(cloud_of(server), transport=server)


def failure(
    ask: Ask, cloud: Cloud, transport: LocalCloud | LocalClouds | None = None
) -> HandoffError:
    client = CloudClient(cloud, transport=transport)
    with client, pytest.raises(HandoffError) as caught:
        ask(client, QUESTION)
    assert KEY not in str(caught.value)
    assert QUESTION not in str(caught.value)
    return caught.value


def sent(server: CloudServer | LocalCloud) -> dict[str, object]:
    body = json.loads(server.requests[-1].body.decode())
    assert isinstance(body, dict)
    return body


@both_ways
@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 16])
def test_text_and_usage_are_what_the_openai_package_gets(ask: Ask, piece_bytes: int) -> None:
    with (
        CloudServer(lambda question: question[::-1]) as server,
        CloudClient(cloud_of(server)) as client,
        openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as peer,
    ):
        server.piece_bytes = piece_bytes
        answer = ask(client, QUESTION)
        ours = sent(server)
        theirs = ask_openai(peer, stream=ask is streamed)
        assert ours == sent(server)
        assert [model.id for model in peer.models.list()] == [MODEL]
    told = CloudAnswer(QUESTION[::-1], "stop", len(QUESTION), len(QUESTION))
    assert theirs == told
    assert answer == replace(
        told, endpoint=server.url, model=MODEL, attempts=1, request_id="chatcmpl-1"
    )


def ask_openai(peer: openai.OpenAI, *, stream: bool) -> CloudAnswer:
    completions = peer.chat.completions
    if not stream:
        reply = completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=False
        )
        assert reply.usage is not None
        return CloudAnswer(
            reply.choices[0].message.content or "",
            reply.choices[0].finish_reason,
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )
    answer = CloudAnswer("", None, None, None)
    for chunk in completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        for choice in chunk.choices:
            text = answer.text + (choice.delta.content or "")
            answer = replace(answer, text=text, finish_reason=choice.finish_reason)
        if chunk.usage is not None:
            used = chunk.usage
            answer = replace(
                answer,
                prompt_tokens=used.prompt_tokens,
                completion_tokens=used.completion_tokens,
            )
    return answer


@both_ways
def test_exactly_the_users_message_leaves_the_device(ask: Ask) -> None:
    with CloudServer() as server, CloudClient(cloud_of(server)) as client:
        ask(client, QUESTION)
        (request,) = server.requests
    expected: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": ask is streamed,
    }
    if ask is streamed:
        expected["stream_options"] = {"include_usage": True}
    assert sent(server) == expected
    assert QUESTION.split()[0].encode() in request.body
    assert request.path == "/v1/chat/completions"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert set(request.headers) == {
        *("accept", "accept-encoding", "authorization", "connection", "content-length"),
        *("content-type", "host", "idempotency-key", "user-agent"),
    }
    assert uuid.UUID(request.headers["idempotency-key"]).version == 4


def test_a_system_prompt_and_a_length_limit_are_sent_where_set() -> None:
    server = LocalCloud()
    cloud = Cloud(server.url, MODEL, system_prompt="Жауабы қысқа болсын.", max_tokens=5)
    with CloudClient(cloud, transport=server) as client:
        client.complete("a")
    assert sent(server) == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Жауабы қысқа болсын."},
            {"role": "user", "content": "a"},
        ],
        "stream": False,
        "max_tokens": 5,
    }
    assert "authorization" not in server.requests[0].headers


def test_no_cookie_is_sent_back() -> None:
    cookie = (("Set-Cookie", "track=1; Path=/"),)
    server = LocalCloud(fault=Reply(200, ANSWER, headers=cookie))
    with client_of(server) as client:
        client.complete("a")
        client.complete("b")
    assert "cookie" not in server.requests[1].headers


def test_the_proxy_is_the_one_given_never_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with CloudServer() as server, CloudServer(fault=Fault.REFUSE) as nobody:
        monkeypatch.setenv("HTTP_PROXY", nobody.root)
        monkeypatch.setenv("ALL_PROXY", nobody.root)
        with CloudClient(cloud_of(server)) as client:
            assert client.complete("a").text == "A"
        proxy = server.root.replace("//", "//user:secret-word@")
        cloud = Cloud("http://cloud.invalid/v1", MODEL, proxy=proxy)
        with CloudClient(cloud) as client:
            assert client.complete("b").text == "B"
    assert server.requests[1].path == "http://cloud.invalid/v1/chat/completions"
    assert "secret-word" not in repr(cloud)


@both_ways
@pytest.mark.parametrize(
    ("fault", "reason", "message"),
    [
        (Fault.HALF, "cloud_invalid", "not a JSON object"),
        (Fault.CUT, "cloud_invalid", "peer closed connection"),
        (Fault.HUGE, "cloud_invalid", "exceeds 8388608 bytes"),
        (Reply.error(401, "wrong key"), "cloud_rejected", "HTTP 401: wrong key$"),
        (Reply.error(429, "slow\ndown"), "cloud_rejected", "HTTP 429: slow down$"),
        (Reply.error(400, "long" * 100), "cloud_rejected", f"HTTP 400: {'long' * 50}$"),
        (Reply.error(400, f"bad: {QUESTION}"), "cloud_rejected", "HTTP 400: .message withheld"),
        (Reply.error(400, ascii(QUESTION)), "cloud_rejected", "HTTP 400: .message withheld"),
        (Reply.error(401, f"key {KEY}?"), "cloud_rejected", "HTTP 401: .message withheld"),
        (Reply(404, b'{"detail": "Not Found"}'), "cloud_rejected", "HTTP 404: Not Found$"),
        (Reply(403, b"<html>", "text/html"), "cloud_rejected", "HTTP 403$"),
        (Reply.error(500, "out of memory"), "cloud_error", "HTTP 500: out of memory$"),
        (Reply(503, b""), "cloud_error", "HTTP 503$"),
        (Reply(204, b""), "cloud_invalid", "HTTP 204$"),
        (Reply(200, b"<html>", "text/html"), "cloud_invalid", "is 'text/html' .identity.$"),
        (Reply.error(200, "no model"), "cloud_invalid", "no model$"),
    ],
    ids=str,
)
def test_every_failure_is_a_handoff_error_with_a_reason(
    ask: Ask, fault: Fault | Reply, reason: str, message: str
) -> None:
    server = LocalCloud(fault=fault)
    error = failure(ask, cloud_of(server), server)
    assert error.reason == reason
    assert re.search(message, str(error))


@both_ways
@pytest.mark.parametrize(
    ("fault", "reason", "message"),
    [
        (Fault.REFUSE, "cloud_unreachable", "ConnectError: .*Connection refused"),
        (Fault.CUT, "cloud_invalid", "RemoteProtocolError: peer closed connection"),
        (Fault.NOT_HTTP, "cloud_invalid", "message withheld"),
    ],
)
def test_what_fails_on_a_socket_has_the_same_form(
    ask: Ask, fault: Fault, reason: str, message: str
) -> None:
    with CloudServer(fault=fault) as server:
        error = failure(ask, cloud_of(server))
    assert error.reason == reason
    assert re.search(message, str(error))


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        (whole, Reply(200, b'{"choices": [')),
        (whole, Reply(200, b'{"choices": []}', "application/json; charset=utf-8")),
        (whole, Reply(200, b"data: [DONE]\n\n", "text/event-stream")),
        (whole, Reply(200, ANSWER, headers=(("Content-Encoding", "gzip"),))),
        (streamed, Reply(200, b"data: {\n\n", "text/event-stream")),
        (streamed, Reply(200, b"data: [DONE]\n\n", "text/event-stream")),
        (streamed, Reply(200, b"data: {", None)),
        (streamed, Reply(200, b"", "text/event-stream")),
    ],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_a_body_that_is_no_answer_is_invalid(ask: Ask, body: Reply) -> None:
    server = LocalCloud(fault=body)
    assert failure(ask, cloud_of(server), server).reason == "cloud_invalid"


@both_ways
def test_a_redirect_is_not_followed(ask: Ask) -> None:
    other = LocalCloud(name="other")
    moved = Reply(307, b"", headers=(("Location", f"{other.url}/chat/completions"),))
    server = LocalCloud(fault=moved)
    error = failure(ask, cloud_of(server), LocalClouds(server, other))
    assert (error.reason, other.requests) == ("cloud_invalid", [])


def test_text_comes_before_the_stream_breaks() -> None:
    with client_of(LocalCloud(str, Fault.CUT)) as client:
        stream = client.stream("ab" * 1000)
        assert next(stream) == "ab" * 500
        with pytest.raises(HandoffError) as caught:
            next(stream)
    assert caught.value.reason == "cloud_invalid"


@both_ways
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BODY])
def test_silence_ends_at_the_first_token_timeout(ask: Ask, fault: Fault) -> None:
    server = LocalCloud(fault=fault)
    cloud = replace(cloud_of(server), first_token_timeout=0.2, stream=True)
    start = time.perf_counter()
    error = failure(ask, cloud, server)
    assert 0.2 <= time.perf_counter() - start < 3
    assert error.reason == "cloud_timeout"
    assert "first_token_timeout of 0.2 s" in str(error)
    assert server.left.is_set()


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BODY])
def test_a_whole_answer_may_take_all_the_time_unless_another_endpoint_can_be_asked(
    fault: Fault,
) -> None:
    server, other = LocalCloud(fault=fault), LocalCloud(name="other")
    cloud = replace(cloud_of(server), first_token_timeout=0.1, total_timeout=0.4)
    error = failure(whole, cloud, server)
    assert "total_timeout of 0.4 s" in str(error)
    cloud = replace(cloud, total_timeout=20.0, fallbacks=(Endpoint(other.url, MODEL),))
    with CloudClient(cloud, transport=LocalClouds(server, other)) as client:
        assert whole(client, "a").endpoint == other.url


@both_ways
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP_HEAD, Fault.DRIP, Fault.FLOOD])
def test_the_total_timeout_holds_whatever_arrives(ask: Ask, fault: Fault) -> None:
    with CloudServer(fault=fault) as server:
        cloud = replace(cloud_of(server), total_timeout=0.5)
        with CloudClient(cloud) as client:
            start = time.perf_counter()
            with pytest.raises(HandoffError) as caught:
                ask(client, QUESTION)
            seconds = time.perf_counter() - start
        assert server.disconnected.wait(10)
    assert caught.value.reason == "cloud_timeout"
    # To a tenth: the long test of faults. This one has to pass on a busy machine.
    assert 0.5 <= seconds < 2.0


def test_the_total_timeout_holds_while_the_consumer_waits() -> None:
    server = LocalCloud(str, Fault.STALL)
    cloud = replace(cloud_of(server), total_timeout=0.5)
    with CloudClient(cloud, transport=server) as client:
        stream = client.stream("ab" * 1000)
        assert next(stream) == "ab" * 500
        time.sleep(0.6)
        with pytest.raises(HandoffError) as caught:
            next(stream)
    assert caught.value.reason == "cloud_timeout"


def test_closing_the_stream_closes_the_connection() -> None:
    with CloudServer(str, Fault.STALL) as server, CloudClient(cloud_of(server)) as client:
        stream = client.stream("ab" * 1000)
        next(stream)
        assert not server.disconnected.is_set()
        stream.close()
        assert server.disconnected.wait(10)


def test_an_unread_stream_sends_nothing() -> None:
    server = LocalCloud()
    with client_of(server) as client:
        client.stream("a").close()
    assert server.requests == []


@both_ways
def test_tls_with_a_server_that_has_none_is_unreachable(ask: Ask) -> None:
    with CloudServer() as server:
        error = failure(ask, replace(cloud_of(server), url=server.url.replace("http:", "https:")))
    assert (error.reason, "SSL" in str(error)) == ("cloud_unreachable", True)


@pytest.mark.parametrize(
    ("connect_timeout", "total_timeout", "reason"),
    [(0.2, 5.0, "cloud_unreachable"), (5.0, 0.2, "cloud_timeout")],
)
def test_a_silent_tls_handshake_ends_at_the_first_limit(
    connect_timeout: float, total_timeout: float, reason: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        cloud = Cloud(
            url,
            MODEL,
            connect_timeout=connect_timeout,
            total_timeout=total_timeout,
            max_retries=0,
        )
        start = time.perf_counter()
        error = failure(whole, cloud)
        assert time.perf_counter() - start < 3
    assert error.reason == reason


def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert failure(whole, Cloud("http://cloud.invalid/v1", MODEL)).reason == "cloud_unreachable"


def test_one_client_serves_several_threads() -> None:
    with CloudServer() as server, CloudClient(cloud_of(server)) as client:
        texts: dict[str, str] = {}

        def ask(question: str) -> None:
            texts[question] = client.complete(question).text

        threads = [threading.Thread(target=ask, args=(f"q{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == {f"q{i}": f"Q{i}" for i in range(8)}


@both_ways
def test_a_question_that_is_no_text_is_refused_unsent(ask: Ask) -> None:
    refused = pytest.raises(QuestionError, match="question: must be valid Unicode")
    server = LocalCloud()
    with client_of(server) as client, refused:
        ask(client, "half a fox \ud83e")
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://cloud:8000/v1",
        "http://cloud:8000/v1/",
        "http://cloud:8000/v1/chat/completions",
        "http://cloud:8000/v1/chat/completions/",
    ],
)
def test_the_base_url_may_be_written_in_several_ways(url: str) -> None:
    assert Cloud(url, MODEL).completions_url == "http://cloud:8000/v1/chat/completions"


@pytest.mark.parametrize("url", ["HTTPS://қазына.kz/v1", "http://[::1]:80/v1", "http://a_b/@x/v1"])
def test_unusual_urls_are_accepted(url: str) -> None:
    assert Cloud(url, MODEL).url == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "cloud/v1", "ftp://cloud/v1", "http://", "http:///v1", "http://[::1", "http://a..b/"),
        *(
            "http://a b/",
            "http://cloud/v1\n",
            "http://cloud/v1 ",
            "http://cloud:x",
            "http://cloud:65536/v1",
        ),
        *("http://a\\b/", "http://cloud/\ud83e", "http://" + "a" * 64 + ".kz"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="url: must be an http"):
        Cloud(url, MODEL)
    with pytest.raises(ConfigError, match="proxy: must be an http"):
        Cloud("http://cloud/v1", MODEL, proxy=url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://user:secret-word@cloud/v1", "http://secret-word@cloud/v1"),
        *("http://cloud/v1?key=secret-word", "http://cloud/v1#secret-word", "http://cloud/v1?"),
        "ftp://user:secret-word@cloud/v1",
    ],
)
def test_a_url_with_secrets_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^url: must") as caught:
        Cloud(url, MODEL)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": " "}, "model: must be the name of a model, is ' '"),
        ({"model": "\ud83e"}, "model: must be"),
        ({"api_key": ""}, "api_key: must be visible ASCII"),
        ({"system_prompt": "\ud83e"}, "system_prompt: must be valid Unicode"),
        ({"connect_timeout": 0}, "connect_timeout: must be above 0 .*, is 0"),
        ({"first_token_timeout": -1.0}, "first_token_timeout: must be above 0"),
        ({"total_timeout": float("nan")}, "total_timeout: must be above 0"),
        ({"total_timeout": 86_401}, "at most 86400 s, is 86401"),
        ({"max_tokens": 0}, "max_tokens: must be at least 1, is 0"),
    ],
)
def test_an_option_that_cannot_work_is_refused(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"url": "http://cloud/v1", "model": MODEL, **change}
    with pytest.raises(ConfigError, match=message):
        Cloud(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}é"])
def test_a_key_that_is_no_header_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key: must be visible ASCII") as caught:
        Cloud("http://cloud/v1", MODEL, api_key=key)
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_repr() -> None:
    cloud = Cloud("http://cloud/v1", MODEL, api_key=KEY)
    with CloudClient(cloud) as client:
        assert KEY not in f"{cloud!r} {client!r}"
