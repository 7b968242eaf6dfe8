"""The kernel's side of the attention viewer: scores, marks, a second text, silenced heads."""

import math

import numpy as np
import pytest
import torch

from gptlib import GPT, CharTokenizer, GPTConfig, load_model, tales
from gptlib.interpret import PATTERNS, ablate_heads, attention_maps, head_scores
from gptlib.plots import plot_attention_heads, plot_attention_pair
from gptlib.widgets import AttentionViewer

LETTERS = "abcdefghijklmnopqrstuvwxyz <>.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(LETTERS)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.vocab_size, 32, 16, n_layer=3, n_head=4, n_kv_head=2, window=9, position="rotary"))
    for parameter in model.parameters():
        parameter.data.mul_(5)
    return model.eval()


@pytest.fixture(scope="module")
def story():
    return tales.split("test", 1)[0]


def ask(viewer, **changes):
    request = {"text": viewer.text, "other": viewer.other_text, "silenced": viewer.silenced, **changes}
    viewer._handle_custom_msg(request, [])
    return viewer


def maps_of(viewer, name="weights", ids=None):
    T = len(ids or viewer.ids)
    rows, columns = np.tril_indices(T)
    sent = np.frombuffer(getattr(viewer, name), dtype=viewer.dtype)
    maps = np.zeros((viewer.layers, viewer.heads, T, T), dtype=np.float32)
    maps[:, :, rows, columns] = sent.reshape(viewer.layers, viewer.heads, -1)
    return maps


def test_scores_are_those_of_interpret(model, tokenizer):
    viewer = AttentionViewer(model, tokenizer, "the cat sat on the mat")
    expected = head_scores(model, torch.tensor([viewer.ids]))
    sent = np.frombuffer(viewer.scores, dtype=np.float32).reshape(3, 4, 7)
    np.testing.assert_allclose(sent[..., 0], expected.entropy, rtol=1e-5)
    np.testing.assert_allclose(sent[..., 1], expected.distance, rtol=1e-5)
    for i, name in enumerate(PATTERNS):
        np.testing.assert_allclose(sent[..., 2 + i], expected.patterns[name], rtol=1e-5, atol=1e-7)
        assert viewer.chance[2 + i] == pytest.approx(expected.chance[name])
    assert viewer.chance[:2] == pytest.approx([expected.chance["entropy"], expected.chance["distance"]])
    assert viewer.labels == [list(expected.label(n, h)[:2]) for n in range(3) for h in range(4)]


def test_where_nothing_repeats_there_is_nothing_to_score(model, tokenizer):
    assert AttentionViewer(model, tokenizer, "abc").chance[5:] == [None, None]
    alone = AttentionViewer(model, tokenizer, "a")
    assert alone.chance == [None] * 7
    assert {name for name, _ in alone.labels} == {"mixed"}
    assert not np.isnan(np.frombuffer(alone.scores, dtype=np.float32)).any()
    assert alone._repr_mimebundle_()[0]["image/png"]


def test_a_second_text_comes_with_its_own_weights(model, tokenizer):
    viewer = AttentionViewer(model, tokenizer, "the cat sat", other="the dog ran home")
    assert "".join(viewer.other_tokens) == "the dog ran home"
    np.testing.assert_allclose(
        maps_of(viewer, "other_weights", viewer.other_ids),
        attention_maps(model, torch.tensor([viewer.other_ids]))[:, 0],
        atol=1e-6,
    )
    assert set(viewer.next_tokens) == {"tokens", "whole", "now", "other"}
    ask(viewer, other="")
    assert (viewer.other_weights, viewer.other_tokens, "other" in viewer.next_tokens) == (b"", [], False)
    kept = viewer.weights
    assert "33 tokens and the model sees at most 32" in ask(viewer, other="a" * 33).problem
    assert (viewer.weights, viewer.other_text) == (kept, "")


