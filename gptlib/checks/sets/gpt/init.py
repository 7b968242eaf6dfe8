"""What a GPT-2 starts from: the first numbers of every parameter, by its name."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, Value, ids, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(name: str, shape: list[int], n_layer: int) -> Case:
        return Case({"name": name, "shape": shape, "n_layer": n_layer, "seed": int(rng.integers(2**31))})

    a, b = (10 * size for size in sizes(rng, 2, 6, 9))
    L = int(rng.integers(20, 60))
    i = int(rng.integers(2, 10))
    return [
        case("blocks.2.attention.project.weight", [80, 80], 12),
        case("token_embedding.weight", [110, 60], 12),
        case("position_embedding.weight", [a, b], L),
        case("blocks.0.attention.qkv.weight", [150, 50], 12),
        case("blocks.1.attention.qkv.bias", [150], 12),
        case("blocks.0.attention.project.weight", [a, a], L),
        case("blocks.2.attention.project.bias", [80], 12),
        case("blocks.4.mlp.widen.weight", [160, 40], 12),
        case("blocks.2.mlp.narrow.weight", [40, 160], 12),
        case(f"blocks.{i}.mlp.narrow.weight", [b, a], L),
        case("blocks.2.mlp.narrow.bias", [40], 12),
        case("blocks.0.norm1.weight", [80], 12),
        case("blocks.0.norm1.bias", [80], 12),
        case(f"blocks.{i}.norm2.weight", [b], L),
        case("norm.weight", [80], 12),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(seed: Any) -> Value:
        generator = torch.Generator().manual_seed(seed)
        return tensor(answer(given["name"], list(given["shape"]), given["n_layer"], generator))  # type: ignore[arg-type]

    first, again, other = call(given["seed"]), call(given["seed"]), call(given["seed"] + 1)  # type: ignore[operator]
    names = ("draws.values", "draws.means of rows", "draws.means of columns", "draws.change with another seed")
    if not isinstance(first, torch.Tensor) or first.dim() == 0 or first.numel() == 0:
        return {"drawn.shape": first, "change with the same seed": first} | dict.fromkeys(names, first)

    def change(later: Value) -> Value:
        alike = isinstance(later, torch.Tensor) and later.shape == first.shape
        return (later - first).reshape(-1)[:500] if alike else later  # type: ignore[operator]

    rows = first.reshape(len(first), -1)
    # A row's mean, times the root of its length, is spread like a single number, unless rows repeat or move together.
    along, across = rows.mean(1) * math.sqrt(rows.shape[1]), rows.mean(0) * math.sqrt(rows.shape[0])
    found = dict(zip(names, (first.reshape(-1), along, across, change(other)), strict=True))
    return found | {"drawn.shape": ids(list(first.shape)), "change with the same seed": change(again)}


def _build(
    *,
    scaled: str = "both",
    factor: str = "2 L",
    std: float = 0.02,
    embeddings: str = "0.02",
    biases: str = "zeros",
    norms: str = "ones",
    kind: str = "normal",
    draws: str = "from the generator",
) -> Answer:
    def init(name: str, shape: list[int], n_layer: int, generator: torch.Generator) -> torch.Tensor:
        chosen = generator if draws == "from the generator" else None
        if draws == "from one seed":
            chosen = torch.Generator().manual_seed(0)

        def normal(spread: float) -> torch.Tensor:
            if kind == "a row repeated":
                return (torch.randn(shape[-1], generator=chosen) * spread).expand(shape).clone()
            values = torch.randn(shape, generator=chosen) * spread
            return values.double() if kind == "double" else values

        if name.endswith(".bias"):
            return {"zeros": torch.zeros(shape), "ones": torch.ones(shape)}.get(biases, normal(std))
        if (".norm" if norms == "in the blocks" else "norm") in name:
            return torch.zeros(shape) if norms == "zeros" else normal(std) if norms == "random" else torch.ones(shape)
        if "embedding" in name and embeddings == "1":
            return normal(1.0)
        divisor = {"2 L": math.sqrt(2 * n_layer), "L": math.sqrt(n_layer), "no root": 2.0 * n_layer}.get(factor)
        if divisor is None:  # "own": the block's number
            number = name.split(".")[1]
            divisor = math.sqrt(2 * (int(number) + 1)) if number.isdigit() else 1.0
        writes = {
            "both": ("attention.project", "mlp.narrow"),
            "none": (),
            "attention": ("attention.project",),
            "feed-forward": ("mlp.narrow",),
            "all in the blocks": ("blocks",),
            "all": ("blocks", "embedding"),
            "those that read": ("attention.qkv", "mlp.widen"),
            "and the embeddings": ("attention.project", "mlp.narrow", "embedding"),
        }[scaled]
        spread = std / divisor if any(part in name for part in writes) else std
        if kind == "uniform up to std":
            return (2 * torch.rand(shape, generator=chosen) - 1) * spread
        if kind == "fan in" and "embedding" not in name:
            return normal(1 / math.sqrt(shape[-1]))
        return normal(spread)

    return init


def _by_another_call(call: str) -> Answer:
    """Return an answer that is right but for a generator that it ignores, with one of PyTorch's other calls."""

    def init(name: str, shape: list[int], n_layer: int, generator: torch.Generator) -> torch.Tensor:
        if name.endswith(".bias"):
            return torch.zeros(shape)
        if "norm" in name:
            return torch.ones(shape)
        std = 0.02 / math.sqrt(2 * n_layer) if name.endswith(("project.weight", "narrow.weight")) else 0.02
        if call == "torch.normal":
            return torch.normal(0.0, std, size=tuple(shape))
        if call == "scaled after":
            return torch.randn(*shape) * 0.02 * (std / 0.02)
        return torch.nn.init.normal_(torch.empty(shape), mean=0.0, std=std)

    return init


