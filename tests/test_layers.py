import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from gptlib import MLP, GatedMLP, LayerNorm, RMSNorm, record
from gptlib.layers import ACTIVATIONS, GATES, Linear, gelu_tanh, layer_norm, relu_squared, rms_norm

sizes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 33))
seeds = st.integers(0, 2**32)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(size=sizes, seed=seeds, eps=st.sampled_from([1e-12, 1e-6, 1e-5, 0.1]), scale=st.sampled_from([1e-3, 1.0, 50.0]))
def test_norms_equal_torchs(size, seed, eps, scale) -> None:
    C = size[-1]
    x = normal(*size, seed=seed, dtype=torch.float64) * scale + 3
    weight, bias = normal(C, seed=seed + 1).double(), normal(C, seed=seed + 2).double()
    torch.testing.assert_close(layer_norm(x, weight, bias, eps), F.layer_norm(x, (C,), weight, bias, eps))
    torch.testing.assert_close(rms_norm(x, weight, eps), F.rms_norm(x, (C,), weight, eps))


def test_epsilon_stands_inside_the_root() -> None:
    x = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)  # variance and mean square are 1
    torch.testing.assert_close(layer_norm(x, eps=3.0), x / 2)
    torch.testing.assert_close(rms_norm(x, eps=3.0), x / 2)


def test_a_constant_vector_is_no_trouble() -> None:
    assert torch.equal(layer_norm(torch.full((2, 5), 7.0)), torch.zeros(2, 5))
    assert torch.equal(rms_norm(torch.zeros(2, 5)), torch.zeros(2, 5))


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_module_equals_torchs(bias) -> None:
    ours, theirs = LayerNorm(13, bias=bias, eps=1e-3), nn.LayerNorm(13, bias=bias, eps=1e-3)
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        nn.init.normal_(parameter)
        other.data.copy_(parameter.data)
    x = normal(3, 7, 13)
    torch.testing.assert_close(ours(x), theirs(x))
    with record(ours) as run:
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(run["output"], theirs(x))


PARTS = {
    "layernorm": lambda: LayerNorm(6),
    "rmsnorm": lambda: RMSNorm(6),
    **{f"mlp-{name}": lambda name=name: MLP(6, 10, activation=name) for name in ACTIVATIONS},
    **{f"gated-{name}": lambda name=name: GatedMLP(6, 10, gate=name, bias=True) for name in GATES},
}


