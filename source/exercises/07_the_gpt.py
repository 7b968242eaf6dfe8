# %% [markdown] name="title"
# # Exercises 07: the GPT
#
# {{badge}}
#
# Three functions: how many parameters a GPT-2 of any shape has, what each of them starts from, and the way from ids to
# logits and a loss. About 40 minutes. Know first: lesson 07, and what a block is made of (lesson 06).
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math`, `torch` and `F` from the first cell, and whatever the cell
# itself defines or imports.

# %% name="imports" gptlib={"role": "imports"}
import math

import torch
import torch.nn.functional as F

from gptlib import check

# %% [markdown] name="about_count_parameters"
# ## 1. Count every parameter
#
# *12 minutes, 4 points.*
#
# Write `count_parameters(vocab_size, n_positions, n_embd, n_layer, n_head, tied)`, which returns the number of parameters
# of a GPT-2 of this shape, exactly and as an `int`. With $C$ for `n_embd` it is made of
#
# - a token embedding, `vocab_size` vectors of $C$ numbers, and a position embedding, `n_positions` vectors;
# - `n_layer` blocks, each with
#     - two layer norms, each with a scale and a shift for each of the $C$ features;
#     - attention: maps from $C$ to $C$ features for queries, for keys, for values and for the output;
#     - the feed-forward part: a map from $C$ to $4C$ features and one from $4C$ back to $C$;
# - one more layer norm after the last block;
# - the output map, a matrix that gives each of the `vocab_size` tokens its logit, without biases. When `tied` is `True` it
#   *is* the token embedding; when `False` it is a matrix of its own.
#
# Every map inside the blocks has biases, one for each number that it puts out. `n_embd` is a multiple of `n_head`.
#
# For example, `count_parameters(11, 8, 6, 1, 3, True)` is 636: 66 for the tokens, 48 for the positions, 510 for the block
# and 12 for the final norm. `count_parameters(50257, 1024, 768, 12, 12, True)`, GPT-2 small, is 124439808.


# %% name="count_parameters" gptlib={"role": "answer", "exercise": "gpt.count_parameters", "points": 4}
def count_parameters(vocab_size, n_positions, n_embd, n_layer, n_head, tied):
    """Count the parameters of a GPT-2.

    vocab_size, n_positions, n_embd, n_layer, n_head: whole numbers of at least 1.    tied: True or False.
    Returns an int.
    """
    # answer
    C = n_embd
    norm = 2 * C  # scale and shift
    attention = 4 * (C * C + C)  # q, k, v, output: weights and biases
    feed_forward = (C * 4 * C + 4 * C) + (4 * C * C + C)  # widen, narrow
    block = norm + attention + norm + feed_forward
    embeddings = vocab_size * C + n_positions * C
    head = 0 if tied else vocab_size * C
    return embeddings + n_layer * block + norm + head
    # end answer


# %% name="check_count_parameters" gptlib={"role": "check", "exercise": "gpt.count_parameters"}
check("gpt.count_parameters")

# %% [markdown] name="after_count_parameters"
# Stuck? `check("gpt.count_parameters", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_init"
# ## 2. The first numbers
#
# *12 minutes, 4 points.*
#
# Before training, every parameter needs a first value. GPT-2's rule has four cases, told apart here by the parameter's
# name. The names are those of lesson 07:
#
# | | names (with a block's number in place of 3) |
# |---|---|
# | embeddings | `token_embedding.weight`, `position_embedding.weight` |
# | norms | `blocks.3.norm1.weight`, `blocks.3.norm1.bias`, the same with `norm2`; `norm.weight`, `norm.bias` |
# | attention | `blocks.3.attention.qkv.weight`, `blocks.3.attention.qkv.bias`, the same with `project` |
# | feed-forward | `blocks.3.mlp.widen.weight`, `blocks.3.mlp.widen.bias`, the same with `narrow` |
#
# Write `init(name, shape, n_layer, generator)`, which returns a float32 tensor of that shape:
#
# - Biases, those of the norms too, begin at 0.
# - The weights of norms, which are their scales, begin at 1.
# - The weights of `attention.project` and `mlp.narrow`, the two that write to the residual stream, are drawn from the
#   normal distribution with mean 0 and standard deviation $0.02 / \sqrt{2 \cdot \text{n\_layer}}$.
# - All other weights, embeddings included, are drawn from the normal distribution with mean 0 and standard deviation
#   $0.02$.
#
# `shape` is a list of one or two whole numbers, and `n_layer` the number of blocks of the model. Every number is drawn by
# itself, with `generator`, a `torch.Generator`: the same seed gives the same tensor. (`torch.randn`, `torch.normal` and
# `Tensor.normal_` take a generator.) How you use it is up to you: the check looks at the distribution of some thousand
# numbers, and not at the single ones.
#
# For example, `init("norm.weight", [3], 12, generator)` is `tensor([1., 1., 1.])`, and the numbers of
# `init("blocks.0.mlp.narrow.weight", [100, 400], 12, generator)` spread by $0.02 / \sqrt{24}$, which is about 0.0041.


# %% name="init" gptlib={"role": "answer", "exercise": "gpt.init", "points": 4}
def init(name, shape, n_layer, generator):
    """Draw the first values of a parameter.

    name: of the parameter, as in the table.    shape: list of ints.    n_layer: blocks of the model.
    generator: a torch.Generator, which all random numbers come from.
    Returns a float32 tensor of this shape.
    """
    # answer
    if name.endswith(".bias"):
        return torch.zeros(shape)
    if "norm" in name:
        return torch.ones(shape)
    writes = name.endswith(("attention.project.weight", "mlp.narrow.weight"))
    std = 0.02 / math.sqrt(2 * n_layer) if writes else 0.02
    return torch.randn(shape, generator=generator) * std
    # end answer


# %% name="check_init" gptlib={"role": "check", "exercise": "gpt.init"}
check("gpt.init")

# %% [markdown] name="after_init"
# Hints: `check("gpt.init", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_forward"
# ## 3. The forward pass
#
# *15 minutes, 5 points.*
#
# All parts are there; put them together. Write `forward(ids, token_embedding, position_embedding, blocks, norm, targets)`:
#
# 1. A token's vector is its row of `token_embedding` plus the row of `position_embedding` for its place. Places count from
#    0, in every text of the batch anew.
# 2. These go through all `blocks`, in their order.
# 3. What comes out of the last block goes through `norm`.
# 4. The logits: the products of each position's vector with every row of `token_embedding`. (The output map is tied.)
# 5. The loss, in nats: the cross-entropy of the logits with `targets`, averaged over all targets that are not −1. A target
#    of −1 means that there is none, and such a place must not count in any way. `targets[b, t]` is the token that follows
#    `ids[b, t]`: the shift has been done.
#
# - `ids` is `(B, T)` int64, `token_embedding` `(V, C)`, and `position_embedding` `(n_positions, C)` with
#   $T \le$ `n_positions`.
# - `blocks` is a list of functions, `norm` a function; each takes `(B, T, C)` and returns `(B, T, C)`.
# - `targets` is `(B, T)` int64, with at least one that is not −1, or `None`.
# - It returns two things: the logits `(B, T, V)`, and the loss as a tensor without dimensions, or `None` when `targets` is
#   `None`.
# - It leaves its inputs as they are, and gradients flow back from logits and loss to the embeddings and through the blocks
#   and the norm.
#
# For example, with no blocks (`[]`), a norm that changes nothing (`lambda x: x`), positions that are all zero and the
# identity matrix as `token_embedding`, the logits of each position are 1 for its own token and 0 for all others.


# %% name="forward" gptlib={"role": "answer", "exercise": "gpt.forward", "points": 5}
def forward(ids, token_embedding, position_embedding, blocks, norm, targets):
    """From ids to logits, and with targets to a loss.

    ids: (B, T).    token_embedding: (V, C).    position_embedding: (n_positions, C).
    blocks: list of functions, (B, T, C) -> (B, T, C).    norm: such a function.    targets: (B, T), -1 for none, or None.
    Returns logits (B, T, V) and the loss, a tensor without dimensions, or None.
    """
    # answer
    T = ids.size(1)
    x = token_embedding[ids] + position_embedding[:T]  # (B, T, C) + (T, C)
    for block in blocks:
        x = block(x)  # (B, T, C)
    logits = norm(x) @ token_embedding.T  # (B, T, C) @ (C, V) -> (B, T, V)
    if targets is None:
        return logits, None
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
    return logits, loss
    # end answer


# %% name="check_forward" gptlib={"role": "check", "exercise": "gpt.forward"}
check("gpt.forward")

# %% [markdown] name="after_forward"
# Hints: `check("gpt.forward", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# A GPT: its size, its first numbers, and its way from text to prediction. The library's own is `gptlib/model.py`, where
# `forward` and `_initialise` do what yours do, and `gptlib/scaling/parameters.py` counts. See where you stand over all
# exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
