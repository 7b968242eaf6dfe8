"""Every view, for everyone: keyboard, names, contrast, narrow pages, files, two at once, long use, a stopped kernel."""

import csv
import io
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from gptlib import GPT, CharTokenizer, GPTConfig
from gptlib.widgets import (
    AttentionSteps,
    AttentionViewer,
    ParameterMap,
    PositionExplorer,
    SamplingLab,
    ShannonGame,
    TokenizerView,
    TrainingMonitor,
)
from gptlib.widgets.shannon import Passage

pytestmark = pytest.mark.browser

TEXT = "the <b>cat</b> sat\n=1"
TOKENIZER = CharTokenizer.train(TEXT)


def gpt():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=TOKENIZER.vocab_size, n_positions=32, n_embd=16, n_layer=2, n_head=2))
    for parameter in model.parameters():
        parameter.data.mul_(4)  # an untrained model attends evenly; this gives the heads something to show
    return model.eval()


def sampling():
    lab = SamplingLab(gpt(), TOKENIZER, TEXT)
    for request in ({"grow": [[]]}, {"compare": 1}):
        lab._handle_custom_msg(request, [])
    return lab


def game():
    passage = Passage(("A ", "fox", " saw a ", "<hen>", "."), (1, 3), {"model": [0.5, 1.5], "the world": [0.25, 0.0]})
    return ShannonGame([passage], ["fox", "hen", "dog", "cat", "owl"])


def run():
    log = [
        {"step": n, "loss": 3 / n, "learning_rate": 0.1, "gradient_norm": 1.0, "tokens": 64 * n, "seconds": n / 4}
        | ({"val_loss": 2.9 / n, "measured": {"sum accuracy": n / 30}, "sample": TEXT} if n % 10 == 0 else {})
        for n in range(1, 31)
    ]
    return TrainingMonitor.replay(log, name="=recorded", floor=0.05)


VIEWS = {
    "AttentionSteps": lambda: AttentionSteps(gpt(), TOKENIZER, TEXT, layer=1),
    "AttentionViewer": lambda: AttentionViewer(gpt(), TOKENIZER, TEXT, other=TEXT[:9]),
    "ParameterMap": ParameterMap,
    "PositionExplorer": PositionExplorer,
    "SamplingLab": sampling,
    "ShannonGame": game,
    "TrainingMonitor": run,
    "TokenizerView": lambda: TokenizerView(TEXT + " \u05e9\u05dc"),
}
SAVING = sorted(VIEWS.keys() - {"ShannonGame"})  # a game is no picture


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture
def view_named(made):
    def get(name):
        if name not in made:
            made[name] = VIEWS[name]()
        return made[name]

    return get


@pytest.fixture(params=sorted(VIEWS))
def widget(request, view_named):
    return view_named(request.param)


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.wait_for_timeout(300)


# Reading and reaching -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(mounted, widget, axe, scheme, artefacts):
    page = mounted(widget, scheme=scheme)
    unfold(page)
    page.screenshot(path=artefacts / f"{type(widget).__name__}-{scheme}.png", full_page=True)
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)")
    told = [
        f"{problem['id']}: {problem['help']}: {node['html'][:160]} {node['any'][:1] and node['any'][0]['message']}"
        for problem in found
        if problem["impact"] in ("serious", "critical")
        for node in problem["nodes"]
    ]
    assert told == []


def test_every_control_keeps_its_keys_and_has_a_name(mounted, widget):
    page = mounted(widget)
    focusable = page.locator("#view :is(a, button, input, select, summary, textarea, [tabindex])")
    assert focusable.count() > 4
    assert focusable.evaluate_all("nodes => nodes.every((n) => n.dataset.lmSuppressShortcuts === 'true')")
    names = focusable.evaluate_all(
        """nodes => nodes.map((node) => node.getAttribute("aria-label")
            ?? ([...(node.labels ?? [])].map((label) => label.textContent).join("") || node.textContent))"""
    )
    assert [name for name in names if not name.strip()] == []


