# %% [markdown] name="title"
# # The GPT: assembled, counted, filled with other people's weights
#
# {{badge}}
#
# After this lesson you can write GPT-2 whole, say what each of its numbers starts from and why, count its parameters and its
# arithmetic to the last digit (and find the slips in two famous papers), and load the weights of somebody else's GPT-2 into your own
# class, with equal logits.
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | about a minute and a half on two CPU cores; no GPU. Where the hub of Hugging Face can be reached, GPT-2's weights are fetched, once (half a gigabyte); nothing else needs a network |
# | Know first | lessons 04 to 06: heads, positions, and the block with its norms and its residual stream |
# | Afterwards | the three exercises of set 07, about 40 minutes |
#
# Shapes stand in the comments. `B` texts of `T` tokens lie side by side, each token with a vector of width `C`; `V` is the number of
# tokens that a model knows, `L` the number of its blocks, `P` the longest text it can read.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# Here is GPT-3, the model of 2020 that made the news: 96 blocks, 12,288 wide. The next cell builds it whole, from the library's class
# and the shape that its paper gives.
#
# **Predict.** How many parameters will it have, exactly? How much of this machine's memory will it take? How long will it need?

# %% name="thing"
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptlib
from gptlib import GPTConfig, say
from gptlib.plots import BLUE, GREEN, GREY, PURPLE, VERMILION, picture
from gptlib.positions import Rotary
from gptlib.prose import near, reveal
from gptlib.scaling import parameters

begin = time.perf_counter()
with torch.device("meta"):
    gpt3 = gptlib.GPT(GPTConfig.preset("gpt3"))
seconds = time.perf_counter() - begin
print(gpt3.blocks[95].mlp)

# %% name="thing_answer" gptlib={"role": "reveal"}
shapes = {name: tuple(p.shape) for name, p in gpt3.named_parameters()}
assert gpt3.n_parameters() == 174_604_259_328
reveal(
    "{n:,} parameters in {tensors:,} tensors, next to no memory, {seconds:.1f} seconds. In fp32 the numbers would fill {gigabytes:.0f} GB. "
    "None of them is here: on PyTorch's *meta* device a tensor has a shape and no contents.",
    question="Answer",
    n=gpt3.n_parameters(),
    tensors=len(shapes),
    seconds=seconds,
    gigabytes=4 * gpt3.n_parameters() / 1e9,
)

# %% [markdown] name="thing_explained"
# A GPT without its numbers is a short program. This lesson writes it (some eighty lines), and then looks at the numbers: how many there
# are, what they begin as, what it costs to multiply with them, and how to pour in those that somebody else has trained.
#
# ## The parts
#
# Three parts are there from the lessons before, and stand here once more under the names that the library gives them. `Attention` is
# lesson 04 with biases, through the fused kernel, and turns queries and keys as in lesson 05 if it is given something to turn them with; `MLP` and `Block`
# are lesson 06. `config` is a `GPTConfig`, which holds the shape.


# %% name="parts"
class Attention(nn.Module):
    def __init__(self, config: GPTConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.rotary = rotary
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.project = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        split = (B, T, self.n_head, C // self.n_head)
        q, k, v = (y.view(split).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))  # 3 × (B, H, T, D)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        return self.project(heads.transpose(1, 2).reshape(B, T, C))  # (B, H, T, D) -> (B, T, C)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.gelu = nn.GELU(approximate="tanh")
        self.narrow = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.gelu(self.widen(x)))  # (B, T, C) -> (B, T, 4C) -> (B, T, C)


class Block(nn.Module):
    def __init__(self, config: GPTConfig, rotary: Rotary | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.n_embd)
        self.attention = Attention(config, rotary)
        self.norm2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# %% [markdown] name="assemble_predict"
# ## Assemble
#
# A block takes (B, T, C) and gives back (B, T, C). A GPT takes ids, (B, T), and gives back a logit for every possible next token, (B, T, V).
#
# **Predict.** What has to stand before the first block, and what after the last?
#
# <details><summary>Answer</summary>
#
# Before: a vector for each token, plus a vector for its place. After: one more norm, since the stream that the blocks have been adding to
# has never been normed itself (a norm only stands on the way *into* a part), and a matrix from C features to V logits.
#
# </details>


# %% name="assemble"
class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)  # (V, C)
        rotary, self.position_embedding = None, None
        if config.position == "learned":  # as in GPT-2
            self.position_embedding = nn.Embedding(config.n_positions, config.n_embd)  # (P, C)
        elif config.position == "rotary":
            rotary = Rotary(config.n_positions, config.head_dim)  # one for all blocks
        self.blocks = nn.ModuleList(Block(config, rotary) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)  # its weight: (V, C)
        if config.tie_weights:
            self.lm_head.weight = self.token_embedding.weight  # one parameter under two names

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.token_embedding(ids)  # (B, T, C)
        if self.position_embedding is not None:
            x = x + self.position_embedding(torch.arange(ids.size(1), device=ids.device))  # + (T, C)
        for block in self.blocks:
            x = block(x)  # (B, T, C)
        logits = self.lm_head(self.norm(x))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


gpt2 = GPTConfig.preset("gpt2")
torch.manual_seed(0)
model = GPT(gpt2)
ids = torch.randint(gpt2.vocab_size, (2, 65))  # 64 tokens to read, and what follows each of them
inputs, targets = ids[:, :-1], ids[:, 1:]  # 2 × (B, T)
logits, loss = model(inputs, targets)
print(f"{model.n_parameters():,} parameters; ids {tuple(inputs.shape)} -> logits {tuple(logits.shape)}")

