"""The live views as plain ES modules on a page, without a notebook: what they compute, show and allow."""

import base64

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlib import GPT, CharTokenizer, GPTConfig, next_token_probabilities
from gptlib.interpret import attention_maps
from gptlib.widgets import AttentionViewer, SamplingLab
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
    expected = attention_maps(model, torch.tensor([viewer.ids]))[:, 0].numpy()
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
