# %% [markdown] name="title"
# # Exercises 03: attention
#
# {{badge}}
#
# Four functions: the mask that hides the future, the scores, attention itself, and the test that catches attention when
# it looks ahead. About 40 minutes. Know first: lesson 03, and matrix products in PyTorch (`@`, `transpose`).
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math`, `torch` and `F` from the first cell, and whatever the cell
# itself defines. (That is why the third exercise does not call your answer to the second.)

# %% name="imports" gptlib={"role": "imports"}
import math

import torch
import torch.nn.functional as F

from gptlib import check

# %% [markdown] name="about_causal_mask"
# ## 1. Hide the future
#
# *5 minutes, 2 points.*
#
# In a GPT, position $t$ predicts token $t + 1$, so it must not look at it. The mask that sees to this is a matrix that
# is **added to the scores before the softmax**. Row $t$ is the position that looks, column $s$ the position it looks
# at.
#
# Write `causal_mask(T)`. It returns a tensor of shape `(T, T)` and dtype `float32`:
#
# - 0 where $s \le t$: the past, and the position itself,
# - $-\infty$ where $s > t$: the future.
#
# For example `causal_mask(3)` is
#
# ```
# [[0., -inf, -inf],
#  [0.,   0., -inf],
#  [0.,   0.,   0.]]
# ```
#
# Adding 0 changes nothing; adding $-\infty$ leaves a weight of $e^{-\infty} = 0$, whatever the score was.


# %% name="causal_mask" gptlib={"role": "answer", "exercise": "attention.causal_mask", "points": 2}
def causal_mask(T):
    """Return the mask that is added to scores.

    T: the number of positions, at least 1.
    Returns (T, T) float32: 0 on and below the diagonal, -inf above it.
    """
    # answer
    return torch.full((T, T), -math.inf).triu(1)  # (T, T)
    # end answer


# %% name="check_causal_mask" gptlib={"role": "check", "exercise": "attention.causal_mask"}
check("attention.causal_mask")

# %% [markdown] name="after_causal_mask"
# Stuck? `check("attention.causal_mask", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_scores"
# ## 2. How well a query matches a key
#
# *5 minutes, 2 points.*
#
# The score of query $t$ and key $s$ is their dot product, divided by the square root of their length $D$:
#
# $$\text{scores}_{ts} = \frac{q_t \cdot k_s}{\sqrt{D}}$$
#
# A dot product of $D$ independent numbers with variance 1 has variance $D$. The division brings it back to 1; without
# it, the softmax saturates as $D$ grows (Vaswani et al. 2017, section 3.2.1).
#
# Write `scores(q, k)`:
#
# - `q` has shape `(…, T, D)` and `k` has shape `(…, S, D)`; the leading dimensions `…` are the same and there may be
#   none, one or more. `T` and `S` may differ.
# - It returns `(…, T, S)`: row $t$ belongs to query $t$.
# - It leaves `q` and `k` as they are, and gradients flow back to both.
#
# For example, with `q = torch.tensor([[2., 0., 0., 0.]])` and `k = torch.tensor([[1., 1., 1., 1.], [3., 0., 0., 0.]])`
# the dot products are 2 and 6, $\sqrt{D}$ is 2, and the result is `[[1., 3.]]`.


# %% name="scores" gptlib={"role": "answer", "exercise": "attention.scores", "points": 2}
def scores(q, k):
    """Return the scaled dot products of queries and keys.

    q: (…, T, D) queries.    k: (…, S, D) keys.
    Returns (…, T, S).
    """
    # answer
    D = q.shape[-1]
    return q @ k.transpose(-2, -1) / math.sqrt(D)  # (…, T, S)
    # end answer


# %% name="check_scores" gptlib={"role": "check", "exercise": "attention.scores"}
check("attention.scores")

# %% [markdown] name="after_scores"
# Hints: `check("attention.scores", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_attend"
# ## 3. Attention, whole
#
# *12 minutes, 4 points.*
#
# Four steps: scores, mask, softmax over the keys, and the mixture of the values.
#
# $$\text{weights} = \text{softmax}\left(\frac{q k^\top}{\sqrt{D}} + \text{mask}\right) \qquad \text{output} = \text{weights} \cdot v$$
#
# Write `attend(q, k, v, mask=None)`:
#
# - `q` is `(…, T, D)`, `k` is `(…, S, D)`, `v` is `(…, S, Dv)`, with the same leading dimensions. `T`, `S`, `D` and
#   `Dv` may all differ.
# - `mask` is added to the scores and broadcasts to `(…, T, S)`. Most often it is 0 and $-\infty$, but its finite
#   numbers count too. `None` means that everything may be seen. No row is hidden entirely.
# - It returns the pair `(output, weights)`: `(…, T, Dv)` and `(…, T, S)`.
# - Each row of `weights` sums to one, also when scores are in the hundreds: `exp(100)` overflows in float32, and
#   `F.softmax` does not.
# - It leaves its inputs as they are, and gradients flow back to `q`, `k` and `v`.
#
# For example, with `q = torch.zeros(2, 4)`, any `k` of shape `(2, 4)`, `v = torch.tensor([[1.], [3.]])` and a causal
# mask, all scores are 0. Row 0 sees only itself, row 1 both equally: the weights are `[[1., 0.], [0.5, 0.5]]`, the
# output `[[1.], [2.]]`.