def _in_place(name: str, shape: list[int], n_layer: int, generator: torch.Generator) -> torch.Tensor:
    part, last = name.split(".")[-2:]
    if last == "bias":
        return torch.zeros(shape)
    if part.startswith("norm"):
        return torch.ones(shape)
    std = 0.02 * (2 * n_layer) ** -0.5 if part in ("project", "narrow") else 0.02
    return torch.empty(shape).normal_(0, std, generator=generator)


def _by_initialiser(name: str, shape: list[int], n_layer: int, generator: torch.Generator) -> torch.Tensor:
    values = torch.zeros(*shape)
    if len(shape) == 2:
        writes = "attention.project" in name or "mlp.narrow" in name
        torch.nn.init.normal_(values, std=0.02 / math.sqrt(2 * n_layer) if writes else 0.02, generator=generator)
    elif name.endswith("weight"):
        values += 1
    return values


def _by_table(name: str, shape: list[int], n_layer: int, generator: torch.Generator) -> torch.Tensor:
    reads = {"token_embedding": 1, "position_embedding": 1, "qkv": 1, "widen": 1}
    writes = {"project": 2 * n_layer, "narrow": 2 * n_layer}
    count = {**reads, **writes}.get(name.split(".")[-2], 0) if name.endswith("weight") else 0
    if count:
        variance = 0.0004 / count
        return torch.normal(torch.zeros(shape), math.sqrt(variance), generator=generator)
    return torch.full(shape, 0.0 if name.endswith("bias") else 1.0)


def _spread_is(case: Case, got: dict[str, Any], std: float) -> bool:
    values = got["draws.values"]
    return bool((values.std() - std).abs() <= 0.03 * std and values.mean().abs() <= 0.1 * std)


def _is(case: Case, *parts: str) -> bool:
    name = case.given["name"]
    return isinstance(name, str) and name.endswith(parts)


def _biases_are_zero(case: Case, got: dict[str, Any]) -> bool:
    return not _is(case, ".bias") or not got["draws.values"].any()


