# %% [markdown] name="title"
# # Attention: which tokens to look at
#
# {{badge}}
#
# After this lesson you can compute a head of attention by hand and in five lines of PyTorch, say why each of the five is
# there, and write the test that finds a mask which lets the future through.
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | about half a minute on two CPU cores; no GPU, no network |
# | Know first | Python, and tensors, shapes and `@` in PyTorch; that a GPT reads tokens and gives every token a probability of coming next (lesson 00 is enough) |
# | Afterwards | the four exercises of set 03, about 40 minutes |
#
# Shapes stand in the comments. `T` is the number of tokens in the text, `C` the width of the vector that the model keeps for
# each of them, `D` the width of one head of attention. `L` counts layers, `H` heads in a layer, `V` the tokens that the model
# knows, `B` texts computed side by side.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# The course brings a small GPT that was trained on stories. Here is the beginning of one:
#
# > One afternoon Otto went to the beach with nine coins. There a girl was selling an old map. "How much is it?" asked Otto.
# > "Two coins," said the
#
# **Predict.** Which word comes next, and which word of the text do you need to have read to know it?
#
# <details><summary>Answer</summary>
#
# *girl*, and you need *girl*: the word stands half the text back. The last word, *the*, is of no help. After *the* nearly
# everything in these stories can follow.
#
# </details>

# %% name="thing"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import GPT, GPTConfig, load_model, record, say
from gptlib.plots import BLUE, GREY, VERMILION, picture, plot_attention, plot_ladder, plot_losses
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
story = (
    "<|endoftext|>One afternoon Otto went to the beach with nine coins. There a girl was selling an old map. "
    '"How much is it?" asked Otto. "Two coins," said the'
)
for seller in ("girl", "boy", "soldier", "nurse"):
    ids = torch.tensor([tokenizer.encode(story.replace("a girl", f"a {seller}"))])  # (1, T)
    logits, _ = model(ids)  # (1, T, V): a score for every possible next token, at every position
    probability, best = logits[0, -1].softmax(dim=-1).max(dim=-1)
    print(f"There a {seller} was selling … said the{tokenizer.decode([best.item()])}   {probability:.2%}")

# %% [markdown] name="thing_explained"
# (`<|endoftext|>` stands between stories, and the model sees one before each. The pictures call it *start*.)
#
# A model that sees only the last token could not do that. At the last position something must have arrived from the position
# of *girl*. In a GPT there is exactly one kind of part through which anything passes from one position to another, and that
# is **attention**; every other part works on each position alone.
#
# The bundled model has several layers with several heads of attention each. A **head** gives every position a row of weights,
# which say from where it takes how much. `record` keeps what a model computes on the way, by name. Let us look for the head
# in which the last position takes most from *girl*.

# %% name="find_head"
ids = torch.tensor([tokenizer.encode(story)])  # (1, T)
tokens = ["(start)", *tokenizer.tokens(ids[0, 1:].tolist())]  # T labels
T = len(tokens)
with record(model) as run:
    model(ids)
n_layer, n_head = model.config.n_layer, model.config.n_head
all_weights = torch.stack([run[f"blocks.{i}.attention.weights"][0] for i in range(n_layer)])  # (L, H, T, T)
girl = tokens.index(" girl")
layer, head = divmod(int(all_weights[:, :, -1, girl].argmax()), n_head)
recorded = all_weights[layer, head]  # (T, T)
say(
    "The text has {T} tokens. Of {n} heads, the one that takes most from `girl` is head {head} "
    "of layer {layer} (both count from 0): {w:.0%} of its last row lies there.",
    T=T,
    n=n_layer * n_head,
    head=head,
    layer=layer,
    w=near(recorded[-1, girl], 0.92, 0.05),
)
plot_attention(recorded, tokens, title="One head, all its rows: the last one finds the girl")

# %% [markdown] name="reading_the_map"
# A row belongs to a token that looks, a column to a token that is looked at, and each row sums to 1. The upper triangle is
# empty: nobody looks at a later token. By the end of this lesson you will have computed every number in this picture.
#
# One caution. We went looking for a head that does this and found one; that is a picture of what the head reads, not yet a
# proof that the answer hangs on it. Lessons 04 and 10 switch heads off to find out.

# %% [markdown] name="soft_lookup"
# ## A lookup that is soft
#
# A Python dictionary takes a query, finds the one key that equals it, and hands over its value. Attention does the same with
# three changes. Query and keys are vectors, so that instead of *equal* they can be more or less *alike*. How alike they are
# is measured by their dot product, the **score**. And what comes back is not one value but an average of all of them, in
# which a better score has more weight.
#
# The scores become weights by **softmax**: raise e to the power of each score, then divide by the sum. All weights are then
# above 0 and their sum is 1.

# %% name="soft_lookup_code"
keys = torch.tensor([[4.0, 0.0], [0.0, 4.0], [-4.0, 0.0]])  # (3, 2): east, north, west
values = torch.tensor([[10.0], [20.0], [30.0]])  # (3, 1)


def look_up(query: Tensor) -> Tensor:
    scores = keys @ query  # (3, 2) @ (2,) -> (3,)
    weights = torch.softmax(scores, dim=0)  # (3,)
    print("query", query.tolist(), "scores", scores.tolist(), "weights", weights.numpy().round(3))
    return weights @ values  # (3,) @ (3, 1) -> (1,)


look_up(torch.tensor([1.0, 0.0]))

# %% [markdown] name="soft_lookup_predict"
# **Predict.** What comes back for the query `[1, 1]`, north-east? And for `[0, 0]`?
#
# <details><summary>Answer</summary>
#
# North-east scores 4 with east, 4 with north and −4 with west: about half of 10 and half of 20, so 15. The query `[0, 0]`
# scores 0 with everything, so all weights are a third, and the plain average comes back: 20.
#
# </details>

