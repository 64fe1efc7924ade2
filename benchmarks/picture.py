"""The time to decision of every engine, as the README's picture.

`python -m benchmarks.picture results/NAME.json` writes results/NAME.svg.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, PEERS, REUSING = "#0b6e4f", "#b8bec7", "#8793a3"


def decision_ms(row: dict[str, Any]) -> float:
    """Return the median over a row's rounds of each round's median."""
    rounds: list[list[float]] = [run["measurement"]["decision_ms"] for run in row["runs"]]
    return statistics.median(statistics.median(times) for times in rounds)


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw one bar for each row that ran, the fastest on top."""
    rows = sorted((row for row in document["rows"] if row["runs"]), key=decision_ms, reverse=True)
    times = [decision_ms(row) for row in rows]
    names = [row["row"]["name"].replace("`", "") for row in rows]
    colours = [
        OURS
        if row["row"]["venv"] == "foggen"
        else REUSING
        if row["row"]["reuses_prefix"]
        else PEERS
        for row in rows
    ]
    mpl.rcParams["svg.hashsalt"] = "foggen"  # the same figures give the same file
    figure, axes = plt.subplots(figsize=(9, 0.36 * len(rows) + 1.1), layout="constrained")
    bars = axes.barh(names, times, color=colours, height=0.72)
    axes.bar_label(bars, labels=[f"{time:.0f}" for time in times], padding=4, fontsize=9)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["row"]["venv"] == "foggen" else "normal")
    figure.suptitle(
        "Milliseconds from a 160-token prompt to a known confidence: foggen (green),\n"
        "peers that keep the prompt's prefix (dark grey) and peers that do not (light grey)",
        fontsize=10,
        x=0.01,
        ha="left",
    )
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.margins(y=0.01)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw the picture of one result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    result: Path = parser.parse_args().result
    draw(json.loads(result.read_text(encoding="utf-8")), result.with_suffix(".svg"))


if __name__ == "__main__":
    main()