# %% [markdown] name="assemble_explained"
# That is GPT-2 small, at full size, and the number is the right one. (Dropout is left out: it matters to training on several passes over
# the same text, and to nothing else in this lesson.)
#
# The one line that needs a second look is the one with `tie_weights`.
#
# ## One matrix, two uses
#
# The token embedding has a row of C numbers for each token: what the token *means* when it is read. The output map has one, too: what the
# stream has to look like for this token to be *written*. Press and Wolf (2017), and Inan, Khosravi and Socher in the same year, made the
# two one matrix, and GPT-2 does so. The logits then are dot products of the last vector with every token's own vector.
#
# **Predict.** How many parameters does that save in GPT-2 small? And when a token does not occur in a batch at all, does its row get a
# gradient from it?

# %% name="tie"
small = {"vocab_size": 1024, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
rows = {}
for tied in (True, False):
    torch.manual_seed(0)
    reader = GPT(GPTConfig(**small, tie_weights=tied))
    text = torch.randint(1024, (2, 33))  # 64 tokens to read
    reader(text[:, :-1], text[:, 1:])[1].backward()
    rows[tied] = int(reader.token_embedding.weight.grad.abs().amax(dim=1).count_nonzero())
with torch.device("meta"):
    untied = GPT(GPTConfig.preset("gpt2", tie_weights=False))

# %% name="tie_answer" gptlib={"role": "reveal"}
reveal(
    "It saves {saved:,}: untied, the model has {untied:,} parameters instead of {tied:,}. Untied, {few} of the 1,024 rows of the token embedding get a "
    "gradient, those that were read. Tied, all {all} do: every token takes part in every softmax, if only to be told that it was not the one.",
    question="Answer",
    saved=untied.n_parameters() - model.n_parameters(),
    untied=untied.n_parameters(),
    tied=model.n_parameters(),
    few=rows[False],
    all=rows[True],
)
assert untied.n_parameters() - model.n_parameters() == 50_257 * 768
assert rows[True] == 1024 and rows[False] <= 64

# %% [markdown] name="tie_wrong"
# **Wrong first.** Copying the numbers is not tying. Here the copy, and the real thing, after one step of training:

# %% name="tie_wrong_code"
for name in ("copied", "tied"):
    torch.manual_seed(0)
    reader = GPT(GPTConfig(**small, tie_weights=name == "tied"))
    if name == "copied":
        reader.lm_head.weight.data.copy_(reader.token_embedding.weight)
    optimizer = torch.optim.SGD(reader.parameters(), lr=0.1)
    reader(text[:, :-1], text[:, 1:])[1].backward()
    optimizer.step()
    apart = (reader.lm_head.weight - reader.token_embedding.weight).abs().max()
    print(f"{name}: {reader.n_parameters():,} parameters; after one step the matrices differ by {apart:.2g}")

# %% [markdown] name="tie_explained"
# (A class that lacks the line has the matrix twice, which is where "GPT-2 has 163 million parameters" comes from. Whether tying is
# good is a question of size: it saves a quarter of a small model, 39 of 163 million, and next to nothing of a large one, and many large models do without.)
#
# ## The first loss
#
# The model above has been given a loss already, before any training.
#
# **Predict.** It knows nothing. What should its loss be? What do you think it is?

# %% name="first_loss" gptlib={"role": "reveal"}
with torch.no_grad():
    own = logits.gather(2, inputs[..., None])  # (B, T, 1): the logit of the token just read
    others = logits.std()
    p_own = logits.softmax(dim=-1).gather(2, inputs[..., None]).mean()
reveal(
    "It should be that of a blind guess among 50,257 tokens: ln 50,257 = {blind:.2f} nats. It is {loss:.0f}.\n\n"
    "The logit of the token that was *just read* is {own:.0f} on average; those of all others spread by {others:.0f} around 0. The model is "
    "sure, with probability {p:.0%}, that each token is followed by itself.",
    question="Answer",
    blind=math.log(gpt2.vocab_size),
    loss=near(loss.item(), 481, 4),
    own=near(own.mean(), 475, 6),
    others=near(others, 28, 1),
    p=p_own,
)

# %% [markdown] name="first_loss_why"
# Both numbers follow from the shape. PyTorch fills an `nn.Embedding` from the normal distribution with standard deviation 1. A
# stream that starts as token plus position has variance 2, and the untrained blocks add a little: say $s^2$ in all. The final norm divides by
# $s$ and leaves the token's own vector in there, divided by $s$ too. Its product with itself has C terms with mean 1:
#
# $$\text{logit of the token just read} \approx \frac{C}{s} \qquad \text{logits of the others} \approx \pm\sqrt{C}$$
#
# With $C = 768$ and $s^2 \approx 2.6$ that is 476, against ±28. Untied, nothing happens: the head's rows are then
# PyTorch's small ones, and know nothing of the embedding. So it is a trap that springs only when the code is made *more* like GPT-2.
#
# ## What GPT-2 starts from
#
# GPT-1 drew its weights with standard deviation 0.02; GPT-2 keeps that and changes one thing, which comes below. Biases begin at 0, the scales of norms at
# 1. (OpenAI's published code has 0.01 for the positions and no trace of the change; what stands here is the paper's rule as transformers and nanoGPT
# write it.)


# %% name="initialise"
def initialise(model: GPT, std: float = 0.02, scaled: bool = True) -> None:
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:  # matrices, and the two embeddings
            writes = name.endswith(("attention.project.weight", "mlp.narrow.weight"))
            depth = math.sqrt(2 * model.config.n_layer) if scaled and writes else 1
            nn.init.normal_(parameter, std=std / depth)
        else:  # a bias, or the scale of a norm
            nn.init.constant_(parameter, 0 if name.endswith("bias") else 1)


torch.manual_seed(0)
initialise(model)
with torch.no_grad():
    loss = model(inputs, targets)[1]
say(
    "First loss with 0.02: {loss:.3f}. A blind guess: ln V = {blind:.3f}. And ln V + C · 0.02² / 2 = {better:.3f}.",
    loss=near(loss, 10.98, 0.03),
    blind=math.log(gpt2.vocab_size),
    better=math.log(gpt2.vocab_size) + 768 * 0.02**2 / 2,
)

# %% [markdown] name="initialise_explained"
# The little that is left has a reason as well. A normed vector has length $\sqrt{C}$, the rows of the head have entries of size 0.02, so that the
# logits spread by $\sigma = 0.02\sqrt{C}$, which is 0.55. A softmax over logits that spread by σ at random costs $\sigma^2 / 2$ more
# than an even one, 0.15 nats here. The wider the model, the more: GPT-3's width would give 2.5.
#
# So the first loss is a number that you know before you start, to the second digit. It costs nothing to look at, and some mistakes show in it and
# nowhere else.
#
# **Predict.** Which of these does the first loss show? (a) all logits made 0; (b) the targets not shifted, so that each position is to
# predict the token that it has just read; (c) a mask that leaks the future; (d) no final norm; (e) the embeddings untied, with PyTorch's own
# first numbers throughout.


# %% name="first_losses"
def first_loss(wanted: Tensor = targets) -> float:
    with torch.no_grad():
        return model(inputs, wanted)[1].item()


def seeing_all(part: Attention, x: Tensor) -> Tensor:
    B, T, C = x.shape
    q, k, v = (y.view(B, T, part.n_head, -1).transpose(1, 2) for y in part.qkv(x).chunk(3, dim=-1))
    return part.project(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, C))


