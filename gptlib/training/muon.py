"""Muon: a step whose matrices stretch no direction more than another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from gptlib.training.distributed import cut_like, whole

SMALL = 2**20  # numbers in a matrix; the products of a larger one keep all cores busy by themselves


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replace the singular values of each matrix by numbers near 1, and keep its singular vectors.

    Each round sends every singular value s to a·s + b·s³ + c·s⁵, for which products of matrices suffice. The three
    numbers are chosen so that small values grow fast; they end between 0.7 and 1.2, which is near enough for a step.

    Args:
        matrices: (..., m, n), m ≤ n; computed in bf16.
        steps: rounds.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value is above 1
    for _ in range(steps):
        gram = x @ x.mT  # (..., m, m)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # (..., m, n)
    return x


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal before the step; for the matrices inside the blocks.

    Takes the steps of `torch.optim.Muon`. Small matrices of one shape, and wide ones with tall ones turned round, are
    made orthogonal together, which for a small GPT takes half the time.

    Args:
        params: matrices.
        lr: learning rate. A step is scaled to the size of AdamW's, so that one rate does for both.
        weight_decay: part of a weight that a step takes away, times the rate.
        momentum: decay of the mean gradient (Nesterov's).

    Source: Jordan et al., "Muon" (2024); the scale 0.2 · √max(m, n): Liu et al., "Muon is Scalable for LLM Training"
    (2025), section 2.2.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            self._step(group)
        return loss

    def _step(self, group: dict[str, Any]) -> None:
        stacks: dict[object, list[Tensor]] = {}
        for p in group["params"]:
            if p.grad is not None:
                stacks.setdefault(tuple(sorted(p.shape)) if p.numel() <= SMALL else p, []).append(p)
        for stack in stacks.values():
            wide = torch.stack([self._update(p, group["momentum"]) for p in stack])  # (k, m, n)
            scale = group["lr"] * 0.2 * math.sqrt(wide.size(-1))
            for p, step in zip(stack, orthogonalize(wide).unbind(), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(cut_like(step if p.size(0) <= p.size(1) else step.mT, p), alpha=-scale)

    def _update(self, p: Tensor, momentum: float) -> Tensor:
        """The momentum's step with its matrix turned to be wide; of a matrix that is cut into parts, the whole."""
        assert p.grad is not None
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        mean = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
        update = whole(p.grad.lerp(mean, momentum))
        return update if p.size(0) <= p.size(1) else update.mT  # (m, n), m ≤ n
