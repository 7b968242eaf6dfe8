"""Runs that are ill on purpose, and healthy ones beside them: `python source/measure/sick_runs.py`.

Each run trains the same small GPT on tales and keeps what a careful person would log. An illness is one line that is
wrong; each is marked below by its name. Exercise `training.diagnose` shows them and is checked on variations of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import tales
from gptlib.attention import CausalSelfAttention, merge_heads, split_heads
from gptlib.config import GPTConfig
from gptlib.corpora import load_corpus
from gptlib.measured import save
from gptlib.model import GPT
from gptlib.pretrained import load_model
from gptlib.training import TrainConfig
from gptlib.training.data import TokenData, tokenize_corpus
from gptlib.training.step import clip_gradient, learning_rate_at, make_optimizers, set_learning_rate

CAUSES = ("initial scale", "no warmup", "last position only", "shifted targets", "leak", "dropout in evaluation")
# Healthy runs need not be alike: what differs from the others, and the same in words.
HEALTHY: dict[str, dict[str, Any]] = {
    "": {},
    ", with a low learning rate and no warmup": {"learning_rate": 4e-3, "warmup": 0},
}
T, STEPS, EVAL_EVERY, EVAL_WINDOWS, BATCH = 64, 300, 50, 64, 16
STORIES, NEW_TOKENS = 8, 60  # of the samples


@cache
def data() -> tuple[TokenData, TokenData, Any]:
    """Return the training and validation tokens, and the tokenizer."""
    _, tokenizer = load_model("tales")
    assert tokenizer is not None
    return *tokenize_corpus(load_corpus("tales:5000"), tokenizer, T), tokenizer


def without_mask(part: CausalSelfAttention) -> Callable[..., Tensor]:
    """Return the forward of an attention that forgot its causal mask."""

    def forward(x: Tensor, **_: Any) -> Tensor:
        q, k, v = (split_heads(each, part.n_head) for each in part.qkv(x).chunk(3, dim=-1))  # 3 × (B, H, T, D)
        assert part.rotary is not None
        q, k = part.rotary(q), part.rotary(k)
        rate = part.dropout if part.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)  # leak: is_causal=True is missing
        return F.dropout(part.project(merge_heads(heads)), part.dropout, part.training)

    return forward


def make_model(cause: str, dropout: float) -> GPT:
    """Return the model before its first step."""
    _, _, tokenizer = data()
    model = GPT(
        GPTConfig(
            vocab_size=tokenizer.vocab_size,
            n_positions=T,
            n_embd=64,
            n_layer=3,
            n_head=4,
            dropout=dropout,
            position="rotary",
        )
    )
    if cause == "initial scale":
        nn.init.normal_(model.token_embedding.weight)  # standard deviation 1, and tied to the output
    if cause == "leak":
        for block in model.blocks:
            block.attention.forward = without_mask(block.attention)  # type: ignore[union-attr, arg-type]
    return model


def batch(cause: str, tokens: TokenData, step: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, both (B, T)."""
    windows, after = tokens.batch(step, size, T + 1, seed)  # (B, T + 1), and the same one token later
    return windows[:, :-1], after[:, 1:] if cause == "shifted targets" else after[:, :-1]  # two tokens later


