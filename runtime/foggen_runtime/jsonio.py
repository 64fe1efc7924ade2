"""JSON to frozen dataclasses and back, with errors that name the field, the rule and the value.

TOML is read here too, so that documents made to stall or exhaust the standard library's parsers are
dealt with in one place.
"""

import dataclasses
import json
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_MAX_TOML_LINE = 4096

_SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a string"),
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    Path: ((str,), "a path"),
}
# Control characters that JSON leaves as they are and terminals obey.
_CONTROLS = re.compile("[\x7f-\x9f]")


class FieldError(ValueError):
    """A JSON document does not match the dataclass it is read into."""


def parse_json(text: str) -> Any:
    """Parse JSON as `json.loads` does.

    Raises:
        ValueError: It is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML as `tomllib.loads` does.

    Raises:
        ValueError: It is not TOML, is nested too deeply, or has a line that is too long: parsing a
            dotted key takes quadratic time.
    """
    longest = max(map(len, text.split("\n")))
    if longest > _MAX_TOML_LINE:
        raise ValueError(f"a line may have at most {_MAX_TOML_LINE} characters, one has {longest}")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def from_json(cls: type[T], value: object, where: str) -> T:
    """Read a parsed JSON object into a frozen dataclass, checking every field's type.

    Args:
        cls: The dataclass. Its field types may be scalars, paths, literals, other dataclasses,
            `X | None`, `tuple[X, ...]` and `dict[str, X]`.
        value: What `json.loads` gave.
        where: What messages call the document, e.g. `foggen.json`.

    Raises:
        FieldError: A field is missing, unknown or of the wrong type, or breaks a rule that the
            dataclass checks itself (as a `ValueError`).
    """
    if not isinstance(value, Mapping):
        raise FieldError(f"{where}: must be an object, is {shown(value)}")
    hints = _type_hints(cls)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(value) - set(fields)):
        raise FieldError(f"{where}: unknown field {unknown[0]!r}")
    read = {}
    for name, field in fields.items():
        if name in value:
            read[name] = _read(hints[name], value[name], f"{where}: {name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise FieldError(f"{where}: field {name!r} is missing")
    try:
        return cls(**read)
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(f"{where}: {error}") from error


def json_lines(cls: type[T], text: str, *, numbered: str = "") -> Iterator[tuple[int, T | str]]:
    """Read JSON Lines, each an object with at least a dataclass's fields.

    Args:
        cls: The dataclass, as for `from_json`; other fields are ignored.
        text: The lines; empty ones are skipped.
        numbered: A field that defaults to the line's number.

    Yields:
        Each line's number, with its content or with what is wrong with it.
    """
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for number, line in enumerate(text.split("\n"), start=1):  # a string may hold other breaks
        if not line.strip():
            continue
        try:
            document = parse_json(line)
        except ValueError as error:
            yield number, f"must be a JSON object, is {shown(line)}: {error}"
            continue
        if isinstance(document, dict):
            document = {name: value for name, value in document.items() if name in known}
            if numbered and document.get(numbered) is None:
                document[numbered] = str(number)
        try:
            yield number, from_json(cls, document, "")
        except FieldError as error:
            yield number, str(error).removeprefix(": ")


def dumps(value: object, *, indent: int | None = None) -> str:
    """Write a dataclass (or plain JSON value) as JSON text, in field order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@cache
def _type_hints(cls: type) -> dict[str, Any]:
    return get_type_hints(
        cls
    )  # evaluates them each time, which a file of many lines would wait for


def _read(hint: Any, value: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        (inner,) = (arg for arg in get_args(hint) if arg is not type(None))
        return None if value is None else _read(inner, value, where)
    if origin is tuple:
        return _read_tuple(get_args(hint)[0], value, where)
    if origin is dict:
        return _read_dict(get_args(hint)[1], value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            allowed = ", ".join(get_args(hint))
            raise FieldError(f"{where}: must be one of {allowed}, is {shown(value)}")
        return value
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value, where)  # type: ignore[arg-type]
    return _read_scalar(hint, value, where)


def _read_tuple(inner: Any, value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FieldError(f"{where}: must be a list, is {shown(value)}")
    return tuple(_read(inner, item, f"{where}[{i}]") for i, item in enumerate(value))


def _read_dict(inner: Any, value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError(f"{where}: must be an object, is {shown(value)}")
    for key in value:
        _check_unicode(key, where)
    return {str(key): _read(inner, item, f"{where}.{key}") for key, item in value.items()}


def _read_scalar(hint: Any, value: object, where: str) -> Any:
    if hint is Any or hint is object:
        return _read_anything(value, where)
    allowed, name = _SCALARS[hint]
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
        raise FieldError(f"{where}: must be {name}, is {shown(value)}")
    if isinstance(value, str):
        _check_unicode(value, where)
    convert: Callable[[Any], Any] = hint
    try:
        read = convert(value)
    except OverflowError:
        read = math.inf
    if hint is float and not math.isfinite(read):
        raise FieldError(f"{where}: must be {name}, is {shown(value)}")
    return read


def _read_anything(value: object, where: str) -> object:
    """Take a value as it is, unless JSON has no such number: Python's parser also takes NaN."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        raise FieldError(f"{where}: must not hold NaN or Infinity, is {shown(value)}") from None
    _check_unicode(text, where)
    return value


def _check_unicode(text: str, where: str) -> None:
    if not is_unicode(text):
        raise FieldError(f"{where}: must be valid Unicode, is {text[:60]!a}")


def is_unicode(text: str) -> bool:
    """Return whether a text is free of lone surrogates.

    JSON and file names can contain them; neither a file nor a terminal can be written with them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """Return a value as messages show it: as JSON, shortened."""
    return shortened(json.dumps(value, ensure_ascii=False, default=str))


def shortened(text: str) -> str:
    """Return a text cut to the 60 characters that a message has room for."""
    return text if len(text) <= 60 else text[:57] + "..."