# %% name="soft_lookup_more"
print(look_up(torch.tensor([1.0, 1.0])).tolist())
print(look_up(torch.tensor([0.0, 0.0])).tolist())

# %% [markdown] name="soft_lookup_why"
# Why soft? Because everything in it has a slope. A little change of the query changes the answer a little, so that training
# can find queries and keys that work. A dictionary either hits or misses, and a miss says nothing about the direction to go.

# %% [markdown] name="one_row"
# ## One head, one row at a time
#
# In a GPT the queries, keys and values are made from the text itself, hence *self*-attention. At each position the model
# holds a vector $x_t$ of width $C$. A head has three matrices, and multiplies each $x_t$ by each of them:
#
# $$q_t = W_q\,x_t \qquad k_t = W_k\,x_t \qquad v_t = W_v\,x_t$$
#
# A query asks, a key advertises, a value is what is handed over. Nobody told the model so: the three matrices start as noise,
# and what they come to mean follows from where their products stand in the formula below.
#
# Now with the numbers of the head from the picture. Two things come in between that this lesson does not explain. The bundled
# model brings all queries to one length, and all keys, so that no score can grow beyond all bounds; and it turns each of them by
# an angle that grows with its position, which is how it knows where tokens stand. Lesson 05 takes the angle apart, and a later
# one the lengths; here each is one line.

# %% name="q_k_v"
C, D = model.config.n_embd, model.config.head_dim
x = run[f"blocks.{layer}.norm1.output"][0]  # (T, C): what this layer's attention is given
all_heads = model.blocks[layer].attention.qkv.weight.detach()  # (3 · C, C): all heads' matrices in one
rows = slice(head * D, head * D + D)
W_q, W_k, W_v = (W[rows] for W in all_heads.chunk(3))  # 3 × (D, C): this head's share
q, k, v = x @ W_q.T, x @ W_k.T, x @ W_v.T  # (T, C) @ (C, D) -> 3 × (T, D)
part = model.blocks[layer].attention
q, k = part.q_norm(q).detach(), part.k_norm(k).detach()  # no slopes are wanted here
q, k = part.rotary(q), part.rotary(k)
print(f"x {tuple(x.shape)} @ W_q.T {tuple(W_q.T.shape)} -> q {tuple(q.shape)}, and k and v likewise")
their_q = run[f"blocks.{layer}.attention.q"][0, head]  # (T, D)
print("the same q as the model's:", torch.allclose(q, their_q, atol=1e-5))

# %% [markdown] name="one_row_steps"
# One row of the picture belongs to one position $t$, and takes three steps:
#
# 1. **Scores.** Compare the query of $t$ with the key of every position $s$: $\;q_t \cdot k_s / \sqrt{D}$. (The root has a
#    section of its own.)
# 2. **Weights.** Softmax over the scores.
# 3. **Output.** The average of the values, with these weights.
#
# Take the last position, which may look at the whole text.

# %% name="one_row_code"
t = T - 1
scores = k @ q[t] / math.sqrt(D)  # (T, D) @ (D,) -> (T,)
weights = torch.softmax(scores, dim=0)  # (T,)
output = weights @ v  # (T,) @ (T, D) -> (D,)

difference = (output - run[f"blocks.{layer}.attention.heads"][0, head, t]).abs().max()
say("The output is the model's own to within {d:.0e}.", d=difference)
figure, axes = picture(
    7.2,
    3.0,
    title=f"Softmax turns a lead in score into {weights[girl]:.0%} of the weight",
    alt=f"Bars: the scores of {T} keys. Girl has the highest, and {weights[girl]:.0%} of the weight.",
)
axes.bar(range(T), scores, color=[VERMILION if s == girl else BLUE for s in range(T)])
for s in (weights >= 0.005).nonzero()[:, 0].tolist():
    axes.text(s, max(scores[s], 0), f"{weights[s]:.0%}", ha="center", va="bottom", fontsize=9)
axes.set_xticks(range(T), tokens, rotation=90, fontsize=9)
axes.set(ylabel="score (figures: weight)", xlabel="key: the token looked at")
axes.margins(y=0.15)
figure

# %% [markdown] name="value_is_not_token"
# The weights say *where from*; what arrives is still to be said. It is not the token *girl* and not even its vector $x$, but
# $W_v\,x$, which has $D$ numbers where $x$ has $C$. A head looks at a place and takes one aspect of what is there.

# %% [markdown] name="all_rows"
# ## All rows at once
#
# Every position asks in the same way, so the $T$ queries go into one matrix and all $T \times T$ scores come out of one
# product. This is equation 1 of *Attention Is All You Need* (2017):
#
# $$\text{attention}(Q, K, V) = \text{softmax}\!\left(\frac{Q K^\top}{\sqrt{D}}\right) V$$
#
# Below, `S` is the number of positions that can be looked at. In self-attention that is `T`.


# %% name="attend"
def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (T, D) @ (D, S) -> (T, S)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1)  # (T, S): each row sums to 1
    return weights @ v, weights  # (T, S) @ (S, D) -> (T, D)


output, weights = attend(q, k, v)
print("output", tuple(output.shape), "weights", tuple(weights.shape))

# %% [markdown] name="all_rows_predict"
# **Predict.** We have just computed all rows of the head from the first picture, with its own queries, keys and values. In
# which of the rows do our weights agree with those that the model computed?

# %% name="which_rows_agree" gptlib={"role": "reveal"}
agree = ((weights - recorded).abs().amax(dim=-1) < 1e-5).nonzero()[:, 0].tolist()  # rows
reveal(
    "Only in the last: of the rows 0 to {last}, those that agree are {agree}. Every other row has "
    "given weight to tokens that come later in the text, and the model never does.",
    question="Answer",
    last=T - 1,
    agree=agree,
)