first = {"as it should be": first_loss()}
nn.init.zeros_(model.norm.weight)
first["(a) logits all 0"] = first_loss()
nn.init.ones_(model.norm.weight)
first["(b) targets not shifted"] = first_loss(inputs)
for block in model.blocks:
    block.attention.forward = lambda x, part=block.attention: seeing_all(part, x)  # hides the class's own
first["(c) no causal mask"] = first_loss()
for block in model.blocks:
    del block.attention.forward
norm, model.norm = model.norm, nn.Identity()
first["(d) no final norm"] = first_loss()
model.norm = norm
model.lm_head = nn.Linear(768, gpt2.vocab_size, bias=False)
for part in model.modules():
    if hasattr(part, "reset_parameters"):
        part.reset_parameters()
first["(e) untied, PyTorch's defaults"] = first_loss()

# %% name="first_losses_answer" gptlib={"role": "reveal"}
meaning = {
    "as it should be": "ln V and a little",
    "(a) logits all 0": "exactly ln V: even odds",
    "(b) targets not shifted": "*below* ln V: it knows something that it should not",
    "(c) no causal mask": "nothing: an untrained model makes no use of what it sees",
    "(d) no final norm": "next to nothing: small logits, and even closer to ln V",
    "(e) untied, PyTorch's defaults": "nothing: ln V and a little, from a spread of 1/√3",
}
reveal(
    "| | first loss | what it says |\n|---|---|---|\n{rows}\n\nSo it shows logits that are too large, and targets that are in the input's own place. "
    "It does not show a leak: that needs the test of lesson 03.",
    question="Answer",
    rows="\n".join(f"| {name} | {value:.3f} | {meaning[name]} |" for name, value in first.items()),
)
blind = math.log(gpt2.vocab_size)
assert abs(first["(a) logits all 0"] - blind) < 1e-3 and first["(b) targets not shifted"] < blind - 0.5
assert abs(first["(c) no causal mask"] - first["as it should be"]) < 0.05
assert blind < first["(d) no final norm"] < blind + 0.1 and abs(first["(e) untied, PyTorch's defaults"] - blind) < 0.4

# %% [markdown] name="depth_predict"
# ## Why 1/√(2 · n_layer)
#
# "We scale the weights of residual layers at initialization by a factor of $1/\sqrt{N}$ where $N$ is the number of residual
# layers", says section 2.3 of the GPT-2 paper, and no more. The two matrices of a block that *write* to the residual stream are `project` and
# `narrow`. Each block writes twice, so there are $2 \cdot$ `n_layer` writers.
#
# The stream is a sum. Terms that know nothing of each other add their variances: $N$ writers, each with variance $v$, give $N v$. Divide each by $\sqrt{N}$,
# and its variance by $N$: the sum is $v$, however deep the model.
#
# **Predict.** The variance of the stream is measured after every block, in models of 6, 12, 24 and 48 blocks, with and without the factor. Without,
# what does the curve over the blocks look like? With it, where do the four curves end?

# %% name="depth"
depths = (6, 12, 24, 48)
torch.manual_seed(0)
text = torch.randint(1000, (2, 65))
streams, slopes = {}, {}
for scaled in (False, True):
    for n_layer in depths:
        torch.manual_seed(0)
        deep = GPT(GPTConfig(vocab_size=1000, n_positions=64, n_embd=256, n_layer=n_layer, n_head=4))
        initialise(deep, scaled=scaled)
        variances = []
        for block in deep.blocks:
            block.register_forward_hook(lambda part, given, x, kept=variances: kept.append(x.var().item()))
        deep(text[:, :-1], text[:, 1:])[1].backward()
        streams[scaled, n_layer] = variances
        grads = torch.stack([block.mlp.widen.weight.grad.norm() for block in deep.blocks])
        slopes[scaled, n_layer] = (grads[0] / grads[-1]).item()

# %% name="depth_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.6,
    3.3,
    title="With the factor, the stream ends the same at any depth",
    alt="Variance of the residual stream after the last block. "
    + "; ".join(f"{n} blocks: {streams[False, n][-1]:.3f} without, {streams[True, n][-1]:.4f} with" for n in depths),
)
for scaled, colour, line in ((False, VERMILION, "--"), (True, BLUE, "-")):
    for n_layer in depths:
        values = streams[scaled, n_layer]
        label = ("with 1/√(2 · n_layer)" if scaled else "without") if n_layer == 48 else None
        axes.plot(range(1, n_layer + 1), values, line, color=colour, label=label, linewidth=1.2)
        axes.plot(n_layer, values[-1], "o", color=colour, markersize=4)
        axes.annotate(
            f"{n_layer} blocks",
            (n_layer, values[-1]),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize=8,
        )
