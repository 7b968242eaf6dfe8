"""The sampling lab: the next token's distribution, under the learner's hand."""

from __future__ import annotations

from typing import Any

import torch
import traitlets
from torch import Tensor

from gptlib.generation import next_token_probabilities
from gptlib.model import GPT
from gptlib.plots import Picture, plot_next_tokens
from gptlib.tokenizers import BPETokenizer, CharTokenizer
from gptlib.widgets.base import View, ids_of, names_of, require_tokenizer, view_module

LABELS = 40  # as many bars as the view draws


class SamplingLab(View):
    """What comes next after `text`, and what temperature, top-k, top-p and min-p make of it.

    Sliders act in the browser at once, on the whole vocabulary. A button (key `s`) appends a token drawn from what is
    shown, a click on a bar appends that token, and the model computes the next distribution; `u` takes a token back.

    Args:
        model: the GPT that continues the text; beyond its `n_positions` it sees only the end, and the view says so.
        tokenizer: the one it was trained with.
        text: the prompt; empty only for a tokenizer with an end-of-text token, which then begins a new text.

    Raises:
        ValueError: for an empty text that cannot be begun, or one that the tokenizer cannot encode.

    Example:
        >>> from gptlib import GPT, GPTConfig, CharTokenizer
        >>> tokenizer = CharTokenizer.train("to be or not")
        >>> model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=16, n_embd=8, n_layer=2, n_head=2))
        >>> SamplingLab(model, tokenizer, "to be").pieces
        ['t', 'o', ' ', 'b', 'e']
    """

    _esm = view_module("sampling_lab")
    pieces = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the text so far, a string for each token
    prompt = traitlets.Int().tag(sync=True)  # how many of them were given
    forgotten = traitlets.Int().tag(sync=True)  # how many the model no longer sees
    logits = traitlets.Bytes().tag(sync=True)  # float32, one for each token of the vocabulary
    labels = traitlets.Dict().tag(sync=True)  # token id, as text, to its name: for the largest logits

    def __init__(self, model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str) -> None:
        tokenizer = require_tokenizer(tokenizer)
        if not text and tokenizer.end_id is not None:
            self._ids = [tokenizer.end_id]
        else:
            self._ids = ids_of(model, tokenizer, text)[0].tolist()
        super().__init__(model, tokenizer, prompt=len(self._ids), **_state(model, tokenizer, self._ids))

    @property
    def continuation(self) -> str:
        """The text that was appended so far."""
        return self._tokenizer.decode(self._ids[self.prompt :])

    def _answer(self, request: dict[str, Any]) -> None:
        ids = self._ids
        if "append" in request:
            token = int(request["append"])
            if not 0 <= token < self._model.config.vocab_size:
                raise ValueError(f"token id {token} is outside [0, {self._model.config.vocab_size})")
            ids = [*ids, token]
        elif "undo" in request:
            ids = ids[: max(self.prompt, len(ids) - 1)]
        elif "reset" in request:
            ids = ids[: self.prompt]
        else:
            raise ValueError(f"the view asked for {sorted(request)}; it can ask to append, undo or reset")
        for name, value in _state(self._model, self._tokenizer, ids).items():
            setattr(self, name, value)
        self._ids = ids

    def _picture(self) -> Picture:
        probabilities = next_token_probabilities(torch.frombuffer(bytearray(self.logits), dtype=torch.float32))
        top = probabilities.topk(min(20, len(probabilities)))
        names = names_of(self._tokenizer, top.indices.tolist())
        return plot_next_tokens(top.values, names, title=f"Most probable next tokens after {self._excerpt()}")

    def _sentence(self) -> str:
        probabilities = next_token_probabilities(torch.frombuffer(bytearray(self.logits), dtype=torch.float32))
        top = probabilities.topk(min(3, len(probabilities)))
        names = names_of(self._tokenizer, top.indices.tolist())
        likely = ", ".join(f"{name!r} {p:.1%}" for name, p in zip(names, top.values.tolist(), strict=True))
        return f"SamplingLab: after {self._excerpt()} the most probable next tokens are {likely}"

    def _excerpt(self, length: int = 30) -> str:
        text = "".join(self.pieces)
        return repr(text if len(text) <= length else "…" + text[1 - length :])


def next_token_logits(model: GPT, ids: Tensor) -> Tensor:
    """Logits (V,) in fp32 after the text `ids` (1, T), computed without dropout."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            logits, _ = model(ids.to(model.token_embedding.weight.device), only_last=True)  # (1, 1, V)
    finally:
        model.train(training)
    last: Tensor = logits[0, -1]  # (V,)
    return last.float().cpu()


def _state(model: GPT, tokenizer: BPETokenizer | CharTokenizer, ids: list[int]) -> dict[str, Any]:
    forgotten = max(0, len(ids) - model.config.n_positions)
    logits = next_token_logits(model, torch.tensor([ids[forgotten:]]))
    if not torch.isfinite(logits.max()):
        raise ValueError(
            f"the model's largest logit is {logits.max().item()}; its weights are damaged or diverged in training"
        )
    top = logits.sort(descending=True, stable=True).indices[:LABELS].tolist()
    return {
        "pieces": names_of(tokenizer, ids),
        "forgotten": forgotten,
        "logits": logits.numpy().astype("<f4").tobytes(),
        "labels": {str(i): name for i, name in zip(top, names_of(tokenizer, top), strict=True)},
    }
