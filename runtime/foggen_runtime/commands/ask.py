"""`foggen ask`: one question to a bundle."""

import sys
from dataclasses import dataclass
from typing import Any

import click

from foggen_runtime.choice import question_options
from foggen_runtime.commands.options import (
    BundleArguments,
    CloudArguments,
    DecodingArguments,
    PolicyArguments,
    bundle_options,
    cloud_options,
    decoding_options,
    policy_options,
    take,
)
from foggen_runtime.errors import ConfigError, QuestionError
from foggen_runtime.foggen import Foggen
from foggen_runtime.jsonio import dumps
from foggen_runtime.local_model import Decoding
from foggen_runtime.printing import printable_text
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
        """Whether to print the answer as it comes: unless told otherwise, to a terminal only."""
        if self.stream is None:
            return sys.stdout.isatty() and not self.as_json
        return self.stream


EXIT_DEFERRED = 5
EXIT_CLOUD_FAILED = 6
EXIT_LOCAL_ERROR = 7
EXIT_QUEUED = 8
_CLOUD_REASONS = ("cloud_", "no_cloud", "outbox_", "budget")

_EXIT_CODES = """\b
Exit codes:
  0  answered, here or by the cloud
  2  wrong usage
  3  the bundle is missing, altered or of another version
  4  the question cannot be asked: empty or broken text
  5  no answer: deferred, and no cloud is set (or the policy forbids to send it)
  6  no answer: the cloud failed or refused, or its budget is used up
  7  no answer: the model failed on this device
  8  no answer yet: the question waits in the outbox
  9  a file that foggen keeps (outbox, budget, log) cannot be used
"""


@click.command(epilog=_EXIT_CODES)
@click.argument("bundle")
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def ask(ctx: click.Context, /, **options: Any) -> None:
    """Ask BUNDLE, a directory or a hub id, a QUESTION.

    Without QUESTION, it is read from standard input. The key of the cloud is taken from the
    environment variable FOGGEN_CLOUD_API_KEY, that of the first fallback from
    FOGGEN_CLOUD_API_KEY_2, and so on.

    \b
    Example:
      foggen ask foggen-int4 'Which is larger?
      A) 3
      B) 5' --cloud-url http://127.0.0.1:8000/v1 --cloud-model big-model
    """
    bundle = take(BundleArguments, options)
    cloud = take(CloudArguments, options).cloud()
    policy = take(PolicyArguments, options).to_policy()
    decoding_arguments = take(DecodingArguments, options)
    arguments = take(Arguments, options)
    question = arguments.question if arguments.question is not None else _read_stdin()
    decoding = _decoding(decoding_arguments, question)
    with Foggen.open(arguments.bundle, cloud, bundle.open_options(), policy) as foggen:
        if arguments.streamed:
            result = _stream(foggen, question, decoding, arguments)
        else:
            result = foggen.ask(question, decoding=decoding)
    if arguments.as_json:
        click.echo(dumps(result.to_dict()))
    else:
        line = _line(result, streamed=arguments.streamed, cloud_set=cloud is not None)
        click.echo(printable_text(line))
    ctx.exit(_exit_code(result))


def _decoding(arguments: DecodingArguments, question: str) -> Decoding:
    """Return how to decode this question."""
    choices = question_options(question) if arguments.hold else None
    if choices == ():
        raise ConfigError("options: the question has no lines such as `A) ...`")
    return Decoding(arguments.mode, arguments.max_new_tokens, choices)


def _read_stdin() -> str:
    """Read the question, less the line break that ends it.

    Raises:
        QuestionError: It is not UTF-8.
    """
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise QuestionError(f"question: must be UTF-8, is not at byte {error.start}") from error
    return text.removesuffix("\n").removesuffix("\r")


def _stream(foggen: Foggen, question: str, decoding: Decoding, arguments: Arguments) -> Result:
    """Print the answer piece by piece; to standard error when JSON goes to standard output."""
    begun = False
    for event in foggen.stream(question, decoding=decoding):
        if isinstance(event, Result):
            if begun:
                click.echo(err=arguments.as_json)
            return event
        begun = True
        click.echo(printable_text(event), nl=False, err=arguments.as_json)
    raise AssertionError("a stream ends with a Result")


def _line(result: Result, *, streamed: bool, cloud_set: bool) -> str:
    """Say what the result is, with the answer unless it was printed already."""
    about = f"{_why(result)}, {result.timing_ms.total:.0f} ms"
    if result.answer is not None:
        answer = "" if streamed else result.answer + "  "
        return f"{answer}[{result.source}: {about}]"
    if result.source == "queued":
        return f"Queued as {result.id} [{about}]\nTo deliver it: foggen outbox flush"
    hint = ""
    if not cloud_set:
        hint = (
            "\nTo hand it off: --cloud-url URL --cloud-model NAME. "
            "To answer here whatever the confidence: --route local_only."
        )
    return f"No answer [{about}]{hint}"


def _why(result: Result) -> str:
    if result.detail:
        return f"{result.reason}: {result.detail}"
    if result.confidence is None:
        return result.reason
    confidence = result.compared_confidence
    name = "expected confidence" if result.tau_on == "expected" else "confidence"
    sign = "<" if confidence < result.tau else ">="
    return f"{result.reason}, {name} {confidence:.4g} {sign} tau {result.tau:.4g}"


def _exit_code(result: Result) -> int:
    if result.source == "queued":
        return EXIT_QUEUED
    if result.answer is not None:
        return 0
    if result.reason == "local_error":
        return EXIT_LOCAL_ERROR
    return EXIT_CLOUD_FAILED if result.reason.startswith(_CLOUD_REASONS) else EXIT_DEFERRED
