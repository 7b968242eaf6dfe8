# %% [markdown] name="title"
# # Many heads: looking at several places at once
#
# {{badge}}
#
# After this lesson you can write the attention layer of GPT-2 in a dozen lines, find the reshaping bug that nearly everybody
# makes once, say what many heads cost and what they do not, and tell what the heads of a trained model do, with numbers.
#
# | | |
# |---|---|
# | Reading | about 40 minutes |
# | Running | about a minute and a half on two CPU cores; no GPU, no network |
# | Know first | lesson 03: queries, keys and values, softmax, the causal mask, the test that finds a leak |
# | Afterwards | the three exercises of set 04, about 25 minutes |
#
# Shapes stand in the comments. `B` texts of `T` tokens lie side by side, each token with a vector of width `C`. A layer has
# `H` heads of width `D`, and nearly always $D = C / H$. `L` counts layers, `V` the tokens that a model knows.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# Lesson 03 took one head of the bundled model and computed every number in it. Here are all the heads of the same model, at
# one place in one text: what does each of them look at from the last word of this?
#
# > Nora had an old dog. One morning Nora saw a fox beside a river. The fox did not cross the river because it was too
#
# **Predict.** To go on well, from which words of the text does a model need something? Will one head get it all?

# %% name="thing"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import GPT, CausalSelfAttention, GPTConfig, load_model, record, say
from gptlib.plots import BLUE, GREEN, GREY, VERMILION, picture, plot_attention_heads, plot_ladder, visible
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
story = "<|endoftext|>Nora had an old dog. One morning Nora saw a fox beside a river. "
story += "The fox did not cross the river because it was too"
ids = torch.tensor([tokenizer.encode(story)])  # (1, T)
tokens = ["(start)", *tokenizer.tokens(ids[0, 1:].tolist())]  # T labels
with record(model) as run:
    model(ids)
n_layer, n_head = model.config.n_layer, model.config.n_head
all_weights = torch.stack([run[f"blocks.{i}.attention.weights"][0] for i in range(n_layer)])  # (L, H, T, T)
last = all_weights[:, :, -1]  # (L, H, T): what every head looks at from the last token
print("weights of all heads", tuple(all_weights.shape), "-> of their last rows", tuple(last.shape))

# %% name="thing_answer" gptlib={"role": "reveal"}
favourite = last.argmax(dim=-1)  # (L, H)
names = [visible(token) for token in tokens]
figure, axes = picture(
    7.4,
    1.4 + 0.19 * n_layer * n_head,
    title="From the same place, the heads look at many",
    alt=f"Map of {n_layer * n_head} heads by {len(tokens)} tokens: what each takes from the last position. "
    f"The favourites are {', '.join(sorted({names[i] for i in favourite.flatten().tolist()}))}.",
)
image = axes.imshow(last.flatten(0, 1).sqrt(), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
axes.set_xticks(range(len(tokens)), names, rotation=90, fontsize=8)
axes.set_yticks(range(n_layer * n_head), [f"{i}.{h}" for i in range(n_layer) for h in range(n_head)], fontsize=7)
for i in range(1, n_layer):
    axes.axhline(i * n_head - 0.5, color="white", linewidth=1.5)
axes.set(xlabel="key: the token looked at", ylabel="layer.head")
bar = figure.colorbar(image, ax=axes, label="weight (colour: its square root)", shrink=0.8)
bar.set_ticks([0, 0.5**0.5, 1], labels=["0", "0.5", "1"])
reveal(
    "Something from many: whom it is about, what was beside what, and which word *too* leaves open. The {n} heads have {different:.0f} "
    "different favourite tokens between them, and in {layers} of {n_layer} layers the heads of one layer do not agree "
    "on theirs.",
    question="Answer",
    n=n_layer * n_head,
    different=near(favourite.unique().numel(), 15, 10),
    layers=sum(favourite[i].unique().numel() > 1 for i in range(n_layer)),
    n_layer=n_layer,
)
figure

# %% [markdown] name="thing_explained"
# A layer of attention is not one lookup but several, made side by side and put together. That is all there is to **multi-head
# attention**. Why should it be better than one lookup that is as wide as all of them? And what does it cost? Begin with what one head
# cannot do.
#
# ## One head must choose
#
# The weights of a row sum to 1. So a head that wants something from two places has to divide its weight, and what comes home is one vector,
# the *average* of both.
#
# A case small enough to see through. A text has one of six symbols at every position. One position carries mark A and one mark B, and the
# last position is to report both symbols, first that at A, then that at B. (The marks stand anywhere; the symbols under them
# differ.) By hand we make a head that gives the fraction $p$ of its weight to A and $1 - p$ to B, and no more than a trace to anything else.


# %% name="two_places"
def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (…, T, D) @ (…, D, S) -> (…, T, S)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1)  # (…, T, S)
    return weights @ v, weights  # (…, T, S) @ (…, S, D) -> (…, T, D)


n_symbols = 6
pairs = [(a, b) for a in range(n_symbols) for b in range(n_symbols) if a != b]
torch.manual_seed(0)
symbols = torch.randint(n_symbols, (len(pairs), 10))  # (30, S): a text for each pair of answers
places = torch.stack([torch.randperm(10)[:2] for _ in pairs])  # (30, 2): where A and B stand
symbols.scatter_(1, places, torch.tensor(pairs))
marks = F.one_hot(places, 10).transpose(1, 2).float()  # (30, 2, 10) -> (30, S, 2): a key for each position
values = F.one_hot(symbols, n_symbols).float()  # (30, S, 6)


def look(log_odds: float, strength: float = 20.0) -> Tensor:
    """What a head takes home whose scores are `strength` at the marks, and at A by `log_odds` more than at B."""
    q = torch.tensor([[strength + log_odds / 2, strength - log_odds / 2]]) * math.sqrt(2)  # (1, D = 2)
    return attend(q, marks, values)[0][:, 0]  # (30, 1, 6) -> (30, 6)


for p in (0.5, 0.9):
    print(
        f"p = {p}: A holds {pairs[7][0]}, B holds {pairs[7][1]}; the head brings {look(math.log(p / (1 - p)))[7].numpy().round(2)}"
    )

# %% [markdown] name="two_places_predict"
# What comes after a head in a GPT multiplies it by a matrix. So let the best matrix there is read the answers out of this vector: it is fitted
# by gradient descent, one for the symbol at A and one for that at B.
#
# **Predict.** At $p = 0.5$, how sure can it be of the symbol at A? At $p = 0.9$, of the one at A, and of the one at B?


# %% name="two_places_fit"
def best_reading(brought: Tensor, steps: int = 150) -> list[float]:
    """Probability that the best matrix gives the right symbol, at A and at B, from what was brought, (30, width)."""
    found = []
    for answers in torch.tensor(pairs).T:  # 2 × (30,)
        read = nn.Linear(brought.size(1), n_symbols)
        optimizer = torch.optim.Adam(read.parameters(), lr=0.3)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(read(brought), answers).backward()
            optimizer.step()
        found.append(read(brought).softmax(-1)[range(len(pairs)), answers].mean().item())
    return found


