"""What the documentation shows is what the code does."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

from foggen_runtime import Foggen
from foggen_runtime.ask.asking import Route
from foggen_runtime.bundle.manifest import MANIFEST_FILE
from foggen_runtime.jsonio import dumps
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.prose
def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    for path, text in generate.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
def test_exported_manifests_fit_the_schema(tiny_bundle: BundleOf, quant: str) -> None:
    schema = json.loads((DOCS / "foggen.schema.json").read_text(encoding="utf-8"))
    manifest = json.loads((tiny_bundle(quant) / MANIFEST_FILE).read_text(encoding="utf-8"))
    jsonschema.validate(manifest, schema)
    manifest["template"]["levels"] = "0.5"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema)


@pytest.mark.parametrize("route", ["auto", "local_only"])
def test_results_fit_the_schema(tiny_bundle: BundleOf, route: Route) -> None:
    schema = json.loads((DOCS / "result.schema.json").read_text(encoding="utf-8"))
    with Foggen.open(tiny_bundle("int4")) as foggen:
        for question in QUESTIONS[:20]:
            document = json.loads(dumps(foggen.ask(question, route=route).to_dict()))
            jsonschema.validate(document, schema)
    document["source"] = "the moon"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


@pytest.mark.prose
@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))])
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
