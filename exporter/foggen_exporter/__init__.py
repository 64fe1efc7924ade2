"""Turn a FogGen checkpoint into a bundle for the foggen runtime."""

import sys


def main() -> None:
    """Run `foggen-export`, or say what to install when its extra is missing."""
    try:
        from foggen_exporter.cli import run
    except ModuleNotFoundError as error:
        sys.exit(
            f"foggen-export: {error.name} is not installed; exporting needs the extra: "
            "pip install 'foggen[export]'"
        )
    run()
