import dataclasses
import json
import math

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from gptlib import Rotary, RotaryScaling, sinusoidal
from gptlib.positions import (
    SinusoidalPositions,
    alibi_bias,
    alibi_slopes,
    rotary_angles,
    rotary_frequencies,
    rotate,
)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_sinusoidal_table_by_the_papers_formula() -> None:
    table = sinusoidal(11, 6, base=100.0)
    assert table.shape == (11, 6)
    for t in range(11):
        for i in range(3):
            angle = t / 100.0 ** (2 * i / 6)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoidal_shift_is_the_same_rotation_everywhere() -> None:
    table = sinusoidal(60, 8).double()
    products = table @ table.T  # depends on the distance alone
    for distance in range(5):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)


def test_sinusoidal_positions_are_rows_of_the_table_and_nothing_to_save() -> None:
    part = SinusoidalPositions(9, 4)
    looked_up, table = part(torch.tensor([[3, 0], [8, 3]])), sinusoidal(9, 4)
    assert looked_up.shape == (2, 2, 4)
    assert torch.equal(looked_up.flatten(0, 1), torch.stack([table[3], table[0], table[8], table[3]]))
    assert part.state_dict() == {}
    assert list(part.parameters()) == []


def test_odd_widths_are_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"n_embd=5 is odd.*try 6"):
        sinusoidal(4, 5)
    with pytest.raises(ValueError, match=r"head of 5 dimensions.*even"):
        Rotary(4, 5)


@settings(max_examples=30, deadline=None)
@given(
    planes=st.integers(1, 8),
    base=st.sampled_from([100.0, 10_000.0, 500_000.0]),
    m=st.integers(0, 40),
    n=st.integers(0, 40),
    shift=st.integers(0, 500),
    seed=st.integers(0, 2**32),
)
def test_rotary_keeps_lengths_and_knows_distances_only(planes, base, m, n, shift, seed) -> None:
    D = 2 * planes
    rotary = Rotary(600, D, base=base)
    q, k = normal(3, 1, D, seed=seed), normal(3, 1, D, seed=seed + 1)
    torch.testing.assert_close(rotary(q, m).norm(dim=-1), q.norm(dim=-1))
    here = (rotary(q, m) * rotary(k, n)).sum(-1)
    there = (rotary(q, m + shift) * rotary(k, n + shift)).sum(-1)
    torch.testing.assert_close(here, there, atol=2e-3, rtol=0)  # angles are fp32: 600 rad have an error of 3e-5


