"""Read the points of the running chart from the built lessons that measured them: `python source/measure/ladder.py`.

The lessons are built in their order: each draws its own point beside those that this command has read.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat

from gptlib.measured import save
from gptlib.plots.ladder import BUNDLED, LADDER

ROOT = Path(__file__).resolve().parents[2]
# What a lesson's figure calls its point, where that is not the name on the chart.
CALLED = {"bigram": "bigram, trained"}


def points(root: Path = ROOT) -> dict[str, float]:
    """Return, for every name on the chart that a built lesson has measured, its nats above the floor."""
    found: dict[str, float] = {}
    for name, lesson in {**LADDER, BUNDLED: LADDER["one head"]}.items():
        measured = re.compile(rf"(?:^|; ){re.escape(CALLED.get(name, name))}: ([\d.]+) nats above the floor(?! \(rec)")
        for path in (root / "notebooks").glob(f"{lesson:02}_*.ipynb"):
            for cell in nbformat.read(path, as_version=4).cells:
                for output in cell.get("outputs", ()):
                    alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                    if match := measured.search(alt):
                        found[name] = float(match[1])
    return found


if __name__ == "__main__":
    print(save("ladder", points()))
