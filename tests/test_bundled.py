"""The bundled model against its card: what the card says is measured again."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gptlib import plots, tales
from gptlib.pretrained import ASSETS, load_model
from gptlib.tales.ability import KINDS

ROOT = Path(__file__).parents[1]
FOLDER = ASSETS / "tales"


@pytest.fixture(scope="module")
def bundler():
    spec = importlib.util.spec_from_file_location("bundle", ROOT / "source" / "bundle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))


def test_card_text_is_the_card(bundler, card):
    assert (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8") == bundler.render(card)


def test_small_enough_to_ship(card):
    size = sum((FOLDER / name).stat().st_size for name in ("config.json", "model.safetensors", "tokenizer.json"))
    assert size == card["bytes"] < 4_000_000


def test_card_is_measured_again(bundler, card):
    again = bundler.measure(FOLDER, stories=300, marks=150)
    assert again["config_sha256"] == card["config_sha256"]
    assert again["parameters"] == card["parameters"]
    assert again["over_floor"] == pytest.approx(card["over_floor"], abs=0.01)
    assert again["nats_per_token"] == pytest.approx(card["nats_per_token"], abs=0.01)
    assert again["kl"] == pytest.approx(card["kl"], abs=2e-3)
    said = {(row["kind"], row["status"]): row for row in card["abilities"]}
    assert {(row["kind"], row["status"]) for row in again["abilities"]} == set(said)
    for row in again["abilities"]:
        expected = said[row["kind"], row["status"]]["accuracy"]
        spread = 4 * math.sqrt(max(expected * (1 - expected), 0.01) / row["count"])
        assert row["accuracy"] == pytest.approx(expected, abs=spread), row


def test_it_nearly_reaches_the_floor_and_can_do_what_it_read(card):
    assert 1 < card["over_floor"] <= 1.03
    assert {row["kind"]: row["accuracy"] for row in card["abilities"] if row["status"] == "seen"} == {
        kind: pytest.approx(1, abs=0.05) for kind in KINDS
    }


def test_its_whole_run_can_be_drawn(card):
    log = [json.loads(line) for line in (FOLDER / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] == card["steps"]
    assert sum("measured" in entry for entry in log) >= 40
    assert "recall" in plots.plot_abilities(FOLDER, title="Abilities").alt
    assert "ends at" in plots.plot_losses({"bundled model": FOLDER}, title="Losses").alt


def test_writes_a_story_of_its_language():
    model, tokenizer = load_model("tales")
    from gptlib import generate

    start = torch.tensor([[tokenizer.end_id]] * 16)
    rows = generate(model, start, 230, stop_id=tokenizer.end_id, temperature=0.5, seed=0).tolist()
    stories = [tokenizer.decode(row).split("<|endoftext|>")[1] for row in rows]
    assert sum(tales.log_prob(story) > -torch.inf for story in stories) >= 8
    assert len(set(stories)) == 16


def test_any_text_round_trips():
    _, tokenizer = load_model("tales")
    for text in ("Otto lived", "naïve ☃ \u202eabc\n\t<b>", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bundling_needs_a_finished_run(tmp_path):
    command = [sys.executable, str(ROOT / "source" / "bundle.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "holds no finished run" in done.stderr
    assert "Traceback" not in done.stderr
