# %% [markdown] name="title"
# # The block: gather, then work
#
# {{badge}}
#
# After this lesson you can write the block of GPT-2 from nothing but matrices, say what each of its parts is for and what goes when it is
# gone, and explain with numbers why the norm stands where it stands and why everything is added and nothing replaced.
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | about a minute and a half on two CPU cores; no GPU, no network |
# | Know first | lessons 03 and 04: attention, many heads; of lesson 05, that rotary positions turn queries and keys |
# | Afterwards | the three exercises of set 06, about 25 minutes |
#
# Shapes stand in the comments: `B` texts of `T` tokens, each token with a vector of width `C`; `H` heads; `L` counts blocks, `V` the tokens that a model
# knows.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# The bundled model is a stack of **blocks**. A block has two working parts: attention, and after it a second one that you have not
# met yet, the **feed-forward network**, often called **MLP** (from *multi-layer perceptron*). Below, the model goes on with four texts:
# as it is, then with the attention of all blocks switched off, then with all feed-forward networks switched off.
#
# **Predict.** A model without attention: what can it still know? One without feed-forward networks, whose heads all still look?

# %% name="thing"
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import load_model, record, say, tales
from gptlib.interpret import ablate_layers
from gptlib.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, picture
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
n_layer = model.config.n_layer
beginnings = [
    'One afternoon Otto went to the beach with nine coins. There a girl was selling an old map. "How much is it?" '
    'asked Otto. "Two coins," said the',
    "One morning Bram took a basket and went shopping. He bought three turnips and seven lemons. On the way he met Tess. "
    '"Your basket looks heavy," said Tess. "No wonder," said Bram. "Three and seven make',
    "Nora had an old dog. One morning Nora saw a fox beside a river. The fox did not cross the river because it was too",
    "One morning Nora saw a fox beside a river. The",
]
everywhere = {part: [(layer, part) for layer in range(n_layer)] for part in ("attention", "mlp")}
off = {"whole": [], "no attention": everywhere["attention"], "no feed-forward": everywhere["mlp"]}


@torch.no_grad()
def goes_on(text: str) -> str:
    """The token that the model finds most probable, and how much so."""
    ids = torch.tensor([tokenizer.encode("<|endoftext|>" + text)])  # (1, T)
    probability, token = model(ids)[0][0, -1].softmax(dim=-1).max(dim=-1)
    return f"{tokenizer.decode([token.item()]).strip()} {probability:.0%}"


for text in beginnings:
    answers = []
    for name, parts in off.items():
        with ablate_layers(model, parts):
            answers.append(f"{name}: {goes_on(text):14}")
    print(f"…{text[-22:]:24}", "".join(answers))

# %% [markdown] name="thing_answer"
# <details><summary>Answer</summary>
#
# Without attention nothing comes from other positions, so all that is left to go by is the last token. The model still has a
# good idea of what can follow *too*, and none whatever of Otto, foxes and sums. Without feed-forward networks it says words, and pieces of words, that fit nowhere. (*f* is the first piece of *fast*. Which of the six networks is to blame
# for that, you will see in a minute. It is not all of them.)
#
# </details>
#
# In one sentence each: **attention is communication**, the only part through which anything passes between positions. **The
# feed-forward network is computation**, on what has arrived, at each position by itself. The rest of the block, two norms
# and two additions, is there so that many such blocks can be stacked and still learn. This lesson takes them all apart.
#
# ## A block adds
#
# A block does not replace the vector of a position, it adds to it, twice. So the vector that reaches the top is a plain sum, and everybody's share in
# it can be read off. The sum that runs through all blocks is called the **residual stream**.

# %% name="stream"
ids = torch.tensor([tokenizer.encode("<|endoftext|>" + beginnings[1])])  # (1, T)
with record(model) as run:
    model(ids)
names = [f"blocks.{layer}.{part}.output" for layer in range(n_layer) for part in ("attention", "mlp")]
total = run["embedding"] + sum(run[name] for name in names)  # (1, T, C)
difference = (total - run[f"blocks.{n_layer - 1}.residual"]).abs().max()
say(
    "The token's embedding plus what {parts} parts added, against the vector at the top: they differ by at most {d:.0e}.",
    parts=len(names),
    d=near(difference, 0, 1e-3),
)

# %% [markdown] name="switch_off_predict"
# A part that only adds can be taken out: put zeros in the place of what it adds. `ablate_layers` did that above, in all
# blocks at once. Now one part at a time, and the price is the rise of the loss on stories that the model has not read.
#
# **Predict.** Which of the twelve parts is the dearest? Which could one do without?

# %% name="switch_off"
test_stories = tales.split("test", 200)
whole = tales.evaluate(model, tokenizer, test_stories[:24]).nats_per_token
rise = torch.zeros(n_layer, 2)
for layer in range(n_layer):
    for column, part in enumerate(("attention", "mlp")):
        with ablate_layers(model, [(layer, part)]):
            rise[layer, column] = tales.evaluate(model, tokenizer, test_stories[:24]).nats_per_token - whole

# %% name="switch_off_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    3.1,
    title="One feed-forward network costs more than all other parts together",
    alt="Rise of the loss in nats per token when one part is removed. "
    + "; ".join(f"block {i}: attention {a:.2f}, feed-forward {m:.2f}" for i, (a, m) in enumerate(rise.tolist())),
)
for column, (name, colour, shift) in enumerate((("attention", BLUE, -0.2), ("feed-forward", VERMILION, 0.2))):
    axes.bar([i + shift for i in range(n_layer)], rise[:, column].clamp(min=1e-3), 0.38, color=colour, label=name)
axes.set(xlabel="block", ylabel="rise of the loss (nats per token)", yscale="log", ylim=(2e-3, 20))
axes.set_xticks(range(n_layer))
axes.legend(frameon=False, loc="upper center", ncols=2)
reveal(
    "The dearest is the feed-forward network of block {dear}, at {most:.1f} nats; the other {others} together come to {rest:.1f}. The cheapest costs {least:.3f}. Of the "
    "attention layers the last is the dearest, {last:.2f} nats.",
    question="Answer",
    dear=int(rise[:, 1].argmax()),
    most=near(rise[0, 1], 7.6, 1.5),
    others=rise.numel() - 1,
    rest=near(rise.sum() - rise[0, 1], 2.2, 0.8),
    least=near(rise.min(), 0.005, 0.005),
    last=near(rise[-1, 0], 0.39, 0.15),
)
assert rise.flatten().argmax() == 1
figure

# %% [markdown] name="switch_off_explained"
# Why the first? Look at what it writes. For every token, take the mean of what it adds there, over some stories: a table with one vector for each token. Then run the
# model on other stories with that table in the network's place.

# %% name="first_table"
from gptlib.recording import listening


def windows(split: str, n: int, T: int) -> Tensor:
    """n pieces of T tokens from stories in a row: (n, T)."""
    stream = [token for story in tales.split(split, n) for token in tokenizer.encode("<|endoftext|>" + story.text)]
    return torch.tensor(stream[: n * T]).view(n, T)


pieces = {"learn": windows("train", 100, 96), "test": windows("test", 30, 96)}
site = "blocks.0.mlp.output"
with torch.no_grad(), record(model) as run_of_pieces:
    model(pieces["learn"])
