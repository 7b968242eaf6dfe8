"""The attention viewer: every head's weights on one text or two, and what the model says without some heads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import traitlets
from torch import Tensor

from gptlib.interpret import PATTERNS, HeadScores, ablate_heads, attention_maps, score_maps
from gptlib.model import GPT
from gptlib.plots import Picture, plot_attention, plot_attention_heads, plot_attention_pair
from gptlib.recording import listening
from gptlib.tales import Mark, Story, parse
from gptlib.tokenizers import END_OF_TEXT, BPETokenizer, CharTokenizer
from gptlib.widgets.base import ModelView, ids_of, names_of, require_tokenizer, view_module, view_style

MAX_TOKENS = 256  # beyond, a cell of the map is smaller than a pixel or two
FLOAT32_BYTES = 4_000_000  # larger payloads are sent as float16: three digits instead of seven
SHOWN_NEXT = 8  # next tokens that are listed


class AttentionViewer(ModelView):
    """Which token looks at which: all layers and heads of `model` on `text`, one of them opened large.

    The text can be edited in the view; rows of tokens before the edit stay what they were. A head can be silenced, and
    the next token's distribution moves. A second text is shown beside the first, with the difference of the two. Arrow
    keys move the cursor, Page Up and Page Down change the head.

    Args:
        model: the GPT that reads the text.
        tokenizer: the one it was trained with.
        text: 1 to 256 tokens, and no more than the model's `n_positions`; of a story of `tales` the marks can be drawn.
            A story stands there from its first word on, without the end mark that stands before it in the training
            text: so the token at 0 is one that a reader can see. With `<|endoftext|>` written in front, in the view,
            the marks stay with their words, and what a head does with the end mark can be seen.
        other: a second text, or None; it can be given in the view as well.

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
    _css = view_style("attention_viewer")
    text = traitlets.Unicode().tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    ids = traitlets.List(traitlets.Int()).tag(sync=True)
    layers = traitlets.Int().tag(sync=True)
    heads = traitlets.Int().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)  # layers × heads × rows of the lower triangle
    dtype = traitlets.Unicode("float32").tag(sync=True)
    scores = traitlets.Bytes().tag(sync=True)  # float32: layers × heads × (entropy, distance, the PATTERNS)
    chance = traitlets.List(traitlets.Any()).tag(sync=True)  # under even attention; None: no token repeats
    labels = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # a head's, and the nearest
    marks = traitlets.List(traitlets.Any()).tag(sync=True)  # kind, start, end, and what it depends on: start, end
    other_text = traitlets.Unicode("").tag(sync=True)
    other_tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    other_ids = traitlets.List(traitlets.Int()).tag(sync=True)
    other_weights = traitlets.Bytes().tag(sync=True)
    silenced = traitlets.List(traitlets.Any()).tag(sync=True)  # pairs (layer, head)
    next_tokens = traitlets.Dict().tag(sync=True)  # labels; probabilities whole, with silenced heads, after `other`

    def __init__(
        self, model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str | Story, *, other: str = ""
    ) -> None:
        self._story = text if isinstance(text, Story) else None
        words = text.text if isinstance(text, Story) else text
        super().__init__(model, require_tokenizer(tokenizer))
        self._show(words, other or "", [])

    def _answer(self, request: dict[str, Any]) -> None:
        silenced = [(int(layer), int(head)) for layer, head in request.get("silenced", [])]
        self._show(str(request["text"]), str(request.get("other", "")), silenced)

    def _show(self, text: str, other: str, silenced: list[tuple[int, int]]) -> None:
        first = _read(self._model, self._tokenizer, text, silenced)
        second = _read(self._model, self._tokenizer, other, silenced) if other else None
        readings = [first] if second is None else [first, second]
        size = 4 * sum(reading.triangle.numel() for reading in readings)
        dtype = torch.float32 if size <= FLOAT32_BYTES else torch.float16
        scores = score_maps(first.maps[:, None], torch.tensor([first.ids]), window=self._model.config.window)
        values: dict[str, Any] = {
            "text": text,
            "tokens": first.tokens,
            "ids": first.ids,
            "layers": first.maps.size(0),
            "heads": first.maps.size(1),
            "weights": _bytes(first.triangle.to(dtype)),
            "dtype": str(dtype).removeprefix("torch."),
            **_scores(scores),
            "marks": [] if self._story is None else _token_marks(self._tokenizer, self._story, text, first.ids),
            "other_text": other,
            "other_tokens": second.tokens if second else [],
            "other_ids": second.ids if second else [],
            "other_weights": _bytes(second.triangle.to(dtype)) if second else b"",
            "silenced": [list(pair) for pair in silenced],
            "next_tokens": _next_tokens(self._tokenizer, first, second),
        }
        for name, value in values.items():
            setattr(self, name, value)

    def _maps(self, weights: bytes, T: int) -> Tensor:
        # From what was sent, not from the model: that may have been trained since.
        rows, columns = torch.tril_indices(T, T)
        sent = torch.frombuffer(bytearray(weights), dtype=getattr(torch, self.dtype))
        maps = torch.zeros(self.layers, self.heads, T, T)
        maps[:, :, rows, columns] = sent.float().view(self.layers, self.heads, -1)  # (L, H, T · (T + 1) / 2)
        return maps

    def _picture(self) -> Picture:
        maps = self._maps(self.weights, len(self.ids))
        if self.other_text:
            other = self._maps(self.other_weights, len(self.other_ids))
            pairs = zip(self.ids, self.other_ids, strict=False)
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(self.ids), len(self.other_ids)))
            title = f"Attention of all heads on {_excerpt(self.text, 28)} and on {_excerpt(self.other_text, 28)}"
            return plot_attention_pair(maps, other, title=title, same=same)
        if self.layers * self.heads == 1:
            return plot_attention(maps[0, 0], self.tokens, title="Attention of the only head")
        labels = [name for name, _ in self.labels]
        return plot_attention_heads(maps, title=f"Attention of all heads on {_excerpt(self.text)}", labels=labels)

    def _sentence(self) -> str:
        heads = f"{self.layers} layers × {self.heads} heads"
        there = f"; and on {len(self.other_tokens)}, {_excerpt(self.other_text)}" if self.other_text else ""
        return f"AttentionViewer: {heads} on {len(self.tokens)} tokens, {_excerpt(self.text)}{there}"


