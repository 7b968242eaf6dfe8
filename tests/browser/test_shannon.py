"""Shannon's game in Chromium, played by keyboard."""

import math

import pytest

from gptlib.widgets import ShannonGame
from gptlib.widgets.shannon import Passage

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror='hacked=1'>"


@pytest.fixture
def game():
    first = Passage(("A ", "fox", " saw a ", "hen", "."), (1, 3), {"model": [0.5, 1.5], "the world": [0.25, 0.0]})
    second = Passage((NASTY, "dog", " ran"), (1,), {"model": [2.0], "the world": [1.0]})
    return ShannonGame([first, second], ["fox", "hen", "dog", "cat", "owl"])


def play(page, *guesses):
    for word, percent in guesses:
        page.keyboard.type(word)
        page.keyboard.press("Tab")
        page.keyboard.type(str(percent))
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")


def text(page):
    return page.locator(".gl-text").inner_text()


def test_a_whole_game_by_keyboard(mounted, game, artefacts):
    page = mounted(game)
    assert text(page) == "A _____"
    page.locator(".gl-guess input").first.focus()
    play(page, ("Fox", 50), ("dog", 20))
    assert "It was “fox”. You paid 0.69 nats; model 0.50, the world 0.25." in page.locator(".gl-verdict").inner_text()
    assert page.evaluate("sent") == [{"answer": {"passage": 0, "question": 0, "guesses": [["Fox", 0.5], ["dog", 0.2]]}}]
    page.keyboard.press("Enter")  # the button to go on has the focus
    assert text(page) == "A fox saw a _____"
    play(page, ("cat", 40))
    page.keyboard.press("Enter")
    assert "Passage 2 of 2, word 1 of 1" in page.locator("#view").inner_text()
    assert text(page).startswith("<img src=x")  # shown, not run
    assert page.evaluate("window.hacked") is None
    page.keyboard.press("Enter")  # no idea
    page.keyboard.press("Enter")
    assert "That was the last word." in page.locator("#view").inner_text()
    rows = page.locator(".gl-board").first.locator("tr").all_inner_texts()
    you = (-math.log(0.5) - math.log(0.15) + math.log(5)) / 3
    assert [[cell.strip() for cell in row.split("\t")] for row in rows] == [
        ["you", "", f"{you:.2f}"],
        ["model", "", f"{4 / 3:.2f}"],
        ["the world", "", f"{1.25 / 3:.2f}"],
    ]
    meant = page.locator(".gl-board").nth(1).locator("tbody tr").all_inner_texts()
    assert [row.split("\t") for row in meant] == [["20 %", "0 %", "1"], ["40 %", "0 %", "1"], ["50 %", "100 %", "1"]]
    page.screenshot(path=artefacts / "shannon-end.png")
    page.get_by_role("button", name="Start over").click()
    assert text(page) == "A _____"
    assert page.evaluate("sent.at(-1)") == {"reset": True}


def test_what_cannot_be_is_said_and_not_scored(mounted, game):
    page = mounted(game)
    page.locator(".gl-guess input").first.focus()
    play(page, ("fox", 80), ("dog", 40))
    assert "take 120 %" in page.get_by_role("alert").last.inner_text()
    assert page.evaluate("sent") == []
    assert text(page) == "A _____"


def test_the_rest_is_told_while_typing(mounted, game):
    page = mounted(game)
    page.locator(".gl-guess input").first.focus()
    page.keyboard.type("fox")
    page.keyboard.press("Tab")
    page.keyboard.type("30")
    assert page.locator(".gl-rest").inner_text() == "70 % left over, shared by the other 4 words"


def test_answers_that_the_kernel_kept_are_there_again(mounted, game):
    game.answers = [{"passage": 0, "question": 0, "guesses": [["fox", 0.5]]}]
    page = mounted(game)
    assert text(page) == "A fox saw a _____"
    assert "0.69" in page.locator(".gl-board").first.inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 900), ("dark", 900), ("light", 320)])
def test_it_fits_and_looks_as_it_should(mounted, game, artefacts, scheme, width):
    page = mounted(game, width=width, scheme=scheme)
    page.locator(".gl-guess input").first.focus()
    play(page, ("fox", 50), ("dog", 20))
    page.screenshot(path=artefacts / f"shannon-{scheme}-{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    focusable = page.locator("#view :is(button, input, [tabindex])")
    assert focusable.evaluate_all("nodes => nodes.every((n) => n.dataset.lmSuppressShortcuts === 'true')")
