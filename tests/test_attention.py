import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gptlib import CausalSelfAttention, GPTConfig, causal_mask, record, scaled_dot_product_attention
from gptlib.attention import (
    _trains_in_bf16_on_cpu,
    attention_scores,
    attention_weights,
    merge_heads,
    split_heads,
)
from gptlib.positions import alibi_slopes


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


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    T=st.integers(1, 6),
    S=st.integers(1, 7),
    D=st.integers(1, 9),
    E=st.integers(1, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_any_mask_that_is_added_gives_the_kernels_numbers_and_gradients(lead, T, S, D, E, share, seed) -> None:
    mask = normal(*lead, T, S, seed=seed)
    forbidden = torch.rand(*lead, T, S, generator=torch.Generator().manual_seed(seed)) < share
    forbidden[..., 0] = False  # each query keeps something to look at
    mask = mask.masked_fill(forbidden, -math.inf)
    results = []
    for fused in (False, True):
        sizes = ((T, D), (S, D), (S, E))
        q, k, v = (normal(*lead, *size, seed=seed + i).requires_grad_() for i, size in enumerate(sizes))
        form = F.scaled_dot_product_attention if fused else scaled_dot_product_attention
        output = form(q, k, v, mask) if fused else form(q, k, v, mask)[0]
        output.backward(normal(*output.shape, seed=seed + 3))
        results.append((output, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = scaled_dot_product_attention(q, k, v, mask)[1]
    assert (weights[forbidden] == 0).all()


@settings(max_examples=20, deadline=None)
@given(T=st.integers(1, 6), S=st.integers(1, 7), D=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_in_bf16_the_plain_form_is_within_its_rounding(T, S, D, seed) -> None:
    rounded = [normal(2, n, D, seed=seed + i).bfloat16() for i, n in enumerate((T, S, S))]
    output, weights = scaled_dot_product_attention(*rounded)
    exact = scaled_dot_product_attention(*(x.double() for x in rounded))
    size = rounded[2].abs().max().item()
    # A score of a few units is off by some 2^-8 of it, which the softmax passes on; then weights and output are rounded
    torch.testing.assert_close(weights.double(), exact[1], atol=2**-6, rtol=2**-5)
    torch.testing.assert_close(output.double(), exact[0], atol=2**-4 * size, rtol=0)


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


@settings(max_examples=25, deadline=None)
@given(
    B=st.integers(1, 3),
    T=st.integers(1, 8),
    H=st.integers(1, 5),
    D=st.integers(1, 6),
    window=st.none() | st.integers(1, 9),
    position=st.sampled_from(["none", "alibi"]),
    plain=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_equals_torchs_multihead_attention_forwards_and_backwards(B, T, H, D, window, position, plain, seed) -> None:
    torch.manual_seed(seed)
    ours = CausalSelfAttention(config(n_embd=H * D, n_head=H, window=window, position=position))
    theirs = nn.MultiheadAttention(H * D, H, batch_first=True)
    pairs = [
        (ours.qkv.weight, theirs.in_proj_weight),
        (ours.qkv.bias, theirs.in_proj_bias),
        (ours.project.weight, theirs.out_proj.weight),
        (ours.project.bias, theirs.out_proj.bias),
    ]
    for mine, other in pairs:
        nn.init.normal_(mine, std=0.5)
        other.data.copy_(mine.data)
    mask = causal_mask(T, window=window).expand(B, H, T, T)
    if position == "alibi":
        t = torch.arange(T)
        mask = mask - alibi_slopes(H)[:, None, None] * (t[:, None] - t).abs()
    x, x_too = (torch.randn(B, T, H * D).requires_grad_() for _ in range(2))
    x_too.data.copy_(x.data)
    expected, weights = theirs(x_too, x_too, x_too, attn_mask=mask.flatten(0, 1), average_attn_weights=False)
    with record(ours) if plain else nullcontext({"weights": weights}) as run:
        output = ours(x)
    towards = torch.randn_like(output)
    output.backward(towards)
    expected.backward(towards)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run["weights"], weights, atol=1e-5, rtol=1e-5)
    for mine, other in [*pairs, (x, x_too)]:
        size = max(1.0, other.grad.abs().max().item())  # fp32 has 24 bits of the largest that is added up
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-5 * size, rtol=1e-5)


@st.composite
def shapes(draw) -> tuple[GPTConfig, int, int, int]:
    """Any config that attention can have, with B, T and a number of fill positions for each row."""
    groups, shared, half = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    n_head = groups * shared
    changes = {
        "n_embd": n_head * 2 * half,
        "n_head": n_head,
        "n_kv_head": groups,
        "window": draw(st.none() | st.integers(1, 9)),
        "position": draw(st.sampled_from(["none", "rotary", "alibi"])),
        "qk_norm": draw(st.booleans()),
        "bias": draw(st.booleans()),
    }
    return config(**changes), draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(0, 7))


@settings(max_examples=60, deadline=None)
@given(shape=shapes(), dtype=st.sampled_from(["float32", "float64", "bfloat16"]), seed=st.integers(0, 2**32))
def test_plain_equals_fused_in_any_shape_forwards_and_backwards(shape, dtype, seed) -> None:
    (changes, B, T, fill), dtype = shape, getattr(torch, dtype)
    torch.manual_seed(seed)
    attention = CausalSelfAttention(changes).to(dtype)
    x = torch.randn(B, T, changes.n_embd, dtype=dtype)
    padding = (torch.arange(B) + fill).clamp(max=T - 1) if fill else None
    real = (torch.arange(T) >= (0 if padding is None else padding[:, None])).expand(B, T)
    towards = torch.randn(B, T, changes.n_embd, dtype=dtype) * real[..., None]
    results = []
    for plain in (False, True):
        x_too = x.clone().requires_grad_()
        attention.zero_grad()
        with record(attention) if plain else nullcontext():
            output = attention(x_too, padding=padding)
        assert output.dtype == dtype
        output.backward(towards)
        results.append([output[real], x_too.grad, attention.qkv.weight.grad, attention.project.weight.grad])
        assert (x_too.grad[~real] == 0).all()  # nobody looks at fill
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-9, torch.bfloat16: 2**-5}[dtype]
    for fused, plain in zip(*results, strict=True):
        size = max(1.0, fused.abs().max().item())
        torch.testing.assert_close(plain, fused, atol=tolerance * size, rtol=tolerance)


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**32), plain=st.booleans())
def test_no_shape_sees_the_future_by_perturbation_and_by_gradient(shape, seed, plain) -> None:
    changes, _, T, fill = shape
    torch.manual_seed(seed)
    attention = CausalSelfAttention(changes).double()
    padding = torch.tensor([min(fill, T - 1)]) if fill else None
    start = 0 if padding is None else int(padding)

    def one(x: torch.Tensor) -> torch.Tensor:
        with record(attention, gradients=True) if plain else nullcontext():
            return attention(x[None], padding=padding)[0]  # (T, C)

    x = torch.randn(T, changes.n_embd, dtype=torch.float64)
    influence = torch.autograd.functional.jacobian(one, x).abs().amax(dim=(1, 3))  # (T, T): of place s on place t
    allowed = causal_mask(T, window=changes.window) == 0
    allowed[:, :start] = False
    assert (influence[start:][~allowed[start:]] == 0).all()
    assert (influence[start:][allowed[start:]] > 0).all()
    for t in range(start + 1, T):
        other = x.clone()
        other[t:] += torch.randn(T - t, changes.n_embd)
        other[:start] = 7.0  # fill of another kind
        assert torch.equal(one(other)[start:t], one(x)[start:t])


