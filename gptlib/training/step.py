"""The pieces of one optimizer step: which parameters decay, how large the step is, and how it is taken."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gptlib.training.config import TrainConfig
from gptlib.training.distributed import whole
from gptlib.training.muon import Muon


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warmup, then half a cosine from `learning_rate` down to `final_learning_rate` at the last step.

    Args:
        step: 0 for the first step.
        config: the run's.
    """
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - 1 - config.warmup)  # 0 … 1
    low, high = config.final_learning_rate, config.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, with weight decay on matrices and embeddings only; or Muon for the blocks' matrices and AdamW else.

    A bias or a norm's scale is one number a feature: pulling it towards 0 changes what the model can say, not how
    simple it is.

    Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2017); Jordan et al., "Muon" (2024), its steps
    scaled to AdamW's size as in Liu et al., "Muon is Scalable for LLM Training" (2025), so that one learning rate does.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inside = (
        [p for name, p in named if name.startswith("blocks.") and p.dim() == 2] if config.optimizer == "muon" else []
    )
    rest = [p for _, p in named if not any(p is q for q in inside)]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
    ]
    if inside:
        rate, decay = config.learning_rate, config.weight_decay
        optimizers.append(Muon(inside, lr=rate, weight_decay=decay))
    return optimizers


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    """Give all parameters this learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def clip_gradient(model: nn.Module, limit: float) -> Tensor:
    """Scale the whole gradient down to norm `limit` if it is longer (0: never); returns the norm before, a scalar."""
    return whole(nn.utils.clip_grad_norm_(model.parameters(), limit if limit > 0 else math.inf))