@pytest.fixture(params=PARTS.values(), ids=PARTS.keys())
def part(request) -> nn.Module:
    torch.manual_seed(0)
    module = request.param()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_gradients_are_right_in_both_forms(part) -> None:
    part.double()
    x = normal(2, 3, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(part, x)
    with record(part):
        assert torch.autograd.gradcheck(part, x)
        plain = part(x)
    torch.testing.assert_close(plain, part(x), atol=1e-12, rtol=1e-12)


def test_each_position_stands_alone(part) -> None:
    x = normal(2, 5, 6)
    together = part(x)
    alone = torch.stack([torch.stack([part(row) for row in rows]) for rows in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_is_kept_in_both_forms(part, dtype) -> None:
    part.to(dtype)
    x = normal(2, 5, 6).to(dtype)
    assert part(x).dtype == dtype
    with record(part) as run:
        assert part(x).dtype == dtype
    assert all(recorded.dtype == dtype for recorded in run.values())


def test_input_is_not_changed(part) -> None:
    x = normal(2, 5, 6)
    kept = x.clone()
    part(x)
    with record(part):
        part(x)
    assert torch.equal(x, kept)


def test_activations_by_their_formulas() -> None:
    x = normal(1000, dtype=torch.float64) * 3
    cubic = torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))
    torch.testing.assert_close(gelu_tanh(x), 0.5 * x * (1 + cubic))
    torch.testing.assert_close(ACTIVATIONS["gelu"](x), x * 0.5 * (1 + torch.erf(x / 2**0.5)))
    torch.testing.assert_close(relu_squared(x), x.clamp(min=0) ** 2)
    torch.testing.assert_close(ACTIVATIONS["relu"](x), x.clamp(min=0))
    torch.testing.assert_close(GATES["swiglu"](x), x / (1 + torch.exp(-x)))
    torch.testing.assert_close(GATES["geglu"](x), x * 0.5 * (1 + torch.erf(x / 2**0.5)))


def test_mlps_by_their_formulas() -> None:
    x = normal(3, 7, 6)
    mlp = MLP(6, 10, activation="relu")
    by_hand = (x @ mlp.widen.weight.T + mlp.widen.bias).clamp(min=0) @ mlp.narrow.weight.T + mlp.narrow.bias
    torch.testing.assert_close(mlp(x), by_hand)
    gated = GatedMLP(6, 10)
    by_hand = (F.silu(x @ gated.gate.weight.T) * (x @ gated.widen.weight.T)) @ gated.narrow.weight.T
    torch.testing.assert_close(gated(x), by_hand)
    assert [name for name, _ in gated.named_parameters()] == ["gate.weight", "widen.weight", "narrow.weight"]


def test_dropout_works_while_training_and_only_then() -> None:
    torch.manual_seed(0)
    for part in (MLP(6, 10, dropout=0.5), GatedMLP(6, 10, dropout=0.5)):
        x = normal(50, 6)
        dropped = (part(x) == 0).float().mean()
        assert 0.35 < dropped < 0.65
        part.eval()
        assert torch.equal(part(x), part(x))
        assert (part(x) != 0).all()


# Agreement with transformers, forwards and backwards


def compare(ours, theirs, names: dict[str, str], size: tuple[int, ...]) -> None:
    """Give `theirs` our weights by name, and expect the same output and the same gradients."""
    with torch.no_grad():
        for name, other in names.items():
            weight = ours.get_parameter(name)
            nn.init.normal_(weight, std=0.3)
            theirs.get_parameter(other.removesuffix(".T")).copy_(weight.T if other.endswith(".T") else weight)
    x, slope = normal(*size).requires_grad_(), normal(*size, seed=1)
    their_x = x.detach().clone().requires_grad_()
    (ours(x) * slope).sum().backward()
    (theirs(their_x) * slope).sum().backward()
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(x.grad, their_x.grad, atol=1e-5, rtol=1e-5)
    for name, other in names.items():
        gradient = theirs.get_parameter(other.removesuffix(".T")).grad
        expected = gradient.T if other.endswith(".T") else gradient
        torch.testing.assert_close(ours.get_parameter(name).grad, expected, atol=1e-5, rtol=1e-4)
    with record(ours):
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


THEIR_ACTIVATIONS = {"relu": "relu", "relu2": "relu2", "gelu": "gelu", "gelu_tanh": "gelu_new"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_mlp_equals_transformers_gpt2(name) -> None:
    config = transformers.GPT2Config(n_embd=12, activation_function=THEIR_ACTIVATIONS[name], resid_pdrop=0.0)
    names = {"widen.weight": "c_fc.weight.T", "widen.bias": "c_fc.bias"}
    names |= {"narrow.weight": "c_proj.weight.T", "narrow.bias": "c_proj.bias"}
    compare(MLP(12, 20, activation=name), GPT2MLP(20, config), names, (3, 5, 12))


@pytest.mark.parametrize(("gate", "activation"), [("swiglu", "silu"), ("geglu", "gelu")])
@pytest.mark.parametrize("bias", [True, False])
def test_gated_mlp_equals_transformers_llama(gate, activation, bias) -> None:
    config = transformers.LlamaConfig(
        hidden_size=12, num_attention_heads=2, intermediate_size=20, hidden_act=activation, mlp_bias=bias
    )
    parts = {"gate": "gate_proj", "widen": "up_proj", "narrow": "down_proj"}
    kinds = ("weight", "bias") if bias else ("weight",)
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in parts.items() for kind in kinds}
    compare(GatedMLP(12, 20, gate=gate, bias=bias), LlamaMLP(config), names, (3, 5, 12))


@pytest.mark.parametrize("eps", [1e-6, 0.3])
def test_norms_equal_transformers_and_torchs(eps) -> None:
    compare(RMSNorm(13, eps=eps), LlamaRMSNorm(13, eps=eps), {"weight": "weight"}, (3, 5, 13))
    compare(RMSNorm(13, eps=eps), nn.RMSNorm(13, eps=eps), {"weight": "weight"}, (3, 5, 13))
    names = {"weight": "weight", "bias": "bias"}
    compare(LayerNorm(13, eps=eps), nn.LayerNorm(13, eps=eps), names, (3, 5, 13))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_right_within_its_own_rounding(part, dtype) -> None:
    x = normal(4, 5, 6).to(dtype)
    part.to(dtype)
    fused = part(x).float()
    with record(part):
        plain = part(x).float()
    exact = part.float()(x.float())
    rounding = 8 * torch.finfo(dtype).eps * exact.abs().max()
    assert (fused - exact).abs().max() < rounding
    assert (plain - exact).abs().max() < rounding


def test_parts_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="activation='silu' is unknown; choose one of relu, relu2, gelu, gelu_tanh"):
        MLP(6, 10, activation="silu")
    with pytest.raises(ValueError, match="gate='glu' is unknown; choose one of swiglu, geglu"):
        GatedMLP(6, 10, gate="glu")


@pytest.mark.parametrize("bias", [True, False])
def test_a_row_alone_in_bf16_is_multiplied_as_a_vector_and_is_the_same_map(monkeypatch, bias) -> None:
    torch.manual_seed(0)
    linear = Linear(48, 33, bias=bias).bfloat16()
    x = torch.randn(4, 1, 48).bfloat16()
    products = []
    monkeypatch.setattr(torch, "mv", lambda w, v, mv=torch.mv: products.append(v.shape) or mv(w, v))
    with torch.no_grad():
        together, alone = linear(x), torch.stack([linear(row) for row in x])  # (4, 1, 33)
    assert products == [(48,)] * 4  # only the rows alone
    assert alone.shape == together.shape
    exact = F.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
    assert (alone - exact).norm() <= 2.5 * (together - exact).norm()  # rounded before the bias and after it
    linear(x[:1]).sum().backward()  # with gradients, the usual way
    with torch.no_grad():
        linear.float()(x[:1].float())
    assert len(products) == 4
