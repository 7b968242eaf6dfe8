# %% [markdown] name="title"
# # Positions: how a GPT knows what came first
#
# {{badge}}
#
# After this lesson you can show that attention does not see order, build the four usual cures (learned vectors, waves, turns, a penalty on
# distance), prove the property for which most new models take turns, and say what each of the four does with a text that is longer than
# those it was trained on.
#
# | | |
# |---|---|
# | Reading | about 40 minutes |
# | Running | about a minute and a half on two CPU cores; no GPU, no network |
# | Know first | lessons 03 and 04: one head of attention, many heads; sine and cosine |
# | Afterwards | the three exercises of set 05, about 37 minutes |
#
# Shapes stand in the comments: `B` texts of `T` tokens, each with a vector of width `C`; `H` heads of width `D`. Positions count from 0, and
# $m$ and $n$ are those of a query and of a key.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# The story of lesson 03 again. The bundled model knows who speaks, half a story back:
#
# > One afternoon Otto went to the beach with nine coins. There a girl was selling an old map. "How much is it?" asked Otto.
# > "Two coins," said the
#
# It tells positions apart by something that happens in each layer's attention and can be exchanged. So let it read the text three times: as it
# is; with the positions taken away; and with positions that begin at 1,000, where it has never been, since it was trained on texts of 256 tokens.
#
# **Predict.** Which of the two changes hurts?

# %% name="thing"
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import GPT, GPTConfig, load_model, positions, record, say, tales
from gptlib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, picture, plot_ladder
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
story = "<|endoftext|>One afternoon Otto went to the beach with nine coins. There a girl was selling an old map. "
story += '"How much is it?" asked Otto. "Two coins," said the'
ids = torch.tensor([tokenizer.encode(story)])  # (1, T)
own = model.blocks[0].attention.rotary  # what tells positions apart, the same in all layers


class Instead(nn.Module):
    """Another way to treat queries and keys (B, H, T, D) whose first stands at position `start`."""

    def __init__(self, treat: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.treat = treat

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return self.treat(x, start)


@contextmanager
def positions_by(treat: Callable[[Tensor, int], Tensor]) -> Iterator[None]:
    for block in model.blocks:
        block.attention.rotary = Instead(treat)
    yield
    for block in model.blocks:
        block.attention.rotary = own


test_stories = tales.split("test", 200)
readings = {"as it is": own, "no positions": lambda x, start: x, "from 1,000 on": lambda x, start: own(x, start + 1000)}
losses = {}
for name, treat in readings.items():
    with positions_by(treat), torch.no_grad():
        best = model(ids)[0][0, -1].softmax(dim=-1).topk(3)  # of (V,)
        losses[name] = tales.evaluate(model, tokenizer, test_stories[:16]).nats_per_token
    words = zip(tokenizer.tokens(best.indices.tolist()), best.values.tolist(), strict=True)
    print(f"{name:14} said the" + "".join(f"  {word} {p:.1%}" for word, p in words))

# %% name="thing_answer" gptlib={"role": "reveal"}
apart = abs(losses["from 1,000 on"] - losses["as it is"])
reveal(
    "Taking them away: the girl is gone, and on 16 new stories the loss rises from {own:.2f} to {none:.1f} nats per token. Beginning at 1,000 changes "
    "nothing: the two losses differ by {apart:.0e}.",
    question="Answer",
    own=near(losses["as it is"], 0.223, 0.01),
    none=near(losses["no positions"], 3.8, 0.6),
    apart=near(apart, 0, 1e-5),
)

# %% [markdown] name="thing_explained"
# So positions matter a great deal, and yet *which* positions does not matter to this model, only how far things are apart. By the end of the lesson you
# will know what it does to achieve that, and have built it. First the trouble that it cures.
#
# ## Without positions, order is invisible
#
# A row of attention is $\sum_s w_s\, v_s$: a sum over positions, and a sum does not care in which order its terms stand. The weights do not either, since
# each comes from a query and a key alone. Shuffle the tokens before the last one, and the last row has the same terms.
#
# Popular texts say it as a law: *a transformer without positions is blind to order.* Let us see. Two models with random weights, of one layer and of two,
# each once with the causal mask and once without, read a text in order and shuffled. The last token stays in its place.
#
# **Predict.** In which of the four does the last row change?


# %% name="attend"
def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (…, T, D) @ (…, D, S) -> (…, T, S)
    if mask is not None:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1)  # (…, T, S)
    return weights @ v, weights  # (…, T, S) @ (…, S, D) -> (…, T, D)


def causal_mask(T: int) -> Tensor:
    return torch.full((T, T), -math.inf).triu(diagonal=1)


torch.manual_seed(0)
T, C = 12, 24
matrices = torch.randn(2, 3, C, C, dtype=torch.float64) / math.sqrt(C)  # W_q, W_k, W_v of two layers
x = torch.randn(T, C, dtype=torch.float64)  # (T, C): vectors of twelve tokens
order = torch.cat([torch.randperm(T - 1), torch.tensor([T - 1])])  # (T,): all but the last are shuffled


def last_row(x: Tensor, n_layer: int, mask: Tensor | None) -> Tensor:
    for W_q, W_k, W_v in matrices[:n_layer]:
        x = x + attend(x @ W_q.T, x @ W_k.T, x @ W_v.T, mask)[0]  # (T, C)
    return x[-1]


moved = {}
for n_layer in (1, 2):
    for name, mask in {"causal mask": causal_mask(T), "no mask": None}.items():
        change = (last_row(x[order], n_layer, mask) - last_row(x, n_layer, mask)).abs().max()
        moved[n_layer, name] = change.item()

# %% name="order_answer" gptlib={"role": "reveal"}
reveal(
    "| layers | causal mask | no mask |\n|---|---|---|\n{rows}\n\nIn one: two layers with the causal mask. (In 64-bit numbers; 1e-15 is rounding.)",
    question="Answer: largest change of the last row",
    rows="\n".join(
        f"| {n} | {moved[n, 'causal mask']:.0e} | {moved[n, 'no mask']:.0e} |".replace("e+00", "") for n in (1, 2)
    ),
)
assert max(moved[1, "causal mask"], moved[1, "no mask"], moved[2, "no mask"]) < 1e-12 < 1e-2 < moved[2, "causal mask"]

