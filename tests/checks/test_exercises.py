"""What every exercise of the course must keep, and answers as learners write them."""

import collections
import functools
import importlib.util
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.checks import exercises, find_exercise, problems
from gptlib.checks.judge import judge
from gptlib.checks.practice import practice_cases, review
from gptlib.checks.probing import one_thread
from gptlib.checks.selftest import trivial_answers
from gptlib.checks.trial import attempt

ALL = [exercise.id for exercise in exercises()]


@pytest.mark.parametrize("exercise_id", ALL)
@pytest.mark.parametrize("seed", [0, 1])
def test_definition_is_sound(exercise_id, seed):
    assert problems(find_exercise(exercise_id), seed) == []


@pytest.mark.parametrize("exercise_id", ALL)
def test_reference_earns_full_marks_on_practice_inputs(exercise_id):
    exercise = find_exercise(exercise_id)
    cases = practice_cases(exercise)
    report = judge(exercise, cases, attempt(exercise, exercise.reference, cases))
    assert report.passed
    assert report.score == report.max_score == exercise.points


@pytest.mark.parametrize(
    ("exercise_id", "name"), [(e.id, m.name) for e in exercises() for m in e.misconceptions], ids=lambda x: x
)
def test_misconception_gets_its_own_sentence_and_never_full_marks(exercise_id, name):
    exercise = find_exercise(exercise_id)
    misconception = next(m for m in exercise.misconceptions if m.name == name)
    cases = practice_cases(exercise)
    for wrong in exercise.wrong(misconception):
        report = judge(exercise, cases, attempt(exercise, wrong, cases))
        assert report.message == misconception.sentence
        assert report.misconception == name
        assert report.status in ("incorrect", "partial")
        assert report.score <= 0.6 * exercise.points + 1e-9


@pytest.mark.parametrize("exercise_id", ALL)
def test_answers_that_do_no_work_earn_nothing(exercise_id):
    exercise = find_exercise(exercise_id)
    cases = practice_cases(exercise)
    for name, answer in trivial_answers(exercise).items():
        report = judge(exercise, cases, attempt(exercise, answer, cases))
        assert (report.score, report.passed) == (0, False), name
        assert not any(held for _, held, _ in report.properties), name


@pytest.mark.parametrize("exercise_id", ALL)
def test_words_are_whole(exercise_id):
    exercise = find_exercise(exercise_id)
    sentences = [m.sentence for m in exercise.misconceptions] + [p.sentence for p in exercise.properties]
    for text in [*sentences, *exercise.hints]:
        assert text[-1] in ".?"
        assert 20 < len(text) < 420
        assert "  " not in text
        assert "!" not in text.replace("!=", "")
    assert len(set(sentences)) == len(sentences)
    names = [m.name for m in exercise.misconceptions]
    assert len(set(names)) == len(names) >= 4
    assert exercise.minutes > 0
    assert exercise.points > 0


PAIRED = [exercise.id for exercise in exercises() if exercise.pairs()]
SOME = 40  # pairs; an exercise with twenty mistakes that compose has well over a hundred


@pytest.mark.parametrize("exercise_id", PAIRED)
def test_two_mistakes_at_once_are_both_named(exercise_id):
    pairs = find_exercise(exercise_id).pairs()
    named_together(exercise_id, random.Random(exercise_id).sample(pairs, min(SOME, len(pairs))))


@pytest.mark.slow
@pytest.mark.parametrize("exercise_id", [each for each in PAIRED if len(find_exercise(each).pairs()) > SOME])
def test_every_two_mistakes_at_once_are_both_named(exercise_id):
    named_together(exercise_id, find_exercise(exercise_id).pairs())


def named_together(exercise_id, pairs):
    exercise = find_exercise(exercise_id)
    found = []
    cases = practice_cases(exercise)
    with one_thread():
        for a, b, answer in pairs:
            report = judge(exercise, cases, attempt(exercise, answer, cases))
            assert not report.passed, (a.name, b.name)
            found.append(report.misconception == f"{a.name} + {b.name}")
    # Some pairs look like one mistake alone (a function that fails without a mask fails however it scales), not all.
    assert sum(found) > 0.4 * len(found)


