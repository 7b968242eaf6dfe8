"""The live views in Notebook 7, which shares JupyterLab's parts and arranges them otherwise."""

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

CELLS = [
    "import torch\nfrom gptlib import GPT, CharTokenizer, GPTConfig\nfrom gptlib.widgets import *\n"
    'torch.manual_seed(0)\ntokenizer = CharTokenizer.train("the cat sat")\n'
    "model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=32, n_embd=16, n_layer=2, n_head=2))",
    'SamplingLab(model, tokenizer, "the cat")',
    'AttentionViewer(model, tokenizer, "the cat sat")',
    'bertviz_view(model, tokenizer, "the cat")',
]


def test_views_work_in_notebook_7(notebook7, new_page, artefacts):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebook7.folder / "views.ipynb")
    watched = new_page(1200, 2600)
    page = watched.page
    page.set_default_timeout(90_000)
    page.goto(notebook7.address("notebooks/views.ipynb"))
    page.wait_for_function("window.jupyterapp?.name === 'Jupyter Notebook'")
    page.wait_for_function(
        "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=90_000
    )
    page.wait_for_timeout(500)
    watched.errors.clear()  # Notebook 7.6.5 itself raises once over its settings while it starts, with any notebook
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.done = true; })")
    page.locator(".gl-bars li").first.wait_for()
    page.locator("canvas.gl-map").wait_for()
    page.frame_locator("iframe.gl-bertviz").locator("svg line").first.wait_for(state="attached")
    page.wait_for_function("window.done")

    first = page.locator(".gl-bars .gl-number").first
    before = first.inner_text()
    page.locator(".gl-slider input").first.focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(400)
    assert page.locator(".gl-slider output").first.inner_text() == "0.40"
    assert first.inner_text() != before
    page.keyboard.press("s")  # through the kernel
    page.wait_for_function("document.querySelectorAll('.gl-sampling .gl-written').length === 1")

    page.locator("canvas.gl-map").focus()
    said = page.inner_text(".gl-readout")
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(300)
    assert page.inner_text(".gl-readout") != said

    cells = "jupyterapp.shell.currentWidget.content.widgets.length"
    for selector in (".gl-slider input", "canvas.gl-map", "summary"):
        page.locator(selector).first.focus()
        for key in ("a", "d", "d"):
            page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.evaluate(cells) == len(CELLS)
    page.screenshot(path=artefacts / "notebook7.png")

    outputs = page.evaluate(
        "jupyterapp.shell.currentWidget.content.widgets.flatMap((cell) => cell.model.outputs.toJSON())"
    )
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert "Javascript Error" not in page.inner_text("body")
