"""Options that several commands share, and what they stand for.

A command gets its options from click as a mapping, and passes it to `take` once for each group of
options it was decorated with.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from foggen_runtime.commands.command_line import FILE, Choice, Decorated
from foggen_runtime.errors import ConfigError, StateError

if TYPE_CHECKING:
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.handoff.policy import LogSettings, OnUnreachable, Policy, Route
    from foggen_runtime.model.decoding import DecodingMode
    from foggen_runtime.model.engine import EngineOptions
    from foggen_runtime.model.local_model import OpenOptions

# The values of `DecodingMode`, `Route`, `OnUnreachable` and `ConfidenceKind`, written again because
# every TAB would wait for their modules.
DECODING_MODES = ("constrained", "greedy", "step")
ROUTES = ("auto", "local_only", "cloud_only")
ON_UNREACHABLE = ("answer_locally", "queue", "fail")
CONFIDENCE_KINDS = ("verbalized", "expected")
API_KEY_VARIABLE = "FOGGEN_CLOUD_API_KEY"

_PRICES = {
    "per_call": "per_call",
    "prompt": "per_million_prompt",
    "completion": "per_million_completion",
}
Group = TypeVar("Group")


def take(group: type[Group], options: dict[str, Any]) -> Group:
    """Move a group's options out of click's mapping."""
    names = [field.name for field in fields(group)]  # type: ignore[arg-type]
    return group(**{name: options.pop(name) for name in names})


@dataclass(frozen=True)
class EngineArguments:
    """How to use the device; None for options that were not typed."""

    threads: int | None
    spinning: bool | None
    kleidiai: bool | None

    def engine(self) -> "EngineOptions | None":
        """What was typed, with the defaults for the rest; None if nothing was."""
        from foggen_runtime.model.engine import EngineOptions

        if self.threads is None and self.spinning is None and self.kleidiai is None:
            return None
        return EngineOptions(
            threads=self.threads,
            spinning=self.spinning is not False,
            kleidiai=self.kleidiai is not False,
        )


@dataclass(frozen=True)
class BundleArguments(EngineArguments):
    """How to open the bundle."""

    verify: bool
    recompute_prefix: bool
    prepared: Path | None

    def open_options(self) -> "OpenOptions":
        """The same, for the library."""
        from foggen_runtime.model.local_model import OpenOptions

        return OpenOptions(
            self.engine(), self.verify, self.recompute_prefix, prepared_directory=self.prepared
        )


@dataclass(frozen=True)
class EndpointArguments:
    """A server to hand off to, if one is named."""

    cloud_url: str | None
    cloud_model: str | None

    def endpoint(self) -> tuple[str, str] | None:
        """The server's URL and the model on it.

        Raises:
            ConfigError: Only one of them is given.
        """
        if bool(self.cloud_url) != bool(self.cloud_model):
            raise ConfigError(
                "cloud: --cloud-url and --cloud-model must be given together, one is missing"
            )
        return (self.cloud_url, self.cloud_model) if self.cloud_url and self.cloud_model else None


@dataclass(frozen=True)
class CloudArguments(EndpointArguments):
    """Where and how to hand off."""

    cloud_fallback: tuple[tuple[str, str], ...]
    cloud_timeout: float
    cloud_connect_timeout: float
    cloud_first_token_timeout: float
    cloud_stream: bool | None

    def cloud(self) -> "Cloud | None":
        """The cloud to hand off to, if one is set.

        Raises:
            ConfigError: Only part of it is set, or something is wrong.
        """
        named = self.endpoint()
        if named is None:
            if self.cloud_fallback:
                raise ConfigError("cloud: --cloud-fallback needs --cloud-url, which is missing")
            return None
        from foggen_runtime.cloud.endpoints import Cloud, Endpoint

        fallbacks = tuple(
            Endpoint(
                url,
                model,
                os.environ.get(f"{API_KEY_VARIABLE}_{number}") or None,
                stream=self.cloud_stream,
            )
            for number, (url, model) in enumerate(self.cloud_fallback, start=2)
        )
        return Cloud(
            *named,
            os.environ.get(API_KEY_VARIABLE) or None,
            connect_timeout=self.cloud_connect_timeout,
            first_token_timeout=self.cloud_first_token_timeout,
            total_timeout=self.cloud_timeout,
            stream=self.cloud_stream,
            fallbacks=fallbacks,
        )


@dataclass(frozen=True)
class PolicyArguments:
    """The policy: a file, and flags that override it."""

    policy: Path | None
    tau: float | None
    route: "Route | None"
    on_unreachable: "OnUnreachable | None"
    outbox: Path | None
    decision_log: Path | None
    log_content: bool

    def to_policy(self) -> "Policy":
        """The policy with the flags applied, and with a file for everything it keeps.

        Raises:
            ConfigError: The file or a flag is wrong.
            StateError: The directory for what it keeps cannot be made.
        """
        policy = load_policy(self.policy)
        if self.tau is not None:
            policy = replace(policy, tau=self.tau, tau_source="flag")
        if self.route is not None:
            policy = replace(policy, route=self.route)
        if self.on_unreachable is not None:
            policy = replace(policy, on_unreachable=self.on_unreachable)
        if self.outbox is not None:
            policy = replace(policy, outbox=replace(policy.outbox, file=self.outbox))
        return with_default_files(replace(policy, decision_log=self._log(policy.decision_log)))

    def _log(self, settings: "LogSettings") -> "LogSettings":
        if self.decision_log is not None:
            settings = replace(settings, file=self.decision_log)
        if self.log_content:
            if settings.file is None:
                raise ConfigError("log_content: needs --decision-log FILE, which is missing")
            settings = replace(settings, content=True)
        return settings


@dataclass(frozen=True)
class DecodingArguments:
    """How to decode; `hold` means that the answer must be one of the question's options."""

    mode: "DecodingMode"
    max_new_tokens: int
    hold: bool