# %% [markdown] name="order_explained"
# Without a mask it is a law, for any number of layers: each row is computed from its own token and from a heap of all tokens, without their order, and the next layer gets a heap of such rows. That is the case of an encoder such as BERT. With the
# causal mask it holds for *one* layer, as in the model of lesson 04. In two, order leaks in: after the first layer, the row of the third token is
# an average of three and that of the ninth of nine, so rows know something of how many stand before them, and the second layer sees those rows.
#
# How well can a row know its place by the mask alone? Exactly, in one head: let all scores be 0, so that attention is even, and let the value be 1 at the start
# token and 0 elsewhere.

# %% name="counting"
is_start = torch.zeros(8, 1)
is_start[0] = 1  # (T, 1): the value of each token
even, _ = attend(torch.zeros(8, 1), torch.zeros(8, 1), is_start, causal_mask(8))  # (8, 1): 1 / (t + 1)
print("found by attention:", even[:, 0].numpy().round(3))
print("its inverse less 1:", (1 / even[:, 0] - 1).round().int().tolist())

# %% [markdown] name="counting_explained"
# So a deep causal GPT without positions is not blind, it is short-sighted: it has to spend heads and layers on finding out what others are told. Haviv and others found in
# 2022 that large ones do so and come close to models with positions. A small model with two layers we shall see further below.
#
# ## Wrong first: write the number down
#
# The simplest cure would be to tell each token its number: add $t$ to its vector. What is wrong with that? **Predict**, then see how alike the vectors of two *different* tokens
# are at position $t$ (cosine: 1 means that they point the same way), for the token vectors of the bundled model.

# %% name="number"
vectors = model.token_embedding.weight.detach()  # (V, C)
pairs = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:400]].unflatten(0, (200, 2))
alike = {}
for t in (0, 1, 10, 100):
    a, b = (pairs + t).unbind(1)  # 2 × (200, C)
    alike[t] = F.cosine_similarity(a, b, dim=-1).mean().item()

# %% name="number_answer" gptlib={"role": "reveal"}
reveal(
    "On average over 200 pairs of tokens: {rows}. At position 100 all tokens are nearly one: the number drowns the word. Dividing by the length of the text is no cure. Then the same step from "
    "a token to the next has another size in every text, and while a text grows, all its positions change.",
    question="Answer",
    rows=", ".join(f"{cosine:.3f} at {t}" for t, cosine in alike.items()),
)
assert alike[100] > 0.99 and alike[0] < 0.5

# %% [markdown] name="wanted"
# So what is wanted are numbers of the size of the token's own, different at every position, and such that *distance* can be read off them. There are four
# usual answers. Two are added to the vectors, one turns queries and keys, one is added to the scores.
#
# ## Learned positions: a table like that of tokens
#
# GPT-1, GPT-2 and GPT-3 leave it to training: a second embedding, with a row for each position, added to the token's vector before the first layer.

# %% name="learned"
n_positions, C = 8, 16
torch.manual_seed(0)
tokens = nn.Embedding(100, C)  # (V, C)
table = nn.Embedding(n_positions, C)  # (n_positions, C): trained with everything else


def with_learned(ids: Tensor) -> Tensor:
    T = ids.size(-1)
    return tokens(ids) + table(torch.arange(T))  # (B, T, C) + (T, C)


text = torch.tensor([[7, 7, 7, 7]])  # four times the same token
print("the same token four times, first feature:", with_learned(text)[0, :, 0].detach().numpy().round(2))

theirs = GPT(GPTConfig(vocab_size=100, n_positions=n_positions, n_embd=C, n_layer=1, n_head=2, position="learned"))
theirs.token_embedding.weight, theirs.position_embedding.weight = tokens.weight, table.weight
with record(theirs) as run, torch.no_grad():
    theirs(text)
    print("the library's GPT starts from the same:", torch.equal(run["embedding"], with_learned(text)))

gpt2 = GPTConfig.preset("gpt2")
print(f"GPT-2's table: {gpt2.n_positions:,} × {gpt2.n_embd} = {gpt2.n_positions * gpt2.n_embd:,} parameters")

# %% [markdown] name="learned_predict"
# The rows know nothing of each other. That 5 comes before 6, and that 5 to 7 is as far as 105 to 107, training has to find out for each row.
#
# **Predict.** The table has 8 rows. What happens with a text of 9 tokens? Many texts say that quality *degrades* beyond the trained length.

# %% name="learned_fails"
nine = torch.arange(9)[None]  # (1, 9)
for name, reads in {"ours": with_learned, "the library's GPT": theirs}.items():
    try:
        reads(nine)
    except (IndexError, ValueError) as error:
        print(f"{name}: {type(error).__name__}: {error}")

# %% [markdown] name="learned_fails_explained"
# It does not degrade, it fails: there is no ninth row. (On a GPU the lookup ends in a "device-side assert", after which the whole process is unusable.) GPT-2 ends at
# 1,024 for this reason. Whatever writes longer texts with it cuts off the beginning.
#
# ## Waves: the table of 2017
#
# The first transformer did not learn its table but computed it. Pair $i$ of its columns is a point that runs round a circle, once in $2\pi \cdot 10000^{2i/C}$ positions:
#
# $$p_{t,\,2i} = \sin\frac{t}{10000^{2i/C}} \qquad p_{t,\,2i+1} = \cos\frac{t}{10000^{2i/C}}$$
#
# Like the hands of a clock: the first goes round in 6.3 tokens, the last, in a wide table, in some 60,000. A single hand repeats; all together do not.


# %% name="waves"
def sinusoidal(T: int, C: int) -> Tensor:
    frequencies = 10_000.0 ** (-torch.arange(0, C, 2) / C)  # (C/2,): from 1 down to nearly 1/10,000
    angles = torch.arange(T)[:, None] * frequencies  # (T, 1) * (C/2,) -> (T, C/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (T, C/2, 2) -> (T, C)


waves = sinusoidal(128, 64)  # (T, C)
figure, axes = picture(
    6.6,
    2.9,
    title="Fast columns tell neighbours apart, slow ones far places",
    alt="Map of 128 positions by 64 columns, values from -1 to 1: stripes that change at every position on the left, "
    "ever wider ones towards the right, where columns hardly change.",
)
image = axes.imshow(waves, cmap="viridis", aspect="auto", interpolation="nearest")
axes.set(xlabel="column", ylabel="position (tokens)")
figure.colorbar(image, ax=axes, label="value")
figure

