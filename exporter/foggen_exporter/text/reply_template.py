"""Templates: what the model is told before the question, and the form of its reply."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import FieldError, from_json, parse_toml

_LEVEL = re.compile(r"[0-9]+(\.[0-9]+)?")
_PLACEHOLDER = "{level}"


@dataclass(frozen=True)
class Template:
    """A system prompt, and the reply `confidence`, `separator`, `answer_prefix`, answer.

    Attributes:
        levels: The confidence levels as the model writes them, from lowest to highest.
        confidence: The reply's first part, with `{level}` where the level stands.
        separator: What follows a level and thus ends it.
        answer_prefix: What comes before the answer.
        min_template_probability: A reply with less probability than this defers as malformed.
        system: The system prompt; empty for none.
    """

    levels: tuple[str, ...]
    confidence: str
    separator: str
    answer_prefix: str
    min_template_probability: float
    system: str = ""

    def __post_init__(self) -> None:
        self._check_levels()
        if self.confidence.count(_PLACEHOLDER) != 1:
            raise ValueError(
                f"confidence: must hold {_PLACEHOLDER} exactly once, is {self.confidence!r}"
            )
        for name in ("separator", "answer_prefix"):
            if not getattr(self, name):
                raise ValueError(f"{name}: must not be empty, is ''")
        if not 0 <= self.min_template_probability <= 1:
            raise ValueError(
                "min_template_probability: must be within [0, 1], "
                f"is {self.min_template_probability}"
            )

    def _check_levels(self) -> None:
        for level in self.levels:
            if not _LEVEL.fullmatch(level) or not 0 <= float(level) <= 1:
                raise ValueError(f"levels: must be numbers within [0, 1], has {level!r}")
        values = [float(level) for level in self.levels]
        if len(values) < 2 or values != sorted(set(values)):
            raise ValueError(
                f"levels: must be two or more, strictly increasing, are {list(self.levels)}"
            )

    def confidence_text(self, level: str) -> str:
        """Return the reply's first part for one level."""
        return self.confidence.replace(_PLACEHOLDER, level)


def load_template(name_or_path: str) -> Template:
    """Read a built-in template by its name, or one from a TOML file by its path.

    Raises:
        ConfigError: There is no such template, it is not TOML, or a field breaks a rule.
    """
    folder = files(__package__) / "templates"
    built_in = sorted(
        item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml")
    )
    source = folder / f"{name_or_path}.toml" if name_or_path in built_in else Path(name_or_path)
    try:
        document = parse_toml(source.read_text(encoding="utf-8-sig"))
        return from_json(Template, document, name_or_path)
    except FieldError as error:
        raise ConfigError(f"template {error}") from error
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(
            f"template: must be one of {', '.join(built_in)} or a TOML file, is {name_or_path!r}"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"template {name_or_path}: cannot be read: {error}") from error
