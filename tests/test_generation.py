import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, generate, next_token_probabilities, stream
from gptlib.generation import penalise_repetition, stream_text

V = 23
PROMPT = torch.randint(V, (5, 4), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(random_model) -> GPT:
    return random_model(GPTConfig(vocab_size=V, n_positions=17, n_embd=24, n_layer=2, n_head=6))


# Multiples of 1/64, so that no difference is rounded and equal means equal.
logit_rows = st.lists(
    st.integers(-2000, 2000).map(lambda n: n / 64) | st.sampled_from([0.0, 1.0, -math.inf]), min_size=2, max_size=24
).filter(lambda row: max(row) > -math.inf)


# The distribution


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, temperature=st.floats(0.05, 20))
def test_temperature_is_a_division(row, temperature) -> None:
    logits = torch.tensor(row, dtype=torch.float64)
    expected = (logits / temperature).softmax(-1)
    p = next_token_probabilities(logits, temperature=temperature)
    torch.testing.assert_close(p, expected.float(), atol=1e-5, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, k=st.integers(1, 30))
def test_top_k_keeps_exactly_k_ties_included(row, k) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, top_k=k)
    possible = sum(value > -math.inf for value in row)
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))  # of equal ones the lower id goes first
    kept = order[: min(k, possible)]
    exact = torch.full_like(logits, -math.inf).index_copy(0, torch.tensor(kept), logits[kept]).softmax(-1)
    assert all(p[i] == 0.0 for i in range(len(row)) if i not in kept)
    torch.testing.assert_close(p, exact)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, top_p=st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(row, top_p) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, top_p=top_p)
    full = logits.double().softmax(-1)
    kept = (p > 0).nonzero()[:, 0].tolist()
    mass = full[kept].sum().item()
    assert mass >= top_p - 1e-6
    if top_p < 1:
        assert mass - full[kept].min().item() < top_p + 1e-6  # without its last one the set falls short
    assert full[kept].min() >= max([full[i].item() for i in range(len(row)) if i not in kept], default=0) - 1e-9
    torch.testing.assert_close(p.double()[kept], full[kept] / mass, atol=1e-5, rtol=1e-4)


@settings(max_examples=100, deadline=None)
@given(row=logit_rows, min_p=st.floats(0, 1))
def test_min_p_keeps_by_the_ratio_to_the_largest(row, min_p) -> None:
    logits = torch.tensor(row)
    p = next_token_probabilities(logits, min_p=min_p)
    ratios = (logits - logits.max()).double().exp()
    assert (p[ratios > min_p * 1.0001 + 1e-37] > 0).all()
    assert (p[ratios < min_p * 0.9999] == 0).all()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    row=logit_rows,
    temperature=st.sampled_from([0.0, 1e-50, 1e-30, 0.3, 1.0, 4.0, 1e30]),
    top_k=st.none() | st.integers(1, 30),
    top_p=st.none() | st.floats(0.001, 1),
    min_p=st.none() | st.floats(0, 1),
)
def test_any_settings_give_a_distribution(row, temperature, top_k, top_p, min_p) -> None:
    logits = torch.tensor([row, row[::-1]])
    kept = logits.clone()
    p = next_token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert torch.equal(logits, kept)
    assert p.dtype == torch.float32
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(2))
    assert (p[logits == -math.inf] == 0).all()
    assert (p.gather(-1, logits.argmax(-1, keepdim=True)) > 0).all()


