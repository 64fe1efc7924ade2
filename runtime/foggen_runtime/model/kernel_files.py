"""Reading what the kernel shows in /proc and /sys, under a root that tests can choose."""

from collections.abc import Iterator
from pathlib import Path


class KernelFiles:
    """Small text files under a root; what cannot be read is None."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def text(self, path: str) -> str | None:
        """Return a file's text, stripped of white space and zero bytes."""
        try:
            text = (self._root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        return text.strip(" \n\t\0") or None

    def number(self, path: str) -> float | None:
        """Return the one decimal number in a file, which may have a sign."""
        try:
            return float(self.text(path) or "")
        except ValueError:
            return None

    def glob(self, pattern: str) -> Iterator[str]:
        """Yield the paths that match, sorted by name and number, relative to the root."""
        try:
            paths = [str(path.relative_to(self._root)) for path in self._root.glob(pattern)]
        except OSError:
            return
        yield from sorted(paths, key=lambda path: (len(path), path))
