"""Attention: every position looks at itself and at what came before it, and takes along what it finds useful."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib.cache import LayerCache
from gptlib.config import GPTConfig
from gptlib.layers import Linear, RMSNorm
from gptlib.positions import Rotary, alibi_bias, alibi_slopes
from gptlib.recording import Noted


def causal_mask(
    n_queries: int,
    n_keys: int | None = None,
    *,
    window: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Mask that is added to the scores so that no position sees a later one.

    Args:
        n_queries: T, the positions that look; they are the last T of the keys' positions.
        n_keys: S ≥ T, the positions that can be looked at; T if None.
        window: how many positions a query sees, itself included; all earlier ones if None.
        device: of the mask.
        dtype: of the mask.

    Returns:
        (T, S): 0 where a query may look, -inf where it may not.

    Raises:
        ValueError: if there are more queries than keys, or the window is below 1.

    Example:
        >>> causal_mask(3)
        tensor([[0., -inf, -inf],
                [0., 0., -inf],
                [0., 0., 0.]])
    """
    n_keys = n_queries if n_keys is None else n_keys
    if n_queries > n_keys:
        raise ValueError(f"{n_queries} queries and only {n_keys} keys; each query's own position is among the keys")
    if window is not None and window < 1:
        raise ValueError(f"window={window} lets a position see nothing, not even itself; use 1 or more, or None")
    queries = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]  # (T, 1)
    keys = torch.arange(n_keys, device=device)  # (S,)
    forbidden = keys > queries  # (T, S)
    if window is not None:
        forbidden = forbidden | (keys <= queries - window)
    return torch.zeros(n_queries, n_keys, device=device, dtype=dtype).masked_fill(forbidden, -math.inf)


