"""The training monitor in JupyterLab: buttons are heard during the run, and an interrupted cell loses nothing."""

import json

import pytest

from gptlib.training.checkpoint import read_tensors

pytestmark = pytest.mark.browser

SETUP = """
import torch
from gptlib import GPT, CharTokenizer, GPTConfig, TrainConfig
from gptlib.corpora import Corpus
from gptlib.widgets import TrainingMonitor
torch.manual_seed(0)
text = "the cat sat on the mat. a dog saw it, and ran off; who knows why?\\n" * 12
tokenizer = CharTokenizer.train(text)
config = TrainConfig(steps=1_000_000, batch_size=4, log_every=5, eval_every=200, eval_windows=4, device="cpu")
def monitor(out):
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=32, n_embd=32, n_layer=2, n_head=2))
    return TrainingMonitor(model, Corpus("verse", text[:650], text[650:]), tokenizer, config, out=out)
first, second = monitor("runs/first"), monitor("runs/second")
"""
CELLS = [SETUP, "first.start()\nfirst", "print('told:', first.status)", "print('ended:', second.run().finished)"]


@pytest.fixture(scope="module")
def notebook(open_notebook):
    return open_notebook("training", CELLS, height=2400)


def select(notebook, index):
    notebook.page.evaluate("index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index)


def step_of(notebook, name):
    folder = notebook.path.parent / "runs" / name
    return json.loads(read_tensors(folder / "checkpoint.safetensors")[1]["state"])["step"]


def printed(notebook):
    return "".join(output.get("text", "") for output in notebook.outputs())


def wait_for_status(page, status, view=0):
    page.wait_for_function(
        "([status, view]) => document.querySelectorAll('.gl-training .gl-status')[view]?.textContent === status",
        arg=[status, view],
        timeout=90_000,
    )


def test_pause_go_on_and_stop_by_the_buttons(notebook, artefacts):
    page = notebook.page
    select(notebook, 0)
    notebook.command("notebook:run-cell")
    select(notebook, 1)
    notebook.command("notebook:run-cell")
    wait_for_status(page, "running")
    step = "parseInt(document.querySelector('.gl-training dd').textContent.replaceAll(',', ''))"
    page.wait_for_function(f"{step} > 20", timeout=90_000)
    page.get_by_role("button", name="Pause").click()
    wait_for_status(page, "paused")
    note = page.locator(".gl-training").inner_text()
    assert f"Paused at step {step_of(notebook, 'first'):,}" in note
    page.locator(".gl-training").screenshot(path=artefacts / "lab-training-paused.png")
    select(notebook, 2)
    notebook.command("notebook:run-cell")  # the kernel is free
    page.wait_for_timeout(500)
    assert "told: paused" in printed(notebook)
    before = page.evaluate(step)
    page.get_by_role("button", name="Go on").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"{step} > {before} + 20", timeout=90_000)
    page.get_by_role("button", name="Stop and save").click()
    wait_for_status(page, "stopped")
    assert step_of(notebook, "first") > before
    notebook.assert_no_error()


def test_an_interrupted_cell_loses_nothing(notebook):
    page = notebook.page
    select(notebook, 3)
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-cell'); }")
    wait_for_status(page, "running", view=1)
    page.wait_for_timeout(2000)
    notebook.command("notebook:interrupt-kernel")
    wait_for_status(page, "stopped", view=1)
    page.wait_for_timeout(500)
    assert "ended: False" in printed(notebook)
    assert step_of(notebook, "second") > 0
    notebook.assert_no_error()