fractions = [0.02, 0.1, 0.3, 0.45, 0.5, 0.55, 0.7, 0.9, 0.98]
one = [best_reading(look(math.log(p / (1 - p)))) for p in fractions]
two = best_reading(torch.cat([look(40.0), look(-40.0)], dim=1))  # one head for A, one for B, side by side

# %% name="two_places_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    3.2,
    title="One head must choose between two places; two heads need not",
    alt="Probability of the right symbol by the weight that one head gives to place A: for A "
    + ", ".join(f"{a:.2f}" for a, _ in one)
    + "; for B "
    + ", ".join(f"{b:.2f}" for _, b in one)
    + f". Two heads: {two[0]:.2f} and {two[1]:.2f}.",
)
axes.plot(fractions, [a for a, _ in one], "o-", color=BLUE, label="one head: symbol at A")
axes.plot(fractions, [b for _, b in one], "s--", color=VERMILION, label="one head: symbol at B")
axes.axhline(min(two), color=GREEN, linestyle=":", label="two heads: both symbols")
axes.axhline(1 / n_symbols, color=GREY, linewidth=1, label="knowing nothing")
axes.set(xlabel="weight on A (the rest on B)", ylabel="probability of the right symbol", ylim=(0, 1.05))
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "At 0.5 the right symbol gets {half:.0%} at either place: it knows the two symbols and not which is where. At 0.9 the symbol at A "
    "gets {a:.0%} and the one at B {b:.0%}. Two heads give both {both:.0%}.",
    question="Answer",
    half=near(one[4][0], 0.5, 0.03),
    a=near(one[7][0], 1, 0.03),
    b=near(one[7][1], 0.19, 0.06),
    both=near(min(two), 1, 0.03),
)
figure

# %% [markdown] name="two_places_explained"
# It is no lack of width: our head had all the room it needed. At 0.5 the vector is the same whichever symbol stands where.
#
# Beside 0.5 it differs, but no *matrix* can use that for B. It would have to score the symbol of which there is less above the one of which
# there is more, and both above those of which there is none; but the score from a matrix rises with the amount or falls with it, and is never highest in between. "Averaging inhibits this," says the
# paper of 2017 about looking at several places with a single head.
#
# ## Split, attend, merge
#
# So we want $H$ heads. The plain way is a loop: each head has matrices of its own, of shape (D, C), makes its own queries, keys and values, and attends. A
# loop of small products is slow, and there is no need for one. Stack the matrices of all heads, multiply once, and *cut* the result into
# heads.
#
# The cut makes the heads a dimension of their own, in front of the positions, because `@` and softmax treat all leading
# dimensions as so many separate cases. It takes two steps: `view` cuts the last dimension, C, into (H, D); `transpose` moves H to the front.


# %% name="split_merge"
def split(x: Tensor, n_head: int) -> Tensor:
    B, T, C = x.shape
    return x.view(B, T, n_head, C // n_head).transpose(1, 2)  # (B, T, H, D) -> (B, H, T, D)


def merge(heads: Tensor) -> Tensor:
    B, H, T, D = heads.shape
    return heads.transpose(1, 2).reshape(B, T, H * D)  # (B, H, T, D) -> (B, T, H, D) -> (B, T, C)


x = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]])  # (1, 3, 4): three tokens, four features
print("head 0:", split(x, 2)[0, 0].tolist(), "  head 1:", split(x, 2)[0, 1].tolist())
print("and back:", torch.equal(merge(split(x, 2)), x))

# %% [markdown] name="split_predict"
# **Predict.** The target shape of `split` is (B, H, T, D), which has as many numbers as (B, T, C). So why not say so at once: `x.view(B, H, T, D)`? What
# would be in head 0?
#
# <details><summary>Answer</summary>
#
# `view` does not move numbers, it counts them off in the order in which they lie in memory: token after token. The first T · D of them go to
# head 0, so it gets `[[1, 2], [3, 4], [5, 6]]`: all the features of the first token, half of the second's, and nothing of the third. The shape is
# right, and nothing complains.
#
# </details>