# %% [markdown] name="mask"
# ## The mask
#
# A GPT is trained to predict, at every position at once, the token that comes next. That token stands in the input too, one
# position further on. If a position could look at it, the task would be copying, and the model would learn to copy; when it
# writes, there is nothing there to copy. So row $t$ may look at positions $0 \ldots t$, itself included, and at no other.
#
# The **causal mask** is added to the scores before the softmax. It holds 0 where a position may look, which changes nothing,
# and $-\infty$ where it may not: $e^{-\infty}$ is exactly 0, and the softmax shares out all the weight among the rest.


# %% name="causal_mask"
def causal_mask(T: int) -> Tensor:
    return torch.full((T, T), -math.inf).triu(diagonal=1)  # -inf above the diagonal, 0 elsewhere


output, weights = attend(q, k, v, causal_mask(T))
say(
    "With the mask, all rows together differ from the recorded weights by at most {w:.0g}, and from "
    "the recorded outputs by at most {o:.0g}.",
    w=(weights - recorded).abs().max(),
    o=(output - run[f"blocks.{layer}.attention.heads"][0, head]).abs().max(),
)
causal_mask(4)

# %% [markdown] name="mask_done"
# That is the whole head: every number in the first picture, from three matrices and one formula.
#
# ## Wrong first: the mask after the softmax
#
# It is tempting to compute all weights and then to put zeros where the future is. Four tokens, random queries and keys:

# %% name="mask_after"
torch.manual_seed(0)
q4, k4, v4 = torch.randn(3, 4, 8)  # 3 × (4, 8)
_, everything = attend(q4, k4, v4)  # (4, 4)
after = everything.tril()  # zeros above the diagonal
_, before = attend(q4, k4, v4, causal_mask(4))
for name, w in {"zeros after the softmax": after, "-inf before the softmax": before}.items():
    print(f"{name}:\n{w.numpy().round(2)}\nrows sum to {w.sum(-1).numpy().round(2)}\n")

# %% [markdown] name="mask_after_predict"
# The rows no longer sum to 1, which is easy to see. There is a worse fault, which is not.
#
# **Predict.** With zeros after the softmax, is what row 0 puts out independent of tokens 1 to 3?
#
# <details><summary>Answer</summary>
#
# No. Row 0 keeps the single weight $e^{s_{00}} / (e^{s_{00}} + e^{s_{01}} + e^{s_{02}} + e^{s_{03}})$, and the scores of the
# future stand below the line. The better a later token fits, the smaller what is left for row 0. That is a message from the
# future.
#
# Dividing each row by its sum again would cure this on paper: the same fractions come out as with −∞. In floating point it
# fails where it matters, since a row whose weight lies nearly all in the future becomes 0 / 0.
#
# </details>

# %% [markdown] name="leaks"
# ## Three leaks, and the test that finds them
#
# A mask that leaks is the worst kind of bug: nothing crashes, all shapes are right, and the training loss is *better* than it
# should be. Here are three that have been written many times.
#
# - **After the softmax**, as above.
# - **One column late**: `triu(diagonal=2)`. Each position sees the next token, the very one that it is to predict.
# - **A number in place of −∞**: −30, say. $e^{-30}$ is nearly 0, and nearly is not.


# %% name="leaks_code"
def correct(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, v, causal_mask(len(q)))