written = run_of_pieces[site].flatten(0, 1)  # (n · T, C)
seen = torch.bincount(pieces["learn"].flatten(), minlength=tokenizer.vocab_size)  # (V,)
means = torch.zeros(len(seen), written.size(1)).index_add(0, pieces["learn"].flatten(), written)
means = means / seen.clamp(min=1)[:, None]  # (V, C)


@torch.no_grad()
def loss_on(ids: Tensor) -> float:
    return F.cross_entropy(model(ids)[0][:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()


def by_table(name: str, activation: Tensor) -> Tensor:
    known = (seen > 0)[pieces["test"]][..., None]  # (B, T, 1)
    return torch.where(known, means[pieces["test"]], activation) if name == site else activation


plain = loss_on(pieces["test"])
with listening(model, by_table):
    tabled = loss_on(pieces["test"])
with ablate_layers(model, [(0, "mlp")]):
    without = loss_on(pieces["test"])
say(
    "Loss as it is {plain:.2f} nats, with the table {tabled:.2f}, with nothing there {without:.2f}. (It is higher than above, since these texts begin in mid-story.)",
    plain=near(plain, 0.78, 0.15),
    tabled=near(tabled, 0.77, 0.15),
    without=near(without, 7.9, 1.5),
)
assert tabled - plain < 0.05 * (without - plain)

# %% [markdown] name="abilities_intro"
# So the first feed-forward network hardly looks at the context. It is best seen as a second half of the embedding, and without it all other blocks read a text of half-written tokens. That a part is dear does not yet say
# what it is for.
#
# And which *abilities* go? The stories of tales are marked: here is a pronoun, here a sum, here something that was said before. So it can be counted how often
# the right word gets more probability than each wrong one. Everything gone at once first, then by block.

# %% name="abilities"
kinds = ("recall", "reference", "sum", "fact", "pronoun", "agreement")
cases = {
    **off,
    "no feed-forward but in the first block": everywhere["mlp"][1:],
    "no attention in the last block": [(n_layer - 1, "attention")],
    "no feed-forward in the last block": [(n_layer - 1, "mlp")],
}
found, losses = {}, {}
for name, parts in cases.items():
    with ablate_layers(model, parts):
        found[name] = tales.abilities(model, tokenizer, max_stories=40, per_kind=15, kl_stories=0)
        losses[name] = tales.evaluate(model, tokenizer, test_stories[:24]).nats_per_token
say(
    "| | {kinds} | nats per token |\n|---|{line}|---|\n{rows}\n| guessing | {chance} | {blind:.1f} |",
    kinds=" | ".join(kinds),
    line="|".join("---" for _ in kinds),
    rows="\n".join(
        f"| {name} | " + " | ".join(f"{each[kind].accuracy:.0%}" for kind in kinds) + f" | {losses[name]:.2f} |"
        for name, each in found.items()
    ),
    chance=" | ".join(f"{found['whole'][kind].chance:.0%}" for kind in kinds),
    blind=math.log(tokenizer.vocab_size),
)
assert found["no attention"]["agreement"].accuracy > 0.8 > 0.5 > found["no attention"]["recall"].accuracy
assert all(found["whole"][kind].accuracy > 0.9 for kind in kinds)

# %% [markdown] name="abilities_explained"
# *Agreement* asks for *a* or *an*, *was* or *were* and the like: mostly the token before decides, and so it survives without any attention. Whatever needs
# another position falls to guessing or near it: a thing to recall, a sum whose terms stood earlier. (A cell has at most fifteen questions, so look at what stands and what falls, and not at single per cents.) Without feed-forward networks all of it falls, but that is the half-written tokens again. Leave the first
# in, and much of the order survives: right words ahead of wrong ones. Attention has brought them. The loss, all the same, is many times what it was, since nobody turns what was brought into sound
# probabilities.
#
# The last block alone shows the same division. Its attention fetches the words that are still missing: without it, what was to be recalled is lost. Its
# feed-forward network turns what is known into scores: without it the right word is often still ahead of the wrong ones, though the loss rises
# more. (A zero is a rough way of taking a part away; lesson 04 said why.)

# %% [markdown] name="reach"
# ## Communication and computation, exactly
#
# That only attention moves anything between positions can be seen in the shapes of the formulas, and it can be tested. Add something to the vector at position 8 in the input of each part
# and see which rows of its output move.

# %% name="reach_test"
block = model.blocks[2]
with torch.no_grad():
    before = run["blocks.2.norm1.output"]  # (1, T, C)
    after = before.clone()
    after[:, 8] += torch.randn(before.size(-1), generator=torch.Generator().manual_seed(0))
    for name, part in {"attention": block.attention, "feed-forward": block.mlp, "norm": block.norm1}.items():
        moved = (part(after) - part(before)).abs().amax(dim=-1)[0] > 1e-5  # (T,)
        rows = moved.nonzero().flatten().tolist()
        print(f"{name:13} moves {len(rows):2} of {len(moved)} rows: {rows[0]} to {rows[-1]}")
        assert (len(rows) == 1) == (name != "attention") and rows[0] == 8

# %% [markdown] name="mlp"
# ## The feed-forward network
#
# Three steps: a matrix that **widens** the C features to 4C, a function that **bends** each of them, a matrix that **narrows** them to C again.
#
# $$\text{MLP}(x) = W_{\text{out}}\, \text{GELU}(W_{\text{in}}\, x + b_{\text{in}}) + b_{\text{out}}$$


# %% name="mlp_code"
class MLP(nn.Module):
    """Widen, bend, narrow; every position by itself."""

    def __init__(self, C: int, inner: int) -> None:
        super().__init__()
        self.widen = nn.Linear(C, inner)
        self.narrow = nn.Linear(inner, C)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.widen(x), approximate="tanh")  # (B, T, C) -> (B, T, inner)
        return self.narrow(hidden)  # (B, T, inner) -> (B, T, C)


# %% [markdown] name="mlp_predict"
# Why bend? Because two matrices in a row are one matrix. And what can one matrix not do? Say that attention has brought two numbers
# to a position, and there they lie, added up in one vector. Two questions about them: what is their sum, and what is the *last digit* of their sum?
#
# In the trial below the numbers go from 0 to 9, each with a random vector of width 32 for each of its two places. Three
# networks get the 100 pairs to learn by heart: one matrix; two matrices, 32 to 128 to 32, with nothing between; and the same with GELU. A last matrix scores the answers.
#
# **Predict.** Of the 100, how many will each get right, for the sum and for its last digit?

# %% name="sums"
first, second = torch.cartesian_prod(torch.arange(10), torch.arange(10)).T  # 2 × (100,)
torch.manual_seed(0)
vectors = torch.randn(2, 10, 32)
gathered = vectors[0, first] + vectors[1, second]  # (100, C): what attention has put together


def learned(network: nn.Module, answers: Tensor) -> int:
    read = nn.Linear(32, 19)
    optimizer = torch.optim.Adam([*network.parameters(), *read.parameters()], lr=0.01)
    for _ in range(250):
        optimizer.zero_grad()
        F.cross_entropy(read(network(gathered)), answers).backward()
        optimizer.step()
    return int((read(network(gathered)).argmax(dim=-1) == answers).sum())


right = {}
for name in ("one matrix", "two matrices", "widen, GELU, narrow"):
    for what, answers in (("sum", first + second), ("last digit", (first + second) % 10)):
        torch.manual_seed(1)
        network = MLP(32, 128)
        if name == "one matrix":
            network = nn.Linear(32, 32)
        elif name == "two matrices":
            network = nn.Sequential(network.widen, network.narrow)
        right[name, what] = learned(network, answers)

# %% name="sums_answer" gptlib={"role": "reveal"}
bent = right["widen, GELU, narrow", "last digit"]
straight = max(right["one matrix", "last digit"], right["two matrices", "last digit"])
reveal(
    "| | the sum | its last digit |\n|---|---|---|\n{lines}\n\nOf the last digit, matrices alone find {straight:.0f} of 100, as many as by guessing; with GELU it is {bent:.0f}.",
    question="Answer",
    lines="\n".join(
        f"| {name} | {right[name, 'sum']} | {right[name, 'last digit']} |"
        for name in ("one matrix", "two matrices", "widen, GELU, narrow")
    ),
    straight=near(straight, 10, 12),
    bent=near(bent, 100, 3),
)
assert bent > 1.3 * straight

# %% [markdown] name="sums_explained"
# The sum is no trouble for a matrix: the score of the answer $s$ may grow with $a + b$ in a straight line, the faster the greater $s$ is, and with the right offsets
# each $s$ is ahead in its own range. The last digit is another matter. From 9 to 10 it falls from 9 to 0, and what the one number means for it depends on the other. A
# matrix adds up what it knows of the one and of the other, and never looks at both. A bend does: a hidden feature can
# be awake only if both together are large enough.
#
# Attention, too, has only matrices and averages for what it hands over. It can bring both numbers together, and it cannot make of them what is in neither. That is the
# division of labour in a block.
#
# ## GELU: not just a smooth ReLU
#
# ReLU cuts off at 0: $\max(0, y)$. GELU multiplies $y$ by the probability that a standard normal variable is below it, $y\,\Phi(y)$ (Hendrycks and
# Gimpel 2016). "A smooth ReLU," it is often said. **Predict.** Is there a $y$ where GELU falls as $y$ grows?

# %% name="gelu_values"
y = torch.linspace(-4, 3, 701)  # steps of 0.01
forms = {
    "ReLU": F.relu(y),
    "GELU, exact": y * torch.special.ndtr(y),
    "GELU, GPT-2's tanh": y / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))),
}
assert torch.allclose(forms["GELU, exact"], F.gelu(y), atol=1e-6)
exact, tanh = forms["GELU, exact"], forms["GELU, GPT-2's tanh"]
print("     y" + "".join(f"{name:>21}" for name in forms))
for value in (-3, -2, -1, -0.5, 0, 0.5, 1, 2):
    at = round((value + 4) * 100)
    print(f"{value:6}" + "".join(f"{each[at]:21.4f}" for each in forms.values()))

