"""An evaluation as one self-contained HTML page: the pictures as inline SVG, then the tables."""

from html import escape

from foggen_runtime.reports.pages import Page, Section

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: #ffffff;
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #e4e7eb; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { width: 100%; height: auto; }
"""


def html_page(page: Page, svg: str) -> str:
    """Return the whole page.

    Args:
        page: What it says.
        svg: A picture as an SVG document.
    """
    text = escape(page.title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{text}</h1>\n"
        f"<figure>{svg[svg.index('<svg') :]}</figure>\n"
        + "\n".join(map(_table, page.sections))
        + "\n</body>\n</html>\n"
    )


def _table(table: Section) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.head)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in table.rows
    )
    return f"<h2>{escape(table.title)}</h2>\n<table><tr>{head}</tr>\n{rows}</table>"
