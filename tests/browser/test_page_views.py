"""Training monitor, parameter map, position explorer and BertViz on a page: what they compute, show and ask for."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlib import GPT, CharTokenizer, GPTConfig, sinusoidal
from gptlib.config import PRESETS
from gptlib.layers import ACTIVATIONS, GATES
from gptlib.positions import RotaryScaling, alibi_slopes, rotary_angles, rotary_frequencies, rotate
from gptlib.scaling import parameters
from gptlib.widgets import ParameterMap, PositionExplorer, TrainingMonitor, bertviz_view
from gptlib.widgets.base import view_module

pytestmark = pytest.mark.browser

NASTY = '<img src=x onerror="hacked=1"> </script>\u202e\n'


@pytest.fixture(scope="module")
def functions(chromium):
    """A page with the modules' pure functions as `training`, `parameters` and `positions`."""
    page = chromium.new_page()
    for name, module in [
        ("training", "training_monitor"),
        ("parameters", "parameter_map"),
        ("positions", "position_explorer"),
    ]:
        page.evaluate(
            """async ([name, source]) => {
                window[name] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
            }""",
            [name, view_module(module)],
        )
    yield page
    page.close()


# Counting -------------------------------------------------------------------------------------------------------------

CONFIGS = st.builds(
    lambda heads, groups, size, **rest: GPTConfig(n_embd=heads * groups * size, n_head=heads * groups, **rest),
    heads=st.integers(1, 4),
    groups=st.integers(1, 3),
    size=st.sampled_from([2, 4, 6]),
    vocab_size=st.integers(1, 300),
    n_positions=st.integers(1, 40),
    n_layer=st.integers(1, 5),
    n_kv_head=st.none() | st.just(1),
    n_inner=st.none() | st.integers(1, 90),
    bias=st.booleans(),
    qkv_bias=st.sampled_from([None, True, False]),
    position=st.sampled_from(["learned", "sinusoidal", "rotary", "alibi", "none"]),
    norm=st.sampled_from(["layernorm", "rmsnorm"]),
    norm_order=st.sampled_from(["pre", "post"]),
    mlp=st.sampled_from([*ACTIVATIONS, *GATES]),
    qk_norm=st.booleans(),
    tie_weights=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=CONFIGS)
