# %% [markdown] name="title"
# # Exercises 09: sampling
#
# {{badge}}
#
# Four functions: temperature, two filters, and the loop that writes. With them a model that gives logits becomes one that gives
# text. About 40 minutes. Know first: lesson 09, and softmax.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math`, `torch` and `F` from the first cell, and whatever the cell
# itself defines. (So the last answer cannot call the first; copy what you need into the cell.)

# %% name="imports" gptlib={"role": "imports"}
import math

import torch
import torch.nn.functional as F

from gptlib import check

# %% [markdown] name="about_temperature"
# ## 1. Sharper or flatter
#
# *6 minutes, 2 points.*
#
# A model gives logits, and the softmax makes probabilities of them. The temperature comes in between: the logits are divided by
# it, so that below 1 their differences grow and above 1 they shrink. Temperature 0 cannot be divided by. It is a name for
# greedy choice: the most probable token gets all the probability.
#
# Write `temperature(logits, temperature)`:
#
# - `logits` is `(B, V)`, a row of scores for each text. They can be large, and a logit of $-\infty$ is a token that is ruled out;
#   at least one in each row is finite.
# - `temperature` is a float: 0, or from about 0.01 up.
# - It returns probabilities `(B, V)` in the dtype of `logits`: $p_i = e^{z_i / \tau} / \sum_j e^{z_j / \tau}$ in each row. At temperature 0 each row holds a 1
#   at its largest logit, of equal ones at the one with the lower id, and 0 in all other places.
# - It leaves `logits` as they are.
#
# For example, for the logits `[[2., 1., 0.]]` temperature 2 gives `[[0.5065, 0.3072, 0.1863]]`, temperature 0.5 gives
# `[[0.8668, 0.1173, 0.0159]]`, and temperature 0 gives `[[1., 0., 0.]]`.


# %% name="temperature" gptlib={"role": "answer", "exercise": "sampling.temperature", "points": 2}
def temperature(logits, temperature):
    """Probabilities of the next token at a temperature.

    logits: (B, V).    temperature: 0 (greedy) or above.
    Returns (B, V); each row sums to 1.
    """
    # answer
    if temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    return F.softmax(logits / temperature, dim=-1)
    # end answer


# %% name="check_temperature" gptlib={"role": "check", "exercise": "sampling.temperature"}
check("sampling.temperature")

# %% [markdown] name="after_temperature"
# Stuck? `check("sampling.temperature", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_top_k"
# ## 2. Only the k best
#
# *7 minutes, 2 points.*
#
# Of a large vocabulary nearly every token is wrong at nearly every place. Each has next to no probability, but there are many of
# them. Top-k rules out all but the $k$ best.
#
# A filter turns logits into logits, so that filters can follow each other. A token is ruled out by a logit of $-\infty$, of
# which the softmax makes exactly 0.
#
# Write `top_k(logits, k)`:
#
# - `logits` is `(B, V)`. No two finite logits of a row are equal; some may be $-\infty$ already.
# - `k` is a whole number, at least 1. When it is larger than `V`, nothing is ruled out.
# - It returns `(B, V)`: in each row the `k` largest logits, as they were and where they were, and $-\infty$ in all other places.
# - It leaves `logits` as they are.
#
# For example, `top_k(torch.tensor([[1., 4., 3., 2.]]), 2)` is `[[-inf, 4., 3., -inf]]`.


# %% name="top_k" gptlib={"role": "answer", "exercise": "sampling.top_k", "points": 2}
def top_k(logits, k):
    """Keep the k largest logits of each row.

    logits: (B, V).    k: at least 1.
    Returns (B, V), with -inf in all other places.
    """
    # answer
    k = min(k, logits.size(-1))
    kth = logits.topk(k).values[:, -1:]  # (B, 1): the smallest that stays
    return logits.masked_fill(logits < kth, -math.inf)
    # end answer


# %% name="check_top_k" gptlib={"role": "check", "exercise": "sampling.top_k"}
check("sampling.top_k")

# %% [markdown] name="after_top_k"
# Hints: `check("sampling.top_k", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_top_p"
# ## 3. The fewest that reach p
#
# *12 minutes, 3 points.*
#
# Top-k keeps as many tokens where one is certain as where fifty are likely. Top-p counts probability in place of tokens: sorted
# from the most probable on, it keeps the fewest tokens that together have a probability of at least $p$.
#
# Write `top_p(logits, p)`:
#
# - `logits` is `(B, V)`; some may be $-\infty$. `p` is a float above 0 and below 1.
# - The probabilities are the softmax of the logits, in each row by itself. (A temperature was applied before, if any.)
# - It returns `(B, V)`: the logits of the tokens that are kept, as they were and where they were, and $-\infty$ in all other
#   places. The token with which the sum reaches $p$ is kept, so that at least one stays in each row.
# - It leaves `logits` as they are. No two probabilities are equal, and no sum comes so near to $p$ that rounding decides.
#
# For example, the logits `torch.tensor([[0.5, 0.2, 0.25, 0.05]]).log()` have the probabilities that stand there. With `p = 0.9`
# the tokens 0, 2 and 1 stay, in this order 0.5, 0.75 and 0.95 together, and token 3 goes. With `p = 0.3` only token 0 stays.


