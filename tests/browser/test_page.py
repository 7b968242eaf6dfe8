"""The live views as plain ES modules on a page, without a notebook: what they compute, show and allow."""

import base64

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlib import GPT, CharTokenizer, GPTConfig, next_token_probabilities
from gptlib.widgets import AttentionViewer, SamplingLab
from gptlib.widgets.attention import attention_maps
from gptlib.widgets.base import view_module

pytestmark = pytest.mark.browser

NASTY = '<img src=x onerror="hacked=1"> $x$ \n\t\u05e9\u05dc\u202e </script>&amp;'
ALPHABET = "".join(sorted(set(NASTY + "abcdefghijklmnopqrstuvwxyz")))


def gpt(n_layer=3, n_head=4, vocab_size=None, n_positions=128, sharpness=5.0):
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=vocab_size or len(ALPHABET),
        n_positions=n_positions,
        n_embd=8 * n_head,
        n_layer=n_layer,
        n_head=n_head,
    )
    model = GPT(config)
    for parameter in model.parameters():
        parameter.data.mul_(sharpness)  # an untrained model attends evenly; this gives the heads something to show
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(ALPHABET)


@pytest.fixture(scope="module")
def viewer(tokenizer):
    return AttentionViewer(gpt(), tokenizer, "the cat sat on the mat")


@pytest.fixture(scope="module")
def lab_view(tokenizer):
    return SamplingLab(gpt(), tokenizer, "the cat sat")


@pytest.fixture(scope="module")
def functions(chromium):
    """A page with the modules' pure functions as `attention` and `sampling`."""
    page = chromium.new_page()
    load = """async ([name, source]) => {
        window[name] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    }"""
    page.evaluate(load, ["attention", view_module("attention_viewer")])
    page.evaluate(load, ["sampling", view_module("sampling_lab")])
    yield page
    page.close()


# What they compute --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    logits=st.lists(st.floats(-12, 12, width=32) | st.sampled_from([0.0, -0.0, 1.0, -np.inf]), min_size=2, max_size=40),
    temperature=st.sampled_from([0, 0.05, 0.7, 1, 2.5]),
    top_k=st.none() | st.integers(1, 45),
    top_p=st.none() | st.floats(0.05, 1),
    min_p=st.none() | st.floats(0, 1),
)
def test_the_browser_draws_from_what_python_draws_from(functions, logits, temperature, top_k, top_p, min_p):
    logits = np.array([*logits, 0.5], dtype=np.float32)  # one finite logit at least
    expected = next_token_probabilities(
        torch.tensor(logits), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    ).numpy()
    settings_ = {"temperature": temperature, "topK": top_k, "topP": top_p, "minP": min_p}
    got, ids = functions.evaluate(
        """([logits, settings]) => {
            const ranking = sampling.ranked(Float32Array.from(logits, (x) => x ?? -Infinity));
            return [Array.from(sampling.choices(ranking, settings).probabilities), Array.from(ranking.ids)];
        }""",
        [
            [None if np.isinf(x) else float(x) for x in logits],
            {name: value for name, value in settings_.items() if value is not None},
        ],
    )
    by_id = np.zeros_like(expected)
    by_id[ids] = got
    if _on_a_border(logits, temperature, top_k, top_p, min_p):
        return  # fp32 and fp64 may then disagree about one token
    np.testing.assert_allclose(by_id, expected, atol=2e-6)
    np.testing.assert_array_equal(by_id == 0, expected == 0)


def _on_a_border(logits, temperature, top_k, top_p, min_p):
    """Whether rounding decides if a token stays: a running sum is at p, a probability at the limit or near zero."""
    if temperature == 0:
        return False
    p = np.sort(np.exp((logits.astype(float) - logits.max()) / temperature))[::-1][: top_k or None]
    if ((p > 0) & (p < 1e-30)).any():
        return True
    p = p / p.sum()
    sums = np.cumsum(p) - p
    close = top_p is not None and (np.abs(sums - top_p) < 1e-5).any()
    return close or (min_p is not None and (np.abs(p - min_p * p[0]) < 1e-6 * max(p[0], 1e-9)).any())


