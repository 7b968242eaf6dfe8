# %% [markdown] name="title"
# # Exercises 02: predicting the next token
#
# {{badge}}
#
# Three functions: a model that predicts by counting, the loss that says how well a model predicts, and perplexity, which
# says the same in a number that one can picture. About 30 minutes. Know first: lesson 02, softmax, and indexing in
# PyTorch.
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

# %% [markdown] name="about_bigram"
# ## 1. A model that counts
#
# *10 minutes, 3 points.*
#
# The simplest language model looks at one token and asks what followed it in the text it was trained on. All it needs is
# a table: row $a$ says how likely each token is after $a$.
#
# $$P(b \mid a) = \frac{\text{count}(a, b) + \alpha}{\text{sum of row } a\text{, with } \alpha \text{ added to each of its numbers}}$$
#
# Here $\text{count}(a, b)$ is how often $b$ stands right after $a$. The $\alpha$ is called smoothing: without it, a pair
# that was never seen would be impossible, and a single one in a new text would make the loss infinite.
#
# Write `bigram(ids, vocab_size, alpha)`:
#
# - `ids` is a tensor of shape `(n,)`, int64, with values from 0 to `vocab_size - 1`; `n` is at least 1.
# - `alpha` is a float above 0.
# - It returns a float32 tensor of shape `(vocab_size, vocab_size)`. Row $a$ holds $P(b \mid a)$ for all $b$ and sums to
#   one, also when token $a$ never occurs.
# - It leaves `ids` as it is.
#
# For example, in `ids = torch.tensor([0, 1, 0, 1, 0, 2])` token 0 is followed by 1 twice and by 2 once. With
# `vocab_size=3` and `alpha=1.0`, row 0 has the counts 0, 2, 1, with alpha 1, 3, 2, so it is `[1/6, 3/6, 2/6]`. Row 1 is
# `[3/5, 1/5, 1/5]`, and row 2, after which nothing ever came, `[1/3, 1/3, 1/3]`.


# %% name="bigram" gptlib={"role": "answer", "exercise": "prediction.bigram", "points": 3}
def bigram(ids, vocab_size, alpha):
    """Return the probability of each next token after each token, by counting.

    ids: (n,) int64, the text.    vocab_size: V.    alpha: a float above 0, added to every count.
    Returns (V, V) float32: row a, column b is the probability of b after a.
    """
    # answer
    table = torch.full((vocab_size, vocab_size), float(alpha))
    for t in range(len(ids) - 1):
        table[ids[t], ids[t + 1]] += 1
    return table / table.sum(dim=1, keepdim=True)  # (V, V) / (V, 1)
    # end answer


# %% name="check_bigram" gptlib={"role": "check", "exercise": "prediction.bigram"}
check("prediction.bigram")

# %% [markdown] name="after_bigram"
# Stuck? `check("prediction.bigram", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_cross_entropy"
# ## 2. What a prediction costs
#
# *12 minutes, 4 points.*
#
# A model gives a score (a logit) to every token of the vocabulary. Softmax turns the scores of one position into
# probabilities, and the loss there is the negative natural logarithm of the probability that the **true** next token got:
# 0 when the model was sure and right, much when it was sure and wrong.
#
# $$\text{loss} = -\frac{1}{N} \sum_{\text{positions with a target}} \ln \text{softmax}(\text{logits})_{\text{target}}$$
#
# Write `cross_entropy(logits, targets)`, without `F.cross_entropy` and `F.nll_loss`, which are the task itself
# (`F.log_softmax` is fine):
#
# - `logits` is `(B, T, V)`, float32. `targets` is `(B, T)`, int64: the id of the true next token, or $-1$ where there is
#   none, as in padding.
# - It returns a tensor without dimensions: the mean loss, in nats, over the $N$ positions whose target is not $-1$.
#   There is at least one.
# - Positions with the target $-1$ do not count at all, neither in the sum nor in $N$.
# - Logits may be in the hundreds: `exp(100)` overflows in float32, and the loss must come out all the same.
# - It leaves its inputs as they are, and gradients flow back to `logits`.
#
# For example, with `logits = torch.zeros(1, 2, 4)` and `targets = torch.tensor([[3, -1]])` every token has the
# probability 1/4. Only the first position counts, and the loss is $\ln 4 \approx 1.386$.


# %% name="cross_entropy" gptlib={"role": "answer", "exercise": "prediction.cross_entropy", "points": 4}
def cross_entropy(logits, targets):
    """Return the mean loss in nats over all positions that have a target.

    logits: (B, T, V).    targets: (B, T) int64, -1 where there is none.
    Returns a tensor without dimensions.
    """
    # answer
    there = targets != -1  # (B, T)
    log_p = F.log_softmax(logits[there], dim=-1)  # (N, V)
    return -log_p[torch.arange(len(log_p)), targets[there]].mean()
    # end answer


# %% name="check_cross_entropy" gptlib={"role": "check", "exercise": "prediction.cross_entropy"}
check("prediction.cross_entropy")

# %% [markdown] name="after_cross_entropy"
# Hints: `check("prediction.cross_entropy", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_perplexity"
# ## 3. As unsure as among how many
#
# *6 minutes, 2 points.*
#
# Perplexity is $e$ to the mean loss per token. A model with perplexity 8 is as unsure, on average, as if it had to guess
# among 8 equally likely tokens.
#
# A model was tested on several texts. For each there is its mean loss per token, in nats, and its number of tokens. What
# is the perplexity over **all tokens of all texts**?
#
# Write `perplexity(losses, lengths)`:
#
# - `losses` is a list of floats, the mean loss per token of each text, in nats. `lengths` is a list of ints, as long: how
#   many tokens each text has. There is at least one text.
# - It returns one number: $e$ to the mean loss over all tokens. A float or a tensor without dimensions, as you like.
#
# For example, of 30 tokens with loss 1 and 10 tokens with loss 3 the mean is $(30 \cdot 1 + 10 \cdot 3) / 40 = 1.5$, so
# `perplexity([1.0, 3.0], [30, 10])` is $e^{1.5} \approx 4.482$.


# %% name="perplexity" gptlib={"role": "answer", "exercise": "prediction.perplexity", "points": 2}
def perplexity(losses, lengths):
    """Return the perplexity over all tokens of several texts.

    losses: a list of floats, the mean loss per token of each text, in nats.    lengths: a list of ints, their tokens.
    Returns a number, at least 1.
    """
    # answer
    total = sum(losses[i] * lengths[i] for i in range(len(losses)))
    return math.exp(total / sum(lengths))
    # end answer


# %% name="check_perplexity" gptlib={"role": "check", "exercise": "prediction.perplexity"}
check("prediction.perplexity")

# %% [markdown] name="after_perplexity"
# Hints: `check("prediction.perplexity", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# A language model, and the yardstick by which every other one in this course is measured. From here on the model grows
# and the yardstick stays: the loss of a GPT is your second function. See where you stand over all exercises with the
# next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
