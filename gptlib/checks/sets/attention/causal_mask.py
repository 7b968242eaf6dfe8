"""The mask that hides the future."""

import math

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, tensor

INF = math.inf


def _draw(rng: np.random.Generator) -> list[Case]:
    return [Case({"T": T}) for T in (1, 2, 4, *sizes(rng, 2, 5, 12))]


def _probe(answer: Answer, given: Given) -> Arrays:
    return {"mask": tensor(answer(given["T"]))}


def _reference(T: int) -> torch.Tensor:
    return torch.full((T, T), -INF).triu(1)  # (T, T)


def _mask_with(allowed: float, forbidden: float, diagonal: int = 1) -> Answer:
    return lambda T: torch.where(torch.ones(T, T).triu(diagonal) == 1, forbidden, allowed)


def _by_loops(T: int) -> torch.Tensor:
    mask = torch.zeros(T, T)
    for t in range(T):
        for s in range(t + 1, T):
            mask[t, s] = float("-inf")
    return mask


def _by_comparison(T: int) -> torch.Tensor:
    t = torch.arange(T)
    return torch.where(t[None, :] > t[:, None], -math.inf, 0.0)


def _by_numpy(T: int) -> torch.Tensor:
    return torch.from_numpy(np.triu(np.full((T, T), -np.inf, dtype=np.float32), 1))


EXERCISE = Exercise(
    id="attention.causal_mask",
    title="Hide the future",
    minutes=5,
    points=2,
    signature="causal_mask(T)",
    draw=_draw,
    probe=_probe,
    reference=_reference,
    alternatives=(
        _by_loops,
        _by_comparison,
        _by_numpy,
        lambda T: torch.zeros(T, T).masked_fill(torch.ones(T, T).tril() == 0, -INF),
        lambda T: torch.ones(T, T).tril().log(),
        lambda T: torch.full((T, T), -INF).tril(-1).T,
    ),
    forbidden={"nn.Transformer.generate_square_subsequent_mask": "which is the task itself"},
    misconceptions=(
        Misconception(
            "hides itself",
            "Your mask forbids the diagonal too, but a position must see itself: row 0 would have nothing left to "
            "look at, and its softmax would be NaN. Start one above the diagonal.",
            _mask_with(0.0, -INF, diagonal=0),
        ),
        Misconception(
            "sees the next one",
            "Your mask starts one column too far to the right: position t still sees position t + 1, the very token "
            "it is to predict.",
            _mask_with(0.0, -INF, diagonal=2),
        ),
        Misconception(
            "transposed",
            "Your mask hides the past and shows the future. Row t is the position that looks, column s the one looked "
            "at: -inf belongs where s > t, above the diagonal.",
            lambda T: _reference(T).T,
            also=(lambda T: torch.full((T, T), -INF).tril(),),
        ),
        Misconception(
            "ones and zeros",
            "Your mask says 1 for allowed and 0 for forbidden. It is added to the scores before the softmax, so "
            "allowed must be 0, which changes nothing, and forbidden -inf, which leaves a weight of exactly 0.",
            _mask_with(1.0, 0.0),
        ),
        Misconception(
            "marks the future with 1",
            "Your mask marks the future with 1. Adding 1 to a score makes that position more likely, not impossible: "
            "the future needs -inf.",
            _mask_with(0.0, 1.0),
        ),
        Misconception(
            "finite",
            "Your mask holds a large but finite number where -inf belongs. Scores that are large enough outweigh any "
            "finite number, and then the future leaks.",
            _mask_with(0.0, -1e9),
            also=tuple(_mask_with(0.0, value) for value in (-1e4, -1e10, -1e8, -1e5, torch.finfo(torch.float32).min)),
        ),
        Misconception(
            "bool, True is allowed",
            "Your mask is boolean, True where a position may look. This one is added to scores, so it must be float: "
            "0 where allowed, -inf where not.",
            lambda T: torch.ones(T, T, dtype=torch.bool).tril(),
        ),
        Misconception(
            "bool, True is forbidden",
            "Your mask is boolean, True where the future is. This one is added to scores, so it must be float: 0 "
            "where allowed, -inf where not.",
            lambda T: torch.ones(T, T, dtype=torch.bool).triu(1),
        ),
        Misconception(
            "adds 1 where one may look",
            "Your mask holds 1 where a position may look. Softmax would not notice, since all scores of a row that "
            "count rise alike; but a mask is to leave such scores as they are, and what leaves them so is 0.",
            _mask_with(1.0, -INF),
        ),
        Misconception(
            "zero times infinity",
            "Your mask multiplies by infinity, and 0 * inf is NaN. Fill or select instead of multiplying: torch.triu "
            "of a matrix full of -inf, masked_fill, or torch.where.",
            lambda T: torch.ones(T, T).triu(1) * -INF,
            also=(lambda T: torch.ones(T, T).triu() * -INF,),
        ),
        Misconception(
            "positive infinity",
            "Your mask has +inf above the diagonal; the sign is wrong. exp(-inf) is 0, exp(+inf) is infinite.",
            _mask_with(0.0, INF),
        ),
    ),
    properties=(
        Property(
            "the future is -inf",
            lambda case, got: bool((got["mask"][torch.ones_like(got["mask"]).triu(1) == 1] == -INF).all()),
            "Every entry above the diagonal must be -inf.",
            0.25,
            ("mask",),
        ),
        Property(
            "the past and the present are 0",
            lambda case, got: bool((got["mask"][torch.ones_like(got["mask"]).tril() == 1] == 0).all()),
            "Every entry on and below the diagonal must be 0.",
            0.25,
            ("mask",),
        ),
    ),
    hints=(
        "Write the mask for T = 3 on paper first. Row t is the position that looks, column s the one that it looks at.",
        "The entries with s > t form the triangle above the diagonal, without the diagonal. torch.triu and torch.tril "
        "cut such triangles, and their second argument says where to start.",
        "Take a (T, T) matrix full of -inf (torch.full) and keep only what is above the diagonal; torch.triu puts 0 "
        "everywhere else.",
    ),
)
