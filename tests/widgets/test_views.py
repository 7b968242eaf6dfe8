"""The kernel's side of the live views: what they send, how they answer, and the picture where no script runs."""

import base64
import importlib.util
import io
import re
import sys

import ipywidgets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, generate, next_token_probabilities, record
from gptlib.generation import penalise_repetition
from gptlib.widgets import AttentionViewer, SamplingLab
from gptlib.widgets import base as base_module
from gptlib.widgets.attention import MAX_TOKENS
from gptlib.widgets.base import STATIC, view_module, view_style

LETTERS = "abcdefghijklmnopqrstuvwxyz <>.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(LETTERS)


def gpt(tokenizer, n_positions=32, **changes):
    torch.manual_seed(0)
    shape = {"vocab_size": tokenizer.vocab_size, "n_embd": 16, "n_layer": 2, "n_head": 4, "dropout": 0.3}
    return GPT(GPTConfig(n_positions=n_positions, **{**shape, **changes}))


def request(widget, **content):
    """What the browser's message does, with the synchronised values that changed."""
    changed = {}
    widget.observe(lambda change: changed.update({change["name"]: change["new"]}))
    step = widget.step
    widget._handle_custom_msg(content, [])
    assert widget.step == step + 1
    return changed


# Attention ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(text=st.text(LETTERS, min_size=1, max_size=32))
def test_weights_are_those_of_a_recording(tokenizer, text):
    model = gpt(tokenizer, window=5, n_kv_head=2)
    viewer = AttentionViewer(model, tokenizer, text)
    model.eval()
    with record(model) as run:
        model(torch.tensor([tokenizer.encode(text)]))
    T = len(text)
    assert (viewer.layers, viewer.heads, viewer.ids) == (2, 4, tokenizer.encode(text))
    sent = np.frombuffer(viewer.weights, dtype=np.float32).reshape(2, 4, T * (T + 1) // 2)
    rows, columns = np.tril_indices(T)
    for layer in range(2):
        expected = run[f"blocks.{layer}.attention.weights"][0].numpy()
        np.testing.assert_allclose(sent[layer][:, :], expected[:, rows, columns], atol=1e-6)


def test_large_payloads_are_halved(tokenizer):
    model = gpt(tokenizer, n_positions=128, n_layer=16, n_head=16)
    viewer = AttentionViewer(model, tokenizer, "abcdefgh" * 16)
    assert viewer.dtype == "float16"
    assert len(viewer.weights) == 2 * 16 * 16 * 128 * 129 // 2
    first = np.frombuffer(viewer.weights, dtype=np.float16)[:1]
    assert first == 1  # the first token sees only itself


def test_the_model_keeps_its_mode_and_is_seen_without_dropout(tokenizer):
    model = gpt(tokenizer).train()
    first, second = (AttentionViewer(model, tokenizer, "abc abc").weights for _ in range(2))
    assert first == second
    assert SamplingLab(model, tokenizer, "abc").logits == SamplingLab(model, tokenizer, "abc").logits
    assert model.training


def test_a_new_text_brings_new_weights_and_a_bad_one_a_sentence(tokenizer):
    viewer = AttentionViewer(gpt(tokenizer), tokenizer, "abc")
    changed = request(viewer, text="abcd")
    assert changed["tokens"] == ["a", "b", "c", "d"]
    assert len(changed["weights"]) == 4 * 2 * 4 * 10

    kept = viewer.weights
    assert "33 tokens and the model sees at most 32" in request(viewer, text="a" * 33)["problem"]
    assert "empty" in request(viewer, text="")["problem"]
    assert "É" in request(viewer, text="É")["problem"]
    assert viewer.weights == kept
    assert request(viewer, text="ab")["problem"] == ""


def test_an_unforeseen_failure_is_told_in_the_view(tokenizer):
    lab = SamplingLab(gpt(tokenizer), tokenizer, "abc")
    assert "KeyError" in request(AttentionViewer(gpt(tokenizer), tokenizer, "abc"), nothing=1)["problem"]
    assert "append, undo or reset" in request(lab, nothing=1)["problem"]


def test_more_tokens_than_the_view_shows_are_refused(tokenizer):
    model = gpt(tokenizer, n_positions=2 * MAX_TOKENS)
    with pytest.raises(ValueError, match=rf"{MAX_TOKENS + 1} tokens and the view shows at most {MAX_TOKENS}"):
        AttentionViewer(model, tokenizer, "a" * (MAX_TOKENS + 1))


@pytest.mark.parametrize("view", [AttentionViewer, SamplingLab])
def test_what_cannot_be_shown_is_refused_in_a_sentence(view, tokenizer):
    with pytest.raises(ValueError, match="text is empty"):
        view(gpt(tokenizer), tokenizer, "")
    with pytest.raises(ValueError, match="tokenizer=None"):
        view(gpt(tokenizer), None, "abc")
    with pytest.raises(ValueError, match="outside"):
        view(gpt(tokenizer, vocab_size=3), tokenizer, "xyz")


# Sampling ----------------------------------------------------------------------------------------------


def test_appending_taking_back_and_starting_over(tokenizer):
    model = gpt(tokenizer)
    lab = SamplingLab(model, tokenizer, "abc")
    at_first = lab.logits
    changed = request(lab, append=tokenizer.encode("d")[0])
    assert changed["pieces"] == ["a", "b", "c", "d"]
    assert changed["logits"] == SamplingLab(model, tokenizer, "abcd").logits
    assert lab.continuation == "d"
    request(lab, append=tokenizer.encode("e")[0])
    request(lab, undo=1)
    assert lab.continuation == "d"
    request(lab, reset=1)
    assert (lab.continuation, lab.logits) == ("", at_first)
    request(lab, undo=1)
    assert lab.pieces == ["a", "b", "c"]  # the prompt cannot be taken back
    assert "outside" in request(lab, append=tokenizer.vocab_size)["problem"]
    assert lab.pieces == ["a", "b", "c"]


def test_a_tree_grows_where_it_is_asked_to(tokenizer):
    model = gpt(tokenizer)
    lab = SamplingLab(model, tokenizer, "abc")
    grown = request(lab, grow=[[]], branches=2, settings={"temperature": 0.7, "repetition_penalty": 1.5})["tree"]
    ids = torch.tensor([tokenizer.encode("abc")])
    with torch.inference_mode():
        logits = penalise_repetition(model.eval()(ids)[0][:, -1], ids, 1.5)
    expected = next_token_probabilities(logits, temperature=0.7)[0].topk(2)
    assert [node["path"] for node in grown] == [[i] for i in expected.indices.tolist()]
    np.testing.assert_allclose([node["p"] for node in grown], expected.values.numpy(), atol=1e-6)
    first = grown[0]["path"]
    again = request(lab, grow=[[], first], branches=3)["tree"]  # below the text's end it is grown already
    assert again[:2] == grown
    assert [node["path"][:-1] for node in again[2:]] == [first] * 3
    assert "branches=9 is outside" in request(lab, grow=[[]], branches=9)["problem"]
    assert "temperature=-1" in request(lab, grow=[[]], settings={"temperature": -1})["problem"]
    assert "at most 120" in request(lab, grow=[[i] for i in range(28)] * 2, branches=8)["problem"]
    assert lab.tree == again
    assert request(lab, append=first)["tree"] == []
    assert lab.pieces == [*"abc", tokenizer.tokens(first)[0]]
    greedy = request(lab, grow=[[]], branches=4, settings={"temperature": 0})["tree"]
    assert [node["p"] for node in greedy] == [1.0]


def test_the_text_is_continued_at_three_temperatures(tokenizer):
    model = gpt(tokenizer)
    lab = SamplingLab(model, tokenizer, "abc " * 10)  # longer than the model sees
    columns = request(lab, compare=1)["columns"]
    assert [column["temperature"] for column in columns] == [0.0, 0.7, 2.0]
    assert all(len(column["pieces"]) == len(column["p"]) == 24 for column in columns)
    assert all(0 < p < 1 for column in columns for p in column["p"])
    assert model.training
    greedy = generate(
        model.eval(), torch.tensor([tokenizer.encode(("abc " * 10)[-32:])]), 24, temperature=0, slide=True
    )
    assert columns[0]["pieces"] == tokenizer.tokens(greedy[0, -24:])
    assert request(lab, append=0)["columns"] == []


def test_logits_are_the_models_and_the_largest_have_names(tokenizer):
    model = gpt(tokenizer, vocab_size=60)  # more ids than the tokenizer uses
    lab = SamplingLab(model, tokenizer, "abc")
    model.eval()
    with torch.inference_mode():
        expected, _ = model(torch.tensor([tokenizer.encode("abc")]))
    np.testing.assert_allclose(np.frombuffer(lab.logits, dtype=np.float32), expected[0, -1].numpy(), atol=1e-6)
    seen = set(tokenizer.encode("abc"))
    order = expected[0, -1].argsort(descending=True, stable=True)[: 40 + len(seen)].tolist()
    assert set(lab.labels) == {str(i) for i in {*order, *seen}}
    assert set(lab.seen) == seen
    unused = [i for i in order if i >= tokenizer.vocab_size]
    assert unused
    assert all(lab.labels[str(i)] == f"id {i}" for i in unused)


def test_a_text_longer_than_the_model_sees_is_cut_and_said(tokenizer):
    model = gpt(tokenizer)
    lab = SamplingLab(model, tokenizer, "ab" * 20)
    assert lab.forgotten == 8
    assert lab.logits == SamplingLab(model, tokenizer, "ab" * 16).logits
    assert len(request(lab, append=0)["pieces"]) == 41
    assert lab.forgotten == 9


def test_a_tokenizer_with_an_end_of_text_token_begins_an_empty_text():
    tokenizer = BPETokenizer.train("low lower lowest", 260)
    lab = SamplingLab(gpt(tokenizer), tokenizer, "")
    assert lab.pieces == ["<|endoftext|>"]
    assert lab.prompt == 1


def test_damaged_weights_are_named(tokenizer):
    model = gpt(tokenizer)
    model.lm_head.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="largest logit is nan"):
        SamplingLab(model, tokenizer, "abc")


