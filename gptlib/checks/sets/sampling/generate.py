"""The loop: read, choose, append, and again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gptlib.checks.exercise import Case, Exercise, Misconception, Property, sizes
from gptlib.checks.probing import Answer, Arrays, Given, Odd, afterwards, copies, tensor

STOP = 0


def _draw(rng: np.random.Generator) -> list[Case]:
    def case(B: int, T: int, V: int, new: int, n_positions: int, stops: Sequence[int] = (), note: str = "") -> Case:
        """`stops`: after how many tokens each row draws its first stop id, 0 for never; the prompts begin with it."""
        while True:
            # Above 0, so that they could pass for weights to draw by; in quarters, so that no two are nearly equal.
            tables = {
                name: torch.from_numpy(rng.integers(1, 16, shape) / 4).float() + (torch.arange(V) + 1) / 64
                for name, shape in (("table", (V, V, V, V)), ("place", (n_positions, V)))
            }
            prompts = torch.from_numpy(rng.integers(1, V, (60 if stops else B, T)))
            if stops:
                prompts[:, 0] = STOP
            given: dict[str, Any] = {"max_new_tokens": new, "temperature": float(rng.choice([0.5, 2.0]))}
            given |= {"stop_id": STOP if stops else None, "n_positions": n_positions, **tables}
            rows = _stopping_after(given, prompts, stops) if stops else list(range(B))
            given = {"ids": prompts[rows], **given}
            if rows and len(given["ids"].unique(dim=0)) == B and _told_apart(given):
                return Case(given, note)

    a, b, c, d = sizes(rng, 4, 3, 7)
    return [
        case(1, 1, 4, 4, 16),
        case(2, 3, 5, 4, 16),
        case(1, 4, 5, 6, 16, [3], "the stop id comes before the end"),
        case(3, 4, 5, 7, 16, [3, 2, 5], "the rows stop at different places"),
        case(2, 4, 5, 5, 16, [2, 0], "one row never draws the stop id"),
        case(2, 3, 5, 6, 5, note="the text outgrows n_positions"),
        case(1, 7, 5, 3, 4, note="the prompt alone is longer than n_positions"),
        case(b, a, c, d, 9),
    ]


def _stopping_after(given: dict[str, Any], prompts: torch.Tensor, stops: Sequence[int]) -> list[int]:
    """For each of `stops` a row that draws its first stop id after so many tokens; nothing if there is none."""
    text = _build()(_model(given), prompts, given["max_new_tokens"], 0.0, None, given["n_positions"])
    new = text[:, prompts.size(1) :].tolist()
    found = [row.index(STOP) + 1 if STOP in row else 0 for row in new]
    rows = [found.index(stop) for stop in stops if stop in found]
    return rows if len(rows) == len(stops) else []


def _told_apart(given: dict[str, Any]) -> bool:
    """Whether each of the wrong ideas that matters for this input writes something else."""

    def text(**changes: Any) -> Any:
        most, limit = given["max_new_tokens"], given["n_positions"]
        return _build(**changes)(_model(given), given["ids"], most, 0.0, given["stop_id"], limit)

    T, right = given["ids"].size(1), text()
    ideas: list[dict[str, Any]] = [{"reads": "prompt"}]
    if T > 1:
        ideas += [{"reads": "last token"}, {"position": "first"}]
    if T + given["max_new_tokens"] > given["n_positions"] + 1:
        ideas += [{"cut": "start"}]
    if len(given["ids"]) > 1 and given["stop_id"] is not None:
        ideas += [{"stop": stop} for stop in ("any row", "first row", "all at once", "finished rows go on", "never")]
    if len(given["ids"]) == 3 and given["stop_id"] is not None:  # here the ways of stopping must differ too
        for a, b in (("any row", "first row"), ("all at once", "finished rows go on")):
            if torch.equal(text(stop=a), text(stop=b)):
                return False
    return not any(torch.equal(right, text(**changes)) for changes in ideas)


def _model(given: Any) -> Answer:
    def model(ids: torch.Tensor) -> Any:
        before = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)  # (B, T): the token before each
        return given["table"][ids[:, :1], before, ids] + given["place"][: ids.size(1)]  # (B, T, V)

    return model


def _probe(answer: Answer, given: Given) -> Arrays:
    inputs: dict[str, Any] = copies(given)
    limit = inputs["n_positions"]

    def model(ids: Any) -> Any:
        T = ids.size(1)
        if limit < T:
            raise IndexError(f"{T} tokens are more than the {limit} positions that this model has")
        before = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)  # (B, T): the token before each
        return inputs["table"][ids[:, :1], before, ids] + inputs["place"][:T]  # (B, T, V)

    own = {"ids": inputs["ids"].clone()}
    text = answer(model, own["ids"], inputs["max_new_tokens"], 0.0, inputs["stop_id"], limit)
    found: dict[str, Any] = {"text": tensor(text)} | afterwards(own)
    prompt = inputs["ids"][:1]
    alone = answer(model, prompt.clone(), inputs["max_new_tokens"], 0.0, inputs["stop_id"], limit)
    found["alone.text"] = tensor(alone)
    many = tensor(answer(model, prompt.repeat(6000, 1), 2, inputs["temperature"], None, limit))
    T, V = prompt.size(1), inputs["table"].size(0)
    if isinstance(many, torch.Tensor):
        if tuple(many.shape) == (6000, T + 2):
            new = many[:, T:]  # (6000, 2), and the pair as one number
            many = torch.cat([new, new[:, :1] * V + new[:, 1:]], dim=1)
        elif many.dim() != 2:
            many = Odd(f"a tensor of shape {tuple(many.shape)} for 6000 rows")
    return found | {"draws.new": many}


def _build(
    *,
    reads: str = "text",
    position: str = "last",
    draws: str = "from probabilities",
    temperature: str = "divides",
    gives: str = "text",
    stop: str = "all finished",
    cut: str = "end",
    steps: int = 0,
) -> Answer:
    scaling = temperature

    def generate(
        model: Answer,
        ids: torch.Tensor,
        max_new_tokens: int,
        temperature: float,
        stop_id: int | None,
        n_positions: int,
    ) -> torch.Tensor:
        text = ids.clone()  # (B, T), growing
        finished = torch.zeros(len(ids), dtype=torch.bool)
        for _ in range(max(0, max_new_tokens + steps)):
            seen = {"text": text, "last token": text[:, -1:], "prompt": ids}[reads]
            if cut == "forgets":
                text = seen = seen[:, -n_positions:]
            seen = {"end": seen[:, -n_positions:], "start": seen[:, :n_positions]}.get(cut, seen)
            logits = model(seen)[:, -1 if position == "last" else 0]  # (B, V)
            if temperature == 0 or draws == "greedy":
                token = logits.argmax(-1)  # (B,)
            else:
                divisor = {"divides": temperature, "multiplies": 1 / temperature, "is ignored": 1.0}[scaling]
                weights = logits if draws == "from logits" else (logits / divisor).softmax(-1)
                token = torch.multinomial(weights, 1)[:, 0]
            if stop_id is not None and stop in ("all finished", "before it is appended", "prompt counts"):
                token = torch.where(finished, stop_id, token)
            longer = torch.cat([text, token[:, None]], dim=1)
            if stop_id is not None:
                finished = finished | (token == stop_id)
                now = {
                    "all finished": finished.all(),
                    "finished rows go on": finished.all(),
                    "before it is appended": finished.all(),
                    "any row": finished.any(),
                    "first row": finished[0],
                    "all at once": (token == stop_id).all(),
                    "prompt counts": (longer == stop_id).any(1).all(),
                }
                if bool(now.get(stop, torch.tensor(False))):
                    text = text if stop == "before it is appended" else longer
                    break
            text = longer
        return text if gives == "text" else text[:, ids.size(1) :]

    return generate


def _prompt_finishes(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    if stop_id is None or not bool((ids == stop_id).any(1).all()):
        text: torch.Tensor = _build()(model, ids, max_new_tokens, temperature, stop_id, n_positions)
        return text
    return torch.cat([ids, torch.full((len(ids), max_new_tokens), stop_id)], dim=1)


def _prompt_ends_the_loop(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    if stop_id is not None and bool((ids == stop_id).any(1).all()):
        return ids
    text: torch.Tensor = _build()(model, ids, max_new_tokens, temperature, stop_id, n_positions)
    return text


def _nothing_appended(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    logits = model(ids[:, -n_positions:])[:, -1]
    token = logits.argmax(-1) if temperature == 0 else torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]
    return torch.cat([ids, token[:, None]], dim=1)


def _last_token_only(*args: Any) -> torch.Tensor:
    text: torch.Tensor = _build()(*args)
    return text[:, -1:]


def _row_by_row(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    if len(ids) > 100:  # too many to do one by one
        return _by_gumbel(model, ids, max_new_tokens, temperature, stop_id, n_positions)
    rows = []
    for prompt in ids.tolist():
        row = list(prompt)
        while len(row) < len(prompt) + max_new_tokens and (row[-1] != stop_id or len(row) == len(prompt)):
            p = (model(torch.tensor([row[-n_positions:]]))[0, -1] / (temperature or 1e-4)).softmax(0)
            row.append(int(torch.multinomial(p, 1)))
        rows.append(row)
    longest = max(map(len, rows))
    return torch.tensor([row + [stop_id] * (longest - len(row)) for row in rows])


def _by_gumbel(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    B, T = ids.shape
    text = torch.zeros(B, T + max_new_tokens, dtype=torch.int64)
    text[:, :T] = ids
    going = torch.ones(B, dtype=torch.bool)
    for t in range(T, T + max_new_tokens):
        scores = model(text[:, max(0, t - n_positions) : t])[:, -1]  # (B, V)
        noise = -torch.empty_like(scores).exponential_().log()
        text[:, t] = (scores + temperature * noise).argmax(-1)
        if stop_id is not None:
            text[~going, t] = stop_id
            going &= text[:, t] != stop_id
            if not going.any():
                return text[:, : t + 1]
    return text


def _by_inverse(
    model: Answer, ids: torch.Tensor, max_new_tokens: int, temperature: float, stop_id: int | None, n_positions: int
) -> torch.Tensor:
    new: list[torch.Tensor] = []
    while len(new) < max_new_tokens:
        logits = model(torch.cat([ids, *new], dim=1)[:, -n_positions:])[:, -1]
        if temperature > 0:
            below = (logits / temperature).softmax(-1).cumsum(-1)  # (B, V)
            token = torch.searchsorted(below, torch.rand(len(ids), 1)).clamp(max=logits.size(-1) - 1)
        else:
            token = logits.argmax(dim=-1, keepdim=True)
        ended = [(earlier == stop_id) for earlier in new if stop_id is not None]
        if ended:
            token = token.masked_fill(torch.stack(ended).any(0), stop_id or 0)
        new.append(token)
        if stop_id is not None and (torch.cat(new, dim=1) == stop_id).any(1).all():
            break
    return torch.cat([ids, *new], dim=1)


def _prompt_in_front(case: Case, got: dict[str, Any]) -> bool:
    ids, text = case.given["ids"], got["text"]
    assert isinstance(ids, torch.Tensor)
    return bool((text[:, : ids.size(1)] == ids).all()) and text.size(1) > ids.size(1)


def _each_row_alone(case: Case, got: dict[str, Any]) -> bool:
    text, alone = got["text"][0], got["alone.text"][0]
    return bool((text[: len(alone)] == alone).all()) and bool((text[len(alone) :] == STOP).all())


def _reads_all(case: Case, got: dict[str, Any]) -> bool:
    """The last new token of each row is the greedy choice after all before it, unless the row had ended."""
    ids, text, limit = case.given["ids"], got["text"], case.given["n_positions"]
    assert isinstance(ids, torch.Tensor)
    assert isinstance(limit, int)
    if text.size(1) <= ids.size(1) or bool((text < 0).any()) or bool((text >= len(case.given["table"])).any()):  # type: ignore[arg-type]
        return False
    wanted = _model(case.given)(text[:, :-1][:, -limit:])[:, -1].argmax(-1)
    ended = (text[:, ids.size(1) : -1] == STOP).any(1) if case.given["stop_id"] is not None else wanted < 0
    return bool(((wanted == text[:, -1]) | ended).all())


EXERCISE = Exercise(
    id="sampling.generate",
    title="One token after the other",
    minutes=15,
    points=4,
    signature="generate(model, ids, max_new_tokens, temperature, stop_id, n_positions)",
    draw=_draw,
    probe=_probe,
    reference=_build(),
    build=_build,
    alternatives=(_row_by_row, _by_gumbel, _by_inverse),
    shown=("ids", "max_new_tokens", "temperature", "stop_id", "n_positions"),
    misconceptions=(
        Misconception(
            "feeds only the last token",
            "You give the model the last token alone. It then knows nothing of the text before it: give it the whole "
            "text so far, every time.",
            changes={"reads": "last token"},
        ),
        Misconception(
            "the prompt again and again",
            "You give the model the prompt each time, so that it never reads what it has written. Append the token to "
            "the text, and give it that.",
            changes={"reads": "prompt"},
        ),
        Misconception(
            "one token only",
            "Your text grows by one token and no more. Put the step into a loop of max_new_tokens rounds.",
            _nothing_appended,
        ),
        Misconception(
            "the first position",
            "You take the logits at the first position. Those at position t are for the token after it, so the next "
            "token of the text is predicted at the last position: logits[:, -1].",
            changes={"position": "first"},
        ),
        Misconception(
            "draws by logits",
            "You draw with the logits as weights. They are no probabilities (and can be negative): divide them by the "
            "temperature and take the softmax first.",
            changes={"draws": "from logits"},
        ),
        Misconception(
            "always greedy",
            "You always take the most probable token. Only temperature 0 does that; at others the token is drawn, with "
            "torch.multinomial for instance.",
            changes={"draws": "greedy"},
        ),
        Misconception(
            "temperature ignored",
            "Your draws do not depend on the temperature. Divide the logits by it before the softmax.",
            changes={"temperature": "is ignored"},
        ),
        Misconception(
            "temperature multiplies",
            "You multiply the logits by the temperature, so that a high one makes the text tamer. Divide by it.",
            changes={"temperature": "multiplies"},
        ),
        Misconception(
            "without the prompt",
            "You return the new tokens alone. The result is the whole text, with the prompt in front.",
            changes={"gives": "new tokens"},
        ),
        Misconception(
            "the last token alone",
            "You return the last token alone. The result is the whole text: the prompt, and all new tokens behind it.",
            _last_token_only,
        ),
        Misconception(
            "does not stop",
            "You do not stop at stop_id. A row that has drawn it is finished; when all rows are, nothing more is "
            "added.",
            changes={"stop": "never"},
        ),
        Misconception(
            "one row stops all",
            "As soon as one row draws stop_id, you stop all of them. The others have not finished: go on until each "
            "row has drawn it.",
            changes={"stop": "any row"},
        ),
        Misconception(
            "the first row stops all",
            "You stop when the first row draws stop_id. Every row counts: go on until each has drawn it.",
            changes={"stop": "first row"},
        ),
        Misconception(
            "waits for all at once",
            "You stop only when all rows draw stop_id in the same step. Remember which rows have finished, and stop "
            "when all have, each at its own time; until then a finished row gets stop_id again.",
            changes={"stop": "all at once"},
        ),
        Misconception(
            "finished rows go on",
            "A row that has drawn stop_id goes on writing while others are still at work. What stands behind the end "
            "is no part of its text: give it stop_id again.",
            changes={"stop": "finished rows go on"},
        ),
        Misconception(
            "without the stop id",
            "You stop before the last stop_id is appended. It was drawn like any other token and belongs to "
            "the result.",
            changes={"stop": "before it is appended"},
        ),
        Misconception(
            "the prompt's stop id counts",
            "You take a stop_id in the prompt for the end. Prompts often begin with it, as the end of the text before; "
            "only one that was drawn finishes a row.",
            changes={"stop": "prompt counts"},
            also=(_prompt_finishes, _prompt_ends_the_loop),
        ),
        Misconception(
            "cuts the wrong end",
            "When the text is too long you give the model its beginning. The next token follows its end: keep the last "
            "n_positions tokens, [:, -n_positions:].",
            changes={"cut": "start"},
        ),
        Misconception(
            "does not cut",
            "You give the model more than n_positions tokens, and it has no more positions. Give it the last "
            "n_positions of them.",
            changes={"cut": "never"},
        ),
        Misconception(
            "forgets the beginning in the result",
            "You cut the text itself to n_positions, so that its beginning is missing in the result. Cut only what the "
            "model is given.",
            changes={"cut": "forgets"},
        ),
        Misconception(
            "one too many",
            "You add one token more than max_new_tokens.",
            changes={"steps": 1},
        ),
        Misconception(
            "one too few",
            "You add one token less than max_new_tokens.",
            changes={"steps": -1},
        ),
    ),
    properties=(
        Property(
            "the prompt stays in front",
            _prompt_in_front,
            "The result must begin with the prompt, unchanged, and be longer than it.",
            0.1,
            ("text",),
        ),
        Property(
            "rows do not disturb each other",
            _each_row_alone,
            "The first row must get the same tokens in the batch as alone; behind its end only stop_id may follow.",
            0.2,
            ("text", "alone.text"),
        ),
        Property(
            "each token follows from the whole text",
            _reads_all,
            "At temperature 0 the last token must be the model's most probable one after all that stands before it (or "
            "after the last n_positions of it).",
            0.2,
            ("text",),
        ),
    ),
    hints=(
        "Three lines in a loop: logits at the last position, choose a token, append it. Then care for rows that have "
        "ended, and for a text that is too long.",
        "Give the model text[:, -n_positions:] and take [:, -1] of its logits. Keep a tensor `finished`, (B,), all "
        "False at first: a finished row gets stop_id in place of its token, and the loop ends when all are True.",
        "logits = model(text[:, -n_positions:])[:, -1]; token = logits.argmax(-1) if temperature == 0 else "
        "torch.multinomial((logits / temperature).softmax(-1), 1)[:, 0]; with a stop_id: token = torch.where(finished, "
        "stop_id, token), finished = finished | (token == stop_id); text = torch.cat([text, token[:, None]], dim=1); "
        "and break when finished.all().",
    ),
)
