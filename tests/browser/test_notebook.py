"""The live views in JupyterLab: run the notebook, press keys, and the picture changes."""

import hashlib

import nbformat
import pytest
from nbconvert import HTMLExporter

pytestmark = pytest.mark.browser

SETUP = """
import torch
from gptlib import GPT, CharTokenizer, GPTConfig
from gptlib.widgets import AttentionViewer, SamplingLab
torch.manual_seed(0)
tokenizer = CharTokenizer.train("abcdefghijklmnopqrstuvwxyzTB .,:\\n")
model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=48, n_embd=32, n_layer=3, n_head=4))
for parameter in model.parameters():
    parameter.data.mul_(5)  # an untrained model attends evenly; this gives the heads something to show
"""
ATTENTION = 'AttentionViewer(model, tokenizer, "The cat sat on the mat.\\nBut why?".replace("?", "."))'
SAMPLING = 'sampling = SamplingLab(model, tokenizer, "The cat sat")\nsampling'
STEPS = 'from gptlib.widgets import AttentionSteps, TokenizerView\nAttentionSteps(model, tokenizer, "The cat sat")'
TOKENS = 'TokenizerView("The <b>cat</b>")'
CONTINUED = "print('continued:', repr(sampling.continuation))"


@pytest.fixture(scope="module")
def notebook(open_notebook):
    """One notebook for all tests: a kernel takes long to start. Each test runs the cell of its view anew."""
    opened = open_notebook("views", [SETUP, ATTENTION, SAMPLING, CONTINUED, STEPS, TOKENS], height=2400)
    opened.run_all()
    opened.page.locator(".gl-bars li").first.wait_for()
    opened.assert_no_error()
    return opened


def run_cell(notebook, index):
    notebook.page.evaluate("index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index)
    notebook.command("notebook:run-cell")
    settled(notebook.page)


def run_view(notebook, kind):
    run_cell(notebook, {"attention": 1, "sampling": 2}[kind])
    notebook.page.locator({"attention": "canvas.gl-map", "sampling": ".gl-bars li"}[kind]).first.wait_for()
    settled(notebook.page)
    return notebook.page


def pixels(page, selector):
    return hashlib.sha256(page.locator(selector).first.screenshot()).hexdigest()


def settled(page):
    page.wait_for_timeout(400)


def test_attention_viewer_answers_to_keys_pointer_and_text(notebook):
    page = run_view(notebook, "attention")
    canvas = page.locator("canvas.gl-map")
    canvas.focus()
    before, said = pixels(page, "canvas.gl-map"), page.inner_text(".gl-readout")
    page.keyboard.press("ArrowUp")
    settled(page)
    assert page.inner_text(".gl-readout") != said
    assert pixels(page, "canvas.gl-map") != before
    assert page.inner_text(".gl-readout") in page.text_content(".gl-attention .gl-unseen")

    page.keyboard.press("PageDown")
    settled(page)
    assert page.input_value(".gl-field select >> nth=1") == "1"
    assert page.locator(".gl-head[aria-selected=true]").get_attribute("aria-label") == "layer 0, head 1"

    page.locator(".gl-head[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "layer 1, head 1"
    page.keyboard.press("Enter")
    settled(page)
    assert page.input_value(".gl-field select >> nth=0") == "1"

    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + box["height"] - 8)
    assert "with weight" in page.inner_text(".gl-readout")
    page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 40)
    assert "cannot look at" in page.inner_text(".gl-readout")
    notebook.assert_no_error()


def test_editing_the_text_changes_later_rows_only(notebook, artefacts):
    page = run_view(notebook, "attention")
    page.locator(".gl-attention textarea").focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nThe end")
    page.wait_for_function("document.querySelectorAll('.gl-attention .gl-token').length === 40")
    told = "document.querySelector('.gl-main > .gl-muted').textContent"
    page.wait_for_function(f"{told}.includes('did not change in any head')")
    settled(page)
    page.locator(".gl-attention").screenshot(path=artefacts / "lab-attention-edited.png")
    page.keyboard.type(" is too far away")
    page.wait_for_function(
        "document.querySelector('.gl-attention .gl-second + .gl-problem').textContent.includes('at most 48')"
    )
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    for _ in range(8):
        page.keyboard.press("Delete")
    page.wait_for_function(f"{told}.includes('every row is new')")
    assert page.text_content(".gl-attention .gl-second + .gl-problem") == ""
    notebook.assert_no_error()