def after_softmax(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    weights = attend(q, k, v)[1].tril()
    return weights @ v, weights


def one_column_late(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, v, torch.full((len(q), len(q)), -math.inf).triu(diagonal=2))


def finite(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return attend(q, k, v, torch.full((len(q), len(q)), -30.0).triu(diagonal=1))


forms = {
    "−∞ before the softmax": correct,
    "zeros after it": after_softmax,
    "one column late": one_column_late,
    "−30 for −∞": finite,
}
for name, form in forms.items():
    output, weights = form(*torch.randn(3, 6, 8))
    least, most, future = weights.sum(-1).min(), weights.sum(-1).max(), weights.triu(1).max()
    print(f"{name:22} {tuple(output.shape)}  rows sum to {least:.2f}–{most:.2f}  future ≤ {future:.0e}")

# %% [markdown] name="leaks_test_idea"
# Shapes find none of them. Row sums find one. The largest weight on the future finds another, and calls the third rounding.
# What finds all three is to ask for the property itself: *whatever happens later must make no difference now*. So run the
# thing twice, the second time with everything from position $t$ on replaced, and compare the rows before $t$.


# %% name="perturbation_test"
def earlier_change(f, x: Tensor, t: int, strength: float = 1.0) -> Tensor:
    """How much each row of f(x) before t changes when noise replaces x (T, C) from t on: (t,)."""
    replaced = x.clone()
    replaced[t:] = strength * torch.randn(x[t:].shape, generator=torch.Generator().manual_seed(1))
    return (f(replaced) - f(x))[:t].abs().amax(dim=-1)  # (t,)


torch.manual_seed(0)
x12 = torch.randn(12, 24)  # (T, C)
to_q, to_k, to_v = torch.randn(3, 24, 16) / math.sqrt(24)  # 3 × (C, D)


def self_attention(form):
    return lambda x: form(x @ to_q, x @ to_k, x @ to_v)[0]  # (T, C) -> (T, D)


changes = {}
for strength in (1, 100):
    for name, form in forms.items():
        change = earlier_change(self_attention(form), x12, t=8, strength=strength)
        changes[f"{name}, noise × {strength}"] = change
        print(f"noise × {strength:<4} {name:22} rows changed: {change.nonzero()[:, 0].tolist()}")
assert not changes["−∞ before the softmax, noise × 100"].any()

# %% [markdown] name="leaks_predict"
# **Predict.** Ordinary noise did not find the finite mask. Why did strong noise?
#
# <details><summary>Answer</summary>
#
# A hidden score loses 30, so it counts again once it is about 30 larger than those that are allowed. Scores of ordinary noise
# are far from that. In training they grow, layer by layer and step by step, and nobody is told on the day they reach 30.
#
# </details>

# %% name="plot_leaks"
table = torch.stack(list(changes.values()))  # (8, 8): form and strength × row
figure, axes = picture(
    7.2,
    3.4,
    title="Only −∞ before the softmax leaves every earlier row alone",
    alt="Map of how much each row before position 8 changes, for four masks and two strengths of noise. "
    "All rows of −∞ before the softmax are exactly 0; each of the other masks has rows that change.",
)
image = axes.imshow(table.log10().where(table > 0, torch.nan), cmap="viridis", aspect="auto")
for i, j in (table == 0).nonzero().tolist():
    axes.text(j, i, "0", ha="center", va="center", color=GREY)
axes.set_yticks(range(len(changes)), list(changes), fontsize=9)
axes.set(xlabel="row before position 8 (0 = not one bit changed)")
figure.colorbar(image, ax=axes, label="change of the output, log₁₀")
figure

# %% [markdown] name="leaks_explained"
# Two things make this test sharp.
#
# - It compares with `== 0` and not with a tolerance. A weight of exactly 0 times any finite number adds exactly 0, so that a
#   correct mask changes *not one bit* of the earlier rows, and a difference of $10^{-12}$ is a leak.
# - It is strong. A gentle nudge misses the finite mask; a shove does not.
#
# And −1e9, which many implementations use? Scores of a billion do not occur, so it holds, in 32-bit numbers. But you have to
# argue that, for every format and every future use. −∞ needs no argument.
#
# The test needs to know nothing about what is inside `f`. Here is the whole bundled model under it.

# %% name="whole_model"
torch.manual_seed(0)
changed = ids.clone()
changed[0, 15:] = torch.randint(tokenizer.vocab_size, (T - 15,))
with torch.no_grad():
    difference = (model(changed)[0] - model(ids)[0])[0].abs().amax(dim=-1)  # (T,)
say(
    "With the tokens from position 15 on replaced, the logits before it change by at most "
    "{before:g}, and those from it on by up to {after:.0f}.",
    before=near(difference[:15].max(), 0, 0),
    after=difference[15:].max(),
)

# %% [markdown] name="root"
# ## Why the square root of D
#
# **Predict.** Let the $D$ numbers of a query and those of a key be independent, with mean 0 and variance 1. How large is
# $q \cdot k$ typically, for $D = 64$?
#
# <details><summary>Answer</summary>
#
# About 8. Each of the $D$ products has mean 0 and variance 1; variances of independent numbers add up, so the sum has
# variance $D$ and standard deviation $\sqrt{D}$. Dividing by $\sqrt{D}$ brings it back to 1, whatever $D$ is.
#
# </details>

# %% name="root_spread"
torch.manual_seed(0)
sizes = [4, 16, 64, 256, 1024]
raw = {}
for dim in sizes:
    some_q, some_k = torch.randn(2000, 1, dim), torch.randn(2000, 16, dim)  # 16 keys for each query
    raw[dim] = (some_q @ some_k.transpose(-2, -1))[:, 0]  # (2000, 1, D) @ (2000, D, 16) -> (2000, 16)
lines = "\n".join(
    f"| {dim} | {s.std():.2f} | {math.sqrt(dim):.2f} | {s.softmax(-1).amax(-1).mean():.2f} "
    f"| {(s / math.sqrt(dim)).softmax(-1).amax(-1).mean():.2f} |"
    for dim, s in raw.items()
)
say(
    "| D | spread of q·k, measured | √D | largest of 16 weights without the root | with it |\n"
    "|---|---|---|---|---|\n{lines}",
    lines=lines,
)

# %% [markdown] name="root_saturation"
# The measured spread follows √D. And what is wrong with large scores? Softmax looks at differences: if one score leads by 10,
# its weight is $e^{10} \approx 22{,}000$ times the next. The average becomes a choice, and it was made by random matrices
# before the model had learned anything.
#
# Worse, the choice is hard to undo. Training changes the scores through the slope of the softmax:
# $\partial w_i / \partial s_j$ is $w_i\,(1 - w_i)$ for $i = j$ and $-w_i w_j$ otherwise. When one weight is 1 and the others
# are 0, every one of these products is 0. Here is their size, taken from autograd and not from the formula.

# %% name="root_gradient"
# All derivatives of the weights by the scores, row by row: (N, 16) -> (N, 16, 16)
slopes = torch.func.vmap(torch.func.jacrev(lambda s: torch.softmax(s, dim=-1)))
without = [slopes(s).norm(dim=(1, 2)).median() for s in raw.values()]
scaled = [slopes(s / math.sqrt(dim)).norm(dim=(1, 2)).median() for dim, s in raw.items()]
say(
    "At D = 64 half of all queries have a slope below {without:.2f}; with the root, half have one above {scaled:.2f}.",
    without=near(without[2], 0.12, 0.02),
    scaled=near(scaled[2], 0.28, 0.03),
)
figure, axes = picture(
    6.2,
    3.0,
    title="Without the root the slope fades as heads grow wider",
    alt="Two lines over D from 4 to 1,024. With the root the slope stays level; without it, it falls to 0.",
)
axes.plot(sizes, scaled, "o-", color=BLUE, label="q·k / √D")
axes.plot(sizes, without, "s--", color=VERMILION, label="q·k")
axes.set_xscale("log", base=2)
axes.set_xticks(sizes, [str(dim) for dim in sizes])
axes.set(xlabel="D, width of the head", ylabel="norm of ∂weights/∂scores, median", ylim=(0, None))
axes.legend()
figure

# %% [markdown] name="root_when"
# The argument supposes queries and keys whose numbers have variance 1. Do they, in a GPT that starts to train? In GPT-2 the
# matrices start with a standard deviation of 0.02, and what they are applied to has variance 1. Three such starts, at three
# widths:

# %% name="root_at_start"
torch.manual_seed(0)
lines = []
for name, width, head_dim in [("bundled model", 128, 32), ("GPT-2", 768, 64), ("GPT-2 XL", 1600, 64)]:
    inputs = torch.randn(512, width)  # 512 positions with variance 1
    start_q, start_k = (inputs @ (0.02 * torch.randn(width, head_dim)) for _ in range(2))  # 2 × (512, D)
    spread = (start_q @ start_k.T).std()  # of 512 × 512 products
    lines.append(f"| {name} | {width:,} | {head_dim} | {spread:.2f} | {spread / math.sqrt(head_dim):.2f} |")
products = (q @ k.T)[torch.ones(T, T).tril() == 1]  # of the head from the first picture, after training
say(
    "| start of | C | D | spread of q·k | and divided by √D |\n|---|---|---|---|---|\n{lines}\n\n"
    "After training, in the head from the first picture, it is {trained:.1f}, and divided by √D {divided:.1f}.",
    lines="\n".join(lines),
    trained=products.std(),
    divided=products.std() / math.sqrt(D),
)

# %% [markdown] name="root_honest"
# So at the start a small model could do without: its scores lie so near 0 that all weights are nearly equal either way. The
# root takes *D* out of the matter, so that one recipe serves heads of any width. It does not take out *C*: that is left to
# the initial values.

# %% [markdown] name="same_numbers"
# ## The same numbers from PyTorch
#
# PyTorch has this twice: `nn.MultiheadAttention`, a module with its own matrices, and `F.scaled_dot_product_attention`. The
# latter calls a **fused kernel** where it can, which computes the result block by block and never writes the $T \times T$
# weights to memory. Both take a mask of True and False.
#
# **Predict.** In such a mask, does True mean *may look* or *may not look*?
#
# <details><summary>Answer</summary>
#
# Both. In `F.scaled_dot_product_attention` True means *may look*, in `nn.MultiheadAttention` True means *may not*. Copy a
# mask from one to the other, and the model sees nothing but the future. A mask that is added leaves no choice, and both take
# that too.
#
# </details>

# %% name="same_numbers_code"
torch.manual_seed(0)
x16 = torch.randn(12, 16, requires_grad=True)  # (T, C), and one head of width D = C
matrices = torch.randn(3, 16, 16) / 4  # W_q, W_k, W_v
module = nn.MultiheadAttention(16, num_heads=1, bias=False, batch_first=True)
with torch.no_grad():
    module.in_proj_weight.copy_(matrices.flatten(0, 1))  # (3, C, C) -> (3 · C, C)
    module.out_proj.weight.copy_(torch.eye(16))  # mixes heads; with one head there is nothing to mix
projected = [x16 @ W.T for W in matrices]
may_look = torch.ones(12, 12).tril().bool()
by_head = [p[None, None] for p in projected]  # (T, D) -> (1, 1, T, D): the kernel wants batch and heads

results = {
    "attend": attend(*projected, causal_mask(12))[0],
    "nn.MultiheadAttention": module(x16[None], x16[None], x16[None], attn_mask=~may_look)[0][0],
    "F.scaled_dot_product_attention": F.scaled_dot_product_attention(*by_head, attn_mask=may_look)[0, 0],
    "the same, is_causal=True": F.scaled_dot_product_attention(*by_head, is_causal=True)[0, 0],
}
target = torch.randn(12, 16)


def slope_of(y: Tensor) -> Tensor:
    return torch.autograd.grad((y * target).sum(), x16, retain_graph=True)[0]  # (T, C)


for name, y in results.items():
    forwards = (y - results["attend"]).abs().max()
    backwards = (slope_of(y) - slope_of(results["attend"])).abs().max()
    print(f"{name:32} forwards {forwards:.0e}   backwards {backwards:.0e}")
    assert forwards < 1e-5 and backwards < 1e-4

# %% [markdown] name="three_uses"
# ## Encoder, decoder, and what GPT left out
#
# Attention came into use as a part of translators. The transformer of 2017 has two halves, and uses the same formula in three
# ways.
#
# | | queries from | keys and values from | mask | lives on in |
# |---|---|---|---|---|
# | **encoder** | the source | the source | none | BERT |
# | **decoder** | the text so far | the text so far | causal | GPT |
# | **cross-attention** | the text so far | the encoder's output | none | translation, speech to text |
#
# Below, a source of 7 tokens and a text of 5, with random vectors. Only cross-attention has $T \ne S$.

# %% name="three_uses_code"
torch.manual_seed(0)
source, text = torch.randn(7, 24), torch.randn(5, 24)  # (S, C), (T, C)
uses = {
    "encoder: no mask": attend(source @ to_q, source @ to_k, source @ to_v)[1],  # (7, 7)
    "decoder: causal": attend(text @ to_q, text @ to_k, text @ to_v, causal_mask(5))[1],  # (5, 5)
    "cross: text looks at source": attend(text @ to_q, source @ to_k, source @ to_v)[1],  # (5, 7)
}
figure, axes = picture(
    7.2,
    3.1,
    title="One formula, three uses; only the decoder's map is a triangle",
    alt="Three maps of weights: 7 by 7 and full, 5 by 5 with an empty upper triangle, 5 by 7 and full.",
)
left = 0
for name, w in uses.items():
    n_rows, n_columns = w.shape
    shown = w if name.startswith(("e", "cr")) else w.where(w > 0, torch.nan)
    image = axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, extent=(left, left + n_columns, n_rows, 0))
    axes.text(left, -0.3, f"{name}\n{n_rows} × {n_columns}", fontsize=9)
    left += n_columns + 3
axes.set(xlim=(-0.2, left - 2), ylim=(7.2, -1.9), xticks=[], yticks=[], xlabel="keys", ylabel="queries")
axes.spines[:].set_visible(False)
figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
figure

# %% [markdown] name="dropped"
# GPT keeps the decoder and drops the encoder, and with it cross-attention, which has nothing left to look at. If there is a
# source, it is written in front of the text. What does that save? Count it at the size of GPT-2: 12 layers, 768 wide. (A
# layer has two more parts, a feed-forward network and norms; lesson 06 is about them.) On the `meta` device PyTorch
# builds modules that have shapes and no numbers.


# %% name="dropped_count"
def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


with torch.device("meta"):
    gpt2 = GPT(GPTConfig.preset("gpt2"))
    encoder_layer = nn.TransformerEncoderLayer(768, 12, 3072)
    decoder_layer = nn.TransformerDecoderLayer(768, 12, 3072)  # has cross-attention besides
cross = count(decoder_layer) - count(encoder_layer)
assert cross == 4 * 768**2 + 4 * 768 + 2 * 768  # 4 matrices with biases, and a norm
assert count(encoder_layer) == count(gpt2.blocks[0])
both = count(gpt2) + 12 * cross + 12 * count(encoder_layer)
say(
    "| | parameters |\n|---|---|\n| GPT-2 | {gpt2:,} |\n| cross-attention in its 12 layers | {cross:,} |\n"
    "| an encoder of 12 such layers | {encoder:,} |\n| all three | {both:,} |\n\n"
    "What GPT left out would have made it {ratio:.2f} times as large; cross-attention alone adds "
    "{third:.0%} to a layer.",
    gpt2=count(gpt2),
    cross=12 * cross,
    encoder=12 * count(encoder_layer),
    both=both,
    ratio=both / count(gpt2),
    third=cross / count(encoder_layer),
)

# %% [markdown] name="dropped_price"
# The saving has a price. In an encoder every token of the source sees every other; in a GPT the source is read under the
# causal mask like all text, and a word near its beginning knows nothing of the end. What GPT gained is that every token of
# every text is something to predict, and that no one has to say which part of a text is the source.

# %% [markdown] name="popular"
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "A token attends only to the tokens before it." | To those and to itself. Without itself, the first row has nothing. |
# | "A GPT is PyTorch's `nn.TransformerDecoder`." | That one wants an encoder's output, and does not mask by itself. A GPT's blocks are those of `nn.TransformerEncoder`, under a causal mask. |
# | "Attention measures how related two tokens are." | Relation would be mutual. What $a$ asks of $b$ is not what $b$ asks of $a$. |
# | "Attention reads the words in their order." | It has no notion of order. Shuffle the earlier tokens, and the last row's output stays. |
#
# A cell for each.

# %% name="popular_itself"
strictly_before = torch.full((4, 4), -math.inf).triu(diagonal=0)  # the diagonal is forbidden too
attend(q4, k4, v4, strictly_before)[1]

# %% [markdown] name="popular_itself_explained"
# The first row is 0 / 0 in every place. During training one such row is enough to turn the whole loss, and one step later
# nearly every weight, into NaN.

# %% name="popular_decoder"
torch.manual_seed(0)
sizes = {"d_model": 24, "nhead": 2, "dim_feedforward": 48, "dropout": 0.0, "batch_first": True}
decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), num_layers=1).eval()
encoder_layer = nn.TransformerEncoderLayer(**sizes)
encoder = nn.TransformerEncoder(encoder_layer, num_layers=1, enable_nested_tensor=False).eval()
try:
    decoder(x12[None])
