"""Turn a bundle into a package for a board or a phone."""


def main() -> None:
    """Run `foggen-package`."""
    from foggen_exporter.packaging.cli import run

    run()
