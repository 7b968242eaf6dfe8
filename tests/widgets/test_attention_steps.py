"""The kernel's side of attention step by step: whose vectors are sent, how it answers, what it refuses."""

import numpy as np
import pytest
import torch

from gptlib import GPT, CharTokenizer, GPTConfig, record, scaled_dot_product_attention
from gptlib.widgets import AttentionSteps

LETTERS = "abcdefghijklmnopqrstuvwxyz "


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train(LETTERS)


def gpt(tokenizer, **changes):
    torch.manual_seed(0)
    shape = {"n_positions": 80, "n_embd": 24, "n_layer": 2, "n_head": 6, "dropout": 0.3}
    return GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **{**shape, **changes}))


@pytest.mark.parametrize(
    "changes", [{}, {"window": 3}, {"position": "alibi"}, {"position": "rotary", "n_kv_head": 2, "qk_norm": True}]
)
def test_what_is_sent_gives_the_models_own_weights(tokenizer, changes):
    model = gpt(tokenizer, **changes)
    view = AttentionSteps(model, tokenizer, "the cat sat", layer=1, head=5)
    assert model.training
    q, k, v, mask = view._vectors()
    heads, weights = scaled_dot_product_attention(q, k, v, mask)
    with record(model.eval()) as run, torch.inference_mode():
        model(torch.tensor([tokenizer.encode("the cat sat")]))
    torch.testing.assert_close(weights, run["blocks.1.attention.weights"][0, 5], atol=1e-6, rtol=0)
    torch.testing.assert_close(heads, run["blocks.1.attention.heads"][0, 5], atol=1e-6, rtol=0)
    assert view.tokens == list("the cat sat")


def test_vectors_of_ones_own_with_fewer_queries_than_keys():
    q, k, v = torch.randn(2, 3, requires_grad=True), torch.randn(5, 3), torch.randn(5, 4, dtype=torch.float64)
    view = AttentionSteps(q, k, v)
    assert (view.T, view.width, view.out, view.tokens) == (2, 3, 4, ["0", "1", "2", "3", "4"])
    np.testing.assert_array_equal(np.frombuffer(view.q, dtype=np.float32), q.detach().numpy().ravel())
    assert np.isneginf(np.frombuffer(view.mask, dtype=np.float32)).tolist() == [False] * 4 + [True] + [False] * 5
    assert view._picture().alt.startswith("Attention step by step. Five maps")
    view._handle_custom_msg({"layer": 0, "head": 0, "text": "a"}, [])
    assert "not a model's head" in view.problem


def test_another_head_or_text_is_answered_and_a_bad_one_said(tokenizer):
    view = AttentionSteps(gpt(tokenizer), tokenizer, "the cat")
    view._handle_custom_msg({"layer": 1, "head": 2, "text": "a dog"}, [])
    assert (view.place["layer"], view.place["head"], view.tokens, view.step) == (1, 2, list("a dog"), 1)
    sent = view.q
    for request, words in [
        ({"layer": 2, "head": 0, "text": "a"}, "layer=2 is outside [0, 2)"),
        ({"layer": 0, "head": 0, "text": ""}, "empty"),
        ({"layer": 0, "head": 0, "text": "a" * 49}, "49 tokens and at most 48"),
    ]:
        view._handle_custom_msg(request, [])
        assert words in view.problem
    assert view.q == sent
    assert "layer 1, head 2" in view._sentence()
    assert "layer 1, head 2" in view._picture().alt


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 3)), "k must be"),
        ((torch.ones(3, 3), torch.ones(2, 3), torch.ones(2, 3)), "no more queries than keys"),
        ((torch.ones(1, 2, 3), torch.ones(2, 3), torch.ones(2, 3)), "one head"),
        ((torch.ones(49, 3), torch.ones(49, 3), torch.ones(49, 3)), "at most 48 positions"),
        ((torch.ones(2, 257), torch.ones(2, 257), torch.ones(2, 3)), "of 256 numbers"),
        ((torch.ones(2, 3), None, "text"), "Tensor, NoneType, str"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AttentionSteps(*arguments)


def test_masks_and_labels_that_do_not_fit_are_refused(tokenizer):
    two = torch.ones(2, 3)
    with pytest.raises(ValueError, match="does not fit"):
        AttentionSteps(two, two, two, mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="forbids every key"):
        AttentionSteps(two, two, two, mask=torch.full((2, 2), -torch.inf))
    with pytest.raises(ValueError, match="3 tokens for 2 keys"):
        AttentionSteps(two, two, two, tokens=["a", "b", "c"])
    with pytest.raises(ValueError, match="tokenizer=None"):
        AttentionSteps(gpt(tokenizer), None, "abc")