except TypeError as error:
    print("decoder(x):", error)
memory = torch.randn(1, 7, 24)
with torch.no_grad():
    for name, f in {
        "decoder(x, memory)": lambda x: decoder(x[None], memory)[0],
        "decoder(x, memory, tgt_mask=mask)": lambda x: decoder(x[None], memory, tgt_mask=causal_mask(12))[0],
        "encoder(x, mask=mask)": lambda x: encoder(x[None], mask=causal_mask(12))[0],
    }.items():
        print(f"{name:34} earlier rows change by up to {earlier_change(f, x12, t=8).max():.2g}")

# %% name="popular_mutual"
scores = q @ k.T / math.sqrt(D)  # (T, T): the head of the first picture, without a mask
above_diagonal = torch.triu_indices(T, T, offset=1)
both_ways = torch.stack([scores, scores.T])[:, *above_diagonal]  # (2, pairs)
say(
    "Position {t} scores {there:.1f} with the key of `girl`; the query of `girl` scores {back:.1f} with "
    "the key of position {t}. Over all pairs the correlation of the two directions is {r:.2f}; "
    "were they the same, it would be 1.",
    t=t,
    there=scores[t, girl],
    back=scores[girl, t],
    r=torch.corrcoef(both_ways)[0, 1],
)

# %% name="popular_order"
torch.manual_seed(0)
order = torch.cat([torch.randperm(11), torch.tensor([11])])  # shuffles all but the last
in_order, _ = correct(x12 @ to_q, x12 @ to_k, x12 @ to_v)
shuffled, _ = correct(x12[order] @ to_q, x12[order] @ to_k, x12[order] @ to_v)
difference = (in_order[-1] - shuffled[-1]).abs().max()
say("The last row's output differs by {d:.0e}, which is rounding.", d=near(difference, 0, 1e-5))