# %% name="gelu_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    5.6,
    2.9,
    title="GELU falls before it rises",
    alt=f"ReLU is 0 up to 0 and y beyond. GELU falls from 0 to {exact.min():.2f} at y = {y[exact.argmin()]:.2f} and rises from there, near y above 2.",
)
axes.plot(y, forms["ReLU"], color=GREY, linestyle="--", label="ReLU")
axes.plot(y, exact, color=BLUE, label="GELU")
axes.plot(y[exact.argmin()], exact.min(), "o", color=VERMILION)
axes.set(xlabel="y", ylabel="value", ylim=(-0.4, 1.6), xlim=(-4, 2))
axes.legend(frameon=False)
reveal(
    "Yes: everywhere below {lowest:.2f}. There it has its lowest value, {least:.3f}. At −1 it is {at:.3f}, where ReLU is 0, and its slope is {slope:.3f}, so that a "
    "feature that is switched off can still learn. GPT-2's form with tanh stays within {d:.0e} of the exact one.",
    question="Answer",
    lowest=near(y[exact.argmin()], -0.75, 0.01),
    least=near(exact.min(), -0.17, 0.001),
    at=near(exact[300], -0.1587, 0.001),
    slope=near((exact[301] - exact[299]) / 0.02, -0.083, 0.002),
    d=near((exact - tanh).abs().max(), 4.7e-4, 2e-4),
)
figure

# %% [markdown] name="two_thirds"
# Small as the difference between the two forms is, weights that were trained with one should be run with the one: over many layers it adds up.
#
# ## Where the weights are
#
# Lesson 04 showed that attention is a third of a block's weights. Here are the other two. With $4C^2$ weights in attention ($W_q$, $W_k$, $W_v$, $W_o$) and $4C$ for the
# inner width, the feed-forward network has $2 \cdot C \cdot 4C = 8C^2$.

# %% name="two_thirds_count"
from gptlib import GPT, GPTConfig


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


lines = []
for preset in ("gpt2", "gpt2-xl", "gpt3"):
    with torch.device("meta"):  # shapes without numbers
        big = GPT(GPTConfig.preset(preset, n_layer=1)).blocks[0]
    share = {name: count(part) / count(big) for name, part in (("a", big.attention), ("m", big.mlp))}
    norms = count(big.norm1) + count(big.norm2)
    lines.append(f"| {preset} | {count(big):,} | {share['a']:.1%} | {share['m']:.1%} | {norms:,} |")
    assert count(big.mlp) == 8 * big.mlp.widen.in_features**2 + 5 * big.mlp.widen.in_features
    assert abs(share["m"] - 2 / 3) < 1e-3
say(
    "| | one block | attention | feed-forward | norms (weights) |\n|---|---|---|---|---|\n{lines}",
    lines="\n".join(lines),
)

# %% [markdown] name="probe"
# ## How long does a token remember what it was?
#
# At the bottom, the vector of a position says which token stands there and nothing else. At the top, it has to say which one comes *next*. All that happens between is
# addition. So: after how many blocks can one still read off the token that stands there?
#
# A **probe** is a small map that is fitted afterwards, to read something from a model that was never asked for it. Ours is
# linear: the matrix that best turns the stream's vector into the embedding of the wanted token (least squares, with a small penalty on large
# entries), and the nearest embedding is its answer. It is fitted on some stories and tested on others.
#
# **Predict.** Two curves over the blocks: the token itself, and the next. Where do they start, where do they end, where do they meet?


# %% name="probe_code"
def probed(learn: Tensor, learn_ids: Tensor, test: Tensor, test_ids: Tensor, table: Tensor) -> float:
    """How often a linear map, fitted on `learn` (N, C), finds the token of `test` (M, C) in `table` (V, C)."""
    table = F.normalize(table, dim=-1)
    scale = learn.std()
    X, Z = (torch.cat([each / scale, torch.ones(len(each), 1)], dim=1) for each in (learn, test))  # (N, C + 1)
    W = torch.linalg.solve(X.T @ X + torch.eye(X.size(1)), X.T @ table[learn_ids])  # (C + 1, C)
    return ((Z @ W @ table.T).argmax(dim=-1) == test_ids).float().mean().item()


streams = {}
for name, piece in pieces.items():
    with torch.no_grad(), record(model) as run_of_pieces:
        model(piece)
    depths = ["embedding", *(f"blocks.{layer}.residual" for layer in range(n_layer))]
    streams[name] = [run_of_pieces[depth][:, :-1].flatten(0, 1) for depth in depths]  # each (n · 95, C)
table = model.token_embedding.weight.detach()
curves = {}
for wanted, cut in (("the token itself", slice(0, -1)), ("the next token", slice(1, None))):
    tokens = {name: piece[:, cut].flatten() for name, piece in pieces.items()}
    curves[wanted] = [
        probed(learn, tokens["learn"], test, tokens["test"], table)
        for learn, test in zip(streams["learn"], streams["test"], strict=True)
    ]

