"""The training monitor's kernel side: what it tells, what it does when asked, and that no run is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig, train
from gptlib.corpora import Corpus
from gptlib.plots.monitor import plot_run
from gptlib.training.checkpoint import read_tensors
from gptlib.widgets import TrainingMonitor

TEXT = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\n" * 12
CORPUS, TOKENIZER = Corpus("verse", TEXT[:650], TEXT[650:]), CharTokenizer.train(TEXT)


@pytest.fixture
def interruptible():
    """Ctrl-C raises, as in a kernel; tests that were started in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def gpt(seed=0):
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocab_size=TOKENIZER.vocab_size, n_positions=8, n_embd=12, n_layer=2, n_head=3, dropout=0.1))


def config(steps=30, **changes):
    usual = {"batch_size": 5, "eval_every": 10, "save_every": 4, "log_every": 1, "eval_windows": 4, "device": "cpu"}
    return TrainConfig(steps=steps, **{**usual, "precision": "fp32", **changes})


def monitor(out=None, steps=30, **options):
    return TrainingMonitor(gpt(), CORPUS, TOKENIZER, config(steps), out=out, **options)


def rows(data, width=6):
    return np.frombuffer(data, dtype="<f4").reshape(-1, width)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ask(view, action):
    view._handle_custom_msg({"do": action}, [])
    return view.problem


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def step_of(folder):
    return json.loads(read_tensors(folder / "checkpoint.safetensors")[1]["state"])["step"]


def test_a_run_in_a_thread_ends_as_one_in_a_cell_and_tells_all_of_it(tmp_path):
    model = gpt()
    plain = train(model, CORPUS, TOKENIZER, config(), verbose=False)
    mine = gpt()
    view = TrainingMonitor(
        mine, CORPUS, TOKENIZER, config(), out=tmp_path / "run", floor=0.5, measure=lambda _: {"recall accuracy": 0.5}
    )
    assert (view.status, view.actions) == ("ready", ["start"])
    view.start()
    result = view.wait()
    assert torch.equal(weights(mine), weights(model))
    assert result.val_loss == plain.val_loss
    assert (view.status, view.actions) == ("finished", [])
    assert f"{plain.val_loss:.4f}" in view.note
    curve = rows(view.curve)
    assert curve[:, 0].tolist() == list(range(1, 31))
    np.testing.assert_allclose(curve[:, 1], [entry["loss"] for entry in plain.log], rtol=1e-6)
    np.testing.assert_allclose(curve[:, 2], [entry["learning_rate"] for entry in plain.log], rtol=1e-6)
    assert (curve[:, 4] > 0).all()
    assert np.isfinite(curve[:, 5]).nonzero()[0].tolist() == [9, 19]
    assert view.measures == ["recall accuracy"]
    assert rows(view.rising, 2).tolist() == [[10, 0.5], [20, 0.5], [30, 0.5]]
    assert [step for step, _ in view.samples] == [10, 20, 30]
    assert all(text.startswith("cat ") for _, text in view.samples)
    assert view.left == 0
    assert view.floor == 0.5


def test_pause_save_stop_and_go_on_from_the_view(tmp_path):
    whole = gpt()
    train(whole, CORPUS, TOKENIZER, config(400), verbose=False)
    view = monitor(tmp_path, steps=400)
    assert ask(view, "start") == ""
    until(lambda: view.log)
    assert ask(view, "pause") == ""
    until(lambda: view.status == "paused")
    assert view.actions == ["go on", "stop"]
    step = view.log[-1]["step"]
    assert step_of(tmp_path) == step
    assert f"Paused at step {step}" in view.note
    time.sleep(0.3)
    assert view.log[-1]["step"] == step
    ask(view, "go on")
    until(lambda: view.log[-1]["step"] > step)
    ask(view, "stop")
    until(lambda: view.status == "stopped")
    stopped = view.log[-1]["step"]
    assert step_of(tmp_path) == stopped < 400
    assert view.actions == ["go on"]
    assert ask(view, "go on") == ""  # a new thread, from the checkpoint
    result = view.wait()
    assert result.finished
    assert [entry["step"] for entry in result.log] == list(range(1, 401))
    assert rows(view.curve)[-1, 0] == 400
    other = monitor(tmp_path, steps=400, resume=True)
    other.start()
    assert other.wait().val_loss == result.val_loss
    assert torch.equal(weights(whole), weights(view._model))


def test_interrupting_the_cell_that_waits_saves(tmp_path, interruptible):
    view = monitor(tmp_path, steps=5000)
    view.start()
    until(lambda: view.log)
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    result = view.wait()
    assert not result.finished
    assert step_of(tmp_path) == result.step
    assert view.status == "stopped"


def test_without_a_folder_nothing_claims_to_be_saved():
    view = monitor(steps=5000)
    view.start()
    until(lambda: view.log)
    assert "save" not in view.actions
    assert "out=None" in ask(view, "save")
    ask(view, "stop")
    assert not view.wait().finished
    assert "Nothing was saved" in view.note
    assert view.actions == []
    assert "no folder to go on from" in ask(view, "go on")


