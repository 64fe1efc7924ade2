"""`foggen ask`: one question to a bundle."""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes
from foggen_runtime.commands.options import (
    BundleArguments,
    CloudArguments,
    DecodingArguments,
    PolicyArguments,
    bundle_options,
    check_cloud,
    cloud_options,
    decoding_options,
    key_hint,
    policy_options,
    take,
)
from foggen_runtime.commands.outputs import json_option
from foggen_runtime.commands.terminal import note, quiet_option
from foggen_runtime.errors import ConfigError, QuestionError
from foggen_runtime.printing import printable_text

if TYPE_CHECKING:
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.handoff.policy import Route
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.result import Result


@dataclass(frozen=True)
class Arguments:
    """The question, and how to show its answer."""

    bundle: str
    question: str | None
    stream: bool | None
    as_json: bool

    @property
    def streamed(self) -> bool:
        """Whether to print the answer as it comes: by default only to a terminal."""
        if self.stream is None:
            return sys.stdout.isatty() and not self.as_json
        return self.stream


EXIT_DEFERRED = 5
EXIT_CLOUD_FAILED = 6
EXIT_LOCAL_ERROR = 7
EXIT_QUEUED = 8
_CLOUD_REASONS = ("cloud_", "no_cloud", "outbox_", "budget")
_PLACEHOLDERS = "--cloud-url URL --cloud-model NAME"
_KEY_REFUSED = re.compile(r"HTTP 40[13]\b")

_EPILOG = exit_codes(
    *(2, 3, 4, 9, 130),
    special={
        0: "answered, here or by the cloud",
        EXIT_DEFERRED: "no answer: deferred, and no cloud is set (or the policy forbids sending "
        "it)",
        EXIT_CLOUD_FAILED: "no answer: the cloud failed or refused, or its budget is used up",
        EXIT_LOCAL_ERROR: "no answer: the model failed on this device",
        EXIT_QUEUED: "no answer yet: the question waits in the outbox",
    },
)


@click.command(cls=Command, epilog=_EPILOG)
@click.argument("bundle", type=BundleType())
@click.argument("question", required=False)
@policy_options
@cloud_options
@decoding_options
@bundle_options
@click.option(
    "--stream/--no-stream",
    default=None,
    help="Print the answer as it comes.  [default: on a terminal]",
)
@json_option("the result as one JSON object")
@quiet_option
@click.pass_context
def ask(ctx: click.Context, /, **options: Any) -> None:
    """Ask BUNDLE (a directory or a hub id) a QUESTION.

    Only the answer goes to standard output; who gave it and why goes to standard error. Without
    QUESTION, the question is read from standard input. The cloud's key is taken from the
    environment variable FOGGEN_CLOUD_API_KEY, the first fallback's from FOGGEN_CLOUD_API_KEY_2, and
    so on.

    \b
    Example:
      foggen ask foggen-int4 'Which is larger?
      A. 3
      B. 5' --cloud-url http://127.0.0.1:8000/v1 --cloud-model big-model
    """
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.jsonio import dumps

    bundle = take(BundleArguments, options)
    cloud = take(CloudArguments, options)
    policy = take(PolicyArguments, options)
    decoding_arguments = take(DecodingArguments, options)
    arguments = take(Arguments, options)
    endpoint, rules = cloud.cloud(), policy.to_policy()
    check_cloud(rules, endpoint)
    question = arguments.question if arguments.question is not None else _read_stdin()
    decoding = _decoding(decoding_arguments, question)
    with Foggen.open(arguments.bundle, endpoint, bundle.open_options(), rules) as foggen:
        if arguments.streamed:
            result = _stream(foggen, question, decoding, arguments)
        else:
            result = foggen.ask(question, decoding=decoding)
    if arguments.as_json:
        click.echo(dumps(result.to_dict()))
    else:
        if result.answer is not None and not arguments.streamed:
            click.echo(printable_text(result.answer))
        note(_provenance(result))
        for hint in _hints(result, cloud, policy, rules.route):
            note(hint)
    ctx.exit(_exit_code(result))


