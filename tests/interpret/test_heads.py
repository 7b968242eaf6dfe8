import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import GPT, GPTConfig, load_model
from gptlib.interpret import (
    PATTERNS,
    HeadScores,
    attention_maps,
    head_scores,
    induction_scores,
    repeated_tokens,
    score_maps,
)

V, P = 13, 24  # tokens and positions of the models that are set by hand
C = 2 * V + P  # the stream holds the token, its position, and a place for the token before it
TOKEN, POSITION, BEFORE = slice(0, V), slice(V, V + P), slice(V + P, C)
SHARP = 400.0  # scores so far apart that a softmax is a choice


def blank(n_layer: int) -> GPT:
    """A model whose stream is one-hot token plus one-hot position, and whose blocks do nothing yet."""
    config = GPTConfig(V, P, C, n_layer=n_layer, n_head=1, bias=False, norm="rmsnorm", mlp="relu", tie_weights=False)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        model.token_embedding.weight[:, TOKEN] = torch.eye(V)
        model.position_embedding.weight[:, POSITION] = torch.eye(P)
        model.lm_head.weight[:, TOKEN] = torch.eye(V)
    return model


def set_head(model: GPT, layer: int, query: torch.Tensor, key: torch.Tensor) -> None:
    """Queries and keys as linear maps of the stream, (C, C) each: row i makes feature i."""
    with torch.no_grad():
        model.blocks[layer].attention.qkv.weight[:C] = SHARP * query
        model.blocks[layer].attention.qkv.weight[C : 2 * C] = key


def part(to: slice, of: slice) -> torch.Tensor:
    weight = torch.zeros(C, C)
    weight[to, of] = torch.eye(to.stop - to.start)
    return weight


def position_head(back: int) -> GPT:
    model = blank(1)
    query = torch.zeros(C, C)
    query[POSITION, POSITION] = torch.eye(P).roll(-back, 0)  # at position i it asks for position i - back
    set_head(model, 0, query, part(POSITION, POSITION))
    return model


def token_head() -> GPT:
    model = blank(1)
    set_head(model, 0, part(TOKEN, TOKEN), part(TOKEN, TOKEN))
    return model


def sink_head() -> GPT:
    model = blank(1)
    query = torch.zeros(C, C)
    query[V, POSITION] = 1.0  # every position asks for position 0
    set_head(model, 0, query, part(POSITION, POSITION))
    return model


def induction_model() -> GPT:
    """Layer 0 writes each token's predecessor beside it; layer 1 looks where its own token was the predecessor."""
    model = blank(2)
    query = torch.zeros(C, C)
    query[POSITION, POSITION] = torch.eye(P).roll(-1, 0)
    set_head(model, 0, query, part(POSITION, POSITION))
    set_head(model, 1, part(TOKEN, TOKEN), part(TOKEN, BEFORE))
    with torch.no_grad():
        for layer, to in ((0, BEFORE), (1, TOKEN)):
            attention = model.blocks[layer].attention
            attention.qkv.weight[2 * C :] = part(TOKEN, TOKEN)
            attention.project.weight.copy_(part(to, TOKEN) * (1 if layer == 0 else 5))
    return model


def best(scores: HeadScores, layer: int = 0) -> tuple[str, float]:
    label = scores.label(layer, 0)
    return label.name, round(label.score, 2)


TEXT = torch.tensor([[4, 1, 7, 2, 9, 3, 11, 0, 5]])  # no token twice


def test_a_previous_token_head_by_hand() -> None:
    scores = head_scores(position_head(1), TEXT)
    assert best(scores) == ("previous", 1.0)
    assert scores.entropy.item() == pytest.approx(0, abs=1e-3)
    assert scores.distance.item() == pytest.approx(1, abs=1e-3)
    assert scores.patterns["first"].item() == pytest.approx(1 / 8, abs=1e-3)  # only the second token's
    assert scores.patterns["self"].item() == pytest.approx(0, abs=1e-3)
    assert math.isnan(scores.patterns["induction"].item())


def test_heads_that_look_at_themselves_and_at_the_first_token() -> None:
    assert best(head_scores(position_head(0), TEXT)) == ("self", 1.0)
    sink = head_scores(sink_head(), TEXT)
    assert best(sink) == ("first", 1.0)
    assert sink.distance.item() == pytest.approx(4.5, abs=1e-3)  # 1 to 8 tokens back


def test_a_duplicate_token_head_by_hand() -> None:
    scores = head_scores(token_head(), torch.tensor([[4, 1, 7, 4, 1, 7, 2]]))
    assert scores.patterns["duplicate"].item() == pytest.approx(0.5, abs=1e-3)  # the other half stays with itself
    assert scores.patterns["induction"].item() == pytest.approx(0, abs=1e-3)
    # 1, 7 and 2 of the first occurrence look only at themselves; of the others half goes three back.
    assert scores.entropy.item() == pytest.approx(3 * math.log(2) / 6, abs=1e-3)
    assert scores.distance.item() == pytest.approx(3 * 1.5 / 6, abs=1e-3)


def test_an_induction_head_by_hand() -> None:
    model = induction_model()
    scores = induction_scores(model, length=10, n=6, begin=12)
    assert best(scores, layer=0) == ("previous", 1.0)
    assert best(scores, layer=1) == ("induction", 1.0)
    assert scores.patterns["induction"][0].item() == pytest.approx(0, abs=1e-3)
    ids = repeated_tokens(model, length=10, n=6, begin=12)
    guesses = model(ids)[0].argmax(-1)
    assert torch.equal(guesses[:, 11:-1], ids[:, 12:])  # so it continues what it has read once


