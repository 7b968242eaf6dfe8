"""Sentences with measured numbers in them."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlib.prose import near, reveal, say

NUMBERS = st.floats(-1e6, 1e6)


def said(capsys: pytest.CaptureFixture[str], template: str, **numbers: Any) -> str:
    say(template, **numbers)
    return capsys.readouterr().out


def test_numbers_of_every_kind_are_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    template = "{a:.2f} {b:,} {c:.1%} {d:.3f} {e} {{as it is}}"
    text = said(capsys, template, a=torch.tensor(1.005), b=124439808, c=np.float32(0.5), d=2.0, e="mat")
    assert text == "1.00 124,439,808 50.0% 2.000 mat {as it is}\n"


def test_attributes_and_items_are_fields_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "{shape[0]} {z.real}", shape=(3, 4), z=1.5) == "3 1.5\n"


@pytest.mark.parametrize(
    ("template", "numbers", "sentence"),
    [
        ("{loss:.2f}", {}, r"the text has the field \{loss\} and no number for it; pass loss="),
        ("no field", {"loss": 1.0}, r"the text has no field for loss; write \{loss\}"),
        ("{}", {}, "no number for it; pass name="),
    ],
)
@pytest.mark.parametrize("speak", [say, lambda text, **numbers: reveal(text, question="?", **numbers)])
def test_a_field_without_a_number_and_a_number_without_a_field_are_refused(
    speak: Any, template: str, numbers: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        speak(template, **numbers)


@given(expected=NUMBERS, within=st.floats(0, 1e3), share=st.floats(-3, 3))
def test_near_holds_exactly_within_its_tolerance(expected: float, within: float, share: float) -> None:
    value = expected + share * within
    assert near(value, expected, within).holds == (abs(value - expected) <= within)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_near_never_holds_for_what_is_no_number(value: float) -> None:
    assert not near(value, 1.0, 1e9).holds


@pytest.mark.parametrize("within", [-0.1, math.nan])
def test_a_tolerance_below_zero_is_refused(within: float) -> None:
    with pytest.raises(ValueError, match=f"within={within} is below 0"):
        near(1, 1, within)


def test_a_number_that_holds_reads_as_usual_and_another_one_names_what_the_course_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPTLIB_BUILD", raising=False)
    assert said(capsys, "{x:.2f} nats", x=near(torch.tensor(1.9), 1.88, 0.05)) == "1.90 nats\n"
    assert said(capsys, "{x:.2f} nats", x=near(2.0, 1.88, 0.05)) == "2.00 (the course measured 1.88) nats\n"


@pytest.mark.parametrize("speak", [say, lambda text, **numbers: reveal(text, question="?", **numbers)])
def test_while_the_course_is_built_a_number_outside_its_tolerance_raises_with_its_name(
    speak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTLIB_BUILD", "1")
    speak("{loss:.2f}", loss=near(1.9, 1.88, 0.05))
    with pytest.raises(AssertionError, match=r"loss = 2 is not within 0.05 of 1.88"):
        speak("{loss:.2f}", loss=near(2.0, 1.88, 0.05))


def test_outside_a_notebook_question_and_answer_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    reveal("About {x:.1f}.", question="How many?", x=2.345)
    assert capsys.readouterr().out == "How many?\nAbout 2.3.\n"


class Shell:
    """What IPython gives a notebook, as far as prose looks at it."""

    kernel = object()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Pretend to be in a notebook and collect what is displayed."""
    import IPython

    collected: list[dict[str, str]] = []
    monkeypatch.setattr(IPython, "get_ipython", Shell)
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: collected.append(data))
    return collected


def test_in_a_notebook_a_sentence_is_markdown_with_the_same_words_as_plain_text(shown: list[dict[str, str]]) -> None:
    say("The *loss* is {x:.2f}.", x=1.0)
    assert shown == [{"text/markdown": "The *loss* is 1.00.", "text/plain": "The *loss* is 1.00."}]


def test_in_a_notebook_an_answer_is_folded_away_under_its_question(shown: list[dict[str, str]]) -> None:
    reveal("It is **{x}**.", question="What is it?", x=3)
    (data,) = shown
    assert data["text/markdown"] == "<details>\n<summary>What is it?</summary>\n\nIt is **3**.\n\n</details>"
    assert data["text/plain"] == "What is it?\nIt is **3**."


def test_prose_needs_neither_torch_nor_ipython() -> None:
    code = "import sys, gptlib; gptlib.say('{x}', x=1); print('torch' in sys.modules, 'IPython' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "1\nFalse False\n"
