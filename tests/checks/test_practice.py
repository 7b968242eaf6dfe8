"""What a learner meets: finding the answer, refusing the library's, and words that help."""

import functools
import html
import html.parser
import json
import linecache
import math
import re
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gptlib
from gptlib.checks import Report, check, exercises, find_exercise, progress, standing
from gptlib.checks.answers import flags
from gptlib.checks.compare import agrees, difference, show
from gptlib.checks.practice import review
from gptlib.checks.probing import Odd, Raised, run

MASK = "attention.causal_mask"


def from_source(source, name, space=None, file="<cell>"):
    """Define a function as a notebook's cell does: own namespace, own file, lines that can be read."""
    space = {"math": math, "torch": torch, "F": F, "__name__": "__main__"} if space is None else space
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), space)
    return space[name]


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch):
    monkeypatch.setattr(standing, "_seen", {})


# --- finding and refusing ---------------------------------------------------------------------------------------------


def test_check_finds_the_object_where_it_is_called():
    def causal_mask(T):
        return torch.full((T, T), -math.inf).triu(1)

    assert check(MASK).passed
    del causal_mask
    report = check(MASK)
    assert (report.status, report.score) == ("unanswered", 0)
    assert "causal_mask" in report.message


def test_check_finds_a_global_of_its_caller():
    space = {"check": check, "torch": torch}
    exec("def causal_mask(T): return torch.zeros(T, T)\ndef go(): return check('attention.causal_mask')", space)
    assert space["go"]().misconception == "constant"


def test_unknown_id_names_close_ones():
    with pytest.raises(ValueError, match=r"'attention.casual_mask'; did you mean attention.causal_mask"):
        check("attention.casual_mask")
    with pytest.raises(ValueError, match=r"did you mean attention.attend\?"):
        check("attend")
    with pytest.raises(ValueError, match=r"there are welcome.shift_by_one"):
        check("zzz")


@pytest.mark.parametrize(
    "body", ["raise NotImplementedError('write your answer here')", "...", "pass", "return None", "return ..."]
)
@pytest.mark.parametrize("exercise", exercises(), ids=lambda e: e.id)
def test_stub_is_unanswered_and_worth_nothing(exercise, body):
    stub = from_source(f"def {exercise.function}(*args): {body}", exercise.function)
    report = review(exercise, stub)
    assert (report.status, report.score) == ("unanswered", 0)
    assert exercise.signature in report.message


def test_what_looks_unanswered_says_why():
    """Somebody wrote below the line that raises, or printed the result, and must not be told to begin."""
    below = from_source("def causal_mask(T):\n    raise NotImplementedError\n    return T", "causal_mask")
    assert "raises NotImplementedError. Write yours in place of that line." in check(MASK, below).message
    printed = from_source("def causal_mask(T):\n    str(T)", "causal_mask")
    assert "gives back nothing. If you have written one, its return is missing." in check(MASK, printed).message


def test_things_that_are_no_function():
    report = check(MASK, torch.zeros(3, 3))
    assert (report.status, report.score) == ("incorrect", 0)
    assert "should be a function causal_mask(T), and is Tensor" in report.message


alias = gptlib.causal_mask


def around_an_alias(T):
    return alias(T)


def inner_import(T):
    from gptlib.attention import causal_mask

    return causal_mask(T)


def helper(T):
    return gptlib.causal_mask(T)


def through_a_helper(T):
    return helper(T)


@functools.wraps(gptlib.causal_mask)
def decorated(T):
    return None


def closure():
    hidden = gptlib.causal_mask
    return lambda T: hidden(T)


@pytest.mark.parametrize(
    "answer",
    [
        gptlib.causal_mask,
        functools.partial(gptlib.causal_mask),
        functools.partial(functools.partial(gptlib.causal_mask)),
        lambda T: gptlib.causal_mask(T),
        lambda T, f=gptlib.causal_mask: f(T),
        lambda T: torch.stack([gptlib.causal_mask(t) for t in [T]]),
        around_an_alias,
        inner_import,
        through_a_helper,
        decorated,
        closure(),
    ],
)
def test_the_librarys_own_function_is_refused(answer):
    report = check(MASK, answer)
    assert (report.status, report.score) == ("refused", 0)
    assert "the library's own work (gptlib" in report.message


def test_a_reference_from_the_checks_is_refused_too():
    assert check(MASK, find_exercise(MASK).reference).status == "refused"