def test_a_silenced_head_changes_what_comes_after_it_and_the_next_token(model, tokenizer):
    viewer = AttentionViewer(model, tokenizer, "the cat sat")
    before, whole = maps_of(viewer), viewer.next_tokens
    assert whole["whole"] == whole["now"]
    ask(viewer, silenced=[[1, 2]])
    after = maps_of(viewer)
    ids = torch.tensor([viewer.ids])
    with ablate_heads(model, [(1, 2)]), torch.no_grad():
        logits, _ = model(ids)
        expected = attention_maps(model, ids)[:, 0]
    np.testing.assert_allclose(after, expected, atol=1e-6)
    np.testing.assert_array_equal(after[:2], before[:2])
    assert np.abs(after[2] - before[2]).max() > 1e-3
    p = logits[0, -1].softmax(-1)
    tokens = [tokenizer.encode(token)[0] for token in viewer.next_tokens["tokens"]]
    np.testing.assert_allclose(viewer.next_tokens["now"], p[tokens], atol=1e-6)
    assert viewer.next_tokens["now"] != viewer.next_tokens["whole"]
    assert p.argmax() in tokens
    assert viewer.silenced == [[1, 2]]
    ask(viewer, silenced=[])
    np.testing.assert_array_equal(maps_of(viewer), before)
    assert viewer.next_tokens == whole
    assert not model.noted


def test_a_head_that_is_not_there_is_refused(model, tokenizer):
    viewer = AttentionViewer(model, tokenizer, "abc")
    assert "layer 3 does not exist; use 0 to 2" in ask(viewer, silenced=[[3, 0]]).problem
    assert viewer.silenced == []
    assert ask(viewer, silenced=[[2, 0]]).problem == ""


def test_marks_of_a_story_are_its_words(story):
    model, tokenizer = load_model("tales")
    viewer = AttentionViewer(model, tokenizer, story)
    assert viewer.text == story.text
    with_source = [mark for mark in story.marks if mark.antecedent]
    assert [kind for kind, *_ in viewer.marks] == [mark.kind for mark in with_source]
    for (_, start, end, first, last), mark in zip(viewer.marks, with_source, strict=True):
        assert mark.text in "".join(viewer.tokens[start:end])
        assert story.text[slice(*mark.antecedent)] in "".join(viewer.tokens[first:last])
        assert len("".join(viewer.tokens[start:end])) <= len(mark.text) + 2
    assert AttentionViewer(model, tokenizer, story.text).marks == []


def test_marks_after_an_edit_are_those_that_still_hold(story):
    model, tokenizer = load_model("tales")
    viewer = AttentionViewer(model, tokenizer, story)
    marks = viewer.marks
    cut = story.marks[len(story.marks) // 2].start
    ask(viewer, text=story.text[:cut] + "nothing at all.")
    assert 0 < len(viewer.marks) < len(marks)
    assert viewer.marks == marks[: len(viewer.marks)]
    other = tales.split("test", 2)[1]
    ask(viewer, text=other.text)  # another whole story has marks of its own
    assert [kind for kind, *_ in viewer.marks] == [mark.kind for mark in other.marks if mark.antecedent]


def test_the_picture_names_clear_patterns():
    tokenizer = CharTokenizer.train("abcdefgh")
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=16, n_layer=2, n_head=1))
    with torch.no_grad():  # a head that knows positions only, and looks from each at itself
        model.token_embedding.weight.zero_()
        model.position_embedding.weight.copy_(10 * torch.eye(16))
        model.blocks[1].attention.qkv.weight[:32] = torch.cat([10 * torch.eye(16), torch.eye(16)])
        model.blocks[0].attention.qkv.weight.zero_()
    viewer = AttentionViewer(model, tokenizer, "abcdefgh")
    assert [name for name, _ in viewer.labels] == ["mixed", "self"]
    assert "self in layer 1, head 0" in viewer._repr_mimebundle_()[1]["image/png"]["alt"]


