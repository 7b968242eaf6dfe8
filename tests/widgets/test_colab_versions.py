"""The views under the versions that Colab has, in a real kernel: what they display, and that their values travel."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

# The kernel's side of Colab (see Colab's own list of packages), with what these need and a newer kernel does not have.
VERSIONS = (
    *("ipywidgets==7.7.1", "anywidget==0.9.21", "ipykernel==6.17.1", "ipython==7.34.0"),
    *("ipython_genutils==0.2.0", "backcall==0.2.0", "pickleshare==0.7.5", "decorator==5.1.1"),
)
SETUP = """
import anywidget, ipykernel, IPython, ipywidgets, torch
print(ipywidgets.__version__, anywidget.__version__, ipykernel.__version__, IPython.__version__)
from gptlib import GPT, CharTokenizer, GPTConfig
from gptlib.widgets import *
from gptlib.widgets.shannon import Passage
torch.manual_seed(0)
tokenizer = CharTokenizer.train("the cat sat")
model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=8, n_layer=2, n_head=2))
row = {"learning_rate": 0.1, "gradient_norm": 1.0, "tokens": 64, "seconds": 1}
log = [{"step": n, "loss": 3 / n, **row} for n in (1, 2, 3)]
passage = Passage(("A ", "fox", "."), (1,), {"model": [0.5]})
"""
VIEWS = {
    "AttentionSteps": 'AttentionSteps(model, tokenizer, "the cat")',
    "AttentionViewer": 'AttentionViewer(model, tokenizer, "the cat", other="the sat")',
    "ParameterMap": "ParameterMap()",
    "PositionExplorer": "PositionExplorer()",
    "SamplingLab": 'SamplingLab(model, tokenizer, "the cat")',
    "ShannonGame": 'ShannonGame([passage], ["fox", "hen", "dog", "cat", "owl"])',
    "TokenizerView": 'TokenizerView("the cat")',
    "TrainingMonitor": 'TrainingMonitor.replay(log, name="recorded")',
}
SHOW = "view = {}\nview"
# A value that is set in the kernel, and an answer to what the browser asks for.
CHANGE = """
view.problem = "set in the kernel"
lab = SamplingLab(model, tokenizer, "the cat")
lab._handle_custom_msg({"append": 1}, [])
print(len(lab.pieces), repr(lab.problem))
"""


@pytest.mark.slow
def test_every_view_displays_and_synchronises_in_colabs_kernel(packages_beside, tmp_path):
    overlay = packages_beside(*VERSIONS)
    cells = [SETUP]
    for call in VIEWS.values():
        cells += [SHOW.format(call), CHANGE]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    # IPython 7 keeps a history in its folder: not in anybody's own one.
    environment = {**os.environ, "PYTHONPATH": str(overlay), "IPYTHONDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)

    printed = "".join(output.text for output in notebook.cells[0].outputs if output.output_type == "stream")
    assert printed.split() == ["7.7.1", "0.9.21", "6.17.1", "7.34.0"]
    states = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    for name, shown, changed in zip(VIEWS, notebook.cells[1::2], notebook.cells[2::2], strict=True):
        [output] = [output for output in shown.outputs if "image/png" in output.get("data", {})]
        data, model = output.data, output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
        assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(data), name
        assert len(output.metadata["image/png"]["alt"]) > 40, name
        state = states[model]["state"]
        assert state["problem"] == "set in the kernel", name
        assert "export default" in state["_esm"], name
        assert (states[model]["model_module"], state["_anywidget_id"].split(".")[-1]) == ("anywidget", name)
        assert changed.outputs[0].text == "8 ''\n", name
