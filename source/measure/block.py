"""Train the model of lesson 06 with one part left out each time: `python source/measure/block.py`.

With names of variants behind it, only these are trained, and the others stay as they were recorded. What is trained is
the lesson's own code, read from its cells, so that the two cannot part.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jupytext
import torch
from torch import Tensor, nn

from gptlib import tales
from gptlib.measured import recorded, save

ROOT = Path(__file__).resolve().parents[2]
CELLS = ("thing", "mlp_code", "two_thirds_count", "layer_norm", "block_code", "small_model", "one_block")


class Silent(nn.Module):
    """A part that adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros of the shape of `x`."""
        return torch.zeros_like(x)


def lesson(names: tuple[str, ...] = CELLS, root: Path = ROOT) -> dict[str, Any]:
    """Run cells of the lesson, by name, and return what they define."""
    notebook = jupytext.read(root / "source" / "lessons" / "06_the_block.py")
    cells = {cell.metadata.get("name"): cell.source for cell in notebook.cells if cell.cell_type == "code"}
    there: dict[str, Any] = {"test_stories": tales.split("test", 200)}
    for name in names:
        exec(compile(cells[name], name, "exec"), there)
    return there


def variants(there: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return what makes each model, from the same seed, by name."""

    def made(order: str = "pre", norm: Any = there["LayerNorm"], silent: str | None = None) -> Any:
        torch.manual_seed(0)
        whole = there["OneBlock"](there["Block"](128, 16, order, norm, n_positions=256), norm)
        if silent:
            setattr(whole.blocks[0], silent, Silent())
        return whole

    return {
        "whole": made,
        "no feed-forward": lambda: made(silent="mlp"),
        "no attention": lambda: made(silent="attention"),
        "no residuals": lambda: made(order="none"),
        "no norms": lambda: made(norm=lambda C: nn.Identity()),
        "post-norm": lambda: made(order="post"),
    }


def main(names: list[str]) -> None:
    """Train the variants, and keep how far each stays above the floor."""
    there = lesson()
    makers = variants(there)
    for name in names or makers:
        started = time.perf_counter()
        network = makers[name]()
        log, nats = there["learn"](network)
        if log[-1]["step"] < there["recipe"]["steps"]:
            raise SystemExit(f"{name}: stopped at step {log[-1]['step']}; what is recorded stays as it was")
        print(f"{name:16} {nats:.3f} nats above the floor, {network.n_parameters():,} parameters", flush=True)
        found: dict[str, dict[str, float]] = {"nats above the floor": {}, "parameters": {}, "seconds": {}}
        if (ROOT / "gptlib" / "measured" / "block.json").is_file():
            found = {key: dict(values) for key, values in recorded("block").items()}
        found["nats above the floor"][name] = nats
        found["parameters"][name] = network.n_parameters()
        found["seconds"][name] = time.perf_counter() - started
        save("block", found, seconds=sum(found["seconds"].values()))


if __name__ == "__main__":
    main(sys.argv[1:])