def test_calls_that_are_the_task_are_noted():
    source = (
        "def attend(q, k, v, mask=None):\n"
        "    kernel = F.scaled_dot_product_attention\n"
        "    return kernel(q, k, v, mask), kernel(q, k, torch.eye(k.shape[-2]), mask)\n"
    )
    report = review(find_exercise("attention.attend"), from_source(source, "attend"))
    assert report.passed
    assert len(report.advice) == 1
    assert "F.scaled_dot_product_attention, which is the task itself" in report.advice[0]
    assert "scaled_dot_product" in str(report)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(x, y): return F.cross_entropy(x, y)", ["F.cross_entropy"]),
        ("from torch.nn.functional import nll_loss as cost\ndef f(x, y): return cost(x, y)", ["F.nll_loss"]),
        ("def f(x, y): return getattr(F, 'cross_entropy')(x, y)", ["F.cross_entropy"]),
        ("def f(x, y): return torch.nn.CrossEntropyLoss()(x, y)", ["nn.CrossEntropyLoss"]),
        ("def cross_entropy(logits, targets):\n    cross_entropy = 3  # F.cross_entropy\n    return cross_entropy", []),
        ("def f(:", []),
    ],
)
def test_flags_are_read_from_the_syntax_tree(source, found):
    assert flags(find_exercise("prediction.cross_entropy"), source) == found


def test_names_from_other_cells_are_noted():
    source = "def causal_mask(T):\n    return torch.from_numpy(np.triu(np.full((T, T), -np.inf, dtype='float32'), 1))\n"
    space = {"np": np, "torch": torch}
    report = review(find_exercise(MASK), from_source(source, "causal_mask", space))
    assert report.passed
    assert "np from outside its cell" in report.advice[0]
    own = review(find_exercise(MASK), from_source("import numpy as np\n" + source, "causal_mask", space, "<other>"))
    assert own.advice == ()


# --- wrong in ways that have no name ----------------------------------------------------------------------------------


def test_nan_never_passes():
    report = check(MASK, lambda T: torch.full((T, T), math.nan))
    assert (report.status, report.score) == ("incorrect", 0)
    right = lambda T: torch.full((T, T), -math.inf).triu(1)  # noqa: E731
    report = check(MASK, lambda T: right(T).index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(math.nan)))
    assert not report.passed
    assert "NaN" in report.message


def test_shape_and_dtype_are_explained():
    report = check(MASK, lambda T: torch.full((T, T + 1), -math.inf).triu(1))
    assert "the shape is (2, 3) and should be (2, 2)" in report.message
    assert report.score == 0
    report = check(MASK, lambda T: torch.full((T, T), -math.inf, dtype=torch.float64).triu(1))
    assert not report.passed
    assert "the dtype is float64 and should be float32" in report.message
    report = check("attention.scores", lambda q, k: (q @ k.mT / math.sqrt(q.shape[-1])).mT.contiguous().mT[..., None])
    assert "the shape is" in report.message


@pytest.mark.parametrize(
    ("value", "words"),
    [([[0.0]], "a list of 1"), (np.zeros((2, 2)), "a value of type ndarray"), (3, "3 (int)"), ("x", "'x' (str)")],
)
def test_things_that_are_no_tensor_are_named(value, words):
    report = check(MASK, lambda T: value)
    assert (report.status, report.score) == ("incorrect", 0)
    assert words in report.message


def test_changed_inputs_are_found():
    def attend(q, k, v, mask=None):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        weights = (scores if mask is None else scores + mask).softmax(-1)
        output = weights @ v
        if mask is not None:
            mask.masked_fill_(mask == -math.inf, -1e9)
        return output, weights

    report = check("attention.attend", attend)
    assert report.status == "partial"
    assert "your function changed its input mask" in report.message
    labels = dict(report.evidence)
    assert labels["expected"].startswith("mask after the call: (3, 3) float32")
    assert "-1e+09" in labels["seen"]


def test_missing_gradients_are_found():
    report = check("attention.scores", lambda q, k: (q @ k.mT / math.sqrt(q.shape[-1])).detach())
    assert report.status == "partial"
    assert "no gradient arrives at q" in report.message


def test_an_exception_is_an_outcome_with_its_line():
    source = "def causal_mask(T):\n    mask = torch.zeros(T, T)\n    mask[3, 3] = 0  # too far\n    return mask\n"
    report = review(find_exercise(MASK), from_source(source, "causal_mask"))
    assert (report.status, report.score) == ("error", 0)
    assert report.message.startswith("Your answer raised IndexError: index 3 is out of bounds")
    labels = dict(report.evidence)
    assert labels["input"] == "T = 1"
    assert labels["in line"] == "3: mask[3, 3] = 0  # too far"


def test_leaving_python_is_an_outcome_too():
    assert check(MASK, lambda T: sys.exit(0)).status == "error"


def test_two_mistakes_at_once():
    report = check("attention.scores", lambda q, k: k @ q.mT)
    assert report.misconception == "no scaling + keys first"
    assert report.message.startswith("Two things at once. Your scores are the bare dot products.")
    assert "And: Your scores have keys as rows." in report.message


