# %% [markdown] name="title"
# # Exercises 04: many heads
#
# {{badge}}
#
# Three functions: cut the features into heads, put them together again, and between the two, attention with many heads.
# About 25 minutes. Know first: lesson 04, and the exercises of lesson 03.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math`, `torch` and `F` from the first cell, and whatever the cell
# itself defines. (So the third answer cannot call the first two; copy what you need into the cell.)

# %% name="imports" gptlib={"role": "imports"}
import math

import torch
import torch.nn.functional as F

from gptlib import check

# %% [markdown] name="about_split"
# ## 1. Cut the features into heads
#
# *6 minutes, 2 points.*
#
# With $H$ heads, each works on its own $D = C / H$ of the $C$ features: head 0 on the first $D$, head 1 on the next $D$,
# and so on. To compute all heads at once, the heads become a dimension of their own, in front of the positions.
#
# Write `split(x, n_head)`:
#
# - `x` is `(B, T, C)`, and `C` is a multiple of `n_head`.
# - It returns `(B, H, T, D)` with `H = n_head` and `D = C // n_head`: at `[b, h, t]` stand the features `h * D` to
#   `(h + 1) * D - 1` of `x[b, t]`.
# - It leaves `x` as it is, and gradients flow back to it. Whether the result shares memory with `x` is up to you.
#
# For example, with `x = torch.tensor([[[1., 2., 3., 4.], [5., 6., 7., 8.]]])`, that is `B = 1`, `T = 2`, `C = 4`, and
# two heads, head 0 is `[[1., 2.], [5., 6.]]` and head 1 is `[[3., 4.], [7., 8.]]`.


# %% name="split" gptlib={"role": "answer", "exercise": "heads.split", "points": 2}
def split(x, n_head):
    """Cut the features into heads.

    x: (B, T, C).    n_head: H, the number of heads; C is a multiple of it.
    Returns (B, H, T, C / H).
    """
    # answer
    B, T, C = x.shape
    heads = x.view(B, T, n_head, C // n_head)  # (B, T, H, D)
    return heads.transpose(1, 2)  # (B, H, T, D)
    # end answer


# %% name="check_split" gptlib={"role": "check", "exercise": "heads.split"}
check("heads.split")

# %% [markdown] name="after_split"
# Stuck? `check("heads.split", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_merge"
# ## 2. Put the heads together
#
# *5 minutes, 2 points.*
#
# After attention, each position has $H$ results of $D$ features. Put side by side, they are $C$ features again.
#
# Write `merge(heads)`, which undoes `split`:
#
# - `heads` is `(B, H, T, D)`.
# - It returns `(B, T, C)` with `C = H * D`: the features of head 0 first, then those of head 1, and so on.
# - It leaves `heads` as it is, and gradients flow back to it.
#
# For example, for the two heads above `merge` gives back `[[[1., 2., 3., 4.], [5., 6., 7., 8.]]]`.


# %% name="merge" gptlib={"role": "answer", "exercise": "heads.merge", "points": 2}
def merge(heads):
    """Put the heads side by side.

    heads: (B, H, T, D).
    Returns (B, T, H * D).
    """
    # answer
    B, H, T, D = heads.shape
    return heads.transpose(1, 2).reshape(B, T, H * D)  # (B, T, H, D) -> (B, T, C)
    # end answer


# %% name="check_merge" gptlib={"role": "check", "exercise": "heads.merge"}
check("heads.merge")

# %% [markdown] name="after_merge"
# Hints: `check("heads.merge", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_multi_head"
# ## 3. Attention with many heads
#
# *15 minutes, 4 points.*
#
# The whole layer, as it stands in every block of a GPT:
#
# 1. `q = x @ w_q`, `k = x @ w_k`, `v = x @ w_v`.
# 2. Cut each of them into heads.
# 3. In every head, causal attention: scores divided by $\sqrt{D}$, where $D = C / H$ is the length of a head's
#    queries and keys; $-\infty$ where the key is later than the query; softmax over the keys; mix the values.
# 4. Put the heads together: `(B, T, C)`.
# 5. Multiply by `w_o`, which mixes what the heads found.
#
# Write `multi_head(x, w_q, w_k, w_v, w_o, n_head)`:
#
# - `x` is `(B, T, C)`. The four matrices are `(C, C)` and are multiplied from the right as they are, not transposed like
#   those of the lesson. There are no biases. `C` is a multiple of `n_head`.
# - It returns `(B, T, C)`. Row $t$ depends on the rows of `x` up to $t$ and on no later one.
# - It leaves its inputs as they are, and gradients flow back to `x` and to the four matrices.
# - Do the attention yourself, without `F.scaled_dot_product_attention` and `nn.MultiheadAttention`.
#
# For example, when `w_q` is all zeros, every score is 0 and each position attends equally to itself and all before it.
# With identity matrices for `w_v` and `w_o`, the output at position $t$ is then the mean of `x` over the positions 0 to
# $t$, in whatever number of heads.


# %% name="multi_head" gptlib={"role": "answer", "exercise": "heads.multi_head", "points": 4}
def multi_head(x, w_q, w_k, w_v, w_o, n_head):
    """Causal attention with several heads.

    x: (B, T, C).    w_q, w_k, w_v, w_o: (C, C), multiplied from the right.    n_head: H; C is a multiple of it.
    Returns (B, T, C).
    """
    # answer
    B, T, C = x.shape
    D = C // n_head

    def split(y):
        return y.view(B, T, n_head, D).transpose(1, 2)  # (B, T, C) -> (B, H, T, D)

    q, k, v = split(x @ w_q), split(x @ w_k), split(x @ w_v)  # (B, H, T, D)
    mask = torch.full((T, T), -math.inf).triu(1)  # (T, T)
    scores = q @ k.transpose(-2, -1) / math.sqrt(D) + mask  # (B, H, T, T)
    heads = F.softmax(scores, dim=-1) @ v  # (B, H, T, D)
    return heads.transpose(1, 2).reshape(B, T, C) @ w_o  # (B, T, C)
    # end answer


# %% name="check_multi_head" gptlib={"role": "check", "exercise": "heads.multi_head"}
check("heads.multi_head")

# %% [markdown] name="after_multi_head"
# Hints: `check("heads.multi_head", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# The attention layer of GPT-2, but for its biases and dropout. The library's own is `CausalSelfAttention` in
# `gptlib/attention.py`, with `split_heads` and `merge_heads` beside it; it keeps `w_q`, `w_k` and `w_v` in one matrix, so
# that one product makes all three. See where you stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