def test_rotary_turns_each_plane_by_its_own_angle() -> None:
    x = torch.zeros(1, 7, 6, dtype=torch.float64)
    x[..., 1] = 1.0  # dimension 1 makes a plane with dimension 1 + 6/2 = 4
    turned = Rotary(7, 6, base=100.0)(x)
    angles = torch.arange(7) * 100.0 ** (-2 / 6)
    torch.testing.assert_close(turned[0, :, 1], angles.cos().double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(turned[0, :, 4], angles.sin().double(), atol=1e-6, rtol=0)
    assert torch.equal(turned[..., [0, 2, 3, 5]], torch.zeros(1, 7, 4, dtype=torch.float64))


def test_rotary_start_is_an_offset_also_beyond_the_table() -> None:
    x = normal(2, 3, 12, 4, dtype=torch.float32)
    whole = Rotary(12, 4)(x)
    for table in (1, 5, 7, 12, 40):
        rotary = Rotary(table, 4)
        torch.testing.assert_close(rotary(x), whole, atol=1e-6, rtol=0)
        torch.testing.assert_close(rotary(x[:, :, 5:9], 5), whole[:, :, 5:9], atol=1e-6, rtol=0)


def test_rotary_does_what_transformers_llama_does() -> None:
    q, k = normal(5, 6, 7, 4, dtype=torch.float32), normal(5, 3, 7, 4, seed=1, dtype=torch.float32)
    angles = rotary_angles(torch.arange(7), 4, base=500.0)
    cos, sin = (torch.cat([f, f], dim=-1)[None] for f in (angles.cos(), angles.sin()))
    their_q, their_k = apply_rotary_pos_emb(q, k, cos, sin)
    rotary = Rotary(17, 4, base=500.0)
    torch.testing.assert_close(rotary(q), their_q)
    torch.testing.assert_close(rotary(k), their_k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_rotary_keeps_dtype_and_input(dtype) -> None:
    x = normal(2, 3, 5, 4).to(dtype)
    kept = x.clone()
    assert Rotary(4, 4)(x).dtype == dtype  # one position more than the table has
    assert torch.equal(x, kept)


def test_rotation_by_nothing_and_gradient() -> None:
    x = normal(2, 3, 5, 4)
    assert torch.equal(rotate(x, torch.ones(5, 2), torch.zeros(5, 2)), x)
    assert torch.autograd.gradcheck(Rotary(9, 4).double(), x.requires_grad_())


def test_angles_of_far_positions_keep_their_fraction() -> None:
    angles = rotary_angles(torch.tensor([100_000]), 8, base=10_000.0)
    exact = [100_000 * 10_000.0 ** (-2 * i / 8) for i in range(4)]
    assert angles.dtype == torch.float32
    assert angles[0].tolist() == pytest.approx(exact, rel=1e-6)


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(1).tolist() == [2.0**-8]
    assert alibi_slopes(12).tolist() == pytest.approx(
        [2.0**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    )
    for n_head in range(1, 40):
        slopes = alibi_slopes(n_head)
        assert slopes.shape == (n_head,)
        assert len(set(slopes.tolist())) == n_head
        assert ((slopes > 0) & (slopes < 1)).all()


def test_alibi_bias_is_minus_slope_times_distance() -> None:
    slopes = torch.tensor([0.5, 0.25])
    bias = alibi_bias(slopes, torch.tensor([3, 4, 5]), torch.arange(6))
    assert bias.shape == (2, 3, 6)
    for h in range(2):
        for t in range(3):
            for s in range(t + 4):
                assert bias[h, t, s].item() == -slopes[h].item() * (t + 3 - s)


# Rotary positions for longer texts


KINDS = ("linear", "ntk", "dynamic", "yarn", "llama3")
scalings = st.builds(
    RotaryScaling,
    kind=st.sampled_from(KINDS),
    factor=st.sampled_from([1.0, 1.5, 4, 32.0]),
    original_n_positions=st.sampled_from([16, 100, 2048]),
    slow_turns=st.sampled_from([0.5, 1.0]),
    fast_turns=st.sampled_from([None, 2.0, 32.0]),
    rounded=st.booleans(),
)
bases = st.sampled_from([100.0, 10_000.0, 500_000.0])
planes = st.integers(1, 32)


def theirs(D: int, base: float, n_positions: int, **rope: object) -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        hidden_size=2 * D, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8, vocab_size=9,
        max_position_embeddings=n_positions, rope_parameters={**rope, "rope_theta": base},
    )  # fmt: skip


def in_their_words(scaling: RotaryScaling) -> dict[str, object]:
    words: dict[str, object] = {"rope_type": scaling.kind, "factor": float(scaling.factor)}
    if scaling.kind in ("yarn", "llama3"):
        words["original_max_position_embeddings"] = scaling.original_n_positions
    if scaling.kind == "yarn":
        words |= {"beta_slow": scaling.slow_turns, "beta_fast": scaling.ramp_end, "truncate": scaling.rounded}
    if scaling.kind == "llama3":
        words |= {"low_freq_factor": scaling.slow_turns, "high_freq_factor": scaling.ramp_end}
    return words


@settings(max_examples=150, deadline=None)
@given(
    scaling=scalings.filter(lambda s: s.kind != "ntk"), half=st.integers(2, 32), base=bases, beyond=st.integers(0, 9000)
)
def test_frequencies_are_those_of_transformers(scaling, half, base, beyond) -> None:
    n = scaling.original_n_positions
    config = theirs(2 * half, base, n if scaling.kind == "dynamic" else 8 * n, **in_their_words(scaling))
    expected, scale = ROPE_INIT_FUNCTIONS[scaling.kind](config, None, n + beyond)
    ours = rotary_frequencies(2 * half, base=base, scaling=scaling, length=n + beyond)
    torch.testing.assert_close(ours, expected, atol=0, rtol=1e-6)
    assert scaling.attention_scale == pytest.approx(scale, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(scaling=scalings.filter(lambda s: s.kind != "ntk"), half=st.integers(2, 8), base=bases, T=st.integers(1, 200))
def test_rotary_turns_as_transformers_llama_does(scaling, half, base, T) -> None:
    n = scaling.original_n_positions
    config = theirs(2 * half, base, n if scaling.kind == "dynamic" else 8 * n, **in_their_words(scaling))
    x = normal(2, 3, T, 2 * half, dtype=torch.float32)
    cos, sin = LlamaRotaryEmbedding(config)(x, torch.arange(T)[None])  # 2 × (1, T, D)
    expected, _ = apply_rotary_pos_emb(x, x, cos, sin)
    for table in (1, T, 300):
        torch.testing.assert_close(Rotary(table, 2 * half, base=base, scaling=scaling)(x), expected, atol=2e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(scaling=scalings, half=planes, base=bases)
def test_every_plane_is_slowed_by_something_between_nothing_and_the_factor(scaling, half, base) -> None:
    plain = rotary_frequencies(2 * half, base=base)
    slowed_by = plain / rotary_frequencies(2 * half, base=base, scaling=scaling)  # (D/2,)
    assert slowed_by.min() >= 1 - 1e-6
    assert slowed_by.max() <= scaling.factor * (1 + 1e-6)
    assert (slowed_by.diff() >= -1e-5 * scaling.factor).all()  # slower planes are slowed no less
    if scaling.kind == "linear":
        assert slowed_by.tolist() == pytest.approx([scaling.factor] * half)
    if scaling.kind == "ntk" and half > 1:
        assert slowed_by[[0, -1]].tolist() == pytest.approx([1.0, scaling.factor])
        larger_base = rotary_frequencies(2 * half, base=base * scaling.factor ** (half / (half - 1)))
        torch.testing.assert_close(plain / slowed_by, larger_base, atol=0, rtol=1e-5)
    if scaling.kind == "llama3" or (scaling.kind == "yarn" and not scaling.rounded):
        turns = scaling.original_n_positions * plain / (2 * math.pi)
        assert slowed_by[turns > scaling.ramp_end * 1.001].tolist() == pytest.approx(
            [1.0] * int((turns > scaling.ramp_end * 1.001).sum()), rel=1e-5
        )
    if scaling.kind == "llama3":
        slow = turns < scaling.slow_turns * 0.999
        assert slowed_by[slow].tolist() == pytest.approx([scaling.factor] * int(slow.sum()))


@settings(max_examples=60, deadline=None)
@given(scaling=scalings, half=planes, base=bases, m=st.integers(0, 40), n=st.integers(0, 40), shift=st.integers(0, 400))
def test_scaled_rotary_knows_distances_only(scaling, half, base, m, n, shift) -> None:
    D = 2 * half
    rotary = Rotary(600, D, base=base, scaling=scaling)
    q, k = normal(3, 1, D), normal(3, 1, D, seed=1)
    if scaling.kind == "dynamic":  # every angle depends on the length of the text: it takes part in one piece
        rows = torch.zeros(3, 2, 500, D, dtype=torch.float64)
        rows[:, 0], rows[:, 1] = q, k
        turned = rotary(rows)
        turn_q, turn_k = (lambda _, t: turned[:, 0, t, None]), (lambda _, t: turned[:, 1, t, None])
    else:
        turn_q = turn_k = rotary
    scale = scaling.attention_scale
    torch.testing.assert_close(turn_q(q, m).norm(dim=-1), scale * q.norm(dim=-1), atol=1e-5, rtol=1e-5)
    here = (turn_q(q, m) * turn_k(k, n)).sum(-1)
    there = (turn_q(q, m + shift) * turn_k(k, n + shift)).sum(-1)
    torch.testing.assert_close(here, there, atol=4e-3, rtol=0)
    alone = (turn_q(q, m) * turn_k(k, m)).sum(-1)
    torch.testing.assert_close(alone, scale**2 * (q * k).sum(-1), atol=1e-4, rtol=1e-4)  # distance 0: not turned


@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_of_one_is_plain_rotary(kind) -> None:
    x = normal(2, 3, 50, 16, dtype=torch.float32)
    scaling = RotaryScaling(kind, 1.0, original_n_positions=50)
    torch.testing.assert_close(Rotary(50, 16, scaling=scaling)(x), Rotary(50, 16)(x), atol=2e-5, rtol=0)


def test_interpolated_positions_stand_closer_together() -> None:
    x = normal(1, 1, 8, dtype=torch.float32)
    plain, stretched = Rotary(64, 8), Rotary(256, 8, scaling=RotaryScaling("linear", 4.0))
    for position in range(64):
        torch.testing.assert_close(stretched(x, 4 * position), plain(x, position), atol=1e-5, rtol=0)


def test_ramp_of_yarn_by_the_papers_numbers() -> None:
    # Llama 2 read 4096 tokens with D=128 and base 10000: a plane turns 4096 · 10000^(-i/64) / 2π times.
    turns = [4096 * 10_000 ** (-i / 64) / (2 * math.pi) for i in range(64)]
    first, last = (sum(t > n for t in turns) for n in (32, 1))
    slowed_by = rotary_frequencies(128) / rotary_frequencies(128, scaling=RotaryScaling("yarn", 16.0, 4096))
    assert slowed_by[:first].tolist() == pytest.approx([1.0] * first)
    assert slowed_by[last:].tolist() == pytest.approx([16.0] * (64 - last))
    assert slowed_by[first] > 1
    assert slowed_by[last - 1] < 16
    assert RotaryScaling("yarn", 16.0, 4096).attention_scale == pytest.approx(0.1 * math.log(16) + 1)
    assert RotaryScaling("yarn", 16.0, 4096, attention_factor=1.5).attention_scale == 1.5


def test_dynamic_scaling_begins_where_training_ended_and_needs_the_whole_text() -> None:
    x = normal(2, 3, 30, 8, dtype=torch.float32)
    dynamic = Rotary(90, 8, scaling=RotaryScaling("dynamic", 2.0, original_n_positions=20))
    torch.testing.assert_close(dynamic(x[:, :, :20]), Rotary(20, 8)(x[:, :, :20]), atol=0, rtol=0)
    torch.testing.assert_close(dynamic(x[:, :, :5], 15), Rotary(20, 8)(x[:, :, :5], 15), atol=0, rtol=0)
    ntk = Rotary(90, 8, scaling=RotaryScaling("ntk", 2.0 * 30 / 20 - 1))
    torch.testing.assert_close(dynamic(x), ntk(x), atol=1e-6, rtol=0)
    for start in (1, torch.tensor([0, -3])):
        with pytest.raises(ValueError, match=r"beyond original_n_positions=20 .* neither cache nor padding"):
            dynamic(x, start)


def test_scaled_rotary_starts_rows_where_they_stand() -> None:
    x = normal(2, 3, 6, 8, dtype=torch.float32)
    rotary = Rotary(9, 8, scaling=RotaryScaling("yarn", 4.0, original_n_positions=9))
    together = rotary(x, torch.tensor([5, 2]))
    torch.testing.assert_close(together, torch.stack([rotary(x[0], 5), rotary(x[1], 2)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "longrope"}, r"kind='longrope' is unknown; choose one of linear, ntk, dynamic, yarn, llama3"),
        ({"factor": 0.5}, r"factor=0\.5 would make the planes turn faster; use 1 or more"),
        ({"factor": "4"}, r"factor='4' must be a number above 0"),
        ({"factor": math.inf}, r"factor=inf must be a number"),
        ({"factor": True}, r"factor=True must be a number"),
        ({"original_n_positions": None}, r"kind='yarn' needs original_n_positions"),
        ({"original_n_positions": 0}, r"original_n_positions=0 must be a whole number of at least 1"),
        ({"slow_turns": 32}, r"slow_turns=32 must lie below fast_turns=32"),
        ({"fast_turns": 0.5}, r"slow_turns=1\.0 must lie below fast_turns=0\.5"),
        ({"kind": "llama3", "slow_turns": 4.0}, r"slow_turns=4\.0 must lie below fast_turns=4"),
        ({"kind": "linear", "attention_factor": 1.2}, r"attention_factor belongs to kind='yarn'"),
        ({"attention_factor": -1.0}, r"attention_factor=-1\.0 must be a number above 0"),
    ],
)
def test_scalings_that_make_no_sense(values, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        RotaryScaling(**{"kind": "yarn", "factor": 4.0, "original_n_positions": 64, **values})


def test_a_scaling_survives_a_json_file() -> None:
    scaling = RotaryScaling("yarn", 4.0, 64, fast_turns=16.0, attention_factor=1.1, rounded=False)
    assert RotaryScaling.from_dict(json.loads(json.dumps(dataclasses.asdict(scaling)))) == scaling
    with pytest.raises(ValueError, match=r"unknown \['speed'\], missing \['factor'\]"):
        RotaryScaling.from_dict({"kind": "linear", "speed": 3})