axes.set(xlabel="block", ylabel="variance of the stream (log scale)", yscale="log", xlim=(0, 53), ylim=(5e-4, 2))
axes.legend(fontsize=9, loc="lower right")
reveal(
    "Without it, every block adds about as much as the one before (a straight line, bent by the logarithmic scale), and 48 blocks end {times:.1f} times as "
    "high as 6: {high:.2f} against {low:.2f}. With it, all four end between {least:.4f} and {most:.4f}.",
    question="Answer",
    times=near(streams[False, 48][-1] / streams[False, 6][-1], 9, 2),
    high=near(streams[False, 48][-1], 0.92, 0.2),
    low=near(streams[False, 6][-1], 0.1, 0.03),
    least=near(min(streams[True, n][-1] for n in depths), 0.008, 0.0015),
    most=near(max(streams[True, n][-1] for n in depths), 0.008, 0.0015),
)
figure

# %% name="depth_meaning"
say(
    "| blocks | gradient of the first block's `widen`, in units of the last block's: without | with the factor |\n|---|---|---|\n{rows}",
    rows="\n".join(f"| {n} | {slopes[False, n]:.1f} | {slopes[True, n]:.1f} |" for n in depths),
)
assert slopes[False, 48] > 1.7 * slopes[True, 48]

# %% [markdown] name="depth_explained"
# The first loss does not see any of this, since the final norm brings the stream to one size whatever it was. The gradients see it. In a stream that grows, what block 1 wrote
# is a large part of what block 2 reads and a small part of what block 48 reads; the early blocks are steep and the late ones flat,
# and one learning rate has to do for both. The factor makes the difference smaller, the more so the deeper the model, and does not end it.
#
# A stream that grows is no disaster under pre-norm (lesson 06), and models train without the factor. It is one of those things that cost nothing and start the
# model nearer to where every block can be heard.
#
# Three ways to get it wrong, which the exercise knows by name: scaling *all* matrices (what the readers read comes
# through a norm and has one size at any depth, so there is nothing to make up for), scaling the embeddings (they are added once), and $1/\sqrt{\text{n\_layer}}$ (a block writes twice). And an odd fact: the embeddings, with variance
# 2 · 0.02² = 0.0008, are themselves only a tenth of the stream that leaves the last block here.
#
# ## Every parameter
#
# Back to the count. A map from $a$ to $b$ features has $a \cdot b$ weights and $b$ biases, and a norm has a scale and a shift for every feature:
#
# | part | parameters |
# |---|---|
# | token embedding, also the output map | $V C$ |
# | position embedding | $P C$ |
# | in each of $L$ blocks: attention | $4C^2 + 4C$ |
# | feed-forward | $8C^2 + 5C$ |
# | two norms | $4C$ |
# | final norm | $2C$ |
#
# $$N = (V + P)\,C + L\,(12\,C^2 + 13\,C) + 2\,C$$


# %% name="count"
def count(V: int, P: int, C: int, L: int) -> int:
    return (V + P) * C + L * (12 * C**2 + 13 * C) + 2 * C