def test_everything_is_reached_by_tab_and_shows_where_focus_is(mounted, widget):
    page = mounted(widget)
    stops = """() => [...document.querySelectorAll("#view *")]
        .filter((node) => node.matches("button, input, select, summary, textarea, [tabindex='0']"))
        .filter((node) => node.tabIndex >= 0 && !node.disabled)
        .filter((node) => node.checkVisibility()).map((node, i) => node.dataset.stop = String(i))"""
    wanted = set(page.evaluate(stops))
    seen = set()
    for _ in range(len(wanted) + 3):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => {
                const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
                const node = document.activeElement;
                return [node.dataset.stop, outlineStyle, parseFloat(outlineWidth), node.outerHTML.slice(0, 90)];
            }"""
        )
        if focus[0] is not None:
            seen.add(focus[0])
            assert focus[1] == "solid", focus
            assert focus[2] >= 2, focus
    assert wanted - seen == set()


CONTRASTS = """() => {
    const parse = (colour) => {
        const c = colour.match(/[\\d.]+/g).map(Number);
        const unit = colour.startsWith("color(") ? 255 : 1;
        return [c[0] * unit, c[1] * unit, c[2] * unit, c[3] ?? 1];
    };
    const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
    const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const own = (node, part) => parse(getComputedStyle(node, part).backgroundColor);
    const back = (node) => (node ? over(own(node), back(node.parentElement)) : [255, 255, 255]);
    const found = [];
    for (const node of document.querySelectorAll("#view *")) {
        const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        if (!text || node.closest(".gl-unseen, option, details:not([open]) > :not(summary)")) continue;
        const behind = back(node);
        const fills = [behind];
        const w = parseFloat(node.style.getPropertyValue("--w") || 0); // a token's own background
        if (w) fills.push(over([...own(node, "::before").slice(0, 3), w], behind));
        for (const fill of fills) {
            const [a, b] = [light(over(parse(getComputedStyle(node).color), fill)), light(fill)].sort((x, y) => y - x);
            found.push([(a + 0.05) / (b + 0.05), node.className || node.tagName, node.textContent.slice(0, 30)]);
        }
    }
    return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(mounted, widget, scheme):
    page = mounted(widget, scheme=scheme)
    unfold(page)
    page.evaluate(
        "document.querySelectorAll('.gl-attention .gl-token:not(.gl-later)')"
        ".forEach((n, i) => n.style.setProperty('--w', (i % 11) / 10))"
    )
    assert page.locator(".gl-view").get_attribute("data-gl-theme") == scheme
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) >= 10
    assert contrasts[0][0] >= 4.5, contrasts[:5]


@pytest.mark.parametrize(("width", "density"), [(320, 1), (640, 2)], ids=["320 pixels", "zoomed to 200 %"])
def test_a_narrow_page_needs_no_sideways_scrolling(mounted, widget, width, density, artefacts):
    page = mounted(widget, width=width, device_scale_factor=density)
    unfold(page)
    page.screenshot(path=artefacts / f"{type(widget).__name__}-{width}.png", full_page=True)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width


def test_nothing_moves_by_itself(mounted, widget):
    page = mounted(widget, reduced_motion="reduce")
    page.keyboard.press("Tab")
    for key in ("Tab", "ArrowRight", "Tab", "ArrowLeft", "Tab", "ArrowDown"):
        page.keyboard.press(key)
        assert page.evaluate("document.getAnimations().length") == 0


# The same as a table, and as files ------------------------------------------------------------------------------------


@pytest.fixture(params=SAVING)
def saving(request, view_named, mounted, tmp_path):
    """A page, and `save(kind)`, which presses the button by keyboard and gives the file's bytes."""
    page = mounted(view_named(request.param))

    def save(kind):
        button = page.get_by_role("button", name=f"Save as {kind}", exact=True).first
        button.focus()
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path.read_bytes()

    return page, save