# %% [markdown] name="waves_property"
# Why circles? Because a step along the text is a *turn*, and the same turn everywhere. For each distance $k$ there is one matrix $M_k$ with
#
# $$p_{t+k} = M_k\, p_t \quad\text{for all } t,$$
#
# which turns each pair by its own angle. A head that wants "three back" can learn that matrix once. And the dot product of two rows depends on their distance alone. Both proven
# by computing:


# %% name="waves_proof"
def turn_matrix(k: int, C: int) -> Tensor:
    """What takes the row of any position to that of k later."""
    angles = k * 10_000.0 ** (-torch.arange(0, C, 2, dtype=torch.float64) / C)  # (C/2,)
    blocks = [torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) for a in angles.tolist()]
    return torch.block_diag(*blocks)  # (C, C)


off = max((waves[k:] - waves[: 128 - k] @ turn_matrix(k, 64).T).abs().max().item() for k in (1, 3, 50))
products = waves @ waves.T  # (T, C) @ (C, T) -> (T, T)
uneven = max((products.diagonal(d) - products.diagonal(d).mean()).abs().max().item() for d in range(128))
say(
    "Largest error of $p_{{t+k}} = M_k p_t$, for $k$ = 1, 3 and 50 and all $t$: {off:.0e}. Along each diagonal of the table of products, {side} × {side}, the values differ "
    "from their mean by at most {uneven:.0e}.",
    off=near(off, 0, 1e-3),
    side=128,
    uneven=near(uneven, 0, 1e-3),
)

difference = (sinusoidal(512, 64) - positions.sinusoidal(512, 64)).abs().max()
print(f"differs from gptlib.positions.sinusoidal by {difference:.0e}")
assert difference < 1e-4

# %% [markdown] name="waves_spoiled_predict"
# Pretty. But no head ever sees $p_m \cdot p_n$. The waves are *added* to token vectors $x$, and both go through the head's matrices:
#
# $$(x + p_m)^\top\, W_q^\top W_k\, (y + p_n) = x^\top\!A\,y + x^\top\!A\,p_n + p_m^\top\!A\,y + p_m^\top\!A\,p_n, \qquad A = W_q^\top W_k$$
#
# **Predict.** The same two tokens, the same distance, but further on in the text. Does the score stay the same?
#
# <details><summary>Answer</summary>
#
# No. Of the four terms only the first is free of positions. The second and third have *one* absolute position each, and the last is a function of the distance only if $A$
# happens to be made for it. Training can find such an $A$, and models learn a good deal of it, but nothing guarantees it. The picture comes with the next idea.
#
# </details>
#
# ## Rotary: turn, do not add
#
# The idea of Su and others (2021), by now in most new models, is to apply the turn where the dot product is taken. Nothing is added anywhere. A query is computed
# from its token as before, and so is a key. Then each is cut into pairs of numbers, points in a plane, and each pair is **turned by an angle that grows with the position**: $R_m q$ and $R_n k$, with $R_t$ a rotation. A
# dot product does not change when both vectors are turned by the same angle, so only the difference counts:
#
# $$(R_m q) \cdot (R_n k) = q^\top R_m^\top R_n\, k = q^\top R_{n-m}\, k$$
#
# In code, a few lines. The $D$ numbers of a head make $D/2$ planes; we take number $i$ and number $i + D/2$ as plane $i$, that is, we pair the two *halves*.


# %% name="rotary"
def rotary_angles(positions: Tensor, D: int, base: float = 10_000.0) -> Tensor:
    frequencies = base ** (-torch.arange(0, D, 2, dtype=positions.dtype) / D)  # (D/2,): those of the waves
    return positions[:, None] * frequencies  # (T, 1) * (D/2,) -> (T, D/2)


def turn(x: Tensor, angles: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)  # 2 × (…, T, D/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)  # (…, T, D)


one = torch.tensor([[1.0, 0.0]])  # a single plane, pointing east
for t in (0.0, 1.0, 2.0, 3.0):
    print(f"at position {t:.0f}:", turn(one, rotary_angles(torch.tensor([t]), 2))[0].numpy().round(3))

# %% [markdown] name="rotary_predict"
# Now the proof by numbers. One query and one key, random and fixed. Put the query at each of 64 positions, the key at each of 64, and compute all scores; once with waves added
# to both, as the transformer of 2017 would (with the matrices $W_q$ and $W_k$), once with turns.
#
# **Predict.** What will the two maps look like?

# %% name="rotary_proof"
torch.manual_seed(1)
D, T = 32, 64
x, y = torch.randn(2, D, dtype=torch.float64)  # two tokens
W_q, W_k = torch.randn(2, D, D, dtype=torch.float64) / math.sqrt(D)
places = torch.arange(T, dtype=torch.float64)
p = sinusoidal(T, D).double()  # (T, D)
added = ((x + p) @ W_q.T) @ ((y + p) @ W_k.T).T / math.sqrt(D)  # (T, D) @ (D, T) -> (T, T)
angles = rotary_angles(places, D)  # (T, D/2)
q, k = (W_q @ x).expand(T, D), (W_k @ y).expand(T, D)  # the same at every position
turned = turn(q, angles) @ turn(k, angles).T / math.sqrt(D)  # (T, T)


def unevenness(scores: Tensor) -> float:
    """How far scores of equal distance differ from each other, at most, over all distances."""
    diagonals = [scores.diagonal(d) for d in range(1 - T, T)]
    return max((line.max() - line.min()).item() for line in diagonals)


# %% name="rotary_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    7.0,
    3.1,
    title="Waves added: every place is special. Turns: only the distance counts",
    alt=f"Two maps of scores, 64 query positions by 64 key positions. Left, waves added: a pattern without diagonals, equal distances differ by up "
    f"to {unevenness(added):.1f}. Right, turns: perfect diagonal stripes.",
)
axes.set_axis_off()
for place, (name, scores) in enumerate({"waves added": added, "turned": turned}.items()):
    part = axes.inset_axes((0.52 * place + 0.02, 0.06, 0.44, 0.82))
    part.imshow(scores, cmap="viridis", interpolation="nearest")
    part.set_title(name, fontsize=10, fontweight="normal")
    part.set(xlabel="key position (colour: score)", ylabel="query position" if place == 0 else "")
reveal(
    "With waves added, scores of the same distance differ by up to {added:.1f}. With turns they differ by {turned:.0e}, in 64-bit numbers: along each diagonal, the map is constant.",
    question="Answer",
    added=unevenness(added),
    turned=near(unevenness(turned), 0, 1e-12),
)
assert unevenness(added) > 0.5
figure

