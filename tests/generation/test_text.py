import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gptlib import GPT, BPETokenizer, CharTokenizer, GPTConfig, generate
from gptlib.generation import beam_search, encode_prompt, search_text, stream_text, until

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


# Stop strings


def cut(text: str, stops: list[str]) -> str:
    """Letter by letter: the text ends as soon as it ends in a stop string; the longer of two is cut."""
    for end in range(len(text) + 1):
        hits = [stop for stop in stops if text[:end].endswith(stop)]
        if hits:
            return text[: end - max(map(len, hits))]
    return text


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("abc", max_size=30),
    stops=st.lists(st.text("abc", min_size=1, max_size=5), max_size=3),
    cuts=st.sets(st.integers(0, 30)).map(sorted),
)
def test_a_stop_string_is_found_wherever_pieces_end(text, stops, cuts) -> None:
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 30], strict=True)]
    expected = cut(text, stops)
    shown = ""
    for piece in until(iter(pieces), stops):
        assert piece
        shown += piece
        assert expected.startswith(shown), "a part of a stop string was shown"
    assert shown == expected


def test_nothing_is_held_back_that_is_sure() -> None:
    taken: list[str] = []

    def pieces():
        for piece in ["on", "e f", "is", "h, tw", "ig, two"]:
            taken.append(piece)
            yield piece

    shown = until(pieces(), ["two", "fish!"])
    assert next(shown) == "on"
    assert taken == ["on"]
    assert next(shown) == "e "  # the f may begin "fish!"
    assert list(shown) == ["fish, ", "twig, "]


def test_a_stop_string_that_spans_tokens_and_bytes_is_cut() -> None:
    tokenizer = BPETokenizer.train(TEXT, 262)
    ids = tokenizer.encode("naïve 世界 🙂 cat")
    for stop, shown in (("世界", "naïve "), ("界 🙂", "naïve 世"), (["cat", "🙂 "], "naïve 世界 "), ("dog", None)):
        pieces = list(stream_text(writes(ids, 262), tokenizer, "the", len(ids), temperature=0, stop=stop))
        assert "".join(pieces) == ("naïve 世界 🙂 cat" if shown is None else shown)


def test_after_a_stop_string_nothing_more_is_computed() -> None:
    tokenizer = CharTokenizer.train(TEXT)
    model = writes(tokenizer.encode("cat sat on the mat"), tokenizer.vocab_size)
    assert "".join(stream_text(model, tokenizer, "the ", 18, temperature=0, stop=" sat")) == "cat"
    assert model.at == len("cat sat")


def test_a_stop_string_in_the_prompt_stops_nothing() -> None:
    tokenizer = CharTokenizer.train(TEXT)
    model = writes(tokenizer.encode("at"), tokenizer.vocab_size)
    assert "".join(stream_text(model, tokenizer, "the cat sat on the c", 2, temperature=0, stop=["cat", "the"])) == "at"


def test_an_empty_stop_string_is_refused() -> None:
    tokenizer = CharTokenizer.train(TEXT)
    model = writes([0], tokenizer.vocab_size)
    for stop in ("", ["a", ""]):
        with pytest.raises(ValueError, match="stop='' stands in every text"):
            stream_text(model, tokenizer, "the", 3, stop=stop)
        with pytest.raises(ValueError, match="stop='' stands in every text"):
            search_text(model, tokenizer, "the", 3, stop=stop)


def test_a_search_for_text_is_beam_search_decoded_and_cut(random_model) -> None:
    tokenizer = BPETokenizer.train(TEXT, 270)
    model = random_model(GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=17, n_embd=24, n_layer=2, n_head=6))
    ids = encode_prompt(tokenizer, "the cat")
    best = beam_search(model, ids, 8, beams=3, stop_id=tokenizer.end_id)[0][0].ids[ids.size(1) :].tolist()
    whole = tokenizer.decode([i for i in best if i != tokenizer.end_id])
    assert len(whole) > 3
    assert search_text(model, tokenizer, "the cat", 8, beams=3) == whole
    assert search_text(model, tokenizer, "the cat", 8, beams=3, stop=whole[2:4]) == whole[: whole.index(whole[2:4])]


def test_settings_of_a_text_are_checked_at_once() -> None:
    tokenizer = CharTokenizer.train(TEXT)
    model = writes([0], tokenizer.vocab_size)
    with pytest.raises(ValueError, match="temperature=-1"):
        stream_text(model, tokenizer, "the", 3, temperature=-1)
    with pytest.raises(ValueError, match="character 'Ω' at position 1 is not among"):
        stream_text(model, tokenizer, "tΩ", 3)
    with pytest.raises(ValueError, match="3 prompt tokens and 90 new ones exceed n_positions=64"):
        stream_text(model, tokenizer, "the", 90, slide=False)