# Where no script runs ----------------------------------------------------------------------------------------------


def views(tokenizer):
    model = gpt(tokenizer)
    return [AttentionViewer(model, tokenizer, "a <b>\nx"), SamplingLab(model, tokenizer, "abc")]


def test_a_view_comes_with_a_picture_and_a_sentence(tokenizer):
    for view in views(tokenizer):
        data, metadata = view._repr_mimebundle_()
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert picture.width > 300
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) > 8
        assert (colours[0] == 255).all()  # white around it, so that it reads on a dark page as well
        assert data["text/plain"].startswith(type(view).__name__)
        assert metadata["image/png"]["alt"]
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id


def test_the_picture_shows_what_the_view_shows_now(tokenizer):
    for view, content in zip(views(tokenizer), ({"text": "ab"}, {"append": 5}), strict=True):
        before, _ = view._repr_mimebundle_()
        request(view, **content)
        after, _ = view._repr_mimebundle_()
        assert before["image/png"] != after["image/png"]
        assert before["text/plain"] != after["text/plain"]
        for parameter in view._model.parameters():
            parameter.data.mul_(3)  # trained on: what the view shows is what the model was
        assert view._repr_mimebundle_()[0] == after


@pytest.mark.parametrize("version", ["7.7.1", ipywidgets.__version__])
def test_ipywidgets_of_either_kind_displays_the_picture(monkeypatch, version):
    # ipywidgets 7 displays by `_ipython_display_`, 8 by `_repr_mimebundle_`: settled on import.
    monkeypatch.setattr(ipywidgets, "__version__", version)
    spec = importlib.util.spec_from_file_location("base_again", base_module.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "base_again", module)
    spec.loader.exec_module(module)

    class Shown(module.View):
        _esm = "export default { render() {} }"

        def _picture(self):
            from gptlib.plots import plot_next_tokens

            return plot_next_tokens([0.6, 0.4], ["a", "b"], title="Two")

        def _sentence(self):
            return "Shown: two"

    if version.startswith("7"):
        Shown._handle_displayed = lambda self, **arguments: None
    shell = InteractiveShell.instance()
    view = Shown()
    with capture_output() as captured:
        data, _ = shell.display_formatter.format(view)
    published = captured.outputs[0].data if version.startswith("7") else data
    assert {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(published)
    assert len(captured.outputs) == (1 if version.startswith("7") else 0)


# Modules ----------------------------------------------------------------------------------------------


PARTS = {"attention_data", "attention_panel", "base", "bertviz_keys", "charts", "exporting"}  # what views import
VIEWS = sorted(path.stem for path in STATIC.glob("*.js") if path.stem not in PARTS)


@pytest.mark.parametrize("name", VIEWS)
def test_a_module_stands_alone_and_asks_for_nothing_from_elsewhere(name):
    source = view_module(name)
    assert not re.search(r"^import ", source, flags=re.MULTILINE)
    assert "export function mount(element, state)" in source
    assert "export default adapter(mount, [" in source
    assert "innerHTML" not in source
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\b)", source + view_style())  # a name, not an address
    declared = re.findall(r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)", source, flags=re.MULTILINE)
    assert len(declared) == len(set(declared))


def test_a_module_without_its_base_is_refused(monkeypatch, tmp_path):
    (tmp_path / "lonely.js").write_text("export function mount() {}")
    monkeypatch.setattr(base_module, "STATIC", tmp_path)
    with pytest.raises(ValueError, match="imports nothing from base"):
        view_module("lonely")