# %% [markdown] name="rotary_explained"
# That is the **relative property**, and it explains the first minute of this lesson: the bundled model has turns, so a text that begins at 1,000 has exactly the scores of one that begins at 0. (It is a matter
# of *one* text moved as a whole. A *long* text has distances that are new; we come to that.)
#
# Three things follow from "turn, do not add", and popular texts get each of them wrong at times. A cell for each.
#
# 1. *"Rotary adds positions to the embeddings."* It adds nothing: the model has no parameters for positions, its vectors before the first layer know nothing of them, and lengths stay.

# %% name="popular_adds"
with record(model) as run, torch.no_grad():
    model(ids)
    same = ids[0] == tokenizer.encode(" Otto")[0]  # (T,): where this token stands
before = run["embedding"][0, same]  # (2, C)
part = model.blocks[0].attention
with torch.no_grad():
    q = part.q_norm(part.qkv(run["blocks.0.norm1.output"]).chunk(3, dim=-1)[0].unflatten(-1, (part.n_head, -1)))
    q = q.transpose(1, 2)  # (1, H, T, D)
    change = (own(q).norm(dim=-1) - q.norm(dim=-1)).abs().max()
print(
    "parameters with 'rotary' or 'position' in their name:",
    [n for n, _ in model.named_parameters() if "rot" in n or "pos" in n],
)
print(
    f"'Otto' stands at {same.nonzero()[:, 0].tolist()}, with equal vectors before the first layer: {torch.equal(before[0], before[1])}"
)
say("Turned, the queries of layer 0 change their lengths by at most {change:.0e}.", change=near(change, 0, 1e-4))

# %% [markdown] name="popular_values_intro"
# 2. *"Queries, keys and values are turned."* Values are not. Why it matters: the weights depend on distances, so if values stay as they are, so does all that a head brings. A turned value would carry its *absolute* position into
#    the sum. Below the bundled model is run with its values turned as well, on texts that begin at 0 and at 1,000.


# %% name="popular_values"
def turning_values(part, begin: int):
    """The forward of a `CausalSelfAttention` that turns values too; the text begins at position `begin`."""

    def forward(x: Tensor, *, cache=None, padding=None) -> Tensor:
        cut = (B, T, H, D) = (*x.shape[:2], part.n_head, part.head_dim)
        q, k, v = (each.view(cut).transpose(1, 2) for each in part.qkv(x).chunk(3, dim=-1))  # 3 × (B, H, T, D)
        q, k, v = own(part.q_norm(q), begin), own(part.k_norm(k), begin), own(v, begin)
        heads, _ = attend(q, k, v, causal_mask(T))  # (B, H, T, D)
        return part.project(heads.transpose(1, 2).reshape(B, T, H * D))

    return forward


results = {}
for begin in (0, 1000):
    for block in model.blocks:
        block.attention.forward = turning_values(block.attention, begin)  # hides the class's own
    results[begin] = tales.evaluate(model, tokenizer, test_stories[:10]).nats_per_token
    for block in model.blocks:
        del block.attention.forward
say(
    "With values turned too: {here:.2f} nats per token from 0 on, {there:.2f} from 1,000 on. As it is meant: {own:.2f}, wherever it begins. That it is worse is no wonder, since it was not trained "
    "so. That the two differ is the point.",
    here=near(results[0], 1.3, 0.6),
    there=near(results[1000], 4.0, 1.2),
    own=losses["as it is"],
)
assert abs(results[0] - results[1000]) > 0.01

# %% [markdown] name="popular_decay_intro"
# 3. *"Rotary makes far tokens count less."* The paper proves that a *bound* on the score falls, on the whole, with the distance; the score itself does so for a query and a key that are equal before turning. But nothing makes a head keep them equal. If its matrices turn keys back by five positions, as a fixed
#    rotation that any $W_k$ can hold, the best score is at distance five.

# %% name="popular_decay"
distances = torch.arange(0, 257, dtype=torch.float64)
turns = rotary_angles(torch.ones(1, dtype=torch.float64), D)[0]  # (D/2,): what each plane turns in one position
equal = (distances[:, None] * turns).cos().mean(dim=-1)  # (T, D/2) -> (T,)
five_back = ((distances - 5)[:, None] * turns).cos().mean(dim=-1)
only_slow = (distances[:, None] * turns[-8:]).cos().mean(dim=-1)
figure, axes = picture(
    6.6,
    3.0,
    title="A rotary head chooses its distance: decay is only the default",
    alt=f"Score by distance from 0 to 256. Equal query and key: 1 at 0, {equal[10]:.2f} at 10, {equal[100]:.2f} at 100. Key turned back by five: highest at {int(five_back.argmax())}. "
    f"Slow planes only: {only_slow[100]:.2f} at 100.",
)
axes.plot(distances, equal, color=BLUE, label="query and key equal")
axes.plot(distances, five_back, "--", color=VERMILION, label="key turned back by five")
axes.plot(distances, only_slow, ":", color=GREEN, label="equal, in the eight slowest planes only")
axes.set(xlabel="distance (tokens)", ylabel="score (mean over planes)", xscale="symlog", xlim=(0, 256))
axes.set_xticks([0, 1, 5, 10, 50, 100, 256], ["0", "1", "5", "10", "50", "100", "256"])
axes.legend(fontsize=9, loc="lower left")
assert int(five_back.argmax()) == 5
figure

# %% [markdown] name="popular_decay_explained"
# A head that uses fast planes can say "exactly the token before". One that uses slow planes alone hardly notices distance and goes by content. Barbero and others (2024) looked into a large trained model and found both, and argue that
# the decay is not what rotary is good for.
#
# ## Halves or neighbours
#
# Which numbers form a plane? The paper pairs *neighbours*, 0 with 1, 2 with 3. The library here pairs *halves*, $i$ with $i + D/2$, as the Llama of Hugging Face's transformers does; Meta's own code for the same Llama pairs neighbours. It is the same up to the
# order of the $D$ numbers:


# %% name="pairing"
def turn_neighbours(x: Tensor, angles: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]  # 2 × (…, T, D/2)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)  # (…, T, D)


