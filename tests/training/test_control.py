"""A run that another thread pauses, saves and stops."""

import json
import signal
import threading
import time

import pytest
import torch

from gptlib import train
from gptlib.training import Control
from gptlib.training.checkpoint import read_tensors


def step_of(folder):
    return json.loads(read_tensors(folder / "checkpoint.safetensors")[1]["state"])["step"]


class Told(list):
    """What a control tells, and a wait for it."""

    def __init__(self):
        super().__init__()
        self.happened = threading.Condition()

    def __call__(self, event, step):
        with self.happened:
            self.append((event, step))
            self.happened.notify_all()

    def wait_for(self, event):
        with self.happened:
            assert self.happened.wait_for(lambda: event in [name for name, _ in self], 30)


def at(step, action):
    return lambda progress: action() if progress.step == step else None


def in_thread(small, model, control, out, **options):
    results = []

    def work():
        config = small.config(log_every=1, **options.pop("config", {}))
        run = train(model, small.corpus, small.tokenizer, config, out=out, control=control, verbose=False, **options)
        results.append(run)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, results


def test_a_pause_is_saved_and_changes_nothing(small, tmp_path, weights):
    whole, expected = small.train(dropout=0.2, log_every=1)
    told = Told()
    control = Control(told)
    model = small.model(dropout=0.2)
    thread, results = in_thread(small, model, control, tmp_path, on_step=at(7, control.pause))
    told.wait_for("paused")
    assert step_of(tmp_path) == 7
    before = weights(model).clone()
    torch.rand(3)  # another cell draws from the generator of dropout
    model.eval()
    time.sleep(0.5)
    assert torch.equal(weights(model), before)
    control.go_on()
    thread.join(60)
    assert results[0].finished
    assert torch.equal(weights(model), weights(whole))
    assert results[0].val_loss == expected.val_loss
    assert told[:4] == [("saved", 4), ("saved", 7), ("paused", 7), ("running", 7)]
    eighth = next(entry for entry in results[0].log if entry["step"] == 8)
    seventh = next(entry for entry in results[0].log if entry["step"] == 7)
    assert eighth["seconds"] - seventh["seconds"] < 0.4  # a pause does not count


@pytest.mark.parametrize("paused", [False, True])
def test_a_stop_is_saved_and_gone_on_from(small, tmp_path, weights, paused):
    whole, _ = small.train(dropout=0.2)
    told = Told()
    control = Control(told)
    ask = at(9, control.pause if paused else control.stop)
    thread, results = in_thread(small, small.model(dropout=0.2), control, tmp_path, on_step=ask)
    if paused:
        told.wait_for("paused")
        control.stop()
    thread.join(60)
    assert (results[0].finished, results[0].step, step_of(tmp_path)) == (False, 9, 9)
    resumed, _ = small.train(tmp_path, resume=True, model=small.model(seed=3, dropout=0.2))
    assert torch.equal(weights(resumed), weights(whole))


def test_saving_goes_on(small, tmp_path):
    told = Told()
    control = Control(told)
    thread, results = in_thread(
        small, small.model(), control, tmp_path, on_step=at(5, control.save), config={"save_every": 100}
    )
    thread.join(60)
    assert told == [("saved", 5), ("saved", 30)]
    assert results[0].finished


def test_a_signal_ends_a_pause(small, tmp_path):
    control = Control()

    def pause_and_interrupt(progress):
        if progress.step == 6:
            control.pause()
            threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()

    config = small.config(log_every=1)
    run = train(
        small.model(), small.corpus, small.tokenizer, config, out=tmp_path, on_step=pause_and_interrupt,
        control=control, verbose=False,
    )  # fmt: skip
    assert (run.finished, run.step, step_of(tmp_path)) == (False, 6, 6)


def test_a_pause_asked_for_at_the_end_does_not_hold_a_finished_run(small):
    control = Control()
    run = train(
        small.model(), small.corpus, small.tokenizer, small.config(steps=8, log_every=1), on_step=at(8, control.pause),
        control=control, verbose=False,
    )  # fmt: skip
    assert run.finished


def test_what_the_model_writes_goes_to_the_log_and_disturbs_nothing(small, tmp_path, weights):
    told = []

    def sample(model):
        assert not model.training
        return f"wrote {len(told)}"

    model = small.model(dropout=0.2)
    config = small.config(steps=20)
    run = train(
        model, small.corpus, small.tokenizer, config, out=tmp_path, sample=sample, verbose=False,
        on_step=lambda progress: told.append(progress.sample),
    )  # fmt: skip
    samples = {entry["step"]: entry["sample"] for entry in run.log if "sample" in entry}
    assert list(samples) == [6, 12, 18, 20]  # every eval_every steps, and after the last one
    assert [text for text in told if text] == list(samples.values())
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == run.log
    plain, _ = small.train(steps=20, dropout=0.2)
    assert torch.equal(weights(model), weights(plain))
