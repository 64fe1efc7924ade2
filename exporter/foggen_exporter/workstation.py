"""What `foggen-export` and `foggen-package` have in common."""

from importlib.util import find_spec
from typing import ClassVar

import click

from foggen_runtime.commands.command_line import Command, ExitCodes

MODULES = (
    *("huggingface_hub", "jinja2", "ml_dtypes", "onnx", "packaging", "safetensors", "tqdm"),
    *("tokenizers", "transformers"),
)


class WorkstationCommand(Command):
    """One exit code for every kind of failure."""

    exit_codes: ClassVar[ExitCodes] = {}


def require_extra(command: str) -> None:
    """Check that the extra is installed.

    Args:
        command: Who needs it.

    Raises:
        click.ClickException: It is not; the message says how to install it.
    """
    if missing := [name for name in MODULES if not _installed(name)]:
        raise click.ClickException(
            f"{command} needs {', '.join(missing)}: pip install 'foggen[export]'"
        )


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # imported, but not by a loader
        return False
