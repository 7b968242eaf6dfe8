"""What a layer adds without some of its heads."""

from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, tensor


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, H: int, T: int, D: int, C: int, gone: list[int], others: tuple[int, int] | None = None) -> Case:
        source = None if others is None else normal(rng, others[0], H, others[1], D) + 0.5
        return Case({"heads": normal(rng, B, H, T, D), "w_o": normal(rng, H * D, C), "gone": gone, "source": source})

    a, b, c, d, e = sizes(rng, 5, 2, 7)
    n, s = sizes(rng, 2, 8, 11)
    some = sorted(int(h) for h in rng.choice(np.arange(b + 1), b - 1, replace=False))
    return [
        case(1, 3, 2, 2, 6, [1]),
        case(2, 4, 5, 3, 12, [0, 2]),
        case(2, 3, 4, 5, 7, []),
        case(2, 4, 5, 3, 12, [1, 3], (3, 6)),
        case(1, 3, 4, 2, 5, [2], (1, 7)),
        case(a, b + 1, c, d, e + 4, some),
        case(a, b + 1, c, d, e + 4, some, (n, s)),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    own, louder, others, whole = copies(given), copies(given), copies(given), copies(given)
    gone = list(own["gone"])
    louder["heads"][:, gone] += 1
    others["heads"][:, [h for h in range(others["heads"].shape[1]) if h not in gone]] += 1
    whole["gone"] = []
    found = {"output": tensor(answer(own["heads"], own["w_o"], own["gone"], own["source"]))} | afterwards(own)
    found |= {"louder.output": tensor(answer(louder["heads"], louder["w_o"], louder["gone"], louder["source"]))}
    found |= {"others.output": tensor(answer(others["heads"], others["w_o"], others["gone"], others["source"]))}
    none_gone = answer(whole["heads"], whole["w_o"], whole["gone"], whole["source"])
    return found | {"whole.output": tensor(none_gone)}


def _build(
    *,
    which: str = "gone",
    scale: bool = False,
    merged: str = "heads side by side",
    put: str = "as asked",
    mean_of: str = "source",
    after: str = "not",
) -> Answer:
    def ablate(
        heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
    ) -> torch.Tensor:
        B, H, T, D = heads.shape
        off = [h in gone for h in range(H)]
        if which == "all others":
            off = [not each for each in off]
        if which == "the first only":
            off = [h in gone[:1] for h in range(H)]
        if which == "from 1":
            off = [h + 1 in gone for h in range(H)]
        if which == "none":
            off = [False] * H
        others = heads if mean_of == "the text itself" else source
        value = torch.zeros(1, H, 1, D)
        if source is not None and others is not None and put == "as asked":
            if mean_of == "features too":
                value = others.mean((0, 2, 3), keepdim=True).expand(1, H, 1, D)
            elif mean_of == "all heads":
                value = others.mean((0, 1, 2), keepdim=True).expand(1, H, 1, D)
            elif mean_of == "first text":
                value = others[:1].mean(2, keepdim=True)
            else:
                value = others.mean((0, 2), keepdim=True)
        mask = torch.tensor(off)[None, :, None, None]
        kept = torch.where(mask, value, heads)
        if scale and sum(off) < H:
            kept = torch.where(mask, kept, kept * (H / (H - sum(off))))
        if merged == "reshape alone":
            rows = kept.reshape(B, T, H * D)
        elif merged == "features first":
            rows = kept.permute(0, 2, 3, 1).reshape(B, T, H * D)
        else:
            rows = kept.transpose(1, 2).reshape(B, T, H * D)
        return rows if after == "no projection" else rows @ w_o

    return ablate


def _sum_of_heads(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    B, H, T, D = heads.shape
    output = torch.zeros(B, T, w_o.size(1))
    for h in range(H):
        brought = heads[:, h]  # (B, T, D)
        if h in gone:
            brought = torch.zeros(B, T, D) if source is None else source[:, h].mean((0, 1)).expand(B, T, D)
        output = output + brought @ w_o[h * D : (h + 1) * D]
    return output


def _by_copy(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    changed = heads.clone()
    changed[:, gone] = 0 if source is None else source[:, gone].mean((0, 2), keepdim=True)
    return changed.transpose(1, 2).flatten(2) @ w_o


def _by_subtracting(heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None) -> Any:
    by_head = torch.unflatten(w_o, 0, (heads.size(1), -1))  # (H, D, C)
    difference = heads if source is None else heads - source.mean((0, 2))[:, None]
    return torch.einsum("bhtd,hdc->btc", heads, by_head) - torch.einsum(
        "bhtd,hdc->btc", difference[:, gone], by_head[gone]
    )


def _by_zeroed_rows(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    D = heads.size(3)
    rows = [h * D + d for h in gone for d in range(D)]
    silent = w_o.clone()
    silent[rows] = 0
    output = heads.transpose(1, 2).flatten(2) @ silent
    if source is not None:
        output = output + source.mean((0, 2)).flatten()[rows] @ w_o[rows]
    return output


def _in_place(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    heads[:, gone] = 0 if source is None else source[:, gone].mean((0, 2), keepdim=True)
    return heads.transpose(1, 2).flatten(2) @ w_o


def _deleted(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    kept = heads[:, [h for h in range(heads.size(1)) if h not in gone]]
    return kept.transpose(1, 2).flatten(2) @ w_o


def _mean_over_texts(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    changed = heads.clone()
    changed[:, gone] = 0 if source is None else source[:, gone].mean(0)
    return changed.transpose(1, 2).flatten(2) @ w_o


def _mean_over_positions(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    changed = heads.clone()
    changed[:, gone] = 0 if source is None else source[:, gone].mean(2, keepdim=True)
    return changed.transpose(1, 2).flatten(2) @ w_o


def _every_h_th(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    H = heads.size(1)
    rows = heads.transpose(1, 2).flatten(2).clone()  # (B, T, H · D)
    mean = None if source is None else source.mean((0, 2)).flatten()  # (H · D,)
    for h in gone:
        rows[..., h::H] = 0 if mean is None else mean[h::H]
    return rows @ w_o


def _columns_of_the_output(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    D = heads.size(3)
    output = heads.transpose(1, 2).flatten(2) @ w_o
    mean = None if source is None else source.mean((0, 2)).flatten() @ w_o
    for h in gone:
        part = slice(h * D, (h + 1) * D)
        output[..., part] = 0 if mean is None else mean[part]
    return output


def _features_numbered_like_heads(
    heads: torch.Tensor, w_o: torch.Tensor, gone: list[int], source: torch.Tensor | None = None
) -> torch.Tensor:
    rows = heads.transpose(1, 2).flatten(2).clone()
    rows[..., gone] = 0 if source is None else source.mean((0, 2)).flatten()[gone]
    return rows @ w_o


def _no_trace(case: Case, got: dict[str, Any]) -> bool:
    same = bool(((got["louder.output"] - got["output"]).abs() <= 1e-4).all())
    return same and bool(((got["others.output"] - got["output"]).abs().amax(-1) > 1e-3).all())


def _whole_layer(case: Case, got: dict[str, Any]) -> bool:
    heads, w_o = case.given["heads"], case.given["w_o"]
    assert isinstance(heads, torch.Tensor)
    assert isinstance(w_o, torch.Tensor)
    whole = heads.transpose(1, 2).flatten(2) @ w_o
    return bool(((got["whole.output"] - whole).abs() <= 1e-4 * whole.abs().clamp(min=1)).all())


EXERCISE = Exercise(
    id="reading.ablate",
    title="Take a head away",
    minutes=12,
    points=4,
    signature="ablate(heads, w_o, gone, source=None)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_sum_of_heads, _by_copy, _by_subtracting, _by_zeroed_rows),
    tolerance=1e-4,
    misconceptions=(
        Misconception(
            "keeps what should go",
            "You silence all heads but those in gone. It is the other way round: gone lists the ones to take away.",
            changes={"which": "all others"},
        ),
        Misconception(
            "nothing goes",
            "Your output is that of the whole layer: no head was taken away.",
            changes={"which": "none"},
        ),
        Misconception(
            "only the first goes",
            "You take away the first head of gone and leave the others. All of them go.",
            changes={"which": "the first only"},
        ),
        Misconception(
            "counts from 1",
            "You take away the heads one before those in gone. Heads count from 0.",
            changes={"which": "from 1"},
        ),
        Misconception(
            "deletes the heads",
            "You take the heads out of the tensor, and what is left no longer fits w_o, which has D rows for every "
            "head. A head that is gone keeps its place, with 0 or a mean in it.",
            _deleted,
        ),
        Misconception(
            "mean over texts or positions alone",
            "What you put in for a head still has the source's texts or positions, and fits no other batch. Average "
            "over both, dimensions 0 and 2, with keepdim=True: one row of D numbers for each head.",
            _mean_over_texts,
            also=(_mean_over_positions,),
        ),
        Misconception(
            "scales the rest up",
            "You make the other heads larger to compensate, as dropout does. An ablation asks what the model does with "
            "a head missing: leave the others as they are.",
            changes={"scale": True},
        ),
        Misconception(
            "every H-th feature",
            "After the merge you replace every H-th feature. A head's features are neighbours: head h has h · D to "
            "(h + 1) · D − 1. It is simpler to replace it before the merge.",
            _every_h_th,
        ),
        Misconception(
            "features numbered like heads",
            "After the merge you replace the features whose numbers stand in gone, one for each head. A head has D of "
            "them, and head h begins at h · D. It is simpler to replace it before the merge.",
            _features_numbered_like_heads,
        ),
        Misconception(
            "columns of the output",
            "You replace columns after the projection. By then w_o has mixed all heads, and no column belongs to one: "
            "replace the head before.",
            _columns_of_the_output,
        ),
        Misconception(
            "merged by reshape alone",
            "You merge with one reshape, which mixes up heads and positions. Exchange H and T first.",
            changes={"merged": "reshape alone"},
        ),
        Misconception(
            "merged features first",
            "You put feature 0 of all heads first, then feature 1. The heads stand side by side, each with its D "
            "features together.",
            changes={"merged": "features first"},
        ),
        Misconception(
            "ignores the source",
            "You put zeros where a source was given. With a source, a head is replaced by its mean over all texts and "
            "positions of that source.",
            changes={"put": "zeros always"},
        ),
        Misconception(
            "its own mean",
            "You take the mean over the text that is read, which still tells about this text. The mean asked for is "
            "over the texts and positions of source.",
            changes={"mean_of": "the text itself"},
        ),
        Misconception(
            "one number for all features",
            "You average over the features too, and put the same number in all D. Each feature has a mean of its own: "
            "average over texts and positions.",
            changes={"mean_of": "features too"},
        ),
        Misconception(
            "mean of all heads",
            "You average over the heads of the source too. Each head is replaced by its own mean.",
            changes={"mean_of": "all heads"},
        ),
        Misconception(
            "mean of the first text",
            "You average over the positions of the source's first text. Average over all its texts.",
            changes={"mean_of": "first text"},
        ),
        Misconception(
            "no projection",
            "You give the merged heads, (B, T, H · D). The layer's output is that times w_o: (B, T, C).",
            changes={"after": "no projection"},
        ),
        Misconception(
            "changes its input",
            "The output is right, and the tensor that you were given has been written to: whoever calls you twice gets "
            "the second answer wrong. Work on a copy, heads.clone().",
            _in_place,
        ),
    ),
    properties=(
        Property(
            "what is gone leaves no trace",
            _no_trace,
            "With other numbers in the heads that are taken away, the output must stay as it was; with other numbers "
            "in the rest, it must change.",
            0.25,
            ("output", "louder.output", "others.output"),
        ),
        Property(
            "without anything gone it is the whole layer",
            _whole_layer,
            "With gone = [], the output must be all heads merged and multiplied by w_o.",
            0.2,
            ("whole.output",),
        ),
    ),
    hints=(
        "Replace first, while every head still has a place of its own; then merge and project as in set 04.",
        "Dimension 1 of heads says which head. Work on a copy; what goes in is 0, or the mean of source over its "
        "dimensions 0 and 2, head by head.",
        "changed = heads.clone(); changed[:, gone] = 0, or source[:, gone].mean(dim=(0, 2), keepdim=True); then "
        "changed.transpose(1, 2).flatten(2) @ w_o.",
    ),
)
