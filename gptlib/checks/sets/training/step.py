"""One step of AdamW, by hand."""

import math
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensors


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(shape: tuple[int, ...], t: int, note: str = "", small: float = 1.0, **settings: float) -> Case:
        p, g = normal(rng, *shape), normal(rng, *shape) * small
        m, v = normal(rng, *shape) * small / 2, normal(rng, *shape).abs() * small**2
        if t == 1:
            m, v = torch.zeros(shape), torch.zeros(shape)
        usual = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1}
        return Case({"p": p, "g": g, "m": m, "v": v, "t": t, **usual, **settings}, note)

    a, b = sizes(rng, 2, 2, 6)
    without = case((4,), 1, "the first step, and two parameters that got no gradient")
    g = without.given["g"]
    assert isinstance(g, torch.Tensor)
    g[1::2] = 0
    return [
        case((3,), 1, "the first step"),
        without,
        case((2, 3), 2, "the second step", eps=0.01, weight_decay=0.5),
        case((3,), 5, "with tiny gradients", small=1e-5),
        case((a, b), int(rng.integers(3, 30)), lr=0.3, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=0.4),
        case((b, a), 1000, "late in a run", weight_decay=0.0),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, still = copies(given), copies(given)
    for name in ("g", "m", "v"):
        still[name].zero_()
    order = ("p", "g", "m", "v", "t", "lr", "beta1", "beta2", "eps", "weight_decay")
    found = tensors(answer(*[own[name] for name in order]), "p", "m", "v") | afterwards(own)
    without = tensors(answer(*[still[name] for name in order]), "p", "m", "v")
    return found | {"still.p": without["p"]}


def _build(
    *,
    corrects: str = "both",
    decay: str = "of p, times lr",
    eps_is: str = "outside",
    second: str = "gradient squared",
    direction: str = "down",
    betas: str = "in order",
    root: bool = True,
    moves: str = "by m",
    hands_back: str = "plain moments",
) -> Answer:
    def step(
        p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> Any:
        if betas == "exchanged":
            beta1, beta2 = beta2, beta1
        if betas == "on the wrong side":
            beta1, beta2 = 1 - beta1, 1 - beta2
        if decay == "in the gradient":
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        squared = {"gradient squared": g**2, "mean squared": m**2, "absolute": g.abs()}[second]
        v = beta2 * v + (1 - beta2) * squared
        n = t - 1 if corrects == "from step 0" else t
        one = 1 - torch.tensor(beta1, dtype=torch.float64) ** n
        two = 1 - torch.tensor(beta2, dtype=torch.float64) ** n
        m_hat = m / one.float() if corrects in ("both", "m only", "from step 0") else m
        v_hat = v / two.float() if corrects in ("both", "v only", "from step 0") else v
        if corrects == "upside down":
            m_hat, v_hat = m * one.float(), v * two.float()
        if root:
            below = {
                "outside": v_hat.sqrt() + eps,
                "inside": (v_hat + eps).sqrt(),
                "nowhere": v_hat.sqrt(),
            }[eps_is]
        else:
            below = v_hat + eps
        change = lr * (m_hat if moves == "by m" else g) / below
        shrink = {"of p, times lr": lr * weight_decay, "without lr": weight_decay}.get(decay, 0.0)
        if decay == "after the move":
            new = (p - change) * (1 - lr * weight_decay)
        else:
            new = p - shrink * p - change if direction == "down" else p - shrink * p + change
        return (new, m_hat, v_hat) if hands_back == "corrected moments" else (new, m, v)

    return step


def _by_torch(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    weight = torch.nn.Parameter(p.clone())
    weight.grad = g.clone()
    optimizer = torch.optim.AdamW(
        [weight], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, foreach=False, fused=False
    )
    optimizer.state[weight] = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.step()
    return weight.detach(), optimizer.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg_sq"]


def _in_place_on_copies(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    p, m, v = p.clone(), m.clone(), v.clone()
    m.mul_(beta1).add_(g, alpha=1 - beta1)
    v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    p.mul_(1 - lr * weight_decay)
    p.addcdiv_(m, (v / (1 - beta2**t)).sqrt_().add_(eps), value=-lr / (1 - beta1**t))
    return p, m, v


def _a_number_at_a_time(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    rows = []
    for x, dx, first, second in zip(*(each.flatten().tolist() for each in (p, g, m, v)), strict=True):
        first = beta1 * first + (1 - beta1) * dx
        second = beta2 * second + (1 - beta2) * dx * dx
        change = first / (1 - beta1**t) / (math.sqrt(second / (1 - beta2**t)) + eps)
        rows.append([x - lr * (change + weight_decay * x), first, second])
    return tuple(torch.tensor(column).reshape(p.shape) for column in zip(*rows, strict=True))


def _by_lerp(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    m, v = torch.lerp(g, m, beta1), torch.lerp(g.square(), v, beta2)
    ratio = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)) ** 0.5 + eps)
    return (1 - lr * weight_decay) * p - lr * ratio, m, v


def _in_place(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    for mine, new in zip(
        (p, m, v), _in_place_on_copies(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay), strict=True
    ):
        mine.copy_(new)
    return p, m, v


def _p_alone(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> Any:
    return _build()(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay)[0]


def _given(case: Case, *names: str) -> Any:
    return [case.given[name] for name in names]


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a - b).abs() <= 1e-6 * b.abs() + 1e-12).all())


def _means(case: Case, got: dict[str, Any]) -> bool:
    g, m, v, beta1, beta2 = _given(case, "g", "m", "v", "beta1", "beta2")
    # Sums that nearly cancel are off by a part of their terms, not of themselves.
    first = ((got["m"] - (beta1 * m + (1 - beta1) * g)).abs() <= 1e-6 * (m.abs() + g.abs()) + 1e-12).all()
    return bool(first) and _close(got["v"], beta2 * v + (1 - beta2) * g * g)


def _decays(case: Case, got: dict[str, Any]) -> bool:
    p, lr, weight_decay = _given(case, "p", "lr", "weight_decay")
    moved = (got["p"] - p).abs() > 1e-7
    g, m = _given(case, "g", "m")
    return _close(got["still.p"], p * (1 - lr * weight_decay)) and bool(moved[(g != 0) & (m.abs() + p.abs() > 0)].all())


def _against(case: Case, got: dict[str, Any]) -> bool:
    g, t, lr = _given(case, "g", "t", "lr")
    if t > 1:
        return True
    change = got["p"] - got["still.p"]
    return bool(((change + lr * g.sign()).abs() <= 1e-4 * lr).all())


EXERCISE = Exercise(
    id="training.step",
    title="One step of AdamW",
    minutes=10,
    points=4,
    signature="step(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_torch, _in_place_on_copies, _a_number_at_a_time, _by_lerp),
    forbidden={
        "torch.optim.AdamW": "which is the task itself",
        "torch.optim.Adam": "which is most of the task itself",
    },
    tolerance=1e-6,
    misconceptions=(
        Misconception(
            "no bias correction",
            "You use m and v as they are. They start at 0, so early in a run they are too small: divide them by 1 - "
            "beta1**t and 1 - beta2**t first.",
            changes={"corrects": "neither"},
        ),
        Misconception(
            "only m corrected",
            "You correct m and not v. Both start at 0, and v more slowly leaves it: divide v by 1 - beta2**t.",
            changes={"corrects": "m only"},
        ),
        Misconception(
            "only v corrected",
            "You correct v and not m. Both start at 0: divide m by 1 - beta1**t.",
            changes={"corrects": "v only"},
        ),
        Misconception(
            "corrects with t - 1",
            "You take t - 1 as the step's number. t is 1 at the first step, so the first correction divides by 1 - "
            "beta, and not by 0.",
            changes={"corrects": "from step 0"},
        ),
        Misconception(
            "multiplies by the correction",
            "You multiply by 1 - beta**t, which makes what is too small smaller still. Divide.",
            changes={"corrects": "upside down"},
        ),
        Misconception(
            "decay in the gradient",
            "You add weight_decay * p to the gradient. That is Adam with an L2 penalty: the root divides the decay "
            "away where gradients are large. In AdamW the decay goes past the moments, straight to p.",
            changes={"decay": "in the gradient"},
        ),
        Misconception(
            "decay without the learning rate",
            "Your decay takes weight_decay * p off p. It is scaled by the learning rate as well: lr * weight_decay * "
            "p.",
            changes={"decay": "without lr"},
        ),
        Misconception(
            "no decay",
            "Your step has no weight decay: p shrinks by lr * weight_decay * p as well, whatever the gradient.",
            changes={"decay": "none"},
        ),
        Misconception(
            "decay after the move",
            "You let the moved p decay. Both parts are taken from the old p: p - lr * weight_decay * p - lr * m_hat / "
            "(...).",
            changes={"decay": "after the move"},
        ),
        Misconception(
            "eps inside the root",
            "Your eps stands inside the root, where 1e-8 counts as 1e-4. It is added to the root: sqrt(v_hat) + eps.",
            changes={"eps_is": "inside"},
        ),
        Misconception(
            "no eps",
            "Your divisor has no eps, so a parameter that never got a gradient becomes 0 / 0, NaN: sqrt(v_hat) + eps.",
            changes={"eps_is": "nowhere"},
        ),
        Misconception(
            "no root",
            "You divide by v_hat itself. v is a mean of squares: its root has the size of a gradient.",
            changes={"root": False},
        ),
        Misconception(
            "v from m",
            "Your v averages the squares of m. It averages the squares of the gradient itself.",
            changes={"second": "mean squared"},
        ),
        Misconception(
            "v from sizes",
            "Your v averages the gradient's absolute value. It averages its square, g**2; the root comes later.",
            changes={"second": "absolute"},
        ),
        Misconception(
            "moves by g",
            "You move along the present gradient. AdamW moves along its running mean, m_hat.",
            changes={"moves": "by g"},
        ),
        Misconception(
            "uphill",
            "You add the move, so that the loss rises. The gradient points uphill: subtract.",
            changes={"direction": "up"},
        ),
        Misconception(
            "betas exchanged",
            "beta1 belongs to m and beta2 to v; you have them the other way round.",
            changes={"betas": "exchanged"},
        ),
        Misconception(
            "betas on the wrong side",
            "You keep 1 - beta of the old mean and take beta of the new. A beta of 0.9 keeps nine tenths of the old.",
            changes={"betas": "on the wrong side"},
        ),
        Misconception(
            "returns the corrected moments",
            "You return the corrected m and v. The correction is for this step only: what is kept for the next one is "
            "m and v themselves.",
            changes={"hands_back": "corrected moments"},
        ),
        Misconception(
            "changes its inputs",
            "The numbers are right, and your function wrote them into p, m and v. Here new tensors are wanted: leave "
            "the inputs as they are.",
            _in_place,
        ),
        Misconception(
            "returns p alone",
            "Your function returns p alone. The moments are needed at the next step: return (p, m, v).",
            _p_alone,
        ),
    ),
    properties=(
        Property(
            "m and v are running means",
            _means,
            "m must become beta1 * m + (1 - beta1) * g, and v beta2 * v + (1 - beta2) * g**2.",
            0.25,
            ("m", "v"),
        ),
        Property(
            "without a gradient there is only decay",
            _decays,
            "When g, m and v are 0, p must shrink by lr * weight_decay * p and do nothing else; with a gradient it "
            "must move.",
            0.2,
            ("p", "still.p"),
        ),
        Property(
            "the first step is lr long",
            _against,
            "At the first step every parameter with a gradient must move against it by lr, however large the gradient "
            "is, beside its decay.",
            0.15,
            ("p", "still.p"),
        ),
    ),
    hints=(
        "Three things in a row: renew the two running means, correct copies of them, move p. The decay needs none of "
        "the three.",
        "m_hat = m / (1 - beta1**t) and v_hat = v / (1 - beta2**t), after m and v have taken in g. Then p loses lr * "
        "m_hat / (sqrt(v_hat) + eps), and lr * weight_decay * p.",
        "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g**2; p = p - lr * weight_decay * p - lr * "
        "m_hat / (v_hat.sqrt() + eps); return p, m, v.",
    ),
)