def test_filters_come_after_the_temperature_and_in_their_order() -> None:
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    # At temperature 2 the two largest hold 0.61 and not 0.7, so top-p 0.65 needs three.
    assert (next_token_probabilities(p.log(), temperature=2.0, top_p=0.65) > 0).tolist() == [True, True, True, False]
    # Top-k first: of what it leaves, 4/7 and 3/7, the first reaches 0.55 alone; of all four it would not.
    assert (next_token_probabilities(p.log(), top_k=2, top_p=0.55) > 0).tolist() == [True, False, False, False]
    assert (next_token_probabilities(p.log(), top_p=0.55) > 0).tolist() == [True, True, False, False]
    torch.testing.assert_close(next_token_probabilities(p.log(), min_p=0.45), torch.tensor([4 / 9, 3 / 9, 2 / 9, 0]))


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert next_token_probabilities(torch.tensor([1.0, 3.0, 3.0]), temperature=0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_of_any_float_type(dtype) -> None:
    p = next_token_probabilities(torch.tensor([1.0, 2.0, 3.0], dtype=dtype), top_k=2)
    torch.testing.assert_close(p, torch.tensor([0.0, 0.268941, 0.731059]), atol=1e-5, rtol=0)


def test_draws_follow_the_distribution() -> None:
    """Pearson's chi-square of 20,000 draws stays below its 99.99 % quantile for 6 degrees of freedom, 27.9."""
    weight = torch.tensor([0.5, 1.5, -0.7, 2.0, 0.1, -3.0, 1.0, 0.0])

    class Constant(GPT):
        def forward(self, ids: Tensor, targets=None, *, cache=None, only_last=False):
            return weight.expand(len(ids), 1, 8), None

    model = Constant(GPTConfig(vocab_size=8, n_positions=17, n_embd=4, n_layer=1, n_head=2))
    drawn = generate(
        model, torch.zeros(20_000, 1, dtype=torch.int64), 1, temperature=1.3, top_k=7, seed=0, use_cache=False
    )[:, 1]
    counts = torch.bincount(drawn, minlength=8)
    p = next_token_probabilities(weight, temperature=1.3, top_k=7)
    assert counts[5] == 0
    expected = 20_000 * p[p > 0].double()
    assert ((counts[p > 0] - expected) ** 2 / expected).sum() < 27.9


@settings(max_examples=30, deadline=None)
@given(row=st.lists(st.floats(-5, 5, width=32), min_size=8, max_size=8), penalty=st.floats(0.5, 3))
def test_repetition_penalty(row, penalty) -> None:
    logits, ids = torch.tensor([row, row]), torch.tensor([[1, 1, 4], [0, 7, 7]])
    kept = logits.clone()
    penalised = penalise_repetition(logits, ids, penalty)
    assert torch.equal(logits, kept)
    for b in range(2):
        for i, value in enumerate(row):
            seen = i in ids[b]
            expected = (value / penalty if value > 0 else value * penalty) if seen else value
            assert penalised[b, i].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


# The loop


def greedy_by_hand(model: GPT, ids: Tensor, n: int) -> Tensor:
    for _ in range(n):
        ids = torch.cat([ids, model(ids)[0][:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def test_greedy_is_the_argmax_loop_with_and_without_cache(variant, random_model) -> None:
    model = random_model(variant).double()
    expected = greedy_by_hand(model, PROMPT, 13)
    assert torch.equal(generate(model, PROMPT, 13, temperature=0), expected)
    assert torch.equal(generate(model, PROMPT, 13, temperature=0, use_cache=False), expected)


def test_sampling_gives_the_same_tokens_with_and_without_cache(variant, random_model) -> None:
    model = random_model(variant).double()
    options = {"temperature": 0.8, "top_k": 11, "top_p": 0.97, "min_p": 0.01, "repetition_penalty": 1.3, "seed": 3}
    cached = generate(model, PROMPT, 13, **options)
    assert torch.equal(cached, generate(model, PROMPT, 13, use_cache=False, **options))
    assert cached.shape == (5, 17)
    assert torch.equal(cached[:, :4], PROMPT)


def test_seeds_decide_and_the_global_generator_is_left_alone(model) -> None:
    state = torch.get_rng_state()
    first, again, other = (generate(model, PROMPT, 13, seed=seed) for seed in (1, 1, 2))
    generate(model, PROMPT, 5, temperature=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    free = generate(model, PROMPT, 13)
    assert not torch.equal(free, generate(model, PROMPT, 13))
    torch.manual_seed(5)
    assert torch.equal(free, generate(model, PROMPT, 13))


def test_filtered_tokens_never_appear(model) -> None:
    for text in generate(model, PROMPT.repeat(4, 1), 13, temperature=3.0, top_k=2, seed=0):
        for t in range(4, 17):
            assert text[t] in model(text[None, :t])[0][0, -1].topk(2).indices


def test_a_row_that_is_finished_stays_so_and_disturbs_no_other(model) -> None:
    free = generate(model, PROMPT, 13, temperature=2.0, seed=4)
    stop = int(free[0, 6])
    stopped = generate(model, PROMPT, 13, temperature=2.0, seed=4, stop_id=stop)
    finished = 0
    for row, unbounded in zip(stopped, free, strict=True):
        new = unbounded[4:].tolist()
        end = 4 + new.index(stop) + 1 if stop in new else 17
        finished += stop in new
        assert torch.equal(row[:end], unbounded[: stopped.size(1)][:end])
        assert (row[end:] == stop).all()
    assert 0 < finished < 5


def test_generation_ends_when_all_rows_are_finished(model) -> None:
    greedy = generate(model, PROMPT[:1], 13, temperature=0)
    stop = int(greedy[0, 6])
    first = greedy[0, 4:].tolist().index(stop)
    assert generate(model, PROMPT[:1], 13, temperature=0, stop_id=stop).shape == (1, 4 + first + 1)


def test_a_stop_id_in_the_prompt_stops_nothing(model) -> None:
    stop = int(PROMPT[0, 1])
    free = generate(model, PROMPT[:1], 3, temperature=0)
    if stop not in free[0, 4:]:
        assert torch.equal(generate(model, PROMPT[:1], 3, temperature=0, stop_id=stop), free)
    else:
        pytest.fail("choose another seed: the stop id is written by the model")


@pytest.mark.parametrize(
    "changes", [{}, {"position": "sinusoidal"}, {"position": "rotary", "n_kv_head": 2, "window": 4}]
)
def test_when_the_context_is_full_the_older_half_is_forgotten(changes, random_model) -> None:
    model = random_model(GPTConfig(V, 17, 24, n_layer=2, n_head=6, **changes)).double()
    for prompt in (PROMPT, torch.cat([PROMPT] * 6, dim=1)):  # 24 tokens are more than the 17 positions
        text = prompt
        start = max(0, text.size(1) - 17)
        for _ in range(30):
            if text.size(1) - start > 17:
                start = text.size(1) - 8
            text = torch.cat([text, model(text[:, start:])[0][:, -1].argmax(-1, keepdim=True)], dim=1)
        for use_cache in (True, False):
            assert torch.equal(generate(model, prompt, 30, temperature=0, slide=True, use_cache=use_cache), text)


def test_a_model_of_one_position_slides_too(random_model) -> None:
    model = random_model(GPTConfig(vocab_size=V, n_positions=1, n_embd=24, n_layer=1, n_head=6))
    assert generate(model, PROMPT, 6, seed=0, slide=True).shape == (5, 10)


def test_dropout_is_off_and_the_mode_is_given_back(random_model) -> None:
    model = random_model(GPTConfig(vocab_size=V, n_positions=17, n_embd=24, n_layer=2, n_head=6, dropout=0.5))
    expected = generate(model, PROMPT, 13, temperature=0)
    assert not model.training
    model.train()
    state = torch.get_rng_state()
    assert torch.equal(generate(model, PROMPT, 13, temperature=0), expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in model.modules())
    tokens = stream(model, PROMPT, 13, temperature=0)
    next(tokens)
    assert model.training  # also between two tokens, when the caller may do as they like
    del tokens


def test_what_is_written_can_be_trained_on(model) -> None:
    text = generate(model, PROMPT, 5, seed=0)
    model(text[:, :-1], text[:, 1:])[1].backward()
    assert model.token_embedding.weight.grad.abs().sum() > 0


def test_streaming_hands_out_the_tokens_of_generate(model) -> None:
    tokens = list(stream(model, PROMPT, 13, seed=1))
    assert all(token.shape == (5,) and token.dtype == torch.int64 for token in tokens)
    assert torch.equal(torch.cat([PROMPT, torch.stack(tokens, dim=1)], dim=1), generate(model, PROMPT, 13, seed=1))


def test_streaming_computes_only_what_is_asked_for(model) -> None:
    read: list[int] = []
    model.register_forward_pre_hook(lambda module, args: read.append(args[0].size(1)))
    tokens = stream(model, PROMPT, 13, seed=1)
    assert read == []
    assert len(list(itertools.islice(tokens, 3))) == 3
    assert read == [4, 1, 1]  # the prompt at once, then a token at a time


def test_nothing_new_is_the_prompt(model) -> None:
    assert torch.equal(generate(model, PROMPT, 0), PROMPT)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_ids_of_any_integer_type(model, dtype) -> None:
    options = {"temperature": 0, "repetition_penalty": 1.2}
    text = generate(model, PROMPT.to(dtype), 5, **options)
    assert text.dtype == torch.int64
    assert torch.equal(text, generate(model, PROMPT, 5, **options))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_any_float_type(model, dtype) -> None:
    model.to(dtype)
    assert generate(model, PROMPT, 13, seed=0).shape == (5, 17)


SETTINGS = [
    ({"temperature": -0.5}, r"temperature=-0.5 must be 0 \(greedy\) or above"),
    ({"temperature": math.nan}, r"temperature=nan must be"),
    ({"temperature": math.inf}, r"temperature=inf must be"),
    ({"top_k": 0}, r"top_k=0 keeps no token; use 1 or more"),
    ({"top_p": 0.0}, r"top_p=0.0 must lie above 0 and at most at 1"),
    ({"top_p": 1.5}, r"top_p=1.5 must lie"),
    ({"top_p": math.nan}, r"top_p=nan must lie"),
    ({"min_p": -0.1}, r"min_p=-0.1 must lie between 0"),
    ({"min_p": 1.1}, r"min_p=1.1 must lie"),
]


@pytest.mark.parametrize(("setting", "sentence"), SETTINGS)
def test_settings_out_of_range_are_refused_everywhere(model, setting, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        next_token_probabilities(torch.zeros(1, V), **setting)
    with pytest.raises(ValueError, match=sentence):
        generate(model, PROMPT, 3, **setting)
    with pytest.raises(ValueError, match=sentence):
        stream(model, PROMPT, 3, **setting)  # at once, not at the first token


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((PROMPT, 14), r"4 prompt tokens and 14 new ones exceed n_positions=17; ask for at most 13 new tokens"),
        ((torch.zeros(1, 30, dtype=torch.int64), 1), r"30 prompt tokens .* at most 0 new tokens"),
        ((PROMPT, -1), r"max_new_tokens=-1 is negative; use 0 or more"),
        ((PROMPT + 20, 3), rf"token id {int(PROMPT.max()) + 20} is outside \[0, 23\)"),
        ((PROMPT - 30, 3), rf"token id {int(PROMPT.min()) - 30} is outside \[0, 23\)"),
        ((PROMPT[0], 3), r"ids have shape \(4,\); give \(batch, tokens\)"),
        ((PROMPT[:, :0], 3), r"ids have shape \(5, 0\)"),
        ((PROMPT[:0], 3), r"ids have shape \(0, 4\)"),
        ((PROMPT.float(), 3), r"ids have dtype torch.float32; .* use ids.long\(\)"),
        (([[1, 2]], 3), r"ids are a list; give a tensor"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(model, arguments, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        generate(model, *arguments)


@pytest.mark.parametrize("setting", [{"repetition_penalty": 0.0}, {"repetition_penalty": math.nan}, {"seed": 10**30}])
def test_other_settings_out_of_range(model, setting) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        generate(model, PROMPT, 3, **setting)


# Text


TEXT = "naïve 世界 🙂 the cat sat on the mat. " * 3


def writes(ids: list[int], vocab_size: int) -> GPT:
    """A model that writes these ids and nothing else."""

    class Fixed(GPT):
        def forward(self, text: Tensor, targets=None, *, cache=None, only_last=False):
            wanted = torch.full((len(text), 1, vocab_size), -10.0)
            wanted[..., ids[self.at]] = 10.0
            self.at += 1
            if cache is not None:
                for layer in cache.layers:
                    layer.length += text.size(1)
            return wanted, None

    model = Fixed(GPTConfig(vocab_size=vocab_size, n_positions=64, n_embd=4, n_layer=1, n_head=2))
    model.at = 0
    return model


def test_characters_come_out_whole() -> None:
    tokenizer = BPETokenizer.train(TEXT, 262)
    ids = tokenizer.encode("世界 🙂 naïve")
    assert len(ids) > 15  # most characters are spread over several tokens
    pieces = list(stream_text(writes(ids, 262), tokenizer, "the", len(ids), temperature=0))
    assert "".join(pieces) == "世界 🙂 naïve"
    assert pieces[:4] == ["世", "界", " ", "🙂"]
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_bytes_that_are_no_character_are_shown_and_hold_nothing_up() -> None:
    tokenizer = BPETokenizer.train(TEXT, 262)
    stray = tokenizer.encode("世")[:1]
    for ids in (stray + tokenizer.encode("cat"), tokenizer.encode("cat") + stray, stray * 3):
        pieces = list(stream_text(writes(ids, 262), tokenizer, "the", len(ids), temperature=0))
        assert "".join(pieces) == tokenizer.decode(ids)


def test_text_ends_at_the_end_token_which_is_not_shown() -> None:
    tokenizer = BPETokenizer.train(TEXT, 262)
    ids = tokenizer.encode("cat<|endoftext|>mat")
    assert "".join(stream_text(writes(ids, 262), tokenizer, "the", len(ids), temperature=0)) == "cat"


def test_an_empty_prompt_begins_a_text_where_the_tokenizer_can() -> None:
    tokenizer = BPETokenizer.train(TEXT, 262)
    ids = tokenizer.encode("cat")
    model = writes(ids, 262)
    seen: list[list[int]] = []
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].tolist()))
    assert "".join(stream_text(model, tokenizer, "", len(ids), temperature=0)) == "cat"
    assert seen[0] == [[tokenizer.end_id]]
    characters = CharTokenizer.train(TEXT)
    with pytest.raises(ValueError, match=r"the prompt is empty .* give a letter"):
        stream_text(writes([0], characters.vocab_size), characters, "", 3)


def test_a_stream_of_text_is_the_decoded_continuation(random_model) -> None:
    tokenizer = BPETokenizer.train(TEXT, 270)
    model = random_model(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=17, n_embd=24, n_layer=2, n_head=6))
    ids = torch.tensor([tokenizer.encode("the cat")])
    new = generate(model, ids, 60, seed=5, slide=True, temperature=1.5)[0, ids.size(1) :].tolist()
    if tokenizer.end_id in new:
        new = new[: new.index(tokenizer.end_id)]
    assert len(new) > 3
    text = "".join(stream_text(model, tokenizer, "the cat", 60, seed=5, temperature=1.5))
    assert text == tokenizer.decode(new)


def test_settings_of_a_text_are_checked_at_once() -> None:
    tokenizer = CharTokenizer.train(TEXT)
    model = writes([0], tokenizer.vocab_size)
    with pytest.raises(ValueError, match="temperature=-1"):
        stream_text(model, tokenizer, "the", 3, temperature=-1)
    with pytest.raises(ValueError, match="character 'Ω' at position 1 is not among"):
        stream_text(model, tokenizer, "tΩ", 3)
    with pytest.raises(ValueError, match="3 prompt tokens and 90 new ones exceed n_positions=64"):
        stream_text(model, tokenizer, "the", 90, slide=False)
