# %% [markdown] name="title"
# # Exercises 10: reading attention
#
# {{badge}}
#
# Three functions: how widely a head looks, how much it gives to the token before, and what a layer adds when some of its heads are gone.
# About 25 minutes. Know first: lesson 10, and the exercises of lesson 04.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `torch` from the first cell, and whatever the cell itself imports
# or defines.

# %% name="imports" gptlib={"role": "imports"}
import torch

from gptlib import check

# %% [markdown] name="about_entropy"
# ## 1. How widely a head looks
#
# *8 minutes, 2 points.*
#
# A row of attention is a probability distribution over keys, and its **entropy** says over how many it is spread: $-\sum_s w_s \ln w_s$. It is
# 0 when all weight lies on one key, and $\ln n$ when $n$ keys have the same.
#
# Write `entropy(weights)`:
#
# - `weights` is `(B, H, T, T)`: for each of `B` texts and each of `H` heads of one layer a causal map, whose rows look and whose columns are
#   looked at. Each row sums to 1; a weight may be exactly 0. `T` is at least 2.
# - It returns `(H,)`: for each head the mean entropy of its rows, over all texts and over the rows from 1 on. Row 0 sees only itself and has no choice,
#   so it counts nowhere.
# - Entropies are in nats, and a weight of 0 adds 0: $w \ln w$ goes to 0 with $w$.
# - It leaves `weights` as it is.
#
# For example, with `weights = torch.tensor([[[[1., 0.], [0.5, 0.5]]]])`, that is one text, one head and two tokens, only row 1 counts, and the
# result is `[0.6931]`, which is ln 2.


# %% name="entropy" gptlib={"role": "answer", "exercise": "reading.entropy", "points": 2}
def entropy(weights):
    """Mean entropy of each head's rows, in nats.

    weights: (B, H, T, T), causal; each row sums to 1.
    Returns (H,): the mean over texts and over the rows from 1 on.
    """
    # answer
    rows = -torch.xlogy(weights, weights).sum(dim=-1)  # (B, H, T)
    return rows[:, :, 1:].mean(dim=(0, 2))  # (H,)
    # end answer


# %% name="check_entropy" gptlib={"role": "check", "exercise": "reading.entropy"}
check("reading.entropy")

# %% [markdown] name="after_entropy"
# Stuck? `check("reading.entropy", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_previous_token"
# ## 2. One token back
#
# *6 minutes, 2 points.*
#
# Many models have a head that looks one token back, nearly always. The score that finds it is the mean weight that row $t$ gives to column $t - 1$.
#
# Write `previous_token(weights)`:
#
# - `weights` is `(B, H, T, T)`, as above. But the map need not be causal: in a model that reads both ways, weights stand above the diagonal too, and the
#   score is the same.
# - It returns `(H,)`: for each head the mean of that weight over all texts and over the rows from 1 on. Row 0 has no token before it and counts nowhere.
# - It leaves `weights` as it is.
#
# For example, for the map of one head `[[1., 0., 0.], [0.8, 0.2, 0.], [0.1, 0.6, 0.3]]` the score is the mean of 0.8 and 0.6, which is 0.7.


# %% name="previous_token" gptlib={"role": "answer", "exercise": "reading.previous_token", "points": 2}
def previous_token(weights):
    """Mean weight that each head gives to the token just before.

    weights: (B, H, T, T), rows look, columns are looked at; each row sums to 1.
    Returns (H,): the mean over texts and over the rows from 1 on.
    """
    # answer
    before = weights.diagonal(offset=-1, dim1=-2, dim2=-1)  # (B, H, T - 1)
    return before.mean(dim=(0, 2))  # (H,)
    # end answer


# %% name="check_previous_token" gptlib={"role": "check", "exercise": "reading.previous_token"}
check("reading.previous_token")

# %% [markdown] name="after_previous_token"
# Hints: `check("reading.previous_token", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_ablate"
# ## 3. Take a head away
#
# *12 minutes, 4 points.*
#
# What a head is worth shows when it is gone. After attention, a layer holds for each head what it brought, `heads`; it merges them and multiplies by
# `w_o`, as in set 04. To ablate a head is to put something else in its place before that, and to leave all the rest alone.
#
# Write `ablate(heads, w_o, gone, source=None)`:
#
# - `heads` is `(B, H, T, D)`: what each head brought.
# - `w_o` is `(H * D, C)` and is multiplied from the right. The features of head 0 come first, then those of head 1, and so on.
# - `gone` is a list of heads, counted from 0. It may be empty; then the result is the whole layer's.
# - Without a `source`, a head in `gone` is replaced by zeros.
# - With a `source`, which is `(N, H, S, D)` and holds what the same heads brought on other texts, it is replaced by its own mean there, over all `N` texts and
#   all `S` positions: `D` numbers, the same at every position.
# - It returns `(B, T, C)`: what the layer then adds.
# - It leaves its inputs as they are.
#
# For example, with one text, two heads, one token and `D = 1`: for `heads` holding 3 and 5, and `w_o = [[1.], [10.]]`, the whole layer adds 53. With
# `gone = [1]` it adds 3. With a `source` in which head 1 brings 2 on average, it adds 23.


# %% name="ablate" gptlib={"role": "answer", "exercise": "reading.ablate", "points": 4}
def ablate(heads, w_o, gone, source=None):
    """What a layer adds when some of its heads are gone.

    heads: (B, H, T, D).    w_o: (H * D, C).    gone: a list of heads.    source: (N, H, S, D) of other texts, or None.
    Returns (B, T, C).
    """
    # answer
    B, H, T, D = heads.shape
    changed = heads.clone()
    if source is None:
        changed[:, gone] = 0
    else:
        changed[:, gone] = source[:, gone].mean(dim=(0, 2), keepdim=True)  # (1, heads that are gone, 1, D)
    return changed.transpose(1, 2).reshape(B, T, H * D) @ w_o  # (B, T, H · D) @ (H · D, C) -> (B, T, C)
    # end answer


# %% name="check_ablate" gptlib={"role": "check", "exercise": "reading.ablate"}
check("reading.ablate")

# %% [markdown] name="after_ablate"
# Hints: `check("reading.ablate", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# Two of the scores of `head_scores`, and what `ablate_heads` does to a model while it runs; both are in `gptlib/interpret/`. See where you stand
# over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
