# %% [markdown] name="title"
# # Exercises 00: what is predicted
#
# {{badge}}
#
# One function, three lines long, to see how exercises work here. About 3 minutes. Know first: lists and slices in
# Python.
#
# Write your answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Try it once with a wrong
# answer, on purpose. Hints come in three stages.

# %% name="imports" gptlib={"role": "imports"}
from gptlib import check

# %% [markdown] name="about_shift_by_one"
# ## 1. What is predicted
#
# *3 minutes, 1 point.*
#
# A GPT reads a text and, at **every** position, predicts the token that comes next. To train it one needs, for each
# position, what it reads there (the input) and what it should say (the target). Both come from the same text: no one
# has to write the answers by hand.
#
# Write `shift_by_one(ids)`:
#
# - `ids` is a list of token ids, at least two of them.
# - It returns two lists, `(inputs, targets)`, both one shorter than `ids`: the target at each place is the id that
#   follows the input at the same place.
# - It leaves `ids` as it is.
#
# For example `shift_by_one([5, 6, 7, 8])` is `([5, 6, 7], [6, 7, 8])`: after 5 comes 6, after 6 comes 7, after 7
# comes 8. What comes after 8 nobody knows, so 8 is a target and not an input.


# %% name="shift_by_one" gptlib={"role": "answer", "exercise": "welcome.shift_by_one", "points": 1}
def shift_by_one(ids):
    """Return what a model reads and what it should predict.

    ids: a list of token ids, at least two.
    Returns two lists, inputs and targets, each one shorter than ids.
    """
    # answer
    inputs = ids[:-1]
    targets = ids[1:]
    return inputs, targets
    # end answer


# %% name="check_shift_by_one" gptlib={"role": "check", "exercise": "welcome.shift_by_one"}
check("welcome.shift_by_one")

# %% [markdown] name="after_shift_by_one"
# Stuck? `check("welcome.shift_by_one", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="built"
# ## What you built
#
# This is how every batch that a GPT is trained on is made: a stretch of text, and the same stretch moved by one. A text
# of a thousand tokens gives 999 questions with their answers. The next cell shows where you stand over all exercises.

# %% name="progress"
from gptlib.checks import progress

progress()
