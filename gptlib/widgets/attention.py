"""The attention viewer: every head's weights on one text."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from torch import Tensor

from gptlib.model import GPT
from gptlib.plots import Picture, plot_attention, plot_attention_heads
from gptlib.recording import listening
from gptlib.tokenizers import BPETokenizer, CharTokenizer
from gptlib.widgets.base import View, ids_of, names_of, require_tokenizer, view_module

MAX_TOKENS = 256  # beyond, a cell of the map is smaller than a pixel or two
FLOAT32_BYTES = 4_000_000  # larger payloads are sent as float16: three digits instead of seven


class AttentionViewer(View):
    """Which token looks at which: all layers and heads of `model` on `text`, one of them opened large.

    The text can be edited in the view; rows of tokens before the edit stay what they were. Arrow keys move the cursor,
    Page Up and Page Down change the head.

    Args:
        model: the GPT that reads the text.
        tokenizer: the one it was trained with.
        text: 1 to 256 tokens, and no more than the model's `n_positions`.

    Raises:
        ValueError: for an empty text, one that is too long, or a text that the tokenizer cannot encode.

    Example:
        >>> from gptlib import GPT, GPTConfig, CharTokenizer
        >>> tokenizer = CharTokenizer.train("to be or not")
        >>> model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=8, n_layer=2, n_head=2))
        >>> AttentionViewer(model, tokenizer, "to be").tokens
        ['t', 'o', ' ', 'b', 'e']
    """

    _esm = view_module("attention_viewer")
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    ids = traitlets.List(traitlets.Int()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)  # layers × heads × rows of the lower triangle
    dtype = traitlets.Unicode("float32").tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)

    def __init__(self, model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str) -> None:
        super().__init__(model, require_tokenizer(tokenizer), **_state(model, require_tokenizer(tokenizer), text))

    def _answer(self, request: dict[str, Any]) -> None:
        for name, value in _state(self._model, self._tokenizer, str(request["text"])).items():
            setattr(self, name, value)

    def _picture(self) -> Picture:
        # From what was sent, not from the model: that may have been trained since.
        T = len(self.ids)
        rows, columns = torch.tril_indices(T, T)
        sent = torch.frombuffer(bytearray(self.weights), dtype=getattr(torch, self.dtype))
        maps = torch.zeros(self.layers, self.heads, T, T)
        maps[:, :, rows, columns] = sent.float().view(self.layers, self.heads, -1)  # (L, H, T · (T + 1) / 2)
        if self.layers * self.heads == 1:
            return plot_attention(maps[0, 0], self.tokens, title="Attention of the only head")
        return plot_attention_heads(maps, title=f"Attention of all heads on {_excerpt(self.text)}")

    def _sentence(self) -> str:
        heads = f"{self.layers} layers × {self.heads} heads"
        return f"AttentionViewer: {heads} on {len(self.tokens)} tokens, {_excerpt(self.text)}"


def attention_maps(model: GPT, ids: Tensor) -> Tensor:
    """Attention weights of every layer and head on one text.

    Args:
        model: computes without dropout, and stays in the mode it is in.
        ids: (1, T).

    Returns:
        (L, H, T, T), each row summing to 1.
    """
    layers: list[Tensor] = []

    def keep(name: str, activation: Tensor) -> Tensor:
        # Only the weights: a full recording of a large model would hold every activation for nothing.
        if name.endswith(".attention.weights"):
            layers.append(activation[0])
        return activation

    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), listening(model, keep):
            model(ids.to(model.token_embedding.weight.device))
    finally:
        model.train(training)
    return torch.stack(layers)


def _state(model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str) -> dict[str, Any]:
    ids = ids_of(model, tokenizer, text)  # (1, T)
    T = ids.size(1)
    limit = min(MAX_TOKENS, model.config.n_positions)
    if limit < T:
        why = "the view shows" if limit == MAX_TOKENS else "the model sees"
        raise ValueError(f"the text has {T} tokens and {why} at most {limit}; shorten it")
    maps = attention_maps(model, ids)  # (L, H, T, T)
    rows, columns = torch.tril_indices(T, T)
    triangle = maps[:, :, rows, columns]  # (L, H, T · (T + 1) / 2)
    dtype = torch.float32 if 4 * triangle.numel() <= FLOAT32_BYTES else torch.float16
    return {
        "tokens": names_of(tokenizer, ids[0].tolist()),
        "ids": ids[0].tolist(),
        "layers": maps.size(0),
        "heads": maps.size(1),
        "weights": triangle.to("cpu", dtype).numpy().tobytes(),
        "dtype": str(dtype).removeprefix("torch."),
        "text": text,
    }


def _excerpt(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
