"""Pictures as the content of files: needs the extra `report`."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT = "#1f2933", "#b8c0c8"


@dataclass(frozen=True)
class Canvas:
    """What a picture is drawn on.

    Attributes:
        size: Width and height, inches.
        font_size: Points.
        dpi: Pixels per inch, of a PNG.
    """

    size: tuple[float, float]
    font_size: float
    dpi: float

    def picture(self, draw: Callable[["Figure"], None], kind: str) -> bytes:
        """Draw, and return the file's content; the same picture gives the same bytes.

        Args:
            draw: Fills the figure.
            kind: `svg` or `png`.

        Raises:
            ConfigError: matplotlib is not installed.
        """
        require_matplotlib()
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        file = io.BytesIO()
        with rc_context({"svg.hashsalt": "foggen", "font.size": self.font_size, "text.color": INK}):
            figure = Figure(figsize=self.size, facecolor="white", layout="constrained")
            draw(figure)
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(file, format=kind, dpi=self.dpi, metadata=metadata)
        return file.getvalue()


def require_matplotlib() -> None:
    """Check that pictures can be drawn.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError("picture: needs matplotlib: pip install 'foggen[report]'") from None