@dataclass
class _Reading:
    """What the model makes of one text: maps (L, H, T, T), and next-token probabilities (V,) with all heads and now."""

    ids: list[int]
    tokens: list[str]
    maps: Tensor
    whole: Tensor
    now: Tensor

    @property
    def triangle(self) -> Tensor:
        """What a causal head can look at: (L, H, T · (T + 1) / 2)."""
        rows, columns = torch.tril_indices(len(self.ids), len(self.ids))
        return self.maps[:, :, rows, columns]


def _read(model: GPT, tokenizer: BPETokenizer | CharTokenizer, text: str, silenced: list[tuple[int, int]]) -> _Reading:
    ids = ids_of(model, tokenizer, text)  # (1, T)
    limit = min(MAX_TOKENS, model.config.n_positions)
    if limit < ids.size(1):
        why = "the view shows" if limit == MAX_TOKENS else "the model sees"
        raise ValueError(f"the text has {ids.size(1)} tokens and {why} at most {limit}; shorten it")
    maps, now = _run(model, ids, silenced)
    whole = _run(model, ids, [])[1] if silenced else now
    return _Reading(ids[0].tolist(), names_of(tokenizer, ids[0].tolist()), maps, whole, now)


def _run(model: GPT, ids: Tensor, silenced: Iterable[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Maps (L, H, T, T) and next-token probabilities (V,) of one text (1, T), without the silenced heads."""
    last: list[Tensor] = []

    def keep(name: str, activation: Tensor) -> Tensor:
        if name == "logits":
            last.append(activation[0, -1].float().softmax(-1).cpu())  # (V,)
        return activation

    with ablate_heads(model, silenced), listening(model, keep):
        maps = attention_maps(model, ids)[:, 0].float().cpu()  # (L, 1, H, T, T) -> (L, H, T, T)
    return maps, last[-1]


def _scores(scores: HeadScores) -> dict[str, Any]:
    table = torch.stack([scores.entropy, scores.distance, *(scores.patterns[name] for name in PATTERNS)], dim=-1)
    chance = [scores.chance[name] for name in ("entropy", "distance", *PATTERNS)]
    L, H = scores.entropy.shape
    return {
        "scores": _bytes(table.nan_to_num()),  # (L, H, 7); `chance` says where there is nothing to score
        "chance": [None if value != value else value for value in chance],
        "labels": [list(scores.label(layer, head)[:2]) for layer in range(L) for head in range(H)],
    }


def _next_tokens(
    tokenizer: BPETokenizer | CharTokenizer, first: _Reading, second: _Reading | None
) -> dict[str, list[Any]]:
    columns = {"whole": first.whole, "now": first.now} | ({"other": second.now} if second else {})
    most = torch.stack(list(columns.values())).amax(0)  # (V,)
    top = most.sort(descending=True, stable=True).indices[:SHOWN_NEXT]
    return {"tokens": names_of(tokenizer, top.tolist())} | {name: p[top].tolist() for name, p in columns.items()}


def _token_marks(tokenizer: BPETokenizer | CharTokenizer, story: Story, text: str, ids: list[int]) -> list[list[Any]]:
    """The marks of the story that hold for `text`, as tokens: kind, start, end, start and end of what it depends on."""
    ends = [len(tokenizer.decode(ids[: i + 1])) for i in range(len(ids))]

    def span(start: int, end: int) -> list[int]:
        inside = [i for i, stop in enumerate(ends) if stop > start and (ends[i - 1] if i else 0) < end]
        return [inside[0], inside[-1] + 1]

    found = []
    for mark in _marks(story, text):
        if mark.antecedent is not None:
            found.append([mark.kind, *span(mark.start, mark.end), *span(*mark.antecedent)])
    return found


def _marks(story: Story, text: str) -> Iterable[Mark]:
    if text.startswith(END_OF_TEXT):
        return [_shifted(mark, len(END_OF_TEXT)) for mark in _marks(story, text.removeprefix(END_OF_TEXT))]
    if text == story.text:
        return story.marks
    try:
        return parse(text).marks
    except ValueError:  # edited, and no story any more: what stands before the edit still holds
        pairs = zip(text, story.text, strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(story.text)))
        return [mark for mark in story.marks if mark.end <= same]


def _shifted(mark: Mark, by: int) -> Mark:
    antecedent = mark.antecedent and (mark.antecedent[0] + by, mark.antecedent[1] + by)
    return mark._replace(start=mark.start + by, end=mark.end + by, antecedent=antecedent)


def _bytes(values: Tensor) -> bytes:
    data: bytes = values.contiguous().numpy().tobytes()
    return data


def _excerpt(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
