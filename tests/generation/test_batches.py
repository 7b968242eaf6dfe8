"""Prompts of unequal length: each row gets what it would get alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib import GPTConfig, generate, stream
from gptlib.generation import beam_search, left_pad
from gptlib.positions import RotaryScaling

V = 23
TOKENS = torch.randint(V, (5, 9), generator=torch.Generator().manual_seed(0))


def prompts(lengths: list[int]) -> list[torch.Tensor]:
    return [row[:length] for row, length in zip(TOKENS, lengths, strict=False)]


def test_greedy_gives_each_row_what_it_gets_alone(variant, random_model) -> None:
    model = random_model(variant).double()
    rows = prompts([4, 1, 6, 3, 6])
    ids, padding = left_pad(rows)
    for use_cache in (True, False):
        text = generate(model, ids, 11, temperature=0, padding=padding, use_cache=use_cache)
        assert torch.equal(text[:, :6], ids)
        for row, start, together in zip(rows, padding, text, strict=True):
            assert torch.equal(together[start:], generate(model, row[None], 11, temperature=0)[0])


def test_any_lengths_and_any_fill(random_model) -> None:
    @settings(max_examples=15, deadline=None)
    @given(
        lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
        new=st.integers(0, 8),
        fill=st.integers(0, V - 1),
        seed=st.integers(0, 2**32),
    )
    def holds(lengths, new, fill, seed) -> None:
        shape = {"position": "rotary", "n_kv_head": 3, "norm_order": "post"}
        model = random_model(GPTConfig(V, 17, 24, n_layer=2, n_head=6, **shape), seed=seed).double()
        ids, padding = left_pad(prompts(lengths), fill=fill)
        options = {"temperature": 0, "repetition_penalty": 1.7}  # which must not take the fill for a part of the text
        text = generate(model, ids, new, padding=padding, **options)
        assert torch.equal(text[:, : ids.size(1)], ids)
        for row, start, together in zip(prompts(lengths), padding, text, strict=True):
            assert torch.equal(together[start:], generate(model, row[None], new, **options)[0])

    holds()


def test_stop_ids_end_each_row_where_they_end_it_alone(variant, random_model) -> None:
    model = random_model(variant).double()
    rows = prompts([4, 1, 6, 3, 5])
    ids, padding = left_pad(rows)
    stops = generate(model, ids, 11, temperature=0, padding=padding)[[0, 2], [8, 10]].tolist()
    text = generate(model, ids, 11, temperature=0, padding=padding, stop_id=stops)
    for row, start, together in zip(rows, padding, text, strict=True):
        alone = generate(model, row[None], 11, temperature=0, stop_id=stops)[0]
        assert torch.equal(together[start:][: len(alone)], alone)
        assert (together[start:][len(alone) :] == alone[-1]).all()


@pytest.mark.parametrize(
    "changes", [{}, {"position": "sinusoidal"}, {"position": "rotary", "n_kv_head": 2}, {"position": "alibi"}]
)
@pytest.mark.parametrize("use_cache", [True, False])
def test_each_row_forgets_when_it_would_alone(changes, use_cache, random_model) -> None:
    model = random_model(GPTConfig(V, 7, 24, n_layer=2, n_head=6, **changes)).double()
    rows = prompts([4, 1, 9, 3, 7])  # nine tokens are more than the seven positions
    ids, padding = left_pad(rows)
    options = {"temperature": 0, "slide": True, "use_cache": use_cache}
    text = generate(model, ids, 20, padding=padding, **options)
    for row, start, together in zip(rows, padding, text, strict=True):
        assert torch.equal(together[start:], generate(model, row[None], 20, **options)[0])


@pytest.mark.parametrize("kind", ["linear", "ntk", "dynamic", "yarn", "llama3"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_with_every_scaling_each_row_gets_what_it_gets_alone(kind, use_cache, random_model) -> None:
    scaling = RotaryScaling(kind, factor=4.0, original_n_positions=7)
    shape = {"position": "rotary", "rotary_scaling": scaling}
    model = random_model(GPTConfig(V, 28, 24, n_layer=2, n_head=2, **shape)).double()
    rows = prompts([4, 1, 9, 3, 7])  # some pass the original length at once, some on the way
    ids, padding = left_pad(rows)
    text = generate(model, ids, 12, temperature=0, padding=padding, use_cache=use_cache)
    found = beam_search(model, ids, 12, beams=2, padding=padding, use_cache=use_cache)
    for row, start, together, beams in zip(rows, padding, text, found, strict=True):
        alone = row[None]
        for _ in range(12):
            alone = torch.cat([alone, model(alone)[0][:, -1].argmax(-1, keepdim=True)], dim=1)
        assert torch.equal(together[start:], alone[0])
        exact = beam_search(model, row[None], 12, beams=2)[0]
        assert [beam.ids.tolist() for beam in beams] == [beam.ids.tolist() for beam in exact]


def test_the_longest_row_decides_whether_the_text_fits(random_model) -> None:
    model = random_model(GPTConfig(V, 9, 24, n_layer=2, n_head=6)).double()
    ids, padding = left_pad(prompts([4, 2]))
    padded = torch.nn.functional.pad(ids, (3, 0))  # fill before every row takes no position
    text = generate(model, padded, 5, temperature=0, padding=padding + 3)
    assert torch.equal(text[:, 3:], generate(model, ids, 5, temperature=0, padding=padding))
    with pytest.raises(ValueError, match="4 prompt tokens and 6 new ones exceed n_positions=9"):
        generate(model, padded, 6, temperature=0, padding=padding + 3)


def test_streaming_takes_them_too(model) -> None:
    ids, padding = left_pad(prompts([4, 1, 6]))
    tokens = torch.stack(list(stream(model, ids, 5, padding=padding.tolist(), temperature=0)), dim=1)
    assert torch.equal(tokens, generate(model, ids, 5, padding=padding, temperature=0)[:, 6:])


def test_padding_a_batch() -> None:
    rows = [torch.tensor([5, 6, 7]), [8], (9, 10)]
    ids, padding = left_pad(rows, fill=3)
    assert ids.tolist() == [[5, 6, 7], [3, 3, 8], [3, 9, 10]]
    assert padding.tolist() == [0, 2, 1]
    assert ids.dtype == padding.dtype == torch.int64
    ids.zero_()
    assert rows[0].tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "there is no prompt to pad"),
        ([[1, 2], []], r"prompt 1 has shape \(0,\) .*at least one token long"),
        ([torch.zeros(2, 3, dtype=torch.int64)], r"prompt 0 has shape \(2, 3\)"),
        ([[1.5, 2.0]], r"prompt 0 has shape \(2,\) and dtype torch.float32; give one row of integer ids"),
        ([1, 2], r"prompt 0 has shape \(\)"),
    ],
)
def test_what_is_no_prompt_is_refused(rows, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        left_pad(rows)


@pytest.mark.parametrize(
    ("padding", "sentence"),
    [
        ([0, 4, 0, 0, 0], r"padding \[0, 4, 0, 0, 0\] must lie between 0 and 3, so that each row of 4 keeps a token"),
        ([0, 0, -1, 0, 0], r"must lie between 0 and 3"),
        ([0, 1], r"padding has shape \(2,\) and dtype torch.int64; give one whole number a row, \(5,\)"),
        ([[0], [0], [0], [0], [0]], r"padding has shape \(5, 1\)"),
        ([0.0, 0.5, 0.0, 0.0, 0.0], r"dtype torch.float32; give one whole number a row"),
        (torch.zeros(5, 4, dtype=torch.bool), r"padding has shape \(5, 4\) and dtype torch.bool"),
    ],
)
def test_padding_that_makes_no_sense_is_refused(model, padding, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        generate(model, TOKENS[:, :4], 3, padding=padding)
