"""AttentionSteps, TokenizerView, and what SamplingLab grows: Python's numbers, by keyboard and by pointer."""

import base64
import json
import math
import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, causal_mask, next_token_probabilities
from gptlib.generation import penalise_repetition
from gptlib.tokenizers import load_tokenizer
from gptlib.widgets import AttentionSteps, SamplingLab, TokenizerView
from gptlib.widgets.base import view_module
from gptlib.widgets.tokenizer_view import usual_tokenizers

pytestmark = pytest.mark.browser
NASTY = '<img src=x onerror="hacked=1"> \n\t\u05e9\u05dc\u202e </script>&amp; =1+1'
LOAD = """async ([name, source]) => {
    window[name] = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
}"""


@pytest.fixture(scope="module")
def functions(chromium):
    """A page with the modules' functions as `steps`, `cut` and `sampling`."""
    page = chromium.new_page()
    for name, module in [("steps", "attention_steps"), ("cut", "tokenizer_view"), ("sampling", "sampling_lab")]:
        page.evaluate(LOAD, [name, view_module(module)])
    yield page
    page.close()


@pytest.fixture(scope="module")
def lab():
    torch.manual_seed(0)
    tokenizer = CharTokenizer.train("".join(sorted(set("the cat sat" + NASTY))))
    config = GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    return SamplingLab(GPT(config), tokenizer, "the cat sat")


# Attention, step by step ----------------------------------------------------------------------------------------------

STEPS = ["products", "scale", "mask", "softmax", "values"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    T=st.integers(1, 5),
    more=st.integers(0, 3),
    D=st.integers(1, 7),
    E=st.integers(1, 5),
    off=st.sets(st.sampled_from(STEPS)),
)
def test_every_step_gives_pythons_numbers_whichever_are_off(functions, seed, T, more, D, E, off):
    generator = torch.Generator().manual_seed(seed)
    S = T + more
    q, k, v = (torch.randn(*shape, generator=generator) for shape in [(T, D), (S, D), (S, E)])
    mask = causal_mask(T, S)
    products = q @ k.T if "products" not in off else torch.zeros(T, S)
    scaled = products / math.sqrt(D) if "scale" not in off else products
    masked = scaled + mask if "mask" not in off else scaled
    weights = torch.softmax(masked, dim=-1) if "softmax" not in off else masked
    output = weights @ v if "values" not in off else weights
    got = functions.evaluate(
        """([data, on]) => {
            const typed = { ...data };
            for (const name of ["q", "k", "v", "mask"]) {
                typed[name] = Float32Array.from(data[name], (x) => x ?? -Infinity);
            }
            const plain = (values) => Array.from(values, (x) => (Number.isFinite(x) ? x : null));
            return Object.fromEntries(Object.entries(steps.attend(typed, on)).map(([n, x]) => [n, plain(x)]));
        }""",
        [
            {name: [None if math.isinf(x) else x for x in value.flatten().tolist()]
             for name, value in {"q": q, "k": k, "v": v, "mask": mask}.items()} | {"T": T, "S": S, "D": D, "E": E},
            {name: name not in off for name in STEPS},
        ],
    )  # fmt: skip
    expected = {"products": products, "scaled": scaled, "masked": masked, "weights": weights, "output": output}
    for name, value in expected.items():
        finite = torch.where(value.isfinite(), value, torch.nan).flatten().numpy()
        np.testing.assert_allclose(np.array(got[name], dtype=float), finite, atol=2e-5, err_msg=name)


def vectors(scale=1.0, T=5, D=16):
    torch.manual_seed(1)
    return AttentionSteps(scale * torch.randn(T, D), torch.randn(T, D), torch.randn(T, 3), tokens=list("abcd<")[:T])


def said(page):
    page.wait_for_timeout(200)
    return page.locator(".gl-said").inner_text()