def _decoding(arguments: DecodingArguments, question: str) -> "Decoding":
    """Return how to decode this question."""
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.text.choice import question_options

    choices = question_options(question) if arguments.hold else None
    if choices == ():
        raise ConfigError("options: the question has no lines such as `A. ...`")
    return Decoding(arguments.mode, arguments.max_new_tokens, choices)


def _read_stdin() -> str:
    """Read the question without its final line break; prompt for it on a terminal.

    Raises:
        QuestionError: It is not UTF-8.
    """
    if sys.stdin.isatty():
        click.echo("Question, then Ctrl-D on a line of its own:", err=True)
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise QuestionError(f"question: must be UTF-8, is not at byte {error.start}") from error
    return text.removesuffix("\n").removesuffix("\r")


def _stream(
    foggen: "Foggen", question: str, decoding: "Decoding", arguments: Arguments
) -> "Result":
    """Print the answer piece by piece; to standard error when JSON goes to standard output."""
    from foggen_runtime.result import Result

    begun = False
    for event in foggen.stream(question, decoding=decoding):
        if isinstance(event, Result):
            if begun:
                click.echo(err=arguments.as_json)
            return event
        begun = True
        click.echo(printable_text(event), nl=False, err=arguments.as_json)
    raise AssertionError("a stream ends with a Result")


def _provenance(result: "Result") -> str:
    """Say who answered and why, or why nobody did."""
    about = f"{_why(result)}, {result.timing_ms.total:.0f} ms]"
    if result.answer is not None:
        return f"[{result.source}: {about}"
    if result.source == "queued":
        return f"Queued as {result.id} [{about}"
    return f"No answer [{about}"


def _hints(
    result: "Result", cloud: CloudArguments, policy: PolicyArguments, route: "Route"
) -> Iterator[str]:
    """Say how to get an answer after all; empty if there is one, or nothing to advise."""
    if result.answer is not None:
        return
    if result.source == "queued":
        yield f"To deliver it: {_flush_command(cloud, policy)}"
    elif result.detail and _KEY_REFUSED.search(result.detail):
        yield key_hint(fallbacks=len(cloud.cloud_fallback))
    elif cloud.cloud_url is None and route != "local_only":
        yield f"To hand it off, add {_PLACEHOLDERS}"
        if result.confidence is not None:
            yield "To answer here whatever the confidence, add --route local_only"


def _flush_command(cloud: CloudArguments, policy: PolicyArguments) -> str:
    """Return the command that delivers what this one queued."""
    words = ["foggen", "outbox", "flush", "--now"]
    if policy.policy is not None:
        words += ["--policy", str(policy.policy)]
    if policy.outbox is not None:
        words += ["--db", str(policy.outbox)]
    if cloud.cloud_url is None or cloud.cloud_model is None:
        return f"{shlex.join(words)} {_PLACEHOLDERS}"
    words += ["--cloud-url", cloud.cloud_url, "--cloud-model", cloud.cloud_model]
    for fallback in cloud.cloud_fallback:
        words += ["--cloud-fallback", *fallback]
    if cloud.cloud_stream is not None:
        words.append("--cloud-stream" if cloud.cloud_stream else "--no-cloud-stream")
    return shlex.join(words)


def _why(result: "Result") -> str:
    if result.detail:
        return f"{result.reason}: {result.detail}"
    if result.confidence is None:
        return result.reason
    confidence = result.compared_confidence
    name = "expected confidence" if result.tau_on == "expected" else "confidence"
    sign = "<" if confidence < result.tau else ">="
    return f"{result.reason}, {name} {confidence:.4g} {sign} tau {result.tau:.4g}"


def _exit_code(result: "Result") -> int:
    if result.source == "queued":
        return EXIT_QUEUED
    if result.answer is not None:
        return 0
    if result.reason == "local_error":
        return EXIT_LOCAL_ERROR
    return EXIT_CLOUD_FAILED if result.reason.startswith(_CLOUD_REASONS) else EXIT_DEFERRED
