"""Programs started where onnxruntime would collect and send telemetry, and what they leave."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.model.telemetry import OFF_VARIABLE, WANTED_VARIABLE

# What makes onnxruntime keep still by itself: a test must not pass for that reason.
_SILENCING = (
    *(OFF_VARIABLE, WANTED_VARIABLE, "ORT_RUNNING_UNIT_TESTS", "ORT_TELEMETRY_DISABLED"),
    *("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL"),
    *("CODEBUILD_BUILD_ID", "BUILDKITE", "TEAMCITY_VERSION", "APPVEYOR", "BITBUCKET_BUILD_NUMBER"),
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
)
HAS_STRACE = shutil.which("strace") is not None

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Home:
    """The home of a user who never ran anything, in an empty directory."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, but for who the user is and what he wishes."""
        kept = {name: value for name, value in os.environ.items() if name not in _SILENCING}
        places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
        for name, directory in places.items():
            path = self.root / directory
            path.mkdir(parents=True, exist_ok=True)
            kept[name] = str(path)
        return kept

    def run(
        self, command: Command, text: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, with more variables, until it ends."""
        environment = {**self.environment, **more}
        working = self.root / "work"
        working.mkdir(exist_ok=True)
        return subprocess.run(
            command,
            input=text,
            env=environment,
            cwd=working,
            capture_output=True,
            text=True,
            check=False,
        )

    def left(self) -> list[str]:
        """Return the files that are there now, but for foggen's notes of what it verified."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        names = sorted(str(path.relative_to(self.root)) for path in files)
        return [name for name in names if not name.startswith("cache/foggen/verified/")]


@contextmanager
def traced(command: Command, home: Home, calls: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a command whose calls of the network are written to a file, and end it."""
    tracer: Command = ["strace", "-D", "-f", "-e", "trace=network", "-o", calls]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*tracer, *command], env=home.environment, cwd=home.root, stdout=pipe, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def reached_out(calls: str) -> list[str]:
    """Return the calls of a trace that look up a name or go to someone else.

    A server's own are its listening socket, what is accepted there, and pairs within the process.
    """
    return [line for line in calls.splitlines() if "connect(" in line or "SOCK_DGRAM" in line]