def test_draws_follow_the_distribution(functions):
    counts = functions.evaluate(
        """() => {
            const kept = sampling.choices(sampling.ranked(Float32Array.of(1, 3, 2)), { topK: 2 });
            const counts = [0, 0, 0];
            for (let i = 0; i < 1000; i++) counts[sampling.draw(kept, (i + 0.5) / 1000)]++;
            return [counts, Array.from(kept.probabilities), sampling.draw(kept, 0.9999999999999999)];
        }"""
    )
    drawn, probabilities, last = counts
    assert np.abs(np.array(drawn) / 1000 - probabilities).max() < 0.002
    assert probabilities[2] == 0
    assert last == 1


@pytest.mark.parametrize("large", [False, True], ids=["float32", "float16"])
def test_every_weight_arrives(functions, tokenizer, large):
    model = gpt(n_layer=20, n_head=8) if large else gpt()
    viewer = AttentionViewer(model, tokenizer, ("the cat sat on the mat " * 6)[: 120 if large else 22])
    expected = attention_maps(model, torch.tensor([viewer.ids])).numpy()
    assert viewer.dtype == ("float16" if large else "float32")
    state = {"layers": viewer.layers, "heads": viewer.heads, "ids": viewer.ids, "dtype": viewer.dtype}
    got = functions.evaluate(
        """([state, bytes]) => {
            const sent = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
            const weights = new attention.Weights({ ...state, weights: sent });
            const rows = [];
            for (const [l, h] of [[0, 0], [weights.layers - 1, weights.heads - 1]]) {
                for (let q = 0; q < weights.T; q++) {
                    for (let k = 0; k < weights.T; k++) rows.push(weights.at(l, h, q, k));
                }
            }
            return rows;
        }""",
        [state, base64.b64encode(viewer.weights).decode()],
    )
    T = len(viewer.ids)
    shown = np.array(got).reshape(2, T, T)
    tolerance = {"rtol": 1e-3, "atol": 1e-7} if large else {"rtol": 0, "atol": 0}
    np.testing.assert_allclose(shown, np.stack([expected[0, 0], expected[-1, -1]]), **tolerance)


def test_a_heads_summary_is_what_its_weights_say(functions):
    ids = [1, 2, 3, 1, 2]
    w = torch.softmax(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).tril() * 2, dim=-1).tril()
    w = w / w.sum(dim=-1, keepdim=True)
    rows, columns = torch.tril_indices(5, 5)
    got = functions.evaluate(
        """([ids, values]) => {
            const state = { ids, layers: 1, heads: 1, dtype: "float32", weights: Float32Array.from(values) };
            return attention.summary(new attention.Weights(state), 0, 0);
        }""",
        [ids, w[rows, columns].tolist()],
    )
    entropy = -(w * w.clamp_min(1e-30).log()).sum(-1).mean().item()
    distance = sum(w[q, k].item() * (q - k) for q in range(5) for k in range(q)) / 5
    expected = {
        "entropy": entropy,
        "distance": distance,
        "previous": w.diagonal(-1).mean().item(),
        "first": w[1:, 0].mean().item(),
        "self": w.diagonal()[1:].mean().item(),
        "same": (w[3, 0] + w[4, 1]).item() / 2,  # the tokens 1 and 2 came before at 0 and 1
        "induction": (w[3, 1] + w[4, 2]).item() / 2,  # and were followed by what stands at 1 and 2
    }
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-5), name


def test_a_row_that_changed_is_not_called_unchanged(mounted, viewer):
    page = mounted(viewer)
    told = page.locator(".gl-main > .gl-muted")
    page.evaluate("handle.update(state)")
    assert "did not change in any head (not in a single bit)" in told.inner_text()
    for change, expected in [
        (2**-20, "by at most 1e-6, which is rounding"),
        (0.25, "lets an earlier token see a later one"),
    ]:
        page.evaluate(
            """(change) => {
                const weights = new Float32Array(state.weights.slice().buffer);
                weights[1] += change; // what query 1 gives to key 0
                handle.update(state);
                handle.update({ weights });
            }""",
            change,
        )
        assert expected in told.inner_text()


