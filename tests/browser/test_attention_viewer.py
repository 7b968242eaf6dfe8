"""The attention viewer in Chromium, on a plain page: arcs, marks, two texts, silenced heads, numbers and speed."""

import base64
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from gptlib import GPT, CharTokenizer, GPTConfig, load_model, tales
from gptlib.widgets import AttentionViewer
from gptlib.widgets.base import view_module

pytestmark = pytest.mark.browser

LETTERS = "abcdefghijklmnopqrstuvwxyz <>."
UPDATE = """state => {
    for (const [name, value] of Object.entries(state)) {
        if (value?.base64 !== undefined) state[name] = Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
    }
    handle.update(state);
}"""


def gpt(tokenizer, n_layer=3, n_head=4):
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.vocab_size, 128, 8 * n_head, n_layer=n_layer, n_head=n_head))
    for parameter in model.parameters():
        parameter.data.mul_(5)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(LETTERS)


@pytest.fixture
def viewer(tokenizer):
    return AttentionViewer(gpt(tokenizer), tokenizer, "the cat sat on the mat")


@pytest.fixture(scope="module")
def story():
    model, tokenizer = load_model("tales")
    return AttentionViewer(model, tokenizer, tales.split("test", 1)[0])


def pixels(page, index=0):
    page.wait_for_timeout(150)
    return hashlib.sha256(page.locator("canvas.gl-map").nth(index).screenshot()).hexdigest()


def answer(page, widget):
    """Do for the page what a kernel would: answer every request that it has sent."""
    for request in page.evaluate("sent.splice(0)"):
        widget._handle_custom_msg(request, [])
        values = {name: getattr(widget, name) for name in widget.keys if name[0] != "_" and name != "layout"}
        page.evaluate(
            UPDATE,
            {n: {"base64": base64.b64encode(v).decode()} if isinstance(v, bytes) else v for n, v in values.items()},
        )
    page.wait_for_timeout(150)


def test_arcs_are_another_form_of_the_same_weights(mounted, viewer, artefacts):
    page = mounted(viewer)
    as_map, said = pixels(page), page.inner_text(".gl-readout")
    page.get_by_role("button", name="arcs").click()
    arcs = pixels(page)
    assert arcs != as_map
    canvas = page.locator("canvas.gl-map")
    assert canvas.get_attribute("aria-roledescription") == "arcs between tokens"
    assert page.inner_text(".gl-readout") == said
    canvas.focus()
    page.keyboard.press("ArrowUp")
    assert pixels(page) != arcs
    assert "at 20 looks at" in page.inner_text(".gl-readout")
    page.get_by_role("button", name="is seen by").click()
    page.keyboard.press("Tab")
    canvas.focus()
    before = page.inner_text(".gl-readout")
    page.keyboard.press("ArrowUp")
    assert page.inner_text(".gl-readout") != before
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 2 + 17 * 4.5)  # the fifth token from the top
    page.wait_for_timeout(100)
    assert "at 4 with weight" in page.inner_text(".gl-readout")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        page.locator(".gl-view").screenshot(path=artefacts / f"attention-arcs-{scheme}.png")


def test_a_token_is_pinned_and_hovering_others_only_looks(mounted, viewer):
    page = mounted(viewer)
    page.locator(".gl-token").nth(9).click()
    pinned = page.inner_text(".gl-readout")
    assert "at 9 looks at" in pinned
    page.locator(".gl-token").nth(15).hover()
    assert "at 15 looks at" in page.inner_text(".gl-readout")
    page.mouse.move(5, 5)
    assert page.inner_text(".gl-readout") == pinned
    page.get_by_role("button", name="is seen by").click()
    page.locator(".gl-token").nth(2).click()
    assert page.inner_text(".gl-readout").endswith(page.locator(".gl-readout b").inner_text())
    assert "at 2 with weight" in page.inner_text(".gl-readout")