# %% [markdown] name="popular_order_explained"
# A weighted average does not care in which order its terms are added. A GPT knows order only because something about
# positions is put into the vectors or the scores, and lesson 05 is about nothing else.

# %% [markdown] name="library"
# ## The part in the library
#
# What you have built is in `gptlib/attention.py`, and this is its heart:

# %% name="library_source"
import inspect

from gptlib import attention

for name in ("attention_scores", "attention_weights", "scaled_dot_product_attention"):
    code = inspect.getsource(getattr(attention, name))
    print(code.split('"""')[0].rstrip() + code.rsplit('"""', 1)[1])  # without its description

# %% name="library_equal"
from gptlib import CausalSelfAttention

theirs = attention.scaled_dot_product_attention(q, k, v, attention.causal_mask(T))
ours = attend(q, k, v, causal_mask(T))
print("functions:", [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)])

config = GPTConfig(vocab_size=1, n_positions=12, n_embd=16, n_layer=1, n_head=1, bias=False, position="none")
part = CausalSelfAttention(config)  # the module that a GPT is made of
with torch.no_grad():
    part.qkv.weight.copy_(matrices.flatten(0, 1))
    part.project.weight.copy_(torch.eye(16))
    difference = (part(x16[None])[0] - results["attend"]).abs().max()
