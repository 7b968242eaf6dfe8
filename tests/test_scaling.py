"""What is computed from a config agrees with what PyTorch counts and with bytes measured, for any config."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gptlib import GPT, GPTConfig, KVCache, TrainConfig
from gptlib.config import PRESETS
from gptlib.positions import RotaryScaling
from gptlib.recording import listening
from gptlib.scaling import (
    Count,
    activation_memory,
    cache_memory,
    forward_flops,
    optimizer_memory,
    parameter_shapes,
    parameters,
    training_flops,
    training_flops_per_token,
    training_memory,
)
from gptlib.training import make_optimizers

LLAMA_70B = GPTConfig(
    vocab_size=128_256,
    n_positions=8192,
    n_embd=8192,
    n_layer=80,
    n_head=64,
    n_kv_head=8,
    n_inner=28_672,
    bias=False,
    position="rotary",
    norm="rmsnorm",
    mlp="swiglu",
    tie_weights=False,
)


@st.composite
def configs(draw: Callable[..., Any], *, least_heads: int = 1, least_dim: int = 2) -> GPTConfig:
    """Any config: every kind of part, all sizes small and unequal."""
    n_head = draw(st.integers(least_heads, 6))
    position = draw(st.sampled_from(["learned", "sinusoidal", "rotary", "alibi", "none"]))
    stretched = RotaryScaling("yarn", factor=4.0, original_n_positions=5)
    head_dim = draw(st.sampled_from([d for d in (2, 4, 6, 8) if d >= least_dim]))
    return GPTConfig(
        vocab_size=draw(st.integers(2, 40)),
        n_positions=draw(st.integers(8, 20)),
        n_embd=n_head * head_dim,
        n_layer=draw(st.integers(1, 3)),
        n_head=n_head,
        n_kv_head=draw(st.sampled_from([k for k in range(1, n_head + 1) if n_head % k == 0])),
        n_inner=draw(st.none() | st.integers(1, 50)),
        dropout=draw(st.sampled_from([0.0, 0.2])),
        bias=draw(st.booleans()),
        qkv_bias=draw(st.sampled_from([None, True, False])),
        position=position,
        rotary_scaling=draw(st.sampled_from([None, stretched])) if position == "rotary" else None,
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        norm_order=draw(st.sampled_from(["pre", "post"])),
        mlp=draw(st.sampled_from(["relu", "relu2", "gelu", "gelu_tanh", "swiglu", "geglu"])),
        window=draw(st.sampled_from([None, 1, 2, 5])),
        qk_norm=draw(st.booleans()),
        tie_weights=draw(st.booleans()),
    )


def tokens(config: GPTConfig, rows: int, length: int, device: str = "cpu") -> Tensor:
    return torch.zeros(rows, length, dtype=torch.long, device=device)


# Parameters


@settings(deadline=None)
@given(configs())
def test_every_parameter_has_the_shape_that_it_has_in_the_model(config: GPTConfig) -> None:
    model = GPT(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert parameter_shapes(config) == shapes
    assert parameters(config).total == model.n_parameters()


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "gpt3"])
def test_every_preset_is_counted_exactly(preset: str) -> None:
    config = GPTConfig.preset(preset)
    with torch.device("meta"):
        assert parameters(config).total == GPT(config).n_parameters()


def test_gpt2_by_part() -> None:
    config = GPTConfig.preset("gpt2")
    count = parameters(config)
    assert count.total == 124_439_808
    assert count["token embeddings"] == 50_257 * 768
    assert round(count.share("token embeddings"), 2) == 0.31
    blocks = 12 * 12 * 768**2  # "12 · n_layer · n_embd²", which is said to be the whole
    biases = 12 * (9 * 768 + 4 * 768)  # 3 C + C of attention, 4 C + C of the feed-forward network; two norms of 2 C
    assert round(blocks / 1e6) == 85
    assert count["attention"] + count["feed-forward"] + count["norms"] == blocks + biases + 2 * 768
    assert count.total - blocks == 39_505_152
    assert round(count["attention"] / (count["attention"] + count["feed-forward"]), 2) == 0.33


def test_gpt3_on_paper() -> None:
    """Brown et al. (2020): "175 billion" parameters, and 3.14e23 operations for 300 billion tokens (table D.1)."""
    config = GPTConfig.preset("gpt3")
    count = parameters(config)
    assert 174.5e9 < count.total < 175.5e9
    assert round(count.share("token embeddings"), 4) == 0.0035
    # Their table leaves out the scores and values of attention.
    operations = 300e9 * training_flops_per_token(config)
    without_scores = operations * (1 - training_flops(config).share("attention scores and values"))
    assert without_scores == pytest.approx(3.14e23, rel=0.01)
    assert operations == pytest.approx(3.14e23, rel=0.03)


def test_llama_70b_on_paper() -> None:
    """The published size of Llama 3 70B, and a cache by hand."""
    assert parameters(LLAMA_70B).total == 70_553_706_496
    weights = 2 * parameters(LLAMA_70B).total  # in bf16
    assert round(weights / 1e9) == 141
    # A key and a value · 80 layers · 8 heads · 128 features · 2 bytes: 0.33 MB a token, 2.7 GB for 8,192 of them.
    assert cache_memory(LLAMA_70B, 1, dtype=torch.bfloat16) == 2 * 80 * 8 * 128 * 2 == 327_680
    assert cache_memory(LLAMA_70B, dtype=torch.bfloat16) == 2_684_354_560


# Floating-point operations: on the meta device PyTorch takes the plain products apart and computes nothing


@settings(deadline=None, max_examples=30)
@given(configs(), st.integers(1, 4), st.integers(1, 8), st.booleans())
def test_flops_are_those_that_torch_counts(config: GPTConfig, rows: int, length: int, only_last: bool) -> None:
    model = GPT(config).to("meta").train()
    ids = tokens(config, rows, length, "meta")
    with FlopCounterMode(display=False) as forward:
        model(ids, only_last=only_last)
    assert forward_flops(config, length, batch_size=rows, only_last=only_last).total == forward.get_total_flops()
    with FlopCounterMode(display=False) as training:
        _, loss = model(ids, ids)
        loss.backward()
    assert training_flops(config, length, batch_size=rows).total == training.get_total_flops()
    assert training_flops_per_token(config, length) * rows * length == pytest.approx(training.get_total_flops())


@settings(deadline=None, max_examples=30)
@given(configs(), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_flops_with_a_cache_are_those_that_torch_counts(config: GPTConfig, rows: int, cached: int, new: int) -> None:
    model = GPT(config).to("meta").eval()
    cache = KVCache(config, rows, device="meta")
    with torch.no_grad():
        model(tokens(config, rows, cached, "meta"), cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens(config, rows, new, "meta"), cache=cache, only_last=True)
    expected = forward_flops(config, new, batch_size=rows, n_cached=cached, only_last=True)
    assert expected.total == counter.get_total_flops()


def test_the_plain_form_computes_as_many_on_the_cpu(variant: GPTConfig) -> None:
    model = GPT(variant).train()
    ids = tokens(variant, 3, 7)
    with listening(model, lambda name, activation: activation), FlopCounterMode(display=False) as counter:
        _, loss = model(ids, ids)
        assert loss is not None
        loss.backward()
    assert training_flops(variant, 7, batch_size=3).total == counter.get_total_flops()


def test_each_part_is_what_torch_counts_in_its_modules() -> None:
    config = GPTConfig(vocab_size=23, n_positions=17, n_embd=24, n_layer=2, n_head=6, n_kv_head=2, mlp="swiglu")
    model = GPT(config).to("meta")
    with FlopCounterMode(display=False) as counter:
        model(tokens(config, 3, 7, "meta"))
    counted = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    count = forward_flops(config, 7, batch_size=3)
    attention = [counted[f"GPT.blocks.{i}.attention"] for i in range(2)]
    maps = [counted[f"GPT.blocks.{i}.attention.{part}"] for i in range(2) for part in ("qkv", "project")]
    assert count["attention maps"] == sum(maps)
    assert count["attention scores and values"] == sum(attention) - sum(maps)
    assert count["feed-forward"] == sum(counted[f"GPT.blocks.{i}.mlp"] for i in range(2))
    assert count["output map"] == counted["GPT.lm_head"]


def test_the_share_of_scores_and_values_grows_with_length() -> None:
    config = GPTConfig.preset("gpt2")
    shares = [forward_flops(config, T).share("attention scores and values") for T in (1, 1024, 32_768)]
    assert shares == sorted(shares)
    assert shares[0] < 0.001
    assert shares[2] > 0.8
    # 6 N a token is what the matrices alone would need.
    matrices = parameters(config).total - config.n_positions * 768
    assert training_flops_per_token(config, 1) == pytest.approx(6 * matrices, rel=2e-3)


# Memory


def saved_bytes(model: GPT, ids: Tensor) -> int:
    """Each piece of memory once that autograd keeps and that is no part of the model."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(ids, ids.clone())
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@settings(deadline=None)
@given(configs(least_heads=2, least_dim=4), st.integers(1, 4), st.integers(2, 8))
def test_activations_are_what_autograd_keeps(config: GPTConfig, rows: int, length: int) -> None:
    rows = max(rows, 2) if config.dropout else rows
    model = GPT(config).train()
    assert activation_memory(config, rows, length).total == saved_bytes(model, tokens(config, rows, length))