presets = {name: GPTConfig.preset(name) for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt3")}
lines = []
for name, config in presets.items():
    with torch.device("meta"):
        built = gpt3 if name == "gpt3" else GPT(config)
    n = count(config.vocab_size, config.n_positions, config.n_embd, config.n_layer)
    assert n == built.n_parameters() == parameters(config).total
    lines.append(f"| {name} | {config.n_layer} | {config.n_embd:,} | {config.n_head} | {n:,} |")
say("| | blocks | width | heads | parameters |\n|---|---|---|---|---|\n{lines}", lines="\n".join(lines))

# %% [markdown] name="count_117"
# The formula, a model that was built, and the library agree, five times. (The number of heads is not in it: lesson 04.) So where does **117 M** come from, which
# is still in many texts?
#
# From the paper. Table 2 of the GPT-2 paper says 117M, 345M, 762M and 1542M, and OpenAI's own repository takes it back: "our original parameter
# counts were wrong due to an error". What error it does not say. But there is a guess that one can test. GPT-1 had a vocabulary of 40,478 tokens where GPT-2
# has 50,257. Suppose that somebody counted with the old one.

# %% name="count_117_code"
paper = {"gpt2": 117, "gpt2-medium": 345, "gpt2-large": 762, "gpt2-xl": 1542}
lines = []
for name, millions in paper.items():
    config = presets[name]
    shape = config.n_positions, config.n_embd, config.n_layer
    right, old = count(50_257, *shape), count(40_478, *shape)
    assert round(old / 1e6) == millions
    lines.append(f"| {name} | {millions} M | {right:,} | {old:,} |")
say(
    "| | paper | counted | counted with GPT-1's vocabulary |\n|---|---|---|---|\n{lines}\n\nAll four fit to the last digit given. "
    "That does not prove it, but nobody has to say 117 M any more.",
    lines="\n".join(lines),
)

# %% [markdown] name="rule_predict"
# ## Where they sit
#
# The rule of thumb says $12 \cdot L \cdot C^2$.
#
# **Predict.** What does it give for GPT-2 small, and where is the rest? For GPT-3, does it matter?

# %% name="rule" gptlib={"role": "reveal"}
parts = {name: parameters(config) for name, config in presets.items()}
lines = []
for name, config in presets.items():
    rule, all_of_it = 12 * config.n_layer * config.n_embd**2, parts[name].total
    tokens, places = parts[name]["token embeddings"], parts[name]["position embeddings"]
    rest = all_of_it - rule - tokens - places
    lines.append(f"| {name} | {rule:,} | {tokens:,} | {places:,} | {rest:,} | {rule / all_of_it:.1%} |")
gap = parts["gpt2"].total - 12 * 12 * 768**2
reveal(
    "85 million, and 39 million are missing, nearly all of them token embeddings. For GPT-3 the rule is right to half a per cent.\n\n"
    "| | 12 · L · C² | token embeddings | positions | biases and norms | the rule's share |\n|---|---|---|---|---|---|\n{lines}",
    question="Answer",
    lines="\n".join(lines),
)
assert 12 * 12 * 768**2 == 84_934_656 and gap == 38_597_376 + 786_432 + 121_344

# %% name="shares"
from gptlib.plots.parameters import plot_parameters

small_share, large_share = (parts[name].share("token embeddings") for name in ("gpt2", "gpt3"))
say(
    "Token embeddings are {small:.1%} of GPT-2 small and {large:.2%} of GPT-3. Their number grows with C, that of the blocks with L · C².",
    small=near(small_share, 0.310, 0.0005),
    large=near(large_share, 0.0035, 0.0001),
)
plot_parameters(presets, title="The vocabulary: a third of GPT-2 small, a trace of GPT-3")

# %% [markdown] name="table_2_1"
# ## Reading a table with a pencil
#
# Table 2.1 of the GPT-3 paper gives eight shapes, with the size of a head beside their number. In a GPT the heads share out the width, so $H \cdot D = C$. And table D.1, at the end of
# the same paper, gives the number of parameters once more, in millions and to one digit more. Both can be checked.

# %% name="table_2_1_code"
# name: millions (2.1), layers, width, heads, width of a head, and millions again (D.1)
gpt3_table = {
    "Small": (125, 12, 768, 12, 64, 125),
    "Medium": (350, 24, 1024, 16, 64, 356),
    "Large": (760, 24, 1536, 16, 96, 760),
    "XL": (1300, 24, 2048, 24, 128, 1320),
    "2.7B": (2700, 32, 2560, 32, 80, 2650),
    "6.7B": (6700, 32, 4096, 32, 128, 6660),
    "13B": (13_000, 40, 5140, 40, 128, 12_850),
    "175B": (175_000, 96, 12_288, 96, 128, 174_600),
}
lines = []
for name, (said, L, C, H, D, again) in gpt3_table.items():
    fits = "yes" if H * D == C else f"**no: {H * D:,}**"
    n = count(50_257, 2048, C, L)
    lines.append(f"| {name} | {L} | {C:,} | {H} · {D} | {fits} | {said:,} | {again:,} | {n / 1e6:,.1f} |")
odd = [name for name, (_, _, C, H, D, _) in gpt3_table.items() if H * D != C]
assert odd == ["XL", "13B"]
say(
    "| | L | C | H · D | is it C? | M in 2.1 | M in D.1 | counted (M) |\n|---|---|---|---|---|---|---|---|\n{lines}\n\nTwo do not fit: {odd}.",
    lines="\n".join(lines),
    odd=" and ".join(odd),
)

# %% [markdown] name="table_2_1_predict"
# **Predict.** In each of the two, something is misprinted. Which of the numbers, and what should it be? Use the parameters of table D.1 as the witness.

# %% name="table_2_1_answer" gptlib={"role": "reveal"}
attention_wide = 24 * (4 * 2048 * (24 * 128) - 4 * 2048 * 2048)  # what matrices of 24 heads of 128 would add
xl = count(50_257, 2048, 2048, 24)
wide, right = count(50_257, 2048, 5140, 40), count(50_257, 2048, 5120, 40)
reveal(
    "**13B**: width 5,140 gives {wide:,.0f} M, width 40 · 128 = 5,120 gives {right:,.0f} M. Table D.1 says 12,850: it was 5,120.\n\n"
    "**XL**: with a width of 2,048, ordinary attention gives {xl:,.0f} M; 24 heads of 128 would need wider matrices and come to {xl_wide:,.0f} M. "
    "Table D.1 says 1,320: the width is right, and the heads are not 24 of 128. 16 of 128 would fit, as would 24 of 85⅓, if there were such a thing.",
    question="Answer",
    wide=wide / 1e6,
    right=right / 1e6,
    xl=xl / 1e6,
    xl_wide=(xl + attention_wide) / 1e6,
)
assert round(right / 1e7) == 1285 and round(wide / 1e7) == 1295 and round(xl / 1e7) == 132

# %% [markdown] name="table_2_1_explained"
# The others agree with D.1 to its rounding, and for GPT-3 itself our 174,604,259,328 is its 174,600 M. (The shape that the count assumes, GPT-2's with 2,048
# learned positions, is what the paper describes: "the same model and architecture as GPT-2", with sparse attention in every other block, which has no parameters of its
# own.) A parameter count is a checksum: it costs a line, and finds misprints in papers and slips in code.
#
# ## The parameter map, live
#
# Area is number. With what you know now:
#
# - How wide must GPT-2 small become for the blocks to hold nine tenths of it?
# - Halve the width and take four times as many layers. Which parts stay, which do not?
# - Change the number of heads. What happens?
#
# (Where no kernel runs, as on GitHub, you see a still picture.)

# %% name="parameter_map"
from gptlib.widgets import ParameterMap

ParameterMap("gpt2")

# %% [markdown] name="flops"
# ## What it costs: FLOPs
#
# A floating-point operation, a FLOP, is one addition or one multiplication. Nearly all of them are in matrix products: a map with $n$ weights takes $2n$ for each token, a multiplication and
# an addition for every weight. The backward pass has two products for each one of the forward pass (one for the gradient of what went in, one for
# that of the weights), so that training takes $6n$. Hence the rule **6 N FLOPs per token**.
#
# PyTorch can count them as they happen, and on the meta device it can count them without computing any:

# %% name="flops_count"
from torch.utils.flop_counter import FlopCounterMode

from gptlib.scaling import forward_flops, training_flops

for name in ("gpt2", "gpt3"):
    config = presets[name]
    with torch.device("meta"):
        shape_only = GPT(config)
        text = torch.zeros(1, config.n_positions, dtype=torch.long)
    with FlopCounterMode(display=False) as forward:
        loss = shape_only(text, text)[1]
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    ours, theirs = training_flops(config).total, forward.get_total_flops() + backward.get_total_flops()
    assert forward.get_total_flops() == forward_flops(config, config.n_positions).total and ours == theirs
    print(
        f"{name}: one text of {config.n_positions:,} tokens, forwards and backwards: {theirs:,} (PyTorch), {ours:,} (formula)"
    )

# %% [markdown] name="flops_predict"
# Equal, to the last operation, and a short calculation in your head says how long a machine needs: a processor core that does 50 billion a second would work at that one text
# of GPT-3 for half a day.
#
# **Predict.** Divide by the tokens and compare with 6 N. Is the rule too high or too low, and for which model is it better?

# %% name="flops_rule" gptlib={"role": "reveal"}
lines, heights = [], {}
for name, config in presets.items():
    exact = {part: amount / config.n_positions for part, amount in training_flops(config).items()}
    total, n = sum(exact.values()), parts[name].total
    blocks_only = 6 * 12 * config.n_layer * config.n_embd**2
    heights[name] = {part: amount / (6 * n) for part, amount in exact.items()}
    lines.append(f"| {name} | {total / 1e9:,.2f} | {6 * n / total:.1%} | {blocks_only / total:.1%} |")
reveal(
    "Too low, and it is better for the large one. 6 N gives {small:.0%} of GPT-2 small's work and {large:.0%} of GPT-3's.\n\n"
    "| | GFLOPs per token, training | 6 N is so much of it | 6 · 12 · L · C² is so much |\n|---|---|---|---|\n{lines}",
    question="Answer",
    small=near(6 * parts["gpt2"].total / (training_flops(gpt2).total / 1024), 0.874, 0.001),
    large=near(6 * parts["gpt3"].total / (training_flops(presets["gpt3"]).total / 2048), 0.973, 0.001),
    lines="\n".join(lines),
)

# %% name="plot_flops" gptlib={"role": "reveal"}
figure, axes = picture(
    7.2,
    2.9,
    title="What 6 N leaves out: the scores and values of attention",
    alt="FLOPs per token of training in units of 6 N, at full length. "
    + "; ".join(f"{name} {sum(each.values()):.3f}" for name, each in heights.items()),
)
left = [0.0] * len(heights)
names = ["feed-forward", "attention maps", "output map", "attention scores and values"]
for part, colour in zip(names, (PURPLE, GREEN, BLUE, VERMILION), strict=True):
    widths = [each[part] for each in heights.values()]
    axes.barh(list(heights), widths, left=left, height=0.65, color=colour, label=part)
    left = [a + b for a, b in zip(left, widths, strict=True)]
axes.axvline(1, color=GREY, linestyle="--", linewidth=1.2)
axes.text(1.005, -0.75, "6 N", fontsize=9)
axes.set(xlabel="FLOPs per token of training, in units of 6 N", ylim=(4.6, -1), xlim=(0, 1.2))
axes.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.45, -0.24), ncols=4, frameon=False)
figure