def _norms_begin_neutral(case: Case, got: dict[str, Any]) -> bool:
    return not _is(case, "norm1.weight", "norm2.weight", "norm.weight") or bool((got["draws.values"] == 1).all())


def _others_have_spread(case: Case, got: dict[str, Any]) -> bool:
    others = ("embedding.weight", "qkv.weight", "widen.weight")
    return not _is(case, *others) or _spread_is(case, got, 0.02)


EXERCISE = Exercise(
    id="gpt.init",
    title="The first numbers",
    minutes=12,
    points=4,
    signature="init(name, shape, n_layer, generator)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_in_place, _by_initialiser, _by_table),
    shown=("name", "shape", "n_layer"),
    misconceptions=(
        Misconception(
            "residual projections not scaled",
            "You draw every matrix with 0.02. The two that write to the residual stream, attention.project and "
            "mlp.narrow, are to be smaller by √(2 · n_layer), so that the stream does not grow with depth.",
            changes={"scaled": "none"},
        ),
        Misconception(
            "all matrices of the blocks scaled",
            "You scale all matrices of the blocks down. What adds up in the residual stream is what attention.project "
            "and mlp.narrow write; qkv and widen read from it, through a norm, and keep 0.02.",
            changes={"scaled": "all in the blocks"},
        ),
        Misconception(
            "everything scaled",
            "You scale all weights down by √(2 · n_layer), embeddings too. Only the two matrices of a block that write "
            "to the residual stream are scaled: attention.project and mlp.narrow.",
            _build(scaled="all"),
        ),
        Misconception(
            "embeddings scaled too",
            "You scale the embeddings down as well. They are added to the stream once, and not once for every layer: "
            "they keep 0.02.",
            changes={"scaled": "and the embeddings"},
        ),
        Misconception(
            "the readers scaled",
            "You scale qkv and widen, which read from the residual stream. Those that write to it are "
            "attention.project and mlp.narrow.",
            _build(scaled="those that read"),
        ),
        Misconception(
            "attention alone scaled",
            "You scale attention.project, and leave mlp.narrow as large as the rest. Both write to the residual "
            "stream.",
            _build(scaled="attention"),
        ),
        Misconception(
            "feed-forward alone scaled",
            "You scale mlp.narrow, and leave attention.project as large as the rest. Both write to the residual "
            "stream.",
            _build(scaled="feed-forward"),
        ),
        Misconception(
            "√n_layer",
            "You divide by √n_layer. Each block adds to the stream twice, after attention and after feed-forward: "
            "2 · n_layer terms in all.",
            changes={"factor": "L"},
        ),
        Misconception(
            "no root",
            "You divide by 2 · n_layer. It is variances that add up, so the variance is to be smaller by 2 · n_layer, "
            "and the standard deviation by its root.",
            changes={"factor": "no root"},
        ),
        Misconception(
            "by the block's own number",
            "You scale each block by its own number. All blocks get the same factor, 1 / √(2 · n_layer), by the depth "
            "of the whole model.",
            _build(factor="own"),
        ),
        Misconception(
            "0.02 as the variance",
            "You take 0.02 for the variance, so that your numbers spread by √0.02 = 0.14. It is the standard "
            "deviation; torch.randn draws with 1, and its numbers are multiplied by 0.02.",
            changes={"std": math.sqrt(0.02)},
        ),
        Misconception(
            "0.02² as the standard deviation",
            "Your numbers spread by 0.0004. That is the variance; PyTorch's std, like a factor on torch.randn, is the "
            "standard deviation: 0.02.",
            _build(std=0.0004),
        ),
        Misconception(
            "embeddings with 1",
            "You leave the embeddings at standard deviation 1, as nn.Embedding does. Tied to the output map they would "
            "give logits of several hundred, and a first loss to match: 0.02.",
            _build(embeddings="1"),
        ),
        Misconception(
            "random biases",
            "You draw the biases at random. GPT-2's begin at 0.",
            changes={"biases": "random"},
        ),
        Misconception(
            "biases of one",
            "Your biases begin at 1; that is for the scales of the norms. Biases begin at 0, those of the norms too.",
            changes={"biases": "ones"},
        ),
        Misconception(
            "norms at random",
            "You draw the scales of the norms like matrices. A norm that multiplies by 0.02 leaves nearly nothing: "
            "scales begin at 1.",
            changes={"norms": "random"},
        ),
        Misconception(
            "the final norm forgotten",
            "You find the norms in the blocks by the dot in front, and so miss the last one: its name is norm.weight, "
            "and it begins at 1 like the others.",
            changes={"norms": "in the blocks"},
        ),
        Misconception(
            "norms of zero",
            "Your norms begin with a scale of 0, so nothing passes them. Scales begin at 1, and only biases at 0.",
            _build(norms="zeros"),
        ),
        Misconception(
            "uniform",
            "You draw uniformly between -0.02 and 0.02, which spreads by 0.02 / √3 only. The numbers are to be normal, "
            "with standard deviation 0.02.",
            _build(kind="uniform up to std"),
        ),
        Misconception(
            "by the width of the input",
            "You draw matrices with 1 / √(their number of inputs), as other networks do and nearly as nn.Linear does. "
            "GPT-2 uses 0.02 whatever the width.",
            _build(kind="fan in"),
        ),
        Misconception(
            "standard normal",
            "Your numbers have standard deviation 1, as torch.randn draws them. Multiply by 0.02, or by what the "
            "matrices that write to the stream get.",
            _build(std=1.0),
        ),
        Misconception(
            "one row for all",
            "Your rows are all the same: you draw one and repeat it. Every number is drawn by itself, or the features "
            "would begin, and stay, equal.",
            _build(kind="a row repeated"),
        ),
        Misconception(
            "float64",
            "Your numbers are right, but of dtype float64. Weights are float32.",
            _build(kind="double"),
        ),
        Misconception(
            "a generator of its own",
            "Your numbers are always the same, whatever the generator: you make one yourself, with a seed of your own. "
            "Use the one that is given.",
            _build(draws="from one seed"),
        ),
        Misconception(
            "ignores the generator",
            "The numbers are spread as they should be, but they do not come from the generator: with the same seed "
            "they must be the same. Hand it on: torch.randn(shape, generator=generator).",
            _build(draws="from PyTorch's own"),
            also=tuple(_by_another_call(call) for call in ("nn.init.normal_", "torch.normal", "scaled after")),
        ),
    ),
    properties=(
        Property(
            "biases begin at 0",
            _biases_are_zero,
            "Every bias must be all zeros.",
            0.1,
            ("draws.values",),
        ),
        Property(
            "norms begin with a scale of 1",
            _norms_begin_neutral,
            "The weight of every norm must be all ones.",
            0.1,
            ("draws.values",),
        ),
        Property(
            "embeddings, qkv and widen have standard deviation 0.02",
            _others_have_spread,
            "The embeddings and the matrices qkv and widen must have mean 0 and standard deviation 0.02.",
            0.3,
            ("draws.values",),
        ),
    ),
    hints=(
        "Four kinds of parameter: biases, the scales of norms, the matrices that write to the residual stream, and all "
        "other matrices. The name says which it is.",
        'name.endswith(".bias") finds the biases, "norm" in name what is left of the norms. Of the matrices, '
        "attention.project and mlp.narrow get 0.02 / math.sqrt(2 * n_layer), and all others 0.02.",
        'std = 0.02 / math.sqrt(2 * n_layer) if name.endswith(("project.weight", "narrow.weight")) else 0.02; then '
        "torch.randn(shape, generator=generator) * std. Before it, return torch.zeros(shape) for a bias and "
        "torch.ones(shape) for a norm.",
    ),
)
