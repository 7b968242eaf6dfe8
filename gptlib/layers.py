"""The parts of a block that look at one position at a time: norms and feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.recording import Noted


class Linear(nn.Linear):
    """`nn.Linear`, which multiplies matrix and vector where there is one position only and a CPU writes in bf16.

    PyTorch's product of matrices prepares its bf16 units anew each time, which for a single row takes longer than the
    product itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (..., in_features) to (..., out_features)."""
        one_row = x.numel() == self.in_features and x.device.type == "cpu"
        if one_row and x.dtype == self.weight.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            y = torch.mv(self.weight, x.reshape(-1))  # (out_features, in_features) @ (in_features,)
            return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], self.out_features)
        return super().forward(x)


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer normalisation, step by step: subtract the mean, divide by the standard deviation, rescale.

    Args:
        x: (..., C); mean and variance are taken over the last dimension, the variance with 1/C and not 1/(C - 1).
        weight: (C,) scale, or None for 1.
        bias: (C,) shift, or None for 0.
        eps: added to the variance, inside the root.

    Source: Ba, Kiros & Hinton, "Layer Normalization" (2016), equation 4.
    """
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)  # (..., 1)
    x = (x - mean) / torch.sqrt(variance + eps)
    return _rescale(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Root-mean-square normalisation: layer normalisation without the mean and without the shift.

    Args:
        x: (..., C).
        weight: (C,) scale, or None for 1.
        eps: added to the mean square, inside the root.

    Source: Zhang & Sennrich, "Root Mean Square Layer Normalization" (2019), equation 4.
    """
    return _rescale(x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps), weight, None)


def _rescale(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


class LayerNorm(Noted):
    """`layer_norm` with a learned scale and, if `bias`, a learned shift. Fused form: `F.layer_norm`."""

    def __init__(self, n_embd: int, *, bias: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (..., C) over its last dimension."""
        if self.noted:
            return self.note("output", layer_norm(x, self.weight, self.bias, self.eps))
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class RMSNorm(Noted):
    """`rms_norm` with a learned scale. Fused form: `F.rms_norm`."""

    def __init__(self, n_embd: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (..., C) over its last dimension."""
        weight = self.weight.to(x.dtype)  # under autocast queries and keys come in bf16
        if self.noted:
            return self.note("output", rms_norm(x, weight, self.eps))
        return F.rms_norm(x, weight.shape, weight, self.eps)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by the tanh formula that GPT-2 was trained with (Hendrycks & Gimpel, 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """ReLU, squared (So et al., "Primer", 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu_squared,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
}
GATES: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu": F.gelu}


def _named(kind: str, name: str, known: dict[str, Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    if name not in known:
        raise ValueError(f"{kind}={name!r} is unknown; choose one of {', '.join(known)}")
    return known[name]


class MLP(Noted):
    """Feed-forward network of one hidden layer: widen, bend, narrow.

    Args:
        n_embd: width of the residual stream, C.
        n_inner: width of the hidden layer, 4 C in GPT-2.
        activation: a key of `ACTIVATIONS`.
        bias: whether both linear maps have one.
        dropout: probability of zeroing an element of the output while training.

    Raises:
        ValueError: for an activation that is not there.

    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 2; GELU as in GPT-2.
    """

    def __init__(
        self, n_embd: int, n_inner: int, *, activation: str = "gelu_tanh", bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.widen = Linear(n_embd, n_inner, bias=bias)
        self.activation = _named("activation", activation, ACTIVATIONS)
        self.narrow = Linear(n_inner, n_embd, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of `x` (..., C) on its own."""
        hidden = self.note("hidden", self.activation(self.widen(x)))  # (..., n_inner)
        return self.note("output", self.dropout(self.narrow(hidden)))  # (..., C)


class GatedMLP(Noted):
    """Feed-forward network whose hidden layer is multiplied by a gate: SwiGLU or GeGLU.

    Args:
        n_embd: width of the residual stream, C.
        n_inner: width of the hidden layer; 8/3 C gives the parameters of a plain MLP with 4 C.
        gate: a key of `GATES`.
        bias: whether the three linear maps have one.
        dropout: probability of zeroing an element of the output while training.

    Raises:
        ValueError: for a gate that is not there.

    Source: Shazeer, "GLU Variants Improve Transformer" (2020), equation 6.
    """

    def __init__(
        self, n_embd: int, n_inner: int, *, gate: str = "swiglu", bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.gate = Linear(n_embd, n_inner, bias=bias)
        self.widen = Linear(n_embd, n_inner, bias=bias)
        self.activation = _named("gate", gate, GATES)
        self.narrow = Linear(n_inner, n_embd, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of `x` (..., C) on its own."""
        hidden = self.note("hidden", self.activation(self.gate(x)) * self.widen(x))  # (..., n_inner)
        return self.note("output", self.dropout(self.narrow(hidden)))  # (..., C)