def test_what_breaks_is_said_with_its_number(mounted):
    widget = vectors(scale=2.0)
    page = mounted(widget)
    q, k, _, mask = widget._vectors()
    page.locator("input[type=range]").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")  # the second of five queries
    assert said(page) == ""
    page.keyboard.press("3")
    later = torch.softmax(q @ k.T / 4, dim=-1)[1, 2:].sum().item()
    assert f"Without the mask {100 * later:.0f} % of the weight lies on what comes later" in said(page)
    page.keyboard.press("3")
    page.keyboard.press("2")
    sharp, plain = (torch.softmax((q @ k.T / d + mask)[1], dim=-1).max().item() for d in (1, 4))
    assert f"{sharp:.3f}" in said(page)
    assert f"{plain:.3f}" in said(page)
    page.keyboard.press("2")
    page.keyboard.press("4")
    assert "−∞" in said(page)
    page.keyboard.press("3")
    total = (q @ k.T / 4)[1].sum().item()
    assert f"sums to {total:.2f}" in said(page)
    page.keyboard.press("1")
    assert "each of the 5 tokens weighs the same" in said(page)
    page.keyboard.press("5")
    assert "the output is 5 weights" in said(page)
    page.get_by_role("button", name="All steps on").click()
    assert said(page) == ""
    assert page.locator("input[type=checkbox]:checked").count() == 5


def test_rows_and_keys_are_reached_by_keyboard_and_by_pointer(mounted):
    widget = vectors()
    page = mounted(widget)
    q, k, _, mask = widget._vectors()
    canvas = page.locator("canvas")
    drawn = canvas.evaluate("node => node.toDataURL()")
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 2 + 28 * 0.5, box["y"] + 2 + 28 * 2.5)  # third query, first key
    page.wait_for_timeout(200)
    assert canvas.evaluate("node => node.toDataURL()") != drawn
    assert page.locator("input[type=range]").input_value() == "2"
    assert "“c” at 2" in page.locator(".gl-keys caption").inner_text()
    page.locator(".gl-key-name").first.focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(200)
    chosen = page.locator(".gl-chosen-row td").all_inner_texts()
    weights = torch.softmax(q @ k.T / 4 + mask, dim=-1)
    assert chosen[3] == f"{weights[2, 1]:.3f}"
    assert page.locator(".gl-vectors tr").first.locator("td").count() == 17
    assert page.locator(".gl-vectors .gl-total").nth(2).inner_text() == f"{(q @ k.T)[2, 1]:.2f}".replace("-", "−")


def test_another_head_is_asked_of_the_kernel(mounted):
    tokenizer = CharTokenizer.train("abc <>")
    config = GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=16, n_layer=2, n_head=4)
    page = mounted(AttentionSteps(GPT(config), tokenizer, "<b> a"))
    page.locator("select").nth(1).select_option("3")
    assert page.evaluate("sent") == [{"layer": 0, "head": 3, "text": "<b> a"}]
    page.evaluate("handle.update({ problem: 'the text is empty' })")
    assert page.locator(".gl-problem").first.inner_text() == "the text is empty"


# Tokenizers -----------------------------------------------------------------------------------------------------------

ENCODE = """([kinds, table, texts]) => {
    const list = cut.tokenizers(kinds, Uint8Array.from(atob(table), (c) => c.charCodeAt(0)));
    return list.map(({ encode }) => texts.map((text) => encode(text).map(({ id, label }) => [id, label])));
}"""
ODD = [
    "",
    " ",
    "  a",
    "a\u00a0\u00a0b",
    "\ufeff x \u0085 y",
    "don't I'LL we've",
    "12 345 ½ Ⅷ",
    "<|endoftext|>a<|end",
    "a\n\n\nb \t\r\n",
    "e\u0301",
    "\u05d0\u202e<b>",
    "🙂👩‍👩‍👧",
    "漢字かな",
    "\x00\x7f",
    "aaaaaaaaaaaaa",
    "__proto__ constructor",
    NASTY,
]


def encoded(functions, view, texts):
    return functions.evaluate(ENCODE, [view.kinds, base64.b64encode(view.tables).decode(), texts])


known = st.characters(exclude_categories=["Cs", "Cn"])  # letters newer than Python's tables are cut by newer rules
text = st.text(known | st.sampled_from(" \n\t'a1"), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(text, min_size=8, max_size=8))
def test_the_browser_cuts_as_python_does(functions, view_of_three, texts):
    view, tokenizers = view_of_three
    for tokenizer, rows in zip(tokenizers, encoded(functions, view, texts + ODD), strict=True):
        for words, row in zip(texts + ODD, rows, strict=True):
            ids = tokenizer.encode(words)
            assert [i for i, _ in row] == ids, (words, unicodedata.unidata_version)
            assert [label for _, label in row] == tokenizer.tokens(ids)


