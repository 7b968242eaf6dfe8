"""What every exercise of the course must keep, and answers to set 03 as learners write them."""

import functools
import math

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
        assert report.score <= 0.6 * exercise.points


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
        assert "!" not in text
    assert len(set(sentences)) == len(sentences)
    names = [m.name for m in exercise.misconceptions]
    assert len(set(names)) == len(names) >= 4
    assert exercise.minutes > 0
    assert exercise.points > 0


def test_probe_of_two_mistakes_names_both():
    exercise = find_exercise("attention.attend")
    found = []
    cases = practice_cases(exercise)
    with one_thread():
        for a, b, answer in exercise.pairs():
            report = judge(exercise, cases, attempt(exercise, answer, cases))
            assert not report.passed, (a.name, b.name)
            found.append(report.misconception == f"{a.name} + {b.name}")
    # Some pairs look like one mistake alone (a function that fails without a mask fails however it scales), not most.
    assert sum(found) > 0.6 * len(found)


# --- other ways of being right ----------------------------------------------------------------------------------------


def mask_by_loops(T):
    mask = torch.zeros(T, T)
    for t in range(T):
        for s in range(T):
            if s > t:
                mask[t, s] = float("-inf")
    return mask


def mask_by_comparison(T):
    t = torch.arange(T)
    return torch.where(t[None, :] > t[:, None], -math.inf, 0.0)


def mask_by_fill(T):
    return torch.zeros(T, T).masked_fill(torch.ones(T, T, dtype=torch.bool).tril().logical_not(), -math.inf)


def mask_by_numpy(T):
    return torch.from_numpy(np.triu(np.full((T, T), -np.inf, dtype=np.float32), 1))


def mask_by_logarithm(T):
    return torch.ones(T, T).tril().log()


def mask_as_a_view(T):
    return torch.full((T, T), -math.inf).tril(-1).T


def scores_by_einsum(q, k):
    return torch.einsum("...td,...sd->...ts", q, k) * q.size(-1) ** -0.5


def scores_by_sum(q, k):
    return (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(-1) / q.shape[-1] ** 0.5


def scores_scaled_first(q, k):
    root = q.shape[-1] ** 0.25
    return (q / root) @ (k / root).mT


def scores_by_linear(q, k):
    return torch.stack([row @ k.mT for row in (q / math.sqrt(k.size(-1))).unsqueeze(-2).unbind(-3)], -3).squeeze(-2)


def attend_by_einsum(q, k, v, mask=None):
    scores = torch.einsum("...td,...sd->...ts", q, k) / math.sqrt(q.size(-1))
    weights = torch.softmax(scores if mask is None else scores + mask, -1)
    return torch.einsum("...ts,...sd->...td", weights, v), weights


def attend_by_hand(q, k, v, mask=0.0):
    scores = q @ k.mT / q.shape[-1] ** 0.5 + (0.0 if mask is None else mask)
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    weights = powers / powers.sum(-1, keepdim=True)
    return (weights @ v, weights)


def attend_with_late_division(q, k, v, mask=None):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    scores = scores if mask is None else scores + mask
    powers = (scores - scores.max(-1, keepdim=True).values).exp()
    return [powers @ v / powers.sum(-1, keepdim=True), powers / powers.sum(-1, keepdim=True)]


def attend_by_kernel(q, k, v, mask=None):
    weights = F.scaled_dot_product_attention(q, k, torch.eye(k.shape[-2]), attn_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), weights


def attend_a_row_at_a_time(q, k, v, mask=None):
    T, S = q.shape[-2], k.shape[-2]
    full = torch.zeros(*q.shape[:-2], T, S) if mask is None else mask.expand(*q.shape[:-2], T, S)
    rows = []
    for t in range(T):
        row = (q[..., t : t + 1, :] * k).sum(-1) / math.sqrt(q.shape[-1]) + full[..., t, :]
        rows.append(F.softmax(row, dim=-1))
    weights = torch.stack(rows, dim=-2)
    return weights @ v, weights


def leaks_by_adding(attention, T, C):
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for t in range(1, T):
            other = torch.cat([x[:t], x[t:] + size])
            if not torch.allclose(attention(other)[:t], attention(x)[:t], rtol=0, atol=1e-5 * size):
                return True
    return False


def leaks_by_gradient(attention, T, C):
    x = torch.randn(T, C, requires_grad=True)
    for t, row in enumerate(attention(x)):
        (gradient,) = torch.autograd.grad(row.sum(), x, retain_graph=True)
        if gradient[t + 1 :].abs().sum() > 0:
            return True
    return False


def leaks_by_cutting(attention, T, C):
    found = torch.tensor(False)
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for t in range(1, T):
            found |= ((attention(x[:t]) - attention(x)[:t]).abs() > 1e-5 * size).any()
    return found


def leaks_by_numpy(attention, T, C):
    worst = np.float64(0)
    for size in (1, 100):
        x = torch.randn(T, C) * size
        for s in range(1, T):
            y = x.clone()
            y[s] = torch.randn(C) * size
            worst = max(worst, np.abs(attention(y).numpy() - attention(x).numpy())[:s].max() / size)
    return worst > 1e-5


RIGHT = {
    "attention.causal_mask": [
        mask_by_loops,
        mask_by_comparison,
        mask_by_fill,
        mask_by_numpy,
        mask_by_logarithm,
        mask_as_a_view,
        functools.partial(lambda fill, T: torch.full((T, T), fill).triu(1), -math.inf),
    ],
    "attention.scores": [scores_by_einsum, scores_by_sum, scores_scaled_first, scores_by_linear],
    "attention.attend": [
        attend_by_einsum,
        attend_by_hand,
        attend_with_late_division,
        attend_by_kernel,
        attend_a_row_at_a_time,
    ],
    "attention.leaks": [leaks_by_adding, leaks_by_gradient, leaks_by_cutting, leaks_by_numpy],
}


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [(i, a) for i, answers in RIGHT.items() for a in answers],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_every_correct_answer_is_accepted(exercise_id, answer):
    report = review(find_exercise(exercise_id), answer)
    assert report.status == "correct", str(report)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(10, 2**32 - 1), exercise_id=st.sampled_from(sorted(RIGHT)), which=st.integers(0, 3))
def test_correct_answers_are_accepted_for_any_seed(seed, exercise_id, which):
    exercise = find_exercise(exercise_id)
    with one_thread():
        cases = exercise.draw(np.random.default_rng(seed))
        report = judge(exercise, cases, attempt(exercise, RIGHT[exercise_id][which], cases))
    assert report.passed, str(report)


@pytest.mark.parametrize("exercise_id", ALL)
def test_random_inputs_have_dimensions_that_all_differ(exercise_id):
    exercise = find_exercise(exercise_id)
    last = exercise.draw(np.random.default_rng(5))[-1].given
    if "q" in last:
        assert len(set(last["q"].shape) | set(last["k"].shape[-2:-1])) == 5


def test_mask_that_ignores_the_scores_earns_nothing():
    def attend(q, k, v, mask=None):
        weights = torch.ones(*q.shape[:-1], k.shape[-2]) * (1 if mask is None else mask.exp())
        weights = weights / weights.sum(-1, keepdim=True)
        return weights @ v, weights

    report = review(find_exercise("attention.attend"), attend)
    assert report.score == 0
    assert "does not depend on the numbers" in report.message
