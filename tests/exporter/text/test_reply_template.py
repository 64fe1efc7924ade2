"""Reading templates, and the rules they must keep."""

import codecs
from pathlib import Path

import pytest

from foggen_exporter.text.reply_template import load_template
from foggen_runtime.errors import ConfigError

VALID = {
    "levels": '["0.0", "1.0"]',
    "confidence": '"Confidence: {level}"',
    "separator": '"\\n"',
    "answer_prefix": '"Final answer:"',
    "min_template_probability": "0.1",
}
CARD = """You are a self-aware multiple-choice assistant.

Rules:
- Do not output <think> tags.
- First, assess your confidence in solving this question.
- Then give your answer.
- Output format:
  Confidence: <0.0|0.25|0.5|0.75|1.0>
  Final answer: <OPTION_LETTER>"""


def write(path: Path, **changes: str | None) -> str:
    """Write a valid template with some fields changed, or left out where None."""
    fields = {**VALID, **changes}
    lines = [f"{name} = {value}\n" for name, value in fields.items() if value is not None]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def test_built_in_template_is_the_model_cards() -> None:
    template = load_template("mcq")
    assert template.system == CARD
    assert template.levels == ("0.0", "0.25", "0.5", "0.75", "1.0")
    assert (template.separator, template.answer_prefix) == ("\n", "Final answer:")
    assert template.confidence_text("0.75") == "Confidence: 0.75"


def test_file_is_read_by_its_path_and_needs_no_system_prompt(tmp_path: Path) -> None:
    template = load_template(write(tmp_path / "own.toml"))
    assert template.levels == ("0.0", "1.0")
    assert template.system == ""


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "own.toml"))
    plain = load_template(str(path))
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load_template(str(path)) == plain


def test_unknown_name_lists_the_built_in_ones() -> None:
    with pytest.raises(ConfigError, match=r"template: must be one of mcq or .* is 'essay'"):
        load_template("essay")


def test_directory_is_no_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="or a TOML file"):
        load_template(str(tmp_path))


@pytest.mark.parametrize("content", [b"levels = [", b"system = '\xff'"])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"own\.toml: cannot be read: "):
        load_template(str(path))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("levels", '["0.0", "1.5"]', r"levels: must be numbers within \[0, 1\], has '1.5'"),
        ("levels", '["-0.5", "1.0"]', r"levels: must .* has '-0.5'"),
        ("levels", '["0.0", "nan"]', r"levels: must .* has 'nan'"),
        ("levels", '["0.0", " 1.0"]', r"levels: must .* has ' 1.0'"),
        ("levels", '["0.0", "high"]', r"levels: must .* has 'high'"),
        ("levels", '["0.5", "0.0"]', r"levels: .* increasing, are \['0.5', '0.0'\]"),
        ("levels", '["0.5", "0.50"]', r"levels: .* increasing, are \['0.5', '0.50'\]"),
        ("levels", '["0.5"]', r"levels: must be two or more"),
        ("levels", '"0.5"', r"levels: must be a list"),
        ("levels", None, r"field 'levels' is missing"),
        ("confidence", '"sure"', r"confidence: must hold {level} exactly once, is 'sure'"),
        ("confidence", '"{level} {level}"', r"confidence: must hold {level} exactly once"),
        ("separator", '""', r"separator: must not be empty"),
        ("answer_prefix", '""', r"answer_prefix: must not be empty"),
        ("min_template_probability", "1.1", r"within \[0, 1\], is 1.1"),
        ("min_template_probability", "nan", "must be a number, is NaN"),
        ("colour", '"red"', r"unknown field 'colour'"),
    ],
)
def test_broken_rule_names_field_and_value(
    tmp_path: Path, field: str, value: str | None, message: str
) -> None:
    path = write(tmp_path / "own.toml", **{field: value})
    with pytest.raises(ConfigError, match=message):
        load_template(path)
