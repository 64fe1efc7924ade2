"""`foggen outbox`: the questions that wait for the cloud."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import (
    FILE,
    Choice,
    Decorated,
    Group,
    exit_codes,
    interruptible,
)
from foggen_runtime.commands.options import (
    CloudArguments,
    cloud_options,
    key_hint,
    load_policy,
    state_directory,
    take,
    with_default_files,
)
from foggen_runtime.commands.terminal import note, quiet_option, terminal_width
from foggen_runtime.errors import ConfigError
from foggen_runtime.printing import printable_text

if TYPE_CHECKING:
    from foggen_runtime.handoff.flushing import FlushReport
    from foggen_runtime.handoff.outbox import Entry, Outbox, State
    from foggen_runtime.handoff.policy import Policy

# The values of `outbox.State`, written again because that module imports SQLite.
STATES = ("accepted", "answered")
_MOST_SHOWN = 60  # characters of a question in a list, fewer on a narrow terminal
_LEAST_SHOWN = 20
EXIT_REMAINING = 8


@dataclass(frozen=True)
class OutboxArguments:
    """Which outbox, and how to show it."""

    db: Path | None
    policy: Path | None
    as_json: bool

    def to_policy(self) -> "Policy":
        """The policy, with the outbox's file in it.

        Raises:
            ConfigError: The policy's file is wrong.
            StateError: The directory of the user's own outbox cannot be made.
        """
        policy = load_policy(self.policy)
        file = self.db or policy.outbox.file or state_directory() / "outbox.sqlite3"
        return with_default_files(replace(policy, outbox=replace(policy.outbox, file=file)))

    def open(self) -> "Outbox":
        """Open it.

        Raises:
            ConfigError: There is none.
            StateError: It cannot be used.
        """
        from foggen_runtime.handoff.outbox import Outbox

        limits = self.to_policy().outbox
        if limits.file is None or not limits.file.exists():
            raise ConfigError(f"outbox: nothing has ever been queued, there is no {limits.file}")
        return Outbox(limits)


def _outbox_options(command: Decorated) -> Decorated:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--policy", type=FILE, help="The policy in TOML that names the outbox."),
        click.option(
            "--db", type=FILE, help="The outbox. [default: the policy's, else one in your home]"
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def outbox() -> None:
    """Show, deliver or delete questions that wait for the cloud.

    \b
    Example:
      foggen outbox flush --cloud-url http://127.0.0.1:8000/v1 --cloud-model big-model
    """


@outbox.command("list", epilog=exit_codes(0, 2, 9))
@click.option("--state", type=Choice(STATES), help="List only entries in this state.")
@_outbox_options
def list_command(*, state: "State | None", **options: Any) -> None:
    """List the entries, oldest first.

    \b
    Example:
      foggen outbox list --state accepted
    """
    from foggen_runtime.jsonio import dumps

    arguments = take(OutboxArguments, options)
    with arguments.open() as opened:
        entries = opened.entries(state)
    if arguments.as_json:
        click.echo(dumps([entry.to_dict() for entry in entries]))
        return
    for entry in entries:
        click.echo(_row(entry, terminal_width()))


@outbox.command("show", epilog=exit_codes(0, 2, 9))
@click.argument("entry_id", metavar="ID")
@_outbox_options
def show_command(*, entry_id: str, **options: Any) -> None:
    """Show one entry by its id, or the first digits of its id.

    \b
    Example:
      foggen outbox show 3f2a
    """
    from foggen_runtime.jsonio import dumps

    arguments = take(OutboxArguments, options)
    with arguments.open() as opened:
        entry = opened.get(entry_id)
    if entry is None:
        raise ConfigError(f"id: must be the id of one entry, is {entry_id!r}")
    click.echo(dumps(entry.to_dict()) if arguments.as_json else printable_text(_page(entry)))


@outbox.command(
    "flush",
    epilog=exit_codes(
        *(2, 9, 130),
        special={
            0: "nothing is waiting any more",
            EXIT_REMAINING: "some entries are still waiting",
        },
    ),
)
@click.option("--limit", type=click.IntRange(min=1), help="Deliver at most this many entries.")
@click.option("--now", is_flag=True, help="Also deliver entries whose next attempt is not due yet.")
@cloud_options
@_outbox_options
@quiet_option
@click.pass_context
def flush_command(ctx: click.Context, /, *, limit: int | None, now: bool, **options: Any) -> None:
    """Send the entries that are due to the cloud, and store its answers.

    The cloud's key is taken from the environment, as `foggen ask` does.

    \b
    Example:
      foggen outbox flush --cloud-url http://127.0.0.1:8000/v1 --cloud-model big-model
    """
    from foggen_runtime.handoff.flushing import FlushOptions, flush
    from foggen_runtime.handoff.services import open_handoff, outbox_lease
    from foggen_runtime.jsonio import dumps

    endpoints = take(CloudArguments, options)
    cloud = endpoints.cloud()
    if cloud is None:
        raise ConfigError("cloud: must be set to flush; add --cloud-url URL --cloud-model NAME")
    arguments = take(OutboxArguments, options)
    flushing = FlushOptions(limit, waiting=now, lease_seconds=outbox_lease(cloud))
    kept = "the answers that came are stored, the other entries are still waiting"
    with interruptible(kept), arguments.open() as opened:
        handoff = open_handoff(cloud, arguments.to_policy())
        try:
            report = flush(opened, handoff, flushing)
        finally:
            handoff.close()
    click.echo(dumps(asdict(report)) if arguments.as_json else _summary(report))
    if report.stopped == "cloud_rejected":
        note(key_hint(fallbacks=len(endpoints.cloud_fallback)))
    ctx.exit(EXIT_REMAINING if report.remaining else 0)


@outbox.command("purge", epilog=exit_codes(0, 2, 9, special={1: "not confirmed"}))
@click.option(
    "--older-than", default=0.0, help="Only entries at least this many days old. [default: all]"
)
@click.option(
    "--accepted", is_flag=True, help="Also delete entries that wait for an answer: they are lost."
)
@click.option("--yes", is_flag=True, help="Do not ask before losing entries.")
@_outbox_options
def purge_command(*, older_than: float, accepted: bool, yes: bool, **options: Any) -> None:
    """Delete answered entries.

    \b
    Example:
      foggen outbox purge --older-than 7
    """
    from foggen_runtime.jsonio import dumps

    arguments = take(OutboxArguments, options)
    if accepted and not yes:
        click.confirm("Delete entries that have no answer yet?", abort=True, err=True)
    with arguments.open() as opened:
        deleted = opened.purge(older_than=86_400 * older_than, accepted=accepted)
    click.echo(dumps({"deleted": deleted}) if arguments.as_json else f"{deleted} deleted")


def _row(entry: "Entry", width: int | None) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.accepted_at))
    head = f"{entry.id[:12]}  {when}Z  {entry.state:8}  "
    room = _MOST_SHOWN if width is None else width - len(head)
    shown = min(max(room, _LEAST_SHOWN), _MOST_SHOWN)
    question = " ".join("".join(c if c.isprintable() else " " for c in entry.question).split())
    if len(question) > shown:
        question = question[: shown - 3] + "..."
    return head + question


def _page(entry: "Entry") -> str:
    document = entry.to_dict()
    del document["result"], document["question"]
    lines = [f"{name:12} {value}" for name, value in document.items() if value is not None]
    parts = ["\n".join(lines), entry.question]
    if entry.state == "answered":
        parts.append(f"-> {entry.result.answer or entry.result.detail}")
    return "\n\n".join(parts)


def _summary(report: "FlushReport") -> str:
    text = f"{report.answered} answered, {report.failed} failed, {report.remaining} waiting"
    if report.withheld:
        text += f", {report.withheld} withheld by a never-send rule"
    if report.duplicates:
        text += f", {report.duplicates} answered twice and stored once"
    if report.stopped:
        text += f"; stopped: {report.stopped}"
    if report.retry_after is not None:
        text += f", the cloud asks to wait {report.retry_after:.0f} s"
    return text