# %% name="probe_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    3.0,
    title="The stream turns from what is here to what comes next",
    alt="Share of tokens that a linear probe reads right, from the embedding through the blocks. "
    + "; ".join(f"{name}: " + ", ".join(f"{value:.0%}" for value in values) for name, values in curves.items()),
)
for (name, values), line, colour in zip(curves.items(), ("o-", "s--"), (BLUE, VERMILION), strict=True):
    axes.plot(range(n_layer + 1), [100 * value for value in values], line, color=colour, label=name)
axes.set(ylabel="read right by the probe (%)", ylim=(0, 105), xlabel="read after")
axes.set_xticks(range(n_layer + 1), ["embedding", *(f"block {i}" for i in range(n_layer))], fontsize=8)
axes.legend(frameon=False, loc="lower left")
own, following = curves["the token itself"], curves["the next token"]
reveal(
    "The token itself: from {own_first:.0%} at the embedding, over {own_half:.0%} after half of the blocks, to {own_last:.0%} at the top. The next token: from "
    "{next_first:.0%}, which is what the last token alone lets one guess, to {next_last:.0%}.",
    question="Answer",
    own_first=near(own[0], 1, 0.01),
    own_half=near(own[3], 0.855, 0.06),
    own_last=near(own[-1], 0.32, 0.1),
    next_first=near(following[0], 0.26, 0.06),
    next_last=near(following[-1], 0.79, 0.06),
)
figure

# %% [markdown] name="probe_explained"
# The identity fades slowly, because nobody is told to keep it: it stays since adding does not erase. Where it is still wanted (heads of
# later blocks compare tokens), it is there. At the top it makes room for the answer. Each step up trades a little of one for a little of the other.
#
# ## Layer norm
#
# A sum of many terms grows. Look at how long the vectors of the stream are, after each block:

# %% name="growth"
lengths = [each.norm(dim=-1).mean().item() for each in streams["test"]]
print("embedding  " + "".join(f"block {i}    " for i in range(n_layer)))
print("".join(f"{length:<11.1f}" for length in lengths))
assert lengths[-1] > 20 * lengths[0]

# %% [markdown] name="norm_formula"
# A block that reads from such a stream should not have to care how long the vectors are by now, that is, how *loud* the stream is. So in front of each part stands a **norm**, which brings its input to a standard
# size. That of GPT-2 is **layer norm** (Ba, Kiros and Hinton 2016). For each position by itself: take away the mean of its C features, divide by their standard deviation,
# then scale and move each feature as has been learned.
#
# $$y = \frac{x - \text{mean}(x)}{\sqrt{\text{variance}(x) + \varepsilon}} \cdot \text{weight} + \text{bias}$$
#
# The variance is divided by C, not by C − 1, and the small $\varepsilon$ stands inside the root.


# %% name="layer_norm"
class LayerNorm(nn.Module):
    def __init__(self, C: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))
        self.bias = nn.Parameter(torch.zeros(C))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)  # (B, T, C) - (B, T, 1)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (B, T, 1)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias


torch.manual_seed(0)
x = torch.tensor([[2.0, 4.0, 6.0, 8.0], [0.02, 0.04, 0.06, 0.08], [7.0, 7.0, 7.0, 7.0]])  # three positions, C = 4
for before, after in zip(x.tolist(), LayerNorm(4)(x).tolist(), strict=True):
    print([round(value, 2) for value in before], "->", [round(value, 2) for value in after])
x = torch.randn(2, 5, 24)  # (B, T, C)
pytorch = nn.LayerNorm(24)
print("differs from nn.LayerNorm by", f"{(LayerNorm(24)(x) - pytorch(x)).abs().max().item():.0e}")
assert torch.allclose(LayerNorm(24)(x), pytorch(x), atol=1e-5)

# %% [markdown] name="norm_explained"
# The first two rows differ a hundredfold and come out (nearly) alike. The third shows what $\varepsilon$ is for: without it, 0 would be divided by 0.
# (The bundled model has a simpler norm that leaves the mean alone, and a feed-forward network with a gate. Lesson 12 compares
# them; nothing in this one depends on it.)
#
# ## Over what does one take the mean?
#
# The numbers of a batch form a block of (B, T, C), and a mean can run over any of its axes. "Over the batch," some say of layer norm, or "over the sequence". It is neither, and must
# not be. A test like that for leaks: change another text of the batch, and see
# whether the first text notices; then change the last token of the first text, and see whether earlier positions notice.
#
# There are four ways to choose: over the features of a position; over the positions of a text; over the texts, at each position; over texts and positions together.
#
# **Predict.** Which of the four pass both tests?

# %% name="axes"
torch.manual_seed(0)
x = torch.randn(4, 10, 24)  # (B, T, C)
other_text, later_token = x.clone(), x.clone()
other_text[1] += 1
later_token[0, -1] *= 3


def standardise(x: Tensor, over: int | tuple[int, ...]) -> Tensor:
    centred = x - x.mean(over, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(over, keepdim=True) + 1e-5)


choices = {
    "the features of a position (layer norm)": -1,
    "the positions of a text": 1,
    "the texts, at each position": 0,
    "texts and positions (batch norm)": (0, 1),
}
lines = []
for name, over in choices.items():
    plain = standardise(x, over)
    by_text = (standardise(other_text, over) - plain)[0].abs().amax(dim=-1) > 1e-6  # (T,)
    by_later = (standardise(later_token, over) - plain)[0, :-1].abs().amax(dim=-1) > 1e-6  # (T - 1,)
    lines.append(f"| {name} | {int(by_text.sum())} of 10 | {int(by_later.sum())} of 9 |")
    assert (by_text.any() or by_later.any()) == (over != -1)
say(
    "| mean and variance over | positions that notice another text | positions that notice a later token |\n|---|---|---|\n{lines}",
    lines="\n".join(lines),
)

# %% [markdown] name="axes_explained"
# Only layer norm. And the others are worse than they look. Take a story, give each token a vector that is 1 at its own place and
# 0 elsewhere, and standardise over the positions of the text, as batch norm does with a batch of one. Then look at nothing but the *first* row, that of `<|endoftext|>`:

# %% name="future_read"
story = tales.sample(seed=11, n=1)[0].text
ids = torch.tensor(tokenizer.encode("<|endoftext|>" + story)[:24])  # (T,)
first_row = standardise(F.one_hot(ids, tokenizer.vocab_size).double(), 0)[0]  # (V,)
read_off = (first_row < -1e-6).nonzero().flatten()  # features whose mean over the text is not 0
print("the text:          ", tokenizer.decode(ids[1:].tolist()))
print("in its first row:  ", sorted(tokenizer.decode([token]) for token in read_off.tolist()))
assert set(read_off.tolist()) == set(ids[1:].tolist())

# %% [markdown] name="future_explained"
# Every token of the text, before the first word is written. In training, a model is rewarded for finding such a thing, and in use it is not there.
#
# ## The block
#
# Now all parts are there. Attention as in lesson 04, with the rotary positions of lesson 05 if wanted:


# %% name="block_code"
from gptlib.positions import Rotary


class Attention(nn.Module):
    def __init__(self, C: int, n_head: int, n_positions: int | None = None) -> None:
        super().__init__()
        self.n_head = n_head
        self.qkv = nn.Linear(C, 3 * C)
        self.project = nn.Linear(C, C)
        self.rotary = Rotary(n_positions, C // n_head) if n_positions else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)  # 3 × (B, H, T, D)
        heads = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v, is_causal=True)  # (B, H, T, D)
        return self.project(heads.transpose(1, 2).reshape(B, T, C))  # (B, H, T, D) -> (B, T, C)