def test_the_browser_counts_what_pytorch_counts(functions, config):
    counts = functions.evaluate("(config) => parameters.countsOf(config)", config.to_dict())
    assert {part: count for part, count in counts.items() if count} == dict(parameters(config))
    with torch.device("meta"):
        assert sum(counts.values()) == GPT(config).n_parameters()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_counted_exactly(functions, name):
    config = GPTConfig.preset(name)
    counts = functions.evaluate("(config) => parameters.countsOf(config)", config.to_dict())
    with torch.device("meta"):
        assert sum(counts.values()) == GPT(config).n_parameters()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    size=st.integers(2, 20),
    heads=st.integers(1, 32),
    depth=st.integers(1, 90),
)
def test_every_shape_of_the_sliders_can_be_built(functions, preset, size, heads, depth):
    shape = {"width": 2 * size * heads, "depth": depth, "heads": heads, "vocabulary": 1000}
    changed = functions.evaluate(
        "([preset, shape]) => parameters.reshaped(preset, shape)", [GPTConfig.preset(preset).to_dict(), shape]
    )
    config = GPTConfig.from_dict(changed)
    assert (config.n_embd, config.n_head, config.n_layer, config.vocab_size) == (2 * size * heads, heads, depth, 1000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_areas_are_in_proportion_and_fill_the_map(functions, sizes):
    boxes = functions.evaluate("(sizes) => parameters.rectangles(sizes, 0, 0, 900, 320)", sizes)
    areas = [box["width"] * box["height"] for box in boxes]
    np.testing.assert_allclose(areas, np.array(sizes) / sum(sizes) * 900 * 320, rtol=1e-6)
    assert all(box["x"] + box["width"] < 900.001 and box["y"] + box["height"] < 320.001 for box in boxes)


def test_the_map_shows_its_counts_to_keys_pointer_and_sliders(mounted):
    page = mounted(ParameterMap())
    assert page.locator(".gl-total b").inner_text() == "124,439,808 parameters"
    assert page.locator(".gl-readout").inner_text() == (
        "token embeddings: 50,257 × 768 = 38,597,376 parameters, 31.0 % of all."
    )
    page.locator(".gl-cell").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert "attention, queries: 12 layers × (768 × 768 + 768 biases)" in page.locator(".gl-readout").inner_text()
    page.locator(".gl-cell", has_text="widen").hover()
    assert "feed-forward, widen" in page.locator(".gl-readout").inner_text()

    sliders = page.locator("input[type=range]")
    sliders.nth(2).focus()  # heads: no parameter comes or goes
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(200)
    assert "124,439,808 parameters" in page.locator(".gl-total").inner_text()
    assert "(changed)" in page.locator(".gl-total").inner_text()
    sliders.nth(1).focus()  # depth
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    thirteen = parameters(GPTConfig.preset("gpt2", n_layer=13)).total
    assert f"{thirteen:,} parameters" in page.locator(".gl-total").inner_text()
    page.locator("select").select_option("gpt2-xl")
    page.wait_for_timeout(200)
    assert "1,557,611,200 parameters" in page.locator(".gl-total").inner_text()


# Positions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [10_000.0, 100_000.0])
@pytest.mark.parametrize("factor", [1.0, 2.0, 4.0, 16.0])
@pytest.mark.parametrize(("rule", "kind"), [("plain", None), ("linear", "linear"), ("ntk", "ntk"), ("yarn", "yarn")])
def test_planes_turn_as_in_the_library(functions, rule, kind, factor, base):
    scaling = None if kind is None else RotaryScaling(kind, factor, original_n_positions=512)
    expected = rotary_frequencies(64, base=base, scaling=scaling)
    turns, scale = functions.evaluate(
        """([rule, factor, base]) => [positions.frequencies(64, { base, rule, factor, original: 512 }),
            positions.sharpening(rule, factor)]""",
        [rule, factor, base],
    )
    np.testing.assert_allclose(turns, expected.numpy(), rtol=2e-5)
    assert scale == pytest.approx(1.0 if scaling is None else scaling.attention_scale)


def test_sinusoids_slopes_and_scores_are_the_librarys(functions):
    rows = functions.evaluate("Array.from({ length: 40 }, (_, t) => Array.from(positions.sinusoid(t, 24, 500)))")
    np.testing.assert_allclose(rows, sinusoidal(40, 24, base=500.0).numpy(), atol=2e-5)
    for heads in (1, 4, 12, 20, 32):
        got = functions.evaluate("(heads) => positions.slopes(heads)", heads)
        np.testing.assert_allclose(got, alibi_slopes(heads).numpy(), rtol=1e-6)
    got = functions.evaluate(
        "Array.from(positions.agreement(positions.frequencies(16), Array.from({ length: 90 }, (_, i) => i)))"
    )
    angles = rotary_angles(torch.arange(90), 16)
    turned = rotate(torch.full((90, 16), 0.25), angles.cos(), angles.sin())
    np.testing.assert_allclose(got, (turned @ turned[0]).numpy(), atol=1e-5)


def test_the_explorer_answers_to_tabs_sliders_and_cursor(mounted):
    page = mounted(PositionExplorer())
    assert "Query at 8, key at 3: 5 apart" in page.locator(".gl-readout").inner_text()
    said = page.locator(".gl-readout").inner_text()
    for slider in (0, 1):  # both by one: the angles between them stay
        page.locator("input[type=range]").nth(slider).focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(150)
    assert page.locator(".gl-readout").inner_text() == said.replace("at 8", "at 9").replace("at 3", "at 4")
    page.locator("[role=tab][aria-selected=true]").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "Decay with distance"
    page.locator(".gl-chart").first.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(150)
    sharper = (0.1 * math.log(4) + 1) ** 2
    assert f"At distance 0: plain rotary 1.000, interpolation 1.000, NTK 1.000, YaRN {sharper:.3f}" in (
        page.locator(".gl-readout").inner_text()
    )
    page.get_by_role("tab", name="Beyond the trained length").click()
    plain = page.locator(".gl-readout").inner_text()
    page.locator("select").select_option("linear")
    page.wait_for_timeout(150)
    assert "0 of 32 planes reach angles" not in plain
    assert "0 of 32 planes reach angles" in page.locator(".gl-readout").inner_text()
    assert "32 planes are slowed" in page.locator(".gl-readout").inner_text()


# Training -------------------------------------------------------------------------------------------------------------


def entries(n):
    return [
        {"step": s, "loss": 3 / s, "learning_rate": 0.1 / s, "gradient_norm": 1.0, "tokens": 64 * s, "seconds": s / 4}
        | ({"val_loss": 2 / s, "measured": {"sum accuracy": 0.5}, "sample": f"{s} {NASTY}"} if s % 10 == 0 else {})
        for s in range(1, n + 1)
    ]


def watched(status="running", actions=("pause", "save", "stop"), n=30):
    tokenizer = CharTokenizer.train("abc")
    from gptlib.corpora import Corpus
    from gptlib.training import TrainConfig

    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=4, n_embd=4, n_layer=1, n_head=1))
    config = TrainConfig(steps=100, device="cpu", precision="fp32")
    view = TrainingMonitor(
        model, Corpus("verse", "abc" * 9, "abc" * 9), tokenizer, config, out="runs/x", floor=0.05, recorded=entries(60)
    )
    view._log = entries(n)
    view._tell(status=status, actions=list(actions), **view._drawn())
    return view


