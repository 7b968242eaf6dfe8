"""The tables turned: the learner writes the test, and hidden attentions are what it is tried on."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, Hidden, truth

INF = math.inf

HONEST = "an attention that does not leak"
NEXT = "an attention whose mask starts one column late, so that each position sees the next one"
UPSIDE_DOWN = "an attention whose mask is transposed"
UNMASKED = "an attention without a mask"
AFTER = "an attention that is masked after its softmax"
FINITE = "an attention whose mask is -30 where it should be -inf"
OVER_QUERIES = "an attention whose softmax runs over the queries"
CENTRED = "an attention that first subtracts the mean over all positions from its input"
FIRST_PAIR = "an attention with one hole in its mask: position 0 sees position 1"
LAST_PAIR = "an attention with one hole in its mask: the last position but one sees the last"

Square = Callable[[int], torch.Tensor]  # from T to (T, T)


def _causal(T: int) -> torch.Tensor:
    return torch.full((T, T), -INF).triu(1)


def _everything(T: int) -> torch.Tensor:
    return torch.ones(T, T)


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(
        note: str, mask: Square = _causal, gate: Square = _everything, longest: bool = False, **settings: float
    ) -> Case:
        T, C = sizes(rng, 2, 5, 12)
        T, C = (12, min(T, C)) if longest else (T, C)
        w = {name: normal(rng, C, C) / math.sqrt(C) for name in ("w_q", "w_k", "w_v")}
        parameters = {**w, "mask": mask(T), "gate": gate(T), "over": -1, "centred": 0.0, **settings}
        return Case({"attention": Hidden(_attention, parameters), "T": T, "C": C}, note)

    def hole(row: int) -> Square:
        return lambda T: _causal(T).index_put((torch.tensor(row % T), torch.tensor(row % T + 1)), torch.tensor(0.0))

    return [
        case(HONEST),
        case(NEXT, lambda T: torch.full((T, T), -INF).triu(2)),
        case(HONEST, lambda T: torch.where(torch.ones(T, T).tril().triu(-1) == 1, 0.0, -INF)),  # a window of two
        case(UPSIDE_DOWN, lambda T: _causal(T).T.contiguous()),
        case(UNMASKED, lambda T: torch.zeros(T, T)),
        case(AFTER, lambda T: torch.zeros(T, T), gate=lambda T: torch.ones(T, T).tril()),
        case(HONEST, gate=lambda T: _everything(T) / 2, longest=True),  # so that the length gives nothing away
        # With large numbers nearly all weight is on one key, and in a short text that may be the past for every row.
        case(FINITE, lambda T: torch.full((T, T), -30.0).triu(1), longest=True),
        case(OVER_QUERIES, over=-2),
        case(HONEST, lambda T: torch.where(torch.eye(T) == 1, 0.0, -INF)),  # each sees itself only
        case(CENTRED, centred=1.0),
        case(FIRST_PAIR, hole(0)),
        case(LAST_PAIR, hole(-2)),
    ]


def _attention(own: Mapping[str, Any], x: torch.Tensor) -> torch.Tensor:
    # All hidden attentions are this one function with other numbers.
    T, C = x.shape[-2:]
    x = x - own["centred"] * x.mean(-2, keepdim=True)  # (T, C)
    scores = (x @ own["w_q"]) @ (x @ own["w_k"]).transpose(-2, -1) / math.sqrt(C)  # (T, T)
    weights = (scores + own["mask"][:T, :T]).softmax(own["over"]) * own["gate"][:T, :T]
    output: torch.Tensor = weights @ (x @ own["w_v"])  # (T, C)
    return output


def _probe(answer: Answer, given: Given) -> Arrays:
    return {"leak": truth(answer(given["attention"], given["T"], given["C"]))}


def _build(
    *,
    cuts: str = "all",
    sizes: str = "small and large",
    rows: str = "before",
    changes: str = "future",
    says: str = "leak",
) -> Answer:
    def leaks(attention: Answer, T: int, C: int) -> bool:
        found = False
        for size in (1.0, 100.0) if sizes == "small and large" else (1.0,):
            x = size * torch.randn(T, C)
            before = attention(x)
            for t in {"all": range(1, T), "middle": [T // 2], "last": [T - 1], "first": [1]}[cuts]:
                changed = x.clone()
                part = slice(t, None) if changes == "future" else slice(None, t)
                changed[part] = size * torch.randn_like(changed[part])
                watched = {"before": slice(None, t), "after": slice(t, None), "all": slice(None)}[rows]
                found |= bool((attention(changed) - before)[watched].abs().max() > 1e-5 * size)
        return found if says == "leak" else not found

    return leaks


def _by_adding(attention: Answer, T: int, C: int) -> bool:
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for t in range(1, T):
            other = torch.cat([x[:t], x[t:] + size])
            if not torch.allclose(attention(other)[:t], attention(x)[:t], rtol=0, atol=1e-5 * size):
                return True
    return False


def _by_gradient(attention: Answer, T: int, C: int) -> bool:
    x = torch.randn(T, C, requires_grad=True)
    for t, row in enumerate(attention(x)):
        (gradient,) = torch.autograd.grad(row.sum(), x, retain_graph=True)
        if gradient[t + 1 :].abs().sum() > 0:
            return True
    return False


def _by_cutting(attention: Answer, T: int, C: int) -> torch.Tensor:
    found = torch.tensor(False)
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for t in range(1, T):
            found |= ((attention(x[:t]) - attention(x)[:t]).abs() > 1e-5 * size).any()
    return found


def _by_numpy(attention: Answer, T: int, C: int) -> Any:
    worst = np.float64(0)
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for s in range(1, T):
            y = x.clone()
            y[s] = torch.randn(C) * size
            worst = max(worst, np.abs(attention(y).numpy() - attention(x).numpy())[:s].max() / size)
    return worst > 1e-5


def _finds(*notes: str) -> Callable[[Case, dict[str, torch.Tensor]], bool]:
    def holds(case: Case, got: dict[str, torch.Tensor]) -> bool:
        # An answer that always says the same finds nothing: those that do not leak must pass too.
        return bool(got["leak"]) == (case.note != HONEST) if case.note in (HONEST, *notes) else True

    return holds


EXERCISE = Exercise(
    id="attention.leaks",
    title="Write the test that finds the leak",
    minutes=15,
    points=4,
    signature="leaks(attention, T, C)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_adding, _by_gradient, _by_cutting, _by_numpy),
    shown=("T", "C"),
    misconceptions=(
        Misconception(
            "always says leak",
            "Your test says True for every attention, also for those that do not leak. The outputs at the positions "
            "that you changed change in any attention: compare only the rows before the first change.",
            changes={"rows": "all"},
            also=(lambda attention, T, C: True,),
        ),
        Misconception(
            "never says leak",
            "Your test says False for every attention. Are the original and the changed input the same tensor? "
            "`changed = x` is only another name for x: use x.clone(). And are you looking at the rows before the "
            "change?",
            lambda attention, T, C: False,
        ),
        Misconception(
            "the other way round",
            "Your answers are the right ones the wrong way round: True means that the attention leaks.",
            changes={"says": "no leak"},
        ),
        Misconception(
            "changes the past",
            "Your test changes the past and watches what comes after it, and that may change: it is what attention is "
            "for. Change the future and watch what comes before.",
            changes={"changes": "past", "rows": "after"},
        ),
        Misconception(
            "last position only",
            "Your test changes the last position only. A leak between two earlier positions passes: change everything "
            "from t on, for every t from 1 to T - 1.",
            changes={"cuts": "last"},
        ),
        Misconception(
            "first row only",
            "Your test watches the first row only. A leak into a later row passes: change everything from t on and "
            "watch the rows before t, for every t from 1 to T - 1.",
            changes={"cuts": "first"},
        ),
        Misconception(
            "one cut",
            "Your test divides past and future at one place in the middle. A leak from one position to the next "
            "passes when both are on the same side: try every t from 1 to T - 1.",
            changes={"cuts": "middle"},
        ),
        Misconception(
            "small numbers only",
            "Your test uses numbers near 1 only. A finite mask value lets the future through when scores are large "
            "enough: try inputs near 100 as well.",
            changes={"sizes": "small"},
        ),
    ),
    properties=(
        Property(
            "passes what does not leak, finds wrong masks",
            _finds(NEXT, UPSIDE_DOWN, UNMASKED),
            "A missing, a transposed and a shifted mask must be found, and attentions that do not leak must pass.",
            0.15,
            ("leak",),
        ),
        Property(
            "passes what does not leak, finds the mask after the softmax",
            _finds(AFTER),
            "A mask applied after the softmax leaks through the sum of each row.",
            0.1,
            ("leak",),
        ),
        Property(
            "passes what does not leak, finds sums over time",
            _finds(OVER_QUERIES, CENTRED),
            "A mean over positions, or a softmax over queries, lets the future in although the mask is right.",
            0.1,
            ("leak",),
        ),
        Property(
            "passes what does not leak, finds finite masks",
            _finds(FINITE),
            "A finite mask value leaks when scores are large: test with large inputs too.",
            0.1,
            ("leak",),
        ),
        Property(
            "passes what does not leak, finds a single hole",
            _finds(FIRST_PAIR, LAST_PAIR),
            "A single pair of neighbours may leak: test every position.",
            0.05,
            ("leak",),
        ),
    ),
    hints=(
        "Whether an attention leaks can be seen from outside: change the future, and look whether the past notices.",
        "Compare the output for x with the output for a copy that differs from position t on. Only the rows before t "
        "must stay as they were; do it for every t, with small inputs and with large ones.",
        "For size in (1, 100): x = size * torch.randn(T, C); for t in range(1, T): changed = x.clone(), changed[t:] = "
        "size * torch.randn(T - t, C), and if attention(changed)[:t] and attention(x)[:t] differ by more than 1e-5 * "
        "size, return True. At the end return False.",
    ),
)
