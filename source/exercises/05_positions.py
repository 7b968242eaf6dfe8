# %% [markdown] name="title"
# # Exercises 05: positions
#
# {{badge}}
#
# Three functions: a vector of waves for each position, the turn that rotary positions give to queries and keys, and the
# positions themselves where a batch has padding and a part of it was read before. About 37 minutes. Know first: lesson 05.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `torch` from the first cell, and whatever the cell itself
# defines or imports.

# %% name="imports" gptlib={"role": "imports"}
import torch

from gptlib import check

# %% [markdown] name="about_sinusoidal"
# ## 1. A vector of waves for each position
#
# *10 minutes, 3 points.*
#
# The transformer of 2017 tells positions apart by waves that run along the text, the first pair of columns fast, each
# further pair more slowly. For position $t$ and pair $i = 0, 1, \ldots, C/2 - 1$ the angle is
#
# $$\frac{t}{10000^{\,2i/C}}$$
#
# in radians, and column $2i$ holds its sine, column $2i + 1$ its cosine.
#
# Write `sinusoidal(positions, n_embd)`:
#
# - `positions` is `(T,)`, int64: the positions for which vectors are wanted, 0 or more. They need not begin at 0, nor be
#   in order: a text that goes on after a cache begins later.
# - `n_embd` is $C$, an even number.
# - It returns `(T, C)`, float32; row $j$ belongs to `positions[j]`. It leaves `positions` as it is.
#
# For example, `sinusoidal(torch.tensor([0, 1]), 4)` is `[[0, 1, 0, 1], [0.8415, 0.5403, 0.0100, 0.9999]]`: the second pair
# has the angle $1 / 10000^{2/4} = 0.01$.


# %% name="sinusoidal" gptlib={"role": "answer", "exercise": "positions.sinusoidal", "points": 3}
def sinusoidal(positions, n_embd):
    """Sines and cosines for some positions.

    positions: (T,), int64.    n_embd: C, even.
    Returns (T, C): sines in even columns, the cosine of the same angle in the odd column after each.
    """
    # answer
    frequencies = 10_000.0 ** (-torch.arange(0, n_embd, 2) / n_embd)  # (C/2,)
    angles = positions[:, None] * frequencies  # (T, C/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (T, C/2, 2) -> (T, C)
    # end answer


# %% name="check_sinusoidal" gptlib={"role": "check", "exercise": "positions.sinusoidal"}
check("positions.sinusoidal")

# %% [markdown] name="after_sinusoidal"
# Stuck? `check("positions.sinusoidal", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_rotary"
# ## 2. Turn vectors by their position
#
# *15 minutes, 4 points.*
#
# Rotary positions add nothing. They take the $D$ numbers of a query or a key as $D/2$ points in planes, and turn each of
# them by an angle that grows with the position. Plane $i$ has the numbers $i$ and $i + D/2$ as its two coordinates, and at
# position $t$ it turns by
#
# $$\theta = t \cdot \text{base}^{-2i/D}$$
#
# from the first coordinate towards the second:
#
# $$\text{first}' = \text{first}\,\cos\theta - \text{second}\,\sin\theta \qquad
#   \text{second}' = \text{first}\,\sin\theta + \text{second}\,\cos\theta$$
#
# Write `rotary(x, positions, base)`:
#
# - `x` is `(B, H, T, D)`, queries or keys of all heads; $D$ is even.
# - `positions` is `(T,)`, int64: where each of the $T$ vectors stands. They need not begin at 0, nor be in order.
# - `base` is a number above 1.
# - It returns `(B, H, T, D)`, every vector turned by the angles of its position. It leaves `x` and `positions` as they
#   are, and gradients flow back to `x`.
#
# For example, with `D = 2` there is one plane, of frequency 1: `[1., 0.]` at position 1 becomes
# `[cos 1, sin 1] = [0.5403, 0.8415]`, and at position 0 it stays what it is.


# %% name="rotary" gptlib={"role": "answer", "exercise": "positions.rotary", "points": 4}
def rotary(x, positions, base):
    """Turn each vector by its position; numbers i and i + D/2 form a plane.

    x: (B, H, T, D), D even.    positions: (T,), int64.    base: plane i turns by base^(-2i/D) a position.
    Returns (B, H, T, D).
    """
    # answer
    D = x.size(-1)
    frequencies = base ** (-torch.arange(0, D, 2) / D)  # (D/2,)
    angles = positions[:, None] * frequencies  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)  # 2 × (B, H, T, D/2)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)  # (B, H, T, D)
    # end answer


# %% name="check_rotary" gptlib={"role": "check", "exercise": "positions.rotary"}
check("positions.rotary")

# %% [markdown] name="after_rotary"
# Hints: `check("positions.rotary", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_offsets"
# ## 3. Positions with padding and a cache
#
# *12 minutes, 3 points.*
#
# Both functions above were told the positions. Where do these come from? For one text, read in one go, they are
# $0, 1, 2, \ldots$. In practice two things come in between:
#
# - **Padding.** A batch holds texts of unequal length, and the shorter ones are filled up *at the start*, so that all end
#   together. Fill is nobody's text: a row's first real token has position 0.
# - **A cache.** A model that writes keeps the keys and values of what it has read, and is given only the tokens that are
#   new. These stand behind those in the cache.
#
# Write `offsets(real, n_new)`:
#
# - `real` is `(B, S)`, bool: for all $S$ columns, those in the cache first and then the new ones, whether a token stands
#   there (`True`) or fill (`False`). Fill stands at the start of a row, and each row has at least one token.
# - `n_new` is $T$, at least 1, the number of columns that are new: the last $T$ of the $S$. The cache holds the other $S - T$, fill
#   included; with $T = S$ it is empty.
# - It returns `(B, T)`, int64: the position of each new token, that is, the number of tokens before it in its own row,
#   fill not counted. Where the new columns hold fill, the position is 0. It leaves `real` as it is.
#
# For example, with
#
# ```python
# real = torch.tensor([[False, True, True, True, True],
#                      [False, False, False, True, True]])
# ```
#
# `offsets(real, 5)` is `[[0, 0, 1, 2, 3], [0, 0, 0, 0, 1]]`, and `offsets(real, 2)` is `[[2, 3], [0, 1]]`.


# %% name="offsets" gptlib={"role": "answer", "exercise": "positions.offsets", "points": 3}
def offsets(real, n_new):
    """The positions of the new tokens, in each row its own.

    real: (B, S), bool; False where a row has fill, which stands at its start.    n_new: T; the last T columns are new.
    Returns (B, T), int64; 0 at fill.
    """
    # answer
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)  # (B, S)
    return positions[:, -n_new:]  # (B, T)
    # end answer


# %% name="check_offsets" gptlib={"role": "check", "exercise": "positions.offsets"}
check("positions.offsets")

# %% [markdown] name="after_offsets"
# Hints: `check("positions.offsets", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# `sinusoidal` and `rotate` of `gptlib/positions`, and the few lines in `GPT.forward` and `CausalSelfAttention.forward` that say
# which position is meant. The last of the three looks like bookkeeping, and it is where most real bugs with positions live:
# a model with learned positions or waves that counts the fill answers differently in company than alone, and one that
# begins at 0 again after a cache is lost, whatever its positions. See where you stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
