"""Results of runs that take too long for a lesson, each kept with the command that made it.

A script in `source/measure/` measures and calls `save`; a lesson calls `recorded`, says that its curve is a recorded
one, and runs a part of it live beside it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recorded(Mapping[str, Any]):
    """What a run measured: a mapping of its results.

    `command` made it, from the project's root; `made_with` has versions, threads and seconds.
    """

    results: Mapping[str, Any]
    command: str
    made_with: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


def recorded(name: str) -> Recorded:
    """Return the results that are kept under a name.

    Raises:
        ValueError: for a name under which nothing is kept.

    Example:
        >>> recorded("ladder").command
        'python source/measure/ladder.py'
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "none"
        raise ValueError(f"nothing is recorded under {name!r}; there are: {there}")
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Recorded(kept["results"], kept["command"], kept["made_with"])


def save(name: str, results: Mapping[str, Any], *, seconds: float | None = None, folder: Path = FOLDER) -> Path:
    """Keep results under a name, over what was there; called by the script that measured them.

    Args:
        name: also the script's: `source/measure/NAME.py`.
        results: what JSON can say; floats are kept to 6 significant digits.
        seconds: how long the run took.
        folder: where files are kept; another one for tests.

    Raises:
        ValueError: for results that hold NaN or an infinity, which JSON cannot say.
    """
    made_with: dict[str, Any] = {"python": platform.python_version()}
    if torch := sys.modules.get("torch"):
        made_with |= {"torch": str(torch.__version__), "threads": torch.get_num_threads()}
    if seconds is not None:
        made_with["seconds"] = round(seconds)
    content = {"command": f"python source/measure/{name}.py", "made_with": made_with, "results": _short(results)}
    path = folder / f"{name}.json"
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def _short(value: Any) -> Any:
    """Round every float to 6 significant digits, so that a file says what was measured and no more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return value
