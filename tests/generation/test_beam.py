import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gptlib import GPT, GPTConfig, generate
from gptlib.generation import Beam, beam_search, left_pad

PROMPT = torch.randint(23, (5, 4), generator=torch.Generator().manual_seed(0))


def log_prob(model: GPT, prompt: Tensor, new: tuple[int, ...]) -> float:
    """Sum of log-probabilities of `new` after `prompt`, in one pass over the whole text."""
    text = torch.cat([prompt, torch.tensor(new, dtype=torch.int64)])
    with torch.no_grad():
        log_p = model(text[None, :-1])[0][0].double().log_softmax(-1)
    return sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(new))


def all_continuations(V: int, n: int, stops: list[int]) -> list[tuple[int, ...]]:
    """Every text of n tokens, and every shorter one that ends in its first stop id."""
    cut = set()
    for new in itertools.product(range(V), repeat=n):
        end = next((i + 1 for i, token in enumerate(new) if token in stops), n)
        cut.add(new[:end])
    return sorted(cut)


def test_with_room_for_all_continuations_the_search_is_exact(random_model) -> None:
    @settings(max_examples=12, deadline=None)
    @given(
        V=st.integers(2, 4),
        n=st.integers(1, 3),
        length_penalty=st.sampled_from([-0.5, 0.0, 0.7, 1.0, 2.0]),
        n_stops=st.integers(0, 2),
        use_cache=st.booleans(),
        changes=st.sampled_from(
            [{}, {"position": "rotary", "n_kv_head": 1}, {"position": "alibi", "norm_order": "post"}]
        ),
        seed=st.integers(0, 2**32),
    )
    def holds(V, n, length_penalty, n_stops, use_cache, changes, seed) -> None:
        model = random_model(GPTConfig(V, 8, 12, n_layer=1, n_head=2, **changes), seed=seed)
        stops = list(range(n_stops))
        prompts = torch.randint(V, (2, 3), generator=torch.Generator().manual_seed(seed))
        options = {"beams": V**n, "length_penalty": length_penalty, "stop_id": stops, "use_cache": use_cache}
        for prompt, found in zip(prompts, beam_search(model, prompts, n, **options), strict=True):
            exact = {new: log_prob(model, prompt, new) for new in all_continuations(V, n, stops)}
            assert {tuple(beam.ids[3:].tolist()) for beam in found} == set(exact)
            assert len(found) == len(exact)
            for beam in found:
                assert torch.equal(beam.ids[:3], prompt)
                new = tuple(beam.ids[3:].tolist())
                assert beam.log_prob == pytest.approx(exact[new], abs=1e-4)
                assert beam.score == pytest.approx(exact[new] / len(new) ** length_penalty, abs=1e-4)
            scores = [beam.score for beam in found]
            assert scores == sorted(scores, reverse=True)

    holds()


def test_one_beam_is_greedy(variant, random_model) -> None:
    model = random_model(variant)
    for row, found in zip(PROMPT, beam_search(model, PROMPT, 13, beams=1), strict=True):
        assert len(found) == 1
        assert torch.equal(found[0].ids, generate(model, row[None], 13, temperature=0)[0])
        assert found[0].log_prob == pytest.approx(log_prob(model, row, tuple(found[0].ids[4:].tolist())), abs=1e-3)


def test_one_beam_stops_where_greedy_choice_stops(model) -> None:
    greedy = generate(model, PROMPT, 13, temperature=0)
    stops = [int(greedy[0, 6]), int(greedy[1, 8])]
    for row, found in zip(PROMPT, beam_search(model, PROMPT, 13, beams=1, stop_id=stops), strict=True):
        assert torch.equal(found[0].ids, generate(model, row[None], 13, temperature=0, stop_id=stops)[0])


def by_hand(model: GPT, prompt: Tensor, n: int, K: int, stops: list[int]) -> list[tuple[tuple[int, ...], float]]:
    """The rule of `beam_search`'s docstring, one list of Python tuples a step."""
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(n):
        longer = []
        for new, _ in beams:
            if new and new[-1] in stops:
                longer.append((new, log_prob(model, prompt, new)))
            else:
                longer += [((*new, i), log_prob(model, prompt, (*new, i))) for i in range(model.config.vocab_size)]
        beams = sorted(longer, key=lambda beam: -beam[1])[:K]
    return beams


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_few_beams_keep_the_best_of_all_their_continuations(use_cache, random_model) -> None:
    model = random_model(GPTConfig(7, 12, 24, n_layer=2, n_head=6, position="rotary", window=3)).double()
    prompts = PROMPT % 7
    found = beam_search(model, prompts, 5, beams=3, stop_id=[2, 5], length_penalty=0.0, use_cache=use_cache)
    ended = set()
    for prompt, beams in zip(prompts, found, strict=True):
        expected = by_hand(model, prompt, 5, 3, [2, 5])
        assert [tuple(beam.ids[4:].tolist()) for beam in beams] == [new for new, _ in expected]
        assert [beam.log_prob for beam in beams] == pytest.approx([total for _, total in expected], abs=1e-4)
        ended |= {len(new) for new, _ in expected}
    assert len(ended) > 1, "choose another seed: no beam stopped early"