def test_what_goes_wrong_in_the_thread_is_said(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    view = monitor(tmp_path)
    view.start()
    with pytest.raises(ValueError, match="something else than a run"):
        view.wait()
    assert view.status == "failed"
    assert "something else than a run" in view.problem


def test_what_cannot_be_asked_is_refused_in_a_sentence(tmp_path):
    view = monitor(tmp_path)
    with pytest.raises(ValueError, match="nothing runs"):
        view.wait()
    assert "nothing runs that could pause" in ask(view, "pause")
    assert "start, pause" in ask(view, "dance")
    with pytest.raises(ValueError, match="no log at"):
        monitor(recorded=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no entries"):
        TrainingMonitor.replay([])
    (tmp_path / "log.jsonl").write_text("{a}\n")
    with pytest.raises(ValueError, match="no log of a run"):
        TrainingMonitor.replay(tmp_path)


def recording(n=20):
    return [
        {"step": s, "loss": 3 / s, "tokens": 40 * s, "seconds": s / 4, "learning_rate": 0.1, "gradient_norm": 1.0}
        | ({"measured": {"sum accuracy": s / n}, "sample": f"text {s}", "val_loss": 2 / s} if s % 10 == 0 else {})
        for s in range(1, n + 1)
    ]


def test_a_recorded_run_is_shown_alone_or_beneath(tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in recording()) + '{"step": 99, "lo')
    alone = TrainingMonitor.replay(folder, floor=0.1)
    assert alone.recorded_name == "recorded: full"
    assert "Nothing is trained here" in alone.note
    assert "recorded run" in ask(alone, "start")
    beneath = monitor(recorded=folder / "log.jsonl")
    for view in (alone, beneath):
        curve = rows(view.recorded_curve)
        assert curve[:, 0].tolist() == list(range(1, 21))
        np.testing.assert_allclose(curve[:, 4], 160, rtol=1e-5)
        assert view.recorded_samples == [[10, "text 10"], [20, "text 20"]]
        data, metadata = view._repr_mimebundle_()
        assert "The loss of recorded: full ended at 0.150 after 20 steps" in metadata["image/png"]["alt"]
        assert data["text/plain"].startswith("TrainingMonitor: ")
    assert "measured" not in beneath.curve.decode("latin1")


def test_a_long_run_is_sent_thinned_with_its_validation_losses():
    view = TrainingMonitor.replay(recording(11_000))
    curve = rows(view.recorded_curve)
    assert len(curve) < 3000
    assert curve[-1, 0] == 11_000
    assert np.isfinite(curve[:, 5]).sum() == 1100


def test_the_floor_of_tales_is_known():
    from gptlib import load_corpus, tales

    corpus = load_corpus("tales:50")
    tokenizer = CharTokenizer.train(corpus.train + corpus.validation)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=8, n_embd=12, n_layer=1, n_head=3))
    view = TrainingMonitor(model, corpus, tokenizer, config())
    assert view.floor == pytest.approx(tales.entropy(tokenizer, n=2000).nats_per_token)
    assert monitor().floor is None


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_training_monitor import monitor
result = monitor({out!r}, steps={steps}).run()
print("ended:", result.finished)
"""


@pytest.mark.parametrize("interrupt", [False, True])
def test_in_a_terminal_the_run_keeps_its_progress_line(tmp_path, interrupt):
    text = SCRIPT.format(tests=os.path.dirname(__file__), out=str(tmp_path / "run"), steps=100_000 if interrupt else 30)
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if interrupt:
        until(lambda: (tmp_path / "run" / "checkpoint.safetensors").exists(), 120)
        process.send_signal(signal.SIGINT)
    said, progress = process.communicate(timeout=120)
    assert process.returncode == 0, progress
    assert f"ended: {not interrupt}" in said
    assert "tokens/s=" in progress
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_the_static_form_draws_both_runs_the_floor_and_the_abilities():
    figure = plot_run(recording(), title="It falls", floor=0.1, recorded=recording(30), recorded_name="full")
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert set(lines) == {"full", "this run", "validation", "floor, 0.100"}
    assert list(lines["validation"].get_xdata()) == [10, 20]
    assert [line.get_label() for line in right.lines] == ["sum"]
    assert list(right.lines[0].get_ydata()) == [50, 100]
    assert figure.alt == (
        "It falls. Loss 0.150 nats per token at step 20. The loss of full ended at 0.100 after 30 steps. "
        "The floor is 0.100. Measured: sum 100%."
    )
    assert len(plot_run([], title="Nothing yet").axes) == 1


def test_a_notebook_keeps_the_picture_of_the_end(monkeypatch):
    import IPython.display

    from gptlib.widgets import training

    seen = []

    class Shown:
        def update(self, view):
            seen.append(view.status)

    def display(view, *, display_id):
        seen.append(view.status)
        return Shown()

    monkeypatch.setattr(training, "_in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    assert monitor().run().finished
    assert seen == ["ready", "finished"]
