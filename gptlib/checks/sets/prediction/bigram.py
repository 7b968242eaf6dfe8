"""The simplest language model: which token follows which, counted."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(length: int, vocab_size: int, alpha: float, note: str = "") -> Case:
        weights = rng.dirichlet(np.ones(vocab_size - 1))  # the last token never occurs
        given = torch.from_numpy(rng.choice(vocab_size - 1, length, p=weights))
        return Case({"ids": given, "vocab_size": vocab_size, "alpha": alpha}, note)

    a, b = sizes(rng, 2, 5, 9)
    return [
        Case({"ids": torch.tensor([0, 1, 0, 1, 0, 2]), "vocab_size": 4, "alpha": 1.0}),
        Case({"ids": torch.tensor([1, 1, 1, 1, 0, 1]), "vocab_size": 3, "alpha": 0.5}, "with repeats"),
        Case({"ids": torch.tensor([2]), "vocab_size": 3, "alpha": 1.0}, "one token, so no pair"),
        case(40, a, 1.0),
        case(60, b, 0.1),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own = copies(given)
    return {"table": tensor(answer(own["ids"], own["vocab_size"], own["alpha"]))} | afterwards(own)


def _build(
    *,
    counts: str = "each",
    layout: str = "rows are now",
    smooth: str = "counts",
    divide: str = "rows",
    gives: str = "probabilities",
) -> Answer:
    def bigram(ids: torch.Tensor, vocab_size: int, alpha: float) -> torch.Tensor:
        V = vocab_size
        now, after = (ids, ids.roll(-1)) if counts == "in a circle" else (ids[:-1], ids[1:])
        table = torch.zeros(V, V).index_put((now, after), torch.ones(len(now)), accumulate=True)  # (V, V)
        table = table.clamp(max=1) if counts == "once" else table
        table = table if layout == "rows are now" else table.T
        total = {"rows": table.sum(1, keepdim=True), "columns": table.sum(0, keepdim=True), "all": table.sum()}
        total["rows, laid over columns"] = table.sum(1)
        if smooth == "counts":
            cells = V * V if divide == "all" else 1 if divide == "rows, alpha once" else V
            total["rows, alpha once"] = total["rows"]
            table = (table + alpha) / (total.get(divide, 0) + alpha * cells) if divide != "nothing" else table + alpha
        elif divide != "nothing":
            table = (table + (alpha if smooth == "numerator only" else 0)) / total[divide]
            table = table + (alpha if smooth == "probabilities" else 0)
        return table.log() if gives == "logarithms" else table

    return bigram


def _by_loops(ids: torch.Tensor, vocab_size: int, alpha: float, softmax: bool = False) -> torch.Tensor:
    table = torch.full((vocab_size, vocab_size), float(alpha))
    for a, b in zip(ids.tolist(), ids[1:].tolist(), strict=False):
        table[a, b] += 1
    if softmax:
        return table.softmax(dim=1)
    for a in range(vocab_size):
        table[a] /= table[a].sum()
    return table


def _by_bincount(ids: torch.Tensor, vocab_size: int, alpha: float) -> torch.Tensor:
    pairs = ids[:-1] * vocab_size + ids[1:]
    counts = torch.bincount(pairs, minlength=vocab_size**2).reshape(vocab_size, vocab_size)  # (V, V)
    return torch.nn.functional.normalize(counts + torch.tensor(alpha), p=1, dim=1)


def _by_one_hot(ids: torch.Tensor, vocab_size: int, alpha: float) -> torch.Tensor:
    rows = torch.eye(vocab_size)[ids]  # (T, V)
    counts = rows[:-1].T @ rows[1:]  # (V, V)
    return (counts + alpha) / (counts + alpha).sum(dim=1)[:, None]


def _sum_to_one(case: Case, got: dict[str, Any]) -> bool:
    table = got["table"]
    return bool((table > 0).all()) and bool(((table.sum(1) - 1).abs() <= 1e-5).all())


def _often_is_likely(case: Case, got: dict[str, Any]) -> bool:
    ids, table = case.given["ids"], got["table"]
    assert isinstance(ids, torch.Tensor)
    counts = torch.zeros_like(table).index_put((ids[:-1], ids[1:]), torch.ones(len(ids) - 1), accumulate=True)
    more = counts[:, :, None] > counts[:, None, :]  # (V, V, V)
    likelier = table[:, :, None] > table[:, None, :]
    return bool((more == likelier).all())


EXERCISE = Exercise(
    id="prediction.bigram",
    title="A model that counts",
    minutes=10,
    points=3,
    signature="bigram(ids, vocab_size, alpha)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_loops, _by_bincount, _by_one_hot),
    misconceptions=(
        Misconception(
            "repeated pairs count once",
            "A pair that occurs again adds nothing in your table. table[a, b] += 1 with lists of indices adds once for "
            "each place, however often it is named: use a loop, index_put_ with accumulate=True, or bincount.",
            changes={"counts": "once"},
        ),
        Misconception(
            "goes round in a circle",
            "You count the last token with the first as a pair. Nothing follows the last token.",
            changes={"counts": "in a circle"},
        ),
        Misconception(
            "rows and columns exchanged",
            "Your rows and columns are exchanged. Row a holds what follows token a: the first of the pair chooses the "
            "row, the second the column.",
            changes={"layout": "columns are now"},
        ),
        Misconception(
            "divides by the column sums",
            "You divide by the sums of columns. That answers which token came before; what comes next, given token a, "
            "is row a divided by its own sum: sum(dim=1, keepdim=True).",
            changes={"divide": "columns"},
        ),
        Misconception(
            "row sums laid over columns",
            "You sum the rows, but without keepdim=True: the sums have the shape (V,), which PyTorch lays along the "
            "columns, so that column b is divided by the sum of row b. sum(dim=1, keepdim=True) keeps them upright, "
            "(V, 1).",
            changes={"divide": "rows, laid over columns"},
        ),
        Misconception(
            "alpha once in the sum",
            "You add alpha once to the sum of a row. It was added to each of the row's vocab_size numbers, so the sum "
            "grows by alpha times vocab_size: sum the row after adding, and it comes out by itself.",
            changes={"divide": "rows, alpha once"},
        ),
        Misconception(
            "softmax of counts",
            "You take the softmax of the counts. A softmax makes probabilities of scores, which may be any numbers; "
            "counts are divided by their sum, so that twice as often is twice as likely.",
            lambda ids, vocab_size, alpha: _by_loops(ids, vocab_size, alpha, softmax=True),
        ),
        Misconception(
            "divides by the number of pairs",
            "You divide everything by one number, so the whole table sums to one: that is how likely each pair is. How "
            "likely b is after a, is row a divided by its own sum.",
            changes={"divide": "all"},
        ),
        Misconception(
            "counts, not probabilities",
            "Your table holds counts. Divide each row by its sum, so that it becomes a distribution over next tokens.",
            changes={"divide": "nothing"},
        ),
        Misconception(
            "no smoothing",
            "You do not add alpha. A token that never occurred has a row of zeros, and 0 / 0 is NaN; and a pair that "
            "was never seen would be impossible, which costs an infinite loss when it comes after all.",
            changes={"smooth": "no"},
        ),
        Misconception(
            "alpha is missing in the sum",
            "You add alpha to the counts, but divide by the sums from before. Divide by the sum of the row with alpha "
            "in it; it is larger by alpha times vocab_size.",
            changes={"smooth": "numerator only"},
        ),
        Misconception(
            "alpha comes after the division",
            "You add alpha to probabilities, so the rows no longer sum to one. It is added to the counts, before the "
            "division.",
            changes={"smooth": "probabilities"},
        ),
        Misconception(
            "logarithms",
            "Your table holds logarithms of the probabilities; here the probabilities themselves are asked for.",
            changes={"gives": "logarithms"},
        ),
    ),
    properties=(
        Property(
            "each row is a distribution",
            _sum_to_one,
            "Every row must sum to one, and hold nothing that is 0 or below.",
            0.25,
            ("table",),
        ),
        Property(
            "what followed more often is more likely",
            _often_is_likely,
            "In row a, token b must be more likely than token c exactly when b followed a more often.",
            0.25,
            ("table",),
        ),
    ),
    hints=(
        "Two steps: count how often b follows a, in a table with a row for each a; then make each row sum to one.",
        "Begin with a (V, V) table in which every number is alpha, add 1 at [a, b] for each pair of neighbours, and "
        "divide each row by its sum. keepdim=True keeps the sums as a column.",
        "table = torch.full((vocab_size, vocab_size), float(alpha)); for a, b in zip(ids.tolist(), ids[1:].tolist()): "
        "table[a, b] += 1; return table / table.sum(dim=1, keepdim=True).",
    ),
)
