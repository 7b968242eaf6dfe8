"""Answers that are no arrays, and answers that draw at random: how they are brought back, compared and spoken about."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptlib.checks import Case, Exercise, Misconception, problems
from gptlib.checks.compare import agrees, difference, same_distribution, show
from gptlib.checks.data import content
from gptlib.checks.judge import judge
from gptlib.checks.probing import Data, Odd, afterwards, copies, counts, ids, number, parts, tensor, text, whole
from gptlib.checks.trial import attempt

INTS = st.lists(st.integers(-(2**40), 2**40), max_size=8)
KEYS = st.one_of(st.integers(0, 99), st.text(max_size=4), st.tuples(st.integers(0, 9), st.integers(0, 9)))


@given(value=INTS)
def test_ids_come_back_whatever_holds_them(value):
    for same in (value, tuple(value), np.array(value, dtype=np.int64), torch.tensor(value, dtype=torch.int64)):
        assert content(ids(same)) == value
        assert ids(same) == ids(value)


@given(value=st.text(max_size=20))
def test_texts_come_back(value):
    assert content(text(value)) == value


@given(value=st.dictionaries(KEYS, st.integers(1, 99), max_size=8))
def test_counts_come_back_in_any_order(value):
    backwards = dict(reversed(value.items()))
    assert content(counts(value)) == value
    assert counts(backwards) == counts(value) == counts(Counter(value) | {(99, 99): 0})


@given(value=st.one_of(INTS, st.text(max_size=20), st.dictionaries(KEYS, st.integers(1, 9), max_size=5)))
def test_values_survive_the_way_through_json(value):
    read = {list: ids, str: text, dict: counts}[type(value)]
    kind, inside = json.loads(json.dumps([read(value).kind, read(value).json]))
    assert Data(kind, inside) == read(value)


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (ids, [1.0, 2.0], "a list of 2 float"),
        (ids, [True], "a list of 1 bool"),
        (ids, "ab", "'ab' (str)"),
        (ids, torch.zeros(2), "a float32 tensor of shape (2,)"),
        (ids, [[1], [2]], "a list of 2 list"),
        (counts, [1, 2], "a list of 2 int"),
        (counts, {"a": 0.5}, "a dict whose values are float and not int"),
        (counts, {1.5: 1}, "a dict whose keys are float"),
        (text, 7, "7 (int)"),
        (number, "7", "'7' (str)"),
        (number, True, "True (bool)"),
        (whole, 7.0, "7.0 (float)"),
    ],
)
def test_other_values_are_odd_in_words(read, value, words):
    assert read(value) == Odd(words)


def test_numbers_of_every_library():
    for value in (2.5, np.float32(2.5), torch.tensor(2.5), np.array(2.5)):
        assert torch.equal(number(value), torch.tensor(2.5, dtype=torch.float64))
    for value in (7, np.int64(7), torch.tensor(7)):
        assert torch.equal(whole(value), torch.tensor(7))
    assert not agrees(whole(124_439_809), whole(124_439_808), 1e-5)  # whole numbers are met exactly


def test_parts_that_are_not_there():
    assert parts(([1], [2]), ids, "a", "b") == {"a": ids([1]), "b": ids([2])}
    assert parts([1, 2, 3], ids, "a", "b") == dict.fromkeys("ab", Odd("a list of 3 int"))


def test_lists_among_the_inputs_are_copied_and_looked_at_afterwards():
    given_ = {"ids": [1, 2], "pairs": [[1, 2]], "n": 3}
    own = copies(given_)
    own["ids"].append(9)
    own["pairs"][0].append(9)
    assert given_ == {"ids": [1, 2], "pairs": [[1, 2]], "n": 3}
    assert afterwards(own) == {"after.ids": ids([1, 2, 9])}


@pytest.mark.parametrize(
    ("seen", "expected", "words"),
    [
        (ids([1, 9]), ids([1, 2]), "x: at [1] stands 9 where 2 was expected."),
        (ids([1]), ids([1, 2]), "x: 2 ids were expected, and 1 came back; as far as both go, they agree."),
        (ids([3]), ids([1, 2]), "x: 2 ids were expected, and 1 came back; at [0] stands 3 where 1 was expected."),
        (text("ab"), text("ac"), "x: at [1] stands 'b' where 'c' was expected."),
        (text("leak"), text("healthy"), "x: 'healthy' was expected, and 'leak' came back."),
        (
            text("a" * 50),
            text("a" * 51),
            "x: 51 characters were expected, and 50 came back; as far as both go, they agree.",
        ),
        (text("ab"), ids([1]), "x: a list of ids was expected, and a text (a str) came back."),
        (Odd("None"), ids([1]), "x: a list of ids was expected, and None came back."),
        (tensor(torch.zeros(2)), counts({}), "x: a dict of counts was expected, and a tensor of shape (2,) came back."),
        (ids([1]), torch.zeros(2), "x: a tensor of shape (2,) was expected, and a list of ids came back."),
        (counts({}), counts({(1, 2): 1}), "x: (1, 2) occurs once and is missing."),
        (counts({(1, 2): 1, 3: 2}), counts({(1, 2): 1}), "x: 3 does not occur, and is counted 2 times."),
        (counts({(1, 2): 1}), counts({(1, 2): 3}), "x: (1, 2) occurs 3 times, and is counted once."),
    ],
)
def test_differences_in_words(seen, expected, words):
    assert difference("x", seen, expected, 1e-5) == words
    assert not agrees(seen, expected, 1e-5)


def test_values_are_shown_on_one_line():
    assert show(ids([0, 1, 2])) == "[0, 1, 2]"
    assert show(ids(list(range(99)))).endswith("11, … (99 in all)]")
    assert show(counts({(1, 2): 3})) == "{(1, 2): 3}"
    assert show(text("a\nb")) == r"'a\nb'"
    assert len(show(text("x" * 999))) < 110


# --- answers that draw at random --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), columns=st.integers(1, 30))
def test_two_samples_of_one_distribution_agree(seed, columns):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(2000, columns, generator=generator) for _ in range(2))
    assert same_distribution(a, b)
    whole_a, whole_b = (torch.randint(5, (3000,), generator=generator) for _ in range(2))
    assert same_distribution(whole_a, whole_b)


def test_samples_of_other_distributions_do_not():
    normal = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    for other in (
        normal * 1.3,
        normal + 0.2,
        normal.abs(),
        torch.rand(4000, 2),
        normal[:0],
        normal[:, :1],
        normal.double(),
    ):
        assert not same_distribution(other, normal)
    assert not same_distribution(normal.where(normal != normal[5, 0], math.nan), normal)
    one_wrong_column = torch.stack([normal[:, 0], normal[:, 1] * 1.4], 1)
    assert not same_distribution(one_wrong_column, normal)
    assert not same_distribution(Odd("None"), normal)


def _rolls(answer, given):
    generator = torch.Generator().manual_seed(given["seed"])
    return {"draws.rolls": tensor(answer(given["sides"], 4000, generator))}


def _roll(sides, n, generator):
    return torch.randint(1, sides + 1, (n,), generator=generator)


DICE = Exercise(
    id="dice.roll",
    title="Roll a die",
    minutes=1,
    points=2,
    signature="roll(sides, n, generator)",
    draw=lambda rng: [Case({"sides": n, "seed": int(rng.integers(2**31))}) for n in (2, 6, 20)],
    probe=_rolls,
    reference=_roll,
    alternatives=(
        lambda sides, n, generator: 1 + (torch.rand(n, generator=generator) * sides).long(),
        lambda sides, n, generator: 1 + torch.multinomial(torch.ones(sides), n, True, generator=generator),
    ),
    misconceptions=(
        Misconception("from 0", "Your die begins at 0.", lambda s, n, g: _roll(s, n, g) - 1),
        Misconception(
            "no last side", "Your die lacks its last side.", lambda s, n, g: torch.randint(1, max(2, s), (n,))
        ),
        Misconception("two dice", "You add two dice up.", lambda s, n, g: _roll(s, n, g) + _roll(s, n, g)),
        Misconception(
            "the larger of two",
            "Yours is the larger of two dice.",
            lambda s, n, g: _roll(s, n, g).maximum(_roll(s, n, g)),
        ),
    ),
    properties=(),
    hints=("One.", "Two.", "Three."),
)


def test_answers_that_draw_at_random_are_compared_by_distribution():
    assert problems(DICE) == []
    cases = DICE.draw(np.random.default_rng(3))

    def loaded(sides, n, generator):
        rolls = _roll(sides, n, generator)
        return torch.where(torch.rand(n, generator=generator) < 0.2, sides, rolls)

    report = judge(DICE, cases, attempt(DICE, loaded, cases))
    assert report.status == "incorrect"
    assert "is drawn in" in report.message
    assert "should be in" in report.message


def test_continuous_draws_are_explained_by_mean_and_spread():
    gauss = Exercise(
        **{
            **vars(DICE),
            "probe": lambda answer, given: {"draws.x": tensor(answer(given["sides"]))},
            "reference": lambda sides: torch.randn(4000) * sides,
            "misconceptions": (),
        }
    )
    cases = gauss.draw(np.random.default_rng(3))
    assert judge(gauss, cases, attempt(gauss, lambda sides: torch.empty(4000).normal_(0, sides), cases)).passed
    message = judge(gauss, cases, attempt(gauss, lambda sides: torch.rand(4000) * sides, cases)).message
    assert "their mean is" in message
    assert "standard deviation" in message


def test_answers_that_do_nothing_are_named():
    from gptlib.checks import find_exercise

    merge = find_exercise("tokens.merge")
    cases = merge.draw(np.random.default_rng(0))
    expected = {"returns the input": lambda ids, pair, new: ids, "empty": lambda ids, pair, new: []}
    expected["constant"] = lambda ids, pair, new: [0] * len(ids)
    for name, answer in expected.items():
        report = judge(merge, cases, attempt(merge, answer, cases))
        assert (report.misconception, report.score) == (name, 0)
