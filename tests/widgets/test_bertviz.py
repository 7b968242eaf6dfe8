"""BertViz's views: what they hold, how large they may be, and that tokens stay text."""

import base64
import gzip
import html
import importlib.util
import json
import re
import sys

import pytest
import torch

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig
from gptlib.interpret import attention_maps
from gptlib.widgets import bertviz as room
from gptlib.widgets import bertviz_view

LETTERS = "abcdefghijklmnopqrstuvwxyz </>\"'&=1\n"
NASTY = 'a</script><img src=x onerror="hacked=1">\n'


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(LETTERS)


def gpt(tokenizer, n_layer=2, n_head=4, n_positions=512, **changes):
    torch.manual_seed(0)
    shape = {"vocab_size": tokenizer.vocab_size, "n_embd": 4 * n_head, "n_layer": n_layer, "n_head": n_head}
    return GPT(GPTConfig(n_positions=n_positions, dropout=0.2, **shape, **changes))


def scripts(view):
    """The scripts inside the frame."""
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', view.html)[1])
    return json.loads(gzip.decompress(base64.b64decode(re.search(r'id="scripts">([^<]*)<', page)[1])))


def params(view):
    """What BertViz's own script was given."""
    text = scripts(view)[3]
    return json.loads(re.search(r"(?:const params|window.bertviz_params) = (\{.*?\})(?:;|$| *\n)", text)[1])


def transformers_gpt2(**changes):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"vocab_size": 300, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**shape, **changes))


@pytest.mark.parametrize("kind", ["head", "model"])
def test_the_weights_are_the_models(tokenizer, kind):
    model = gpt(tokenizer).train()
    view = bertviz_view(model, tokenizer, "the cat\n", kind)
    data = params(view)["attention"][0]
    expected = attention_maps(model, torch.tensor([tokenizer.encode("the cat\n")]))[:, 0]
    torch.testing.assert_close(torch.tensor(data["attn"]), expected, atol=6e-5, rtol=0)
    assert data["left_text"] == data["right_text"] == ["t", "h", "e", "␣", "c", "a", "t", "⏎"]
    assert model.training
    assert view.html == bertviz_view(model, tokenizer, "the cat\n", kind).html  # no random name in it


def test_the_neuron_view_has_queries_and_keys_that_make_its_weights(tokenizer):
    model = gpt(tokenizer, n_kv_head=2, position="rotary")
    data = params(bertviz_view(model, tokenizer, "the cat", "neuron"))["attention"]["all"]
    q, k, w = (torch.tensor(data[name]) for name in ("queries", "keys", "attn"))
    assert q.shape == k.shape == (2, 4, 7, 4)
    scores = q @ k.transpose(-1, -2) / 2 + torch.full((7, 7), -torch.inf).triu(1)
    torch.testing.assert_close(scores.softmax(-1), w, atol=1e-3, rtol=0)


def test_a_transformers_model_is_read_and_left_as_it_was():
    tokenizer = BPETokenizer.train("low lower lowest newest widest", 270)
    model = transformers_gpt2().train()
    before = model.config._attn_implementation
    assert before != "eager"
    view = bertviz_view(model, tokenizer, "lower")
    assert (model.config._attn_implementation, model.training) == (before, True)
    model.set_attn_implementation("eager")
    ids = torch.tensor([tokenizer.encode("lower")])
    expected = torch.stack([layer[0] for layer in model.eval()(ids, output_attentions=True).attentions])
    torch.testing.assert_close(torch.tensor(params(view)["attention"][0]["attn"]), expected, atol=6e-5, rtol=0)
    with pytest.raises(ValueError, match="load the model by load_model"):
        bertviz_view(model, tokenizer, "lower", "neuron")