def test_even_attention_scores_chance_and_follows_nothing() -> None:
    ids = torch.tensor([[4, 1, 7, 4, 1, 7, 2], [1, 1, 0, 5, 0, 1, 1]])
    scores = head_scores(blank(1), ids)
    assert scores.entropy.item() == pytest.approx(scores.chance["entropy"], abs=1e-5)
    assert scores.chance["entropy"] == pytest.approx(sum(math.log(n) for n in range(2, 8)) / 6)
    assert scores.distance.item() == pytest.approx(scores.chance["distance"], abs=1e-5)
    assert scores.chance["distance"] == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 2 / 6)
    for name in PATTERNS:
        assert scores.patterns[name].item() == pytest.approx(scores.chance[name], abs=1e-6)
        assert scores.above_chance(name).item() == pytest.approx(0, abs=1e-6)
    assert scores.label(0, 0).name == "mixed"


@settings(max_examples=60, deadline=None)
@given(data=st.data(), B=st.integers(1, 3), T=st.integers(2, 9), window=st.sampled_from([None, 1, 2, 4]))
def test_scores_are_what_their_definitions_say(data, B, T, window) -> None:
    ids = torch.tensor(data.draw(st.lists(st.lists(st.integers(0, 3), min_size=T, max_size=T), min_size=B, max_size=B)))
    seed = data.draw(st.integers(0, 999))
    scores = torch.randn(2, B, 3, T, T, generator=torch.Generator().manual_seed(seed))
    back = torch.arange(T)[:, None] - torch.arange(T)
    weights = scores.masked_fill((back < 0) | (back >= (window or T)), -math.inf).softmax(-1)
    found = score_maps(weights, ids, window=window)
    for name in PATTERNS:
        shares, chances = [], []
        for b in range(B):
            row = ids[b].tolist()
            for q in range(1, T):
                visible = range(max(0, q + 1 - (window or T)), q + 1)
                keys = {
                    "previous": [q - 1],
                    "first": [0],
                    "self": [q],
                    "duplicate": [k for k in range(q) if row[k] == row[q]],
                    "induction": [k for k in range(1, q) if row[k - 1] == row[q]],
                }[name]
                keys = [k for k in keys if k in visible]
                if keys:
                    shares.append(weights[:, b, :, q, keys].sum(-1))
                    chances.append(len(keys) / len(visible))
        if shares:
            torch.testing.assert_close(found.patterns[name], torch.stack(shares).mean(0), atol=1e-6, rtol=1e-5)
            assert found.chance[name] == pytest.approx(sum(chances) / len(chances))
        else:
            assert found.patterns[name].isnan().all()
            assert math.isnan(found.chance[name])
    assert found.label(1, 2).nearest in PATTERNS


def test_scores_of_any_model_stay_in_their_ranges(variant, random_model) -> None:
    model = random_model(variant)
    ids = torch.randint(23, (5, 7), generator=torch.Generator().manual_seed(0))
    maps = attention_maps(model, ids)
    assert maps.shape == (2, 5, 6, 7, 7)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 5, 6, 7))
    scores = head_scores(model, ids)
    assert scores.entropy.shape == scores.distance.shape == (2, 6)
    assert (scores.entropy >= 0).all()
    assert (scores.entropy <= math.log(7)).all()
    seen = [x for x in scores.patterns.values() if not x.isnan().any()]
    assert all(x.shape == (2, 6) and (x >= 0).all() and (x <= 1 + 1e-6).all() for x in seen)
    table = str(scores).splitlines()
    assert len(table) == 2 + 12
    assert table[-1].startswith("1.5")


def test_repeated_tokens_are_read_twice_and_never_three_times() -> None:
    model = blank(1)
    ids = repeated_tokens(model, length=11, n=5, seed=3, begin=6)
    assert ids.shape == (5, 23)
    assert (ids[:, 0] == 6).all()
    assert torch.equal(ids[:, 1:12], ids[:, 12:])
    assert all(len(set(row.tolist())) == 12 for row in ids)
    assert torch.equal(ids, repeated_tokens(model, length=11, n=5, seed=3, begin=6))
    assert not torch.equal(ids, repeated_tokens(model, length=11, n=5, seed=4, begin=6))


def test_bad_arguments_say_what_would_do() -> None:
    model = blank(1)
    with pytest.raises(ValueError, match="length=13 cannot be read twice by this model without repeats; use 1 to 12"):
        repeated_tokens(model, length=13)
    with pytest.raises(ValueError, match="use 1 to 11"):
        repeated_tokens(model, length=12, begin=0)
    with pytest.raises(ValueError, match="n=0 texts"):
        repeated_tokens(model, length=3, n=0)
    with pytest.raises(ValueError, match="begin=13 is no token of this model; use 0 to 12, or None"):
        repeated_tokens(model, length=3, begin=13)
    with pytest.raises(ValueError, match="a text of 1 token leaves a head no choice; give at least 2"):
        head_scores(model, torch.tensor([[3]]))
    with pytest.raises(ValueError, match=r"weights \(1, 1, 1, 4, 4\) do not fit ids \(1, 5\)"):
        score_maps(torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="'inductoin' is no pattern; choose one of previous, first"):
        head_scores(model, TEXT).above_chance("inductoin")


def test_the_bundled_model_has_learned_no_induction() -> None:
    """Tales never repeats random tokens, so nothing taught it to copy them."""
    model, tokenizer = load_model("tales")
    scores = induction_scores(model, begin=tokenizer.end_id)
    assert scores.patterns["induction"].max() < 0.2