def test_all_of_smollms_size_is_one_message_of_a_few_megabytes(tokenizer):
    model = GPT(GPTConfig(tokenizer.vocab_size, 128, 18, n_layer=30, n_head=9, n_kv_head=3))
    viewer = AttentionViewer(model, tokenizer, ("the cat sat on the mat " * 6)[:128])
    assert (viewer.layers, viewer.heads, len(viewer.ids)) == (30, 9, 128)
    state = viewer.get_state()
    binary = sum(len(value) for value in state.values() if isinstance(value, bytes))
    assert binary == 2 * 30 * 9 * 128 * 129 // 2 + 4 * 30 * 9 * 7
    rest = sum(len(str(value)) for name, value in state.items() if not isinstance(value, bytes) and name[0] != "_")
    assert rest < 100_000
    assert math.isclose(np.frombuffer(viewer.weights, dtype=np.float16)[0], 1)


def test_labels_of_the_picture_must_be_one_a_head():
    with pytest.raises(ValueError, match="3 labels for 2 layers of 2 heads; give 4"):
        plot_attention_heads(np.ones((2, 2, 1, 1)), title="Too few", labels=["self"] * 3)
    figure = plot_attention_heads(np.ones((2, 2, 1, 1)), title="One", labels=["mixed", "mixed", "self", "mixed"])
    assert "Clear patterns: self in layer 1, head 0." in figure.alt
    assert [text.get_text() for text in figure.axes[0].texts] == ["self"]


def test_the_picture_shows_both_texts_and_their_difference(model, tokenizer):
    viewer = AttentionViewer(model, tokenizer, "the cat sat", other="the dog sat on it")
    data, metadata = viewer._repr_mimebundle_()
    assert "on 11 tokens, 'the cat sat'; and on 17, 'the dog sat on it'" in data["text/plain"]
    first, second = maps_of(viewer), maps_of(viewer, "other_weights", viewer.other_ids)
    change = second[:, :, :11, :11] - first
    layer, head, q, k = np.unravel_index(np.abs(change[:, :, 4:]).argmax(), change[:, :, 4:].shape)
    told = f"{change[layer, head, q + 4, k]:+.2f}, in layer {layer}, head {head}, from token {q + 4} to token {k}."
    assert metadata["image/png"]["alt"].endswith(told)
    ask(viewer, other="")
    assert viewer._repr_mimebundle_()[0]["image/png"] != data["image/png"]
    ask(viewer, other="the cat sat on")  # the first text is its beginning: no row differs
    assert "both begin with the same tokens" in viewer._repr_mimebundle_()[1]["image/png"]["alt"]
    assert viewer._repr_mimebundle_()[0]["image/png"]


def test_a_pair_is_of_one_model():
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\) layers and heads"):
        plot_attention_pair(np.ones((2, 2, 1, 1)), np.ones((2, 3, 1, 1)), title="Two models")
    figure = plot_attention_pair(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.5), title="Half")
    assert "the largest change is -0.50, in layer 0, head 0, from token 0 to token 0" in figure.alt


def test_marks_stay_with_their_words_behind_an_end_mark(story):
    model, tokenizer = load_model("tales")
    viewer = AttentionViewer(model, tokenizer, story)
    marks = viewer.marks
    ask(viewer, text="<|endoftext|>" + story.text)
    assert viewer.tokens[:2] == ["<|endoftext|>", tokenizer.tokens(tokenizer.encode(story.text))[0]]
    assert viewer.marks == [[kind, *(place + 1 for place in places)] for kind, *places in marks]


def test_a_small_picture_keeps_a_column_one_token_wide():
    weights = np.zeros((2, 9, 128, 128))
    weights[..., 3] = 1.0  # all look at the token at 3 ...
    weights[:, :, :3] = np.eye(128)[:3]  # ... once it is there
    [image] = plot_attention_heads(weights, title="A sink").axes[0].images
    shown = np.asarray(image.get_array())
    n = shown.shape[0] // 2
    assert n < 64
    assert np.nanmin(shown[4:n, 1]) == 1
    change = plot_attention_pair(weights, np.roll(weights, 40, -1), title="Moved", same=4).axes[2].images[0]
    drawn = np.ma.filled(change.get_array(), 0.0)
    assert (drawn.min(), drawn.max()) == (-1, 1)
