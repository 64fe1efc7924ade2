"""The bill of materials of a package: CycloneDX 1.6, as JSON.

https://cyclonedx.org/docs/1.6/json/
"""

import json
import uuid
from collections.abc import Mapping, Sequence

from foggen_exporter.packaging.licences import Component
from foggen_runtime.bundle.manifest import Manifest

_NAMESPACE = uuid.UUID("d1f1c4ea-3f5b-5d0e-9a3c-6b2f0b5b7c11")

Json = dict[str, object]


def bill_of_materials(
    package: str,
    components: Sequence[Component],
    needs: Mapping[str, Sequence[str]],
    bundle: Manifest,
) -> str:
    """Return the document. It has no time, and its serial number follows from its contents.

    Args:
        package: The package's name, e.g. `foggen-0.1.0-linux-arm64`.
        components: What is inside; foggen itself first.
        needs: By name, the names each component needs.
        bundle: The model.
    """
    own, *others = components
    references = {part.name: _purl(part) for part in components}
    model: Json = {
        "type": "machine-learning-model",
        "bom-ref": f"bundle:{bundle.sha256}",
        "name": bundle.model.name,
        "version": bundle.sha256[:12],
        "hashes": [_sha256(bundle.sha256)],
        "description": f"FogGen bundle, recipe {bundle.quantization.recipe}",
    }
    document: Json = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {**_library(own), "type": "application", "description": package},
        },
        "components": [*map(_library, others), model],
        "dependencies": [
            {"ref": references[name], "dependsOn": [references[need] for need in needs[name]]}
            for name in sorted(references)
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(document, sort_keys=True))
    return json.dumps({**document, "serialNumber": f"urn:uuid:{serial}"}, indent=1) + "\n"


def _library(part: Component) -> Json:
    terms: Json = (
        {"expression": part.licence} if part.is_expression else {"license": {"name": part.licence}}
    )
    library: Json = {
        "type": "library",
        "bom-ref": _purl(part),
        "name": part.name,
        "version": part.version,
        "purl": _purl(part),
        "licenses": [terms],
    }
    if part.wheels:
        library["externalReferences"] = [
            {"type": "distribution", "url": name, "hashes": [_sha256(part.wheels[name])]}
            for name in sorted(part.wheels)
        ]
    return library


def _purl(part: Component) -> str:
    return f"pkg:pypi/{part.name}@{part.version}"


def _sha256(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest}
