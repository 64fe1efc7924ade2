"""OpenAI's own clients, unchanged: Python, sync and async, and npm."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import openai
import pytest

from foggen_runtime.serving.settings import Settings
from tests.support.gateway import Gateway, serving

NODE = Path(__file__).parents[2] / "node"
KEY = "a-key-of-tests-0123456789"


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)


def user(text: str) -> list[openai.types.chat.ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def test_a_completion(client: openai.OpenAI, sure: str) -> None:
    completion = client.chat.completions.create(
        model="gpt-4o", messages=user(sure), temperature=0, n=1, max_tokens=20, seed=1, user="me"
    )
    assert completion.choices[0].message.content in ("A", "B", "C", "D")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0
    assert completion.model_extra is not None
    assert completion.model_extra["x_foggen"]["source"] == "local"
    assert completion._request_id == completion.id


def test_a_stream(client: openai.OpenAI, sure: str) -> None:
    whole = client.chat.completions.create(model="m", messages=user(sure))
    chunks = list(
        client.chat.completions.create(
            model="m", messages=user(sure), stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-2].model_extra or {})["x_foggen"]["reason"] == "confident"


def test_the_stream_helper(client: openai.OpenAI, sure: str) -> None:
    with client.chat.completions.stream(model="m", messages=user(sure)) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"


def test_a_deferred_question_is_a_refusal(client: openai.OpenAI, unsure: str) -> None:
    message = client.chat.completions.create(model="m", messages=user(unsure)).choices[0].message
    assert message.content is None
    assert str(message.refusal).startswith("No answer: below_tau")
    with client.chat.completions.stream(model="m", messages=user(unsure)) as stream:
        message = stream.get_final_completion().choices[0].message
    assert str(message.refusal).startswith("No answer: below_tau")


def test_tau_of_a_request(client: openai.OpenAI, unsure: str) -> None:
    completion = client.chat.completions.create(
        model="m", messages=user(unsure), extra_body={"x_foggen": {"tau": 0}}
    )
    assert completion.choices[0].message.content


def test_headers(client: openai.OpenAI, sure: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=user(sure))
    assert raw.headers["X-Foggen-Source"] == "local"


def test_many_async_clients(gateway: Gateway, sure: str) -> None:
    async def ask() -> list[openai.types.chat.ChatCompletion]:
        url = f"{gateway.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            one = client.chat.completions.create
            return await asyncio.gather(*(one(model="m", messages=user(sure)) for _ in range(10)))

    answers = {completion.choices[0].message.content for completion in asyncio.run(ask())}
    assert len(answers) == 1


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_an_unsupported_field_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=user("What?"), temperature=0.7)
    assert (caught.value.param, caught.value.code) == ("temperature", "unsupported_value")


def test_a_wrong_key(sure: str) -> None:
    with serving(Settings(api_key=KEY)) as gateway:
        url = f"{gateway.url}/v1"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="wrong").models.list()
        right = openai.OpenAI(base_url=url, api_key=KEY)
        assert right.chat.completions.create(model="m", messages=user(sure)).choices


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
@pytest.mark.skipif(
    not (NODE / "node_modules" / "openai").is_dir(), reason="run `make node-modules`"
)
def test_the_npm_client(gateway: Gateway, sure: str, unsure: str) -> None:
    done = subprocess.run(
        ["node", NODE / "openai.mjs", f"{gateway.url}/v1", sure, unsure],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["content"] == seen["streamed"].strip() == seen["helper"].strip()
    assert (seen["source"], seen["finish_reason"]) == ("local", "stop")
    assert seen["streamed_source"] == "local"
    assert seen["usage"] > 0
    assert seen["refusal"].startswith("No answer: below_tau")
    assert seen["models"] == 1
    assert seen["refused"] == [400, "tools"]