def test_the_table_and_the_csv_file_say_the_same(saving):
    page, save = saving
    unfold(page)
    table = page.locator(".gl-foot table").last
    columns = table.locator("thead th").all_inner_texts()
    shown = [[cell.strip() for cell in row.locator("td").all_inner_texts()] for row in table.locator("tbody tr").all()]
    data = save("CSV").decode("utf-8-sig")
    header, *rows = csv.reader(io.StringIO(data))
    assert header == columns
    assert len(rows) >= len(shown) > 0
    assert not any(cell[:1] in ("=", "+", "@") for row in rows for cell in row)  # a spreadsheet would compute it
    for row, cells in zip(rows, shown, strict=False):
        for value, cell in zip(row, cells, strict=True):
            if re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell) and re.fullmatch(r"-?[\d.]+(e-?\d+)?", value):
                assert math.isclose(float(value), float(cell), rel_tol=1e-3, abs_tol=1e-9)


def test_the_picture_is_whole_as_png_and_as_svg(saving):
    page, save = saving
    svg = save("SVG").decode()
    parsed = page.evaluate(
        """(text) => {
            const root = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
            const number = (selector) => root.querySelectorAll(selector).length;
            return [root.tagName, number("text"), number("script, foreignObject")];
        }""",
        svg,
    )
    assert parsed[0] == "svg"
    assert parsed[1] > 5
    assert parsed[2] == 0
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    picture = Image.open(io.BytesIO(save("PNG")))
    width, height = (int(float(x)) for x in re.search(r'width="([\d.]+)" height="([\d.]+)"', svg).groups())
    assert picture.size == (2 * width, 2 * height)
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 8


# Two at once, long use, and a kernel that stops ----------------------------------------------------------------------


def test_two_on_one_page_do_not_disturb_each_other(mounted, widget):
    page = mounted(widget)
    page.evaluate(
        """() => {
            const second = document.createElement("div");
            second.id = "second";
            document.body.append(second);
            window.other = view.mount(second, { ...state, send: state.send });
        }"""
    )
    page.wait_for_timeout(300)
    assert page.locator("#second").inner_text() == page.locator("#view").inner_text()
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    page.evaluate("handle.destroy(); document.getElementById('view').replaceChildren()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement !== document.body")
    page.evaluate("other.destroy()")


def test_memory_is_flat_over_200_updates(mounted, widget):
    page = mounted(widget)
    unfold(page)
    cdp = page.context.new_cdp_session(page)
    updates = """async (n) => {
        for (let i = 0; i < n; i++) {
            handle.update({ ...state });
            if (i % 10 < 9) continue;
            await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
        }
    }"""

    def held():
        page.evaluate(updates, 20)
        page.wait_for_timeout(300)
        for _ in range(2):
            cdp.send("HeapProfiler.collectGarbage")
        counters = cdp.send("Memory.getDOMCounters")
        return cdp.send("Runtime.getHeapUsage")["usedSize"], counters["nodes"], counters["jsEventListeners"]

    bytes_before, nodes_before, listeners_before = held()
    page.evaluate(updates, 200)
    bytes_after, nodes_after, listeners_after = held()
    assert bytes_after < bytes_before + 1_000_000
    assert nodes_after < 1.2 * nodes_before + 50
    assert listeners_after < 1.2 * listeners_before + 20


STOPPED = """() => {
    const listeners = {};
    const el = document.createElement("div");
    document.body.append(el);
    const model = {
        get: (name) => state[name], send: () => { throw new Error("no comm"); }, off: () => {},
        on: (name, action) => { listeners[name] = action; },
    };
    const stop = view.default.render({ model, el });
    const notes = () => [...el.querySelectorAll("[role=alert]")].map((node) => node.textContent).join("");
    const before = notes();
    listeners["comm_live_update"]();
    const during = notes();
    listeners["change:step"]();
    const after = notes();
    stop();
    return [before, during, after];
}"""


def test_a_stopped_kernel_is_said_and_taken_back_when_it_answers(mounted, widget):
    before, during, after = mounted(widget).evaluate(STOPPED)
    assert "stopped" not in before
    assert "The kernel stopped or was restarted" in during
    assert "stopped" not in after