# %% name="attend" gptlib={"role": "answer", "exercise": "attention.attend", "points": 4}
def attend(q, k, v, mask=None):
    """Mix the values by how well each query matches the keys.

    q: (…, T, D) queries.    k: (…, S, D) keys.    v: (…, S, Dv) values.
    mask: added to the scores, broadcasts to (…, T, S); None hides nothing.
    Returns output (…, T, Dv) and weights (…, T, S).
    """
    # answer
    D = q.shape[-1]
    scores = q @ k.transpose(-2, -1) / math.sqrt(D)  # (…, T, S)
    if mask is not None:
        scores = scores + mask
    weights = F.softmax(scores, dim=-1)  # (…, T, S), rows sum to one
    return weights @ v, weights  # (…, T, Dv), (…, T, S)
    # end answer


# %% name="check_attend" gptlib={"role": "check", "exercise": "attention.attend"}
check("attention.attend")

# %% [markdown] name="after_attend"
# Hints: `check("attention.attend", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_leaks"
# ## 4. Write the test that finds the leak
#
# *15 minutes, 4 points.*
#
# Now the tables are turned: you write the test, and it must catch wrong attention. You get a function `attention`, and
# you cannot see inside. Does what it says at position $t$ depend on anything after $t$? A model that leaks in this way
# has a wonderful training loss and writes nonsense, and no shape is wrong anywhere.
#
# Write `leaks(attention, T, C)`:
#
# - `attention(x)` takes a float32 tensor `x` of shape `(t, C)`, with any `t` from 1 to `T`, and returns a tensor of the
#   same shape. It is deterministic and differentiable, and does not change `x`.
# - `T` is at least 5. Return `True` when some output row depends on a later row of `x`, otherwise `False`.
# - Row $t$ may depend on row $t$ and on every row before it; that is no leak.
# - Some leaks are narrow: a single position sees its neighbour, and all other rows are as they should be.
# - Some leaks show only with large numbers: what is hidden behind a finite mask value comes through when the scores are
#   large. Try inputs near 1 (`torch.randn(T, C)`) and near 100 (a hundred times that).
# - Rounding is no leak: treat differences up to `1e-5` times the size of the inputs as none. (The lesson compared with
#   exactly 0. That is right for two runs of equal shape; a run on a shorter text, say, may round differently.)
#
# Your test is tried on attentions that leak in different ways, and on some that do not. For example, when `attention`
# is `lambda x: x.flip(0)`, the first row is the last row of `x`: `True`. When it is `lambda x: x.cumsum(0)`, each row
# is the sum of the rows up to it: `False`.


# %% name="leaks" gptlib={"role": "answer", "exercise": "attention.leaks", "points": 4}
def leaks(attention, T, C):
    """Say whether an attention lets a position see a later one.

    attention: a function from x (t, C), t up to T, to a tensor of the same shape.
    T: the number of positions, at least 5.    C: the number of channels.
    Returns True when it leaks, False when it does not.
    """
    # answer
    for size in (1.0, 100.0):
        x = size * torch.randn(T, C)
        before = attention(x)  # (T, C)
        for t in range(1, T):
            changed = x.clone()
            changed[t:] = size * torch.randn(T - t, C)  # another future from t on
            difference = (attention(changed) - before)[:t].abs().max()
            if difference > 1e-5 * size:
                return True
    return False
    # end answer


# %% name="check_leaks" gptlib={"role": "check", "exercise": "attention.leaks"}
check("attention.leaks")

# %% [markdown] name="after_leaks"
# Hints: `check("attention.leaks", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# The whole of attention, in three functions, and the test by which any causal model can be held to its word. The
# library's own version is `gptlib/attention.py`: its plain form should look familiar, and its fused form gives the same
# numbers faster. Your fourth function works on that one as well. See where you stand over all exercises with the next
# cell.

# %% name="progress"
from gptlib.checks import progress

progress()