order = torch.arange(D).view(2, D // 2).T.flatten()  # (D,): 0, D/2, 1, D/2 + 1, …: brings the halves side by side
q, k = torch.randn(2, T, D, dtype=torch.float64)
print("order:", order[:6].tolist(), "…")
print(
    "turned vectors are equal up to order:",
    torch.equal(turn_neighbours(q[:, order], angles), turn(q, angles)[:, order]),
)
scores, other = (
    turn(q, angles) @ turn(k, angles).T,
    turn_neighbours(q[:, order], angles) @ turn_neighbours(k[:, order], angles).T,
)
print(f"scores differ by {(scores - other).abs().max():.0e}")

# %% [markdown] name="pairing_predict"
# So for a model that is trained from scratch the choice means nothing. For weights that come from elsewhere it means everything.
#
# **Predict.** The bundled model was trained with halves. What is its loss if its code pairs neighbours? And if, in addition, the $D$ numbers of its queries and keys are put into the order above?


# %% name="pairing_wrong"
def neighbours(x: Tensor, start: int) -> Tensor:
    steps = torch.arange(start, start + x.size(-2), dtype=torch.float32)
    return turn_neighbours(x, rotary_angles(steps, x.size(-1)))


mixed = {}
for name, treat in {
    "neighbours": neighbours,
    "neighbours, reordered": lambda x, s: neighbours(x[..., order], s),
}.items():
    with positions_by(treat):
        mixed[name] = tales.evaluate(model, tokenizer, test_stories[:16]).nats_per_token

# %% name="pairing_answer" gptlib={"role": "reveal"}
reveal(
    "{wrong:.1f} nats per token, where it had {own:.2f}; reordered, {right:.2f} again. Nothing crashes in either case. (Programs that convert Llama's weights from Meta's files therefore exchange rows of $W_q$ and $W_k$; forget it, and the "
    "model babbles.)",
    question="Answer",
    wrong=near(mixed["neighbours"], 3.1, 0.6),
    own=losses["as it is"],
    right=near(mixed["neighbours, reordered"], losses["as it is"], 1e-3),
)

# %% [markdown] name="rotary_library"
# And the same numbers as the library, where `Rotary` keeps cosines and sines in a table and `rotate` does the turn:

# %% name="rotary_equal"
import inspect

code = inspect.getsource(positions.rotate)
print(code.split('"""')[0].rstrip() + code.rsplit('"""', 1)[1])  # without its description
q = torch.randn(2, 4, 100, 32)  # (B, H, T, D)
ours = turn(q, rotary_angles(torch.arange(100.0), 32))
difference = (ours - positions.Rotary(256, 32)(q)).abs().max()
print(f"differs from gptlib.positions.Rotary by {difference:.0e}")
assert difference < 1e-4

# %% [markdown] name="alibi"
# ## ALiBi: a penalty on distance
#
# The fourth way needs neither vectors nor turns. Press, Smith and Lewis (2021) add to each score a penalty that grows with the distance: $-s_h\,(m - n)$. Every head $h$ has its own slope $s_h$, fixed, never trained:
# $2^{-8/H}, 2^{-16/H}, \ldots, 2^{-8}$ for $H$ a power of two.


# %% name="alibi_code"
def alibi_bias(T: int, H: int) -> Tensor:
    slopes = torch.tensor([2.0 ** (-8 * (h + 1) / H) for h in range(H)])  # (H,)
    steps = torch.arange(T)
    distance = steps[:, None] - steps  # (T, T): query minus key
    return -slopes[:, None, None] * distance.abs()  # (H, T, T): added to the scores


H = 4
bias = alibi_bias(1000, H)
theirs = positions.alibi_bias(positions.alibi_slopes(H), torch.arange(1000), torch.arange(1000))
print("equal to gptlib.positions.alibi_bias:", torch.equal(bias, theirs))
_, weights = attend(*torch.zeros(3, H, 1000, 8), bias + causal_mask(1000))  # (H, T, T)
reach = (weights[:, -1].flip(-1).cumsum(dim=-1) < 0.9).sum(
    dim=-1
) + 1  # (H,): tokens that hold nine tenths of the weight

# %% name="alibi_plot" gptlib={"role": "reveal"}
figure, axes = picture(
    6.6,
    2.8,
    title="Each ALiBi head has a reach of its own, from a few tokens to hundreds",
    alt="Weight by distance for four heads when all scores are equal. Nine tenths of the weight lie within "
    + ", ".join(f"{n} tokens" for n in reach.tolist())
    + ".",
)
for h, line in zip(range(H), ("-", "--", ":", "-."), strict=True):
    axes.plot(weights[h, -1].flip(-1), line, label=f"head {h}: slope 1/{2 ** (2 * (h + 1))}, 90 % within {reach[h]}")
axes.set(xlabel="distance (tokens)", ylabel="weight", xlim=(0, 120), ylim=(0, None))
axes.legend(fontsize=9)
figure

# %% [markdown] name="alibi_explained"
# The picture has all scores equal, so that the penalty alone decides; in a model content is added to it. Also here only the distance counts. But there is a price: a head with a steep slope cannot look far, whatever it would find there, and
# none can look *exactly* five back.
#
# ## The four side by side
#
# | | where | trained | only distance counts | beyond the table |
# |---|---|---|---|---|
# | learned | added to vectors, once | yes | no | fails |
# | sinusoidal | added to vectors, once | no | no, after $W_q$ and $W_k$ | can be computed |
# | rotary | turns queries and keys, in every layer | no | yes | can be computed |
# | ALiBi | added to scores, in every layer | no | yes | can be computed |
#
# "Can be computed" is not "works". The paper of 2017 chose waves because they *may* allow a model to go on beyond its training, and many texts have made a fact of it. Rotary depends on distances alone: that should help. Should it?

# %% [markdown] name="beyond_predict"
# ## Beyond the trained length
#
# The experiment: five small GPTs of two layers, alike but for their positions (the fifth has none), trained on windows of 64 tokens. Then each reads windows of 512, eight times as long, from stories put one after the other, and for every place we
# take the loss there. (The waves are made smaller here, as large as suits the token vectors of so small a model; at full size they drown them. The transformer of 2017 made its token vectors larger instead.) A model that copes stays level, or gets better with more to go by. The floor is what the world itself would score.
#
# **Predict.** Draw the five curves: which stay level after 64, which climb, which end?

# %% name="beyond"
from gptlib.measured import recorded

long = recorded("positions")
print("recorded:", long.command, "|", long.made_with)
curves = {kind: torch.tensor(list(seeds.values())) for kind, seeds in long["curves"].items()}  # (seeds, T / 16)
mean = {kind: values.mean(dim=0) for kind, values in curves.items()}
middles = torch.arange(long["long"] // long["group"]) * long["group"] + long["group"] / 2  # (T / 16,)

# %% name="beyond_answer" gptlib={"role": "reveal"}
COLOUR = {"learned": ORANGE, "sinusoidal": PURPLE, "rotary": VERMILION, "alibi": GREEN, "none": BLUE}
STYLE = {"learned": "-", "sinusoidal": "--", "rotary": "-", "alibi": "-", "none": ":"}
NAME = {"alibi": "ALiBi", "none": "no positions"}
last_inside = long["trained"] // long["group"] - 1
figure, axes = picture(
    7.0,
    3.6,
    title="Trained on 64 tokens, read on 512: only ALiBi stays level (recorded)",
    alt="Loss in nats per token just inside the trained length and at the end of 512 tokens: "
    + "; ".join(
        f"{NAME.get(kind, kind)} {mean[kind][last_inside]:.2f}"
        + (f" and {mean[kind][-1]:.2f}" if len(mean[kind]) > last_inside + 1 else ", then it ends")
        for kind in COLOUR
    ),
)
for kind, colour in COLOUR.items():
    where = middles[: len(mean[kind])]
    axes.plot(where, mean[kind], STYLE[kind], color=colour, label=NAME.get(kind, kind))
    axes.fill_between(where, curves[kind].amin(0), curves[kind].amax(0), color=colour, alpha=0.2, linewidth=0)
axes.plot(middles[last_inside], mean["learned"][-1], "x", color=ORANGE, markersize=9, markeredgewidth=2)
axes.axvline(long["trained"], color=GREY, linewidth=1)
axes.axhline(long["floor"], color=GREY, linestyle="--", linewidth=1)
axes.set(
    xlabel=f"place in the window (tokens; trained on {long['trained']}; dashed: floor)",
    ylabel="loss (nats per token)",
    ylim=(0, None),
)
axes.set_xticks([0, 64, 128, 256, 384, 512])
axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown] name="live_intro"
# The bands span three seeds. All curves were recorded, by the command printed above. Do not take our word for it: here is one of them live, rotary with the first of the three seeds, trained in this notebook. (It is measured on fewer stories, so it wobbles more.)

# %% name="live"
import time

from gptlib import TrainConfig, load_corpus, train

corpus = load_corpus("tales:5000")  # 5,000 stories to learn from
stream = torch.tensor(tokenizer.encode("".join(f"<|endoftext|>{each.text}" for each in test_stories)))
windows = stream.unfold(0, long["long"] + 1, long["long"])  # (N, 513)
shape = {**long["shape"], "vocab_size": tokenizer.vocab_size, "position": "rotary"}
torch.manual_seed(0)
short = GPT(GPTConfig(n_positions=long["trained"], **shape))
began = time.perf_counter()
train(short, corpus, tokenizer, TrainConfig(seed=0, **long["recipe"]), verbose=False)
print(f"{long['recipe']['steps']} steps in {time.perf_counter() - began:.0f} s; {len(windows)} test windows")
with torch.no_grad():
    logits, _ = short.eval()(windows[:, :-1])  # (N, T, V): rotary angles are computed for any position
    by_place = F.cross_entropy(logits.transpose(1, 2), windows[:, 1:], reduction="none").mean(dim=0)  # (T,)
here = by_place.unflatten(0, (-1, long["group"])).mean(dim=1)  # (T / 16,)

# %% name="live_plot" gptlib={"role": "reveal"}
figure, axes = picture(
    6.6,
    2.9,
    title="Rotary, live: the recorded curve comes out again",
    alt=f"Loss of the model trained here: {here[last_inside]:.2f} nats just inside 64 tokens, {here[-1]:.2f} at 512; recorded, on average {mean['rotary'][last_inside]:.2f} and {mean['rotary'][-1]:.2f}.",
)
axes.fill_between(
    middles,
    curves["rotary"].amin(0),
    curves["rotary"].amax(0),
    color=GREY,
    alpha=0.3,
    linewidth=0,
    label="recorded, three seeds",
)
axes.plot(middles, here, color=VERMILION, label="trained here")
axes.axvline(long["trained"], color=GREY, linewidth=1)
axes.set(xlabel="place in the window (tokens)", ylabel="loss (nats per token)", ylim=(0, None))
axes.set_xticks([0, 64, 128, 256, 384, 512])
axes.legend(fontsize=9, loc="lower right")
say(
    "Trained here: {inside:.2f} nats just inside the trained length, {end:.2f} at the end of 512 tokens. (Recorded: {r_inside:.2f} and {r_end:.2f}.)",
    inside=here[last_inside],
    end=here[-1],
    r_inside=mean["rotary"][last_inside],
    r_end=mean["rotary"][-1],
)
assert here[-1] > 1.2 * here[last_inside]
figure

# %% [markdown] name="beyond_explained"
# First the part before the line: more text should help, and yet all get worse from about 24 tokens on, ALiBi least. Models so young are rather confused than helped by more to look at; trained longer, they come down. And beyond 64?
#
# - **Learned** positions end: there is no curve to draw. (Give the table 512 rows from the start and train on 64, and there is one; the table below has it. Rows that training never touched are noise.)
# - **Waves** can be computed for any position, and the model has never seen a vector like them. The hope of 2017 does not come true.
# - **Rotary** fails too, and that is the surprise for many. Scores depend on the distance alone; but distances of 65 and more are as new to it as position 65 is to a table. Planes that have made whole turns within 64 tokens know
#   all their angles. The slow ones meet angles that they never met in training:

# %% name="beyond_planes"
planes = rotary_angles(torch.ones(1), 16)[0]  # (D/2,): the heads of these models have 16 features
lines = [
    f"| {i} | {2 * math.pi / f:,.0f} | {min(64 * f / (2 * math.pi), 1):.0%} | {min(512 * f / (2 * math.pi), 1):.0%} |"
    for i, f in enumerate(planes.tolist())
]
say(
    "| plane | tokens for a whole turn | of its circle seen within 64 | within 512 |\n|---|---|---|---|\n{lines}\n\n{new} of {n} planes meet new angles.",
    lines="\n".join(lines),
    new=int((planes * 64 < 2 * math.pi).sum()),
    n=len(planes),
)
lines = []
for kind, values in mean.items():
    inside = f"{values[last_inside]:.2f}"
    beyond = [
        f"{values[place // long['group'] - 1]:.2f}" if place // long["group"] <= len(values) else "–"
        for place in (128, 256, 512)
    ]
    lines.append(f"| {NAME.get(kind, kind)} | {inside} | {' | '.join(beyond)} |")
say(
    "Recorded, in nats per token, mean of {n} seeds; the 16 places before the one named:\n\n| | 64 | 128 | 256 | 512 |\n|---|---|---|---|---|\n{lines}",
    n=len(curves["rotary"]),
    lines="\n".join(lines),
)

# %% [markdown] name="beyond_more"
# - **No positions**: inside the trained length it keeps up with learned vectors and waves. These have to be learned too, and in so short a training they say little more than the mask does. Beyond, no vector and no angle is new to it. What is new is how many keys
#   share the weight, and that is enough to lose its way.
# - **ALiBi** stays level. Mind what that says: a level curve means that a longer text does no harm. It does not mean that the model makes use of it: a model that forgets all but the last 64 tokens would be as level.
#
# These are small models, trained for seconds, on stories that seldom reach back far. The order of the curves is that of the literature (Press and others measured waves, rotary and ALiBi on articles of Wikipedia), the heights are this
# experiment's own. And it is not the last word on rotary: slow the planes down, and a trained model reads much longer texts after all. Lesson 12 does so.
# %% [markdown] name="which_position"
# ## Which position is it?
#
# All four need to be told where a token stands, and "count from 0" is the whole truth only for a single text that is read in one go. Two things come in between in practice.
#
# - **Fill**, or *padding*. A batch is a rectangle. Shorter texts are filled up *at the start*, so that all end together, and the mask hides the fill. The first real token of a row has position 0, however much fill stands before it.
# - **A cache.** A model that writes keeps the keys and values of what it has read and is given the new tokens alone. They stand *behind* those in the cache.
#
# **Predict.** Somebody counts the fill as if it were text (the mask still hides it). Which of the four notice? And somebody begins at 0 again after a cache. Does the bundled model, with its turns, care?

# %% name="fill"
FILL = 3


def noticing(position: str) -> tuple[float, float]:
    """Largest change of a small model's logits against the text alone: with fill, and with fill that is counted."""
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=100, n_positions=16, n_embd=16, n_layer=2, n_head=2, position=position)
    small, text, padding = GPT(config).eval(), torch.randint(100, (1, 8)), torch.tensor([FILL])
    filled = torch.cat([torch.zeros(1, FILL, dtype=torch.int64), text], dim=1)  # (1, FILL + T)
    with torch.no_grad():
        alone = small(text)[0]  # (1, T, V)
        right = small(filled, padding=padding)[0][:, FILL:]
        if small.position_embedding is not None:  # learned, sinusoidal
            rows = small.position_embedding
            small.position_embedding = Instead(lambda places, _: rows(places + FILL))
        if position == "rotary":
            rotary = small.blocks[0].attention.rotary
            for block in small.blocks:
                block.attention.rotary = Instead(lambda x, start: rotary(x, start + FILL))
        counted = small(filled, padding=padding)[0][:, FILL:]  # ALiBi has only differences, and nothing to change
    return (right - alone).abs().max().item(), (counted - alone).abs().max().item()