@pytest.mark.parametrize("position", ["none", "rotary", "alibi"])
def test_gradients_are_those_of_finite_differences(position) -> None:
    torch.manual_seed(0)
    attention = CausalSelfAttention(config(position=position, n_kv_head=2, window=3, qk_norm=True)).double()
    x = normal(2, 5, 24, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(attention, x)
    assert torch.autograd.gradcheck(lambda x: attention(x, padding=torch.tensor([0, 2]))[:, 2:], x)


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


@pytest.mark.parametrize("changes", [{}, {"n_kv_head": 2}, {"window": 7}, {"position": "rotary", "qk_norm": True}])
def test_the_dense_form_of_bf16_training_is_as_near_to_fp32_as_pytorchs_kernel(monkeypatch, changes) -> None:
    shape = config(n_positions=96, n_embd=96, **changes)
    torch.manual_seed(0)
    attention, x = CausalSelfAttention(shape), normal(3, 96, 96, seed=1)
    taken = []
    dense = CausalSelfAttention._dense
    monkeypatch.setattr(CausalSelfAttention, "_dense", lambda *a: taken.append(1) or dense(*a))

    def output_and_gradients(bf16: bool) -> list[torch.Tensor]:
        attention.zero_grad()
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = attention(inputs)
        output.float().square().mean().backward()
        return [output.detach().float(), inputs.grad, attention.qkv.weight.grad.clone()]

    exact, ours = output_and_gradients(False), output_and_gradients(True)
    assert taken == [1]  # only in bf16
    monkeypatch.setattr("gptlib.attention._trains_in_bf16_on_cpu", lambda q: False)
    fused = output_and_gradients(True)
    assert taken == [1]
    for truth, mine, theirs in zip(exact, ours, fused, strict=True):
        assert (mine - truth).norm() <= 1.5 * (theirs - truth).norm()


def test_the_dense_form_sees_no_future_and_is_left_where_texts_are_long_or_nothing_is_learned() -> None:
    attention = CausalSelfAttention(config(n_positions=600))
    x = normal(1, 20, 24).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        attention(x)[0, 11].float().sum().backward()
    assert (x.grad[0, 12:] == 0).all()
    assert (x.grad[0, :12] != 0).any(dim=-1).all()
    q = normal(1, 2, 513, 4, dtype=torch.float32).bfloat16()
    assert not _trains_in_bf16_on_cpu(q.requires_grad_())
    assert _trains_in_bf16_on_cpu(q.detach()[:, :, :512].requires_grad_())
    assert not _trains_in_bf16_on_cpu(q.detach()[:, :, :512])