def test_the_payload_is_capped_and_said(tokenizer):
    view = bertviz_view(gpt(tokenizer, n_layer=12, n_head=12), tokenizer, "abcdefgh" * 20)
    assert "on the first 64 of 160 tokens" in view.sentence
    assert len(view.html) < 3_000_000
    assert view._repr_mimebundle_()["text/plain"].startswith(view.sentence)
    assert "12 tokens" in bertviz_view(gpt(tokenizer), tokenizer, "abcdefghijkl").sentence
    assert "first 5 of 12" in bertviz_view(gpt(tokenizer), tokenizer, "abcdefghijkl", max_tokens=5).sentence
    assert "first 128 of 400" in bertviz_view(gpt(tokenizer), tokenizer, "a" * 400).sentence


@pytest.mark.parametrize("kind", ["head", "model", "neuron"])
def test_a_picture_and_a_table_say_the_same(tokenizer, kind):
    model = gpt(tokenizer)
    view = bertviz_view(model, tokenizer, "<i>the cat", kind)
    rows = [
        [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", row)]
        for row in re.findall("<tr>(.*?)</tr>", view.html.split("<table>")[1])
    ][1:]
    assert [row[:2] for row in rows] == [[str(layer), str(head)] for layer in range(2) for head in range(4)]
    maps = attention_maps(model, torch.tensor([tokenizer.encode("<i>the cat")]))[:, 0]
    for layer, head, pattern, link in rows:
        weights = maps[int(layer), int(head)]
        q, k, weight = re.fullmatch(r". at (\d+) looks at . at (\d+): ([\d.]+)", link).groups()
        assert float(weight) == pytest.approx(weights[1:].max().item(), abs=0.0051)
        assert weights[int(q), int(k)] == pytest.approx(float(weight), abs=0.0051)
        assert re.fullmatch(r"mixed|\w+ [01]\.\d\d", pattern)
    assert "2 layers of 4 heads on 10 tokens" in view.picture.alt
    assert view.picture.alt in view._repr_mimebundle_()["text/plain"]
    assert re.search(r'<img class="gl-bertviz" alt="[^"]{40,}" src="data:image/png;base64,', view.html)
    assert "<i>" not in view.html
    alone = bertviz_view(model, tokenizer, "a", kind).html
    assert "a at 0 looks at a at 0: 1.00" in alone


def test_nothing_comes_from_elsewhere_and_no_token_ends_a_script(tokenizer):
    for kind in ("head", "model", "neuron"):
        view = bertviz_view(gpt(tokenizer), tokenizer, NASTY, kind)
        page = html.unescape(re.search(r'srcdoc="([^"]*)"', view.html)[1])
        assert "http" not in page
        assert "onerror" not in page
        assert page.count("</script>") == 2
        assert 'sandbox="allow-scripts"' in view.html


def test_what_cannot_be_shown_is_said_in_a_sentence(tokenizer, monkeypatch):
    model = gpt(tokenizer)
    for arguments, sentence in [
        ((model, tokenizer, ""), "text is empty"),
        ((model, None, "a"), "tokenizer=None"),
        ((model, tokenizer, "a", "tree"), "one of head, model, neuron"),
        ((torch.nn.Linear(2, 2), tokenizer, "a"), "Linear is neither"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            bertviz_view(*arguments)
    with pytest.raises(ValueError, match="max_tokens=0"):
        bertviz_view(model, tokenizer, "a", max_tokens=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install bertviz"):
        bertviz_view(model, tokenizer, "a")


def test_the_bundled_scripts_are_those_of_the_packages(monkeypatch, tmp_path):
    import vendor

    assert vendor.differences() == []
    assert (room.VENDOR / "README.md").read_text(encoding="utf-8") == vendor.readme()
    (tmp_path / "d3.min.js").write_text("changed")
    (tmp_path / "more.js").write_text("")
    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    wrong = vendor.differences()
    assert "d3.min.js was changed; run python source/vendor.py" in wrong
    assert "more.js belongs to no package" in wrong
    assert "jquery.min.js is missing; run python source/vendor.py" in wrong


def test_bertviz_is_not_imported_before_it_is_needed():
    assert "bertviz" not in vars(sys.modules["gptlib.widgets.bertviz"])