def test_activations_of_a_training_shape_are_what_autograd_keeps() -> None:
    config = GPTConfig.preset("shakespeare-cpu")
    assert activation_memory(config, 12).total == saved_bytes(GPT(config).train(), tokens(config, 12, 64))


@settings(deadline=None, max_examples=40)
@given(configs(), st.sampled_from(["adamw", "muon"]))
def test_weights_gradients_and_optimizer_state_are_what_a_step_leaves(config: GPTConfig, optimizer: Any) -> None:
    model = GPT(config).train()
    optimizers = make_optimizers(model, TrainConfig(optimizer=optimizer))
    _, loss = model(tokens(config, 2, 3), tokens(config, 2, 3))
    assert loss is not None
    loss.backward()
    for part in optimizers:
        part.step()
    state = [value for part in optimizers for kept in part.state.values() for value in kept.values()]
    assert optimizer_memory(config, optimizer) == sum(tensor.nbytes for tensor in state)
    memory = training_memory(config, 2, 3, optimizer=optimizer)
    assert memory["weights"] == sum(p.nbytes for p in model.parameters())
    assert memory["gradients"] == sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
    assert memory["optimizer"] == optimizer_memory(config, optimizer)
    assert memory["activations"] == activation_memory(config, 2, 3).total


@settings(deadline=None)
@given(configs(), st.integers(1, 4), st.none() | st.integers(1, 30), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_cache_is_as_large_as_it_is(config: GPTConfig, rows: int, capacity: int | None, dtype: torch.dtype) -> None:
    cache = KVCache(config, rows, capacity=capacity, dtype=dtype)
    assert cache_memory(config, capacity, batch_size=rows, dtype=dtype) == cache.n_bytes


# Tables, and bad input


def test_a_count_prints_as_a_table() -> None:
    count = Count({"large": 12_345, "small": 5, "absent": 0}, "bytes")
    assert str(count) == "large  12,345  100.0 %\nsmall       5   0.0 %\ntotal  12,350 bytes"
    assert count._repr_html_().count("<tr>") == 3
    assert "<td>12,345</td>" in count._repr_html_()
    assert math.isclose(sum(map(count.share, count)), 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda config: forward_flops(config, 0),
        lambda config: training_flops(config, 0),
        lambda config: activation_memory(config, 1, 0),
        lambda config: cache_memory(config, 0),
    ],
)
def test_no_tokens_are_refused(ask: Callable[[GPTConfig], Any]) -> None:
    with pytest.raises(ValueError, match=r"n_(tokens|positions)=0 must be a whole number of at least 1"):
        ask(GPTConfig.preset("gpt2"))


def test_other_impossible_questions_are_refused() -> None:
    config = GPTConfig.preset("gpt2")
    with pytest.raises(ValueError, match="batch_size=0 must be"):
        training_memory(config, 0)
    with pytest.raises(ValueError, match="n_cached=-1 must be"):
        forward_flops(config, 1, n_cached=-1)
    with pytest.raises(ValueError, match="optimizer='sgd' is unknown; choose one of adamw, muon"):
        optimizer_memory(config, "sgd")  # type: ignore[arg-type]
