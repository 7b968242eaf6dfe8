import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gptlib import GPT, GPTConfig, generate, next_token_probabilities
from gptlib.generation import Sampling, check_sampling, penalise_repetition

# Multiples of 1/64, so that no difference is rounded and equal means equal.
logit_rows = st.lists(
    st.integers(-2000, 2000).map(lambda n: n / 64) | st.sampled_from([0.0, 1.0, -math.inf]), min_size=2, max_size=24
).filter(lambda row: max(row) > -math.inf)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, temperature=st.floats(0.05, 20))
def test_temperature_is_a_division(row, temperature) -> None:
    logits = torch.tensor(row, dtype=torch.float64)
    expected = (logits / temperature).softmax(-1)
    p = next_token_probabilities(logits, temperature=temperature)
    torch.testing.assert_close(p, expected.float(), atol=1e-5, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, k=st.integers(1, 30))
def test_top_k_keeps_exactly_k_ties_included(row, k) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, top_k=k)
    possible = sum(value > -math.inf for value in row)
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))  # of equal ones the lower id goes first
    kept = order[: min(k, possible)]
    exact = torch.full_like(logits, -math.inf).index_copy(0, torch.tensor(kept), logits[kept]).softmax(-1)
    assert all(p[i] == 0.0 for i in range(len(row)) if i not in kept)
    torch.testing.assert_close(p, exact)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, top_p=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(row, top_p) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, top_p=top_p)
    full = logits.double().softmax(-1)
    kept = (p > 0).nonzero()[:, 0].tolist()
    mass = full[kept].sum().item()
    assert mass >= top_p - 1e-6
    if top_p < 1:
        assert mass - full[kept].min().item() < top_p + 1e-6  # without its last one the set falls short
    assert full[kept].min() >= max([full[i].item() for i in range(len(row)) if i not in kept], default=0) - 1e-9
    torch.testing.assert_close(p.double()[kept], full[kept] / mass, atol=1e-5, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, min_p=st.floats(0, 1))
def test_min_p_keeps_by_the_ratio_to_the_largest(row, min_p) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, min_p=min_p)
    ratios = (logits - logits.max()).double().exp()
    assert (p[ratios > min_p * 1.0001 + 1e-37] > 0).all()
    assert (p[ratios < min_p * 0.9999] == 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    row=logit_rows,
    temperature=st.sampled_from([0.0, 1e-50, 1e-30, 0.3, 1.0, 4.0, 1e30]),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.001, 1),
    min_p=st.none() | st.floats(0, 1),
)
def test_any_settings_give_a_distribution(row, temperature, top_k, top_p, min_p) -> None:
    logits = torch.tensor([row, row[::-1]])
    kept = logits.clone()
    p = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert torch.equal(logits, kept)
    assert p.dtype == torch.float32
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(2))
    assert (p[logits == -math.inf] == 0).all()
    assert (p.gather(-1, logits.argmax(-1, keepdim=True)) > 0).all()


def test_filters_come_after_the_temperature_and_in_their_order() -> None:
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    # At temperature 2 the two largest hold 0.61 and not 0.7, so top-p 0.65 needs three.
    assert (next_token_probabilities(p.log(), temperature=2.0, top_p=0.65) > 0).tolist() == [True, True, True, False]
    # Top-k first: of what it leaves, 4/7 and 3/7, the first reaches 0.55 alone; of all four it would not.
    assert (next_token_probabilities(p.log(), top_k=2, top_p=0.55) > 0).tolist() == [True, False, False, False]
    assert (next_token_probabilities(p.log(), top_p=0.55) > 0).tolist() == [True, True, False, False]
    torch.testing.assert_close(next_token_probabilities(p.log(), min_p=0.45), torch.tensor([4 / 9, 3 / 9, 2 / 9, 0]))


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert next_token_probabilities(torch.tensor([1.0, 3.0, 3.0]), temperature=0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_float_type(dtype) -> None:
    p = next_token_probabilities(torch.tensor([1.0, 2.0, 3.0], dtype=dtype), top_k=2)
    torch.testing.assert_close(p, torch.tensor([0.0, 0.268941, 0.731059]), atol=1e-5, rtol=0)


def test_draws_follow_the_distribution() -> None:
    """Pearson's chi-square of 20,000 draws stays below its 99.99 % quantile for 6 degrees of freedom, 27.9."""
    weight = torch.tensor([0.5, 1.5, -0.7, 2.0, 0.1, -3.0, 1.0, 0.0])

    class Constant(GPT):
        def forward(self, ids: Tensor, targets=None, *, cache=None, only_last=False):
            return weight.expand(len(ids), 1, 8), None

    model = Constant(GPTConfig(vocab_size=8, n_positions=17, n_embd=4, n_layer=1, n_head=2))
    drawn = generate(
        model, torch.zeros(20_000, 1, dtype=torch.int64), 1, temperature=1.3, top_k=7, seed=0, use_cache=False
    )[:, 1]
    counts = torch.bincount(drawn, minlength=8)
    p = next_token_probabilities(weight, temperature=1.3, top_k=7)
    assert counts[5] == 0
    expected = 20_000 * p[p > 0].double()
    assert ((counts[p > 0] - expected) ** 2 / expected).sum() < 27.9


@settings(max_examples=30, deadline=None)
@given(row=st.lists(st.floats(-5, 5, width=32), min_size=8, max_size=8), penalty=st.floats(0.5, 3))
def test_repetition_penalty(row, penalty) -> None:
    logits, ids = torch.tensor([row, row]), torch.tensor([[1, 1, 4], [0, 7, 7]])
    kept = logits.clone()
    penalised = penalise_repetition(logits, ids, penalty)
    assert torch.equal(logits, kept)
    for b in range(2):
        for i, value in enumerate(row):
            seen = i in ids[b]
            expected = (value / penalty if value > 0 else value * penalty) if seen else value
            assert penalised[b, i].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_greedy_choice_needs_no_generator_and_takes_the_lowest_of_equals() -> None:
    state = torch.get_rng_state()
    logits, text = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]), torch.tensor([[1], [0]])
    assert Sampling(temperature=0).choose(logits, text).tolist() == [1, 0]
    assert Sampling(temperature=0, repetition_penalty=4.0).choose(logits, text).tolist() == [2, 2]
    assert torch.equal(torch.get_rng_state(), state)
    assert Sampling(top_k=1).choose(logits, text).tolist() == [1, 0]


def test_settings_are_a_value() -> None:
    assert check_sampling(seed=3, temperature=0.5, top_k=4) == Sampling(temperature=0.5, top_k=4)
    with pytest.raises(AttributeError):
        Sampling().temperature = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="temprature"):
        check_sampling(temprature=1.0)
    with pytest.raises(ValueError, match=r"top_k=2.5 is a number of tokens; use a whole one"):
        Sampling(top_k=2.5)  # type: ignore[arg-type]
