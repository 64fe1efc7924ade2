"""The client for event loops: what the blocking one is made of, and what only it can do."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import openai
import pytest

from foggen_runtime.cloud.client import AsyncCloudClient, CloudClient
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import HandoffError, QuestionError
from tests.support.cloud_server import MODEL, CloudServer, Fault, Reply
from tests.support.local_cloud import LocalCloud

QUESTION = "Which is larger? A) 3 B) 5"


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_it_answers_as_the_openai_package_and_the_blocking_client_do() -> None:
    async def ask(server: CloudServer) -> None:
        async with AsyncCloudClient(Cloud(server.url, MODEL)) as client:
            whole = await client.complete(QUESTION)
            *pieces, streamed = [item async for item in client.stream(QUESTION)]
        async with openai.AsyncOpenAI(base_url=server.url, api_key="k") as peer:
            reply = await peer.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": QUESTION}]
            )
        assert whole == streamed
        assert "".join(map(str, pieces)) == whole.text == reply.choices[0].message.content
        assert whole == await asyncio.to_thread(blocking, server)

    def blocking(server: CloudServer) -> CloudAnswer:
        with CloudClient(Cloud(server.url, MODEL)) as client:
            return client.complete(QUESTION)

    with CloudServer() as server:
        in_loop(ask(server))


def test_many_questions_wait_together() -> None:
    async def ask(server: LocalCloud) -> None:
        patience = Cloud(server.url, MODEL, max_retries=0, breaker_failures=100)
        cloud = replace(patience, total_timeout=0.3)
        async with AsyncCloudClient(cloud, transport=server) as client:
            start = time.perf_counter()
            outcomes = await asyncio.gather(
                *(client.complete(QUESTION) for _ in range(20)), return_exceptions=True
            )
            assert time.perf_counter() - start < 4
        assert {str(getattr(each, "reason", each)) for each in outcomes} == {"cloud_timeout"}

    in_loop(ask(LocalCloud(fault=Fault.HANG)))


def test_cancelling_closes_the_connection() -> None:
    async def ask(server: CloudServer) -> None:
        async with AsyncCloudClient(Cloud(server.url, MODEL)) as client:
            task = asyncio.create_task(client.complete(QUESTION))
            while not server.requests:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.disconnected.wait, 2)

    with CloudServer(fault=Fault.HANG) as server:
        in_loop(ask(server))


def test_a_timeout_of_the_callers_own_is_not_taken_for_ours() -> None:
    async def ask(server: CloudServer) -> None:
        async with AsyncCloudClient(Cloud(server.url, MODEL)) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.complete(QUESTION)

    with CloudServer(fault=Fault.HANG) as server:
        in_loop(ask(server))


def test_leaving_a_stream_closes_the_connection() -> None:
    async def ask(server: CloudServer) -> None:
        async with AsyncCloudClient(Cloud(server.url, MODEL)) as client:
            stream = client.stream("ab" * 1000)
            assert await anext(stream) == "ab" * 500
            await stream.aclose()
            assert await asyncio.to_thread(server.disconnected.wait, 2)

    with CloudServer(str, Fault.STALL) as server:
        in_loop(ask(server))


def test_it_retries_and_gives_up_as_the_blocking_client_does() -> None:
    async def ask(server: LocalCloud) -> None:
        cloud = Cloud(server.url, MODEL)
        async with AsyncCloudClient(cloud, jitter=lambda _: 0.0, transport=server) as client:
            server.first = [Reply.error(503, "busy")]
            assert (await client.complete(QUESTION)).attempts == 2
            server.fault = Reply.error(503, "busy")
            with pytest.raises(HandoffError, match="HTTP 503"):
                await anext(client.stream(QUESTION))
            with pytest.raises(QuestionError):
                await client.complete("\ud83e")

    server = LocalCloud()
    in_loop(ask(server))
    assert len(server.requests) == 5