def test_sampling_lab_draws_in_the_browser_and_appends_through_the_kernel(notebook):
    page = run_view(notebook, "sampling")
    first = page.locator(".gl-bars .gl-number").first
    before, bars = first.inner_text(), pixels(page, ".gl-bars")
    page.locator(".gl-slider input").first.focus()
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    settled(page)
    assert page.locator(".gl-slider output").first.inner_text() == "0.40"
    assert first.inner_text() != before
    assert pixels(page, ".gl-bars") != bars

    tokens = "document.querySelectorAll('.gl-sampling .gl-token').length"
    text = page.locator(".gl-sampling .gl-text")
    assert text.inner_text() == "The cat sat"
    names = page.locator(".gl-bars").inner_text()
    page.get_by_role("button", name="Append a sampled token").click()
    page.wait_for_function(f"{tokens} === 12")
    page.keyboard.press("s")
    page.wait_for_function(f"{tokens} === 13")
    assert page.locator(".gl-bars").inner_text() != names
    page.keyboard.press("u")
    page.wait_for_function(f"{tokens} === 12")
    name = page.locator(".gl-bars .gl-name").nth(3).inner_text()
    page.locator(".gl-bars button").nth(3).click()
    page.wait_for_function(f"{tokens} === 13")
    newest = page.locator(".gl-newest").evaluate("node => node.textContent")
    assert newest.replace(" ", "␣").strip("\n") == name

    run_cell(notebook, 3)  # prints what the kernel knows
    written = page.evaluate(
        "[...document.querySelectorAll('.gl-written')].map(n => n.textContent.replace('⏎', '')).join('')"
    )
    assert f"continued: {written!r}" in "".join(output.get("text", "") for output in notebook.outputs())
    page.get_by_role("button", name="Start over").click()
    page.wait_for_function(f"{tokens} === 11")
    notebook.assert_no_error()


@pytest.mark.parametrize("kind", ["attention", "sampling"])
def test_the_notebook_does_not_take_the_views_keys(notebook, kind):
    page = run_view(notebook, kind)
    count = notebook.cells()
    focusable = page.locator(f".gl-{kind} :is(button, input, select, summary, [tabindex]):not([disabled])")
    for i in range(focusable.count()):
        focusable.nth(i).focus()
        for key in ("a", "d", "d"):
            page.keyboard.press(key)
    settled(page)
    assert notebook.cells() == count

    # Beside the view the same keys do act: else this test would see nothing.
    page.locator(f".gl-{kind}").evaluate("view => { view.parentElement.append(document.createElement('button')); }")
    page.locator(f".gl-{kind} + button").focus()
    page.keyboard.press("a")
    settled(page)
    assert notebook.cells() == count + 1
    notebook.command("notebook:undo-cell-action")


def test_views_follow_the_theme(notebook, artefacts):
    run_view(notebook, "attention")
    page = run_view(notebook, "sampling")
    seen = []
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        notebook.theme(theme)
        page.wait_for_timeout(1000)
        for view in ("attention", "sampling"):
            mode = theme.split()[-1].lower()
            assert page.locator(f".gl-{view}").get_attribute("data-gl-theme") == mode
            page.locator(f".gl-{view}").screenshot(path=artefacts / f"lab-{view}-{mode}.png")
        seen.append(pixels(page, "canvas.gl-map"))
    assert seen[0] != seen[1]
    notebook.assert_no_error()


def test_a_saved_notebook_holds_a_picture_for_places_without_scripts(notebook, open_notebook):
    run_view(notebook, "attention")
    run_view(notebook, "sampling")
    saved = notebook.saved()
    shown = [output for cell in saved.cells[1:3] for output in cell.outputs]
    assert len(shown) == 2
    for output in shown:
        assert set(output.data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
        assert len(output.data["image/png"]) < 200_000
        assert len(output.metadata["image/png"]["alt"]) > 40

    html, _ = HTMLExporter().from_notebook_node(saved)
    for output in shown:
        assert output.data["image/png"].replace("\n", "")[:200] in html.replace("\n", "")
    assert "application/vnd.jupyter.widget-view+json" not in html

    # A notebook from elsewhere is not trusted: JupyterLab runs no widget there, and shows the picture.
    foreign = nbformat.from_dict(saved)
    foreign.cells[0].source += "\n# written elsewhere"
    foreign.cells[1].outputs[0].data["text/plain"] = "from elsewhere"
    page = open_notebook("foreign", foreign).page
    page.locator(".jp-RenderedImage img").nth(1).wait_for()
    assert page.locator(".gl-view").count() == 0


def test_attention_steps_and_tokenizers_answer_to_keys(notebook):
    run_cell(notebook, 4)
    run_cell(notebook, 5)
    page, cells = notebook.page, notebook.cells()
    table = page.locator(".gl-steps .gl-keys tbody")
    table.locator("tr").first.wait_for()
    page.locator(".gl-steps input[type=range]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("3")  # without the mask the first token sees all others
    settled(page)
    assert "of the weight lies on what comes later" in page.locator(".gl-steps .gl-said").inner_text()
    before = table.inner_text()
    page.locator(".gl-steps select").first.select_option("2")
    page.wait_for_function(
        "before => document.querySelector('.gl-steps .gl-keys tbody').innerText !== before", arg=before
    )

    page.locator(".gl-tokenizers textarea").focus()
    for key in ("Control+End", "a", "d", "d"):
        page.keyboard.press(key)
    settled(page)
    assert page.locator(".gl-tokenizers .gl-card b").nth(1).inner_text() == f"{len('The <b>cat</b>add')} tokens"
    assert notebook.cells() == cells
    notebook.assert_no_error()


def test_a_stopped_kernel_is_said_in_the_view(notebook):
    """The last one: it takes the kernel away."""
    page = run_view(notebook, "sampling")
    note = page.locator(".gl-sampling [role=alert]").first
    assert note.inner_text() == ""
    page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function("document.querySelector('.gl-sampling [role=alert]').textContent.includes('kernel stopped')")
    temperature = page.locator(".gl-sampling .gl-slider input").first
    temperature.focus()
    page.keyboard.press("Home")
    settled(page)
    assert page.locator(".gl-bars .gl-number").first.inner_text().endswith("100.0 %")  # this needs no kernel