@pytest.fixture(scope="module")
def view_of_three():
    usual = usual_tokenizers()
    own = BPETokenizer.train(
        NASTY * 3 + "lower lowest don't aaaaaa 漢字漢字", 330, special_tokens=["<|endoftext|>", "a.b(", "<|end"]
    )
    tokenizers = {"bytes": usual["bytes"], "tales": usual["BPE of tales"], "own": own}
    return TokenizerView("a", tokenizers), list(tokenizers.values())


def test_the_browser_has_gpt2s_own_ids(functions, gpt2_files):
    tokenizer = load_tokenizer(gpt2_files)
    [rows] = encoded(functions, TokenizerView("a", {"GPT-2": tokenizer}), ODD)
    assert [[i for i, _ in row] for row in rows] == [tokenizer.encode(words) for words in ODD]


def test_unknown_characters_are_shown_as_such(mounted):
    page = mounted(TokenizerView("aé\n"))
    assert page.locator(".gl-unknown").all_inner_texts() == ["é"]
    assert "1 not among them" in page.locator(".gl-card").first.inner_text()


def test_typing_redraws_and_nothing_is_run(mounted):
    page = mounted(TokenizerView("the cat"))
    kept = page.locator(".gl-pieces").nth(1).locator("span").first
    kept.evaluate("node => { node.kept = true; }")
    page.locator("textarea").fill("the cat " + NASTY)
    page.wait_for_timeout(300)
    assert page.evaluate("sent") == []  # all of these run in the browser
    strips = page.locator(".gl-pieces").evaluate_all("nodes => nodes.map((n) => n.textContent)")
    assert all("<img" in strip and "⏎\n" in strip for strip in strips)
    assert page.evaluate("window.hacked") is None
    assert page.locator("#view img, #view script").count() == 0
    assert "\u202e" not in page.locator(".gl-card").first.evaluate("node => node.textContent")
    assert kept.evaluate("node => node.kept")
    assert page.locator(".gl-card b").nth(1).inner_text() == f"{len(('the cat ' + NASTY).encode())} tokens"
    page.locator("textarea").fill("")
    page.wait_for_timeout(300)
    assert page.locator(".gl-card b").first.inner_text() == "0 tokens"


def test_a_tokens_id_by_keyboard_and_by_pointer(mounted):
    page = mounted(TokenizerView("the cat"))
    bundled = usual_tokenizers()["BPE of tales"]
    ids = bundled.encode("the cat")
    last = page.locator(".gl-pieces").nth(2)
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    words = page.locator(".gl-readout").inner_text()
    assert (
        f"“{bundled.tokens(ids)[1].replace(' ', '␣')}” has id {ids[1]}, token 2 of {len(ids)} of BPE of tales" in words
    )
    shared = page.locator(".gl-pieces").nth(1).locator(".gl-shared").count()
    assert shared == len(bundled.tokens(ids)[1].encode())
    last.locator("span").first.hover()
    page.wait_for_timeout(100)
    assert f"has id {ids[0]}, token 1" in page.locator(".gl-readout").inner_text()


def test_a_tokenizer_of_the_kernel_is_asked_there(mounted):
    class Words:
        vocab_size = 9

        def encode(self, text):
            return [len(word) for word in text.split()]

        def decode(self, ids):
            return "-" * ids[0]

    page = mounted(TokenizerView("two <b>", {"words": Words()}))
    assert page.locator(".gl-piece").all_inner_texts() == ["---", "---"]
    page.locator("textarea").fill("a")
    page.wait_for_timeout(200)
    assert page.evaluate("sent") == [{"text": "a"}]
    assert "waiting for the kernel" in page.locator(".gl-card").inner_text()
    page.evaluate("handle.update({ text: 'a', answers: { text: 'a', rows: [[[1, '-']]] } })")
    assert page.locator(".gl-piece").all_inner_texts() == ["-"]
    assert "waiting" not in page.locator(".gl-card").inner_text()


