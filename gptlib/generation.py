"""From logits to text: how a next token is chosen, and the loop that chooses one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gptlib.cache import KVCache
from gptlib.model import GPT

if TYPE_CHECKING:
    from gptlib.tokenizers import Tokenizer


def next_token_probabilities(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Tensor:
    """The distribution from which the next token is drawn.

    Steps, in this order: divide by the temperature, keep the k largest, keep the fewest that reach p together, keep
    those of at least `min_p` times the largest, renormalise. What is filtered out has probability exactly 0.

    Args:
        logits: (..., V).
        temperature: 1 leaves the model's own distribution, less sharpens it, more flattens it, 0 is greedy.
        top_k: number of tokens kept, at least 1; of equal ones the lower id goes first.
        top_p: probability that the kept tokens reach together, in (0, 1].
        min_p: share of the largest probability that a token needs, in [0, 1].

    Returns:
        (..., V) fp32, each row summing to 1.

    Raises:
        ValueError: for a setting outside its range.

    Source: temperature, Ackley et al. (1985); top-k, Fan et al. (2018); top-p, Holtzman et al. (2019); min-p, Nguyen et
    al. (2024).
    """
    check_sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits = logits.float()
    if temperature == 0:
        largest = logits.argmax(dim=-1, keepdim=True)  # (..., 1), the lowest id among equals
        return torch.zeros_like(logits).scatter(-1, largest, 1.0)
    tiny = torch.finfo(logits.dtype).tiny  # below it fp32 has 0, and 0 / 0 is no number
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / max(temperature, tiny)  # the largest at 0: no overflow
    if top_k is None and top_p is None and min_p is None:
        return torch.softmax(logits, dim=-1)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[..., top_k:] = -torch.inf
    if top_p is not None and top_p < 1:
        p = torch.softmax(ordered, dim=-1)
        before = p.cumsum(dim=-1) - p  # probability of all that stand ahead; 0 for the first, which always stays
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    if min_p is not None:
        p = torch.softmax(ordered, dim=-1)
        ordered = ordered.masked_fill(p < min_p * p[..., :1], -torch.inf)
    return torch.zeros_like(logits).scatter(-1, ids, torch.softmax(ordered, dim=-1))


def penalise_repetition(logits: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Lower the logits of tokens that the text already holds.

    Args:
        logits: (B, V).
        ids: (B, T), the text so far.
        penalty: 1 changes nothing; positive logits are divided by it, negative ones multiplied.

    Source: Keskar et al., "CTRL" (2019), section 4.1.
    """
    seen = logits.gather(1, ids)  # (B, T)
    return logits.scatter(1, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def generate(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_id: int | None = None,
    use_cache: bool = True,
    slide: bool = False,
    seed: int | None = None,
) -> Tensor:
    """Continue each row of `ids`.

    Args:
        model: its weights' dtype and device are computed in.
        ids: (B, T) int64, at least one token.
        max_new_tokens: how many to add at most.
        temperature: see `next_token_probabilities`, as for the next three; 0 takes the most probable token.
        top_k: keep this many.
        top_p: keep the fewest that reach this probability.
        min_p: keep those of at least this share of the largest.
        repetition_penalty: see `penalise_repetition`; 1 for none.
        stop_id: a row that draws this id is finished and repeats it; when all are, generation ends.
        use_cache: keep keys and values; the same tokens either way, only slower without.
        slide: when `n_positions` are full, forget the older half of the text and go on; else refuse such a request.
        seed: of the draws; the global generator if None.

    Returns:
        (B, T + new) int64, the prompt included.

    Raises:
        ValueError: for ids out of range, a text longer than the model's positions, or a setting outside its range.

    Example:
        >>> from gptlib import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab_size=11, n_positions=8, n_embd=12, n_layer=2, n_head=3))
        >>> generate(model, torch.tensor([[1, 2, 3]]), 4, temperature=0).shape
        torch.Size([1, 7])
    """
    new = stream(
        model,
        ids,
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop_id=stop_id,
        use_cache=use_cache,
        slide=slide,
        seed=seed,
    )
    return torch.cat([ids, *(token[:, None] for token in new)], dim=1)


def stream(
    model: GPT,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_id: int | None = None,
    use_cache: bool = True,
    slide: bool = False,
    seed: int | None = None,
) -> Iterator[Tensor]:
    """As `generate`, handing out each new token, (B,) int64, as soon as it is drawn; arguments are checked at once."""
    check_sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    check_ids(ids, model.config.vocab_size)
    _check_length(ids.size(1), max_new_tokens, model.config.n_positions, slide)
    device = model.token_embedding.weight.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)

    def choose(logits: Tensor, text: Tensor) -> Tensor:
        if repetition_penalty != 1:
            logits = penalise_repetition(logits, text, repetition_penalty)
        if temperature == 0:
            return logits.argmax(dim=-1)  # (B,)
        p = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        return torch.multinomial(p, 1, generator=generator)[:, 0]  # (B,)

    def loop() -> Iterator[Tensor]:
        text = ids.to(device, torch.int64)  # (B, T), growing
        reader = _Reader(model, text, max_new_tokens, use_cache)
        finished = torch.zeros(len(text), dtype=torch.bool, device=device)
        for _ in range(max_new_tokens):
            token = choose(reader.next_logits(text), text)
            if stop_id is not None:
                token = torch.where(finished, stop_id, token)
                finished = finished | (token == stop_id)
            text = torch.cat([text, token[:, None]], dim=1)
            yield token.to(ids.device)
            if stop_id is not None and bool(finished.all()):
                return

    return loop()