def test_the_monitor_shows_the_run_and_the_cursor_reads_it(mounted):
    page = mounted(watched())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    words = page.locator(".gl-numbers").inner_text()
    for expected in ("30\nof 100", "0.1\nrecorded: 0.1", "0.06667", "256", "18 s", "8 s so far"):
        assert expected in words
    assert page.locator("progress").evaluate("bar => bar.value") == pytest.approx(0.3)
    loss = page.locator(".gl-chart").first
    loss.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    assert "1\nof 100" in page.locator(".gl-numbers").inner_text()
    assert loss.get_attribute("aria-valuetext") == "step 1: loss 3, recorded 3"
    box = loss.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.wait_for_timeout(200)
    assert loss.get_attribute("aria-valuetext") != "step 1: loss 3, recorded 3"
    assert "floor 0.050" in loss.text_content()


def test_what_the_model_writes_is_shown_and_never_run(mounted):
    page = mounted(watched())
    assert page.evaluate("window.hacked") is None
    assert page.locator("#view img, #view script").count() == 0
    text = page.locator(".gl-written-text").text_content()
    assert text.startswith("30 <img src=x")
    assert "\\u{202e}⏎" in text
    page.get_by_label("at step").focus()
    page.keyboard.press("Home")
    assert page.locator(".gl-written-text").text_content().startswith("10 <img")


def test_buttons_ask_the_kernel_and_focus_stays_at_hand(mounted):
    page = mounted(watched())
    button = page.get_by_role("button", name="Pause")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("sent") == [{"do": "pause"}]
    page.evaluate("handle.update({ status: 'paused', actions: ['go on', 'stop'], note: 'Paused at step 30.' })")
    assert page.evaluate("document.activeElement.textContent") == "Go on"
    assert page.locator(".gl-status").inner_text() == "paused"
    page.wait_for_timeout(300)
    assert page.locator("[role=status]").text_content() == "The run is paused. Paused at step 30."
    page.keyboard.press("Enter")
    assert page.evaluate("sent.at(-1)") == {"do": "go on"}


