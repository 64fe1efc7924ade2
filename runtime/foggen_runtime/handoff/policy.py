"""What may be answered where, what may leave the device, and what happens when the cloud fails.

A policy comes from a TOML file, from flags, or from code; docs/policy.md describes every key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, get_args

from foggen_runtime.errors import ConfigError, HandoffError
from foggen_runtime.handoff.rules import Rule, compiled
from foggen_runtime.handoff.view import View
from foggen_runtime.jsonio import FieldError, from_json, parse_toml
from foggen_runtime.text.choice import ends_of, parse_choice, question_options

Route = Literal["auto", "local_only", "cloud_only"]
OnUnreachable = Literal["answer_locally", "queue", "fail"]

QUESTION_MARK = "{question}"
_DAY = 86_400  # seconds
_CODE_ONLY = ("tau_source", "never_send_if", "answer_parser")


@dataclass(frozen=True)
class Redaction:
    """Text that is replaced in what is sent, and only there.

    Attributes:
        pattern: A regular expression.
        replacement: What replaces each match; may name groups, as in `re.sub`.
    """

    pattern: str
    replacement: str = "[redacted]"

    def __post_init__(self) -> None:
        rule = _rule("redact.pattern", self.pattern)
        try:
            rule.check_replacement(self.replacement)
        except ValueError as error:
            raise ConfigError(
                f"redact.replacement: must fit the pattern {self.pattern!r}, "
                f"is {self.replacement!r}: {error}"
            ) from error


@dataclass(frozen=True)
class Budget:
    """The daily limits for the cloud; a day begins at midnight UTC.

    Attributes:
        calls: The most questions handed off; None for no limit.
        tokens: Once this many tokens are spent, prompts and answers together, no further question
            is handed off; None for no limit.
        file: The SQLite file that keeps the count.
    """

    calls: int | None = None
    tokens: int | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "tokens"):
            limit = getattr(self, name)
            if limit is not None and limit < 0:
                raise ConfigError(f"budget.{name}: must be at least 0, is {limit}")

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.calls is not None or self.tokens is not None


@dataclass(frozen=True)
class OutboxLimits:
    """Where questions wait for the cloud, how many may, and how often they are delivered.

    Attributes:
        file: The SQLite file.
        max_entries: The most entries, answered ones included; further questions are refused.
        max_bytes: The most bytes of questions and results; likewise.
        flush_seconds: How often a server delivers what waits; 0 leaves it to others.
    """

    file: Path | None = None
    max_entries: int = 10_000
    max_bytes: int = 64 << 20
    flush_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_entries", "max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"outbox.{name}: must be at least 1, is {getattr(self, name)}")
        if not 0 <= self.flush_seconds <= _DAY:
            raise ConfigError(
                f"outbox.flush_seconds: must be within [0, {_DAY}], is {self.flush_seconds:g}"
            )


@dataclass(frozen=True)
class LogSettings:
    """How decisions are logged.

    Attributes:
        file: JSON lines are appended to it; without a file nothing is logged.
        max_bytes: A file that would grow beyond this is renamed to `FILE.1`, `FILE.2`, ...
        max_files: The most files, the one written to included; the oldest is deleted.
        content: Whether questions and answers are logged too.
    """

    file: Path | None = None
    max_bytes: int = 10_000_000
    max_files: int = 5
    content: bool = False

    def __post_init__(self) -> None:
        for name, least in (("max_bytes", 1), ("max_files", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"decision_log.{name}: must be at least {least}, is {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Policy:
    """Who may answer, what may be sent, and what to do when the cloud does not answer.

    Attributes:
        route: `auto`, or only one side whatever the confidence.
        tau: Below this confidence a question is deferred; None takes the bundle's.
        on_unreachable: What to do when the cloud does not answer: `answer_locally` in spite of the
            confidence, `queue` the question in the outbox, or `fail` without an answer.
        cloud_prompt: The user message for the cloud, with `{question}` where the question goes;
            None sends just the question.
        cloud_system_prompt: A system message for the cloud.
        choice_pattern: A regular expression whose first group is the option letter in the cloud's
            answer.
        never_send: Regular expressions; a question that matches any is not sent.
        redact: Replacements in what is sent, in this order.
        budget: Daily limits on what is sent.
        outbox: Where questions wait.
        decision_log: Where decisions are logged.
        warm: Whether a connection is opened while the decision is being computed.
        tau_source: Where `tau` was set: `policy`, or `flag` for the command line.
        never_send_if: A rule in code; a question for which it returns True is not sent.
        answer_parser: Finds the option letter in the cloud's answer; None if there is none.
    """

    route: Route = "auto"
    tau: float | None = None
    on_unreachable: OnUnreachable = "fail"
    cloud_prompt: str | None = None
    cloud_system_prompt: str | None = None
    choice_pattern: str | None = None
    never_send: tuple[str, ...] = ()
    redact: tuple[Redaction, ...] = ()
    budget: Budget = field(default_factory=Budget)
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    decision_log: LogSettings = field(default_factory=LogSettings)
    warm: bool = True
    tau_source: Literal["policy", "flag"] = "policy"
    never_send_if: Callable[[str], bool] | None = None
    answer_parser: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        check_route(self.route)
        check_tau(self.tau)
        _check_one_of("on_unreachable", self.on_unreachable, get_args(OnUnreachable))
        if self.cloud_prompt is not None and self.cloud_prompt.count(QUESTION_MARK) != 1:
            raise ConfigError(
                f"cloud_prompt: must hold {QUESTION_MARK} once, is {self.cloud_prompt!r}"
            )
        for i, rule in enumerate(self.never_send):
            _rule(f"never_send[{i}]", rule)
        if self.choice_pattern is not None:
            if _rule("choice_pattern", self.choice_pattern).groups < 1:
                raise ConfigError(
                    f"choice_pattern: must have a group, as in (A|B), is {self.choice_pattern!r}"
                )
            if self.answer_parser is not None:
                raise ConfigError("choice_pattern: must not be set together with an answer_parser")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a TOML file; relative paths in it start from its own directory.

        Raises:
            ConfigError: It cannot be read, or a field is unknown, of the wrong type or breaks a
                rule.
        """
        try:
            document = parse_toml(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{path}: must be TOML in UTF-8: {error}") from error
        for name in _CODE_ONLY:
            if name in document:
                raise ConfigError(f"{path}: {name}: must be set in code, not in a file")
        try:
            return from_json(cls, document, str(path))._beside(path)
        except FieldError as error:
            raise ConfigError(str(error)) from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def redacted(self, question: str) -> str:
        """Return the question with every redaction made.

        Raises:
            HandoffError: A rule forbids to send it (reason `never_send`); the message names the
                rule and repeats nothing of the question.
        """
        view = View.of(question) if self.never_send or self.redact else None
        for i, rule in enumerate(self.never_send):
            if view and compiled(rule).matches(view):
                raise HandoffError("never_send", f"never_send[{i}] forbids sending the question")
        if self.never_send_if is not None and self.never_send_if(question):
            raise HandoffError("never_send", "never_send_if forbids sending the question")
        for i, redaction in enumerate(self.redact):
            if view is None or view.typed != question:
                view = View.of(question)
            try:
                question = compiled(redaction.pattern).replaced(view, redaction.replacement)
            except OverflowError as error:
                raise HandoffError("never_send", f"redact[{i}] {error} of the question") from error
        if not question.strip():
            raise HandoffError("never_send", "redact leaves nothing of the question to send")
        return question

    def message(self, question: str) -> str:
        """Return the user message that is sent for a question.

        Raises:
            HandoffError: As for `redacted`.
        """
        redacted = self.redacted(question)
        if self.cloud_prompt is None:
            return redacted
        return self.cloud_prompt.replace(QUESTION_MARK, redacted)

    def choice(self, answer: str, question: str) -> str | None:
        """Return the option letter in the cloud's answer, None if it has none."""
        if self.answer_parser is not None:
            return self.answer_parser(answer)
        if self.choice_pattern is not None:
            return compiled(self.choice_pattern).first_group(View.of(ends_of(answer)))
        return parse_choice(answer, question_options(question))

    def _beside(self, path: Path) -> Self:
        """Return the policy with its relative paths resolved from the file's directory."""
        root = path.parent

        def at(file: Path | None) -> Path | None:
            return root / file if file else None

        return replace(
            self,
            budget=replace(self.budget, file=at(self.budget.file)),
            outbox=replace(self.outbox, file=at(self.outbox.file)),
            decision_log=replace(self.decision_log, file=at(self.decision_log.file)),
        )


def check_route(route: str) -> None:
    """Raise a ConfigError unless the route is a known one."""
    _check_one_of("route", route, get_args(Route))


def check_tau(tau: float | None) -> None:
    """Raise a ConfigError unless tau is within [0, 1] or None."""
    if tau is not None and not 0 <= tau <= 1:
        raise ConfigError(f"tau: must be within [0, 1], is {tau}")


def _check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}: must be one of {', '.join(allowed)}, is {value!r}")


def _rule(name: str, pattern: str) -> Rule:
    """Compile a rule; one that matches nothing at all would hit every text."""
    try:
        rule = compiled(pattern)
    except ValueError as error:
        raise ConfigError(
            f"{name}: must be a regular expression, is {pattern!r}: {error}"
        ) from error
    if rule.matches(View.of("")):
        raise ConfigError(f"{name}: must not match the empty text, is {pattern!r}")
    return rule