# %% name="view_alone"
print("view alone, head 0:", x.view(1, 2, 3, 2)[0, 0].tolist(), "  head 1:", x.view(1, 2, 3, 2)[0, 1].tolist())
T, C, H = 8, 8, 4
whose = torch.arange(T)[None, :, None].expand(1, T, C).contiguous()  # (1, T, C): every feature says whose it is
cuts = {"view and transpose": split(whose, H), "view alone": whose.view(1, H, T, C // H)}
figure, axes = picture(
    7.2,
    2.9,
    title="Cut by view alone, each head gets a part of the text",
    alt="Two rows of four blocks, a block for each head, coloured by the token that a number belongs to. With view and "
    "transpose every block runs through all eight tokens; with view alone each block holds only two of them.",
)
left = 0
for name, heads in cuts.items():
    axes.text(left, -0.5, name, fontsize=9)
    for h in range(H):
        image = axes.imshow(heads[0, h], cmap="viridis", vmin=0, vmax=T - 1, extent=(left, left + 2, T, 0))
        axes.text(left + 1, T + 0.9, f"head {h}", ha="center", fontsize=8)
        left += 2.6
    left += 2
axes.set(xlim=(-0.4, left - 2), ylim=(T + 1.3, -1.4), xticks=[], yticks=[0.5, T - 0.5], ylabel="row of the head")
axes.set_yticklabels(["0", str(T - 1)])
axes.spines[:].set_visible(False)
figure.colorbar(image, ax=axes, label="token it belongs to", shrink=0.8)
figure

# %% [markdown] name="merge_error"
# The way back has its trap too, and PyTorch sets it. After `transpose` the numbers no longer lie in memory in the order of their shape. `view`
# refuses, and whoever drops the transpose to please it has an error less and a bug more.

# %% name="merge_error_code"
heads = split(x, 2).contiguous()  # (1, 2, 3, 2), in memory as attention hands them over: head after head
try:
    heads.transpose(1, 2).view(1, 3, 4)
except RuntimeError as error:
    print("RuntimeError:", error)
print("with reshape, which copies:", heads.transpose(1, 2).reshape(1, 3, 4)[0, 0].tolist())
print("without the transpose:     ", heads.reshape(1, 3, 4)[0, 0].tolist())

# %% [markdown] name="whole"
# ## The whole layer
#
# One thing is left, the **output projection** $W_o$, a matrix of shape (C, C) that is applied after the merge. Then the layer is
# complete:


# %% name="multi_head"
def causal_mask(T: int) -> Tensor:
    return torch.full((T, T), -math.inf).triu(diagonal=1)


def multi_head(x: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor, n_head: int) -> Tensor:
    q, k, v = (split(x @ W.T, n_head) for W in (W_q, W_k, W_v))  # 3 × (B, T, C) -> (B, H, T, D)
    heads, _ = attend(q, k, v, causal_mask(x.size(1)))  # (B, H, T, D)
    return merge(heads) @ W_o.T  # (B, T, C)


# %% [markdown] name="steps_intro"
# Step by step on a layer of the bundled model, each shape beside what it is, and at the end the numbers beside the model's own. (Between split and
# attend it turns queries and keys by their position, which lesson 05 explains, and it may normalise them first, which a later one does; both work in
# each head by itself.)

# %% name="steps"
layer = n_layer // 2
part = model.blocks[layer].attention
with torch.no_grad():
    x = run[f"blocks.{layer}.norm1.output"]  # what this layer's attention is given
    qkv = part.qkv(x)
    q, k, v = (split(each, n_head) for each in qkv.chunk(3, dim=-1))
    q, k = part.rotary(part.q_norm(q)), part.rotary(part.k_norm(k))
    heads, weights = attend(q, k, v, causal_mask(x.size(1)))
    output = part.project(merge(heads))
steps = [
    ("x", "(B, T, C)", x),
    ("q, k and v of all heads, from one product", "(B, T, 3 · C)", qkv),
    ("q, one of three chunks, split", "(B, H, T, D)", q),
    ("weights: a map for each head", "(B, H, T, T)", weights),
    ("what each head brings", "(B, H, T, D)", heads),
    ("merged", "(B, T, C)", merge(heads)),
    ("projected", "(B, T, C)", output),
]
say(
    "| step | shape | here |\n|---|---|---|\n{rows}\n\nThe largest difference from what the model itself recorded is {d:.0e}.",
    rows="\n".join(f"| {name} | {shape} | {tuple(each.shape)} |" for name, shape, each in steps),
    d=near((output - run[f"blocks.{layer}.attention.output"]).abs().max(), 0, 1e-4),
)

# %% [markdown] name="own_matrices"
# ## One matrix is many
#
# Is this the same as heads with matrices of their own? Row $i$ of $W_q$ makes feature $i$ of every query, and the first D features go to head 0. So **each
# head's own $W_q$ is a slice of D rows**, and likewise for keys and values. The output projection works the other way round. Its first D *columns*
# multiply what head 0 brought, the next D what head 1 brought, and a product with stacked columns is a sum:
#
# $$W_o \begin{bmatrix} o_0 \\ \vdots \\ o_{H-1} \end{bmatrix} = W_o^{(0)} o_0 + \dots + W_o^{(H-1)} o_{H-1}$$
#
# The loop, then, head by head:


# %% name="loop"
def one_by_one(x: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor, n_head: int) -> list[Tensor]:
    """What each head adds to the output: H × (B, T, C)."""
    D = x.size(-1) // n_head
    added = []
    for h in range(n_head):
        own = slice(h * D, (h + 1) * D)
        q, k, v = x @ W_q[own].T, x @ W_k[own].T, x @ W_v[own].T  # 3 × (B, T, D)
        brought, _ = attend(q, k, v, causal_mask(x.size(1)))  # (B, T, D)
        added.append(brought @ W_o[:, own].T)  # (B, T, D) @ (D, C) -> (B, T, C)
    return added


torch.manual_seed(0)
C, H = 24, 4
matrices = torch.randn(4, C, C) / math.sqrt(C)  # W_q, W_k, W_v, W_o
x = torch.randn(2, 10, C)  # (B, T, C)
together = multi_head(x, *matrices, H)
apart = one_by_one(x, *matrices, H)
difference = (together - sum(apart)).abs().max()
ranks = [
    int(torch.linalg.matrix_rank(matrices[3][:, i : i + C // H] @ matrices[2][i : i + C // H]))
    for i in range(0, C, C // H)
]
say(
    "Sum of the heads against the layer: they differ by at most {d:.0e}. From a token's {C} features to what a head adds of it, "
    "all that passes goes through $W_o^{{(h)}} W_v^{{(h)}}$, of shape ({C}, {C}) and rank {rank}.",
    d=near(difference, 0, 1e-5),
    C=C,
    rank=max(ranks),
)

# %% [markdown] name="loop_explained"
# So a layer is a *sum of heads*. They do not see each other; each reads the same x, and each adds its part to the result. That is why one can switch a head
# off and leave the rest as it is, as we shall below. The rank is what a head pays for being narrow: of what stands at a token it can pass on D numbers,
# any D combinations of the C features that it likes.
#
# ## Wrong first
#
# Five mistakes, all of which leave the shapes in order. What do they do to a model that was trained without them? The bundled model
# is run with each of them in all its layers, on stories it has not read. And is it still causal? The test of lesson 03 says: change
# a text of 44 tokens from the 18th on, and see whether any row before it moves.
#
# **Predict.** Which of them let the future through?

# %% name="wrong"
from gptlib import tales

test_stories = tales.split("test", 100)


def alone(x: Tensor, n_head: int) -> Tensor:
    return x.reshape(x.size(0), n_head, x.size(1), -1)  # (B, T, C) -> (B, H, T, D), and it is the wrong one


def stuck(heads: Tensor) -> Tensor:
    return heads.reshape(heads.size(0), heads.size(2), -1)  # (B, H, T, D) -> (B, T, C), likewise


def layer_with(part, cut=split, glue=merge, root=None, project=True):
    """The forward of a `CausalSelfAttention` with a mistake in it; `root` is what goes under the square root."""

    def forward(x: Tensor, *, cache=None, padding=None) -> Tensor:
        q, k, v = (cut(each, part.n_head) for each in part.qkv(x).chunk(3, dim=-1))  # 3 × (B, H, T, D)
        q, k = part.rotary(part.q_norm(q)), part.rotary(part.k_norm(k))
        scale = math.sqrt(part.head_dim / (root or part.head_dim))  # attend divides by √D itself
        merged = glue(attend(scale * q, k, v, causal_mask(x.size(1)))[0])  # (B, T, C)
        return part.project(merged) if project else merged

    return forward


mistakes = {
    "none": {},
    "split by reshape alone": {"cut": alone},
    "merge without the transpose": {"glue": stuck},
    "both": {"cut": alone, "glue": stuck},
    "√C in place of √D": {"root": model.config.n_embd},
    "no output projection": {"project": False},
}
torch.manual_seed(0)
text = torch.randint(tokenizer.vocab_size, (1, 44))  # (1, T)
changed = torch.cat([text[:, :17], torch.randint(tokenizer.vocab_size, (1, 27))], dim=1)
found = {}
for name, mistake in mistakes.items():
    for block in model.blocks:
        block.attention.forward = layer_with(block.attention, **mistake)  # hides the class's own
    with torch.no_grad():
        moved = (model(text)[0] - model(changed)[0])[0, :17].abs().amax(dim=-1)  # (17,)
    found[name] = tales.evaluate(model, tokenizer, test_stories[:16]).nats_per_token, int((moved > 0).sum())
    for block in model.blocks:
        del block.attention.forward

# %% name="wrong_answer" gptlib={"role": "reveal"}
reveal(
    "| mistake | nats per token | of the 17 rows before, changed |\n|---|---|---|\n{rows}\n\n"
    "Guessing blindly costs {blind:.1f} nats. Two of the mistakes leak.",
    question="Answer",
    rows="\n".join(f"| {name} | {loss:.2f} | {rows} |" for name, (loss, rows) in found.items()),
    blind=math.log(tokenizer.vocab_size),
)
assert found["none"][1] == found["both"][1] == found["√C in place of √D"][1] == found["no output projection"][1] == 0
assert found["split by reshape alone"][1] > 0 and found["merge without the transpose"][1] > 0

# %% [markdown] name="wrong_explained"
# - **Split or merge wrong, one of them**: positions get mixed up, and the causal mask guards the wrong rows. The layer leaks. Trained like that,
#   a model would cheat, as in lesson 03.
# - **Both wrong**: the two mistakes undo each other as far as positions go, so that the layer is causal again and passes every test of shapes *and*
#   of leaks. But a position now sees only the stretch of T / H tokens in which it stands. A model trained so learns something, and one
#   wonders why it forgets what was said a while ago.
# - **√C in place of √D**: all scores are $\sqrt{H}$ times smaller than those the model was trained with, so its attention is too even. It is the
#   mildest of the five, and therefore the one that lives longest. Trained with it from the start, a model can make up for it with longer queries and
#   keys; weights from elsewhere cannot.
# - **No output projection**: each head can then only write to D features of its own, and the rest of the model cannot
#   choose where it wants to read what a head has found.
#
# What catches all five is to compare numbers with a layer that is known to be right. That is what the checks of the exercises do, and
# `nn.MultiheadAttention` further below.

# %% [markdown] name="same_parameters"
# ## Same parameters, different heads
#
# **Predict.** Twelve heads in place of one, at the same width C. How many times as many parameters? And how much more arithmetic?
#
# <details><summary>Answer</summary>
#
# Exactly as many, and exactly as much. The four matrices are (C, C) whatever $H$ is; it only says where they are cut. Scores: $H$ maps of
# $T \times T$, each of whose entries is a product over $D = C / H$ numbers, so that $H$ cancels. What grows with $H$ is the room that the maps
# need, since each head has its own.
#
# </details>

# %% name="same_parameters_count"
from gptlib.scaling import forward_flops


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


lines = []
for H in (1, 2, 4, 12, 48, 768):
    config = GPTConfig.preset("gpt2", n_head=H)
    with torch.device("meta"):  # shapes without numbers
        ours, theirs = CausalSelfAttention(config), nn.MultiheadAttention(768, H)
    assert count(ours) == count(theirs) == 4 * 768**2 + 4 * 768
    flops = forward_flops(config, 1024)["attention scores and values"] / config.n_layer
    assert flops == 4 * 1024**2 * 768
    lines.append(f"| {H} | {768 // H} | {count(ours):,} | {flops / 1e9:.2f} | {4 * H * 1024**2 / 1e6:,.0f} |")
say(
    "| heads | D | parameters of a layer | GFLOPs for scores and values | MB of weights (T × T) |\n|---|---|---|---|---|\n{lines}\n\n"
    "All at the width of GPT-2, 768, for a text of 1,024 tokens. GPT-2 itself has 12.",
    lines="\n".join(lines),
)

# %% [markdown] name="same_parameters_explained"
# So the number of heads is a choice at a fixed price: many narrow lookups, or few wide ones. Which is better, a training has to say, and at the end
# of this lesson three of them do.
#
# ## Equal heads stay equal
#
# All heads have the same formula and the same input. Why do they not all learn the same? Because they start from different random numbers, and for
# no other reason. Below, a layer of four heads learns to imitate another one with fixed random matrices, from three starts: all random; heads equal in
# $W_q$, $W_k$ and $W_v$ but not in their part of $W_o$; heads equal in all four.
#
# **Predict.** In which of the three do the heads still agree after training?

# %% name="symmetry"
torch.manual_seed(0)
C, H = 24, 4
D = C // H
teacher = 1.5 * torch.randn(4, C, C, dtype=torch.float64) / math.sqrt(C)  # W_q, W_k, W_v, W_o
inputs = torch.randn(32, 10, C, dtype=torch.float64)  # (B, T, C)
wanted = multi_head(inputs, *teacher, H)


def equal_rows(W: Tensor) -> Tensor:
    return W[:D].repeat(H, 1)  # (D, C) -> (C, C): every head gets the rows of head 0


start = 0.5 * torch.randn(4, C, C, dtype=torch.float64) / math.sqrt(C)
same_qkv = torch.stack([*(equal_rows(W) for W in start[:3]), start[3]])
starts = {
    "all random": start,
    "equal but for W_o": same_qkv,
    "all equal": torch.stack([*same_qkv[:3], equal_rows(start[3].T).T]),
}
errors, apart_by = {}, {}
for name, begin in starts.items():
    learned = begin.clone().requires_grad_()
    optimizer = torch.optim.Adam([learned], lr=0.01)
    errors[name] = []
    for _ in range(250):
        optimizer.zero_grad()
        error = (multi_head(inputs, *learned, H) - wanted).square().mean() / wanted.square().mean()
        error.backward()
        optimizer.step()
        errors[name].append(error.item())
    heads_q = learned[0].detach().view(H, D, C)  # the four heads' own W_q
    apart_by[name] = (heads_q - heads_q[0]).abs().max().item()

# %% name="symmetry_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    2.9,
    title="Heads that start equal stay equal, and learn as one",
    alt="Error while imitating a layer of four heads. It ends at "
    + ", ".join(f"{values[-1]:.3f} from the start {name}" for name, values in errors.items()),
)
for (name, values), line in zip(errors.items(), ("-", "--", ":"), strict=True):
    axes.plot(values, line, label=f"{name}: ends at {values[-1]:.2f}")
axes.set(xlabel="step", ylabel="error (share of the variance)", ylim=(0, 1.1))
axes.legend(fontsize=9, frameon=False)
reveal(
    "Only where all was equal: there the heads' query matrices differ by {equal:.0g} at the end, in the others by {other:.2f} "
    "and {random:.2f}. It ends with {bad:.0%} of the variance unexplained, the random start with {good:.0%}.",
    question="Answer",
    equal=near(apart_by["all equal"], 0, 1e-6),
    other=apart_by["equal but for W_o"],
    random=apart_by["all random"],
    bad=errors["all equal"][-1],
    good=errors["all random"][-1],
)
assert errors["all equal"][-1] > 1.5 * errors["all random"][-1]
figure

# %% [markdown] name="symmetry_explained"
# The slope of the loss is the same for things that are the same, so one step of training moves them by the same amount, and so does the next. Such a
# layer pays for four heads and has one. A difference anywhere breaks the tie: with a $W_o$ of their own, the heads hear different complaints and part. (Zeros are
# the worst case of equal. In a block of a GPT, starting $W_o$ alone at zero is safe, and some models do so.)
#
# ## What it costs: n²
#
# Every token looks at every token before it, in every head: $H \cdot T^2$ weights. Twice the text, four times the weights. First the memory, measured: the
# bytes that PyTorch keeps for the backward pass of one layer of GPT-2's shape, 12 heads of width 64, in the plain form and in the fused kernel.


# %% name="cost_memory"
def kept_bytes(f, *inputs: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of f, what shares memory counted once."""
    kept = {}

    def keep(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved  # holding it keeps its memory from being used anew
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        _result = f(*inputs)
    return sum(saved.untyped_storage().nbytes() for saved in kept.values())


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, causal_mask(q.size(-2)))[0]


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


lengths = [64, 128, 256, 512, 1024]
memory = {}
for name, form in {"plain": plain, "fused kernel": fused}.items():
    memory[name] = [kept_bytes(form, *torch.randn(3, 1, 12, T, 64, requires_grad=True)) for T in lengths]
    print(
        f"{name:13}"
        + "".join(f"  T={T}: {amount / 1e6:.1f} MB" for T, amount in zip(lengths, memory[name], strict=True))
    )
assert all(amount >= 12 * T * T * 4 for T, amount in zip(lengths, memory["plain"], strict=True))

# %% name="plot_memory" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    2.9,
    title="The maps grow with the square; the fused kernel keeps none",
    alt="Megabytes kept at "
    + "; ".join(
        f"{T} tokens: plain {a / 1e6:.1f}, fused {b / 1e6:.1f}"
        for T, a, b in zip(lengths, *memory.values(), strict=True)
    ),
)
axes.plot(lengths, [amount / 1e6 for amount in memory["plain"]], "o-", color=VERMILION, label="plain")
axes.plot(
    lengths, [12 * T * T * 4 / 1e6 for T in lengths], ":", color=GREY, label="the weights alone, 4 · H · T² bytes"
)
axes.plot(lengths, [amount / 1e6 for amount in memory["fused kernel"]], "s--", color=BLUE, label="fused kernel")
axes.set(xlabel="tokens T", ylabel="kept for the backward pass (MB)", ylim=(0, None))
axes.set_xticks(lengths, [f"{T:,}" for T in lengths])
axes.legend(frameon=False)
say(
    "At 1,024 tokens the plain form keeps {plain:.1f} MB, of which the weights alone are 12 · 1,024² · 4 bytes = {weights:.1f} MB; the fused "
    "kernel keeps {fused:.1f} MB. From 512 to 1,024 tokens, the plain form grows by {up:.1f} times, the fused one by {level:.1f}.",
    plain=near(memory["plain"][-1] / 1e6, 60, 15),
    weights=12 * 1024**2 * 4 / 1e6,
    fused=near(memory["fused kernel"][-1] / 1e6, 12.6, 5),
    up=near(memory["plain"][-1] / memory["plain"][-2], 3.5, 0.5),
    level=near(memory["fused kernel"][-1] / memory["fused kernel"][-2], 2, 0.3),
)
figure

# %% [markdown] name="time_intro"
# Now the time of a forward pass, the same 12 heads; five runs each, the fastest and the slowest.

# %% name="cost_time"
import time


def seconds(f, *inputs: Tensor) -> list[float]:
    with torch.no_grad():
        f(*inputs)  # once to warm up
        taken = []
        for _ in range(5):
            begin = time.perf_counter()
            f(*inputs)
            taken.append(time.perf_counter() - begin)
    return sorted(taken)


timed = {T: [seconds(form, *torch.randn(3, 1, 12, T, 64)) for form in (plain, fused)] for T in (256, 512, 1024, 2048)}
say(
    "| tokens | plain (ms) | fused (ms) |\n|---|---|---|\n{rows}\n\nFrom 256 to 2,048 tokens, 8 times as many, the fastest runs "
    "take {plain:.0f} and {fused:.0f} times as long.",
    rows="\n".join(
        f"| {T:,} | {p[0] * 1e3:.1f}–{p[-1] * 1e3:.1f} | {f[0] * 1e3:.1f}–{f[-1] * 1e3:.1f} |"
        for T, (p, f) in timed.items()
    ),
    plain=timed[2048][0][0] / timed[256][0][0],
    fused=timed[2048][1][0] / timed[256][1][0],
)

# %% [markdown] name="cost_explained"
# The kernel computes the same numbers block by block and never writes the maps to memory (Dao and others, 2022, is the best known of its kind). So the
# *memory* of attention is no longer quadratic. The *work* is: the fused form does it faster, and for 8 times the text it still has 64 times as much to
# do. (The times are of the machine that ran this page, and whatever else it was doing.)
#
# How bad is that? There is more in a block than scores, and everything else in it grows with T alone.
#
# **Predict.** GPT-2 reads up to 1,024 tokens. Which share of its block's arithmetic is the quadratic part? From how many tokens on would
# it be more than half?


# %% name="cost_share" gptlib={"role": "reveal"}
def share(config: GPTConfig, T: int) -> float:
    """The part of a block's arithmetic that is quadratic in T; the output map stands outside the blocks."""
    flops = forward_flops(config, T)
    return flops["attention scores and values"] / (flops.total - flops["output map"])


def half(config: GPTConfig) -> int:
    low, high = 1, 10**7
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if share(config, middle) >= 0.5 else (middle + 1, high)
    return low


gpt2, gpt3, bundled = GPTConfig.preset("gpt2"), GPTConfig.preset("gpt3"), model.config
assert half(gpt2) == 6 * gpt2.n_embd and half(gpt3) == 6 * gpt3.n_embd
many = [2**i for i in range(5, 19)]
figure, axes = picture(
    6.4,
    3.0,
    title="The quadratic part overtakes the rest at six times the width",
    alt="Share of the quadratic part by tokens. At 1,024 tokens "
    + ", ".join(
        f"{name} {share(config, 1024):.0%}" for name, config in (("bundled", bundled), ("GPT-2", gpt2), ("GPT-3", gpt3))
    )
    + f". Half is reached at {half(bundled):,}, {half(gpt2):,} and {half(gpt3):,}.",
)
for (name, config), line in zip(
    {"bundled model": bundled, "GPT-2": gpt2, "GPT-3": gpt3}.items(), (":", "-", "--"), strict=True
):
    axes.plot(many, [100 * share(config, T) for T in many], line, label=f"{name}, C = {config.n_embd:,}")
    axes.plot(config.n_positions, 100 * share(config, config.n_positions), "o", color=axes.lines[-1].get_color())
axes.axhline(50, color=GREY, linewidth=1)
axes.set(
    xlabel="tokens T (dot: as many as it was trained on)",
    ylabel="of a block's arithmetic (%)",
    xscale="log",
    ylim=(0, 100),
)
axes.set_xticks([100, 1000, 10_000, 100_000], ["100", "1,000", "10,000", "100,000"])
axes.legend(fontsize=9, frameon=False)
reveal(
    "{now:.1%} at 1,024 tokens, and half at {when:,} tokens, which is 6 · {C}. GPT-3, {wide:,} wide, would get there at {late:,}; at the {trained:,} "
    "it was trained on it is {little:.1%}.",
    question="Answer",
    now=near(share(gpt2, 1024), 0.182, 0.001),
    when=half(gpt2),
    C=gpt2.n_embd,
    wide=gpt3.n_embd,
    late=half(gpt3),
    trained=gpt3.n_positions,
    little=share(gpt3, gpt3.n_positions),
)
figure

# %% [markdown] name="cost_six"
# Why six? For each token, the matrices of a GPT-2 block take $24\,C^2$ operations: $4C^2$ parameters in attention and $8C^2$ in the feed-forward
# network, a multiplication and an addition for each. Scores and values take $4\,T\,C$. These are equal at $T = 6C$. (A kernel that
# skips what the mask forbids has half the scores to do, and the crossing moves to $12\,C$.)
#
# So for texts of ordinary length the square is not what makes a large model expensive; for a book it is the larger part.
#
# ## What the bundled model's heads do
#
# Now look. For some patterns one can say exactly which keys a head should look at if it follows them, and a head's **score** is the share of its weight that lies
# there. `gptlib.interpret` has five of them, and two sizes:
#
# | | where the weight goes |
# |---|---|
# | previous | to the token just before |
# | first | to the first token of the text, where a head puts weight it has no use for (a *sink*) |
# | self | to the token itself |
# | duplicate | to earlier occurrences of the same token |
# | induction | to the token *after* an earlier occurrence: what came next last time |
# | entropy | in nats: 0 for one token, ln n for n tokens alike |
# | distance | tokens back, on average |
#
# Each score stands beside **chance**, what a head would score that gives all visible tokens the same. For induction and duplicates the texts are random tokens read
# twice, so that nothing but the repetition can give a head its lead.
#
# **Predict.** Of the bundled model's heads, how many will follow one of these patterns clearly?

# %% name="scores"
from gptlib.interpret import PATTERNS, ablate_heads, attention_maps, head_scores, induction_scores

rows = [tokenizer.encode("<|endoftext|>" + each.text)[:80] for each in test_stories[:24]]
stories = torch.tensor([row for row in rows if len(row) == 80])  # (B, 80)
on_stories = head_scores(model, stories)
on_repeats = induction_scores(model, begin=tokenizer.end_id)
lines = []
for pattern in PATTERNS:
    scored = on_repeats if pattern in ("duplicate", "induction") else on_stories
    i, h = divmod(int(scored.patterns[pattern].argmax()), n_head)
    lines.append(f"| {pattern} | {i}.{h} | {scored.patterns[pattern][i, h]:.2f} | {scored.chance[pattern]:.2f} |")
for size in ("entropy", "distance"):
    values = getattr(on_stories, size)  # (L, H)
    for word, place in (("least", values.argmin()), ("most", values.argmax())):
        i, h = divmod(int(place), n_head)
        lines.append(f"| {size}, {word} | {i}.{h} | {values[i, h]:.2f} | {on_stories.chance[size]:.2f} |")
say("| | layer.head | score | chance |\n|---|---|---|---|\n{lines}", lines="\n".join(lines))

# %% name="scores_answer" gptlib={"role": "reveal"}
labels = [on_stories.label(i, h).name for i in range(n_layer) for h in range(n_head)]
maps = attention_maps(model, ids)[:, 0]  # (L, H, T, T)
reveal(
    "{clear:.0f} of {n}, on stories. A head is called by a pattern here when it is at least 0.4 of the way from chance to doing nothing else; "
    "{mixed} are mixed.",
    question="Answer",
    clear=near(sum(label != "mixed" for label in labels), 0, 12),
    n=len(labels),
    mixed=labels.count("mixed"),
)
plot_attention_heads(
    maps, title=f"Of {len(labels)} heads, {labels.count('mixed')} follow none of the simple patterns", labels=labels
)

# %% [markdown] name="scores_explained"
# Popular texts show heads with a tidy job. Such heads exist, and Clark and others (2019) and Voita and others (2019) show beautiful ones. They are shown
# because they are tidy: most heads of most models do something that has no name, or several things by turns.
#
# All five patterns ask *where* a key stands. A head can also go by *what* stands there. So count, over the same stories, how much weight each token of the
# vocabulary receives from a head, against what it would get from even attention. Here are the six heads with the least entropy and the words that they favour most.

# %% name="favoured"
maps = attention_maps(model, stories)  # (L, B, H, T, T)
even = torch.ones(80, 80).tril()
even = even / even.sum(dim=-1, keepdim=True)  # (T, T): every row the same for all it sees
V = tokenizer.vocab_size
due = torch.zeros(V).index_add_(0, stories.flatten(), even.sum(dim=0).repeat(len(stories)))  # (V,)
often = stories.flatten().bincount(minlength=V) >= 8  # (V,): not by chance
lines = []
for place in on_stories.entropy.flatten().argsort()[:6].tolist():
    i, h = divmod(place, n_head)
    received = maps[i, :, h].sum(dim=1)  # (B, T, T) -> (B, T)
    times = torch.zeros(V).index_add_(0, stories.flatten(), received.flatten()) / due  # (V,)
    best = times.where(often, torch.tensor(0.0)).topk(5)
    named = [visible(tokenizer.tokens([t])[0]) if t != tokenizer.end_id else "(start)" for t in best.indices.tolist()]
    words = ", ".join(f"{token} ({n:.1f}×)" for token, n in zip(named, best.values.tolist(), strict=True))
    lines.append(f"| {i}.{h} | {on_stories.entropy[i, h]:.2f} | {words} |")
say("| layer.head | entropy | tokens it favours |\n|---|---|---|\n{lines}", lines="\n".join(lines))

# %% [markdown] name="caution"
# A kind of word, at times; and often one that says little by itself. That is less odd than it looks: what a head reads at a place is not the word but the vector
# there, in which the layers below may have left what they gathered.
#
# And a caution that matters more than any of it. **A pattern is not yet a function.** That a head looks at the previous token says where it reads, not what it takes
# from there, and not whether anything later uses it. To learn that, take the head away.
#
# ## Switch a head off
#
# A layer is a sum of heads, so it is easy to leave one out. `ablate_heads` puts zeros in the place of what a head brought, and the loss on stories says what it was worth. Each
# head alone first, then more and more of them together, from the cheapest on.
#
# **Predict.** Suppose the cheapest half of the heads cost next to nothing, each alone. What does it cost to remove that half together?

# %% name="ablate"
judged = test_stories[:12]
whole = tales.evaluate(model, tokenizer, judged).nats_per_token


def cost_without(gone: list[tuple[int, int]]) -> float:
    """Nats per token that the loss rises by without these heads."""
    with ablate_heads(model, gone):
        return tales.evaluate(model, tokenizer, judged).nats_per_token - whole


costs = torch.tensor([[cost_without([(i, h)]) for h in range(n_head)] for i in range(n_layer)])  # (L, H)
order = [divmod(place, n_head) for place in costs.flatten().argsort().tolist()]  # the cheapest first
removed = sorted({round(len(order) * tenth / 8) for tenth in range(9)})
jointly = [cost_without(order[:n]) if n else 0.0 for n in removed]
separately = [costs.flatten().sort().values[:n].sum().item() for n in removed]

# %% name="plot_ablate" gptlib={"role": "reveal"}
figure, axes = picture(
    1.9 + 0.75 * n_head,
    1.3 + 0.42 * n_layer,
    title=f"Alone, no head is worth more than {costs.max():.2f} nats",
    alt="Rise of the loss without each head. The dearest is "
    f"{order[-1][0]}.{order[-1][1]}, {costs.max():.3f} nats; the median is {costs.median():.4f}.",
)
image = axes.imshow(costs.clamp(min=0).sqrt(), cmap="viridis", aspect="auto")
for i in range(n_layer):
    for h in range(n_head):
        bright = costs[i, h].clamp(min=0).sqrt() > 0.6 * costs.max().sqrt()
        axes.text(
            h,
            i,
            f"{costs[i, h].round(decimals=3) + 0.0:.3f}",
            ha="center",
            va="center",
            fontsize=9,
            color="black" if bright else "white",
        )
axes.set_xticks(range(n_head))
axes.set_yticks(range(n_layer))
axes.set(xlabel="head (figures: nats per token)", ylabel="layer")
axes.spines[:].set_visible(False)
figure

# %% name="plot_together" gptlib={"role": "reveal"}
half_way = len(removed) // 2
figure, axes = picture(
    6.2,
    2.9,
    title="Together, heads are worth far more than one by one",
    alt="Rise of the loss by heads removed: "
    + "; ".join(
        f"{n}: {a:.3f} together, {b:.3f} as a sum" for n, a, b in zip(removed, jointly, separately, strict=True)
    ),
)
axes.plot(removed, jointly, "o-", color=VERMILION, label="removed together")
axes.plot(removed, separately, "s--", color=BLUE, label="sum of what each costs alone")
axes.set(xlabel="heads removed, the cheapest first", ylabel="rise of the loss (nats per token)")
axes.legend(frameon=False)
clearest = int((torch.stack([on_stories.above_chance(name) for name in PATTERNS]).nan_to_num().amax(dim=0)).argmax())
i, h = divmod(clearest, n_head)
reveal(
    "{n} heads removed cost {together:.2f} nats together and {apart:.3f} if one adds up their single costs. All {all_heads} together cost {ruin:.1f}, and their "
    "single costs add up to {total:.2f}.\n\nOf single heads, {free} of {all_heads} can go for less than 1 % of the loss each. The dearest, {dear}, is a head that "
    "the scores call *{dear_label}*; the head with the clearest pattern, {clear} (*{clear_label}*), costs {clear_cost:.3f}, while the dearest costs {dear_cost:.3f}.",
    question="Answer",
    n=removed[half_way],
    together=jointly[half_way],
    apart=separately[half_way],
    all_heads=len(order),
    ruin=near(jointly[-1], 5.5, 3),
    total=separately[-1],
    free=int((costs < 0.01 * whole).sum()),
    dear=f"{order[-1][0]}.{order[-1][1]}",
    dear_label=on_stories.label(*order[-1]).name,
    clear=f"{i}.{h}",
    clear_label=on_stories.label(i, h).nearest,
    clear_cost=costs[i, h],
    dear_cost=costs.max(),
)
assert jointly[-1] > 2 * separately[-1]
figure

# %% [markdown] name="ablate_explained"
# Heads stand in for each other: take one away, and others still bring much of what it brought. Michel, Levy and Neubig asked in 2019 whether sixteen heads
# are really better than one, and found in a trained translator and in BERT that most heads can be removed one at a time with hardly a loss, and
# that some layers can even be left with a single head. Voita and others found the same year that a few specialised heads do the heavy lifting.
#
# Two readings would go too far. "The other heads are useless" is contradicted by the line *removed together*. And "this head is worth so much" holds for this way of taking it
# away: a zero is something the rest of the model has never met. Lesson 10 puts in
# another text's values instead, and asks what becomes of one ability: to know what *it* means.
#
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "More heads, more parameters." | The same number, to the last one (above). |
# | "Each head sees a part of the text." | Every head sees all of it, up to its own row. (That is what the *bug* does.) |
# | "Each head sees D of the C features." | Each reads all C. It is D *combinations* of them that it makes. |
# | "A GPT is mostly attention." | A third of a block's weights are; two thirds are the feed-forward network. |
#
# A cell for those not yet proven. If the last row of one head's result has a slope with respect to some number of the input, the head reads that number.

# %% name="popular_sees"
torch.manual_seed(0)
x = torch.randn(1, 10, 24, requires_grad=True)  # (B, T, C)
head_2 = one_by_one(x, *matrices, 4)[2]  # what head 2 of 4 adds
slope = torch.autograd.grad((head_2[0, -1] * torch.randn(24)).sum(), x)[0][0]  # (T, C)
read = slope != 0
print(
    f"positions it reads: {int(read.any(dim=1).sum())} of {read.size(0)}; features: {int(read.any(dim=0).sum())} of {read.size(1)}"
)
assert read.all()

# %% name="popular_third"
lines = []
for name in ("gpt2", "gpt2-xl", "gpt3"):
    config = GPTConfig.preset(name, n_layer=1)
    with torch.device("meta"):
        block = GPT(config).blocks[0]
    share_of = count(block.attention) / count(block)
    lines.append(f"| {name} | {count(block.attention):,} | {count(block):,} | {share_of:.2%} |")
    assert abs(share_of - 1 / 3) < 0.001
say("| | attention | whole block | share |\n|---|---|---|---|\n{lines}", lines="\n".join(lines))

# %% [markdown] name="library"
# ## The part in the library
#
# `gptlib/attention.py` has the two functions under the names `split_heads` and `merge_heads`, and you will know the middle of `CausalSelfAttention.forward`:

# %% name="library_source"
import inspect

from gptlib import attention

for name in ("split_heads", "merge_heads"):
    code = inspect.getsource(getattr(attention, name))
    print(code.split('"""')[0].rstrip() + code.rsplit('"""', 1)[1])  # without its description
forward = inspect.getsource(CausalSelfAttention.forward)
print(forward[forward.index("        groups") :])

# %% [markdown] name="library_explained"
# It keeps $W_q$, $W_k$ and $W_v$ in one matrix, `qkv`, and lets keys and values have fewer heads than queries (`n_kv_head`), which is how newer models
# keep less for the tokens they have read. Otherwise it is what stands above. Equal matrices in, equal numbers out, and PyTorch's own module agrees:

# %% name="library_equal"
C, H = 24, 4
x = torch.randn(2, 10, C)  # (B, T, C)
ours = multi_head(x, *matrices, H)
config = GPTConfig(vocab_size=1, n_positions=10, n_embd=C, n_layer=1, n_head=H, bias=False, position="none")
theirs = CausalSelfAttention(config)
pytorch = nn.MultiheadAttention(C, H, bias=False, batch_first=True)
with torch.no_grad():
    theirs.qkv.weight.copy_(matrices[:3].flatten(0, 1))  # (3, C, C) -> (3 · C, C)
    theirs.project.weight.copy_(matrices[3])
    pytorch.in_proj_weight.copy_(matrices[:3].flatten(0, 1))
    pytorch.out_proj.weight.copy_(matrices[3])
    results = {
        "CausalSelfAttention": theirs(x),
        "nn.MultiheadAttention": pytorch(x, x, x, attn_mask=causal_mask(10), need_weights=False)[0],
    }
print("split and merge:", torch.equal(split(x, H), attention.split_heads(x, H)), torch.equal(merge(split(x, H)), x))
for name, result in results.items():
    print(f"{name:22} differs from ours by {(result - ours).abs().max():.0e}")
    assert (result - ours).abs().max() < 1e-5

# %% [markdown] name="viewer"
# ## Every head, live
#
# Choose a head, move over its map, change the text. With what you know now:
#
# - Find the head that takes most from the token before, in the table above. Does it do so on a text of your own?
# - Find the dearest head. Can you say what it looks at? Try to put it into words before you believe them.
# - Write a sentence twice. Does any head look from the second copy to its place in the first?
#
# (Where no kernel runs, as on GitHub, you see a still picture.)

# %% name="viewer_live"
from gptlib.widgets import AttentionViewer

AttentionViewer(model, tokenizer, story)

# %% [markdown] name="so_far"
# ## The model so far
#
# Lesson 03 ended with a model of one head. Now it gets many: the same width, the same parameters, cut into 1, 4 or 16 heads. Nothing else
# differs between the three, down to the seed, so that whatever comes out is due to the cut. (Against lesson 03, the output projection is new, and the size of the
# first random numbers. With one head the projection adds nothing that $W_v$ could not have done; it is there so that all three have the same parameters.)

# %% name="many_heads_code"
from gptlib import TrainConfig, load_corpus, train

corpus = load_corpus("tales:5000")  # 5,000 stories to learn from
V = tokenizer.vocab_size


class ManyHeads(nn.Module):
    """Token vectors, one layer of attention, and scores of the next token."""

    def __init__(self, n_head: int) -> None:
        super().__init__()
        # Where train() reads how long a text may be.
        self.config = GPTConfig(vocab_size=V, n_positions=256, n_embd=128, n_layer=1, n_head=n_head)
        self.token_embedding = nn.Embedding(V, 128)  # (V, C)
        self.qkv = nn.Linear(128, 3 * 128, bias=False)
        self.project = nn.Linear(128, 128, bias=False)
        self.to_scores = nn.Linear(128, V, bias=False)
        for part, std in ((self.token_embedding, 0.3), (self.qkv, 0.09), (self.project, 0.09), (self.to_scores, 0.02)):
            nn.init.normal_(part.weight, std=std)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.token_embedding(ids)  # (B, T) -> (B, T, C)
        q, k, v = (split(each, self.config.n_head) for each in self.qkv(x).chunk(3, dim=-1))
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        logits = self.to_scores(x + self.project(merge(heads)))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return count(self)


recipe = {"batch_size": 8, "learning_rate": 0.03, "warmup_steps": 20, "eval_every": 1000}
recipe |= {"precision": "fp32", "device": "cpu"}
networks, logs, nats = {}, {}, {}


def learn(n_head: int) -> None:
    torch.manual_seed(0)
    networks[n_head] = ManyHeads(n_head)
    result = train(networks[n_head], corpus, tokenizer, TrainConfig(steps=300, **recipe), verbose=False)
    measured = tales.evaluate(networks[n_head], tokenizer, test_stories)
    logs[f"{n_head} heads of width {128 // n_head}" if n_head > 1 else "1 head of width 128"] = result.log
    nats[n_head] = measured.nats_per_token - measured.floor
    print(f"heads: {n_head:2}; {networks[n_head].n_parameters():,} parameters, {nats[n_head]:.2f} nats above the floor")


# %% [markdown] name="train_predict"
# **Predict.** Which is best: one head of width 128, four of 32, or sixteen of 8? By how much?

# %% name="train_one"
learn(1)

# %% name="train_four"
learn(4)

# %% name="train_sixteen"
learn(16)

# %% name="train_answer" gptlib={"role": "reveal"}
floor = tales.evaluate(model, tokenizer, test_stories).floor
reveal(
    "Many narrow ones: {one:.2f} nats above the floor with one head, {four:.2f} with four, {sixteen:.2f} with sixteen, and {parameters:,} parameters each time.",
    question="Answer",
    one=near(nats[1], 0.71, 0.12),
    four=near(nats[4], 0.59, 0.12),
    sixteen=near(nats[16], 0.55, 0.12),
    parameters=networks[1].n_parameters(),
)
assert len({network.n_parameters() for network in networks.values()}) == 1
figure, axes = picture(
    6.4,
    3.0,
    title="Same parameters, more heads, lower loss",
    alt="Training loss from step 60 on; measured on test stories at the end, in nats above the floor: "
    + ", ".join(f"{n_heads} {height:.2f}" for n_heads, height in nats.items()),
)
for (name, log), line in zip(logs.items(), ("-", "--", ":"), strict=True):
    late = [entry for entry in log if entry["step"] >= 60]
    axes.plot([entry["step"] for entry in late], [entry["loss"] for entry in late], line, label=name)
axes.axhline(floor, color=GREY, linewidth=1, label=f"floor, {floor:.2f}")
axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown] name="train_explained"
# Every head here brings one average over the text so far, in no order at all, since this model still knows nothing of positions. Sixteen averages, each
# over words of another kind, say more than one.
#
# Is more always better? No: a head of width 1 has a single number to compare and a single one to
# hand over. The paper of 2017 tried 1, 4, 8, 16 and 32 heads at a fixed price in its translator, and 8 and 16 did best. GPT-2 has heads of width
# 64, GPT-3 of 128. You can try: `learn(128)`.

# %% name="chart"
plot_ladder({"many heads": nats[16]}, title="The chart goes on: many heads get lower than one")

# %% [markdown] name="writes_explained"
# (*One head* is the model as lesson 03 had it, without a projection; the one above came a little lower.)
#
# And it writes.

# %% name="writes"
import textwrap

torch.manual_seed(4)
written = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])  # (1, T)
with torch.no_grad():
    for _ in range(70):
        probabilities = networks[16](written)[0][0, -1].softmax(dim=-1)  # (V,)
        written = torch.cat([written, torch.multinomial(probabilities, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(written[0, 1:].tolist()), 100))

# %% [markdown] name="end"
# Phrases that hold, and a story that does not. The last token stands in its own vector; beyond it, each head sees a heap of words, and nothing in it says which
# came just now and which long ago. Lesson 05 puts it in.
#
# ## Three sentences to remember
#
# 1. A layer of heads is a sum of independent lookups, each with D rows of the query, key and value matrices and D columns of the output projection.
# 2. How many heads there are changes neither parameters nor arithmetic, only how many places can be looked at side by side; the maps cost T² in each.
# 3. What a head looks at is a pattern; what it is worth shows when it is gone, and heads that are cheap alone can be dear together.
#
# ## Exercises
#
# [`exercises/04_many_heads.ipynb`](../exercises/04_many_heads.ipynb) (in `work/exercises` if you came by `make lab`), about 25 minutes:
#
# | exercise | minutes |
# |---|---|
# | `heads.split`: cut the features into heads | 6 |
# | `heads.merge`: put the heads together | 5 |
# | `heads.multi_head`: the whole layer | 15 |
#
# **Next:** [Positions: how a GPT knows what came first](05_positions.ipynb).
#
# ## Where to read more
#
# - Ashish Vaswani and others, *Attention Is All You Need* (2017). Section 3.2.2 is this lesson; table 3 (A) varies the number of heads at a fixed price.
# - Paul Michel, Omer Levy and Graham Neubig, *Are Sixteen Heads Really Better than One?* (2019). Heads removed, one by one and together.
# - Elena Voita, David Talbot, Fedor Moiseev, Rico Sennrich and Ivan Titov, *Analyzing Multi-Head Self-Attention: Specialized Heads Do the Heavy Lifting, the
#   Rest Can Be Pruned* (2019).
# - Kevin Clark, Urvashi Khandelwal, Omer Levy and Christopher D. Manning, *What Does BERT Look At?* (2019). Heads with a recognisable pattern.
# - Catherine Olsson and others, *In-context Learning and Induction Heads* (2022). Where the induction score comes from.
# - Tri Dao, Daniel Y. Fu, Stefano Ermon, Atri Rudra and Christopher Ré, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness* (2022).
