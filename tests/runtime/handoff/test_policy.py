import re
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError, HandoffError
from foggen_runtime.handoff.policy import Budget, LogSettings, OutboxLimits, Policy, Redaction

WHOLE = r"""
route = "cloud_only"
tau = 0.6
on_unreachable = "queue"
cloud_prompt = "{question}\nOne letter."
cloud_system_prompt = "Be brief."
choice_pattern = 'Letter: ([A-D])'
never_send = ['(?i)password']
warm = false

[[redact]]
pattern = '\d{4}'
replacement = "[number]"

[[redact]]
pattern = '(\w+)@(\w+)'
replacement = '\2'

[budget]
calls = 10
tokens = 1000
file = "budget.sqlite3"

[outbox]
file = "/var/outbox.sqlite3"
max_entries = 5
max_bytes = 1000
flush_seconds = 30

[decision_log]
file = "log/decisions.jsonl"
max_bytes = 100
max_files = 2
content = true
"""


def load(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return Policy.load(path)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    assert load(tmp_path, f"\ufeff{WHOLE}") == load(tmp_path, WHOLE)


def test_every_field_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, WHOLE) == Policy(
        route="cloud_only",
        tau=0.6,
        on_unreachable="queue",
        cloud_prompt="{question}\nOne letter.",
        cloud_system_prompt="Be brief.",
        choice_pattern="Letter: ([A-D])",
        never_send=("(?i)password",),
        redact=(Redaction(r"\d{4}", "[number]"), Redaction(r"(\w+)@(\w+)", r"\2")),
        budget=Budget(10, 1000, tmp_path / "budget.sqlite3"),
        outbox=OutboxLimits(Path("/var/outbox.sqlite3"), 5, 1000, 30.0),
        decision_log=LogSettings(tmp_path / "log" / "decisions.jsonl", 100, 2, content=True),
        warm=False,
    )


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown field 'colour'"),
        ("[budget]\nmoney = 1", "budget: unknown field 'money'"),
        ("tau = '0.5'", 'tau: must be a number, is "0.5"'),
        ("tau = 1.5", "tau: must be within [0, 1], is 1.5"),
        ("tau = nan", "tau: must be a number, is NaN"),
        ("route = 'moon'", 'route: must be one of auto, local_only, cloud_only, is "moon"'),
        ("route = 1", "route: must be one of auto, local_only, cloud_only, is 1"),
        ("on_unreachable = 'x'", "on_unreachable: must be one of answer_locally, queue, fail"),
        ("never_send = ['a', '(']", "never_send[1]: must be a regular expression, is '('"),
        ("never_send = 'a'", 'never_send: must be a list, is "a"'),
        ("never_send = ['a*']", "never_send[0]: must not match the empty text, is 'a*'"),
        ("[[redact]]\npattern = '['", "redact.pattern: must be a regular expression, is '['"),
        ("[[redact]]\nreplacement = 'x'", "redact[0]: field 'pattern' is missing"),
        (
            "[[redact]]\npattern = '(a)'\nreplacement = '\\2'",
            "redact.replacement: must fit the pattern '(a)', is '\\\\2': invalid group reference",
        ),
        (
            "[[redact]]\npattern = '(a)'\nreplacement = '\\g<b>'",
            "redact.replacement: must fit the pattern '(a)'",
        ),
        ("choice_pattern = 'a'", "choice_pattern: must have a group, as in (A|B), is 'a'"),
        ("cloud_prompt = 'x'", "cloud_prompt: must hold {question} once, is 'x'"),
        ("[budget]\ncalls = -1", "budget.calls: must be at least 0, is -1"),
        ("[budget]\ncalls = true", "budget: calls: must be an integer, is true"),
        ("[outbox]\nmax_entries = 0", "outbox.max_entries: must be at least 1, is 0"),
        ("[outbox]\nflush_seconds = -1", "outbox.flush_seconds: must be within [0, 86400], is -1"),
        (
            "[outbox]\nflush_seconds = nan",
            "outbox: flush_seconds: must be a number, is NaN",
        ),
        (
            "[outbox]\nflush_seconds = inf",
            "outbox: flush_seconds: must be a number, is Infinity",
        ),
        ("[outbox]\nfile = 1", "outbox: file: must be a path, is 1"),
        ("[decision_log]\nmax_files = 0", "decision_log.max_files: must be at least 1, is 0"),
        ("tau_source = 'flag'", "tau_source: must be set in code, not in a file"),
        ("never_send_if = 'x'", "never_send_if: must be set in code"),
        ("tau = ", "must be TOML in UTF-8"),
    ],
)
def test_errors_name_file_field_rule_and_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as info:
        load(tmp_path, text)
    assert str(info.value).startswith(f"{tmp_path / 'policy.toml'}: ")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy.toml: cannot be read: No such file"):
        Policy.load(tmp_path / "policy.toml")


def test_what_is_sent_is_redacted_and_put_into_the_prompt() -> None:
    policy = Policy(
        redact=(Redaction(r"\d+", "#"), Redaction("# #", "two numbers")),
        cloud_prompt="Q: {question} {x}",
    )
    assert policy.redacted("Is 12 34?") == "Is two numbers?"
    assert policy.message("Is 12 34?") == "Q: Is two numbers? {x}"
    # What a user types is no template.
    assert policy.message("{question}") == "Q: {question} {x}"
    assert Policy().message(" as typed\n") == " as typed\n"


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        (Policy(never_send=("x", "secret")), "never_send[1] forbids"),
        (Policy(never_send_if=lambda text: "secret" in text), "never_send_if forbids"),
        (Policy(redact=(Redaction(".+", " "),)), "redact leaves nothing"),
        # A rule sees the question as it was typed.
        (Policy(never_send=("secret",), redact=(Redaction("secret", "-"),)), "never_send[0]"),
    ],
)
def test_what_must_not_be_sent_is_refused_without_repeating_it(policy: Policy, rule: str) -> None:
    with pytest.raises(HandoffError, match=re.escape(rule)) as info:
        policy.message("my secret 42?")
    assert info.value.reason == "never_send"
    assert "42" not in str(info.value)


def test_the_choice_is_found_by_rule_pattern_or_parser() -> None:
    question = "Which?\nA) 1\nB) 2"
    assert Policy().choice("The answer is B.", question) == "B"
    assert Policy().choice("Answer: I think it is so", question) is None
    assert Policy(choice_pattern="<(.)>").choice("The answer is B <A>", question) == "A"
    assert Policy(choice_pattern="<(.)>").choice("The answer is B", question) is None
    assert Policy(answer_parser=lambda text: text[-1]).choice("so: B", question) == "B"
    with pytest.raises(ConfigError, match="choice_pattern: must not be set together"):
        replace(Policy(choice_pattern="(.)"), answer_parser=str)
