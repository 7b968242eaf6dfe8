"""The entropy and the true next-token distribution."""

import math
import re
import subprocess
import sys
from collections import defaultdict

import pytest
import torch

from gptlib import tales
from gptlib.tales.exact import END, Encoder, Truth
from gptlib.tales.reader import unfold
from gptlib.tokenizers import BPETokenizer, CharTokenizer

STORIES = tales.sample(21, 300)
TEXT = END.join(story.text for story in STORIES) + END
BPE = BPETokenizer.train(TEXT, 600)
SMALL_BPE = BPETokenizer.train(TEXT[:20_000], 300)  # most words are several tokens
CHARACTERS = CharTokenizer.train(TEXT)
TOKENIZERS = pytest.mark.parametrize("tokenizer", [BPE, SMALL_BPE, CHARACTERS], ids=["bpe", "small bpe", "characters"])


@TOKENIZERS
def test_encoder_is_the_tokenizer(tokenizer):
    encoder = Encoder(tokenizer)
    for story in STORIES[:50]:
        assert encoder.encode(story.text) == list(tokenizer.encode(story.text))


@TOKENIZERS
def test_logs_along_a_story_add_up_to_its_log_probability(tokenizer):
    truth = tales.world().truth(tokenizer)
    for story in STORIES[:6]:
        ids = [*tokenizer.encode(story.text), *tokenizer.encode(END)]
        total = 0.0
        for token, distribution in zip(ids, truth.along(ids, range(len(ids))), strict=True):
            assert math.fsum(distribution.values()) == pytest.approx(1, abs=1e-12)
            total += math.log(distribution[token])
        assert total == pytest.approx(story.log_prob, abs=1e-9)


@TOKENIZERS
def test_small_world_agrees_with_brute_force(tokenizer):
    world = tales.World(plots=["weather"], limit=2)
    stories = {
        (*tokenizer.encode(u.words), *tokenizer.encode(END)): math.exp(u.log_prob)
        for u in unfold(world.grammar, world.grammar.start(), lambda _: False)
    }
    assert math.fsum(stories.values()) == pytest.approx(1, abs=1e-12)
    for ids in list(stories)[::911]:
        positions = range(0, len(ids), 1 if tokenizer is BPE else 7)
        for t, distribution in zip(positions, Truth(world.grammar, tokenizer).along(ids, positions), strict=True):
            true: dict[int, float] = defaultdict(float)
            for other, probability in stories.items():
                if other[:t] == ids[:t]:
                    true[other[t]] += probability
            total = sum(true.values())
            assert distribution == pytest.approx({token: p / total for token, p in true.items()}, abs=1e-12)


def test_distribution_as_a_tensor_after_any_beginning():
    start = tales.next_token_distribution(BPE, [])
    assert start.shape == (BPE.vocab_size,)
    assert start.dtype == torch.float64
    assert start.sum().item() == pytest.approx(1, abs=1e-12)
    first = [story for story in STORIES if story.text.startswith("Mara ")]
    before = BPE.encode(first[0].text + END)
    assert torch.equal(tales.next_token_distribution(BPE, before), start)
    assert torch.equal(tales.next_token_distribution(BPE, torch.tensor([*before, *BPE.encode("Mara")])),
                       tales.next_token_distribution(BPE, BPE.encode("Mara")))  # fmt: skip
    after_story = tales.next_token_distribution(BPE, BPE.encode(first[0].text))
    assert after_story[BPE.end_id] == 1


def test_untold_fact_is_never_next():
    # Mara's pet is never told, so that nothing that begins "Mara had" is a story.
    with pytest.raises(ValueError, match="no story begins like this: 'Mara had'"):
        tales.next_token_distribution(BPE, BPE.encode("Mara had"))


@pytest.mark.parametrize("text", ["Dragons", "Mara was asleep", STORIES[0].text + " And"])
def test_beginning_of_no_story_is_refused(text):
    with pytest.raises(ValueError, match="no story begins like this"):
        tales.next_token_distribution(BPE, BPE.encode(text))


def test_other_spelling_of_a_word_is_refused():
    ids = [token for character in STORIES[0].text for token in BPE.encode(character)]
    with pytest.raises(ValueError, match="not how the tokenizer writes"):
        tales.next_token_distribution(BPE, ids)


@TOKENIZERS
def test_floor_is_consistent(tokenizer):
    floor = tales.entropy(tokenizer, n=400, seed=5)
    stories = tales.sample(5, 400)
    assert floor.stories == 400
    assert floor.nats_per_story == pytest.approx(-sum(story.log_prob for story in stories) / 400)
    tokens = [len(tokenizer.encode(story.text + END)) for story in stories]
    assert floor.tokens_per_story == pytest.approx(sum(tokens) / 400)
    assert floor.longest == max(tokens)
    assert floor.nats_per_token == pytest.approx(floor.nats_per_story / floor.tokens_per_story)
    assert floor.nats_per_character == pytest.approx(
        -sum(s.log_prob for s in stories) / sum(len(s.text) for s in stories)
    )
    assert sum(floor.by_kind.values()) == pytest.approx(floor.nats_per_story)


def test_standard_errors_cover_the_spread_of_repeated_estimates():
    floors = [tales.entropy(CHARACTERS, n=100, seed=seed) for seed in range(30)]
    for value, error in (("nats_per_story", "story_error"), ("nats_per_token", "token_error")):
        values = torch.tensor([getattr(floor, value) for floor in floors], dtype=torch.float64)
        errors = torch.tensor([getattr(floor, error) for floor in floors], dtype=torch.float64)
        assert 0.6 < (values.std() / errors.mean()).item() < 1.5


def test_entropy_wants_at_least_two_stories():
    with pytest.raises(ValueError, match="n=1 stories give no standard error"):
        tales.entropy(BPE, n=1)


def test_longest_story_fits_the_context_of_the_preset():
    tokenizer = BPETokenizer.train(END.join(story.text for story in tales.sample(0, 600)), 1024)
    assert tales.entropy(tokenizer, n=3000, seed=3).longest <= 256


def test_characters_without_the_end_mark_are_told_so():
    tokenizer = CharTokenizer.train("".join(story.text for story in STORIES))
    with pytest.raises(ValueError, match=re.escape("'<'")):
        tales.entropy(tokenizer, n=2)


def test_telling_stories_does_not_import_torch():
    code = "import sys; from gptlib import tales; tales.sample(0, 1); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
