"""Where the benchmarks keep what is large: a directory that git ignores."""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Workspace:
    """A directory with checkpoints, models and virtual environments.

    Attributes:
        root: The directory.
    """

    root: Path

    @property
    def checkpoint(self) -> Path:
        """The random checkpoint, as transformers 5 writes it."""
        return self.model("checkpoint")

    @property
    def checkpoint_4x(self) -> Path:
        """The same weights with a configuration in the style of transformers 4."""
        return self.model("checkpoint-4x")

    @property
    def sources(self) -> Path:
        """Source archives of peers."""
        return self.root / "sources"

    def model(self, name: str) -> Path:
        """A model made for one engine."""
        return self.root / "models" / name

    def venv(self, name: str) -> Path:
        """The virtual environment of a peer."""
        return self.root / "venvs" / name

    def python(self, name: str) -> Path:
        """The interpreter of a peer, or this one for our own engine."""
        return self.venv(name) / "bin" / "python" if name != "foggen" else Path(sys.executable)


def workspace_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option `--work` to a parser."""
    parser.add_argument(
        "--work",
        type=lambda text: Workspace(Path(text).resolve()),
        default=Workspace(REPOSITORY / "work"),
        help="directory for what is large",
    )


def run(*command: object) -> None:
    """Run a command from the repository's root, its output with ours.

    Args:
        command: The words; a path or number becomes one by `str`.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    words = [str(word) for word in command]
    print("+", " ".join(words), file=sys.stderr, flush=True)
    subprocess.run(words, cwd=REPOSITORY, stdout=sys.stderr, check=True)


def size_mb(path: Path) -> float:
    """Return the size of a file, or of a directory's files, in MB."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
