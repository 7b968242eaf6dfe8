"""From ids to logits and a loss: the parts of a GPT, assembled."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, normal, sizes
from gptlib.checks.probing import Answer, Arrays, Given, afterwards, copies, gradients, tensor, tensors


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, V: int, P: int, C: int, L: int, targets: str) -> Case:
        found = torch.from_numpy(rng.integers(0, V, (B, T)))
        if targets == "some":  # in every row another number of them, and at least one
            for b in range(B):
                found[b, : 1 + b % max(1, T - 1)] = -1
        if T > 1:  # where a target is missing, there is another than the last token that the answer may take for it
            found[:, -1] = torch.from_numpy(rng.integers(0, V - 1, B))
        ids = torch.from_numpy(rng.integers(0, V, (B, T)))
        given = {
            "ids": ids,
            "token_embedding": normal(rng, V, C),
            "position_embedding": normal(rng, P, C),
            "w_blocks": normal(rng, L, C, C) / math.sqrt(C),
            "w_norm": 1 + normal(rng, C).abs(),
            "targets": None if targets == "none" else found,
        }
        return Case(given, {"some": "-1 among the targets", "all": "", "none": "no targets"}[targets])

    a, b, c, d = sizes(rng, 4, 3, 9)
    return [
        case(1, 3, 5, 4, 2, 2, "all"),
        case(1, 1, 5, 4, 2, 2, "all"),
        case(3, 4, 7, 6, 5, 3, "some"),
        case(2, 3, 5, 7, 4, 2, "none"),
        case(a, b, 12, b + 2, c, 3, "some"),
        case(b, c, 13, c, d, 2, "all"),
    ]


def _probe(answer: Answer, given: Given) -> Arrays:
    def call(ids: Any, token_embedding: Any, position_embedding: Any, w_blocks: Any, w_norm: Any, targets: Any) -> Any:
        def block(w: Any) -> Any:  # a stand-in that moves information forwards only, and is not linear
            return lambda x: x + torch.tanh(x.cumsum(1) / torch.arange(1.0, x.shape[1] + 1)[:, None] @ w)

        def norm(x: Any) -> Any:
            centred = x - x.mean(-1, keepdim=True)
            return centred / ((centred**2).mean(-1, keepdim=True) + 0.1).sqrt() * w_norm

        return answer(ids, token_embedding, position_embedding, [block(w) for w in w_blocks], norm, targets)

    def result(**inputs: Any) -> Any:
        value = call(**inputs)
        logits, loss = value
        return logits if loss is None else torch.cat([logits.reshape(-1), 10 * loss.reshape(1)])

    own, later, same = copies(given), copies(given), copies(given)
    later["ids"][:, -1] = (later["ids"][:, -1] + 1) % len(later["token_embedding"])
    same["ids"][:] = 0
    found = tensors(call(**own), "logits", "loss") | afterwards(own) | {"after.targets": tensor(own["targets"])}
    found |= gradients(result, given, "token_embedding", "position_embedding", "w_norm")
    for name, inputs in (("future", later), ("same token", same)):
        found[f"{name}.logits"] = tensors(call(**inputs), "logits", "loss")["logits"]
    return found


def _build(
    *,
    positions: str = "from 0",
    blocks: str = "in order",
    norm_goes: str = "last",
    head: str = "tied",
    missing: str = "ignored",
    shift: str = "none",
    mean: str = "over targets",
    scale: bool = False,
    result: str = "logits",
) -> Answer:
    def forward(
        ids: torch.Tensor,
        token_embedding: torch.Tensor,
        position_embedding: torch.Tensor,
        parts: list[Answer],
        norm: Answer,
        targets: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        B, T = ids.shape
        V, C = token_embedding.shape
        P = len(position_embedding)
        x = token_embedding[ids]  # (B, T, C)
        if scale:
            x = x * math.sqrt(C)
        places = {
            "from 0": torch.arange(T).expand(B, T),
            "from 1": torch.arange(1, T + 1).clamp(max=P - 1).expand(B, T),
            "through the batch": torch.arange(B * T).view(B, T) % P,
            "always 0": torch.zeros(B, T, dtype=torch.long),
            "by id": ids % P,
            "from the end": torch.arange(T - 1, -1, -1).expand(B, T),
        }
        vectors = position_embedding[places[positions]] if positions in places else torch.zeros(B, T, C)
        if positions != "after the blocks":
            x = x + vectors
        x = norm(x) if norm_goes == "first" else x
        chosen = {"in order": parts, "backwards": parts[::-1], "the first alone": parts[:1]}
        for block in chosen.get(blocks, []):
            x = block(x)
            x = norm(x) if norm_goes == "after every block" else x
        if positions == "after the blocks":
            x = x + position_embedding[:T]
        x = norm(x) if norm_goes == "last" else x
        logits = x @ token_embedding.T  # (B, T, V)
        loss = None
        if targets is not None:
            inputs, wanted = logits, targets
            if shift == "again, always" or (shift == "again" and T > 1):
                inputs, wanted = logits[:, :-1], targets[:, 1:]
            if shift == "to the input":
                wanted = ids
            if missing == "clamped":
                wanted = wanted.clamp(min=0)
            if missing == "the last token":
                wanted = torch.where(wanted < 0, V - 1, wanted)
            twice = result in ("softmax before the loss", "probabilities everywhere")
            scores = inputs.softmax(-1) if twice else inputs
            flat = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=-1, reduction="none")
            each, there = flat.view(wanted.shape), wanted >= 0
            if mean == "over targets":
                loss = each.sum() / there.sum()
            elif mean == "over everything":
                loss = each.mean()
            elif mean == "sum":
                loss = each.sum()
            elif mean == "by rows":
                loss = (each.sum(1) / there.sum(1)).mean()
            else:
                loss = each.sum() / there.sum() / math.log(2)
        if result in ("probabilities", "probabilities everywhere"):
            logits = logits.softmax(-1)
        return logits, loss

    return forward


def _last_logits(*args: Any) -> Any:
    logits, loss = _build()(*args)
    return logits[:, -1:], loss


def _no_loss(*args: Any) -> Any:
    return _build()(*args)[0]


def _one_or_the_other(*args: Any) -> Any:
    logits, loss = _build()(*args)
    return logits if loss is None else loss


def _overwrites(ids: Any, token_embedding: Any, position_embedding: Any, blocks: Any, norm: Any, targets: Any) -> Any:
    logits, _ = _build()(ids, token_embedding, position_embedding, blocks, norm, None)
    if targets is None:
        return logits, None
    there = targets >= 0
    targets[~there] = 0
    picked = -logits.log_softmax(-1).gather(2, targets[..., None])[..., 0]
    return logits, (picked * there).sum() / there.sum()


def _number(*args: Any) -> Any:
    logits, loss = _build()(*args)
    return logits, None if loss is None else loss.detach()


def _plain_number(*args: Any) -> Any:
    logits, loss = _build()(*args)
    return logits, None if loss is None else loss.item()


def _always_a_loss(*args: Any) -> Any:
    logits, _ = _build()(*args[:5], None)
    return logits, F.cross_entropy(logits.flatten(0, 1), args[5].flatten(), ignore_index=-1)


def _nothing_ignored(*args: Any) -> Any:
    logits, _ = _build()(*args[:5], None)
    return logits, None if args[5] is None else F.cross_entropy(logits.flatten(0, 1), args[5].flatten())


def _by_calls(ids: Any, token_embedding: Any, position_embedding: Any, blocks: Any, norm: Any, targets: Any) -> Any:
    x = F.embedding(ids, token_embedding) + position_embedding[: ids.size(1)]
    for block in blocks:
        x = block(x)
    logits = F.linear(norm(x), token_embedding)
    if targets is None:
        return logits, None
    return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1)


def _by_picking(ids: Any, token_embedding: Any, position_embedding: Any, blocks: Any, norm: Any, targets: Any) -> Any:
    stream = torch.stack([token_embedding[row] + position_embedding[: len(row)] for row in ids])
    for block in blocks:
        stream = block(stream)
    logits = torch.einsum("btc,vc->btv", norm(stream), token_embedding)
    if targets is None:
        return logits, None
    there = targets != -1
    chosen = logits[there]  # (targets that are there, V)
    right = chosen[torch.arange(len(chosen)), targets[there]]
    return logits, (chosen.logsumexp(-1) - right).mean()


def _by_last_dimension(
    ids: Any, token_embedding: Any, position_embedding: Any, blocks: Any, norm: Any, targets: Any
) -> Any:
    B, T = ids.shape
    x = torch.index_select(token_embedding, 0, ids.reshape(-1)).reshape(B, T, -1)
    x = x + torch.index_select(position_embedding, 0, torch.arange(T))[None]
    for block in blocks:
        x = block(x)
    logits = torch.matmul(norm(x), token_embedding.transpose(0, 1))
    loss = None if targets is None else F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-1)
    return logits, loss


def _causal(case: Case, got: dict[str, Any]) -> bool:
    change = (got["future.logits"] - got["logits"]).abs()
    return bool((change[:, :-1] <= 1e-4).all()) and bool((change[:, -1] > 1e-4).any())


def _knows_places(case: Case, got: dict[str, Any]) -> bool:
    rows = got["same token.logits"]
    return rows.shape[1] == 1 or bool(((rows[:, 1:] - rows[:, :-1]).abs().amax(-1) > 1e-3).all())


def _loss_of_own_logits(case: Case, got: dict[str, Any]) -> bool:
    targets, loss = case.given["targets"], got["loss"]
    if not isinstance(targets, torch.Tensor):
        return True
    right = F.cross_entropy(got["logits"].flatten(0, 1), targets.flatten(), ignore_index=-1)
    return bool((right - loss).abs() <= 1e-3 * right.abs().clamp(min=1))


EXERCISE = Exercise(
    id="gpt.forward",
    title="The forward pass",
    minutes=15,
    points=5,
    signature="forward(ids, token_embedding, position_embedding, blocks, norm, targets)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_by_calls, _by_picking, _by_last_dimension),
    tolerance=1e-4,
    shown=("ids", "token_embedding", "position_embedding", "targets"),
    misconceptions=(
        Misconception(
            "no final norm",
            "You do not use norm. After the last block the stream is normed once more, before the output map: what the "
            "blocks have added up has a size that depends on depth.",
            changes={"norm_goes": "nowhere"},
        ),
        Misconception(
            "norm before the blocks",
            "You norm before the first block. This norm belongs after the last one; the blocks have their own norms.",
            changes={"norm_goes": "first"},
        ),
        Misconception(
            "norm after every block",
            "You norm after every block. The blocks have norms of their own; this one comes once, after the last.",
            _build(norm_goes="after every block"),
        ),
        Misconception(
            "no positions",
            "You leave the position vectors out, so a token has the same vector wherever it stands.",
            changes={"positions": "none"},
        ),
        Misconception(
            "every token at position 0",
            "You add the first position vector to every token. Position t gets row t.",
            _build(positions="always 0"),
        ),
        Misconception(
            "positions from 1",
            "Your positions begin at 1. The first token gets row 0 of position_embedding.",
            changes={"positions": "from 1"},
        ),
        Misconception(
            "positions running through the batch",
            "Your positions run on from one row of the batch into the next. Each text begins anew at position 0.",
            changes={"positions": "through the batch"},
        ),
        Misconception(
            "positions looked up by token",
            "You look position vectors up by the ids. They go by the place: row t for the token at t, whatever it is.",
            _build(positions="by id"),
        ),
        Misconception(
            "positions from the end",
            "Your positions count from the end of the text. The first token has position 0.",
            _build(positions="from the end"),
        ),
        Misconception(
            "positions after the blocks",
            "You add the position vectors after the blocks, where attention can no longer use them. They are added to "
            "the token vectors, before the first block.",
            _build(positions="after the blocks"),
        ),
        Misconception(
            "embeddings times √C",
            "You multiply the token vectors by the root of their length. The Transformer of 2017 did; GPT-2 does not.",
            changes={"scale": True},
        ),
        Misconception(
            "blocks backwards",
            "You apply the blocks from the last to the first.",
            changes={"blocks": "backwards"},
        ),
        Misconception(
            "only the first block",
            "You apply the first block alone. Apply all of them, one after the other.",
            _build(blocks="the first alone"),
        ),
        Misconception(
            "no blocks",
            "You do not apply the blocks: for block in blocks: x = block(x).",
            _build(blocks="none"),
        ),
        Misconception(
            "shifted twice",
            "You shift the targets once more. targets[b, t] is already the token that follows ids[b, t]: every "
            "position has its target beside it.",
            changes={"shift": "again"},
            also=(_build(shift="again, always"),),
        ),
        Misconception(
            "the input as target",
            "Your loss asks each position for the token that it has just read. Use targets.",
            _build(shift="to the input"),
        ),
        Misconception(
            "mean over everything",
            "You divide by all B · T positions. Those without a target say nothing, and must not count as a loss of 0: "
            "divide by the number of targets that are there.",
            changes={"mean": "over everything"},
        ),
        Misconception(
            "mean of the rows' means",
            "You average in each row and then over the rows. So a target in a row with few of them weighs more; every "
            "target is to weigh the same.",
            changes={"mean": "by rows"},
        ),
        Misconception(
            "sum",
            "Your loss is a sum. Divide by the number of targets, so that it does not grow with the batch.",
            _build(mean="sum"),
        ),
        Misconception(
            "in bits",
            "Your loss is in bits. The course counts in nats, with the natural logarithm.",
            _build(mean="bits"),
        ),
        Misconception(
            "-1 taken for token 0",
            "You turn -1 into token 0 and train on it. Where the target is -1, there is none: leave the place out.",
            changes={"missing": "clamped"},
        ),
        Misconception(
            "-1 taken for the last token",
            "You use -1 as an index, and Python takes it for the last token of the vocabulary. Where the target is -1, "
            "there is none: leave the place out.",
            _build(missing="the last token"),
        ),
        Misconception(
            "probabilities for logits",
            "You return probabilities. Logits are what stands before the softmax.",
            _build(result="probabilities"),
            also=(_build(result="probabilities everywhere"),),
        ),
        Misconception(
            "softmax before the loss",
            "You give F.cross_entropy probabilities. It takes logits and does the softmax itself; twice is too often.",
            _build(result="softmax before the loss"),
        ),
        Misconception(
            "only the last position",
            "You return the logits of the last position alone. Every position predicts its next token: (B, T, V).",
            _last_logits,
        ),
        Misconception(
            "logits alone",
            "You return the logits alone. Return two things: logits, and the loss, which is None without targets.",
            _no_loss,
        ),
        Misconception(
            "one or the other",
            "You return the loss alone when there are targets, and the logits alone when there are none. Return two "
            "things always: logits, and the loss, which is None without targets.",
            _one_or_the_other,
        ),
        Misconception(
            "writes into the targets",
            "The result is right, but your function overwrites the -1 in targets; whoever calls it will need them "
            "again. Work on a copy.",
            _overwrites,
        ),
        Misconception(
            "-1 not ignored",
            "You give F.cross_entropy a target of -1 as if it were a token. It can leave them out: ignore_index=-1.",
            _nothing_ignored,
        ),
        Misconception(
            "a loss without targets",
            "You compute the loss without asking whether there are targets. When targets is None, return None for it.",
            _always_a_loss,
        ),
        Misconception(
            "loss cut off from the model",
            "The numbers are right, but your loss has no connection to the weights any more (item() or detach()), so "
            "that nothing could be trained with it.",
            _number,
            also=(_plain_number,),
        ),
    ),
    properties=(
        Property(
            "no position sees a later one",
            _causal,
            "Changing the last id must leave the logits at all other positions as they were.",
            0.1,
            ("logits", "future.logits"),
        ),
        Property(
            "the same token differs by its place",
            _knows_places,
            "With the same id everywhere, the logits must differ from each position to the next.",
            0.1,
            ("logits", "same token.logits"),
        ),
        Property(
            "the loss is that of the logits",
            _loss_of_own_logits,
            "The loss must be the mean cross-entropy of your own logits over the targets that are not -1.",
            0.25,
            ("logits", "loss"),
        ),
    ),
    hints=(
        "Five steps: look up and add, through the blocks, norm, output map, loss. Write the shape beside each.",
        "x = token_embedding[ids] + position_embedding[:T] is (B, T, C). The output map is the token embedding "
        "transposed. F.cross_entropy wants (N, V) and (N,), and has ignore_index.",
        "for block in blocks: x = block(x); logits = norm(x) @ token_embedding.T; loss = "
        "F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1), or None if targets is None.",
    ),
)