print(f"module: differs by {difference:.0e}")

# %% [markdown] name="library_explained"
# The module computes all heads' queries, keys and values in one product, which is what `qkv` stands for. It takes the fused
# kernel in everyday use and the plain form while somebody records. That is how we could read the weights in the first place:
# the kernel has none to show.

# %% [markdown] name="viewer"
# ## Every head, live
#
# The first picture was one head. Here are all of them on the same text. Choose a head with the mouse, or with the arrow keys
# and Enter, move over its map to read a value, and change the text.
#
# - Which heads mostly look one token back?
# - Change a word late in the text. Which rows of which heads change?
# - Put *a soldier* in place of *a girl*. Does the same head find it?
#
# (Where no kernel runs, as on GitHub, you see a still picture of it.)

# %% name="viewer_live"
from gptlib.widgets import AttentionViewer

AttentionViewer(model, tokenizer, story)

# %% [markdown] name="so_far"
# ## The model so far
#
# What does attention buy? Two models and one measure. A **bigram**, as in lesson 02, knows the last token only: it counts, over
# the training stories, which token follows which. The other has a single head of attention in front of the same question.
#
# The measure is the **loss**, −ln of the probability that the model gave to the token which really came, averaged over the
# tokens of test stories; its unit is the nat. The stories are drawn from a small world whose probabilities are known, so the lowest loss
# that any model can reach is known too. What counts is how many nats a model stays above this **floor**.

# %% name="bigram"
from gptlib import TrainConfig, load_corpus, tales, train

corpus = load_corpus("tales:5000")  # 5,000 stories to learn from
test_stories = tales.split("test", 200)
V = tokenizer.vocab_size


class Bigram(nn.Module):
    """Scores of the next token from the last one alone."""

    def __init__(self, text: str) -> None:
        super().__init__()
        ids = torch.tensor(tokenizer.encode(text))
        counts = torch.full((V, V), 0.01)  # not 0, so that what was never seen is not impossible
        counts.index_put_((ids[:-1], ids[1:]), torch.tensor(1.0), accumulate=True)
        self.scores = (counts / counts.sum(dim=1, keepdim=True)).log()  # (V, V)

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        return self.scores[ids], None  # (B, T) -> (B, T, V)


bigram = tales.evaluate(Bigram(corpus.train), tokenizer, test_stories)
print(f"bigram: {bigram.nats_per_token:.2f} nats per token; floor {bigram.floor:.2f}")

# %% [markdown] name="one_head"
# Now the head, in a model as small as can be: a vector for each token, one head, and scores for the next token. What the head
# finds is *added* to the token's own vector. A head that finds nothing leaves a bigram behind, so every nat below the bigram
# was bought by looking back. `train` is the course's own training loop, which lesson 08 builds; 300 steps take it 5 to
# 20 seconds on two cores.


# %% name="one_head_code"
class OneHead(nn.Module):
    """Token vectors, one head of attention, and scores of the next token."""

    def __init__(self, diagonal: int = 1, positions: bool = False) -> None:
        super().__init__()
        # Where train() reads how long a text may be.
        self.config = GPTConfig(vocab_size=V, n_positions=256, n_embd=128, n_layer=1, n_head=1)
        self.token_embedding = nn.Embedding(V, 128)  # (V, C)
        self.position_embedding = nn.Embedding(256, 128) if positions else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(128, 128, bias=False) for _ in range(3))  # D = C
        self.to_scores = nn.Linear(128, V, bias=False)
        self.diagonal = diagonal  # of the mask; 1 is the right one
        for weights in self.parameters():
            nn.init.normal_(weights, std=0.02)
        nn.init.normal_(self.token_embedding.weight, std=0.3)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        T = ids.size(1)
        x = self.token_embedding(ids)  # (B, T) -> (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[:T]
        mask = torch.full((T, T), -math.inf).triu(self.diagonal)
        x = x + attend(self.to_q(x), self.to_k(x), self.to_v(x), mask)[0]
        logits = self.to_scores(x)  # (B, T, C) -> (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return count(self)


torch.manual_seed(0)
one_head = OneHead()
print(f"{one_head.n_parameters():,} parameters")

# %% name="one_head_train"
recipe = {"batch_size": 8, "learning_rate": 0.03, "warmup_steps": 20, "eval_every": 1000}
recipe |= {"precision": "fp32", "device": "cpu"}
result = train(one_head, corpus, tokenizer, TrainConfig(steps=300, **recipe), verbose=False)
measured = tales.evaluate(one_head, tokenizer, test_stories)
print(f"one head: {measured.nats_per_token:.2f} nats per token; floor {measured.floor:.2f}")