# What they show -----------------------------------------------------------------------------------------------------


def test_tokens_are_shown_and_never_run(mounted, tokenizer):
    for widget in (AttentionViewer(gpt(), tokenizer, NASTY), SamplingLab(gpt(), tokenizer, NASTY)):
        page = mounted(widget)
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hacked") is None
        assert page.locator("#view img, #view script").count() == 0
        text = page.locator(".gl-text").evaluate("node => node.textContent")
        assert "<img" in text
        assert "⏎\n" in text
        assert "\\u{202e}" in text  # this mark would turn around all that follows
        assert "\u202e" not in page.locator("#view").evaluate("node => node.textContent")


def test_the_table_says_what_the_map_shows(mounted, viewer):
    page = mounted(viewer)
    page.locator("summary").click()
    page.locator("canvas.gl-map").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    cells = page.locator("table tbody td").all_inner_texts()
    expected = torch.frombuffer(bytearray(viewer.weights), dtype=torch.float32)
    T = len(viewer.tokens)
    row = expected[T * (T - 1) // 2 : T * (T + 1) // 2]  # head 0 of layer 0, last query
    assert [int(p) for p in cells[1::3]] == row.argsort(descending=True, stable=True)[:12].tolist()
    assert float(cells[2]) == pytest.approx(row.max().item(), abs=6e-5)
    page.get_by_role("button", name="is seen by").click()
    page.wait_for_timeout(200)
    assert "is seen by" in page.locator("table th").first.inner_text()


def test_settings_can_be_seen_and_set_back(mounted, lab_view):
    page = mounted(lab_view)
    sliders = page.locator("input[type=range]")
    plain = page.locator(".gl-bars").inner_text()
    sliders.nth(1).focus()
    page.keyboard.press("Home")  # top-k 1
    page.wait_for_timeout(200)
    assert page.locator(".gl-bars .gl-number").first.inner_text().endswith("100.0 %")
    assert page.locator(".gl-cut").count() == min(40, len(ALPHABET)) - 1
    assert "top-k" in page.locator(".gl-cut .gl-number").first.inner_text()
    assert sliders.nth(1).get_attribute("aria-valuetext") == "1"
    page.get_by_role("button", name="Reset settings").click()
    page.wait_for_timeout(200)
    assert page.locator(".gl-bars").inner_text() == plain


def test_a_kernel_is_asked_once_at_a_time_and_its_silence_is_said(functions):
    said = functions.evaluate(
        """async () => {
            const sent = [], said = [];
            const line = attention.requests((request) => sent.push(request), (sentence) => said.push(sentence), 50);
            for (const text of ["a", "ab", "abc"]) line.ask(text);
            const first = [...sent];
            line.answered();
            const second = [...sent];
            await new Promise((resolve) => setTimeout(resolve, 150));
            line.stop();
            return [first, second, said];
        }"""
    )
    assert said[:2] == [["a"], ["a", "abc"]]
    assert len(said[2]) == 1
    assert "kernel does not answer" in said[2][0]


def test_without_a_kernel_nothing_asks_for_one(mounted, viewer, lab_view):
    assert mounted(viewer, kernel=False).locator("textarea").count() == 0
    page = mounted(lab_view, kernel=False)
    assert page.get_by_role("button", name="Append a sampled token").count() == 0
    page.locator(".gl-bars button").first.click()
    page.keyboard.press("s")
    assert page.evaluate("sent") == []


def test_two_on_one_page_and_one_taken_away(mounted, viewer):
    page = mounted(viewer)
    page.evaluate(
        """() => {
            const second = document.createElement("div");
            document.body.append(second);
            window.other = view.mount(second, state);
        }"""
    )
    page.locator("canvas.gl-map").nth(1).focus()
    page.keyboard.press("PageDown")
    page.wait_for_timeout(100)
    assert page.locator("select").nth(1).input_value() == "0"
    assert page.locator("select").nth(3).input_value() == "1"
    page.evaluate("handle.destroy(); document.getElementById('view').replaceChildren()")
    page.keyboard.press("PageDown")
    assert page.locator("select").nth(1).input_value() == "2"


# For everyone -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["attention", "sampling"])
def widget(request, viewer, lab_view):
    return {"attention": viewer, "sampling": lab_view}[request.param]


def test_every_control_keeps_its_keys_and_has_a_name(mounted, widget):
    page = mounted(widget)
    focusable = page.locator("#view :is(a, button, input, select, summary, textarea, [tabindex])")
    assert focusable.count() > 8
    assert focusable.evaluate_all("nodes => nodes.every((n) => n.dataset.lmSuppressShortcuts === 'true')")
    names = focusable.evaluate_all(
        """nodes => nodes.map((node) => node.getAttribute("aria-label")
            ?? ([...(node.labels ?? [])].map((label) => label.textContent).join("") || node.textContent))"""
    )
    assert [name for name in names if not name.strip()] == []


def test_everything_is_reached_by_tab_and_shows_where_focus_is(mounted, widget):
    page = mounted(widget)
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            """() => {
                const node = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(node);
                if (node === document.body) return null;
                const words = node.textContent.slice(0, 20);
                return [node.tagName, node.className, words, outlineStyle, parseFloat(outlineWidth)];
            }"""
        )
        if focus is None or (seen and focus[:3] == seen[0][:3]):
            break
        seen.append(focus)
    attention = {"CANVAS", "SELECT", "TEXTAREA", "BUTTON", "SUMMARY"}
    assert {name for name, *_ in seen} >= (attention if isinstance(widget, AttentionViewer) else {"INPUT", "BUTTON"})
    assert all(style == "solid" and width >= 2 for *_, style, width in seen)


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
    page.evaluate(
        "document.querySelectorAll('.gl-attention .gl-token:not(.gl-later)')"
        ".forEach((n, i) => n.style.setProperty('--w', (i % 11) / 10))"
    )
    assert page.locator(".gl-view").get_attribute("data-gl-theme") == scheme
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 30
    assert contrasts[0][0] >= 4.5, contrasts[:5]


