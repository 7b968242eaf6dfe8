"""From a prompt to text, piece by piece, up to a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gptlib.generation.beam import beam_search
from gptlib.generation.loop import stream
from gptlib.model import GPT

if TYPE_CHECKING:
    from gptlib.tokenizers import Tokenizer


def stream_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    stop: str | Sequence[str] = (),
    slide: bool = True,
    seed: int | None = None,
    **sampling: Any,
) -> Iterator[str]:
    """The continuation of `prompt` as text, piece by piece, without the prompt; ends at the end-of-text token.

    A character whose bytes are spread over several tokens comes out when it is whole, and what may be the beginning of
    a stop string when it is clear that it is none. An empty prompt starts a new text, which needs a tokenizer with an
    end-of-text token.

    Args:
        model: as for `generate`.
        tokenizer: the model's.
        prompt: text to continue.
        max_new_tokens: how many tokens to add at most.
        stop: one string or several: the text ends before the first that it comes to hold, wherever tokens end.
        slide: forget the older half of the text when `n_positions` are full; else refuse such a request.
        seed: of the draws.
        **sampling: the settings of `Sampling`, by name: `temperature=0.8, top_k=40`.

    Raises:
        ValueError: as `generate`, for an empty prompt that cannot be begun, and for an empty stop string.
    """
    stops = _stops(stop)
    ids = encode_prompt(tokenizer, prompt)
    tokens = stream(model, ids, max_new_tokens, stop_id=tokenizer.end_id, slide=slide, seed=seed, **sampling)
    return until(_characters(tokens, tokenizer), stops)


def search_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
) -> str:
    """The best continuation of `prompt` that `beam_search` finds, without the prompt; arguments as there and above.

    A stop string cuts the text that was found; the search knows nothing of it.

    Raises:
        ValueError: as `beam_search` and `stream_text`.
    """
    stops = _stops(stop)
    ids = encode_prompt(tokenizer, prompt)
    found = beam_search(
        model, ids, max_new_tokens, beams=beams, length_penalty=length_penalty, stop_id=tokenizer.end_id
    )
    new = found[0][0].ids[ids.size(1) :]  # of the only row the best beam: (new,)
    return "".join(until(_characters(new[:, None], tokenizer), stops))


def _stops(stop: str | Sequence[str]) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "" in stops:
        raise ValueError("stop='' stands in every text; give at least one letter, or leave it out")
    return stops


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> Tensor:
    """Ids (1, T) of `prompt`; of an empty one the end-of-text token, after which a new text begins.

    Raises:
        ValueError: for an empty prompt, if the tokenizer has no such token.
    """
    ids = tokenizer.encode(prompt)
    if not ids:
        if tokenizer.end_id is None:
            raise ValueError(
                "the prompt is empty and this tokenizer has no end-of-text token to begin with; give a letter"
            )
        ids = [tokenizer.end_id]
    return torch.tensor([ids])


def _characters(tokens: Iterable[Tensor], tokenizer: Tokenizer) -> Iterator[str]:
    """Text of `tokens`, (1,) each, in pieces of whole characters, up to the end-of-text token."""
    held: list[int] = []
    for token in tokens:
        if token.item() == tokenizer.end_id:
            break
        held.append(int(token.item()))
        text = tokenizer.decode(held)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            held = []
    if held:
        yield tokenizer.decode(held)


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces' text up to the first of the `stops` that is complete, itself left out.

    Of two that are complete at the same letter, the longer one is cut. Where pieces begin and end changes nothing.

    Example:
        >>> list(until(["one fi", "sh, two f", "ish"], ["two"]))
        ['one fi', 'sh, ']
    """
    held = ""  # what may be the beginning of a stop string
    for piece in pieces:
        held += piece
        found = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            if before := held[: min(found)[1]]:
                yield before
            return
        sure = len(held) - max((_overlap(held, stop) for stop in stops), default=0)
        if sure:
            yield held[:sure]
        held = held[sure:]
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """How many letters at the end of `text` are also the beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
