"""Every activation has one name in any config, and costs nothing while nobody looks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gptlib import GPT, GPTConfig, record
from gptlib.interpret import activation_names
from gptlib.layers import ACTIVATIONS, GATES
from gptlib.recording import Noted, listening

IDS = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))


@st.composite
def configs(draw) -> GPTConfig:
    n_head = draw(st.sampled_from([1, 2, 3, 6]))
    head_dim = 2 * draw(st.integers(1, 4))
    return GPTConfig(
        vocab_size=23,
        n_positions=draw(st.integers(7, 9)),
        n_embd=n_head * head_dim,
        n_layer=draw(st.integers(1, 3)),
        n_head=n_head,
        n_kv_head=draw(st.sampled_from([None, *(k for k in (1, 2, 3) if n_head % k == 0)])),
        n_inner=draw(st.sampled_from([None, 5, 40])),
        bias=draw(st.booleans()),
        position=draw(st.sampled_from(["learned", "sinusoidal", "rotary", "alibi", "none"])),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm"])),
        norm_order=draw(st.sampled_from(["pre", "post"])),
        mlp=draw(st.sampled_from([*ACTIVATIONS, *GATES])),
        window=draw(st.sampled_from([None, 1, 3])),
        qk_norm=draw(st.booleans()),
        tie_weights=draw(st.booleans()),
    )


@settings(max_examples=40, deadline=None)
@given(config=configs())
def test_names_are_those_of_a_recording_each_computed_once(config) -> None:
    seen: list[str] = []
    model = GPT(config).eval()
    with record(model) as run, listening(model, lambda name, x: (seen.append(name), x)[1]):
        model(IDS)
    names = activation_names(config)
    assert seen == list(run) == list(names)
    assert len(set(seen)) == len(seen) == 2 + (config.norm_order == "pre") + config.n_layer * (13 + 2 * config.qk_norm)
    for name, heads in names.items():
        shape = run[name].shape
        assert shape[0] == 5, name
        assert shape[-2] == 7, f"{name}: positions are the last axis but one, whatever the activation"
        assert (shape[1] if len(shape) == 4 else None) == heads, name


class Operations(TorchDispatchMode):
    """Notes every kernel that is called, with the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen.append(f"{function} {getattr(result, 'shape', '')}")
        return result


def operations(model: GPT) -> tuple[list[str], int]:
    with torch.no_grad(), Operations() as kernels:
        model(IDS)
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        model(IDS)
    return kernels.seen, flops.get_total_flops()


def test_notes_cost_nothing_while_nobody_looks(variant, random_model, monkeypatch) -> None:
    model = random_model(variant)
    with record(model):
        model(IDS)
    after = operations(model)
    monkeypatch.setattr(Noted, "note", lambda self, name, activation: activation)
    without = operations(random_model(variant))
    assert after == without
    assert after[1] > 0


def test_a_note_hands_back_the_very_tensor(variant, random_model) -> None:
    x = torch.zeros(3)
    for part in random_model(variant).modules():
        if isinstance(part, Noted):
            assert part.note("anything", x) is x


def test_recording_is_seen_by_the_counter_of_kernels(random_model) -> None:
    """The test above could not fail if its counter were blind."""
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    quiet = operations(model)[0]
    with torch.no_grad(), Operations() as kernels, record(model):
        model(IDS)
    assert len(kernels.seen) > len(quiet) + 20


def test_finding_names_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    activation_names.cache_clear()
    activation_names(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    assert torch.equal(torch.get_rng_state(), state)


def test_names_of_a_large_model_need_no_large_model() -> None:
    names = activation_names(GPTConfig.preset("gpt3"))
    assert names["blocks.95.attention.heads"] == 96
    with pytest.raises(TypeError):
        names["more"] = 1  # it is shared by all callers