def check_cloud(policy: "Policy", cloud: "Cloud | None") -> None:
    """Refuse the route `cloud_only` without a cloud, unless questions are queued for later.

    Raises:
        ConfigError: Neither the cloud nor anything else in the policy could give an answer.
    """
    if policy.route == "cloud_only" and cloud is None and policy.on_unreachable != "queue":
        raise ConfigError("route: cloud_only needs --cloud-url URL --cloud-model NAME")


def key_hint(fallbacks: int = 0) -> str:
    """Say where the keys that the cloud refused come from.

    Args:
        fallbacks: How many endpoints there are besides the first.
    """
    numbered = (f"{API_KEY_VARIABLE}_{number}" for number in range(2, 2 + fallbacks))
    states = [
        f"{name} ({'set' if os.environ.get(name) else 'not set'})"
        for name in (API_KEY_VARIABLE, *numbered)
    ]
    return f"The cloud's key is taken from the environment: {', '.join(states)}"


def load_policy(path: Path | None) -> "Policy":
    """Read the policy file, if one is given."""
    from foggen_runtime.handoff.policy import Policy

    return Policy() if path is None else Policy.load(path)


def with_default_files(policy: "Policy") -> "Policy":
    """Return the policy with the user's own files where it needs a file and names none."""
    if policy.on_unreachable == "queue" and policy.outbox.file is None:
        file = state_directory() / "outbox.sqlite3"
        policy = replace(policy, outbox=replace(policy.outbox, file=file))
    if policy.budget.limited and policy.budget.file is None:
        file = state_directory() / "budget.sqlite3"
        policy = replace(policy, budget=replace(policy.budget, file=file))
    return policy


def state_directory() -> Path:
    """Return the directory for what foggen keeps for this user, creating it if need be.

    As the XDG Base Directory Specification has it: `$XDG_STATE_HOME/foggen`, by default
    `~/.local/state/foggen`.
    """
    root = os.environ.get("XDG_STATE_HOME", "")
    base = Path(root) if root.startswith("/") else Path.home() / ".local" / "state"
    directory = base / "foggen"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{directory}: cannot be made: {error.strerror}") from error
    return directory


def engine_options(note: str = "") -> Callable[[Decorated], Decorated]:
    """Return the options of `EngineArguments`.

    Args:
        note: A sentence on how they relate to what `foggen tune` found.
    """
    return lambda command: _decorated(
        command,
        click.option(
            "--threads",
            type=int,
            help=f"Worker threads.{note}  [default: as tuned, else the big cores]",
        ),
        click.option(
            "--spinning/--no-spinning",
            default=None,
            help="Let idle workers spin: faster, but uses more power.  "
            "[default: as tuned, else spinning]",
        ),
        click.option(
            "--kleidiai/--no-kleidiai",
            default=None,
            help="Use ARM's KleidiAI kernels; without them ARM gives x86's numbers.  "
            "[default: as tuned, else kleidiai]",
        ),
    )


def bundle_options(command: Decorated) -> Decorated:
    """Add the options of `BundleArguments`."""
    return _decorated(
        command,
        engine_options(" This and the next two override what foggen tune found."),
        click.option("--verify", is_flag=True, help="Hash every file of the bundle first."),
        click.option(
            "--recompute-prefix",
            is_flag=True,
            help="Compute the prompt prefix instead of using the snapshot.",
        ),
        click.option(
            "--prepared",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="What foggen prepare --output wrote.  [default: BUNDLE.prepared]",
        ),
    )


def endpoint_options(command: Decorated) -> Decorated:
    """Add the options of `EndpointArguments`."""
    return _decorated(
        command,
        click.option(
            "--cloud-url", help="OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1."
        ),
        click.option("--cloud-model", help="The model's name on that server."),
    )


