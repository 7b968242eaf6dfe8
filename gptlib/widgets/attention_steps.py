"""Attention step by step: one head, a row at a time, with every number, and what breaks when a step is left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
import traitlets
from torch import Tensor

from gptlib.attention import causal_mask
from gptlib.model import GPT
from gptlib.plots import Picture, plot_attention_steps
from gptlib.positions import alibi_bias, alibi_slopes
from gptlib.recording import record
from gptlib.tokenizers import BPETokenizer, CharTokenizer
from gptlib.widgets.base import View, evaluating, ids_of, names_of, require_tokenizer, view_module

MAX_TOKENS = 48  # rows of numbers that somebody may still want to read
MAX_WIDTH = 256


class AttentionSteps(View):
    """QKᵀ, ÷ √D, + mask, softmax, · V: what each step makes of one query's row, and what breaks without it.

    Of vectors: `AttentionSteps(q, k, v)`. Of a model's head: `AttentionSteps(model, tokenizer, text, layer=0, head=0)`,
    and text, layer and head can be changed in the view. The keys 1 to 5 switch the steps.

    Args:
        q: queries (T, D); they are the last T of the keys' positions.
        k: keys (S, D), S ≤ 48 and D ≤ 256.
        v: values (S, E), E ≤ 256.
        mask: (T, S), added to the scores; the causal one if None.
        tokens: S labels; positions if None.
        model: in place of q: the GPT whose vectors are shown, positions and norms applied.
        tokenizer: in place of k: the one it was trained with.
        text: in place of v: 1 to 48 tokens.
        layer: of the model, from 0.
        head: of the layer, from 0.

    Raises:
        ValueError: if shapes do not fit, a size is over its limit, or the model has no such layer or head.

    Example:
        >>> q, k, v = torch.eye(3), torch.eye(3), torch.ones(3, 2)
        >>> AttentionSteps(q, k, v, tokens=["the", "cat", "sat"])._sentence()
        "AttentionSteps: 'sat' gives its largest weight, 0.47, to 'sat'"
    """

    _esm = view_module("attention_steps")
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the keys; the queries are the last T
    T = traitlets.Int().tag(sync=True)
    width = traitlets.Int().tag(sync=True)  # D
    out = traitlets.Int().tag(sync=True)  # E
    q = traitlets.Bytes().tag(sync=True)  # float32, as the next three, row after row
    k = traitlets.Bytes().tag(sync=True)
    v = traitlets.Bytes().tag(sync=True)
    mask = traitlets.Bytes().tag(sync=True)
    place = traitlets.Dict().tag(sync=True)  # layer, head, layers, heads, text of a model; empty for bare vectors

    @overload
    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, tokens: Sequence[str] | None = None
    ) -> None: ...
    @overload
    def __init__(
        self, q: GPT, k: BPETokenizer | CharTokenizer | None, v: str, *, layer: int = 0, head: int = 0
    ) -> None: ...
    def __init__(
        self,
        q: Tensor | GPT,
        k: Tensor | BPETokenizer | CharTokenizer | None,
        v: Tensor | str,
        *,
        mask: Tensor | None = None,
        tokens: Sequence[str] | None = None,
        layer: int = 0,
        head: int = 0,
    ) -> None:
        self._source: tuple[GPT, BPETokenizer | CharTokenizer] | None = None
        if isinstance(q, GPT) and not isinstance(k, Tensor) and isinstance(v, str):
            self._source = (q, require_tokenizer(k))
            values = _of_model(*self._source, v, layer, head)
        elif isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor):
            values = _of_vectors(q, k, v, mask, tokens)
        else:
            given = ", ".join(type(part).__name__ for part in (q, k, v))
            raise ValueError(f"AttentionSteps got {given}; give tensors q, k, v, or model, tokenizer, text")
        super().__init__(**values)

    def _answer(self, request: dict[str, Any]) -> None:
        if self._source is None:
            raise ValueError("this view shows vectors, not a model's head; there is nothing to choose")
        values = _of_model(*self._source, str(request["text"]), int(request["layer"]), int(request["head"]))
        for name, value in values.items():
            setattr(self, name, value)

    def _vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        def tensor(data: bytes, width: int) -> Tensor:
            return torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, width)

        return (
            tensor(self.q, self.width),
            tensor(self.k, self.width),
            tensor(self.v, self.out),
            tensor(self.mask, len(self.tokens)),
        )

    def _picture(self) -> Picture:
        return plot_attention_steps(*self._vectors(), self.tokens, title=f"Attention step by step{self._where()}")

    def _sentence(self) -> str:
        q, k, _, mask = self._vectors()
        weights = torch.softmax(q[-1] @ k.T / self.width**0.5 + mask[-1], dim=-1)  # (S,)
        most = int(weights.argmax())
        return (
            f"AttentionSteps{self._where()}: {self.tokens[-1]!r} gives its largest weight, {weights[most]:.2f}, to "
            f"{self.tokens[most]!r}"
        )

    def _where(self) -> str:
        return f", layer {self.place['layer']}, head {self.place['head']}" if self.place else ""


def _of_model(model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str, layer: int, head: int) -> dict[str, Any]:
    config = model.config
    for name, value, limit in (("layer", layer, config.n_layer), ("head", head, config.n_head)):
        if not 0 <= value < limit:
            raise ValueError(f"{name}={value} is outside [0, {limit}), the {name}s of this model")
    ids = ids_of(model, tokenizer, text)  # (1, T)
    T = ids.size(1)
    if min(MAX_TOKENS, config.n_positions) < T:
        raise ValueError(
            f"the text has {T} tokens and at most {min(MAX_TOKENS, config.n_positions)} are shown; make it shorter"
        )
    with evaluating(model), record(model) as run:
        model(ids)
    path = f"blocks.{layer}.attention"
    shared = config.n_head // config.kv_heads  # query heads that read the same keys and values
    q, k, v = (
        run[f"{path}.{name}"][0, h].float().cpu()  # (1, H, T, D) -> (T, D)
        for name, h in (("q", head), ("k", head // shared), ("v", head // shared))
    )
    mask = causal_mask(T, window=config.window)  # (T, T)
    if config.position == "alibi":
        places = torch.arange(T)
        mask = mask + alibi_bias(alibi_slopes(config.n_head), places, places)[head]
    where = {"layer": layer, "head": head, "layers": config.n_layer, "heads": config.n_head, "text": text}
    return {**_of_vectors(q, k, v, mask, names_of(tokenizer, ids[0].tolist())), "place": where}


def _of_vectors(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, tokens: Sequence[str] | None) -> dict[str, Any]:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.dim() == k.dim() == v.dim() == 2 or 0 in (*q.shape, *k.shape, *v.shape):
        raise ValueError(f"{shapes}: one head's vectors are shown, (T, D), (S, D) and (S, E); take one row of a batch")
    (T, D), (S, E) = q.shape, v.shape
    if k.shape != (S, D) or T > S:
        raise ValueError(f"{shapes}: k must be (S, D) with q's D and v's S, and no more queries than keys")
    if S > MAX_TOKENS or max(D, E) > MAX_WIDTH:
        raise ValueError(f"{shapes}: at most {MAX_TOKENS} positions of {MAX_WIDTH} numbers are shown; cut them down")
    mask = causal_mask(T, S) if mask is None else mask
    if mask.shape != (T, S) or mask.dtype == torch.bool:
        raise ValueError(f"mask {tuple(mask.shape)} of {mask.dtype} does not fit; add numbers of shape {(T, S)}")
    if bool((mask == -torch.inf).all(dim=-1).any()):
        raise ValueError("the mask forbids every key to some query; leave each at least one, such as itself")
    tokens = [str(position) for position in range(S)] if tokens is None else list(tokens)
    if len(tokens) != S:
        raise ValueError(f"{len(tokens)} tokens for {S} keys; give one for each key")
    names = {"q": q, "k": k, "v": v, "mask": mask}
    sent = {name: value.detach().float().cpu().contiguous().numpy().tobytes() for name, value in names.items()}
    return {"tokens": tokens, "T": T, "width": D, "out": E, "place": {}, **sent}