def losses(model: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss at every position, (B, T)."""
    logits, _ = model(inputs)  # (B, T, V)
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")  # (B, T)


@torch.no_grad()
def validate(cause: str, model: GPT) -> Tensor:
    """Return the validation loss at every position, (T,), over the same windows each time."""
    model.train(cause == "dropout in evaluation")  # model.eval() was forgotten
    _, validation, _ = data()
    found = losses(model, *batch(cause, validation, 0, EVAL_WINDOWS, seed=0)).mean(0)
    model.train()
    return found


@torch.no_grad()
def write(cause: str, model: GPT, seed: int) -> Tensor:
    """Return stories that the model writes, (STORIES, NEW_TOKENS), one token at a time as always."""
    model.train(cause == "dropout in evaluation")
    _, _, tokenizer = data()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((STORIES, 1), tokenizer.end_id)
    for _ in range(NEW_TOKENS):
        logits, _ = model(ids)
        new = torch.multinomial(logits[:, -1].softmax(-1), 1, generator=generator)  # (B, 1)
        ids = torch.cat([ids, new], dim=1)
    model.train()
    return ids[:, 1:]


@cache
def seen_pairs(apart: int) -> frozenset[int]:
    """Return the pairs of tokens that stand so far apart somewhere in the training text."""
    ids = data()[0].ids.long()
    return frozenset((ids[:-apart] * 4096 + ids[apart:]).tolist())


def known(ids: Tensor, apart: int) -> float:
    """Return the share of neighbouring tokens in samples that stand so far apart in the training text."""
    pairs = (ids[:, :-1] * 4096 + ids[:, 1:]).flatten().tolist()
    return sum(pair in seen_pairs(apart) for pair in pairs) / len(pairs)


def train(
    cause: str,
    seed: int,
    *,
    dropout: float = 0.1,
    learning_rate: float = 1e-2,
    warmup: int = 30,
    size: int = BATCH,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Train one model and return its log."""
    tokens, _, tokenizer = data()
    torch.manual_seed(seed)
    model = make_model(cause, dropout)
    config = TrainConfig(
        steps=steps, learning_rate=learning_rate, warmup_steps=0 if cause == "no warmup" else warmup, grad_clip=1.0
    )
    optimizers = make_optimizers(model, config)
    log: dict[str, Any] = {name: [] for name in ("train_loss", "learning_rate", "gradient_norm")}
    log |= {name: [] for name in ("eval_step", "val_loss", "val_loss_again")}
    for step in range(steps + 1):
        if step % EVAL_EVERY == 0 or step == steps:
            by_position, again = validate(cause, model), validate(cause, model)
            log["eval_step"].append(step)
            log["val_loss"].append(by_position.mean().item())
            log["val_loss_again"].append(again.mean().item())
        if step == steps:
            break
        rate = learning_rate_at(step, config)
        set_learning_rate(optimizers, rate)
        loss = losses(model, *batch(cause, tokens, step, size, seed))  # (B, T)
        loss = loss[:, -1].mean() if cause == "last position only" else loss.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradient(model, config.grad_clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        log["train_loss"].append(loss.item())
        log["learning_rate"].append(rate)
        log["gradient_norm"].append(norm.item())
    ids = write(cause, model, seed)
    log["val_loss_by_position"] = by_position.tolist()
    log["known_pairs"], log["known_pairs_two_apart"] = known(ids, 1), known(ids, 2)
    log["sample"] = tokenizer.decode(ids[0].tolist())
    return log


def plan() -> list[tuple[str, str]]:
    """Return which runs there are: the cause, and for healthy ones the kind."""
    return [*((cause, "") for cause in CAUSES), *(("healthy", kind) for kind in HEALTHY)]


def gather(make: Callable[[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Make all runs and put each together with what they share."""
    _, _, tokenizer = data()
    shared = {"vocab_size": tokenizer.vocab_size, "floor": tales.entropy(tokenizer).nats_per_token}
    return {
        "runs": [{"cause": cause, "kind": kind, "log": short(shared | make(cause, kind))} for cause, kind in plan()]
    }


def short(value: Any) -> Any:
    """Round every float to 4 significant digits, which is what a log would print."""
    if isinstance(value, dict):
        return {name: short(each) for name, each in value.items()}
    if isinstance(value, list):
        return [short(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Make and keep all runs."""
    began = time.perf_counter()
    torch.set_num_threads(1)  # so small a model gains nothing from a second
    results = gather(lambda cause, kind: train(cause, seed=1, **HEALTHY[kind]))
    print(save("sick_runs", results, seconds=time.perf_counter() - began))


if __name__ == "__main__":
    main()
