import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gptlib import GPT, GPTConfig, TrainConfig
from gptlib.training import learning_rate_at, make_optimizers
from gptlib.training.step import clip_gradient, set_learning_rate


def test_schedule_by_hand() -> None:
    config = TrainConfig(steps=101, warmup_steps=5, learning_rate=1.0, min_learning_rate=0.2)
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.2)
    middle = 5 + 95 / 2  # between step 52 and 53
    assert (rates[52] + rates[53]) / 2 == pytest.approx(0.6, abs=1e-3), middle
    for step in range(5, 101):
        expected = 0.2 + 0.8 * (1 + math.cos(math.pi * (step - 5) / 95)) / 2
        assert rates[step] == pytest.approx(expected)


@settings(max_examples=200, deadline=None)
@given(steps=st.integers(1, 300), warmup=st.integers(0, 400), peak=st.floats(1e-5, 1), share=st.floats(0, 1))
def test_schedule_rises_then_falls_and_ends_where_it_should(steps, warmup, peak, share) -> None:
    config = TrainConfig(steps=steps, warmup_steps=warmup, learning_rate=peak, min_learning_rate=peak * share)
    rates = [learning_rate_at(step, config) for step in range(steps)]
    assert all(0 <= rate <= peak * (1 + 1e-9) for rate in rates)
    rise, fall = rates[: config.warmup], rates[config.warmup :]
    assert config.warmup <= steps / 10
    assert all(a < b for a, b in itertools.pairwise(rise))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(fall))
    assert fall[0] == pytest.approx(peak)
    if steps - config.warmup > 1:
        assert rates[-1] == pytest.approx(peak * share, abs=1e-12)


def test_final_rate_is_a_tenth_unless_named() -> None:
    assert TrainConfig(learning_rate=0.5).final_learning_rate == 0.05
    assert TrainConfig(learning_rate=0.5, min_learning_rate=0.0).final_learning_rate == 0.0


def test_decay_is_on_matrices_and_embeddings_only(variant) -> None:
    model = GPT(variant)
    (optimizer,) = make_optimizers(model, TrainConfig(weight_decay=0.3, learning_rate=0.1, beta1=0.8, beta2=0.9))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = []
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (0.1, (0.8, 0.9))
        for parameter in group["params"]:
            name = names[id(parameter)]
            seen.append(name)
            one_number_a_feature = "norm" in name or name.endswith("bias")
            assert group["weight_decay"] == (0.0 if one_number_a_feature else 0.3), name
    assert sorted(seen) == sorted(names.values())


def test_muon_takes_the_matrices_inside_the_blocks_and_adamw_the_rest(variant) -> None:
    model = GPT(variant)
    adamw, muon = make_optimizers(model, TrainConfig(optimizer="muon"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inside = [names[id(p)] for group in muon.param_groups for p in group["params"]]
    outside = [names[id(p)] for group in adamw.param_groups for p in group["params"]]
    assert all(name.startswith("blocks.") and name.endswith("weight") and "norm" not in name for name in inside)
    assert sorted(inside + outside) == sorted(names.values())
    assert not any(name.startswith("blocks.") and name.split(".")[2] == "mlp" for name in outside if "bias" not in name)


def test_one_step_is_adamw_by_its_formula() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before, bias = model.weight.detach().clone(), model.bias.detach().clone()
    (optimizer,) = make_optimizers(model, TrainConfig(weight_decay=0.5))
    set_learning_rate([optimizer], 0.01)
    model.weight.grad, model.bias.grad = torch.full_like(before, 3.0), torch.full_like(bias, -2.0)
    optimizer.step()  # the first step's mean and root mean square are the gradient, so the step is its sign
    torch.testing.assert_close(model.weight.data, before * (1 - 0.01 * 0.5) - 0.01)
    torch.testing.assert_close(model.bias.data, bias + 0.01)


def test_frozen_parameters_stay_out() -> None:
    model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
    model.token_embedding.weight.requires_grad_(False)
    (optimizer,) = make_optimizers(model, TrainConfig())
    assert not any(p is model.token_embedding.weight for group in optimizer.param_groups for p in group["params"])


def test_clipping_scales_the_whole_gradient() -> None:
    model = nn.Linear(3, 2)
    gradients = torch.arange(6.0).view(2, 3), torch.tensor([7.0, -8.0])

    def fill() -> None:
        model.weight.grad, model.bias.grad = gradients[0].clone(), gradients[1].clone()

    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    fill()
    assert clip_gradient(model, 1.0).item() == pytest.approx(norm)
    torch.testing.assert_close(model.weight.grad, gradients[0] / norm, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.bias.grad, gradients[1] / norm, atol=1e-5, rtol=1e-5)
    for limit in (0.0, 100.0):
        fill()
        assert clip_gradient(model, limit).item() == pytest.approx(norm)
        assert torch.equal(model.weight.grad, gradients[0])
