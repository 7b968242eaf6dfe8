"""source/measure/smollm2.py patches from the patched layer on alone; `patch_sweep` runs the whole model."""

import importlib.util
from pathlib import Path

import pytest
import torch

from gptlib import GPT, GPTConfig
from gptlib.interpret import logit_difference, patch_sweep
from gptlib.measured import recorded

SCRIPT = Path(__file__).parents[1] / "source" / "measure" / "smollm2.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("measure_smollm2", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_short_sweep_is_patch_sweep(script, random_model) -> None:
    shape = {"vocab_size": 23, "n_positions": 17, "n_embd": 24, "n_layer": 3, "n_head": 6, "n_kv_head": 2}
    config = GPTConfig(**shape, position="rotary", norm="rmsnorm", mlp="swiglu", bias=False)
    model: GPT = random_model(config)
    clean = torch.randint(23, (1, 7))
    corrupted = clean.clone()
    corrupted[0, 3] = (clean[0, 3] + 1) % 23
    difference, by_position, by_head = script.sweep(model, clean, corrupted, (5, 9))
    for over, found in (("positions", by_position), ("heads", by_head)):
        sweep = patch_sweep(model, clean, corrupted, logit_difference(5, 9), over=over)
        torch.testing.assert_close(found, sweep.values - sweep.corrupted, atol=1e-4, rtol=1e-4)
        assert difference == pytest.approx(sweep.clean - sweep.corrupted, abs=1e-4)


def test_the_record_holds_every_part_of_the_script(script) -> None:
    kept = recorded(script.NAME)
    assert set(kept) == {"model", *script.PARTS}
    assert kept["meaning"]["sentences"] == [list(pair) for pair in script.PAIRS]
    assert kept["patching"]["pairs"] == script.PATCHED
    assert torch.tensor(kept["scores"]["stories"]["entropy"]).shape == (30, 9)
