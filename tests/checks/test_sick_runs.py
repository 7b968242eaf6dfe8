"""The recorded runs that `training.diagnose` is about, and the script that made them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from gptlib.checks import find_exercise
from gptlib.measured import recorded
from measure import sick_runs

ROOT = Path(__file__).parents[2]
RUNS = recorded("sick_runs")["runs"]
KINDS = [f"{run['cause']}{run['kind']}" for run in RUNS]


def evidence(run):
    return {name: torch.tensor(value) if isinstance(value, list) else value for name, value in run["log"].items()}


@pytest.mark.parametrize("run", RUNS, ids=KINDS)
def test_reference_and_alternatives_name_the_cause_that_the_script_built_in(run):
    exercise = find_exercise("training.diagnose")
    for answer in (exercise.reference, *exercise.alternatives):
        assert answer(evidence(run)) == run["cause"]


@pytest.mark.parametrize("seed", range(5))
def test_what_a_run_is_ill_with_can_be_told_from_its_variations(seed):
    exercise = find_exercise("training.diagnose")
    for case in exercise.draw(np.random.default_rng(seed)):
        (cause,) = {run["cause"] for run in RUNS if repr(run["cause"]) in case.note} or {"healthy"}
        assert [answer(case.given) for answer in (exercise.reference, *exercise.alternatives)] == 3 * [cause]


def test_variations_keep_what_their_run_is_known_by():
    exercise = find_exercise("training.diagnose")
    for case in exercise.draw(np.random.default_rng(0)):
        log = case.given
        (source,) = [
            evidence(run)
            for run in RUNS
            if torch.equal(evidence(run)["train_loss"][:1], log["train_loss"][:1])
            and run["log"]["sample"] == log["sample"]
        ]
        assert log.keys() == source.keys()
        assert torch.equal(log["val_loss"], log["val_loss_again"]) == torch.equal(
            source["val_loss"], source["val_loss_again"]
        )
        above = (log["val_loss"] - log["floor"]) / (source["val_loss"] - log["floor"])
        assert 0.9 < above[-1] < 1.1
        assert above[0] == pytest.approx(1, abs=0.01)
        assert not torch.equal(log["train_loss"], source["train_loss"])
        for name, value in source.items():
            if isinstance(value, torch.Tensor):
                assert (log[name].shape, log[name].dtype) == (value.shape, value.dtype)
                assert log[name].isfinite().all()


def test_every_illness_was_recorded_once_and_two_healthy_runs():
    assert [(run["cause"], run["kind"]) for run in RUNS] == sick_runs.plan()
    assert sorted(KINDS) == sorted({*sick_runs.CAUSES, *(f"healthy{kind}" for kind in sick_runs.HEALTHY)})


def test_the_statement_says_what_is_in_a_log_and_which_causes_there_are():
    text = (ROOT / "source" / "exercises" / "08_training.py").read_text(encoding="utf-8")
    named = set(re.findall(r"^# \| `(\w+)` \|", text, re.MULTILINE))
    causes = set(re.findall(r'^# \| `"([\w ]+)"` \|', text, re.MULTILINE))
    assert causes == set(sick_runs.CAUSES)
    for run in RUNS:
        assert set(run["log"]) == named
        assert {name: len(value) for name, value in run["log"].items() if isinstance(value, list)} == {
            **dict.fromkeys(("train_loss", "learning_rate", "gradient_norm"), 300),
            **dict.fromkeys(("eval_step", "val_loss", "val_loss_again"), 7),
            "val_loss_by_position": 64,
        }


def test_shifted_targets_lie_two_tokens_on():
    tokens = sick_runs.TokenData(torch.arange(1000, dtype=torch.int32))
    inputs, targets = sick_runs.batch("healthy", tokens, 0, 3, seed=1)
    assert torch.equal(targets, inputs + 1)
    inputs, targets = sick_runs.batch("shifted targets", tokens, 0, 3, seed=1)
    assert torch.equal(targets, inputs + 2)


def test_the_leak_sees_the_future():
    torch.manual_seed(0)
    sick = sick_runs.make_model("leak", dropout=0.0).eval()
    healthy = sick_runs.make_model("healthy", dropout=0.0).eval()
    healthy.load_state_dict(sick.state_dict())
    ids = torch.randint(100, (2, 9))
    other = torch.cat([ids[:, :-1], ids[:, -1:] + 1], dim=1)
    with torch.no_grad():
        assert torch.allclose(healthy(ids)[0][:, :-1], healthy(other)[0][:, :-1])
        assert not torch.allclose(sick(ids)[0][:, :-1], sick(other)[0][:, :-1])
