# %% [markdown] name="title"
# # Exercises 01: text to tokens
#
# {{badge}}
#
# Byte pair encoding in three functions: count the pairs, merge one, and turn a text into ids. About 25 minutes. Know
# first: lesson 01, lists and dicts in Python. PyTorch is not needed here.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use whatever the cell itself defines or imports. (So the third answer
# cannot call your second; copy it into the cell.)

# %% name="imports" gptlib={"role": "imports"}
from gptlib import check

# %% [markdown] name="about_pair_counts"
# ## 1. Count the pairs
#
# *5 minutes, 2 points.*
#
# To learn a vocabulary, byte pair encoding looks for the two neighbours that occur most often. So it has to count them.
#
# Write `pair_counts(ids)`:
#
# - `ids` is a list of token ids; it may be empty.
# - It returns a dict: each key is a pair `(a, b)` for which `b` stands right after `a` somewhere in the list, and its
#   value says how often. Pairs that do not occur are not in it (or have the count 0).
# - Order matters: `(1, 2)` and `(2, 1)` are two pairs.
# - Pairs may overlap: every id but the last begins one, so `[7, 7, 7]` holds `(7, 7)` twice. All counts together are
#   one less than the number of ids.
# - It leaves `ids` as it is.
#
# For example `pair_counts([1, 2, 1, 2, 3])` is `{(1, 2): 2, (2, 1): 1, (2, 3): 1}`.


# %% name="pair_counts" gptlib={"role": "answer", "exercise": "tokens.pair_counts", "points": 2}
def pair_counts(ids):
    """Count every pair of neighbours.

    ids: a list of token ids, maybe empty.
    Returns a dict from pairs (a, b) to how often b follows a.
    """
    # answer
    counts = {}
    for t in range(len(ids) - 1):
        pair = (ids[t], ids[t + 1])
        counts[pair] = counts.get(pair, 0) + 1
    return counts
    # end answer


# %% name="check_pair_counts" gptlib={"role": "check", "exercise": "tokens.pair_counts"}
check("tokens.pair_counts")

# %% [markdown] name="after_pair_counts"
# Stuck? `check("tokens.pair_counts", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_merge"
# ## 2. Merge a pair
#
# *8 minutes, 3 points.*
#
# The winning pair becomes one token with an id of its own, and everywhere in the text the two are replaced by it.
#
# Write `merge(ids, pair, new_id)`:
#
# - `ids` is a list of token ids, maybe empty; `pair` is a tuple `(a, b)`, where `a` and `b` may be equal; `new_id` is an
#   id that does not occur in `ids`.
# - It returns a new list in which every `a` that is followed by `b` has become, together with this `b`, one `new_id`.
# - It goes from left to right, and an id is used once only: with the pair `(1, 1)` and the new id 9, `[1, 1, 1]` becomes
#   `[9, 1]`.
# - It leaves `ids` as it is.
#
# For example `merge([1, 2, 1, 2, 3], (1, 2), 9)` is `[9, 9, 3]`.


# %% name="merge" gptlib={"role": "answer", "exercise": "tokens.merge", "points": 3}
def merge(ids, pair, new_id):
    """Replace every occurrence of a pair by a new id.

    ids: a list of token ids, maybe empty.    pair: a tuple of two ids.    new_id: the id that replaces them.
    Returns a new list.
    """
    # answer
    merged = []
    t = 0
    while t < len(ids):
        if t + 1 < len(ids) and (ids[t], ids[t + 1]) == pair:
            merged.append(new_id)
            t += 2  # both are used up
        else:
            merged.append(ids[t])
            t += 1
    return merged
    # end answer


# %% name="check_merge" gptlib={"role": "check", "exercise": "tokens.merge"}
check("tokens.merge")

# %% [markdown] name="after_merge"
# Hints: `check("tokens.merge", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_encode"
# ## 3. Text to ids
#
# *12 minutes, 4 points.*
#
# Training a tokenizer leaves a list of merges, in the order in which they were learned. To encode a text, begin with its
# bytes and apply the merges in that order.
#
# Write `encode(text, merges)`:
#
# - `text` is a string; it may be empty, and hold any character. Its bytes in UTF-8 are the first ids, from 0 to 255.
# - `merges` is a list of pairs, maybe empty. The first of them makes the id 256, the second 257, and so on; a later pair
#   may hold ids that earlier ones make.
# - It returns the list of ids that is left when every merge has been applied to the whole text: first the one that was
#   learned first, each from left to right as in the exercise before.
#
# For example, the bytes of `"abcab"` are 97, 98, 99, 97, 98. With the merges `[(97, 98), (256, 99)]` the first one gives
# 256, 99, 256, and the second one 257, 256: `encode("abcab", [(97, 98), (256, 99)])` is `[257, 256]`.
#
# (GPT-2 also cuts a text into words first and never merges across a cut. Leave that aside here.)


# %% name="encode" gptlib={"role": "answer", "exercise": "tokens.encode", "points": 4}
def encode(text, merges):
    """Turn a text into token ids.

    text: a str.    merges: a list of pairs of ids, in the order in which they were learned.
    Returns a list of ids; bytes are 0 to 255, the merge at place i makes 256 + i.
    """
    # answer
    ids = list(text.encode("utf-8"))

    def merge(ids, pair, new_id):
        merged = []
        t = 0
        while t < len(ids):
            if t + 1 < len(ids) and (ids[t], ids[t + 1]) == pair:
                merged.append(new_id)
                t += 2
            else:
                merged.append(ids[t])
                t += 1
        return merged

    for rank, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + rank)
    return ids
    # end answer


# %% name="check_encode" gptlib={"role": "check", "exercise": "tokens.encode"}
check("tokens.encode")

# %% [markdown] name="after_encode"
# Hints: `check("tokens.encode", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# The core of GPT-2's tokenizer: count, merge, repeat is how its vocabulary was learned, and your `encode` is how it is
# used. The library's own versions are `pair_counts` and `merge` in `gptlib.tokenizers`, and `BPETokenizer` does the rest.
# See where you stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
