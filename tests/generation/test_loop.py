import inspect
import itertools
import math

import pytest
import torch
from torch import Tensor

from gptlib import GPT, GPTConfig, generate, next_token_probabilities, stream
from gptlib.generation import Sampling, context_limit

V = 23
PROMPT = torch.randint(V, (5, 4), generator=torch.Generator().manual_seed(0))


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


def test_several_stop_ids_end_a_row_at_the_first_of_them(model) -> None:
    free = generate(model, PROMPT, 13, temperature=2.0, seed=4)
    stops = [int(free[0, 6]), int(free[1, 9]), int(free[2, 5])]
    stopped = generate(model, PROMPT, 13, temperature=2.0, seed=4, stop_id=stops)
    ends = []
    for row, unbounded in zip(stopped, free, strict=True):
        ends.append(next((t for t in range(4, 17) if int(unbounded[t]) in stops), 16))
        expected = unbounded[: stopped.size(1)].clone()
        expected[ends[-1] + 1 :] = unbounded[ends[-1]]  # it repeats the one that it drew
        assert torch.equal(row, expected)
    assert len(set(ends)) > 1
    assert stopped.size(1) == max(ends) + 1
    assert torch.equal(generate(model, PROMPT, 13, seed=4, stop_id=[]), generate(model, PROMPT, 13, seed=4))


def test_a_stop_id_in_the_prompt_stops_nothing(model) -> None:
    stop = int(PROMPT[0, 1])
    free = generate(model, PROMPT[:1], 3, temperature=0)
    if stop not in free[0, 4:]:
        assert torch.equal(generate(model, PROMPT[:1], 3, temperature=0, stop_id=stop), free)
    else:
        pytest.fail("choose another seed: the stop id is written by the model")


@pytest.mark.parametrize("changes", [{}, {"position": "sinusoidal"}, {"position": "rotary", "n_kv_head": 2}])
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


@pytest.mark.parametrize("position", ["rotary", "alibi", "none"])
def test_a_sliding_window_goes_on_for_ever(position, random_model) -> None:
    """Beyond `n_positions` the reference is the whole text under a banded mask, and the memory does not grow."""
    changes = {"position": position, "n_kv_head": 2, "window": 4}
    model = random_model(GPTConfig(V, 6, 24, n_layer=2, n_head=6, **changes)).double()
    expected = greedy_by_hand(model, PROMPT, 30)
    for options in ({}, {"use_cache": False}, {"slide": True}):
        assert torch.equal(generate(model, PROMPT, 30, temperature=0, **options), expected)


def test_where_a_text_ends() -> None:
    def limit(**changes) -> int | None:
        return context_limit(GPTConfig(V, 17, 24, n_layer=1, n_head=6, **changes))

    for position in ("learned", "sinusoidal", "rotary", "alibi", "none"):
        assert limit(position=position) == 17
        assert limit(position=position, window=18) == 17  # distances that no training has shown
        assert limit(position=position, window=17) == (17 if position in ("learned", "sinusoidal") else None)


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
        (
            (PROMPT, 14),
            r"4 prompt tokens and 14 new ones exceed n_positions=17; shorten .* at most 13 new tokens, or ",
        ),
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


@pytest.mark.parametrize("stop_id", [-1, 23, [3, 23]])
def test_stop_ids_that_could_never_be_drawn_are_refused(model, stop_id) -> None:
    with pytest.raises(ValueError, match=r"stop_id=(-1|23) is outside \[0, 23\), so it would never stop"):
        generate(model, PROMPT, 3, stop_id=stop_id)


def test_the_settings_of_generate_are_those_of_sampling() -> None:
    """The signature shows them all, with the same defaults as the value that everybody else passes on."""
    shown = {name: p.default for name, p in inspect.signature(generate).parameters.items()}
    for name, parameter in inspect.signature(Sampling).parameters.items():
        assert shown[name] == parameter.default
    assert set(shown) - set(inspect.signature(Sampling).parameters) == {
        *("model", "ids", "max_new_tokens", "stop_id", "padding", "use_cache", "slide", "seed")
    }


def test_the_callers_tensors_are_not_changed(model) -> None:
    ids, weights = PROMPT.clone(), {name: value.clone() for name, value in model.state_dict().items()}
    text = generate(model, ids, 13, seed=0, repetition_penalty=1.5)
    text.zero_()
    assert torch.equal(ids, PROMPT)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_an_unknown_setting_is_refused(model) -> None:
    with pytest.raises(TypeError, match="temprature"):
        stream(model, PROMPT, 3, temprature=0.5)