# %% [markdown] name="flops_explained"
# What is wrong with 6 N per token, in order of size:
#
# - **Scores and values** have no parameters, and so are not in it: $12 \cdot L \cdot T \cdot C$ per token of training. That grows with the length of the text, and is all of the red part.
# - **Which N?** The token embedding is looked up, which costs no product; but tied, the same numbers are the output map, which costs one. So with tied
#   weights it is right to count them once. Untied, N has them twice and the work once. The scaling laws of Kaplan and others (2020) leave the embeddings out of N altogether: for GPT-2 small that loses the output map,
#   more than a quarter of the work.
# - Positions, biases and norms are in N and take no products: under one per cent.
#
# For GPT-3, the paper's own total is $6 \cdot 174.6 \cdot 10^9 \cdot 300 \cdot 10^9 = 3.14 \cdot 10^{23}$ (table D.1), by this rule. A rule is good when one knows what it leaves out.

# %% [markdown] name="real"
# ## Somebody else's weights
#
# Is our class really GPT-2? The judge is `GPT2LMHeadModel` of the library transformers, through which most people use it. A model of this kind can be made small and random without a
# network, and if our class gives equal logits with its weights, it will do so with the real ones.
#
# A fresh model is too kind a judge: its biases are all 0 and its norms all 1, so that mistakes in them would not show. So we shake every parameter first.

# %% name="real_theirs"
import transformers

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
theirs = transformers.GPT2LMHeadModel(
    transformers.GPT2Config(vocab_size=101, n_positions=32, n_embd=48, n_layer=3, n_head=4)
).eval()
with torch.no_grad():
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
for name, parameter in list(theirs.named_parameters())[:8]:
    print(f"{name:36} {tuple(parameter.shape)}")

# %% [markdown] name="real_rename"
# Other names, the same parts. A table translates, and we load:

# %% name="real_rename_code"
TRANSLATION = {
    "transformer.wte": "token_embedding",
    "transformer.wpe": "position_embedding",
    "transformer.h": "blocks",
    "transformer.ln_f": "norm",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.c_attn": "attention.qkv",
    "attn.c_proj": "attention.project",
    "mlp.c_fc": "mlp.widen",
    "mlp.c_proj": "mlp.narrow",
}


def renamed(name: str) -> str:
    for other, own in TRANSLATION.items():
        name = name.replace(other, own)
    return name


shape = GPTConfig(vocab_size=101, n_positions=32, n_embd=48, n_layer=3, n_head=4)
ours = GPT(shape).eval()
weights = {renamed(name): tensor for name, tensor in theirs.state_dict().items()}
try:
    ours.load_state_dict(weights)