class Block(nn.Module):
    """Attention gathers, the feed-forward network works on it; where the norms stand is the question of this lesson."""

    def __init__(self, C: int, n_head: int, order: str = "pre", norm=LayerNorm, n_positions: int | None = None) -> None:
        super().__init__()
        self.order = order
        self.norm1, self.attention = norm(C), Attention(C, n_head, n_positions)
        self.norm2, self.mlp = norm(C), MLP(C, 4 * C)

    def forward(self, x: Tensor) -> Tensor:
        for norm, part in ((self.norm1, self.attention), (self.norm2, self.mlp)):
            if self.order == "pre":  # GPT-2 and after
                x = x + part(norm(x))
            elif self.order == "post":  # the transformer of 2017, and GPT-1
                x = norm(x + part(x))
            else:  # nothing is kept
                x = part(norm(x))
        return x


# %% [markdown] name="block_explained"
# With the order "pre" and without the loop, that is two lines, and they are worth knowing by heart:
#
# ```python
# x = x + attention(norm1(x))
# x = x + mlp(norm2(x))
# ```
#
# In **pre-norm** the stream itself is never normed; each part gets a normed copy. In **post-norm** the sum is normed each time, and whatever is on
# the stream goes through all the norms there are.
#
# ## Batch norm on text
#
# Batch norm is what made deep networks for pictures trainable (Ioffe and Szegedy 2015). In training it takes mean and variance over the batch at hand. For use, it keeps
# running averages of both, which take their place. Two small models learn tales, alike but for the norm: two blocks of width 64, and batches of four texts of 64 tokens.


# %% name="small_model"
from gptlib import load_corpus

corpus = load_corpus("tales:5000")  # 5,000 stories to learn from
V = tokenizer.vocab_size
train_ids = torch.tensor(tokenizer.encode(corpus.train))  # (N,)


class BatchNorm(nn.Module):
    def __init__(self, C: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(C)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, 1)).view_as(x)  # (B, T, C) -> (B · T, C) -> (B, T, C)


def start(part: nn.Module) -> None:
    """Begin with entries of variance 1 / (features that are read), so that a product is as loud as what it reads."""
    if isinstance(part, nn.Linear):
        nn.init.normal_(part.weight, std=part.in_features**-0.5)
        nn.init.zeros_(part.bias)


class Stack(nn.Module):
    """Embeddings, blocks, scores."""

    def __init__(self, C: int, n_layer: int, order: str = "pre", norm=LayerNorm) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(V, C), nn.Embedding(64, C)
        self.blocks = nn.ModuleList(Block(C, 4, order, norm) for _ in range(n_layer)).apply(start)
        self.norm = nn.Identity() if order == "post" else norm(C)
        self.to_scores = nn.Linear(C, V, bias=False)
        nn.init.normal_(self.to_scores.weight, std=0.02)

    def streams(self, ids: Tensor) -> list[Tensor]:
        """The vectors before the first block and after each: n_layer + 1 times (B, T, C)."""
        found = [self.token(ids) + self.position(torch.arange(ids.size(1)))]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found

    def forward(self, ids: Tensor) -> Tensor:
        return self.to_scores(self.norm(self.streams(ids)[-1]))  # (B, T, V)


def small_batch(ids: Tensor, n: int, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    at = torch.randint(len(ids) - T, (n, 1), generator=generator) + torch.arange(T)  # (n, T)
    return ids[at], ids[at + 1]


def fit(network: nn.Module, steps: int, rate: float, *, n: int, warmup: int = 1, seed: int = 1) -> list[float]:
    """Adam, without decay or clipping; returns the loss of every step."""
    optimizer, generator = torch.optim.Adam(network.parameters(), lr=rate), torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / warmup)
        inputs, targets = small_batch(train_ids, n, 64, generator)
        loss = F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown] name="batchnorm_predict"
# Then each model is asked for its loss on the same new texts, in three ways: in training mode, four texts at a time; in training mode, one text at a time; and in
# evaluation mode, as when it is used.
#
# **Predict.** For the model with layer norm, and for the one with batch norm: how do the three compare?

# %% name="batchnorm"
held = torch.tensor(tokenizer.encode(corpus.validation))
held_inputs, held_targets = small_batch(held, 64, 64, torch.Generator().manual_seed(2))


@torch.no_grad()
def loss_in(network: nn.Module, n: int) -> float:
    """Mean loss on the held-out texts, n at a time, in the mode in which the network is."""
    found = [
        F.cross_entropy(network(inputs).flatten(0, 1), targets.flatten()).item()
        for inputs, targets in zip(held_inputs.split(n), held_targets.split(n), strict=True)
    ]
    return sum(found) / len(found)


by_norm = {}
for name, norm in (("layer norm", LayerNorm), ("batch norm", BatchNorm)):
    torch.manual_seed(0)
    network = Stack(64, 2, norm=norm)
    fit(network, 150, 0.01, n=4)
    used = loss_in(network.eval(), 4)
    by_norm[name] = [loss_in(network.train(), 4), loss_in(network, 1), used]
    print(name, [round(value, 3) for value in by_norm[name]])

# %% name="batchnorm_answer" gptlib={"role": "reveal"}
lines = [f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |" for name, values in by_norm.items()]
reveal(
    "| norm | training mode, 4 at a time | training mode, 1 at a time | evaluation mode |\n|---|---|---|---|\n{lines}\n\n"
    "With layer norm they are the same: it has no modes and knows no batch. With batch norm there are three models in one.",
    question="Answer",
    lines="\n".join(lines),
)
layer_normed, batch_normed = by_norm["layer norm"], by_norm["batch norm"]
assert max(layer_normed) - min(layer_normed) < 1e-4

# %% [markdown] name="batchnorm_explained"
# It learns, and on these short, even texts not badly at all: it is no catastrophe that rules batch norm out. It is that what a text gets
# depends on the texts it was computed beside, that the model in use is another than the one that was trained, and that a mean over positions lets the future in. (In larger models, Shen and others found in 2020,
# the statistics of batches of text also vary far more than those of pictures.) And then there is writing, a token at a time:

# %% name="batchnorm_one"
try:
    network.train()(held_inputs[:1, :1])
except ValueError as error:
    print("ValueError:", error)

# %% [markdown] name="depth_predict"
# ## Sixty-four blocks deep
#
# Why add, and why norm in front? With one block it hardly matters. So build deep ones, 2 to 64 blocks, not trained, matrices at random such that a part is as loud as what it reads, in three orders:
# **pre**, **post** and **none**, without residuals. Two questions to each:
#
# - *Forwards.* Exchange the vector of the last token. By how much does the output there change, as a share of its length?
# - *Backwards.* Take the slope, the gradient, of a random combination of the output at the last position. How long is it with respect to all the vectors of the text, and how long with respect to the
#   vector of the last token itself?
#
# **Predict.** "Without residuals the gradient vanishes," one reads, and "in post-norm it vanishes as well". Which of the curves will fall?

# %% name="depth"
depths = (2, 4, 8, 16, 32, 64)
orders = {"pre": "pre-norm", "post": "post-norm", "none": "no residual"}


def examine(order: str, n_blocks: int) -> dict[str, float]:
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block(64, 4, order) for _ in range(n_blocks)).apply(start).double()  # so small is not yet 0
    norm = nn.Identity() if order == "post" else LayerNorm(64).double()
    x = torch.randn(4, 32, 64, dtype=torch.float64)  # (B, T, C)

    def output(x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x)
        return norm(x)[:, -1]  # (B, C)

    other = x.clone()
    other[:, -1] = torch.randn(4, 64)
    x.requires_grad_()
    here = output(x)
    (here * torch.randn(4, 64)).sum().backward()
    with torch.no_grad():
        moved = ((output(other) - here).norm(dim=-1) / here.norm(dim=-1)).mean()
    return {
        "moved": moved.item(),
        "slope of all": x.grad.flatten(1).norm(dim=-1).mean().item(),
        "slope of its own": x.grad[:, -1].norm(dim=-1).mean().item(),
    }