def cloud_options(command: Decorated) -> Decorated:
    """Add the options of `CloudArguments`."""
    return _decorated(
        command,
        endpoint_options,
        click.option(
            "--cloud-fallback",
            nargs=2,
            multiple=True,
            metavar="URL MODEL",
            help="Another server, to try when those before it fail; may be repeated.",
        ),
        click.option(
            "--cloud-timeout",
            default=60.0,
            show_default=True,
            help="Seconds for the whole handoff, retries included.",
        ),
        click.option(
            "--cloud-connect-timeout", default=5.0, show_default=True, help="Seconds to connect."
        ),
        click.option(
            "--cloud-first-token-timeout",
            default=30.0,
            show_default=True,
            help="Seconds until a streamed answer, or the model's thoughts, must begin.",
        ),
        click.option(
            "--cloud-stream/--no-cloud-stream",
            default=None,
            help="Always or never ask the cloud for streams. [default: when the answer is "
            "streamed]",
        ),
    )


def tau_option(default: str) -> Callable[[Decorated], Decorated]:
    """Return the option `--tau`; its help says whose tau is the default."""
    return click.option(
        "--tau", type=float, help=f"Defer below this confidence.  [default: {default}]"
    )


def policy_options(command: Decorated) -> Decorated:
    """Add the options of `PolicyArguments`."""
    return _decorated(
        command,
        click.option("--policy", type=FILE, help="A policy in TOML; flags override it."),
        tau_option("the policy's, else the bundle's"),
        click.option(
            "--route",
            type=Choice(ROUTES),
            help="Who may answer.  [default: the policy's, else auto]",
        ),
        click.option(
            "--on-unreachable",
            type=Choice(ON_UNREACHABLE),
            help="What to do if the cloud does not answer.  [default: the policy's, else fail]",
        ),
        click.option(
            "--outbox", type=FILE, help="File to queue questions in. [default: one in your home]"
        ),
        click.option("--decision-log", type=FILE, help="Append each decision to this file."),
        click.option("--log-content", is_flag=True, help="Also log questions and answers."),
    )


def decoding_mode_option(command: Decorated) -> Decorated:
    """Add only the option of `DecodingArguments.mode`."""
    return _decorated(
        command,
        click.option(
            "--decoding",
            "mode",
            type=Choice(DECODING_MODES),
            default="constrained",
            show_default=True,
            help="How to decode.",
        ),
    )


def max_new_tokens_option(default: int) -> Callable[[Decorated], Decorated]:
    """Return the option `--max-new-tokens`."""
    return click.option(
        "--max-new-tokens",
        default=default,
        show_default=True,
        help="Most tokens to write after the confidence.",
    )


def decoding_options(command: Decorated) -> Decorated:
    """Add the options of `DecodingArguments`."""
    return _decorated(
        command,
        decoding_mode_option,
        max_new_tokens_option(256),
        click.option(
            "--options",
            "hold",
            is_flag=True,
            help="Let the answer be only one of the question's options.",
        ),
    )


class PricesType(click.ParamType):  # type: ignore[type-arg]
    """`per_call=…,prompt=…,completion=…`: per call, and per million tokens."""

    name = "prices"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Convert the option's value; without prices, everything is free."""
        if ctx is not None and ctx.resilient_parsing:
            return value  # a TAB does not need prices
        from foggen_runtime.evaluation.routing import Prices

        if isinstance(value, Prices):
            return value
        read: dict[str, float] = {}
        for part in str(value).split(",") if value else ():
            name, _, number = part.partition("=")
            if name.strip() not in _PRICES:
                self.fail(f"must be one of {', '.join(_PRICES)}, is {name!r}", param, ctx)
            try:
                read[_PRICES[name.strip()]] = float(number)
            except ValueError:
                self.fail(f"{name}: must be a number, is {number!r}", param, ctx)
        return Prices(**read)


def prices_option(command: Decorated) -> Decorated:
    """Add `--prices`."""
    return click.option(
        "--prices",
        type=PricesType(),
        default="",
        metavar="per_call=X,prompt=Y,completion=Z",
        help="The cloud's prices, per call and per million tokens. [default: 0]",
    )(command)


def on_option(command: Decorated) -> Decorated:
    """Add `--on`."""
    return click.option(
        "--on",
        type=Choice(CONFIDENCE_KINDS),
        help="Which confidence to compare with tau. [default: the bundle's, else verbalized]",
    )(command)


def rounds_option(default: int, help_text: str) -> Callable[[Decorated], Decorated]:
    """Return the option for the number of processes; each command has its own default."""
    return click.option(
        "--rounds",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help=help_text,
    )


def asking_options(command: Decorated) -> Decorated:
    """Add the options for what each process is asked."""
    return _decorated(
        command,
        click.option(
            "--questions",
            type=click.IntRange(min=1),
            default=12,
            show_default=True,
            help="Questions to measure in each process.",
        ),
        click.option(
            "--warm-up",
            type=click.IntRange(min=0),
            default=2,
            show_default=True,
            help="Questions to ask before them, which do not count.",
        ),
    )


launcher_option = click.option(
    "--launcher",
    default="",
    help="Words to put before each process's command, e.g. 'taskset -c 4-7'.",
)


def _decorated(command: Decorated, *options: Callable[[Decorated], Decorated]) -> Decorated:
    """Apply decorators so that the help shows them in this order."""
    for option in reversed(options):
        command = option(command)
    return command