except RuntimeError as error:
    for line in str(error).splitlines()[:4]:
        print(line.strip().split(" from checkpoint")[0])

# %% [markdown] name="real_predict"
# Their matrices stand the other way round: GPT-2's code had a class `Conv1D`, which keeps (inputs, outputs) and multiplies from the other side than `nn.Linear`. PyTorch complains about three matrices of every block.
#
# **Predict.** A block has four matrices: `qkv`, `project`, `widen`, `narrow`. Why does PyTorch complain about three? What happens to whoever transposes just those three?
#
# <details><summary>Answer</summary>
#
# `project` is square. Its shape is right either way, so it is loaded the wrong way round, without a word.
#
# </details>

# %% name="real_wrong"
torch.manual_seed(1)
text = torch.randint(101, (4, 33))
with torch.no_grad():
    wanted = theirs(text[:, :-1]).logits  # (B, T, V)


def loaded(transposed: tuple[str, ...] = ("qkv", "project", "widen", "narrow")) -> GPT:
    """Our class with their weights, of which those with these names are transposed."""
    model, turned = GPT(shape).eval(), tuple(f"{name}.weight" for name in transposed)
    model.load_state_dict({name: w.T if name.endswith(turned) else w for name, w in weights.items()})
    return model


def exact_gelu(model: GPT) -> None:
    for block in model.blocks:
        block.mlp.gelu = nn.GELU()


def other_eps(model: GPT, eps: float) -> None:
    for part in model.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps


def keys_first(model: GPT) -> None:
    for block in model.blocks:
        for p in (block.attention.qkv.weight, block.attention.qkv.bias):
            q, k, v = p.data.chunk(3)
            p.data = torch.cat([k, q, v])


attempts = {
    "as it should be": loaded(),
    "`project` not transposed": loaded(transposed=("qkv", "widen", "narrow")),
    "GELU exact, not by tanh": loaded(),
    "norms with eps 1e-12, as in BERT": loaded(),
    "k, q, v for q, k, v": loaded(),
    "no final norm": loaded(),
}
exact_gelu(attempts["GELU exact, not by tanh"])
other_eps(attempts["norms with eps 1e-12, as in BERT"], 1e-12)
keys_first(attempts["k, q, v for q, k, v"])
attempts["no final norm"].norm = nn.Identity()

# %% name="real_answer"
lines = []
for name, attempt in attempts.items():
    with torch.no_grad():
        got = attempt(text[:, :-1])[0]
    apart = (got - wanted).abs().max().item()
    same = (got.argmax(-1) == wanted.argmax(-1)).float().mean().item()
    lines.append(f"| {name} | {apart:.1e} | {same:.0%} |")
    assert (apart < 1e-4) == (name == "as it should be")
say(
    "The logits spread by {spread:.2f}.\n\n| | largest difference of a logit | same best token |\n|---|---|---|\n{lines}",
    spread=wanted.std(),
    lines="\n".join(lines),
)

# %% [markdown] name="real_explained"
# Equal to rounding, once, and five ways to be nearly right. The GELU and the epsilon are the treacherous ones: the best token is the same everywhere, so that a text
# would still read well, and every logit is a little off. Hence the habit: never judge loaded weights by the text they write, but by the logits.
#
# ## The library's class, and the real thing
#
# The names of our class are those of `gptlib.GPT`, so the weights go over as they are:

# %% name="library_equal"
library = gptlib.GPT(shape).eval()
library.load_state_dict(attempts["as it should be"].state_dict())
with torch.no_grad():
    difference = (library(text[:, :-1])[0] - attempts["as it should be"](text[:, :-1])[0]).abs().max()
print(
    f"gptlib.GPT differs from ours by {difference:.0e}; {library.n_parameters():,} and {ours.n_parameters():,} parameters"
)
assert difference < 1e-5

# %% [markdown] name="hub"
# And now OpenAI's own weights, if this machine can get them from the hub (half a gigabyte the first time). `load_model` does for the library's class what we did for ours.

# %% name="hub_code"
try:
    real, words = gptlib.load_model("gpt2")
except ConnectionError:
    print("The hub cannot be reached from here, so GPT-2's own weights are left out; nothing below needs them.")
else:
    mine = GPT(gpt2).eval()
    mine.load_state_dict(real.state_dict())
    prompt = torch.tensor([words.encode("Alan Turing theorized that computers would one day become")])
    with torch.no_grad():
        difference = (mine(prompt)[0] - real(prompt)[0]).abs().max()
        for _ in range(12):
            prompt = torch.cat([prompt, mine(prompt)[0][:, -1:].argmax(-1)], dim=1)  # (1, T + 1)
    print(f"{mine.n_parameters():,} parameters; the library's logits differ from ours by {difference:.0e}")
    print(words.decode(prompt[0].tolist()))

# %% [markdown] name="library"
# ## The part in the library
#
# `gptlib/model.py` spans GPT-2 and Llama, so that it has a choice where we have a line. Its constructor, the rule for the first numbers, and the second half of `forward`
# (`note` is what `record` listens to):

# %% name="library_source"
import inspect

code = inspect.getsource(gptlib.GPT.__init__)
print(code[code.index("        self.token_embedding") :])
print(inspect.getsource(gptlib.GPT._initialise))
code = inspect.getsource(gptlib.GPT.forward)
print(code[code.index('        x = self.note("embedding"') :])

# %% [markdown] name="so_far"
# ## The model so far
#
# Now your class learns. The corpus, the trainer and the 2,048 tokens a step are those of the lessons before, and so is the width, 128. New are three blocks in place of one, tied weights,
# and the first numbers of this lesson. GPT-2 learned its positions; the last models on the chart turned theirs, and this one goes on with that. (The trainer is asked for *Muon*, as in lesson 06:
# an optimizer for the matrices inside the blocks. A later lesson explains it. With AdamW alone the same model gets there more slowly.)
#
# **Predict.** What is its loss before the first step?

