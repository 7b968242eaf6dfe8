import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gptlib import CausalSelfAttention, GPTConfig, causal_mask, record, scaled_dot_product_attention
from gptlib.attention import attention_scores, attention_weights, merge_heads, split_heads


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def config(**changes) -> GPTConfig:
    return GPTConfig(**{"vocab_size": 23, "n_positions": 17, "n_embd": 24, "n_layer": 2, "n_head": 6, **changes})


# The mask


@settings(max_examples=60, deadline=None)
@given(n_queries=st.integers(1, 12), earlier=st.integers(0, 9), window=st.none() | st.integers(1, 15))
def test_mask_by_its_definition(n_queries, earlier, window) -> None:
    n_keys = n_queries + earlier
    mask = causal_mask(n_queries, n_keys, window=window)
    assert mask.shape == (n_queries, n_keys)
    for t in range(n_queries):
        here = t + earlier
        for s in range(n_keys):
            seen = s <= here and (window is None or here - s < window)
            assert mask[t, s].item() == (0.0 if seen else -math.inf)


def test_mask_defaults_dtype_and_device() -> None:
    assert torch.equal(causal_mask(4), causal_mask(4, 4))
    assert causal_mask(4).dtype == torch.float32
    assert causal_mask(2, 3, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert causal_mask(2, 3, device="meta").device.type == "meta"


def test_mask_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="5 queries and only 3 keys"):
        causal_mask(5, 3)
    with pytest.raises(ValueError, match=r"window=0 lets a position see nothing.*use 1 or more"):
        causal_mask(5, window=0)


# The plain form


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=3),
    T=st.integers(1, 6),
    S=st.integers(1, 7),
    D=st.integers(1, 9),
    E=st.integers(1, 8),
    masked=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_plain_form_equals_the_fused_kernel_on_any_shape(lead, T, S, D, E, masked, seed) -> None:
    q, k, v = normal(*lead, T, D, seed=seed), normal(*lead, S, D, seed=seed + 1), normal(*lead, S, E, seed=seed + 2)
    mask = normal(T, S, seed=seed + 3) if masked else None
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert output.shape == (*lead, T, E)
    assert weights.shape == (*lead, T, S)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, mask), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(*lead, T))
    assert (weights >= 0).all()


def test_forbidden_weights_are_exactly_zero_and_the_gradient_is_right() -> None:
    q, k, v = (normal(2, 3, 5, 4, seed=s, dtype=torch.float64).requires_grad_() for s in range(3))
    mask = causal_mask(5, dtype=torch.float64)
    weights = scaled_dot_product_attention(q, k, v, mask)[1]
    assert torch.equal(weights.triu(1), torch.zeros_like(weights))
    assert torch.autograd.gradcheck(lambda *qkv: scaled_dot_product_attention(*qkv, mask), (q, k, v))


def test_a_mask_may_have_the_leading_dimensions_of_q() -> None:
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 7, 4, seed=1), normal(2, 3, 7, 6, seed=2)
    mask = normal(2, 3, 5, 7, seed=3)
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v, mask)[0], F.scaled_dot_product_attention(q, k, v, mask)
    )
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v, mask[1])[0], F.scaled_dot_product_attention(q, k, v, mask[1])
    )


def test_scores_are_scaled_by_the_root_of_the_width() -> None:
    q, k = torch.ones(1, 1, 16), torch.ones(1, 1, 16)
    assert attention_scores(q, k).item() == 4.0
    assert attention_scores(q, k, torch.full((1, 1), 0.5)).item() == 4.5


