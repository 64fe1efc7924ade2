"""`foggen ask`: one question to a bundle."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import click

from foggen_runtime.asking import Route
from foggen_runtime.choice import question_options
from foggen_runtime.engine import EngineOptions
from foggen_runtime.errors import ConfigError, QuestionError
from foggen_runtime.foggen import Foggen
from foggen_runtime.jsonio import dumps
from foggen_runtime.local_model import Decoding, DecodingMode, OpenOptions
from foggen_runtime.result import Result

if TYPE_CHECKING:
    from foggen_runtime.cloud import Cloud


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    bundle: str
    question: str | None
    tau: float | None
    route: Route
    cloud_url: str | None
    cloud_model: str | None
    cloud_timeout: float
    mode: DecodingMode
    max_new_tokens: int
    hold: bool
    threads: int | None
    spinning: bool
    kleidiai: bool
    verify: bool
    recompute_prefix: bool
    stream: bool
    as_json: bool

    def cloud(self) -> "Cloud | None":
        """The cloud to hand off to, if one is set."""
        if bool(self.cloud_url) != bool(self.cloud_model):
            raise ConfigError("cloud: --cloud-url and --cloud-model go together, one is missing")
        if not self.cloud_url or not self.cloud_model:
            return None
        from foggen_runtime.cloud import Cloud

        key = os.environ.get(API_KEY_VARIABLE) or None
        return Cloud(self.cloud_url, self.cloud_model, key, total_timeout=self.cloud_timeout)

    def decoding(self, question: str) -> Decoding:
        """How to decode this question."""
        choices = question_options(question) if self.hold else None
        if choices == ():
            raise ConfigError("options: the question has no lines such as `A) ...`")
        return Decoding(self.mode, self.max_new_tokens, choices)

    def open_options(self) -> OpenOptions:
        """How to open the bundle."""
        engine = EngineOptions(threads=self.threads, spinning=self.spinning, kleidiai=self.kleidiai)
        return OpenOptions(engine, self.verify, self.recompute_prefix)


API_KEY_VARIABLE = "FOGGEN_CLOUD_API_KEY"
EXIT_DEFERRED = 5
EXIT_CLOUD_FAILED = 6
EXIT_LOCAL_ERROR = 7

_EXIT_CODES = """\b
Exit codes:
  0  answered, here or by the cloud
  2  wrong usage
  3  the bundle is missing, altered or of another version
  4  the question cannot be asked: empty or broken text
  5  no answer: deferred, and no cloud is set (or --route forbids it)
  6  no answer: the cloud failed
  7  no answer: the model failed on this device
"""


@click.command(epilog=_EXIT_CODES)
@click.argument("bundle")
@click.argument("question", required=False)
@click.option("--tau", type=float, help="Confidence below this defers.  [default: the bundle's]")
@click.option(
    "--route",
    type=click.Choice(get_args(Route)),
    default="auto",
    show_default=True,
    help="Who may answer.",
)
@click.option("--cloud-url", help="OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1.")
@click.option("--cloud-model", help="The model's name on that server.")
@click.option(
    "--cloud-timeout", default=60.0, show_default=True, help="Seconds for the whole handoff."
)
@click.option(
    "--decoding",
    "mode",
    type=click.Choice(get_args(DecodingMode)),
    default="constrained",
    show_default=True,
    help="How to decode.",
)
@click.option(
    "--max-new-tokens", default=256, show_default=True, help="Most tokens after the confidence."
)
@click.option(
    "--options", "hold", is_flag=True, help="Hold the answer to the options in the question."
)
@click.option("--threads", type=int, help="Worker threads.  [default: the big cores]")
@click.option(
    "--spinning/--no-spinning",
    default=True,
    show_default=True,
    help="Let idle workers spin: faster, for more power.",
)
@click.option(
    "--kleidiai/--no-kleidiai",
    default=True,
    show_default=True,
    help="Let ARM use its KleidiAI kernels; without them it computes what x86 does.",
)
@click.option("--verify", is_flag=True, help="Hash every file of the bundle first.")
@click.option(
    "--recompute-prefix", is_flag=True, help="Compute the prompt prefix, ignore the snapshot."
)
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def ask(ctx: click.Context, /, **options: Any) -> None:
    """Ask BUNDLE, a directory or a hub id, a QUESTION.

    Without QUESTION, it is read from standard input. The key of the cloud is taken from the
    environment variable FOGGEN_CLOUD_API_KEY.

    \b
    Example:
      foggen ask foggen-int4 'Which is larger?
      A) 3
      B) 5' --cloud-url http://127.0.0.1:8000/v1 --cloud-model big-model
    """
    arguments = Arguments(**options)
    question = arguments.question if arguments.question is not None else _read_stdin()
    cloud, decoding = arguments.cloud(), arguments.decoding(question)
    with Foggen.open(arguments.bundle, cloud, arguments.open_options()) as foggen:
        if arguments.stream:
            result = _stream(foggen, question, arguments)
        else:
            result = foggen.ask(question, arguments.tau, arguments.route, decoding)
    click.echo(dumps(result.to_dict()) if arguments.as_json else _line(result, arguments))
    ctx.exit(_exit_code(result))


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


def _stream(foggen: Foggen, question: str, arguments: Arguments) -> Result:
    """Print the answer piece by piece; to standard error when JSON goes to standard output."""
    decoding = arguments.decoding(question)
    for event in foggen.stream(question, arguments.tau, arguments.route, decoding):
        if isinstance(event, Result):
            click.echo(err=arguments.as_json)
            return event
        click.echo(event, nl=False, err=arguments.as_json)
    raise AssertionError("a stream ends with a Result")


def _line(result: Result, arguments: Arguments) -> str:
    why = _why(result)
    if result.answer is not None:
        answer = "" if arguments.stream else result.answer + "  "
        return f"{answer}[{result.source}: {why}, {result.timing_ms.total:.0f} ms]"
    hint = ""
    if not arguments.cloud_url:
        hint = (
            "\nTo hand it off: --cloud-url URL --cloud-model NAME. "
            "To answer here whatever the confidence: --route local_only."
        )
    return f"No answer [{why}, {result.timing_ms.total:.0f} ms]{hint}"


def _why(result: Result) -> str:
    if result.detail:
        return f"{result.reason}: {result.detail}"
    if result.confidence is None:
        return result.reason
    sign = "<" if result.confidence < result.tau else ">="
    return f"{result.reason}, confidence {result.confidence:g} {sign} tau {result.tau:g}"


def _exit_code(result: Result) -> int:
    if result.source != "none":
        return 0
    if result.reason == "local_error":
        return EXIT_LOCAL_ERROR
    return EXIT_CLOUD_FAILED if result.reason.startswith("cloud_") else EXIT_DEFERRED
