"""The benchmarks run: small sizes, for a second; nothing here looks at how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *options: object) -> str:
    command = [sys.executable, f"benchmarks/{script}.py", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_compares_the_same_work_in_turns(tmp_path: Path) -> None:
    shown = run("training", "--shape", "2x2x32x16x2", "--seconds", 1, "--device", "cpu", "--json", tmp_path / "t.json")
    [result] = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    names = [row["name"] for row in result["rows"]]
    assert names == ["gptlib", "gptlib, fp32", "transformers", "transformers, bf16"]
    assert result["rounds"] >= 3
    assert all(name in shown for name in names)
    assert result["rows"][0]["ratio"] == [1, 1, 1]


def test_everyone_writes_the_same_tokens_in_fp32(tmp_path: Path) -> None:
    run("decoding", "--shape", "2x2x32", "--new", 16, "--seconds", 1, "--device", "cpu", "--json", tmp_path / "d.json")
    results = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert [(each["dtype"], each["batch"]) for each in results] == [("fp32", 1), ("bf16", 1), ("fp32", 16)] * 2
    for each in results:
        if each["dtype"] == "fp32":
            assert [row["same"] for row in each["rows"]] == [1, 1]


def test_every_token_up_to_the_context_is_timed(tmp_path: Path) -> None:
    shown = run("length", "--shape", "2x2x32x64", "--device", "cpu", "--json", tmp_path / "l.json")
    parts = json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert (parts[0]["from"], parts[-1]["to"], len(parts)) == (1, 63, 10)
    assert all(a["to"] + 1 == b["from"] for a, b in pairwise(parts))
    assert all(part["milliseconds"] > 0 for part in parts)
    assert "the last tenth costs" in shown


def test_a_folder_without_nanogpt_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/training.py", "--nanogpt", str(tmp_path), "--seconds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "has no model.py; name a folder with a clone of nanoGPT" in done.stderr


def test_the_page_says_what_the_numbers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page and the README's table were made from the numbers that lie beside them."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import everything

    results = json.loads((ROOT / "docs" / "benchmarks.json").read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == everything.page(results)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert everything.in_readme(readme, results) == readme
    assert everything.summary(results) in readme