def test_same_numbers_of_another_dtype_show_the_same_mistake():
    assert check(MASK, lambda T: torch.ones(T, T, dtype=torch.int64).tril()).misconception == "ones and zeros"
    assert check(MASK, lambda T: torch.ones(T, T).tril() > 0).misconception == "bool, True is allowed"


def test_properties_give_partial_marks():
    def attend(q, k, v, mask=None):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        weights = (scores if mask is None else scores + mask).softmax(-1)
        return (weights * weights) @ v, weights

    report = check("attention.attend", attend)
    assert report.status == "partial"
    assert report.score == pytest.approx(1.6)
    held = {name: kept for name, kept, _ in report.properties}
    assert held == {
        "each row of weights sums to one": True,
        "the weight is 0 where the mask is -inf": True,
        "what is hidden changes nothing": True,
        "the output is the weights times v": False,
    }
    assert "missed  0.4  the output is the weights times v" in str(report)


def test_random_state_and_threads_are_left_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert check("attention.leaks", lambda attention, T, C: bool(torch.rand(()) < 0.5)).status == "incorrect"
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_same_report_at_every_call():
    def leaks(attention, T, C):
        x = torch.randn(T, C)
        return not torch.equal(attention(x)[: T // 2], attention(x[: T // 2]))

    assert check("attention.leaks", leaks).as_dict() == check("attention.leaks", leaks).as_dict()


def test_expected_values_never_come_from_the_learner():
    report = check(MASK, lambda T: torch.full((T, T), -math.inf).triu(0))
    expected = dict(report.evidence)["expected"]
    assert re.findall(r"\S+", expected.split("float32")[1]) == ["0", "-inf", "0", "0"]


# --- report, hints, progress ------------------------------------------------------------------------------------------


class Balanced(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.styles = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.styles += [value for name, value in attrs if name == "style"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_as_text_and_html():
    report = check(MASK, lambda T: torch.full((T, T), -math.inf).triu(0))
    text = str(report)
    assert text.splitlines()[0] == "attention.causal_mask: partial, 0.5 of 2 points"
    assert "input       T = 2" in text
    assert "expected    mask: (2, 2) float32" in text
    assert "seen        mask: (2, 2) float32" in text
    assert 'check("attention.causal_mask", hint=1)' in text
    page, parser = report._repr_html_(), Balanced()
    parser.feed(page)
    assert parser.open == []
    # Both themes: no colour of our own, neither before nor behind.
    assert not any(
        re.search(r"background(?!:none)|#|rgb|(?<!current)color:(?!inherit)", style.lower()) for style in parser.styles
    )
    for part in ("partial, 0.5 of 2 points", "expected", "seen", 'scope="row"', 'scope="col"', "T = 2"):
        assert part in page


def test_html_shows_what_a_learner_wrote_as_text():
    def causal_mask(T):
        raise ValueError("<script>alert(1)</script>")

    page = check(MASK, causal_mask)._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_report_survives_json():
    report = check(MASK, lambda T: torch.full((T, T), -math.inf).triu(0))
    assert Report.from_dict(json.loads(json.dumps(report.as_dict()))) == report
    assert report.as_grade() == {
        "id": MASK,
        "score": 0.5,
        "max_score": 2,
        "status": "partial",
        "misconception": "hides itself",
        "message": report.message,
    }


def test_hints_come_in_stages():
    for exercise in exercises():
        for stage in (1, 2, 3):
            hint = check(exercise.id, hint=stage)
            assert f"hint {stage} of 3" in str(hint)
            assert exercise.hints[stage - 1] in html.unescape(hint._repr_html_())
            assert (f"hint={stage + 1}" in str(hint)) == (stage < 3)
    for stage in (0, 4, True, "1"):
        with pytest.raises(ValueError, match=r"has hints 1 to 3"):
            check(MASK, hint=stage)


def test_progress_shows_what_was_checked():
    total = sum(exercise.points for exercise in exercises())
    minutes = sum(exercise.minutes for exercise in exercises())
    n = len(exercises())
    assert progress().summary == f"0 of {n} exercises solved, 0 of {total} points, about {minutes} minutes left"
    check(MASK, lambda T: torch.full((T, T), -math.inf).triu(1))
    check("attention.scores", lambda q, k: q @ k.mT)
    check("attention.attend", lambda *_: None)
    text, page = str(progress()), progress()._repr_html_()
    assert text.startswith(f"1 of {n} exercises solved, 3 of {total} points, about {minutes - 5} minutes left")
    assert re.search(r"attention +3 of 12 +32 min +■ causal_mask  ◧ scores  □ attend  □ leaks", text)
    assert len(text.splitlines()) == 4 + len({exercise.lesson for exercise in exercises()})
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert 'scope="col"' in page
    assert "causal_mask: solved, scores: begun (50 %), attend: not yet" in page
    assert page.count("<title>") == n  # a box for each in the picture
    assert f'role="img" aria-label="{progress().summary}"' in page
    assert not re.search(r"#[0-9a-f]{3}|rgb", page)


def test_progress_keeps_the_best():
    check(MASK, lambda T: torch.full((T, T), -math.inf).triu(1))
    check(MASK, lambda T: torch.zeros(T, T))
    assert progress().summary.startswith("1 of")


class Kernel:
    """What IPython's shell looks like in a notebook, as far as anybody asks."""

    kernel = object()
    user_ns: ClassVar = {}

    @staticmethod
    def get_ipython():
        return Kernel()


def test_progress_in_one_notebook_is_known_in_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "IPython", Kernel)
    monkeypatch.delenv("GPTLIB_BUILD", raising=False)
    check(MASK, lambda T: torch.full((T, T), -math.inf).triu(1))
    monkeypatch.setattr(standing, "_seen", {})  # another kernel, another lesson
    check("attention.scores", lambda q, k: q @ k.mT)
    monkeypatch.setattr(standing, "_seen", {})
    assert re.search(r"attention +3 of 12", str(progress()))
    monkeypatch.setenv("GPTLIB_BUILD", "1")  # the course's own notebooks show no one's progress
    assert progress().summary.startswith("0 of")


@pytest.mark.parametrize("text", ["{", "[]", '{"attention.scores": 3}', '{"attention.scores": ["done", 1]}', "\x00"])
def test_a_broken_progress_file_is_passed_over(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "IPython", Kernel)
    monkeypatch.delenv("GPTLIB_BUILD", raising=False)
    (tmp_path / standing.FILE).write_text(text)
    assert progress().summary.startswith("0 of")
    check(MASK, lambda T: torch.full((T, T), -math.inf).triu(1))
    assert progress().summary.startswith("1 of")


def test_outside_a_notebook_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(MASK, lambda T: torch.full((T, T), -math.inf).triu(1))
    assert list(tmp_path.iterdir()) == []


# --- comparing --------------------------------------------------------------------------------------------------------


def test_agreement_is_exact_about_infinities_and_strict_about_nan():
    expected = torch.tensor([0.0, -math.inf, 2.0])
    assert agrees(expected.clone(), expected, 1e-5)
    for value in (-1e30, math.inf, math.nan, 0.0):
        assert not agrees(torch.tensor([0.0, value, 2.0]), expected, 1e-5)
    assert not agrees(torch.tensor([math.nan, -math.inf, 2.0]), expected, math.inf)
    assert not agrees(torch.tensor([-math.inf, -math.inf, 2.0]), expected, 1e-5)
    assert agrees(expected + 5e-6, expected, 1e-5)
    assert not agrees(expected + 5e-5, expected, 1e-5)
    assert not agrees(expected.double(), expected, 1e-5)
    assert not agrees(expected[None], expected, 1e-5)
    assert not agrees(Odd("None"), expected, 1e-5)


def test_differences_say_where():
    expected = torch.zeros(2, 3)
    seen = expected.clone()
    seen[1, 2] = 0.5
    assert difference("x", seen, expected, 1e-5) == "x: the numbers differ by up to 0.5, most at [1, 2]."
    seen[0, 1] = -math.inf
    assert difference("x", seen, expected, 1e-5) == "x: at [0, 1] stands -inf where 0 was expected."
    assert "the last two dimensions are exchanged" in difference("x", torch.zeros(3, 2), expected, 1e-5)


def test_large_arrays_are_shown_in_part():
    wide = torch.arange(4 * 20 * 30, dtype=torch.float32).reshape(4, 20, 30)
    other = wide.clone()
    other[2, 5, 5] = 0
    lines = show(wide, other).splitlines()
    assert lines[0] == "(4, 20, 30) float32, of which [2]"
    assert len(lines) <= 8
    assert all(len(line) < 100 for line in lines)
    assert show(torch.tensor(True)) == "True"
    assert show(torch.empty(0)) == "(0,) float32"


def test_probe_gives_copies_and_names_exceptions():
    given = {"q": torch.ones(2)}
    outcome = run(lambda answer, given: {"x": answer(given["q"])}, lambda q: 1 / 0, given)
    assert isinstance(outcome, Raised)
    assert (outcome.type, outcome.message) == ("ZeroDivisionError", "division by zero")


def test_a_probe_can_be_imported_without_the_answers():
    code = "import sys, gptlib.checks.probing\nprint(sorted(m for m in sys.modules if m.startswith('gptlib')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gptlib', 'gptlib.checks', 'gptlib.checks.probing']"