def test_without_a_kernel_a_run_is_shown_and_not_touched(mounted):
    page = mounted(watched(), kernel=False)
    assert page.get_by_role("button", name="Pause").count() == 0
    assert "30\nof 100" in page.locator(".gl-numbers").inner_text()


def test_times_groups_and_round_numbers(functions):
    assert functions.evaluate("[3, 59.6, 200, 7500, NaN].map(training.duration)") == [
        "3 s", "1 min 0 s", "3 min 20 s", "2 h 5 min", "–",
    ]  # fmt: skip
    names = ["sum accuracy", "sum accuracy (held out)", "long recall log_prob", "speed"]
    groups = functions.evaluate("(names) => [...training.groupsOf(names)]", names)
    assert {group: [(e["kind"], e["column"]) for e in found] for group, found in groups} == {
        "accuracy": [("sum", 1)], "accuracy (held out)": [("sum", 2)], "log_prob": [("long recall", 3)],
        "measured": [("speed", 4)],
    }  # fmt: skip


# How fast they are ----------------------------------------------------------------------------------------------------

SLIDE = """async (selector) => {
    const node = document.querySelector(selector);
    for (let i = 0; i < 40; i++) {
        node.value = i % 20;
        node.dispatchEvent(new Event("input"));
        await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
    }
}"""
GROW = """async () => {
    for (let i = 0; i < 40; i++) {
        handle.update({ ...state, seconds: i });
        await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
    }
}"""


