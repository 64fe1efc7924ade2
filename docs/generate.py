"""Writes the parts of the documentation that follow from the code: `make docs`.

cli.md holds the commands' help; foggen.schema.json and result.schema.json describe the manifest
and the result of a question as JSON Schemas.
"""

import dataclasses
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from foggen_exporter.cli import export_command
from foggen_exporter.packaging.cli import package_command
from foggen_runtime.bundle.manifest import FORMAT_VERSION, Manifest
from foggen_runtime.cli import foggen
from foggen_runtime.profiling.schema import PROFILE_VERSION, Profile
from foggen_runtime.result import SCHEMA_VERSION, Result

DOCS = Path(__file__).parent
_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def cli_page() -> str:
    """Return the help of every command, in Markdown."""
    parts = ["# Commands\n\nWritten by `make docs` from the commands themselves.\n"]
    for command, info_name in (
        (export_command, "foggen-export"),
        (package_command, "foggen-package"),
    ):
        parts.extend(_help(command, info_name, None))
    parts.extend(_help(foggen, "foggen", None))
    return "\n".join(parts)


def _help(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the help of a command and of the commands in it."""
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        max_content_width=100,
        help_option_names=["-h", "--help"],
    )
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is None:
                raise LookupError(f"command {inner}: must exist, it is listed")
            yield from _help(found, inner, context)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of `foggen.json`."""
    schema = _schema(Manifest)
    schema["properties"]["format_version"] = {"const": FORMAT_VERSION}
    return schema


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema of what `foggen ask --json` prints."""
    schema = _schema(Result)
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    schema["required"] = list(schema["properties"])
    return schema


def profile_schema() -> dict[str, Any]:
    """Return the JSON Schema of what `foggen profile --output` writes."""
    schema = _schema(Profile)
    schema["properties"]["schema_version"] = {"const": PROFILE_VERSION}
    schema["required"] = list(schema["properties"])
    return schema


def _document(schema: dict[str, Any]) -> str:
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**draft, **schema}, indent=2, ensure_ascii=False) + "\n"


def _schema(hint: Any) -> dict[str, Any]:
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return {"anyOf": [_schema(inner), {"type": "null"}]}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    if origin is tuple:
        return {"type": "array", "items": _schema(get_args(hint)[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(get_args(hint)[1])}
    if dataclasses.is_dataclass(hint):
        return _object_schema(hint)
    return {"type": _SCALARS[hint]} if hint in _SCALARS else {}


def _object_schema(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    missing = dataclasses.MISSING
    return {
        "type": "object",
        "description": (cls.__doc__ or "").split("\n\n")[0].replace("\n    ", " "),
        "properties": {field.name: _schema(hints[field.name]) for field in dataclasses.fields(cls)},
        "required": [
            field.name
            for field in dataclasses.fields(cls)
            if field.default is missing and field.default_factory is missing
        ],
        "additionalProperties": False,
    }


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    return {
        DOCS / "cli.md": cli_page(),
        DOCS / "foggen.schema.json": _document(manifest_schema()),
        DOCS / "result.schema.json": _document(result_schema()),
        DOCS / "profile.schema.json": _document(profile_schema()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)
