"""What all commands share: mistyped words, options named as typed, output on its two streams."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner, Result

from foggen_exporter.cli import export_command
from foggen_exporter.packaging.cli import package_command
from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.cli import foggen
from foggen_runtime.commands import options, outbox
from foggen_runtime.handoff.outbox import State
from foggen_runtime.handoff.policy import OnUnreachable, Route
from foggen_runtime.model.decoding import DecodingMode
from tests.conftest import BundleOf

ROOT = Path(__file__).parent.parent.parent
SOURCES = [*(ROOT / "runtime").rglob("*.py"), *(ROOT / "exporter").rglob("*.py")]


def run(*arguments: str | Path, command: click.Command = foggen) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by the words that call it."""
    yield "foggen-export", export_command
    yield "foggen-package", package_command
    context = click.Context(foggen)
    for name in foggen.list_commands(context):
        command = foggen.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            for inner, found in command.commands.items():
                yield f"foggen {name} {inner}", found
        else:
            yield f"foggen {name}", command


COMMANDS = dict(all_commands())


def find(line: str) -> tuple[click.Command, list[str]]:
    """Return the command that a line calls, and its arguments."""
    words = shlex.split(line)
    for count in (3, 2, 1):
        if found := COMMANDS.get(" ".join(words[:count])):
            return found, words[count:]
    raise AssertionError(f"no such command: {line}")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("aks",), "'ask'"),
        (("outbox", "flsh"), "'flush'"),
        (("policy", "chek"), "'check'"),
        (("completion", "bsh"), "'bash'"),
        (("ask", "b", "q", "--route", "loca_only"), "'local_only'"),
        (("ask", "b", "q", "--decoding", "gredy"), "'greedy'"),
        (("ask", "b", "q", "--on-unreachable", "que"), "'queue'"),
        (("eval", "b", "d", "--on", "expcted"), "'expected'"),
        (("eval", "b", "d", "--executor", "rey"), "'ray'"),
        (("outbox", "list", "--state", "acepted"), "'accepted'"),
        (("ask", "b", "q", "--max-new-token"), "--max-new-tokens"),
    ],
)
def test_a_mistyped_word_is_told_from_the_one_it_resembles(
    arguments: tuple[str, ...], meant: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert re.search(rf"Did you mean.*{meant}", result.stderr), result.stderr


def test_the_help_lists_each_command_once_below_a_heading() -> None:
    _, *sections = re.split(r"^(\w+):\n", run("--help").stdout, flags=re.MULTILINE)
    listed = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(listed) == ["Options", "Ask", "Cloud", "Bundles", "Measure", "Shell"]
    del listed["Options"]
    names = re.findall(r"^  (\w+) ", "".join(listed.values()), re.MULTILINE)
    assert sorted(names) == sorted(foggen.list_commands(click.Context(foggen)))
    assert len(set(names)) == len(names)
    modules = {path.stem for path in (ROOT / "runtime/foggen_runtime/commands").glob("*.py")}
    assert set(names) == modules - {"__init__", "command_line", "options", "outputs", "terminal"}


@pytest.mark.parametrize("words", [(), ("run",)])
def test_to_profile_is_to_run_unless_another_command_is_named(words: tuple[str, ...]) -> None:
    assert run("profile", *words, "nowhere").exit_code == 3
    refused = run("profile", *words, "--route", "local_onl", "nowhere")
    assert "Usage: foggen profile run [OPTIONS] BUNDLE" in refused.stderr
    assert "Did you mean 'local_only'?" in refused.stderr
    assert "Commands:\n  compare" in run("profile", "--help").stdout
    assert "Usage: foggen profile compare" in run("profile", "compare", "a").stderr


@pytest.mark.parametrize(
    ("command", "arguments", "meant"),
    [
        (export_command, ("--quant", "int-4"), "'int4'"),
        (export_command, ("--quant", "int4", "--head", "choice"), "'choices'"),
        (package_command, ("b", "-o", "x", "--target", "linux-arm"), "'linux-arm64'"),
    ],
)
def test_so_do_the_workstations_commands(
    command: click.Command, arguments: tuple[str, ...], meant: str
) -> None:
    result = run(*arguments, command=command)
    assert result.exit_code == 2
    assert f"Did you mean {meant}?" in result.stderr


def test_every_choice_knows_what_may_be_meant() -> None:
    for line, command in COMMANDS.items():
        for param in command.params:
            if isinstance(param.type, click.Choice):
                assert type(param.type) is not click.Choice, f"{line}: {param.name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-new-tokens", "0"), "Error: --max-new-tokens: must be at least 1, is 0"),
        (("--options",), "Error: --options: the question has no lines"),
        (("--log-content",), "Error: --log-content: needs --decision-log FILE"),
        (
            ("--cloud-url", "ftp://x", "--cloud-model", "m"),
            "Error: --cloud-url: must be an http:// or https:// URL with a host, is 'ftp://x'",
        ),
        (
            ("--cloud-url", "http://x", "--cloud-model", "m", "--cloud-timeout", "0"),
            "Error: --cloud-timeout: must be above 0",
        ),
        (
            ("--cloud-url", "http://x", "--cloud-model", "m", "--cloud-connect-timeout", "0"),
            "Error: --cloud-connect-timeout: must be above 0",
        ),
    ],
)
def test_options_are_named_as_they_are_typed(
    tiny_bundle: BundleOf, arguments: tuple[str, ...], message: str
) -> None:
    result = run("ask", tiny_bundle("int4"), "What?", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_a_file_says_is_named_as_in_the_file(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("tau = 2.0\n", encoding="utf-8")
    result = run("ask", tiny_bundle("int4"), "What?", "--policy", policy, "--tau", "0.5")
    assert result.exit_code == 2
    assert "--tau" not in result.stderr
    assert "tau: must be within [0, 1], is 2.0" in result.stderr


def test_choices_that_are_written_twice_are_the_same() -> None:
    assert get_args(DecodingMode) == options.DECODING_MODES
    assert get_args(Route) == options.ROUTES
    assert get_args(OnUnreachable) == options.ON_UNREACHABLE
    assert get_args(State) == outbox.STATES
    assert get_args(ConfidenceKind) == options.CONFIDENCE_KINDS


@pytest.mark.parametrize("line", COMMANDS)
def test_every_example_is_read_by_its_command(line: str) -> None:
    command = COMMANDS[line]
    assert command.help
    _, _, examples = command.help.partition("Example:\n")
    assert examples
    for example in re.split(r"\n(?=\s*foggen)", examples.replace("\\\n", " ")):
        if example.strip():
            found, words = find(example.partition(">>")[0])
            found.make_context("example", words, help_option_names=["-h", "--help"])


def messages() -> Iterator[tuple[str, str]]:
    """Yield every text in the code that is no docstring, with where it stands."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        for node in ast.walk(tree):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield (
                    where,
                    "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "X"
                        for part in node.values
                    ),
                )
            elif isinstance(node, ast.Constant) and id(node) not in docstrings | inside:
                yield where, str(node.value)


def test_every_command_option_and_extra_that_a_message_names_exists() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = pyproject["project"]["optional-dependencies"]
    known = {
        name
        for command in COMMANDS.values()
        for param in command.params
        for name in (*param.opts, *param.secondary_opts)
    }
    inner = {line.split()[1] for line in COMMANDS if " " in line}
    # Styles of pages, and what is said to pip, llama.cpp and the like.
    foreign = re.compile(r"var\(--|pip|llama-gguf-split|--no-|only-binary|--platform|wheel|dest")
    named = 0
    for where, text in messages():
        for extra in re.findall(r"foggen\[(\w+)\]", text):
            assert extra in extras, f"{where}: {text}"
        for command in re.findall(r"(?:`|run )foggen ([a-z]+)", text):
            assert command in inner, f"{where}: {text}"
        if foreign.search(text) or text.startswith("--"):
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            named += 1
            assert option in known, f"{where}: {text}"
    assert named > 20


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_lists_its_exit_codes(line: str) -> None:
    epilog = COMMANDS[line].epilog
    assert epilog
    assert re.search(r"^  0    \w", epilog, re.MULTILINE)
    assert re.search(r"^  2    \w", epilog, re.MULTILINE)
    assert max(map(len, epilog.splitlines())) <= 76