deep = {order: [examine(order, n_blocks) for n_blocks in depths] for order in orders}

# %% name="depth_answer" gptlib={"role": "reveal"}
said = "; ".join(
    f"{name}, of {whose}: " + ", ".join(f"{each['slope of ' + whose]:.1e}" for each in deep[order])
    for order, name in orders.items()
    for whose in ("all", "its own")
)
figure, axes = picture(
    6.6,
    3.4,
    title="The gradient does not vanish; its own token's part of it does",
    alt=f"Slope of the output at the last position with respect to the vectors of all tokens and of its own, at 2 to 64 blocks. {said}.",
)
for (order, name), colour in zip(orders.items(), (BLUE, ORANGE, VERMILION), strict=True):
    axes.plot(depths, [each["slope of all"] for each in deep[order]], ":", color=colour)
    axes.plot(
        depths,
        [max(each["slope of its own"], 1e-99) for each in deep[order]],
        "o-",
        color=colour,
        label=f"{name}: its own token",
    )
axes.plot([], [], ":", color=GREY, label="dotted: all tokens of the text")
axes.set(xlabel="blocks", ylabel="length of the slope", xscale="log", yscale="log", ylim=(1e-12, 1e3))
axes.set_xticks(depths, [str(n) for n in depths], minor=False)
axes.minorticks_off()
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
measured = {
    "output that moves": "moved",
    "slope, its own token": "slope of its own",
    "slope, all tokens": "slope of all",
}
lines = [
    f"| {name}: {what} | "
    + " | ".join(f"{v:.1f}" if (v := each[key]) > 0.05 else f"{v:.0e}" for each in deep[order])
    + " |"
    for order, name in orders.items()
    for what, key in measured.items()
]
reveal(
    "Those of the token itself, and in both directions at once:\n\n| blocks | {depths} |\n|---|{line}|\n{lines}",
    question="Answer",
    depths=" | ".join(str(n) for n in depths),
    line="|".join("---" for _ in depths),
    lines="\n".join(lines),
)
assert deep["pre"][-1]["moved"] > 0.1 > 1e-3 > deep["post"][-1]["moved"] and deep["none"][2]["moved"] < 1e-4
assert all(0.5 < each["slope of all"] < 500 for order in ("pre", "post") for each in deep[order])
figure

# %% [markdown] name="depth_explained"
# The dotted lines stay up. What falls is the part of the gradient that belongs to the token at its own position, and the forward signal falls with it. Without
# residuals, a block hands on averages over what came before and nothing else. A few blocks on, all positions hold the same vector, whichever tokens stood there (Dong, Cordonnier and Loukas 2021 call it rank
# collapse). Then the slope says something about the text as a whole, and nothing about this word of it.
#
# So "residuals help gradients" is half of it. The other half is *forward identity*: with $x + \dots$, a block that has nothing to say hands on
# what it was given, and what it has to say is added. Post-norm has the addition, and divides the sum by its length each time: two equally loud terms, and the share of the old one falls to
# $1 / \sqrt{2}$. After 64 blocks, that is 128 times. In pre-norm nothing on the stream is ever made smaller.
#
# How fast it falls depends on how loud the parts are at the start. With GPT-2's first weights, of standard deviation 0.02, parts at this width whisper, and 64 blocks of post-norm would look as healthy as
# pre-norm: try `std=0.02` in `start`. A cure for one order may be another start; Xiong and others (2020) and Liu and others (2020) do not agree
# on how much of post-norm's trouble is the gradient.
#
# ## Does it matter in training?
#
# A slope on paper is not a loss. So let them learn: twelve blocks of width 32, no warmup, Adam at 0.005, batches of four texts of 64 tokens. (The norms are PyTorch's, which
# are ours in one operation, and faster.)
#
# **Predict.** Which of the orders learn? Does a warmup help post-norm?

# %% name="deep_training"
runs = {"pre-norm": ("pre", 1), "post-norm": ("post", 1), "post-norm, warmup": ("post", 60), "no residual": ("none", 1)}
deep_networks, deep_losses = {}, {}
for name, (order, warmup) in runs.items():
    torch.manual_seed(0)
    deep_networks[name] = Stack(32, 12, order, nn.LayerNorm)
    deep_losses[name] = fit(deep_networks[name], 120, 0.005, n=4, warmup=warmup)
    print(f"{name:18} {sum(deep_losses[name][-20:]) / 20:.2f} nats per token, mean of the last 20 steps")

# %% name="deep_training_answer" gptlib={"role": "reveal"}
last = {name: sum(losses[-20:]) / 20 for name, losses in deep_losses.items()}
shares = torch.bincount(train_ids, minlength=V).float() / len(train_ids)
knowing_nothing = -(shares[shares > 0] * shares[shares > 0].log()).sum().item()
figure, axes = picture(
    6.6,
    3.2,
    title="Twelve blocks deep, without warmup: pre-norm learns",
    alt="Training loss, each value the mean of ten steps. At the end: "
    + ", ".join(f"{name} {loss:.2f}" for name, loss in last.items())
    + f". Frequencies alone: {knowing_nothing:.2f}.",
)
for (name, losses), line, colour in zip(
    deep_losses.items(), ("-", "--", "-.", ":"), (BLUE, ORANGE, GREEN, VERMILION), strict=True
):
    tens = torch.tensor(losses).view(-1, 10).mean(dim=1)  # (12,)
    axes.plot(range(5, 5 + 10 * len(tens), 10), tens, line, color=colour, label=name)
axes.axhline(knowing_nothing, color=GREY, linewidth=1, label="frequencies of the tokens alone")
axes.set(xlabel="step", ylabel="loss (nats per token)")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "Only pre-norm. The others find out how frequent each token is, and stop there; a warmup changes nothing about it at this depth. Mean loss of the last 20 steps: pre-norm {pre:.2f}, post-norm {post:.2f}, post-norm with a warmup over 60 steps {warm:.2f}, no residual {none:.2f}. "
    "Who knows only how frequent each token is pays {nothing:.2f}.",
    question="Answer",
    pre=near(last["pre-norm"], 4.65, 0.4),
    post=last["post-norm"],
    warm=last["post-norm, warmup"],
    none=near(last["no residual"], knowing_nothing, 0.6),
    nothing=knowing_nothing,
)
assert last["pre-norm"] < last["post-norm"] - 0.3 and last["no residual"] > knowing_nothing - 0.3
figure

# %% [markdown] name="deep_probe_intro"
# And what does the probe say that followed a token through the bundled model? Here it follows one through the two extremes, before the training and after it.