def test_a_narrow_page_needs_no_sideways_scrolling(mounted, widget):
    page = mounted(widget, width=320)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320


def test_nothing_moves_by_itself(mounted, widget):
    page = mounted(widget)
    page.keyboard.press("Tab")
    for key in ("Tab", "ArrowRight", "Tab", "ArrowLeft", "Tab", "ArrowDown"):
        page.keyboard.press(key)
        assert page.evaluate("document.getAnimations().length") == 0


# How fast they are --------------------------------------------------------------------------------------------------

CHANGES = """async ([selector, key]) => {
    const node = document.querySelector(selector);
    for (let i = 0; i < 40; i++) {
        if (key) node.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowDown" : "ArrowUp" }));
        else node.dispatchEvent(new Event("input"), node.value = 5 + i);
        await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
    }
}"""


def milliseconds_of_a_change(page, selector, key):
    """What one change costs the page's main thread: script, style, layout and paint, in its own processor time.

    Other programs on the machine make a clock on the wall useless here.
    """
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    page.evaluate(CHANGES, [selector, key])  # compiled and warm
    before = spent()
    page.evaluate(CHANGES, [selector, key])
    return 1000 * (spent() - before) / 40


def test_a_change_of_large_attention_shows_within_a_frame(mounted, tokenizer):
    viewer = AttentionViewer(gpt(n_layer=30, n_head=9), tokenizer, ("the cat sat on the mat " * 6)[:128])
    page = mounted(viewer)
    page.wait_for_timeout(2000)  # the thumbnails are drawn a few in a frame
    assert milliseconds_of_a_change(page, "canvas.gl-map", key=True) < 16


def test_a_change_of_a_large_vocabulary_shows_within_a_frame(mounted, tokenizer):
    page = mounted(SamplingLab(gpt(n_layer=1, vocab_size=50_257), tokenizer, "the cat"))
    assert milliseconds_of_a_change(page, "input[type=range]", key=False) < 16