def milliseconds(page, script, argument=None):
    """What one change costs the page's main thread, in its own processor time: other programs run beside the test."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    page.evaluate(script, argument)  # compiled and warm
    before = spent()
    page.evaluate(script, argument)
    return 1000 * (spent() - before) / 40


def test_a_change_shows_within_a_frame(mounted):
    assert milliseconds(mounted(ParameterMap("gpt3")), SLIDE, "input[type=range]") < 16
    for view in ("sinusoids", "decay", "beyond"):
        page = mounted(PositionExplorer(GPTConfig.preset("smollm2-135m"), view=view))
        assert milliseconds(page, SLIDE, "input[type=range]") < 16, view
    assert milliseconds(mounted(watched(n=1500)), GROW) < 16


# BertViz --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["head", "model", "neuron"])
def test_bertviz_draws_without_a_network_at_the_first_run(new_page, kind, artefacts):
    tokenizer = CharTokenizer.train(NASTY.replace("\u202e", "") + "abcdefgh")
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=64, n_embd=8, n_layer=2, n_head=2))
    text = NASTY.replace("\u202e", "")
    view = bertviz_view(model, tokenizer, text, kind)
    watched = new_page(1000, 900, color_scheme="dark")
    page = watched.page
    page.set_content(f"<body style='background: #16181b; color: white'>{view.html}")
    frame = page.frames[1]
    frame.wait_for_selector("svg line, svg path", state="attached", timeout=60_000)
    assert frame.locator("svg line, svg path").count() > len(text)
    if kind != "model":
        drawn = frame.locator("svg text").all_text_contents()
        assert [t.strip() for t in drawn].count("<") >= 2
    assert frame.evaluate("window.hacked") is None
    assert frame.locator("img").count() == 0
    assert frame.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    with pytest.raises(Exception, match=r"SecurityError|Blocked|sandboxed"):
        frame.evaluate("parent.document.title")  # the frame cannot reach the notebook
    page.screenshot(path=artefacts / f"bertviz-{kind}.png")


def bertviz_frame(new_page, kind, text="abcabc"):
    tokenizer = CharTokenizer.train("abc")
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=64, n_embd=8, n_layer=2, n_head=2))
    page = new_page(1000, 900).page
    page.set_content(bertviz_view(model, tokenizer, text, kind).html)
    frame = page.frames[1]
    frame.wait_for_selector("svg [tabindex='0']", state="attached", timeout=60_000)
    return page, frame


def tab(page, frame, times=1):
    """Tab, and wait until focus has come into the frame, which runs in a process of its own."""
    for _ in range(times):
        page.keyboard.press("Tab")
        frame.wait_for_function("document.activeElement !== document.body")


FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"
STRAY = "svg line[visibility=visible]"


def test_bertvizs_head_view_answers_to_keys(new_page):
    page, frame = bertviz_frame(new_page, "head")
    seen = []
    for _ in range(4):
        tab(page, frame)
        seen.append(frame.evaluate(FOCUSED))
    assert seen == ["layer", "token 0: a", "token 0: a", "head 0"]
    heads = "[...document.querySelectorAll('#vis [aria-label^=head]')].map((node) => node.getAttribute('fill'))"
    both = frame.evaluate(heads)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")  # without head 1
    assert [a == b for a, b in zip(both, frame.evaluate(heads), strict=True)] == [True, False]
    page.keyboard.press("Shift+Enter")  # and now head 1 alone
    assert [a == b for a, b in zip(both, frame.evaluate(heads), strict=True)] == [False, True]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    assert frame.evaluate(FOCUSED) == "token 5: c"
    assert frame.locator(STRAY).count() == 2 * 6  # from this token, in both heads
    box, ring = frame.evaluate(
        """() => [document.activeElement.querySelector("rect"), document.body.lastElementChild].map((node) => {
            const { left, top, width } = node.getBoundingClientRect();
            return [left, top, width].map(Math.round);
        })"""
    )
    assert box == ring
    page.keyboard.press("Shift+Tab")
    assert frame.evaluate(FOCUSED) == "layer"
    assert frame.locator(STRAY).count() == 0
    page.keyboard.press("ArrowDown")  # another layer: all is drawn anew
    page.wait_for_timeout(200)
    page.keyboard.press("Tab")
    assert frame.evaluate(FOCUSED) == "token 0: a"


def test_bertvizs_model_and_neuron_view_answer_to_keys(new_page):
    page, frame = bertviz_frame(new_page, "model")
    tab(page, frame)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert frame.evaluate(FOCUSED) == "layer 1, head 1"
    page.keyboard.press("Enter")
    frame.get_by_text("Layer 1, Head 1").wait_for()
    frame.wait_for_selector("g[tabindex='0']", state="attached")  # its tokens are reached from the next frame on
    assert frame.evaluate(FOCUSED) == "layer 1, head 1"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert frame.evaluate(FOCUSED) == "token 1: b"

    page, frame = bertviz_frame(new_page, "neuron")
    tab(page, frame, times=3)
    page.keyboard.press("ArrowDown")
    assert frame.evaluate(FOCUSED) == "token 1: b"
    assert frame.locator("#expanded").get_attribute("visibility") == "hidden"
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert frame.locator("#expanded").get_attribute("visibility") == "visible"
    assert frame.evaluate(FOCUSED) == "token 1: b"


def test_bertviz_is_a_picture_where_no_frame_is_shown(new_page):
    tokenizer = CharTokenizer.train("abc")
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=64, n_embd=8, n_layer=2, n_head=2))
    html = bertviz_view(model, tokenizer, "abcabc").html
    page = new_page(1000, 900).page
    page.set_content(html)
    assert not page.locator("img").is_visible()
    assert page.get_by_text("Tab leads into the view").is_visible()
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("tbody tr").count() == 4
    for stripped in (r"<iframe.*?</iframe>", r"<iframe.*?</iframe>|<style>.*?</style>"):  # as GitHub and JupyterLab do
        page.set_content(re.sub(stripped, "", html, flags=re.DOTALL))
        assert page.locator("img").is_visible()
        assert not page.get_by_text("Tab leads into the view").is_visible()
        assert page.locator("img").evaluate("node => node.naturalWidth") > 200