class _Reader:
    """Feeds a growing text to the model, as little of it as the cache allows, and never more than fits."""

    def __init__(self, model: GPT, text: Tensor, max_new_tokens: int, use_cache: bool) -> None:
        self.model = model
        self.capacity = min(model.config.n_positions, text.size(1) + max_new_tokens)
        self.use_cache = use_cache
        self.start = max(0, text.size(1) - model.config.n_positions)  # first token that the model still knows of
        self.cache: KVCache | None = None

    def next_logits(self, text: Tensor) -> Tensor:
        """Logits (B, V) after `text` (B, T)."""
        if text.size(1) - self.start > self.model.config.n_positions:
            self.start = text.size(1) - max(1, self.model.config.n_positions // 2)
            self.cache = None
        if self.use_cache and self.cache is None:
            weight = self.model.token_embedding.weight
            self.cache = KVCache(
                self.model.config, len(text), capacity=self.capacity, dtype=weight.dtype, device=weight.device
            )
        unread = text[:, self.start + (self.cache.length if self.cache else 0) :]
        with _evaluating(self.model), torch.inference_mode():
            logits: Tensor = self.model(unread, cache=self.cache, only_last=True)[0]  # (B, 1, V)
        return logits[:, -1]


@contextmanager
def _evaluating(model: GPT) -> Iterator[None]:
    training = model.training
    if training:
        model.eval()  # dropout left on would make a different model write each token
    try:
        yield
    finally:
        if training:
            model.train()


def stream_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    slide: bool = True,
    seed: int | None = None,
) -> Iterator[str]:
    """The continuation of `prompt` as text, piece by piece, without the prompt; ends at the end-of-text token.

    A character whose bytes are spread over several tokens comes out when it is whole. An empty prompt starts a new
    text, which needs a tokenizer with an end-of-text token. Other arguments as for `generate`.

    Raises:
        ValueError: as `generate`, and for an empty prompt that cannot be begun.
    """
    ids = tokenizer.encode(prompt)
    if not ids:
        if tokenizer.end_id is None:
            raise ValueError(
                "the prompt is empty and this tokenizer has no end-of-text token to begin with; give a letter"
            )
        ids = [tokenizer.end_id]
    tokens = stream(
        model,
        torch.tensor([ids]),
        max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop_id=tokenizer.end_id,
        slide=slide,
        seed=seed,
    )

    def pieces() -> Iterator[str]:
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

    return pieces()


def check_sampling(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
) -> None:
    """Raise ValueError, naming value and range, for a sampling setting that makes no sense."""
    if not 0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature={temperature} must be 0 (greedy) or above; 1 leaves the model's distribution as it is"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} keeps no token; use 1 or more, or leave it out")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie above 0 and at most at 1; 1 keeps everything")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p={min_p} must lie between 0 (keeps everything) and 1 (keeps the largest)")
    if not 0 < repetition_penalty < float("inf"):
        raise ValueError(f"repetition_penalty={repetition_penalty} must be above 0; 1 is no penalty")
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(
            f"seed={seed} must be a whole number from 0 to {2**63 - 1}; leave it out for another each time"
        )


def check_ids(ids: Tensor, vocab_size: int) -> None:
    """Raise ValueError unless `ids` is a (B, T) tensor of token ids, T ≥ 1, each in [0, vocab_size)."""
    if not isinstance(ids, Tensor):
        raise ValueError(f"ids are a {type(ids).__name__}; give a tensor (batch, tokens), as in torch.tensor([[1, 2]])")
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; give (batch, tokens) with at least one token")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"ids have dtype {ids.dtype}; token ids are integers, so use ids.long()")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        bad = low if low < 0 else high
        raise ValueError(
            f"token id {bad} is outside [0, {vocab_size}); was the text encoded with this model's tokenizer?"
        )


def _check_length(prompt: int, new: int, limit: int, slide: bool) -> None:
    if new < 0:
        raise ValueError(f"max_new_tokens={new} is negative; use 0 or more")
    if slide:
        return
    if prompt + new > limit:
        room = max(0, limit - prompt)
        raise ValueError(
            f"{prompt} prompt tokens and {new} new ones exceed n_positions={limit}; ask for at most {room} new tokens, "
            "shorten the prompt, or pass slide=True to forget the older half of the text when it is full"
        )