# --- other ways of being right ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exercise_id", "which"), [(e.id, i) for e in exercises() for i in range(len(e.alternatives))], ids=str
)
def test_every_correct_answer_is_accepted(exercise_id, which):
    exercise = find_exercise(exercise_id)
    cases = practice_cases(exercise)
    report = judge(exercise, cases, attempt(exercise, exercise.alternatives[which], cases))
    assert report.status == "correct", str(report)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(10, 2**32 - 1), exercise_id=st.sampled_from(ALL), which=st.integers(0, 5))
def test_correct_answers_are_accepted_for_any_seed(seed, exercise_id, which):
    exercise = find_exercise(exercise_id)
    with one_thread():
        cases = exercise.draw(np.random.default_rng(seed))
        answer = exercise.alternatives[which % len(exercise.alternatives)]
        report = judge(exercise, cases, attempt(exercise, answer, cases))
    assert report.passed, str(report)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(10, 2**32 - 1), exercise_id=st.sampled_from(ALL), which=st.integers(0, 20))
def test_misconceptions_are_told_apart_for_any_seed(seed, exercise_id, which):
    exercise = find_exercise(exercise_id)
    with one_thread():
        cases = exercise.draw(np.random.default_rng(seed))
        misconception = exercise.misconceptions[which % len(exercise.misconceptions)]
        for wrong in exercise.wrong(misconception):
            report = judge(exercise, cases, attempt(exercise, wrong, cases))
            assert report.misconception == misconception.name


def mask_by_fill(T):
    return torch.zeros(T, T).masked_fill(torch.ones(T, T, dtype=torch.bool).tril().logical_not(), -math.inf)


def counts_as_a_counter(ids):
    return collections.Counter((ids[t], ids[t + 1]) for t in range(len(ids) - 1))


def merged_as_an_array(ids, pair, new_id):
    out = []
    while ids:
        fits = tuple(ids[:2]) == pair
        out.append(new_id if fits else ids[0])
        ids = ids[2 if fits else 1 :]
    return np.array(out, dtype=np.int64)


def table_by_numpy(ids, vocab_size, alpha):
    table = np.full((vocab_size, vocab_size), alpha, dtype=np.float32)
    np.add.at(table, (ids[:-1].numpy(), ids[1:].numpy()), 1)
    return torch.from_numpy(table / table.sum(1, keepdims=True))


def loss_by_call(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def perplexity_as_an_array(losses, lengths):
    return np.exp(np.dot(losses, lengths) / np.sum(lengths))


def heads_by_einsum(heads):
    return torch.cat([torch.einsum("btd->btd", head) for head in heads.transpose(0, 1)], -1)


RIGHT = {
    "attention.causal_mask": [
        mask_by_fill,
        functools.partial(lambda fill, T: torch.full((T, T), fill).triu(1), -math.inf),
    ],
    "welcome.shift_by_one": [lambda ids: (torch.tensor(ids[:-1]), torch.tensor(ids[1:]))],
    "tokens.pair_counts": [counts_as_a_counter],
    "tokens.merge": [merged_as_an_array],
    "prediction.bigram": [table_by_numpy],
    "prediction.cross_entropy": [loss_by_call],
    "prediction.perplexity": [perplexity_as_an_array],
    "heads.merge": [heads_by_einsum],
}


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [(i, a) for i, answers in RIGHT.items() for a in answers],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_learners_correct_answer_is_accepted(exercise_id, answer):
    report = review(find_exercise(exercise_id), answer)
    assert report.status == "correct", str(report)


@pytest.mark.parametrize("exercise_id", ALL)
def test_random_inputs_have_dimensions_that_all_differ(exercise_id):
    exercise = find_exercise(exercise_id)
    last = exercise.draw(np.random.default_rng(5))[-1].given
    if "q" in last:
        assert len(set(last["q"].shape) | set(last["k"].shape[-2:-1])) == 5
    for name in ("heads", "logits"):
        if name in last:
            assert len(set(last[name].shape)) == last[name].dim()


def test_the_example_in_contributing_is_sound(tmp_path):
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "EXERCISE = " in block]
    (tmp_path / "double.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("double", tmp_path / "double.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert problems(module.EXERCISE) == []


def test_mask_that_ignores_the_scores_earns_nothing():
    def attend(q, k, v, mask=None):
        weights = torch.ones(*q.shape[:-1], k.shape[-2]) * (1 if mask is None else mask.exp())
        weights = weights / weights.sum(-1, keepdim=True)
        return weights @ v, weights

    report = review(find_exercise("attention.attend"), attend)
    assert report.score == 0
    assert "depends on the numbers" in report.message