noticed = {position: noticing(position) for position in ("learned", "sinusoidal", "rotary", "alibi")}

# %% name="cache"
from gptlib import KVCache

girl, half = tokenizer.encode(" girl")[0], 30


def in_two(treat: Callable[[Tensor, int], Tensor]) -> float:
    """Probability of 'girl' when the first 30 tokens are read first, and the others with a cache."""
    cache = KVCache(model.config, batch_size=1)
    with positions_by(treat), torch.no_grad():
        model(ids[:, :half], cache=cache)
        return model(ids[:, half:], cache=cache)[0][0, -1].softmax(dim=-1)[girl].item()


going_on, restarting = in_two(own), in_two(lambda x, start: own(x, 0))

# %% name="which_answer" gptlib={"role": "reveal"}
reveal(
    "| | fill, not counted | fill, counted |\n|---|---|---|\n{rows}\n\n(Largest change of the logits; 1e-7 is rounding.) The two that know absolute positions notice; for the other two, a text that is moved as a whole is the same text. "
    "But restarting moves a *part* of it: after the cache, *girl* has {wrong:.1%}, where going on gives {right:.1%}. New tokens would sit among the old ones, at wrong distances.",
    question="Answer",
    rows="\n".join(
        f"| {NAME.get(name, name)} | {right:.0e} | {counted:.0e} |" for name, (right, counted) in noticed.items()
    ),
    right=near(going_on, 0.998, 0.02),
    wrong=restarting,
)
assert all(right < 1e-5 for right, _ in noticed.values())
assert noticed["learned"][1] > 1e-3 < noticed["sinusoidal"][1] and max(noticed["rotary"][1], noticed["alibi"][1]) < 1e-5
assert restarting < 0.9