# %% name="top_p" gptlib={"role": "answer", "exercise": "sampling.top_p", "points": 3}
def top_p(logits, p):
    """Keep the fewest tokens of each row that reach the probability p together.

    logits: (B, V).    p: above 0 and below 1.
    Returns (B, V), with -inf in all other places.
    """
    # answer
    ordered, ids = logits.sort(dim=-1, descending=True)  # (B, V), and which token each was
    q = F.softmax(ordered, dim=-1)
    before = q.cumsum(dim=-1) - q  # what stands ahead of each
    drop = before >= p
    drop = drop.scatter(-1, ids, drop)  # back in the order of ids
    return logits.masked_fill(drop, -math.inf)
    # end answer


# %% name="check_top_p" gptlib={"role": "check", "exercise": "sampling.top_p"}
check("sampling.top_p")

# %% [markdown] name="after_top_p"
# Hints: `check("sampling.top_p", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_generate"
# ## 4. One token after the other
#
# *15 minutes, 4 points.*
#
# Now the loop: give the model the text, choose the next token, append it, and again. Several texts are continued at once, and some of
# them end before others.
#
# Write `generate(model, ids, max_new_tokens, temperature, stop_id, n_positions)`:
#
# - `model(ids)` takes token ids `(B, T)`, with $T$ at most `n_positions`, and returns logits `(B, T, V)`. Those at position $t$ are for
#   the token that follows it. When the text is longer than `n_positions`, give the model the last `n_positions` tokens.
# - `ids` is `(B, T)` int64, the prompts. They may be longer than `n_positions`.
# - At `temperature` 0 the next token is the one with the largest logit. At others it is drawn at random, with the probabilities
#   softmax(logits / temperature).
# - `stop_id` is an id or None. A row that has drawn it is finished, and from then on gets `stop_id` again at each step. When all rows are
#   finished, nothing more is added. A `stop_id` in the prompt does not count: prompts often begin with it.
# - It returns `(B, T + new)` int64: the prompts, and behind them the new tokens, `max_new_tokens` of them or fewer if all rows have finished.
# - It leaves `ids` as they are.
#
# For example, let a model always want the id that comes after the last one, 4 after 3. At temperature 0, with `stop_id = 6` and
# `max_new_tokens = 10`, the prompts `[[2, 3], [6, 1]]` become
# `[[2, 3, 4, 5, 6, 6, 6], [6, 1, 2, 3, 4, 5, 6]]`: the first row is finished after three tokens, the second after five.


# %% name="generate" gptlib={"role": "answer", "exercise": "sampling.generate", "points": 4}
def generate(model, ids, max_new_tokens, temperature, stop_id, n_positions):
    """Continue each row of ids.

    model: from ids (B, T), T at most n_positions, to logits (B, T, V).
    ids: (B, T) int64.    temperature: 0 (greedy) or above.    stop_id: an id, or None.
    Returns (B, T + new) int64.
    """
    # answer
    text = ids
    finished = torch.zeros(len(ids), dtype=torch.bool)  # (B,)
    for _ in range(max_new_tokens):
        logits = model(text[:, -n_positions:])[:, -1]  # (B, T, V) -> (B, V)
        if temperature == 0:
            token = logits.argmax(dim=-1)  # (B,)
        else:
            p = F.softmax(logits / temperature, dim=-1)  # (B, V)
            token = torch.multinomial(p, 1)[:, 0]  # (B, 1) -> (B,)
        if stop_id is not None:
            token = torch.where(finished, stop_id, token)
            finished = finished | (token == stop_id)
        text = torch.cat([text, token[:, None]], dim=1)  # (B, T) -> (B, T + 1)
        if finished.all():
            break
    return text
    # end answer


# %% name="check_generate" gptlib={"role": "check", "exercise": "sampling.generate"}
check("sampling.generate")

# %% [markdown] name="after_generate"
# Hints: `check("sampling.generate", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# The path from logits to text. In the library it is `gptlib/generation/`: `choosing.py` has temperature and filters in
# `next_token_probabilities`, and `loop.py` has the loop in `stream`, of which `generate` collects what it hands out. See where you
# stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