def attention_scores(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """How much each query asks for each key: q·k / √D, plus the mask.

    Args:
        q: (..., T, D).
        k: (..., S, D) with the same leading dimensions.
        mask: (T, S), or with leading dimensions of `q`; added.

    Returns:
        (..., T, S).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (..., T, D) @ (..., D, S) -> (..., T, S)
    return scores if mask is None else scores + mask


def attention_weights(scores: Tensor) -> Tensor:
    """Softmax over the keys, in fp32 or wider: (..., T, S), each row a probability distribution."""
    return torch.softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), dim=-1)


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Each query's average of the values, weighted by how well their keys fit the query.

    Args:
        q: queries (..., T, D).
        k: keys (..., S, D).
        v: values (..., S, E).
        mask: added to the scores before the softmax: 0 keeps, -inf forbids; (T, S) or with leading dimensions of `q`.

    Returns:
        output (..., T, E) and weights (..., T, S), whose rows sum to 1.

    Raises:
        ValueError: if the shapes do not fit each other; nothing is broadcast but the mask.

    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 1.
    """
    _check_shapes(q, k, v, mask)
    weights = attention_weights(attention_scores(q, k, mask)).to(v.dtype)  # (..., T, S)
    return weights @ v, weights  # (..., T, S) @ (..., S, E) -> (..., T, E)


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if min(q.dim(), k.dim(), v.dim()) < 2:
        raise ValueError(f"{shapes}: each needs at least two dimensions, (positions, features)")
    if q.size(-1) != k.size(-1):
        raise ValueError(f"{shapes}: queries and keys differ in their last dimension, so no dot product can be taken")
    if k.size(-2) != v.size(-2):
        raise ValueError(f"{shapes}: every key needs its value, and the numbers of positions differ")
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(f"{shapes}: the leading dimensions differ; expand them first")
    if mask is not None:
        allowed = (*q.shape[:-1], k.size(-2))
        if mask.dtype == torch.bool:
            raise ValueError(
                "the mask is boolean; this one is added to the scores: 0 keeps a position, -inf forbids it"
            )
        lead = zip(reversed(mask.shape[:-2]), reversed(allowed[:-2]), strict=False)
        fits = mask.dim() <= len(allowed) and all(ours in (1, theirs) for ours, theirs in lead)
        if mask.shape[-2:] != allowed[-2:] or not fits:
            raise ValueError(f"mask {tuple(mask.shape)} does not fit scores of shape {allowed}; make it {allowed[-2:]}")


def split_heads(x: Tensor, n_head: int) -> Tensor:
    """Cut C features into heads: (B, T, C) -> (B, n_head, T, C / n_head)."""
    B, T, C = x.shape
    return x.view(B, T, n_head, C // n_head).transpose(1, 2)  # (B, T, H, D) -> (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side again: (B, H, T, D) -> (B, T, H · D)."""
    B, H, T, D = x.shape
    return x.transpose(1, 2).reshape(B, T, H * D)  # (B, H, T, D) -> (B, T, H, D) -> (B, T, C)


def _trains_in_bf16_on_cpu(q: Tensor) -> bool:
    """Whether `_dense` is faster than PyTorch's fused kernel, whose backward pass does not use a CPU's bf16 units.

    Only for short texts: it keeps T × T weights for the backward pass, and the fused kernel none.
    """
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and q.size(2) <= 512


class CausalSelfAttention(Noted):
    """Several heads of causal attention over one sequence.

    The config chooses multi-head, grouped-query (`n_kv_head` < `n_head`) or multi-query (`n_kv_head` = 1) attention, a
    sliding `window`, rotary positions or ALiBi, and `qk_norm`. While somebody records, the plain form above computes
    the result; otherwise PyTorch's fused kernel does, with the same numbers.

    Args:
        config: a `GPTConfig`.
        rotary: shared by the blocks of a model; made here if None and the config asks for it.
    """

    slopes: Tensor | None

    def __init__(self, config: GPTConfig, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.kv_heads, config.head_dim
        self.window = config.window
        self.qk_norm = config.qk_norm
        self.dropout = config.dropout
        inner = config.n_head * config.head_dim
        self.qkv = Linear(config.n_embd, inner + 2 * config.kv_heads * config.head_dim, bias=config.attention_bias)
        self.project = Linear(inner, config.n_embd, bias=config.bias)
        self.q_norm = RMSNorm(config.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_dim, eps=config.norm_eps) if config.qk_norm else nn.Identity()
        if config.position == "rotary" and rotary is None:
            rotary = Rotary(config.n_positions, config.head_dim, base=config.rotary_base, scaling=config.rotary_scaling)
        self.rotary = rotary
        slopes = alibi_slopes(config.n_head) if config.position == "alibi" else None
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, x: Tensor, *, cache: LayerCache | None = None, padding: Tensor | None = None) -> Tensor:
        """Attend within `x`, and to what the `cache` holds.

        Args:
            x: (B, T, C).
            cache: keys and values of earlier positions; grows by T.
            padding: (B,), how many positions at the start of each row, the cached ones included, are fill that nobody
                may look at.

        Returns:
            (B, T, C); at fill positions numbers without a meaning.
        """
        groups = [self.n_head, self.n_kv_head, self.n_kv_head]
        heads = split_heads(self.qkv(x), sum(groups))  # (B, H + 2·n_kv_head, T, D)
        q, k, v = torch.split(heads, groups, dim=1)  # (B, H, T, D), 2 × (B, n_kv_head, T, D)
        q, k = self.q_norm(q), self.k_norm(k)
        start = 0 if cache is None else cache.length
        if self.rotary is not None:
            first = start if padding is None else start - padding  # a row's position 0 is its first token, not its fill
            qk = torch.cat([q, k], dim=1) if self.qk_norm else heads[:, : -self.n_kv_head]
            q, k = torch.split(self.rotary(qk, first), groups[:2], dim=1)  # turned in one go
        q, k, v = self.note("q", q), self.note("k", k), self.note("v", v)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, n_kv_head, S, D)
        attend = self._plain if self.noted else self._fused
        heads = attend(q, k, v, start, padding)  # (B, H, T, D)
        output = F.dropout(self.project(merge_heads(heads)), self.dropout, self.training)  # (B, T, C)
        return self.note("output", output)

    def _plain(self, q: Tensor, k: Tensor, v: Tensor, start: int, padding: Tensor | None) -> Tensor:
        shared = self.n_head // self.n_kv_head  # query heads that read the same keys and values
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)  # (B, H, S, D)
        mask = self._mask(q, k, start, padding)
        scores = self.note("scores", attention_scores(q, k, mask))  # (B, H, T, S)
        weights = self.note("weights", attention_weights(scores).to(v.dtype))
        return self.note("heads", F.dropout(weights, self.dropout, self.training) @ v)  # (B, H, T, D)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, start: int, padding: Tensor | None) -> Tensor:
        T, S = q.size(2), k.size(2)
        if self.slopes is None and padding is None and T == S and _trains_in_bf16_on_cpu(q):
            return self._dense(q, k, v)
        plainly_causal = self.slopes is None and self.window is None and padding is None
        free = plainly_causal and T == 1  # a single query at the end may look everywhere
        causal = plainly_causal and T == S and not free
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if free or causal else self._mask(q, k, start, padding),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
            enable_gqa=self.n_kv_head != self.n_head,
        )

    def _dense(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The plain form in three large operations: softmax(mask + q·k / √D) · v.

        Scores and weights are kept in bf16; the softmax between them computes in fp32.
        """
        B, H, T, D = q.shape
        shared = self.n_head // self.n_kv_head
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)  # (B, H, T, D)
        q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (B · H, T, D)
        mask = causal_mask(T, window=self.window, device=q.device, dtype=q.dtype)  # (T, T)
        with torch.autocast(q.device.type, enabled=False):  # it would write the weights in fp32, twice as many bytes
            scores = torch.baddbmm(mask, q, k.mT, alpha=1 / math.sqrt(D))  # (B · H, T, T)
            weights = F.dropout(torch.softmax(scores, dim=-1), self.dropout, self.training)
            return (weights @ v).view(B, H, T, D)

    def _mask(self, q: Tensor, k: Tensor, start: int, padding: Tensor | None) -> Tensor:
        T, S = q.size(2), k.size(2)
        mask = causal_mask(T, S, window=self.window, device=q.device)  # (T, S)
        if self.slopes is None and padding is None:
            return mask.to(q.dtype)
        places = torch.arange(start + T - S, start + T, device=q.device)  # (S,), the last T are the queries' own
        if self.slopes is not None:
            mask = mask + alibi_bias(self.slopes.float(), places[S - T :], places)  # (H, T, S)
            mask = mask[None]  # (1, H, T, S): the CPU's fused kernel takes two dimensions or four
        if padding is not None:
            fill = (places < padding[:, None])[:, None]  # (B, 1, S)
            itself = places == places[S - T :, None]  # (T, S); fill sees itself: of nothing there is no softmax
            mask = torch.where((fill & ~itself)[:, None], -math.inf, mask)  # (B, 1 or H, T, S)
        return mask.to(q.dtype)