# %% [markdown] name="which_explained"
# The third exercise is this bookkeeping. It looks dull, and it is where real bugs with positions live: nothing crashes, a row only answers differently in company than alone.
#
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "Without positions a transformer is blind to order." | A causal one of one layer is, for what its last row sees; with two layers order leaks through the mask. |
# | "With learned positions, an overlong input degrades." | It fails: an error, no answer. |
# | "Waves let a model go on beyond its trained length." | They can be computed there. The model is lost. |
# | "Rotary depends on distance alone, so length does not matter to it." | New distances are new angles; it is lost too, until it is stretched. |
# | "Rotary adds positions", "turns q, k and v", "makes far tokens count less". | It turns queries and keys, adds nothing, leaves values alone, and decays only where a head lets it. |
#
# All of them have had their cell above.
#
# ## The position explorer
#
# Everything of this lesson by hand: waves, turns, the score by distance, ALiBi's slopes, and what lies beyond the trained length. With what you know now:
#
# - *Rotary turns*: move the query by one position, then by a hundred. Which planes notice? Then move the key by as much.
# - *Decay with distance*: raise the base from 10,000. What happens to the score far away? (Models for long texts do that.)
# - *Beyond the trained length*: which planes meet angles that they have not seen? The rules offered there are the subject of lesson 12.
#
# (Where no kernel runs, as on GitHub, you see a still picture.)

# %% name="explorer"
from gptlib.widgets import PositionExplorer

PositionExplorer(model.config, view="rotary")

