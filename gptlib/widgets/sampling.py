"""The sampling lab: the next token's distribution, under the learner's hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from gptlib.generation import Sampling, generate, next_token_probabilities, penalise_repetition
from gptlib.model import GPT
from gptlib.plots import Picture, plot_next_tokens
from gptlib.tokenizers import BPETokenizer, CharTokenizer
from gptlib.widgets.base import ModelView, evaluating, ids_of, names_of, require_tokenizer, view_module

LABELS = 40  # as many bars as the view draws
COMPARED = (0.0, 0.7, 2.0)  # temperatures at which the text is continued side by side
COMPARED_TOKENS = 24
NODES = 120  # of a tree, which somebody wants to overlook


class SamplingLab(ModelView):
    """What comes next after `text`, and what temperature, top-k, top-p, min-p and a repetition penalty make of it.

    Sliders act in the browser at once, on the whole vocabulary. A button (key `s`) appends a token drawn from what is
    shown, a click on a bar appends that token, and the model computes the next distribution; `u` takes a token back.
    Several continuations can be grown as a tree (key `g`), and the text continued at temperatures 0, 0.7 and 2.0.

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
    seen = traitlets.List(traitlets.Int()).tag(sync=True)  # ids that the text holds, each once: these a penalty lowers
    tree = traitlets.List(traitlets.Dict()).tag(sync=True)  # path (ids after the text), label and p of each node
    columns = traitlets.List(traitlets.Dict()).tag(sync=True)  # temperature, pieces, p (by the model) of each token

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
        if "grow" in request:
            self.tree = self._grown(request["grow"], request.get("settings", {}), int(request.get("branches", 3)))
            return
        if "compare" in request:
            self.columns = _compared(self._model, self._tokenizer, self._ids)
            return
        ids = self._ids
        if "append" in request:
            added = request["append"] if isinstance(request["append"], list) else [request["append"]]
            ids = [*ids, *self._checked(added)]
        elif "undo" in request:
            ids = ids[: max(self.prompt, len(ids) - 1)]
        elif "reset" in request:
            ids = ids[: self.prompt]
        else:
            raise ValueError(
                f"the view asked for {sorted(request)}; it can ask to append, undo or reset, to grow or to compare"
            )
        for name, value in _state(self._model, self._tokenizer, ids).items():
            setattr(self, name, value)
        self._ids, self.tree, self.columns = ids, [], []

    def _checked(self, tokens: Sequence[Any]) -> list[int]:
        for token in tokens:
            if not 0 <= int(token) < self._model.config.vocab_size:
                raise ValueError(f"token id {int(token)} is outside [0, {self._model.config.vocab_size})")
        return [int(token) for token in tokens]

    def _grown(self, paths: Sequence[Sequence[int]], settings: dict[str, Any], branches: int) -> list[dict[str, Any]]:
        """The tree with the most probable next tokens added below the nodes at `paths`; [] is the text's end."""
        choice = Sampling(**settings)
        if not 1 <= branches <= 8:
            raise ValueError(f"branches={branches} is outside 1 to 8")
        tree = list(self.tree)
        parents = {tuple(node["path"][:-1]) for node in tree}
        for path in map(self._checked, paths):
            if tuple(path) in parents:
                continue  # grown before
            if len(tree) + branches > NODES:
                raise ValueError(f"the tree has {len(tree)} nodes and at most {NODES} are shown; append one, or regrow")
            text = torch.tensor([[*self._ids, *path]])
            logits = next_token_logits(self._model, text[:, -self._model.config.n_positions :])[None]  # (1, V)
            p = next_token_probabilities(
                penalise_repetition(logits, text, choice.repetition_penalty),
                temperature=choice.temperature,
                top_k=choice.top_k,
                top_p=choice.top_p,
                min_p=choice.min_p,
            )[0]  # (1, V) -> (V,)
            top = p.sort(descending=True, stable=True)
            chosen = [i for i, q in zip(top.indices[:branches].tolist(), top.values.tolist(), strict=False) if q > 0]
            names = names_of(self._tokenizer, chosen)
            tree += [
                {"path": [*path, i], "label": name, "p": p[i].item()} for i, name in zip(chosen, names, strict=True)
            ]
        return tree

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
    with evaluating(model):
        logits, _ = model(ids.to(model.token_embedding.weight.device), only_last=True)  # (1, 1, V)
    last: Tensor = logits[0, -1]  # (V,)
    return last.float().cpu()


def _state(model: GPT, tokenizer: BPETokenizer | CharTokenizer, ids: list[int]) -> dict[str, Any]:
    forgotten = max(0, len(ids) - model.config.n_positions)
    logits = next_token_logits(model, torch.tensor([ids[forgotten:]]))
    if not torch.isfinite(logits.max()):
        raise ValueError(
            f"the model's largest logit is {logits.max().item()}; its weights are damaged or diverged in training"
        )
    seen = sorted(set(ids))
    # A penalty moves none but the seen ones: the names of what can come to the top are among these.
    order = logits.sort(descending=True, stable=True).indices
    top = list(dict.fromkeys([*order[: LABELS + len(seen)].tolist(), *seen]))
    return {
        "pieces": names_of(tokenizer, ids),
        "forgotten": forgotten,
        "logits": logits.numpy().astype("<f4").tobytes(),
        "labels": {str(i): name for i, name in zip(top, names_of(tokenizer, top), strict=True)},
        "seen": seen,
    }


def _compared(model: GPT, tokenizer: BPETokenizer | CharTokenizer, ids: list[int]) -> list[dict[str, Any]]:
    """The text continued at each of the temperatures, with the model's own probability of every token."""
    window = model.config.n_positions
    text = torch.tensor([ids[-window:]], device=model.token_embedding.weight.device)
    found = []
    for temperature in COMPARED:
        with evaluating(model):
            whole = generate(model, text, min(COMPARED_TOKENS, window - 1), temperature=temperature, slide=True)
            new = whole[:, text.size(1) :]  # (1, n)
            logits, _ = model(whole[:, -window:])  # (1, W, V)
            before = logits[0, -1 - new.size(1) : -1].float().softmax(dim=-1)  # (n, V)
        p = before.gather(1, new[0, :, None])[:, 0]  # (n, V) -> (n,)
        drawn = new[0].tolist()
        end = drawn.index(tokenizer.end_id) + 1 if tokenizer.end_id in drawn else len(drawn)
        found.append({"temperature": temperature, "pieces": names_of(tokenizer, drawn[:end]), "p": p[:end].tolist()})
    return found
