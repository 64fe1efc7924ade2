"""Turn a FogGen checkpoint into a bundle for the foggen runtime."""


def main() -> None:
    """Run `foggen-export`."""
    from foggen_exporter.cli import run

    run()
