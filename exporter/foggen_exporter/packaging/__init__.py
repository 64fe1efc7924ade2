"""Turn a bundle into what is put on a board or a phone."""

import sys


def main() -> None:
    """Run `foggen-package`, or say what to install when its extra is missing."""
    try:
        from foggen_exporter.packaging.cli import run
    except ModuleNotFoundError as error:
        sys.exit(
            f"foggen-package: {error.name} is not installed; packaging needs the extra: "
            "pip install 'foggen[export]'"
        )
    run()