def test_what_the_facts_say_is_what_python_scored(mounted, viewer):
    page = mounted(viewer)
    page.locator("canvas.gl-map").focus()
    for index in range(12):
        scores = np.frombuffer(viewer.scores, dtype=np.float32).reshape(12, 7)[index]
        facts = page.locator(".gl-facts dd").all_inner_texts()
        assert facts[0].startswith(f"{scores[0]:.2f} nats")
        assert facts[1].startswith(f"{scores[1]:.1f} tokens")
        assert [float(text.split(" %")[0]) for text in facts[2:]] == pytest.approx(100 * scores[2:], abs=0.51)
        assert f"layer {index // 4}, head {index % 4}" in page.inner_text(".gl-label").lower()
        name, nearest = viewer.labels[index]
        told = page.inner_text(".gl-label")
        assert ("mixed, nearest to" in told) == (name == "mixed")
        at = ["previous", "first", "self", "duplicate", "induction"].index(nearest)
        assert f"{scores[2 + at]:.2f}" in told
        page.keyboard.press("PageDown")
        page.wait_for_timeout(50)


def test_the_table_says_what_the_map_shows(mounted, viewer):
    page = mounted(viewer)
    page.locator("summary").click()
    page.locator("canvas.gl-map").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(300)
    rows = [row.split("\t") for row in page.locator("table tbody tr").all_inner_texts()]
    T = len(viewer.tokens)
    weights = torch.frombuffer(bytearray(viewer.weights), dtype=torch.float32)[T * (T - 1) // 2 : T * (T + 1) // 2]
    assert [int(row[2]) for row in rows[:T]] == weights.argsort(descending=True, stable=True).tolist()
    assert {row[0] for row in rows[:T]} == {str(T - 1)}
    assert float(rows[0][4]) == pytest.approx(weights.max().item(), rel=1e-3)
    page.get_by_role("button", name="is seen by").click()
    page.wait_for_timeout(300)
    assert "is seen by" in page.inner_text("table caption")


def test_a_second_text_stands_beside_the_first_with_the_difference(mounted, viewer, artefacts):
    page = mounted(viewer)
    page.get_by_role("button", name="Compare with a second text").click()
    second = page.get_by_label("Second text, for comparison")
    assert page.evaluate("document.activeElement.value") == "the cat sat on the mat"
    second.fill("the cat sat in the mat")
    page.evaluate("handle.update({})")  # the first request is answered; the latest text waits and is sent now
    answer(page, viewer)
    assert viewer.other_text == "the cat sat in the mat"
    assert page.locator("canvas.gl-map").count() == 3
    captions = page.locator("figcaption").all_inner_texts()
    assert captions[:2] == ["First text", "Second text"]
    assert captions[2] == "Second minus first, from row 12 on: before it the texts are the same"
    assert "in the second text" in page.inner_text(".gl-readout")
    assert len({pixels(page, i) for i in range(3)}) == 3
    first, other = (maps(viewer, name) for name in ("weights", "other_weights"))
    told = page.locator(".gl-readout b").all_inner_texts()
    assert [float(value) for value in told] == pytest.approx(
        [first[0, 0, 21].max(), other[0, 0, 21, first[0, 0, 21].argmax()]], abs=6e-5
    )
    page.locator("canvas.gl-map").nth(2).focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(100)
    assert "at 20 looks at" in page.inner_text(".gl-readout")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        page.locator(".gl-view").screenshot(path=artefacts / f"attention-two-texts-{scheme}.png")
    page.get_by_role("button", name="Close the comparison").click()
    answer(page, viewer)
    assert page.locator("canvas.gl-map").count() == 1
    assert page.locator("figcaption").is_hidden()


def maps(viewer, name):
    T = len(viewer.ids)
    rows, columns = np.tril_indices(T)
    whole = np.zeros((viewer.layers, viewer.heads, T, T), dtype=np.float32)
    sent = np.frombuffer(getattr(viewer, name), dtype=viewer.dtype)
    whole[:, :, rows, columns] = sent.reshape(viewer.layers, viewer.heads, -1)
    return whole


def test_a_silenced_head_moves_the_next_token_and_only_later_layers(mounted, viewer):
    page = mounted(viewer)
    before = page.locator(".gl-next .gl-number").all_inner_texts()
    page.locator("canvas.gl-map").focus()
    for _ in range(5):
        page.keyboard.press("PageDown")  # layer 1, head 1
    page.get_by_role("button", name="Silence this head").press("Enter")
    answer(page, viewer)
    assert viewer.silenced == [[1, 1]]
    assert page.locator(".gl-next .gl-number").all_inner_texts() != before
    shown = page.locator(".gl-next .gl-number").first.inner_text().split()
    assert float(shown[0]) == pytest.approx(100 * viewer.next_tokens["now"][0], abs=0.51)
    assert float(shown[2]) == pytest.approx(100 * viewer.next_tokens["whole"][0], abs=0.51)
    told = page.locator(".gl-main > .gl-muted").inner_text()
    assert "Maps of layers 0 to 1 did not change in any weight; later ones did" in told
    assert page.locator(".gl-off").get_attribute("aria-label") == "layer 1, head 1"
    assert "silenced" in page.locator(".gl-off").get_attribute("aria-description")
    assert page.locator(".gl-side").inner_text().count("Silenced: layer 1 head 1.") == 1
    page.get_by_role("button", name="Restore all").click()
    answer(page, viewer)
    assert page.locator(".gl-off").count() == 0
    assert page.locator(".gl-next .gl-number").all_inner_texts() == before


def test_marks_of_a_story_can_be_drawn_in(mounted, story, artefacts):
    page = mounted(story)
    plain = pixels(page)
    page.get_by_label("marks").select_option("recall")
    assert pixels(page) != plain
    recalled = [mark for mark in story.marks if mark[0] == "recall"]
    assert page.locator(".gl-marked").count() == len({i for _, a, b, *_ in recalled for i in range(a, b)})
    expected = onto(maps(story, "weights")[0, 0], recalled)
    facts = page.locator(".gl-facts > div").last.inner_text()
    assert "From marked words" in facts
    assert float(facts.split("\n")[-1].split(" %")[0]) == pytest.approx(100 * expected, abs=0.51)
    page.locator(".gl-view").screenshot(path=artefacts / "attention-marks-light.png")
    page.get_by_role("button", name="arcs").click()
    with_marks = pixels(page)
    page.get_by_label("marks").select_option("none")
    assert pixels(page) != with_marks
    assert page.locator(".gl-marked").count() == 0


def onto(weights, marks):
    shares = [weights[q, first:last].sum() for _, a, b, first, last in marks for q in range(max(0, a - 1, first), b)]
    return sum(shares) / len(shares)


def test_two_texts_fit_a_narrow_page(mounted, tokenizer):
    page = mounted(AttentionViewer(gpt(tokenizer), tokenizer, "the cat sat", other="the dog sat on it"), width=320)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
    page.get_by_role("button", name="arcs").click()
    page.wait_for_timeout(200)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
    focusable = page.locator("#view :is(a, button, input, select, summary, textarea, [tabindex])")
    assert focusable.evaluate_all("nodes => nodes.every((n) => n.dataset.lmSuppressShortcuts === 'true')")


def test_texts_of_unlike_length_and_the_same_text_twice(mounted, tokenizer):
    for other in ("the", "the cat sat", "the cat sat on the mat", "xyz"):
        page = mounted(AttentionViewer(gpt(tokenizer), tokenizer, "the cat sat", other=other))
        assert page.locator("canvas.gl-map").count() == 3
        for key in ("ArrowUp", "Home", "ArrowDown"):
            page.locator("canvas.gl-map").first.press(key)
        page.get_by_role("button", name="arcs").click()
        page.wait_for_timeout(150)
        assert "weight" in page.inner_text(".gl-readout")


def test_layers_that_did_not_change_are_counted(chromium):
    page = chromium.new_page()
    page.evaluate(
        """async (source) => {
            window.view = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
        }""",
        view_module("attention_viewer"),
    )
    counted = page.evaluate(
        """() => {
            const state = { layers: 3, heads: 2, ids: [1, 2], dtype: "float32" };
            const values = Float32Array.from({ length: 18 }, (_, i) => i / 18);
            const before = new view.Weights({ ...state, weights: values });
            values[13] += 0.25;
            const after = new view.Weights({ ...state, weights: values });
            return [view.sameLayers(before, after), view.sameLayers(before, before)];
        }"""
    )
    assert counted[0] == {"layers": 2, "difference": pytest.approx(0.25)}
    assert counted[1] == {"layers": 3, "difference": 0}
    page.close()


def test_a_small_picture_has_the_largest_of_the_cells_it_stands_for(chromium):
    page = chromium.new_page()
    source = base64.b64encode(view_module("attention_viewer").encode()).decode()
    page.evaluate(f"import('data:text/javascript;base64,{source}').then((module) => {{ window.view = module; }})")
    got = page.evaluate(
        """() => {
            const large = { "4 1": -0.9, "4 0": 0.5, "2 2": 0.3 };
            const small = view.pooled({ T: 5, at: (q, k) => large[`${q} ${k}`] ?? 0.1, from: 3, tokens: "kept" }, 3);
            return [small.T, small.from, small.tokens, [0, 1, 2].map((q) => [0, 1, 2].map((k) => small.at(q, k)))];
        }"""
    )
    assert got == [3, 1, "kept", [[0.1, 0, 0], [0.1, 0.3, 0], [-0.9, 0.1, 0.1]]]
    page.close()


@pytest.mark.parametrize("form", ["map", "arcs"])
def test_a_change_of_smollms_size_shows_within_a_frame(mounted, tokenizer, form):
    """30 layers × 9 heads × 128 tokens: what a key costs the page's main thread, in its own processor time."""
    viewer = AttentionViewer(gpt(tokenizer, n_layer=30, n_head=9), tokenizer, ("the cat sat on the mat " * 6)[:128])
    page = mounted(viewer)
    page.get_by_role("button", name=form, exact=True).click()
    page.wait_for_timeout(2000)  # the thumbnails are drawn a few in a frame
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent():
        metrics = cdp.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    for measured in (False, True):  # first compiled and warm
        before = spent()
        page.evaluate(
            """async () => {
                const node = document.querySelector("canvas.gl-map");
                for (let i = 0; i < 40; i++) {
                    node.dispatchEvent(new KeyboardEvent("keydown", { key: i % 2 ? "ArrowDown" : "ArrowUp" }));
                    await new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)));
                }
            }"""
        )
        if measured:
            assert 1000 * (spent() - before) / 40 < 16


def test_all_weights_of_the_open_head_can_be_saved(mounted, viewer, tmp_path):
    page = mounted(viewer)
    page.locator("canvas.gl-map").press("PageDown")
    files = {}
    for kind in ("CSV", "SVG", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Save as {kind}").click()
        files[kind] = tmp_path / f"view.{kind}"
        download.value.save_as(files[kind])
    lines = files["CSV"].read_text(encoding="utf-8-sig").splitlines()
    T = len(viewer.ids)
    assert len(lines) == 1 + T * (T + 1) // 2
    got = np.zeros((T, T))
    for line in lines[1:]:
        q, k, weight = (line.split(",")[i] for i in (0, 2, 4))
        got[int(q), int(k)] = float(weight)
    np.testing.assert_allclose(got, maps(viewer, "weights")[0, 1], rtol=1e-6)
    assert files["PNG"].read_bytes().startswith(b"\x89PNG")
    assert "looks at" in files["SVG"].read_text()


def test_every_head_has_its_picture_and_a_silenced_one_is_hatched(mounted, viewer):
    page = mounted(viewer)
    page.wait_for_timeout(500)

    def pictures():
        return [
            len(Image.open(io.BytesIO(thumb.screenshot())).convert("RGB").getcolors(100_000))
            for thumb in page.locator(".gl-head").all()
        ]

    colours = pictures()
    assert len(colours) == 12
    assert min(colours) > 20
    before = [page.locator(".gl-head").nth(i).screenshot() for i in (8, 9)]
    page.evaluate("handle.update({ silenced: [[2, 1]] })")
    page.wait_for_timeout(500)
    after = [page.locator(".gl-head").nth(i).screenshot() for i in (8, 9)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]