# %% [markdown] name="chart_predict"
# **Predict.** The bundled model has many heads in several layers, and much else besides. Of the way from the bigram down to the floor,
# how much has the single head covered in its few seconds? A tenth, a half, nine tenths?

# %% name="chart"
bundled = tales.evaluate(model, tokenizer, test_stories)
points = {"bigram": bigram, "one head": measured, "bundled model": bundled}
above = {name: point.nats_per_token - point.floor for name, point in points.items()}
share = 1 - above["one head"] / above["bigram"]
say(
    "Nats above the floor: bigram {bigram:.2f}, one head {head:.2f}, bundled model {bundled:.3f}. "
    "The single head has covered {share:.0%} of the way.",
    bigram=above["bigram"],
    head=near(above["one head"], 0.77, 0.08),
    bundled=above["bundled model"],
    share=share,
)
plot_ladder(
    {name: above[name] for name in ("one head", "bundled model")},
    title="Looking back pays: the first points of a chart that goes on",
)

# %% [markdown] name="writes_explained"
# The model writes, too: take its probabilities for the next token, draw one, append it, and ask again.

# %% name="writes"
import textwrap

torch.manual_seed(4)
written = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])  # (1, T)
with torch.no_grad():
    for _ in range(50):
        probabilities = one_head(written)[0][0, -1].softmax(dim=-1)  # (V,)
        written = torch.cat([written, torch.multinomial(probabilities, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(written[0].tolist()), 100))

# %% [markdown] name="writes_meaning"
# The right kind of words, and little order in them. Without positions a head cannot tell what was said just now from what was
# said long ago: it knows the last token, and for the rest an unordered heap of words.
#
# ## What a leak looks like from outside
#
# One experiment is left, and it is the reason for the test above. The same model again, with two changes: it is given a
# vector for each position, so that a row can tell which key is the next token's; and its mask is one column late.
#
# **Predict.** What does its loss do?

# %% name="leaky"
torch.manual_seed(0)
leaky = OneHead(diagonal=2, positions=True)
leaky_result = train(leaky, corpus, tokenizer, TrainConfig(steps=200, **recipe), verbose=False)
mask = torch.full((4, 4), -math.inf).triu(leaky.diagonal)
print(f"{leaky_result.steps} steps, with this mask:\n{mask.numpy()}")

# %% name="leaky_answer" gptlib={"role": "reveal"}
leaky_measured = tales.evaluate(leaky, tokenizer, test_stories)
with torch.no_grad():  # honest: the text ends where the model is asked, and there is no next token to look at
    texts = [tokenizer.encode("<|endoftext|>" + story.text) for story in test_stories]
    asked = [(text, place) for text in texts for place in range(20, len(text), 40)]
    last = [(leaky(torch.tensor([text[:n]]))[0][0, -1], text[n]) for text, n in asked]  # (V,) and an id
    losses = [-logits.log_softmax(-1)[truth].item() for logits, truth in last]
reveal(
    "It falls to {loss:.2f} nats per token, and the floor is {floor:.2f}. No model can know more than "
    "the world that the stories are drawn from, so it cheats. Asked at the end of a text, where no next "
    "token stands, it is left with {honest:.1f} nats; the bigram has {bigram:.1f}.",
    question="Answer",
    loss=near(leaky_measured.nats_per_token, 0.013, 0.05),
    floor=leaky_measured.floor,
    honest=sum(losses) / len(losses),
    bigram=bigram.nats_per_token,
)

# %% name="plot_leaky"
plot_losses(
    {"right mask": result.log, "one column late (with positions)": leaky_result.log},
    title="A leak goes where no model can: below the floor",
    floor=leaky_measured.floor,
)

# %% [markdown] name="leaky_explained"
# On other text nobody knows the floor, and such a loss passes for a triumph until the model is asked to write. Hence the
# test, and hence the last of the exercises: you write it.
#
# ## Three sentences to remember
#
# 1. Attention is a soft lookup: each position's query is compared with the keys of the positions it may see, and it takes
#    home the average of their values, weighted by softmax(q·k / √D).
# 2. The causal mask is −∞, added before the softmax, above the diagonal: each position sees itself and what came before, to
#    the last bit.
# 3. Shapes and row sums do not find a leak; changing the future and comparing the past does.
#
# ## Exercises
#
# [Set 03](../exercises/03_attention.ipynb) (in `work/exercises` if you came by `make lab`), about 40 minutes:
#
# | exercise | minutes |
# |---|---|
# | `attention.causal_mask`: hide the future | 5 |
# | `attention.scores`: how well a query matches a key | 5 |
# | `attention.attend`: attention, whole | 12 |
# | `attention.leaks`: write the test that finds wrong masks | 15 |
#
# **Next:** [Many heads: looking at several places at once](04_many_heads.ipynb).
#
# ## Where to read more
#
# - Ashish Vaswani and others, *Attention Is All You Need* (2017). Section 3.2 is this lesson; the root has its reason in a
#   footnote there.
# - Dzmitry Bahdanau, Kyunghyun Cho, Yoshua Bengio, *Neural Machine Translation by Jointly Learning to Align and Translate*
#   (2014). Attention before transformers: a translator that looks back at its source.
# - Alec Radford and others, *Improving Language Understanding by Generative Pre-Training* (2018). The first GPT: the decoder
#   alone.
# - Jacob Devlin and others, *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding* (2018). The
#   encoder alone.
# - Tri Dao and others, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness* (2022). The fused
#   kernel.
# - Sarah Wiegreffe and Yuval Pinter, *Attention is not not Explanation* (2019). What a map of weights does and does not show.