def test_softmax_is_taken_in_fp32_or_wider() -> None:
    assert attention_weights(normal(3, 4).bfloat16()).dtype == torch.float32
    assert attention_weights(normal(3, 4).half()).dtype == torch.float32
    assert attention_weights(normal(3, 4).double()).dtype == torch.float64
    assert attention_weights(torch.tensor([500.0, 0.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept_and_inputs_are_not_changed(dtype) -> None:
    q, k, v = (normal(2, 3, 5, 4, seed=s).to(dtype) for s in range(3))
    kept = [x.clone() for x in (q, k, v)]
    mask = causal_mask(5, dtype=dtype)
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert output.dtype == weights.dtype == dtype
    assert all(torch.equal(x, old) for x, old in zip((q, k, v), kept, strict=True))
    assert torch.equal(mask, causal_mask(5, dtype=dtype))


SHAPES = [
    ([(5, 4), (7, 3), (7, 6)], None, r"queries and keys differ in their last dimension"),
    ([(5, 4), (7, 4), (6, 6)], None, r"every key needs its value"),
    ([(2, 5, 4), (1, 7, 4), (2, 7, 6)], None, r"leading dimensions differ"),
    ([(2, 5, 4), (7, 4), (7, 6)], None, r"leading dimensions differ"),
    ([(4,), (7, 4), (7, 6)], None, r"at least two dimensions"),
    ([(2, 5, 4), (2, 7, 4), (2, 7, 6)], (5, 1), r"mask \(5, 1\) does not fit scores of shape \(2, 5, 7\)"),
    ([(2, 5, 4), (2, 7, 4), (2, 7, 6)], (7, 5), r"mask \(7, 5\) does not fit"),
    ([(2, 5, 4), (2, 7, 4), (2, 7, 6)], (7,), r"mask \(7,\) does not fit"),
    ([(2, 5, 4), (2, 7, 4), (2, 7, 6)], (3, 2, 5, 7), r"mask \(3, 2, 5, 7\) does not fit"),
    ([(2, 5, 4), (2, 7, 4), (2, 7, 6)], (3, 5, 7), r"mask \(3, 5, 7\) does not fit"),
    ([(1, 5, 4), (1, 7, 4), (1, 7, 6)], (3, 5, 7), r"mask \(3, 5, 7\) does not fit"),
]


@pytest.mark.parametrize(("shapes", "mask", "sentence"), SHAPES)
def test_shapes_that_do_not_fit_are_refused(shapes, mask, sentence) -> None:
    q, k, v = (normal(*shape) for shape in shapes)
    with pytest.raises(ValueError, match=sentence):
        scaled_dot_product_attention(q, k, v, None if mask is None else normal(*mask))


def test_a_boolean_mask_is_refused_since_its_meaning_would_be_guessed() -> None:
    q = normal(5, 4)
    with pytest.raises(ValueError, match=r"the mask is boolean.*0 keeps a position, -inf forbids it"):
        scaled_dot_product_attention(q, q, q, torch.ones(5, 5, dtype=torch.bool))


# Heads


@settings(max_examples=30, deadline=None)
@given(B=st.integers(1, 3), T=st.integers(1, 5), H=st.integers(1, 6), D=st.integers(1, 7))
def test_merging_undoes_splitting(B, T, H, D) -> None:
    x = normal(B, T, H * D)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, D)
    for h in range(H):
        assert torch.equal(heads[:, h], x[..., h * D : (h + 1) * D])
    assert torch.equal(merge_heads(heads), x)


def test_equals_torchs_multihead_attention() -> None:
    torch.manual_seed(0)
    ours = CausalSelfAttention(config())
    theirs = nn.MultiheadAttention(24, 6, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.qkv.weight)
    theirs.in_proj_bias.data.copy_(ours.qkv.bias)
    theirs.out_proj.weight.data.copy_(ours.project.weight)
    theirs.out_proj.bias.data.copy_(ours.project.bias)
    x = normal(5, 7, 24)
    expected, weights = theirs(x, x, x, attn_mask=causal_mask(7), average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)
    with record(ours) as run:
        torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run["weights"], weights, atol=1e-5, rtol=1e-5)


def test_grouped_heads_share_keys_in_order() -> None:
    """Query heads 0 and 1 read key head 0, 2 and 3 read 1, 4 and 5 read 2: as if their weights were written twice."""
    torch.manual_seed(0)
    grouped, full = CausalSelfAttention(config(n_kv_head=3)), CausalSelfAttention(config())
    q, k, v = grouped.qkv.weight.data.split([24, 12, 12])
    k, v = (w.view(3, 4, 24).repeat_interleave(2, dim=0).reshape(24, 24) for w in (k, v))
    full.qkv.weight.data.copy_(torch.cat([q, k, v]))
    nn.init.normal_(grouped.qkv.bias)
    q, k, v = grouped.qkv.bias.data.split([24, 12, 12])
    k, v = (b.view(3, 4).repeat_interleave(2, dim=0).reshape(24) for b in (k, v))
    full.qkv.bias.data.copy_(torch.cat([q, k, v]))
    full.project.load_state_dict(grouped.project.state_dict())
    x = normal(5, 7, 24)
    torch.testing.assert_close(grouped(x), full(x))


def test_a_window_as_wide_as_the_text_is_none() -> None:
    torch.manual_seed(0)
    free, windowed = CausalSelfAttention(config()), CausalSelfAttention(config(window=7))
    windowed.load_state_dict(free.state_dict())
    x = normal(5, 7, 24)
    torch.testing.assert_close(windowed(x), free(x))
    narrow = CausalSelfAttention(config(window=6))
    narrow.load_state_dict(free.state_dict())
    same = (narrow(x) - free(x)).abs().amax(dim=(0, 2)) < 1e-6
    assert same.tolist() == [True] * 6 + [False]


def test_a_window_forbids_exactly_what_lies_before_it() -> None:
    torch.manual_seed(0)
    attention = CausalSelfAttention(config(window=3, position="rotary", n_kv_head=2)).double()
    x = normal(1, 7, 24, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: attention(x)[0], x)[:, :, 0].abs().amax(dim=(1, 3))
    seen = torch.ones(7, 7).tril() * torch.ones(7, 7).triu(-2)
    assert torch.equal((jacobian > 0).float(), seen)


def test_alibi_is_a_bias_on_the_scores() -> None:
    torch.manual_seed(0)
    plain, alibi = CausalSelfAttention(config(position="none")), CausalSelfAttention(config(position="alibi"))
    alibi.load_state_dict(plain.state_dict())
    x = normal(5, 7, 24)
    with record(plain) as without, record(alibi) as with_bias:
        plain(x), alibi(x)
    t = torch.arange(7.0)
    for h, slope in enumerate([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]):
        difference = (with_bias["scores"] - without["scores"])[:, h]
        expected = (-slope * (t[:, None] - t)).expand(5, 7, 7)
        torch.testing.assert_close(difference.tril(), expected.tril(), atol=1e-5, rtol=0)


def test_qk_norm_makes_the_length_of_queries_irrelevant() -> None:
    torch.manual_seed(0)
    attention = CausalSelfAttention(config(qk_norm=True, qkv_bias=False, norm_eps=1e-12))
    x = normal(5, 7, 24)
    before = attention(x)
    with torch.no_grad():
        attention.qkv.weight[:48] *= 100  # queries and keys, not values
    torch.testing.assert_close(attention(x), before, atol=1e-5, rtol=1e-5)


def test_dropout_is_on_weights_and_output_and_only_in_training() -> None:
    torch.manual_seed(0)
    attention = CausalSelfAttention(config(dropout=0.5))
    x = normal(5, 7, 24)
    assert not torch.equal(attention(x), attention(x))
    with record(attention):
        assert not torch.equal(attention(x), attention(x))
    attention.eval()
    once = attention(x)
    assert torch.equal(once, attention(x))
    with record(attention):
        torch.testing.assert_close(attention(x), once)
