"""TAB in a real shell, and how little runs at each."""

import os
import pty
import resource
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
HEAVY = {
    *("numpy", "onnxruntime", "httpx", "regex", "sqlite3"),
    *("onnx", "tokenizers", "transformers", "tqdm"),
}
MAINS = {
    "foggen": "foggen_runtime.cli",
    "foggen-export": "foggen_exporter",
    "foggen-package": "foggen_exporter.packaging",
}
REQUESTS = [
    "foggen ",
    "foggen as",
    "foggen ask ",
    "foggen ask bundle --",
    "foggen eval bundle data.jsonl --on ",
    "foggen outbox ",
    "foggen profile ",
    "foggen profile bundle --",
    "foggen serve bundle --",
    "foggen tune ",
    "foggen-export --quant ",
    "foggen-export --",
    "foggen-package bundle --target ",
]


def environment(line: str) -> dict[str, str]:
    """What a shell sets to ask for completions of a line."""
    words = line.split(" ")
    variable = f"_{words[0].replace('-', '_')}_COMPLETE".upper()
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), variable: "bash_complete"}
    return {**os.environ, **asked}


def completions(line: str) -> list[str]:
    command = BIN / line.split(" ")[0]
    done = subprocess.run(
        [command], env=environment(line), check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_commands_choices_and_options_are_completed() -> None:
    assert completions("foggen as") == ["plain,ask"]
    assert {"plain,int4", "plain,int8"} <= set(completions("foggen-export --quant "))
    assert "plain,android" in completions("foggen-package bundle --target ")
    assert "plain,--route" in completions("foggen ask bundle --ro")
    assert completions("foggen ask bundle --route cl") == ["plain,cloud_only"]
    assert completions("foggen profile ") == ["plain,compare", "plain,run", "dir,"]
    assert completions("foggen profile bundle --pp") == ["plain,--pp"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("foggen ask ", "dir"),
        ("foggen compare ", "dir"),
        ("foggen tune one ", "dir"),
        ("foggen eval bundle ", "file"),
        ("foggen-export ", "dir"),
        ("foggen-package ", "dir"),
    ],
)
def test_paths_are_left_to_the_shell(line: str, kind: str) -> None:
    assert completions(line) == [f"{kind},"]


@pytest.mark.parametrize("arguments", [["--help"], *(["ask", "--help"], ["eval", "--help"])])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported("foggen", arguments, dict(os.environ)).isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["foggen-export", "foggen-package"])
def test_help_of_the_workstations_commands_imports_nothing_heavy(command: str) -> None:
    assert imported(command, ["--help"], dict(os.environ)).isdisjoint(HEAVY)


@pytest.mark.parametrize("line", REQUESTS)
def test_a_tab_imports_nothing_heavy(line: str) -> None:
    assert imported(line.split(" ")[0], [], environment(line)).isdisjoint(HEAVY)


def imported(command: str, arguments: list[str], variables: dict[str, str]) -> set[str]:
    """Run a command, and return the modules it imported."""
    script = (
        f"import sys\nfrom {MAINS[command]} import main\nsys.argv[0] = {command!r}\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=variables,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout
    return set(done.stderr.split())


@pytest.mark.parametrize("line", REQUESTS)
def test_a_tab_takes_little_processor_time(line: str) -> None:
    # Others on the machine make it longer, never shorter.
    assert any(processor_seconds(line) < 0.15 for _ in range(20))


def processor_seconds(line: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    completions(line)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_tab_in_bash_completes_commands_and_bundles(tmp_path: Path) -> None:
    (tmp_path / "my bundle").mkdir()
    (tmp_path / "my-notes.txt").touch()
    script = subprocess.run(
        [BIN / "foggen", "completion", "bash"], check=True, capture_output=True, text=True
    )
    (tmp_path / "rc").write_text(f"PS1='$ '\nPATH={BIN}:$PATH\n{script.stdout}", encoding="utf-8")
    screen = Shell(tmp_path)
    try:
        assert "foggen ask my\\ bundle/" in screen.after("foggen as\tm\t", "my\\ bundle/")
        assert "--quant int4-gptq" in screen.after("\x15foggen-export --quant int4-g\t", "gptq")
        assert "--without-model" in screen.after("\x15foggen-package x --wit\t", "model")
    finally:
        screen.close()


class Shell:
    """Bash on a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        self._terminal, end = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--rcfile", "rc", "-i"],
            cwd=directory,
            env={**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"},
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self._read_until("$ ")

    def after(self, keys: str, expected: str) -> str:
        """Type keys, and return what is shown once it holds what is expected, or too late."""
        os.write(self._terminal, keys.encode())
        return self._read_until(expected)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)

    def _read_until(self, expected: str) -> str:
        shown = ""
        deadline = time.monotonic() + 60
        while expected not in shown and time.monotonic() < deadline:
            if select.select([self._terminal], [], [], 1)[0]:
                shown += os.read(self._terminal, 4096).decode()
        return shown