def test_more_beams_can_find_what_greedy_choice_misses(random_model) -> None:
    model = random_model(GPTConfig(23, 17, 24, n_layer=2, n_head=6))
    gains = [
        wide[0].log_prob - narrow[0].log_prob
        for wide, narrow in zip(
            beam_search(model, PROMPT, 8, beams=40, length_penalty=0.0),
            beam_search(model, PROMPT, 8, beams=1, length_penalty=0.0),
            strict=True,
        )
    ]
    assert max(gains) > 0.1


def test_each_row_is_searched_as_if_it_were_alone(variant, random_model) -> None:
    model = random_model(variant).double()
    rows = [PROMPT[0], PROMPT[1, :1], PROMPT[2, 1:]]
    ids, padding = left_pad(rows)
    for row, found in zip(rows, beam_search(model, ids, 6, beams=3, stop_id=4, padding=padding), strict=True):
        alone = beam_search(model, row[None], 6, beams=3, stop_id=4)[0]
        assert [beam.ids.tolist() for beam in found] == [beam.ids.tolist() for beam in alone]
        assert [beam.log_prob for beam in found] == pytest.approx([beam.log_prob for beam in alone], abs=1e-4)


def test_equals_transformers_beam_search(random_model) -> None:
    """Without stop ids both rules are the same: the K best of all continuations, and the mean in the end."""
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

    from gptlib.huggingface import config_from_transformers, weights_from_transformers

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=23, n_positions=17, n_embd=24, n_layer=2, n_head=6, bos_token_id=0, eos_token_id=0)
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    config = config_from_transformers(theirs.config)
    ours = GPT(config).eval()
    ours.load_state_dict(weights_from_transformers(config, theirs.state_dict()), strict=False)
    torch.testing.assert_close(ours(PROMPT)[0], theirs(PROMPT).logits, atol=1e-4, rtol=1e-4)
    for beams, length_penalty in ((2, 1.0), (5, 0.0), (6, 2.0)):
        settings = GenerationConfig(
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=9,
            length_penalty=length_penalty,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            bos_token_id=None,
            return_dict_in_generate=True,
            output_scores=True,
        )
        theirs.generation_config = settings
        expected = theirs.generate(PROMPT, attention_mask=torch.ones_like(PROMPT))
        found = list(itertools.chain(*beam_search(ours, PROMPT, 9, beams=beams, length_penalty=length_penalty)))
        assert torch.equal(torch.stack([beam.ids for beam in found]), expected.sequences)
        scores = torch.tensor([beam.score for beam in found])
        torch.testing.assert_close(scores, expected.sequences_scores, atol=1e-4, rtol=1e-4)


def test_nothing_new_is_the_prompt_for_certain(model) -> None:
    for row, found in zip(PROMPT, beam_search(model, PROMPT, 0), strict=True):
        assert len(found) == 1
        assert torch.equal(found[0].ids, row)
        assert (found[0].log_prob, found[0].score) == (0.0, 0.0)
    assert Beam.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_training_mode_and_generator_are_left_alone(model) -> None:
    state = torch.get_rng_state()
    model.train()
    beam_search(model, PROMPT, 3)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"beams": 0}, r"beams=0 keeps nothing; use 1 \(greedy\) or more"),
        ({"length_penalty": math.nan}, r"length_penalty=nan must be a finite number"),
        ({"length_penalty": math.inf}, r"length_penalty=inf must be"),
        ({"stop_id": 23}, r"stop_id=23 is outside \[0, 23\)"),
        ({"padding": [0, 4, 0, 0, 0]}, r"padding \[0, 4, 0, 0, 0\] must lie between 0 and 3"),
        ({"max_new_tokens": 14}, r"4 prompt tokens and 14 new ones exceed n_positions=17; .* at most 13 new tokens$"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(model, settings, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        beam_search(model, PROMPT, **{"max_new_tokens": 3, **settings})
