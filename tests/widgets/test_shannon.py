"""Shannon's game on the Python side: what rivals pay, how answers are scored, and what is said of them."""

import math

import pytest
import torch
from torch import nn

from gptlib import load_model, tales
from gptlib.widgets import ShannonGame
from gptlib.widgets.shannon import Passage, check_guesses

MODEL, TOKENIZER = load_model("tales")


class Uniform(nn.Module):
    def forward(self, ids):
        return torch.zeros(*ids.shape, TOKENIZER.vocab_size), None


@pytest.fixture(scope="module")
def game():
    return ShannonGame.on_tales({"bundled": MODEL, "uniform": Uniform()}, TOKENIZER, passages=2, questions=9)


@pytest.fixture
def small():
    passage = Passage(("A ", "fox", " saw a ", "hen", "."), (1, 3), {"it": [0.5, 1.5]})
    return ShannonGame([passage], ["fox", "hen", "dog", "cat", "owl"])


def ask(game, passage, question, *guesses):
    game._on_request(None, {"answer": {"passage": passage, "question": question, "guesses": guesses}}, [])
    return game.problem


def test_pieces_are_the_story_and_ask_for_whole_words(game):
    stories = [story.text for story in tales.split("test", 2, 11)]
    for passage, story in zip(game.passages, stories, strict=True):
        assert "".join(passage["pieces"]) == story
        asked = [passage["pieces"][i] for i in passage["asked"]]
        assert len(asked) == 9
        assert all(word.isalpha() for word in asked)
        assert set(asked) <= set(game.words)
    assert game.n_words == len(game.words) > 600


def test_the_world_pays_what_is_true_and_the_model_about_as_much(game):
    world = [x for passage in game.passages for x in passage["nats"]["the world"]]
    model = [x for passage in game.passages for x in passage["nats"]["bundled"]]
    assert min(world) >= 0
    assert sum(x < 1e-9 for x in world) >= 4  # decided by the story
    assert sum(x > 0.3 for x in world) >= 8  # left open by it
    assert sum(model) == pytest.approx(sum(world), rel=0.25)


def test_what_a_word_costs_is_the_sum_over_its_tokens(game):
    story = tales.split("test", 1, 11)[0].text
    for piece, paid in zip(game.passages[0]["asked"], game.passages[0]["nats"]["uniform"], strict=True):
        word = game.passages[0]["pieces"][piece]
        assert f" {word}" in f" {story}"
        tokens = min(len(TOKENIZER.encode(f" {word}")), len(TOKENIZER.encode(word)))
        assert paid / math.log(TOKENIZER.vocab_size) == pytest.approx(round(paid / math.log(TOKENIZER.vocab_size)))
        assert paid >= tokens * math.log(TOKENIZER.vocab_size) - 1e-3


def test_an_answer_is_scored_by_what_the_right_word_got(small):
    assert ask(small, 0, 0, ["Fox", 0.5], ["dog", 0.2]) == ""
    assert small.nats == {"you": pytest.approx(-math.log(0.5)), "it": 0.5}
    assert ask(small, 0, 1, ["dog", 0.4]) == ""  # the other four words share 0.6
    assert small.nats["you"] == pytest.approx((-math.log(0.5) - math.log(0.15)) / 2)
    assert small.nats["it"] == 1.0
    assert small.said == [(0.5, True), (0.2, False), (0.4, False)]
    assert "2 of 2 words answered" in small._sentence()


def test_naming_nothing_is_guessing_evenly(small):
    ask(small, 0, 0)
    assert small.nats["you"] == pytest.approx(math.log(5))


def test_a_second_answer_replaces_the_first_and_reset_forgets(small):
    ask(small, 0, 0, ["dog", 0.9])
    ask(small, 0, 0, ["fox", 0.9])
    assert small.nats["you"] == pytest.approx(-math.log(0.9))
    small._on_request(None, {"reset": True}, [])
    assert small.nats == {}
    assert small.said == []


@pytest.mark.parametrize(
    ("guesses", "words"),
    [
        ([["a", 0.5], ["A", 0.2]], "named twice"),
        ([["a", 0.7], ["b", 0.4]], "take 110%"),
        ([["a", 1.0]], "less than 100 %"),
        ([["", 0.5]], "more than 0 %"),
        ([["a", 0.1], ["b", 0.1], ["c", 0.1], ["d", 0.1]], "at most 3"),
    ],
)
def test_guesses_that_are_none(guesses, words):
    with pytest.raises(ValueError, match=words):
        check_guesses(guesses)


def test_what_the_browser_may_not_send(small):
    assert "no word 7" in ask(small, 0, 7)
    assert "named twice" in ask(small, 0, 0, ["a", 0.1], ["a", 0.1])
    small._on_request(None, {"other": 1}, [])
    assert "run this cell again" in small.problem
    assert small.answers == []


def test_a_game_needs_passages_and_words():
    with pytest.raises(ValueError, match="no passages"):
        ShannonGame([], ["a", "b", "c", "d", "e"])
    with pytest.raises(ValueError, match="vocabulary of 2 words"):
        ShannonGame([Passage(("a",), (0,), {})], ["a", "b"])


def test_english_is_asked_word_by_word():
    english = ShannonGame.on_english({"bundled": MODEL}, TOKENIZER)
    assert english.n_words == 10_000
    assert [len(passage["asked"]) for passage in english.passages] == [10, 10, 10]
    paid = [x for passage in english.passages for x in passage["nats"]["bundled"]]
    assert sum(paid) / len(paid) > math.log(10_000)  # worse than no idea: it knows no English


def test_the_picture_says_who_paid_what_and_how_sure_was_right(small):
    assert "Nobody has played yet" in small.plot().alt
    ask(small, 0, 0, ["fox", 0.5], ["dog", 0.3])
    alt = small.plot().alt
    assert "You paid 0.69 nats a word, it 0.50" in alt
    assert "of 1 words given 50% on average 100% came true" in alt
    assert "of 1 words given 30% on average 0% came true" in alt
    assert small._repr_mimebundle_()[0]["image/png"]