# %% name="deep_probe"
inputs, _ = small_batch(held, 60, 64, torch.Generator().manual_seed(3))
learn_ids, test_ids = inputs[:40].flatten(), inputs[40:].flatten()
survives = {}
for name, order in (("pre-norm", "pre"), ("no residual", "none")):
    torch.manual_seed(0)
    for when, network in (("new", Stack(32, 12, order)), ("trained", deep_networks[name])):
        with torch.no_grad():
            vectors = [each.flatten(0, 1) for each in network.streams(inputs)]  # 13 × (60 · 64, C)
        survives[f"{name}, {when}"] = [
            probed(each[: len(learn_ids)], learn_ids, each[len(learn_ids) :], test_ids, network.token.weight.detach())
            for each in vectors[::3]
        ]
say(
    "| the token itself, read after | embedding | 3 blocks | 6 | 9 | 12 |\n|---|---|---|---|---|---|\n{lines}\n\n"
    "Always to say the most frequent token is right {most:.0%} of the time.",
    most=shares.max(),
    lines="\n".join(
        f"| {name} | " + " | ".join(f"{value:.0%}" for value in values) + " |" for name, values in survives.items()
    ),
)
assert survives["no residual, new"][2] < 0.2 < survives["pre-norm, new"][2]

# %% [markdown] name="deep_explained"
# Without residuals, what a word was is gone before the half of the way, and no training brings it back, since the way by which the loss could say what is missing is the same one. (Plain
# deep networks had that trouble long before transformers; He and others introduced residuals in 2015, for pictures.)
#
# The transformer of 2017 was post-norm, with six layers and a rate that rose over 4,000 steps before it fell; Xiong and others show that without such a warmup it fails, and that pre-norm needs none. With twelve blocks and parts as
# loud as ours, the short warmup above does not save it.
#
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "Transformers norm before each part." | GPTs do, since GPT-2. The transformer of 2017 and GPT-1 norm after the sum. (The idea is older: networks for pictures had it in 2016.) |
# | "A GPT block has three layer norms." | Two. Three has a decoder block of 2017, which also attends to an encoder. |
# | "Attention is most of a block." | A third of its weights (above). |
# | "Layer norm normalises over the batch", or "over the sequence". | Over the features of a position, alone (above). |
# | "Residuals are there for the gradient." | And for the way forward (above). |
# | "GELU is a smooth ReLU." | It falls before it rises (above). |
#
# The first two, from the code of others. A block of each kind, with numbers at random: how many norms has it, and has what leaves it been normed?

# %% name="popular"
from transformers import GPT2Config, OpenAIGPTConfig
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.models.openai.modeling_openai import Block as GPT1Block

torch.manual_seed(0)
x = 3 * torch.randn(2, 10, 24) + 1  # (B, T, C)
shape = {"d_model": 24, "nhead": 4, "dim_feedforward": 96, "batch_first": True}
small = {"n_embd": 24, "n_head": 4, "n_layer": 1, "n_positions": 10}
gpt1 = OpenAIGPTConfig(**small, attn_implementation="eager")
blocks = {
    "encoder of 2017 (PyTorch)": (nn.TransformerEncoderLayer(**shape), lambda block: block(x)),
    "decoder of 2017 (PyTorch)": (nn.TransformerDecoderLayer(**shape), lambda block: block(x, x)),
    "GPT-1 (transformers)": (GPT1Block(gpt1.n_positions, gpt1, scale=True), lambda block: block(x)),
    "GPT-2 (transformers)": (GPT2Block(GPT2Config(**small, attn_implementation="eager")), lambda block: block(x)),
    "ours, pre": (Block(24, 4), lambda block: block(x)),
    "ours, post": (Block(24, 4, "post"), lambda block: block(x)),
}
lines = []
for name, (kind, call) in blocks.items():
    with torch.no_grad():
        output = call(kind.eval())
    output = output if isinstance(output, Tensor) else output[0]  # (B, T, C)
    n_norms = sum(isinstance(part, nn.LayerNorm | LayerNorm) for part in kind.modules())
    normed = torch.allclose(output.mean(-1), torch.zeros(2, 10), atol=1e-3) and torch.allclose(
        output.var(-1, unbiased=False), torch.ones(2, 10), atol=1e-2
    )
    lines.append(f"| {name} | {n_norms} | {'yes: post-norm' if normed else 'no: pre-norm'} |")
    assert normed == ("2017" in name or "GPT-1" in name or "post" in name) and n_norms == 2 + ("decoder" in name)
say("| block | norms | is its output normed? |\n|---|---|---|\n{lines}", lines="\n".join(lines))

# %% [markdown] name="popular_final"
# (A whole GPT-2 has one norm more, after the last block: what comes off the stream to be scored has never been normed until then.)
#
# ## The part in the library
#
# `gptlib/layers.py` has `LayerNorm` and `MLP`, `gptlib/model.py` the `Block`. It can record, and it takes other norms and networks by its config; apart from that, it is yours:

# %% name="library_source"
import inspect

from gptlib import layers
from gptlib import model as library

for code in (
    inspect.getsource(layers.layer_norm),
    inspect.getsource(layers.MLP.forward),
    inspect.getsource(library.Block.forward),
):
    head, rest = code.split('"""', 1)
    print(head.rstrip() + rest.split('"""', 1)[1])  # without its description

# %% [markdown] name="library_explained"
# The names of the parts are the same as well, so that our weights can be loaded as they are. PyTorch's own block has other names for the same things:

# %% name="library_equal"
C, H = 24, 4
x = torch.randn(2, 10, C)  # (B, T, C)
lines = []
for order in ("pre", "post"):
    torch.manual_seed(0)
    ours = Block(C, H, order)
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)  # norms and biases too, so that nothing is left at 0 or 1
    config = GPTConfig(vocab_size=1, n_positions=10, n_embd=C, n_layer=1, n_head=H, position="none", norm_order=order)
    theirs = library.Block(config)
    theirs.load_state_dict(ours.state_dict())
    pytorch = nn.TransformerEncoderLayer(
        C, H, 4 * C, dropout=0.0, activation=layers.gelu_tanh, batch_first=True, norm_first=order == "pre"
    )
    pytorch.load_state_dict(
        {
            name.replace("attention.qkv.", "self_attn.in_proj_")
            .replace("attention.project", "self_attn.out_proj")
            .replace("mlp.widen", "linear1")
            .replace("mlp.narrow", "linear2"): value
            for name, value in ours.state_dict().items()
        }
    )
    mask = nn.Transformer.generate_square_subsequent_mask(10)
    wanted = ours(x)
    for name, result in (("gptlib.Block", theirs(x)), ("nn.TransformerEncoderLayer", pytorch(x, src_mask=mask))):
        lines.append(f"{order:5} {name:27} differs from ours by {(result - wanted).abs().max():.0e}")
        assert torch.allclose(result, wanted, atol=1e-4)
print("\n".join(lines))

# %% [markdown] name="so_far"
# ## The model so far
#
# Lesson 05 ended with a model that has heads and positions: token vectors, one layer of attention, scores. Now that layer of attention becomes a block. New are the feed-forward network, the two norms, and
# one more in front of the scores. The data and the number of steps are as they were. One thing in the recipe is new as well: the matrices inside the block are moved by **Muon**, a younger optimizer that suits them (lesson 08 has a word on it). So
# the step on the chart is not the block's merit alone; the recorded comparison further down gives every variant the same recipe.

# %% name="one_block"
from gptlib import TrainConfig, train


