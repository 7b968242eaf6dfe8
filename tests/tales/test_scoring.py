"""Evaluation and abilities, with models whose scores are known beforehand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gptlib import tales
from gptlib.tales.ability import KINDS
from gptlib.tales.exact import END
from gptlib.tales.scoring import token_log_probs
from gptlib.tokenizers import BPETokenizer, CharTokenizer

TEXT = END.join(story.text for story in tales.sample(21, 300)) + END
BPE = BPETokenizer.train(TEXT, 1024)
CHARACTERS = CharTokenizer.train(TEXT)
TOKENIZERS = pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bpe", "characters"])


class TrueModel(nn.Module):
    """Knows the world: its logits are the logs of the true next-token distribution."""

    def __init__(self, tokenizer):
        super().__init__()
        self.end = tokenizer.encode(END)
        self.vocab_size = tokenizer.vocab_size
        self.truth = tales.world().truth(tokenizer)

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        logits = torch.full((*ids.shape, self.vocab_size), -60.0)
        start = len(self.end)
        for row, row_ids in zip(logits, ids.tolist(), strict=True):
            positions = range(len(row_ids) - start + 1)
            story = row_ids[start:]
            try:
                for place, distribution in zip(positions, self.truth.along(story, positions), strict=True):
                    for token, probability in distribution.items():
                        row[start - 1 + place, token] = math.log(probability)
            except ValueError:
                pass  # from here on no story goes on like this: a wrong alternative, or padding
        return logits, None


class Uniform(nn.Module):
    def __init__(self, vocab_size, n_positions=None):
        super().__init__()
        self.vocab_size = vocab_size
        self.scale = nn.Parameter(torch.zeros(()))
        if n_positions:
            self.config = SimpleNamespace(n_positions=n_positions)

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        assert not self.training
        return self.scale * torch.ones(*ids.shape, self.vocab_size), None


@TOKENIZERS
def test_true_model_reaches_the_floor(tokenizer):
    result = tales.evaluate(TrueModel(tokenizer), tokenizer, tales.split("test", 12))
    assert result.nats_per_token == pytest.approx(result.floor, rel=1e-5)
    assert result.over_floor == pytest.approx(1, rel=1e-5)
    assert result.stories == 12


@TOKENIZERS
def test_uniform_model_pays_the_log_of_the_vocabulary(tokenizer):
    stories = tales.split("test", 30)
    model = Uniform(tokenizer.vocab_size).train()
    result = tales.evaluate(model, tokenizer, stories)
    assert result.nats_per_token == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-5)
    assert result.standard_error == pytest.approx(0, abs=1e-6)
    assert result.tokens == sum(len(tokenizer.encode(story.text + END)) for story in stories)
    assert model.training


def test_batches_do_not_change_what_a_row_scores():
    torch.manual_seed(0)
    model = TinyModel(50)
    rows = [torch.randint(50, (length,)).tolist() for length in (9, 3, 400, 17, 3, 250)] * 8
    together = token_log_probs(model, rows, [2] * len(rows))
    for row, log_probs in zip(rows[:6], together[:6], strict=True):
        assert log_probs.shape == (len(row) - 2,)
        torch.testing.assert_close(token_log_probs(model, [row], [2])[0], log_probs)
    with torch.no_grad():
        logits, _ = model(torch.tensor([rows[0]]))
    expected = logits[0].log_softmax(-1)[torch.arange(1, 8), rows[0][2:]]
    torch.testing.assert_close(together[0], expected)


class TinyModel(nn.Module):
    """A causal model without attention: each token sees the mean of itself and all before it."""

    def __init__(self, vocab_size, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.output = nn.Linear(width, vocab_size)

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        x = self.embedding(ids).cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None]  # (B, T, C)
        return self.output(x), None


def test_true_model_has_every_ability_and_no_divergence():
    result = tales.abilities(TrueModel(BPE), BPE, max_stories=50, per_kind=12, kl_stories=5)
    assert {row.kind for row in result.rows if row.status == "seen"} == set(KINDS)
    for row in result.rows:
        assert 0 < row.chance <= 0.5
        assert 0 < row.count <= 12
        if row.status == "seen":
            assert row.accuracy == 1, row
    assert abs(result.kl) < 1e-5
    assert result.kl_count > 50
    assert result["sum"].kind == "sum"
    assert result["fact", "untold"].status == "untold"
    assert len(str(result).splitlines()) == len(result.rows) + 2


def test_uniform_model_has_none():
    result = tales.abilities(Uniform(BPE.vocab_size), BPE, max_stories=60, per_kind=40, kl_stories=3)
    for row in result.rows:
        # Among equals the one with the fewest tokens wins, so that a few are right by length alone.
        assert row.accuracy <= 0.6, row
    assert result.kl > 1
    assert {row.status for row in result.rows} == {"seen", "held out", "untold"}


class Confused(TrueModel):
    """Knows the world, but takes he for she and she for he."""

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        logits, _ = super().forward(ids)
        swapped = logits.clone()
        for one, other in ((" he", " she"), (" He", " She")):
            (a,), (b,) = BPE.encode(one), BPE.encode(other)
            swapped[..., a], swapped[..., b] = logits[..., b], logits[..., a]
        return swapped, None


def test_one_gap_in_knowledge_shows_in_one_ability():
    result = tales.abilities(Confused(BPE), BPE, max_stories=40, per_kind=12, kl_stories=5)
    for row in result.rows:
        if row.status == "seen":
            assert row.accuracy < 0.8 if row.kind == "pronoun" else row.accuracy == 1, row
    assert result.kl > 0.1


def test_short_cut_gives_what_reading_every_alternative_gives():
    torch.manual_seed(1)
    model = TinyModel(BPE.vocab_size)
    result = tales.abilities(model, BPE, max_stories=12, per_kind=1000, kl_stories=0)
    ends = torch.tensor([token for token in range(BPE.vocab_size) if BPE.decode([token])[0] in " <"])
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for story in tales.split("test", 12, 1):
        for mark in story.marks:
            if len(mark.alternatives) > 7 or not mark.alternatives:
                continue
            end = story.text.find(" ", mark.end)
            after = story.text[mark.end : end if end >= 0 else None]
            scores = []
            for option in (mark.text, *mark.alternatives):
                ids = [BPE.end_id, *BPE.encode(story.text[: mark.start] + option + after)]
                logits, _ = model(torch.tensor([ids]))
                log_probs = logits[0].double().log_softmax(-1)
                start = len(BPE.encode(story.text[: max(story.text.rfind(" ", 0, mark.start), 0)])) + 1
                said = log_probs[start - 1 : -1].gather(1, torch.tensor(ids[start:])[:, None]).sum()
                scores.append((said + log_probs[-1, ends].logsumexp(0)).item())
            right[mark.kind].append(scores[0] > max(scores[1:]))
    for kind in ("pronoun", "agreement", "speaker", "ending"):  # these never have more alternatives than are compared
        assert 0 < len(right[kind]) == result[kind].count
        assert sum(right[kind]) / len(right[kind]) == pytest.approx(result[kind].accuracy)


def test_abilities_are_the_same_every_time():
    model = TinyModel(BPE.vocab_size)
    one = tales.abilities(model, BPE, max_stories=20, per_kind=5, kl_stories=2)
    assert one == tales.abilities(model, BPE, max_stories=20, per_kind=5, kl_stories=2)
    with pytest.raises(KeyError, match="was not scored"):
        one["cookery"]


def test_tracker_gives_the_numbers_of_the_table():
    model = TinyModel(BPE.vocab_size)
    table = tales.abilities(model, BPE, max_stories=20, per_kind=5, kl_stories=0)
    measure = tales.tracker(BPE, max_stories=20, per_kind=5)
    scores = measure(model)
    assert scores == measure(model)
    assert len(scores) == 2 * len(table.rows)
    for row in table.rows:
        status = "" if row.status == "seen" else f" ({row.status})"
        assert scores[f"{row.kind} accuracy{status}"] == pytest.approx(row.accuracy, abs=1e-4)
        assert scores[f"{row.kind} log_prob{status}"] == pytest.approx(row.log_prob, abs=1e-4)


@pytest.mark.parametrize(
    ("stories", "message"),
    [([], "stories is empty"), (tales.probes(0, 1), "a probe has no floor")],
)
def test_what_cannot_be_evaluated_is_said(stories, message):
    with pytest.raises(ValueError, match=message):
        tales.evaluate(Uniform(BPE.vocab_size), BPE, stories)


def test_story_longer_than_the_context_is_refused():
    model = Uniform(BPE.vocab_size, n_positions=50)
    with pytest.raises(ValueError, match="longer than the model's n_positions=50"):
        tales.evaluate(model, BPE, tales.sample(0, 3))
    with pytest.raises(ValueError, match="longer than the model's n_positions=50"):
        tales.abilities(model, BPE, max_stories=5)