# %% [markdown] name="so_far"
# ## The model so far
#
# Lesson 04 ended with a layer of many heads that saw a heap of words. It gets positions now, and nothing else changes: the same width, the same recipe, the same 300 steps, the same seed. Once learned ones, once turns.


# %% name="with_positions_code"
from gptlib.attention import merge_heads, split_heads

V = tokenizer.vocab_size


class WithPositions(nn.Module):
    """Token vectors, one layer of attention that knows positions, and scores of the next token."""

    def __init__(self, n_head: int, position: str) -> None:
        super().__init__()
        # Where train() reads how long a text may be.
        self.config = GPTConfig(vocab_size=V, n_positions=256, n_embd=128, n_layer=1, n_head=n_head)
        self.token_embedding = nn.Embedding(V, 128)  # (V, C)
        self.qkv = nn.Linear(128, 3 * 128, bias=False)
        self.project = nn.Linear(128, 128, bias=False)
        self.to_scores = nn.Linear(128, V, bias=False)
        for part, std in ((self.token_embedding, 0.3), (self.qkv, 0.09), (self.project, 0.09), (self.to_scores, 0.02)):
            nn.init.normal_(part.weight, std=std)
        self.table = nn.Embedding(256, 128) if position == "learned" else None  # (n_positions, C)
        if self.table is not None:
            nn.init.normal_(self.table.weight, std=0.02)
        angles = rotary_angles(torch.arange(256.0), 128 // n_head)  # (n_positions, D/2)
        self.register_buffer("angles", angles if position == "rotary" else None)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        T = ids.size(1)
        x = self.token_embedding(ids)  # (B, T) -> (B, T, C)
        if self.table is not None:
            x = x + self.table.weight[:T]  # (B, T, C) + (T, C)
        q, k, v = (split_heads(each, self.config.n_head) for each in self.qkv(x).chunk(3, dim=-1))  # 3 × (B, H, T, D)
        if self.angles is not None:
            q, k = turn(q, self.angles[:T]), turn(k, self.angles[:T])
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        logits = self.to_scores(x + self.project(merge_heads(heads)))  # (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


recipe = {"batch_size": 8, "learning_rate": 0.03, "warmup_steps": 20, "eval_every": 1000}
recipe |= {"precision": "fp32", "device": "cpu"}
networks, nats = {}, {}


def learn(position: str, n_head: int = 16) -> None:
    torch.manual_seed(0)
    networks[position] = WithPositions(n_head, position)
    train(networks[position], corpus, tokenizer, TrainConfig(steps=300, **recipe), verbose=False)
    measured = tales.evaluate(networks[position], tokenizer, test_stories)
    nats[position] = measured.nats_per_token - measured.floor
    print(f"{position}: {networks[position].n_parameters():,} parameters, {nats[position]:.2f} nats above the floor")


# %% [markdown] name="train_predict"
# **Predict.** Lesson 04 came to 0.55 nats above the floor. Where will it be with positions, and which of the two is better?

# %% name="train_learned"
learn("learned")

# %% name="train_rotary"
learn("rotary")

# %% name="train_answer" gptlib={"role": "reveal"}
reveal(
    "{learned:.2f} with learned positions, {rotary:.2f} with turns, which have {saved:,} parameters fewer.",
    question="Answer",
    learned=near(nats["learned"], 0.29, 0.1),
    rotary=near(nats["rotary"], 0.23, 0.08),
    saved=networks["learned"].n_parameters() - networks["rotary"].n_parameters(),
)
plot_ladder({"positions": nats["rotary"]}, title="Knowing the order pays: positions on the running chart")

# %% [markdown] name="train_explained"
# The most useful thing to know is what came *just before* the last token. A bigram has the last token only; a heap of words does not say which is the last but one. A head with turns can look one back from its first day, whatever the
# position; a table has to learn it for 256 positions, each from its own examples. Given more time, both get there.
#
# And it writes:

# %% name="writes"
import textwrap

torch.manual_seed(4)
written = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])  # (1, T)
with torch.no_grad():
    for _ in range(70):
        probabilities = networks["rotary"](written)[0][0, -1].softmax(dim=-1)  # (V,)
        written = torch.cat([written, torch.multinomial(probabilities, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(written[0, 1:].tolist()), 100))

# %% [markdown] name="end"
# Sentences now, some of them whole. What they tell does not hang together: the model finds words and puts nothing together from what it found. One layer of attention only carries things about. The next lesson gives it something to compute with.
#
# ## Three sentences to remember
#
# 1. Attention adds up a heap, so order must be put in: added to vectors (learned, waves), turned into queries and keys (rotary), or added to scores (ALiBi).
# 2. Two vectors turned by their positions have a dot product that knows only how far apart they stand; values are not turned, and nothing is added.
# 3. Beyond the trained length a table fails, waves and turns mislead, and a penalty on distance holds, by not looking far.
#
# ## Exercises
#
# [`exercises/05_positions.ipynb`](../exercises/05_positions.ipynb) (in `work/exercises` if you came by `make lab`), about 37 minutes:
#
# | exercise | minutes |
# |---|---|
# | `positions.sinusoidal`: a vector of waves for each position | 10 |
# | `positions.rotary`: turn vectors by their position | 15 |
# | `positions.offsets`: positions with padding and a cache | 12 |
#
# **Next:** [The block: gather, then work](06_the_block.ipynb).
#
# ## Where to read more
#
# - Ashish Vaswani and others, *Attention Is All You Need* (2017). Section 3.5: the waves, and the hope that was put in them.
# - Jianlin Su and others, *RoFormer: Enhanced Transformer with Rotary Position Embedding* (2021). The turns; equation 34 is `turn`, with neighbours paired.
# - Ofir Press, Noah A. Smith and Mike Lewis, *Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation* (2021). ALiBi, and the
#   experiment beyond the trained length.
# - Adi Haviv, Ori Ram, Ofir Press, Peter Izsak and Omer Levy, *Transformer Language Models without Positional Encodings Still Learn Positional Information* (2022).
# - Amirhossein Kazemnejad and others, *The Impact of Positional Encoding on Length Generalization in Transformers* (2023). Four of our five kinds, and the learned distances of T5 in place of the learned table, on tasks with an exact answer; the models without positions came out best there.
# - Federico Barbero and others, *Round and Round We Go! What makes Rotary Positional Encodings useful?* (2024). What heads do with fast and slow planes.
