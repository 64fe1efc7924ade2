"""The description is of what is served; schemathesis holds the server to it."""

import json
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime.serving.app import ROUTES
from foggen_runtime.serving.requests import FIELDS
from tests.runtime.serving.test_requests import HARMLESS
from tests.support.gateway import Gateway, request, serving

jsonschema = pytest.importorskip("jsonschema")
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    text = files("foggen_runtime.serving").joinpath("openapi.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def validate(description: dict[str, Any], name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_the_server_gives_it(gateway: Gateway, description: dict[str, Any]) -> None:
    assert gateway.http.get("/openapi.json").json() == description


def test_it_has_every_path(description: dict[str, Any]) -> None:
    served = {path.replace(":path}", "}"): method for path, (method, _) in ROUTES.items()}
    assert {path: list(methods) for path, methods in description["paths"].items()} == {
        path: [method.lower()] for path, method in served.items()
    }


def test_it_has_every_field(description: dict[str, Any]) -> None:
    properties = description["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(properties) == set(FIELDS)


def test_what_is_harmless_fits_it(description: dict[str, Any]) -> None:
    validate(description, "ChatRequest", request("What?", **HARMLESS))
    with pytest.raises(jsonschema.ValidationError):
        validate(description, "ChatRequest", request("What?", temperature=1))


def test_answers_fit_it(gateway: Gateway, description: dict[str, Any], sure: str) -> None:
    validate(description, "Completion", gateway.chat(sure).json())
    validate(description, "Error", gateway.chat("").json())
    validate(description, "Status", gateway.http.get("/status").json())


def fuzz(gateway: Gateway, directory: Path, *options: str) -> None:
    done = subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"{gateway.url}/openapi.json",
            "--checks",
            "all",
            "--no-color",
            *options,
        ],
        capture_output=True,
        check=False,
        cwd=directory,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


needs_schemathesis = pytest.mark.skipif(
    shutil.which(SCHEMATHESIS) is None, reason="there is no schemathesis"
)


@pytest.mark.slow
@needs_schemathesis
def test_a_little_fuzzing(gateway: Gateway, tmp_path: Path) -> None:
    fuzz(gateway, tmp_path, "--phases", "fuzzing", "--max-examples", "10", "--seed", "1")


@pytest.mark.long
@needs_schemathesis
def test_fuzzing(tmp_path: Path) -> None:
    with serving() as gateway:
        fuzz(gateway, tmp_path, "--max-examples", "200")
        assert "internal_error" not in gateway.http.get("/status").json()["errors"]
