"""Turn a bundle into what is put on a board or a phone."""


def main() -> None:
    """Run `foggen-package`."""
    from foggen_exporter.packaging.cli import run

    run()
