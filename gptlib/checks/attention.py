"""Exercise set 03: the causal mask, the scores, attention, and the test that finds a leak."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor, tensors, truth

LESSON = 3
INF = math.inf
KERNELS = {
    "F.scaled_dot_product_attention": "which is the task itself",
    "nn.MultiheadAttention": "which has the task inside",
}


# --- attention.causal_mask --------------------------------------------------------------------------------------------


def _draw_lengths(rng: np.random.Generator) -> list[Case]:
    return [Case({"T": T}) for T in (1, 2, 4, *sizes(rng, 2, 5, 12))]


def _probe_mask(answer: Answer, given: Given) -> Arrays:
    return {"mask": tensor(answer(given["T"]))}


def _reference_mask(T: int) -> torch.Tensor:
    return torch.full((T, T), -INF).triu(1)  # (T, T)


def _mask_with(allowed: float, forbidden: float, diagonal: int = 1) -> Answer:
    return lambda T: torch.where(torch.ones(T, T).triu(diagonal) == 1, forbidden, allowed)


CAUSAL_MASK = Exercise(
    id="attention.causal_mask",
    title="Hide the future",
    minutes=5,
    points=2,
    signature="causal_mask(T)",
    draw=_draw_lengths,
    probe=_probe_mask,
    reference=_reference_mask,
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
            lambda T: _reference_mask(T).T,
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
            "zero times infinity",
            "Your mask multiplies by infinity, and 0 * inf is NaN. Fill or select instead of multiplying: torch.triu "
            "of a matrix full of -inf, masked_fill, or torch.where.",
            lambda T: torch.ones(T, T).triu(1) * -INF,
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


# --- attention.scores -------------------------------------------------------------------------------------------------


def _draw_queries_and_keys(rng: np.random.Generator) -> list[Case]:
    def case(*leading: int, T: int, S: int, D: int) -> Case:
        return Case({"q": normal(rng, *leading, T, D), "k": normal(rng, *leading, S, D)})

    a, b, c, d, e = sizes(rng, 5)
    edges = [case(T=1, S=1, D=2), case(T=2, S=4, D=3), case(T=2, S=4, D=3), case(T=3, S=3, D=2)]
    return [*edges, case(a, T=b, S=c, D=d), case(d, e, T=c, S=b, D=a)]


def _probe_scores(answer: Answer, given: Given) -> Arrays:
    def call(q: Any, k: Any) -> Any:
        return answer(q, k)

    inputs = copies(given)
    arrays = {"scores": tensor(call(**inputs))} | afterwards(inputs) | gradients(call, given, "q", "k")
    later = copies(given)
    later["q"][..., -1, :] += 1
    return arrays | {"changed.scores": tensor(call(**later))}


def _build_scores(
    *, scale: str = "root d", order: str = "queries first", then: str = "nothing", writes: str = "no"
) -> Answer:
    def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        D, T, S = q.shape[-1], q.shape[-2], k.shape[-2]
        factor = {
            "root d": math.sqrt(D),
            "none": 1.0,
            "d": D,
            "times root d": 1 / math.sqrt(D),
            "root keys": math.sqrt(S),
            "root queries": math.sqrt(T),
        }[scale]
        q = q.div_(factor) if writes == "q" else q / factor
        product = q @ k.transpose(-2, -1)  # (…, T, S)
        product = product if order == "queries first" else product.transpose(-2, -1)
        return product.softmax(-1) if then == "softmax" else product

    return scores


def _reversed_keys(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.permute(*reversed(range(k.dim()))) / math.sqrt(q.shape[-1])


def _is_multiple(case: Case, got: dict[str, torch.Tensor]) -> bool:
    q, k = case.given["q"], case.given["k"]
    assert isinstance(q, torch.Tensor)
    assert isinstance(k, torch.Tensor)
    products, seen = (q @ k.transpose(-2, -1)).flatten(), got["scores"].flatten()
    factor = float(products @ seen / (products @ products))
    return factor > 0 and bool(((seen - factor * products).abs() <= 1e-4 * max(1.0, factor)).all())


def _rows_are_separate(case: Case, got: dict[str, torch.Tensor]) -> bool:
    return bool(((got["changed.scores"] - got["scores"])[..., :-1, :].abs() <= 1e-5).all())


SCORES = Exercise(
    id="attention.scores",
    title="How well a query matches a key",
    minutes=5,
    points=2,
    signature="scores(q, k)",
    draw=_draw_queries_and_keys,
    probe=_probe_scores,
    reference=_build_scores(),
    build=_build_scores,
    forbidden=KERNELS,
    misconceptions=(
        Misconception(
            "no scaling",
            "Your scores are the bare dot products. Their spread grows with D (its square root), and the softmax of "
            "large scores is almost one-hot, with almost no gradient: divide by the square root of D.",
            changes={"scale": "none"},
        ),
        Misconception(
            "divides by D",
            "You divide by D. A sum of D products of independent numbers has variance D, so its spread is the square "
            "root of D: divide by that.",
            changes={"scale": "d"},
        ),
        Misconception(
            "multiplies by the root",
            "You multiply by the square root of D where you should divide: the scores become larger with D instead of "
            "staying near 1.",
            changes={"scale": "times root d"},
        ),
        Misconception(
            "root of the number of keys",
            "You divide by the square root of S, the number of keys. The sum in a dot product runs over D, the last "
            "dimension of q and k; after the transpose, k's last dimension is S.",
            changes={"scale": "root keys"},
        ),
        Misconception(
            "root of the number of queries",
            "You divide by the square root of T, the number of queries. The sum in a dot product runs over D, the "
            "last dimension of q and k.",
            changes={"scale": "root queries"},
        ),
        Misconception(
            "keys first",
            "Your scores have keys as rows. A row belongs to a query, a column to a key, so the shape is (…, T, S): q "
            "comes first in the product, and k is the one that is transposed.",
            changes={"order": "keys first"},
        ),
        Misconception(
            "softmax already",
            "Your rows sum to one: you have taken the softmax already. Scores are what goes into the softmax; the "
            "mask still has to be added between the two.",
            changes={"then": "softmax"},
        ),
        Misconception(
            "writes into q",
            "The scores are right, but your function changed its input q: /= and div_ work in place. Whoever called "
            "you still needs q: write q / ... instead.",
            changes={"writes": "q"},
        ),
        Misconception(
            "reverses all dimensions",
            "k.T turns all dimensions round, the leading ones too; it is a transpose for matrices only. Exchange just "
            "the last two: k.transpose(-2, -1).",
            _reversed_keys,
        ),
    ),
    properties=(
        Property(
            "each entry is the dot product of its query and key, up to one factor",
            _is_multiple,
            "Entry [t, s] must come from the dot product of query t and key s.",
            0.25,
            ("scores",),
        ),
        Property(
            "a row depends on its own query only",
            _rows_are_separate,
            "Changing the last query must leave the rows of the others as they were.",
            0.25,
            ("scores", "changed.scores"),
        ),
    ),
    hints=(
        "One matrix product computes all T times S dot products. What must be turned so that (T, D) and (S, D) fit?",
        "Exchange the last two dimensions of k and leave the leading ones alone. Then ask which size the sum inside a "
        "dot product runs over: its square root is the divisor.",
        "q @ k.transpose(-2, -1) has shape (…, T, S); divide it by math.sqrt of q's last size.",
    ),
)


# --- attention.attend -------------------------------------------------------------------------------------------------


def _causal(T: int) -> torch.Tensor:
    return _reference_mask(T)


def _draw_attention(rng: np.random.Generator) -> list[Case]:
    def case(*leading: int, T: int, S: int, D: int, V: int, mask: torch.Tensor | None = None, note: str = "") -> Case:
        q, k, v = normal(rng, *leading, T, D), normal(rng, *leading, S, D), normal(rng, *leading, S, V)
        return Case({"q": q, "k": k, "v": v, "mask": mask}, note)

    a, b, c, d, e = sizes(rng, 5)
    # Whole numbers and D = 4 make these scores exact: no correct answer differs by rounding, and exp overflows.
    rows = torch.from_numpy(rng.permutation(3)).float()[:, None]  # (3, 1)
    large = {"q": rows * 10 + torch.zeros(3, 4), "k": torch.tensor([[7.0], [5.0], [6.0]]) + torch.zeros(3, 4)}
    padding = torch.zeros(d, 1, 1, b)  # (B, 1, 1, S)
    padding[::2, ..., -1] = -INF
    return [
        case(T=1, S=1, D=2, V=3),
        case(T=2, S=4, D=3, V=5, note="without a mask"),
        case(T=2, S=4, D=3, V=5, note="without a mask"),
        case(T=3, S=3, D=2, V=4, mask=_causal(3), note="with a causal mask"),
        Case({**large, "v": normal(rng, 3, 2), "mask": _causal(3)}, "with large scores and a causal mask"),
        case(T=3, S=4, D=2, V=5, mask=normal(rng, 3, 4).abs(), note="with a mask of finite numbers"),
        case(a, T=b, S=b, D=c, V=d, mask=_causal(b), note="with a causal mask"),
        case(
            d,
            e,
            T=c,
            S=b,
            D=a,
            V=b + 1,
            mask=padding,
            note="with a mask that hides the last key of every other sequence",
        ),
    ]


def _probe_attend(answer: Answer, given: Given) -> Arrays:
    def call(**inputs: Any) -> Any:
        q, k, v, mask = inputs["q"], inputs["k"], inputs["v"], inputs["mask"]
        return answer(q, k, v) if mask is None else answer(q, k, v, mask)

    def output(**inputs: Any) -> Any:
        result = call(**inputs)
        return result[0] if isinstance(result, tuple | list) else None

    inputs = copies(given)
    arrays = tensors(call(**inputs), "output", "weights") | afterwards(inputs)
    arrays |= gradients(output, given, "q", "k", "v")
    later = copies(given)
    later["k"][..., -1, :] += 1
    later["v"][..., -1, :] -= 3
    return arrays | {"future.output": tensor(output(**later))}


def _build_attend(
    *,
    scale: str = "root d",
    mask_goes: str = "before",
    softmax: str = "keys",
    mixes: str = "weights",
    returns: str = "both",
) -> Answer:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        D = q.shape[-1]
        scores = q @ k.transpose(-2, -1) / {"root d": math.sqrt(D), "none": 1.0, "d": D}[scale]  # (…, T, S)
        if mask is not None or mask_goes == "always":
            scores = _masked(scores, mask, mask_goes)
        weights = _softmax(scores, softmax)  # (…, T, S)
        if mask is not None and mask_goes == "zeroes after":
            weights = weights.masked_fill(mask == -INF, 0)
        if mask is not None and mask_goes == "zeroes all others after":
            weights = weights.masked_fill(mask != 0, 0)
        if mask is not None and mask_goes == "added after":
            weights = weights + mask
        output = (weights if mixes == "weights" else scores) @ v  # (…, T, Dv)
        return {"both": (output, weights), "output": output, "swapped": (weights, output)}[returns]

    return attend


def _masked(scores: torch.Tensor, mask: Any, goes: str) -> Any:  # None may come in, and then fails as a learner's does
    if goes in ("before", "always"):
        return scores + mask
    if goes == "multiplied":
        return scores * mask
    if goes == "zero is forbidden":
        return scores.masked_fill(mask == 0, -INF)
    if goes == "only zero is allowed":
        return scores.masked_fill(mask != 0, -INF)
    if goes == "only infinities":
        return scores.masked_fill(mask == -INF, -INF)
    return scores


def _softmax(scores: torch.Tensor, way: str) -> torch.Tensor:
    if way == "keys":
        return scores.softmax(-1)
    if way == "queries":
        return scores.softmax(-2)
    if way == "dimension 1":
        return scores.softmax(1)
    powers = scores.exp()
    return powers if way == "not normalised" else powers / powers.sum(-1, keepdim=True)


def _sum_to_one(case: Case, got: dict[str, torch.Tensor]) -> bool:
    weights = got["weights"]
    return bool((weights >= 0).all()) and bool(((weights.sum(-1) - 1).abs() <= 1e-5).all())


def _zero_where_hidden(case: Case, got: dict[str, torch.Tensor]) -> bool:
    mask = case.given["mask"]
    if not isinstance(mask, torch.Tensor):
        return True
    return bool((got["weights"][mask.expand_as(got["weights"]) == -INF] == 0).all())


def _future_unseen(case: Case, got: dict[str, torch.Tensor]) -> bool:
    mask, change = case.given["mask"], got["future.output"] - got["output"]  # (…, T, Dv)
    if not isinstance(mask, torch.Tensor):
        return True
    hidden = (mask[..., -1:] == -INF).expand_as(change)  # rows that may not see the last key
    return bool((change[hidden].abs() <= 1e-5).all())


def _output_is_mixture(case: Case, got: dict[str, torch.Tensor]) -> bool:
    v = case.given["v"]
    assert isinstance(v, torch.Tensor)
    return bool(((got["weights"] @ v - got["output"]).abs() <= 1e-4).all())


ATTEND = Exercise(
    id="attention.attend",
    title="Attention, whole",
    minutes=12,
    points=4,
    signature="attend(q, k, v, mask=None)",
    draw=_draw_attention,
    probe=_probe_attend,
    reference=_build_attend(),
    build=_build_attend,
    forbidden=KERNELS,
    misconceptions=(
        Misconception(
            "no scaling",
            "Your scores are not divided by the square root of D, so the softmax is sharper than it should be.",
            changes={"scale": "none"},
        ),
        Misconception(
            "divides by D",
            "You divide the scores by D; the divisor is its square root.",
            changes={"scale": "d"},
        ),
        Misconception(
            "softmax over queries",
            "Your softmax runs over the queries (dim=-2), so the columns sum to one. Each query shares out its own "
            "attention over the keys: dim=-1.",
            changes={"softmax": "queries"},
        ),
        Misconception(
            "softmax over dimension 1",
            "Your softmax runs over dimension 1, which is the keys only when there are no leading dimensions. Count "
            "from the end: dim=-1.",
            changes={"softmax": "dimension 1"},
        ),
        Misconception(
            "not normalised",
            "Your weights are exp(scores), not divided by their sum over the keys: the rows do not sum to one.",
            changes={"softmax": "not normalised"},
        ),
        Misconception(
            "exp overflows",
            "Your softmax overflows: exp of a score above 88 is infinite in float32, and inf / inf is NaN. "
            "torch.softmax subtracts each row's maximum first, which changes nothing but the overflow.",
            changes={"softmax": "unstable"},
        ),
        Misconception(
            "mask ignored",
            "Your function takes the mask and does not use it: every position sees the future.",
            changes={"mask_goes": "ignored"},
        ),
        Misconception(
            "mask after the softmax",
            "You zero the weights after the softmax. By then the future has been part of each row's sum: the rows no "
            "longer sum to one, and what is left of them depends on what was hidden. Add the mask to the scores, "
            "before.",
            changes={"mask_goes": "zeroes after"},
            also=(_build_attend(mask_goes="zeroes all others after"),),
        ),
        Misconception(
            "mask added to the weights",
            "You add the mask to the weights, after the softmax, and get weights of -inf. Add it to the scores, "
            "before.",
            changes={"mask_goes": "added after"},
        ),
        Misconception(
            "mask multiplied",
            "You multiply the scores by the mask. Its 0 means allowed, and -inf forbidden: it is made to be added.",
            changes={"mask_goes": "multiplied"},
        ),
        Misconception(
            "zero taken for forbidden",
            "You forbid where the mask is 0. In this mask 0 means allowed and -inf forbidden, so just add it to the "
            "scores.",
            changes={"mask_goes": "zero is forbidden"},
        ),
        Misconception(
            "mask read as yes or no",
            "You use only where the mask is -inf. Its finite numbers count as well (that is how some models favour "
            "near positions): add the mask to the scores.",
            changes={"mask_goes": "only infinities"},
            also=(_build_attend(mask_goes="only zero is allowed"),),
        ),
        Misconception(
            "fails without a mask",
            "Your function fails when there is no mask: mask=None means that everything may be seen, and None cannot "
            "be added to a tensor.",
            changes={"mask_goes": "always"},
        ),
        Misconception(
            "mixes with scores",
            "Your output multiplies v by the scores. The values are mixed by the weights, that is after the softmax.",
            changes={"mixes": "scores"},
        ),
        Misconception(
            "returns the output alone",
            "Your function returns one tensor; both are wanted, (output, weights), in this order.",
            changes={"returns": "output"},
        ),
        Misconception(
            "returns them in the other order",
            "Your function returns (weights, output); the order is (output, weights).",
            changes={"returns": "swapped"},
        ),
    ),
    properties=(
        Property(
            "each row of weights sums to one",
            _sum_to_one,
            "The weights of one query must be at least 0 and sum to one over the keys.",
            0.15,
            ("weights",),
        ),
        Property(
            "the weight is 0 where the mask is -inf",
            _zero_where_hidden,
            "Where the mask is -inf, the weight must be exactly 0.",
            0.1,
            ("weights",),
        ),
        Property(
            "what is hidden changes nothing",
            _future_unseen,
            "Changing a key and value that the mask hides must leave the output as it was.",
            0.15,
            ("output", "future.output"),
        ),
        Property(
            "the output is the weights times v",
            _output_is_mixture,
            "The output must be the product of the weights that you return and v.",
            0.1,
            ("output", "weights"),
        ),
    ),
    hints=(
        "Four steps, each one line: scores, mask, softmax, mixture. Write the shape beside each: only the last one "
        "has Dv in it.",
        "The mask is added to the scores, before the softmax, and only when there is one. The softmax runs over the "
        "keys, the last dimension.",
        "scores = q @ k.transpose(-2, -1) / math.sqrt(D); if a mask is given, scores = scores + mask; weights = "
        "F.softmax(scores, dim=-1); return weights @ v and the weights.",
    ),
)


# --- attention.leaks --------------------------------------------------------------------------------------------------

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


def _everything(T: int) -> torch.Tensor:
    return torch.ones(T, T)


def _draw_hidden(rng: np.random.Generator) -> list[Case]:
    def case(
        note: str, mask: Square = _causal, gate: Square = _everything, longest: bool = False, **settings: float
    ) -> Case:
        T, C = sizes(rng, 2, 5, 12)
        T, C = (12, min(T, C)) if longest else (T, C)
        w = {name: normal(rng, C, C) / math.sqrt(C) for name in ("w_q", "w_k", "w_v")}
        return Case(
            {"T": T, "C": C, **w, "mask": mask(T), "gate": gate(T), "over": -1, "centred": 0.0, **settings}, note
        )

    def hole(row: int) -> Square:
        return lambda T: _causal(T).index_put((torch.tensor(row % T), torch.tensor(row % T + 1)), torch.tensor(0.0))

    return [
        case(HONEST),
        case(NEXT, lambda T: torch.full((T, T), -INF).triu(2)),
        case(HONEST, lambda T: torch.where(torch.ones(T, T).tril().triu(-1) == 1, 0.0, -INF)),  # a window of two
        case(UPSIDE_DOWN, lambda T: _causal(T).T.contiguous()),
        case(UNMASKED, lambda T: torch.zeros(T, T)),
        case(AFTER, lambda T: torch.zeros(T, T), gate=lambda T: torch.ones(T, T).tril()),
        case(HONEST, gate=lambda T: _everything(T) / 2),
        # With large numbers nearly all weight is on one key, and in a short text that may be the past for every row.
        case(FINITE, lambda T: torch.full((T, T), -30.0).triu(1), longest=True),
        case(OVER_QUERIES, over=-2),
        case(HONEST, lambda T: torch.where(torch.eye(T) == 1, 0.0, -INF)),  # each sees itself only
        case(CENTRED, centred=1.0),
        case(FIRST_PAIR, hole(0)),
        case(LAST_PAIR, hole(-2)),
    ]


def _probe_leaks(answer: Answer, given: Given) -> Arrays:
    # All hidden attentions are this one function with other numbers, so that its text gives nothing away.
    own: dict[str, Any] = copies(given)

    def attention(x: torch.Tensor) -> Any:
        T, C = x.shape[-2:]
        x = x - own["centred"] * x.mean(-2, keepdim=True)  # (T, C)
        scores = (x @ own["w_q"]) @ (x @ own["w_k"]).transpose(-2, -1) / math.sqrt(C)  # (T, T)
        weights = (scores + own["mask"][:T, :T]).softmax(own["over"]) * own["gate"][:T, :T]
        return weights @ (x @ own["w_v"])  # (T, C)

    return {"leak": truth(answer(attention, given["T"], given["C"]))}


def _build_leaks(
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


def _finds(*notes: str) -> Callable[[Case, dict[str, torch.Tensor]], bool]:
    def holds(case: Case, got: dict[str, torch.Tensor]) -> bool:
        # An answer that always says the same finds nothing: those that do not leak must pass too.
        return bool(got["leak"]) == (case.note != HONEST) if case.note in (HONEST, *notes) else True

    return holds


LEAKS = Exercise(
    id="attention.leaks",
    title="Write the test that finds the leak",
    minutes=15,
    points=4,
    signature="leaks(attention, T, C)",
    draw=_draw_hidden,
    probe=_probe_leaks,
    reference=_build_leaks(),
    build=_build_leaks,
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

EXERCISES = (CAUSAL_MASK, SCORES, ATTEND, LEAKS)
