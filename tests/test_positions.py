import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import Rotary, sinusoidal
from gptlib.positions import SinusoidalPositions, alibi_bias, alibi_slopes, rotary_angles, rotate


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
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

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