class OneBlock(nn.Module):
    """Token vectors, one block, and scores of the next token."""

    def __init__(self, block: nn.Module, norm=LayerNorm) -> None:
        super().__init__()
        # Where train() reads how long a text may be.
        self.config = GPTConfig(vocab_size=V, n_positions=256, n_embd=128, n_layer=1, n_head=block.attention.n_head)
        self.token_embedding = nn.Embedding(V, 128)  # (V, C)
        self.blocks = nn.ModuleList([block])  # a stack of one
        self.norm = norm(128)
        self.to_scores = nn.Linear(128, V, bias=False)
        self.blocks.apply(start)
        nn.init.normal_(self.token_embedding.weight, std=0.3)
        nn.init.normal_(self.to_scores.weight, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.blocks[0](self.token_embedding(ids))  # (B, T) -> (B, T, C)
        logits = self.to_scores(self.norm(x))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return count(self)


recipe = {"steps": 300, "batch_size": 8, "learning_rate": 0.02, "warmup_steps": 20, "eval_every": 1000}
recipe |= {"optimizer": "muon", "precision": "fp32", "device": "cpu"}


def learn(network: OneBlock) -> tuple[list[dict], float]:
    """Train a model; return the log and how far it stays above the floor, in nats per token."""
    result = train(network, corpus, tokenizer, TrainConfig(**recipe), verbose=False)
    measured = tales.evaluate(network, tokenizer, test_stories)
    return result.log, measured.nats_per_token - measured.floor


# %% [markdown] name="one_block_predict"
# **Predict.** Lesson 05 measured its model with positions: on the chart below, the point of that name. How far down does the block get?

# %% name="one_block_train"
torch.manual_seed(0)
one_block = OneBlock(Block(128, 16, n_positions=256))
log, nats = learn(one_block)
print(f"{one_block.n_parameters():,} parameters, {nats:.2f} nats above the floor")

# %% name="one_block_answer" gptlib={"role": "reveal"}
from gptlib.plots import plot_ladder

reveal(
    "To {nats:.2f} nats above the floor, in the same 300 steps.",
    question="Answer",
    nats=near(nats, 0.18, 0.06),
)
plot_ladder({"block": nats}, title=f"A block in place of bare attention comes to {nats:.2f}")

# %% [markdown] name="parts_predict"
# ## Which part did it?
#
# The same training again, with one part left out each time: without feed-forward network, without attention, without residuals, without norms; and in the order of 2017. Each takes as
# long as the one above, so these results are recorded. The command that made them runs the very cells above.
#
# **Predict.** Put the five in order before you look.

# %% name="parts" gptlib={"role": "reveal"}
from gptlib.measured import recorded

kept = recorded("block")
above = kept["nats above the floor"]
ordered = sorted(above, key=above.get)
figure, axes = picture(
    6.2,
    2.9,
    title="In a single block, attention does nearly everything (recorded)",
    alt="Nats above the floor after the same training: " + ", ".join(f"{name} {above[name]:.2f}" for name in ordered),
)
axes.barh(
    ordered[::-1],
    [above[name] for name in ordered[::-1]],
    color=[VERMILION if name == "whole" else BLUE for name in ordered[::-1]],
)
for place, name in enumerate(ordered[::-1]):
    axes.text(above[name] + 0.02, place, f"{above[name]:.2f}", va="center", fontsize=9)
axes.axvline(nats, color=GREY, linestyle="--", linewidth=1, label=f"the one trained above, {nats:.2f}")
axes.set(xlabel="nats per token above the floor", xlim=(0, 1.15 * max(above.values())))
axes.legend(frameon=False, fontsize=9, loc="center right")
print("recorded by:", kept.command)
assert above["no attention"] > 5 * above["whole"] and above["no residuals"] > 1.1 * above["whole"]
figure

# %% [markdown] name="parts_explained"
# Without attention it is back where the bigram was, and without residuals it pays. But the feed-forward network and the norms, of which this lesson made so much, bring nothing here: after 300 steps the block is as good without either. (Differences of a
# hundredth or two are within what another seed does.) So the step on the chart is that of the recipe. A single block has no depth in which sizes could drift apart, and what attention has just fetched is, in these stories, mostly the very word that comes next, with
# nothing left to compute. Both parts earn their keep in a stack: norms in the twelve blocks above, where their place decided whether anything was learned at all, and feed-forward networks in the bundled model, which is lost without them.
#
# And it writes.

# %% name="writes"
import textwrap

torch.manual_seed(4)
written = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])  # (1, T)
with torch.no_grad():
    for _ in range(70):
        probabilities = one_block(written)[0][0, -1].softmax(dim=-1)  # (V,)
        written = torch.cat([written, torch.multinomial(probabilities, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(written[0, 1:].tolist()), 100))

# %% [markdown] name="end"
# One block gathers once and works once. What it gathers are words; it cannot gather what an earlier block has made of them. For that, blocks are stacked, and that is the next lesson.
#
# ## Three sentences to remember
#
# 1. Attention is communication and the feed-forward network is computation: the one moves vectors between positions, the other works on each position alone, and has two thirds of the weights.
# 2. A block adds to the residual stream and replaces nothing, so that what a token was, and the gradient that concerns it, survive depth.
# 3. Layer norm looks at the features of one position only; in pre-norm it is the parts that get a normed copy, and the stream itself is left alone.
#
# ## Exercises
#
# [`exercises/06_the_block.ipynb`](../exercises/06_the_block.ipynb) (in `work/exercises` if you came by `make lab`), about 25 minutes:
#
# | exercise | minutes |
# |---|---|
# | `block.layer_norm`: the norm of a position | 8 |
# | `block.mlp`: widen, bend, narrow | 8 |
# | `block.block`: norms, parts and residuals in order | 8 |
#
# **Next:** [The GPT: assembled, counted, filled with other people's weights](07_the_gpt.ipynb).
#
# ## Where to read more
#
# - Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun, *Deep Residual Learning for Image Recognition* (2015), and *Identity Mappings in Deep Residual Networks* (2016), where the norm moves in front.
# - Jimmy Lei Ba, Jamie Ryan Kiros and Geoffrey E. Hinton, *Layer Normalization* (2016).
# - Sergey Ioffe and Christian Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift* (2015).
# - Sheng Shen, Zhewei Yao, Amir Gholami, Michael W. Mahoney and Kurt Keutzer, *PowerNorm: Rethinking Batch Normalization in Transformers* (2020).
# - Dan Hendrycks and Kevin Gimpel, *Gaussian Error Linear Units (GELUs)* (2016).
# - Alec Radford and others, *Language Models are Unsupervised Multitask Learners* (2019). GPT-2; section 2.3 says in one sentence where the norms went.
# - Ruibin Xiong and others, *On Layer Normalization in the Transformer Architecture* (2020). Why post-norm needs warmup.
# - Liyuan Liu, Xiaodong Liu, Jianfeng Gao, Weizhu Chen and Jiawei Han, *Understanding the Difficulty of Training Transformers* (2020). Why the gradient is not all of it.
# - Yihe Dong, Jean-Baptiste Cordonnier and Andreas Loukas, *Attention is Not All You Need: Pure Attention Loses Rank Doubly Exponentially with Depth* (2021).
# - Gino Brunner and others, *On Identifiability in Transformers* (2020). Probes for a token's identity, in BERT.
# - Nelson Elhage and others, *A Mathematical Framework for Transformer Circuits* (2021). The residual stream as a channel that parts read from and write to.
