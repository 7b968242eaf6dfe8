import math

import pytest

from gptlib import TrainConfig
from gptlib.config import PRESETS
from gptlib.training.config import RECIPES


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"steps": 1e3}, "steps=1000.0 must be a whole number"),
        ({"batch_size": -1}, "batch_size=-1 must be"),
        ({"accumulation": 0}, "accumulation=0 must be"),
        ({"eval_every": 0}, "eval_every=0 must be"),
        ({"save_every": 0}, "save_every=0 must be"),
        ({"log_every": 0}, "log_every=0 must be"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan must be above 0"),
        ({"learning_rate": math.inf}, "learning_rate=inf must be above 0"),
        ({"min_learning_rate": -0.1}, "min_learning_rate=-0.1 must lie between 0 and learning_rate=0.001"),
        ({"min_learning_rate": 0.1}, "min_learning_rate=0.1 must lie between 0 and learning_rate=0.001"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be negative; 0 turns it off"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must not be negative"),
        ({"grad_clip": math.nan}, "grad_clip=nan must not be"),
        ({"beta1": 1.0}, r"beta1=1.0 must lie in \[0, 1\)"),
        ({"beta2": -0.5}, r"beta2=-0.5 must lie in \[0, 1\)"),
        ({"seed": -1}, "seed=-1 must be a whole number from 0 to"),
        ({"seed": 10**30}, "seed=1000000000000000000000000000000 must be"),
        ({"precision": "fp16"}, "precision='fp16' is unknown; choose one of auto, fp32, bf16"),
        ({"keep": "worst"}, "keep='worst' is unknown; choose one of last, best"),
        ({"optimizer": "sgd"}, "optimizer='sgd' is unknown; choose one of adamw, muon"),
    ],
)
def test_settings_out_of_range_are_refused(changes, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**changes)


def test_recipes_go_with_models() -> None:
    assert set(RECIPES) <= set(PRESETS)
    for name in RECIPES:
        assert TrainConfig.preset(name) == TrainConfig(**RECIPES[name])
    assert TrainConfig.preset("tales", steps=7).steps == 7
    with pytest.raises(ValueError, match="preset 'shakespear-cpu'; did you mean 'shakespeare-cpu'"):
        TrainConfig.preset("shakespear-cpu")
    with pytest.raises(ValueError, match="no training recipe for preset 'gpt3'"):
        TrainConfig.preset("gpt3")


def test_nanogpts_budgets() -> None:
    cpu, gpu = TrainConfig.preset("shakespeare-cpu"), TrainConfig.preset("shakespeare-gpu")
    assert cpu.steps * cpu.batch_size * cpu.accumulation * 64 == 1_536_000
    assert gpu.steps * gpu.batch_size * gpu.accumulation * 256 == 81_920_000


def test_a_short_run_warms_up_for_a_tenth_of_it() -> None:
    assert TrainConfig(steps=2000, warmup_steps=100).warmup == 100
    assert TrainConfig(steps=50, warmup_steps=100).warmup == 5
    assert TrainConfig(steps=1, warmup_steps=100).warmup == 0