# %% name="train"
from gptlib import TrainConfig, load_corpus, load_model, tales, train

_, tokenizer = load_model("tales")
corpus = load_corpus("tales:5000")  # 5,000 stories to learn from
test_stories = tales.split("test", 200)
config = GPTConfig(vocab_size=tokenizer.vocab_size, n_positions=256, n_embd=128, n_layer=3, n_head=4, position="rotary")
torch.manual_seed(0)
story_gpt = GPT(config)
initialise(story_gpt)
ids = torch.tensor(tokenizer.encode(corpus.train[:10_000]))[:2049]
with torch.no_grad():
    before = story_gpt(ids[:-1].view(8, 256), ids[1:].view(8, 256))[1]
recipe = {"batch_size": 8, "learning_rate": 0.02, "warmup_steps": 20, "eval_every": 1000, "optimizer": "muon"}
recipe |= {"precision": "fp32", "device": "cpu"}
result = train(story_gpt, corpus, tokenizer, TrainConfig(steps=300, **recipe), verbose=False)
measured = tales.evaluate(story_gpt, tokenizer, test_stories)
nats = measured.nats_per_token - measured.floor
print(f"{story_gpt.n_parameters():,} parameters, {nats:.2f} nats above the floor")

# %% name="train_answer" gptlib={"role": "reveal"}
from gptlib.plots import plot_losses

reveal(
    "{before:.2f}: ln 1,024 is {blind:.2f}, and 128 · 0.02² / 2 = 0.03 is hardly anything. After {steps} steps it is {end:.2f} nats on stories that it has not read; the floor is {floor:.2f}.",
    question="Answer",
    before=near(before, 6.95, 0.05),
    blind=math.log(tokenizer.vocab_size),
    steps=result.steps,
    end=near(measured.nats_per_token, 0.34, 0.08),
    floor=measured.floor,
)
plot_losses({"your GPT": result.log}, title="From ln V to the neighbourhood of the floor", floor=measured.floor)

# %% name="ladder"
from gptlib.plots import plot_ladder

plot_ladder({"GPT": nats}, title="More than nine tenths of the way from the bigram to the floor")

# %% name="writes"
import textwrap

torch.manual_seed(4)
written = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])  # (1, T)
with torch.no_grad():
    for _ in range(90):
        probabilities = story_gpt(written)[0][0, -1].softmax(dim=-1)  # (V,)
        written = torch.cat([written, torch.multinomial(probabilities, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(written[0, 1:].tolist()), 100))

# %% [markdown] name="end"
# Whole sentences now, speech that opens and closes, and a story with a turn in it. (Where a word makes no sense at all, a token of low probability was drawn;
# lesson 09 is about that.) What it does not keep is who has lost what: look at the names and the things. That takes more training, and the next lesson is
# about nothing else.
#
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "GPT-2 small has 117 M parameters." | 124,439,808; the paper's number was taken back. |
# | "It has 163 M." | That is GPT-2 with the tied matrix twice. |
# | "A GPT has 12 · n_layer · n_embd² parameters." | For GPT-2 small that is 85 M, and 39 M are missing; for GPT-3 it is nearly all. |
# | "Most of a GPT is in its embeddings." | 31 % of GPT-2 small, 0.35 % of GPT-3. |
# | "Training costs 6 N FLOPs per token." | Without the scores and values of attention: 13 % too low for GPT-2 small at full length, 3 % for GPT-3. |
# | "GPT-3 XL has 24 heads of 128." | So says table 2.1, and its own width and size contradict it. |
# | "The first loss is ln V." | With the right first numbers, and $C \cdot 0.02^2 / 2$ more; with PyTorch's own and tied weights it is 481. |
# | "GPT-2 scales its weights by 1/√(2 · n_layer)." | Two matrices of each block, those that write to the stream. |
#
# Each has a cell above.
#
# ## Three sentences to remember
#
# 1. A GPT is token vectors plus position vectors, a stack of blocks, a norm, and the token vectors once more as the output map.
# 2. The first loss is a number that you know beforehand, ln V and a little; look at it before you train, and at equal logits before you trust loaded weights.
# 3. Parameters are $(V + P)C + L(12C^2 + 13C) + 2C$, and training costs six operations for each of them and token, plus $12\,L\,T\,C$ for attention.
#
# ## Exercises
#
# [`exercises/07_the_gpt.ipynb`](../exercises/07_the_gpt.ipynb) (in `work/exercises` if you came by `make lab`), about 40 minutes:
#
# | exercise | minutes |
# |---|---|
# | `gpt.count_parameters`: count every parameter | 12 |
# | `gpt.init`: the first numbers | 12 |
# | `gpt.forward`: the forward pass | 15 |
#
# **Next:** [Training: a dozen lines that learn](08_training.ipynb).
#
# ## Where to read more
#
# - Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei and Ilya Sutskever, *Language Models are Unsupervised Multitask Learners* (2019). Section 2.3 is the
#   whole description of GPT-2; table 2 has the sizes.
# - Alec Radford, Karthik Narasimhan, Tim Salimans and Ilya Sutskever, *Improving Language Understanding by Generative Pre-Training* (2018). GPT-1, and the 0.02.
# - Tom B. Brown and others, *Language Models are Few-Shot Learners* (2020). Table 2.1, and table D.1 beside it.
# - Ofir Press and Lior Wolf, *Using the Output Embedding to Improve Language Models* (2017); Hakan Inan, Khashayar Khosravi and Richard Socher, *Tying Word Vectors
#   and Word Classifiers* (2017).
# - Jared Kaplan and others, *Scaling Laws for Neural Language Models* (2020). Section 2.1 counts parameters and operations.
# - Andrej Karpathy, *nanoGPT* (2022), `model.py`. The same class by another hand, worth reading beside yours.