def test_rows_out_of_sight_follow_a_moment_later_or_as_soon_as_they_are_scrolled_to(mounted):
    torch.manual_seed(0)
    q, k, v = (torch.randn(40, 8) for _ in range(3))
    page = mounted(AttentionSteps(q, k, v, tokens=[f"t{i}" for i in range(40)]))
    page.wait_for_timeout(300)
    masks = """async ([query, scroll]) => {
        const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const region = document.querySelector(".gl-keys").parentElement;
        const slider = document.querySelector("input[type=range]");
        region.scrollTop = 0;
        await painted();
        slider.value = query;
        slider.dispatchEvent(new Event("input"));
        await painted();
        if (scroll) { region.scrollTop = 9999; await painted(); }
        const rows = [...document.querySelectorAll(".gl-keys tbody tr")];
        return [1, 39].map((row) => rows[row].cells[3].innerText);
    }"""
    last = f"{(q @ k.T / 8**0.5)[39, 39]:.2f}".replace("-", "−")
    assert page.evaluate(masks, [0, False]) == ["−∞", last]
    page.wait_for_timeout(400)
    assert page.locator(".gl-keys tbody tr").last.locator("td").nth(2).inner_text() == "−∞"
    assert page.evaluate(masks, [39, True])[1] == last


# Sampling: penalty, tree, three temperatures --------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    logits=st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=20),
    penalty=st.sampled_from([1.0, 1.3, 2.0]),
    data=st.data(),
)
def test_the_penalty_is_pythons(functions, logits, penalty, data):
    seen = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, max_size=5))
    lowered = penalise_repetition(torch.tensor([logits]), torch.tensor([seen]), penalty)
    expected = next_token_probabilities(lowered, temperature=0.8)[0].numpy()
    got, ids = functions.evaluate(
        """([logits, seen, penalty]) => {
            const given = Float32Array.from(logits);
            const ranking = sampling.reranked(sampling.ranked(given), given, seen, penalty);
            const anew = Float32Array.from(logits);
            ranking.ids.forEach((id, rank) => { anew[id] = ranking.logits[rank]; });
            if (sampling.ranked(anew).ids.join() !== ranking.ids.join()) throw new Error(`no ranking: ${ranking.ids}`);
            return [Array.from(sampling.choices(ranking, { temperature: 0.8 }).probabilities), Array.from(ranking.ids)];
        }""",
        [logits, seen, penalty],
    )
    by_id = np.zeros_like(expected)
    by_id[ids] = got
    np.testing.assert_allclose(by_id, expected, atol=2e-6)


def test_the_penalty_moves_bars_and_can_be_set_back(mounted, lab):
    page = mounted(lab)
    plain = page.locator(".gl-bars").inner_text()
    page.locator("input[type=range]").nth(4).focus()
    page.keyboard.press("End")
    page.wait_for_timeout(200)
    assert page.locator(".gl-bars").inner_text() != plain
    page.get_by_role("button", name="Reset settings").click()
    page.wait_for_timeout(200)
    assert page.locator(".gl-bars").inner_text() == plain


def test_a_tree_is_grown_and_a_path_appended_by_keyboard(mounted, lab):
    page = mounted(lab)
    page.locator("textarea, input").first.focus()
    page.keyboard.press("g")
    [asked] = page.evaluate("sent")
    assert (asked["grow"], asked["branches"]) == ([[]], 3)
    assert asked["settings"]["temperature"] == 1
    tree = [
        {"path": [1], "label": "<b>", "p": 0.5},
        {"path": [2], "label": "\n", "p": 0.25},
        {"path": [1, 4], "label": "x", "p": 0.5},
    ]
    page.evaluate("tree => handle.update({ tree })", tree)
    items = page.locator("[role=treeitem]")
    assert [item.get_attribute("aria-level") for item in items.all()] == ["1", "2", "1"]  # each below its parent
    assert items.nth(1).inner_text().split() == ["x", "50.0", "%", "path", "25.0", "%"]
    items.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("sent.at(-1).grow") == [[1, 4]]
    page.evaluate("tree => handle.update({ tree })", tree)
    page.get_by_role("button", name="Append this path").click()
    assert page.evaluate("sent.at(-1)") == {"append": [1, 4]}


def test_three_temperatures_stand_side_by_side(mounted, lab):
    page = mounted(lab)
    page.get_by_role("button", name="Continue the text three times").click()
    assert page.evaluate("sent") == [{"compare": 1}]
    columns = [{"temperature": t, "pieces": ["<i>", "\n"], "p": [0.5, 0.5]} for t in (0, 0.7, 2.0)]
    page.evaluate("columns => handle.update({ columns })", columns)
    told = page.locator(".gl-three > div").all_inner_texts()
    assert len(told) == 3
    assert all("<i>" in words and "0.69 nats a token" in words for words in told), json.dumps(told)
    tops = {round(node.bounding_box()["y"]) for node in page.locator(".gl-three > div").all()}
    assert len(tops) == 1
