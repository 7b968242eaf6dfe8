# %% [markdown] name="title"
# # Exercises 06: the block
#
# {{badge}}
#
# Three functions: layer norm, the feed-forward part, and the block that joins them with attention. About 25 minutes. Know
# first: lesson 06, and means and products in PyTorch.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math` and `torch` from the first cell, and whatever the cell itself
# defines or imports.

# %% name="imports" gptlib={"role": "imports"}
import math

import torch

from gptlib import check

# %% [markdown] name="about_layer_norm"
# ## 1. Layer norm
#
# *8 minutes, 3 points.*
#
# Numbers that pass through many layers may grow or shrink. Layer norm brings the features of each position back to mean 0
# and variance 1, and then lets the model scale and move each feature as it has learned to (Ba, Kiros and Hinton 2016).
#
# $$y = \frac{x - \text{mean}(x)}{\sqrt{\text{variance}(x) + \varepsilon}} \cdot \text{weight} + \text{bias}$$
#
# Write `layer_norm(x, weight, bias, eps)`, without PyTorch's own `layer_norm` and `LayerNorm`, which are the task itself:
#
# - `x` is `(…, C)`; mean and variance run over the last dimension, for each position by itself.
# - The variance is the mean of the squared distances from the mean: the sum is divided by $C$, and not by $C - 1$.
# - `eps` is a small float above 0, added to the variance, inside the root.
# - `weight` and `bias` are `(C,)`.
# - It returns a tensor of the shape of `x`, leaves its inputs as they are, and gradients flow back to `x`, `weight` and
#   `bias`.
#
# For example, with `x = torch.tensor([[1., 3.]])`, `weight = torch.tensor([1., 2.])`, `bias = torch.tensor([0., 10.])`
# and `eps = 3.0`: the mean is 2, the variance 1, the root of $1 + 3$ is 2. That gives `[-0.5, 0.5]`, then, scaled and
# moved, `[[-0.5, 11.]]`.


# %% name="layer_norm" gptlib={"role": "answer", "exercise": "block.layer_norm", "points": 3}
def layer_norm(x, weight, bias, eps):
    """Bring the features of each position to mean 0 and variance 1, then scale and move them.

    x: (…, C).    weight, bias: (C,).    eps: a float above 0, added to the variance.
    Returns (…, C).
    """
    # answer
    centred = x - x.mean(dim=-1, keepdim=True)  # (…, C)
    variance = (centred**2).mean(dim=-1, keepdim=True)  # (…, 1)
    return centred / torch.sqrt(variance + eps) * weight + bias
    # end answer


# %% name="check_layer_norm" gptlib={"role": "check", "exercise": "block.layer_norm"}
check("block.layer_norm")

# %% [markdown] name="after_layer_norm"
# Stuck? `check("block.layer_norm", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_mlp"
# ## 2. The feed-forward part
#
# *8 minutes, 2 points.*
#
# Attention moves information between positions; the feed-forward part works on what has arrived, at each position by
# itself. It widens the features (four times, in GPT-2), bends them with GELU, and narrows them again.
#
# GPT-2's GELU is the form with tanh (Hendrycks and Gimpel 2016):
#
# $$\text{GELU}(y) = \frac{y}{2} \left(1 + \tanh\left(\sqrt{2 / \pi} \, (y + 0.044715 \, y^3)\right)\right)$$
#
# Write `mlp(x, w_in, b_in, w_out, b_out)`:
#
# - `x` is `(B, T, C)`, `w_in` is `(C, inner)`, `b_in` is `(inner,)`, `w_out` is `(inner, C)`, `b_out` is `(C,)`. The
#   matrices are multiplied from the right: `x @ w_in`.
# - First product and bias, then GELU, then second product and bias. No residual: the block adds it.
# - GELU is the form above. `torch.nn.functional.gelu` is fine too, when you ask it for this form: `approximate="tanh"`.
# - It returns `(B, T, C)`, leaves its inputs as they are, and gradients flow back to all five.
#
# For example, when `w_in` and `b_in` are zeros, GELU gets zeros and gives zeros, and every position's result is `b_out`.


# %% name="mlp" gptlib={"role": "answer", "exercise": "block.mlp", "points": 2}
def mlp(x, w_in, b_in, w_out, b_out):
    """Widen, bend and narrow the features of each position.

    x: (B, T, C).    w_in: (C, inner).    b_in: (inner,).    w_out: (inner, C).    b_out: (C,).
    Returns (B, T, C).
    """
    # answer
    y = x @ w_in + b_in  # (B, T, inner)
    hidden = y / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))  # GELU
    return hidden @ w_out + b_out  # (B, T, C)
    # end answer


# %% name="check_mlp" gptlib={"role": "check", "exercise": "block.mlp"}
check("block.mlp")

# %% [markdown] name="after_mlp"
# Hints: `check("block.mlp", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_block"
# ## 3. The block
#
# *8 minutes, 3 points.*
#
# A GPT is a stack of blocks. Each reads from the residual stream `x` and adds to it, twice: first attention, then the
# feed-forward part. Before each of the two stands a layer norm, and what it returns goes into the part only; the stream
# itself is never normed (pre-norm, as in GPT-2).
#
# Write `block(x, norm_1, attention, norm_2, mlp)`:
#
# - `x` is `(B, T, C)`. The other four are functions from `(B, T, C)` to `(B, T, C)`; each is called once.
# - Attention works on `norm_1` of `x`, and its result is added to `x`.
# - The feed-forward part works on `norm_2` of this new `x`, and its result is added to it.
# - It returns `(B, T, C)` and leaves `x` as it is; gradients flow back through everything.
#
# For example, when `attention` and `mlp` return zeros, the block returns `x`, whatever the norms do. When all four return
# what they are given, it returns `4 * x`: `x + x` is `2 * x`, and twice that is `4 * x`.


# %% name="block" gptlib={"role": "answer", "exercise": "block.block", "points": 3}
def block(x, norm_1, attention, norm_2, mlp):
    """One block of GPT-2: attention and feed-forward, each with its norm and residual.

    x: (B, T, C).    norm_1, attention, norm_2, mlp: functions from (B, T, C) to (B, T, C).
    Returns (B, T, C).
    """
    # answer
    x = x + attention(norm_1(x))
    return x + mlp(norm_2(x))
    # end answer


# %% name="check_block" gptlib={"role": "check", "exercise": "block.block"}
check("block.block")

# %% [markdown] name="after_block"
# Hints: `check("block.block", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# With the attention of set 04, these are all the parts of a block of GPT-2. The library's own are `LayerNorm` and `MLP` in
# `gptlib/layers.py` and `Block` in `gptlib/model.py`, whose plain order, norm, part, residual, is yours. See where you
# stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
