"""The files `foggen profile` writes."""

from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.files import write_text_atomically
from foggen_runtime.jsonio import dumps
from foggen_runtime.profiling.page import page
from foggen_runtime.profiling.schema import Profile
from foggen_runtime.reports.html_page import html_page
from foggen_runtime.reports.pages import markdown


@dataclass(frozen=True)
class Outputs:
    """Where a profile goes besides the terminal."""

    output: Path | None
    html: Path | None
    md: Path | None

    def check(self) -> None:
        """Refuse files that could not be written once everything is measured.

        Raises:
            ConfigError: A directory is missing.
        """
        for name, path in (("output", self.output), ("html", self.html), ("md", self.md)):
            if path and not path.parent.is_dir():
                raise ConfigError(f"{name}: its directory must exist, {path.parent} does not")

    def write(self, profile: Profile) -> None:
        """Write the files asked for.

        Raises:
            ConfigError: One cannot be written.
        """
        try:
            if self.output:
                write_text_atomically(self.output, dumps(profile, indent=1) + "\n")
            if self.html:
                write_text_atomically(self.html, html_page(profile))
            if self.md:
                write_text_atomically(self.md, markdown(page(profile)))
        except OSError as error:
            raise ConfigError(f"output: cannot be written: {error}") from error
