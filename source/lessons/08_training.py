# %% [markdown] name="title"
# # Training: a dozen lines that learn
#
# {{badge}}
#
# After this lesson you can write the loop that trains a GPT, say what the first loss must be and why, find a broken run before it has cost an
# hour, stop a run and go on with it to the same last bit, and hand the model that comes out to another library.
#
# | | |
# |---|---|
# | Reading | about 60 minutes |
# | Running | about four minutes on two CPU cores, one of them a training run of your own; no GPU, no network |
# | Know first | lessons 02 (cross-entropy, the floor of tales) and 07 (the GPT as a whole); what a gradient is |
# | Afterwards | the five exercises of set 08, about 50 minutes |
#
# Shapes stand in the comments. `B` windows of `T` tokens lie side by side, `V` is how many tokens the model knows, `C` the width of its vectors, `N` the
# length of a whole text in tokens. Losses are in nats per token.

# %% [markdown] name="thing_intro"
# ## The thing itself
#
# All that the lessons before have built is a function: ids in, scores for every next token out, at random. This is what makes it know something:


# %% name="thing"
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlib import GPT, GPTConfig, generate, load_corpus, load_model, say, tales
from gptlib.plots import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, picture, style
from gptlib.prose import near, reveal

bundled, tokenizer = load_model("tales")  # to begin with, only its tokenizer is used
corpus = load_corpus("tales:5000")  # 5,000 stories, and some more to measure on
ids = torch.tensor(tokenizer.encode(corpus.train))  # (N,)
held_back = torch.tensor(tokenizer.encode(corpus.validation))
V, B, T = tokenizer.vocab_size, 8, 64
tiny = GPTConfig(vocab_size=V, n_positions=T, n_embd=64, n_layer=2, n_head=4)
torch.manual_seed(0)
model = GPT(tiny)
untrained = generate(model, torch.tensor([[tokenizer.end_id]]), 40, seed=1)[0, 1:].tolist()

# %% name="loop"
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for _ in range(250):
    begin = torch.randint(len(ids) - T, (B, 1))  # (B, 1): where a window begins
    windows = ids[begin + torch.arange(T + 1)]  # (B, T + 1)
    inputs, targets = windows[:, :-1], windows[:, 1:]  # 2 × (B, T)
    logits, _ = model(inputs)  # (B, T, V)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %% name="thing_result"
trained = generate(model, torch.tensor([[tokenizer.end_id]]), 40, seed=1)[0, 1:].tolist()
print("before:", tokenizer.decode(untrained).replace("\n", " "))
print("after: ", tokenizer.decode(trained).replace("\n", " "))
figure, axes = picture(
    6.2,
    2.6,
    title=f"{len(losses)} steps, and of {losses[0]:.1f} nats {sum(losses[-20:]) / 20:.1f} are left",
    alt=f"Training loss over {len(losses)} steps, from {losses[0]:.2f} to about {sum(losses[-20:]) / 20:.2f} nats per token.",
)
axes.plot(losses, color=BLUE, linewidth=1.2)
axes.axhline(math.log(V), color=GREY, linestyle="--", linewidth=1.2)
axes.text(len(losses), math.log(V), "knowing nothing, ln V", ha="right", va="bottom", fontsize=9, color=GREY)
axes.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, 7.8))
figure

# %% [markdown] name="thing_explained"
# That is the whole of it, and it stays the whole of it up to the largest models there are. A *step* takes some windows of text, asks the model at every position for the token
# that comes next, averages the loss, lets `backward` compute the slope of the loss with respect to every weight, and moves each weight a little downhill.
# Nothing in it knows about language.
#
# The rest of this lesson is about the many ways in which these lines can go wrong without an error, and about what the trainer of the course adds to them.
#
# ## The first loss is ln V
#
# **Predict.** Before the first step the model has learned nothing, so it should find all V tokens about equally likely. What is its loss
# then? This model has 1,024 tokens. And what would you think of a run that starts at 15, or at 3?

# %% name="first_loss"
firsts = {}
for size in (65, 1024, 50_257):
    torch.manual_seed(0)
    fresh = GPT(GPTConfig(vocab_size=size, n_positions=16, n_embd=64, n_layer=2, n_head=4))
    some = torch.randint(size, (8, 17))
    with torch.no_grad():
        firsts[size] = fresh(some[:, :-1], some[:, 1:])[1].item()

# %% name="first_loss_answer" gptlib={"role": "reveal"}
reveal(
    "The probability of the right token is about 1/V, so the loss is about ln V. Our run began at {first:.2f}, and ln {V:,} is {expected:.2f}.\n\n"
    "| tokens V | ln V | first loss of a fresh model |\n|---|---|---|\n{rows}\n\n"
    "Far above ln V, the model is sure of wrong things before it has seen any: the weights begin too large. Clearly below, it cannot know anything "
    "yet and does: a target leaks, or the weights are not fresh.",
    question="Answer",
    first=near(losses[0], 6.93, 0.1),
    V=V,
    expected=math.log(V),
    rows="\n".join(f"| {size:,} | {math.log(size):.2f} | {loss:.2f} |" for size, loss in firsts.items()),
)
assert all(abs(loss - math.log(size)) < 0.1 for size, loss in firsts.items())

# %% [markdown] name="overfit_intro"
# It costs one look, and it is the first of three tests that belong before every run. The second is next.
#
# ## Overfit one batch first
#
# Take a single batch and train on it again and again. A model has far more weights than a batch has tokens, so it can learn the batch by heart, and its
# loss must go to nearly 0 within seconds. If it does not, there is a mistake in the loop, and no amount of data will help.
#
# Below, that test is run on a right loop and on five wrong ones:
#
# - **softmax twice**: `cross_entropy` is given probabilities; it expects scores, and applies the softmax itself.
# - **an optimizer of other weights**: the model was made anew after the optimizer, as happens when notebook cells are run out of order.
# - **no `zero_grad`**: PyTorch adds new gradients to those that are there.
# - **targets = inputs**: nobody shifted by one.
# - **targets of other windows**: the rows were shuffled in the targets and not in the inputs.
#
# **Predict.** Which of the five does the test find?

# %% name="overfit"
generator = torch.Generator().manual_seed(0)
begin = torch.randint(len(ids) - T, (B, 1), generator=generator)
batch = ids[begin + torch.arange(T + 1)]  # (B, T + 1)


def overfit(mistake: str = "", steps: int = 100) -> list[float]:
    torch.manual_seed(0)
    network = GPT(tiny)
    weights = GPT(tiny) if mistake == "an optimizer of other weights" else network
    optimizer = torch.optim.AdamW(weights.parameters(), lr=3e-3)
    inputs, targets = batch[:, :-1], batch[:, 1:]
    if mistake == "targets = inputs":
        targets = inputs
    if mistake == "targets of other windows":
        targets = targets.roll(1, dims=0)
    found = []
    for _ in range(steps):
        scores = network(inputs)[0]  # (B, T, V)
        if mistake == "softmax twice":
            scores = scores.softmax(dim=-1)
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
        if mistake != "no zero_grad":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


by_heart = {"a right loop": overfit()}
for mistake in ("softmax twice", "an optimizer of other weights", "no zero_grad"):
    by_heart[mistake] = overfit(mistake)
for mistake in ("targets = inputs", "targets of other windows"):
    by_heart[mistake] = overfit(mistake)

# %% name="overfit_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    7.4,
    3.2,
    title="One batch, again and again: a right loop learns it by heart",
    alt="Loss on the one batch over 100 steps; at the end: "
    + ", ".join(f"{name} {values[-1]:.2f}" for name, values in by_heart.items()),
)
colours, dashes = (BLACK, VERMILION, PURPLE, ORANGE, GREEN, BLUE), ("-", "--", ":", "-.", "--", ":")
for (name, values), colour, dash in zip(by_heart.items(), colours, dashes, strict=True):
    axes.plot(values, dash, color=colour, label=f"{name}: {values[-1]:.2f}")
axes.set(xlabel="step on the same batch", ylabel="loss (nats per token)", ylim=(-0.2, 8))
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "The right loop ends at {right:.2f}. The test finds the double softmax ({twice:.2f}, and it cannot fall below {least:.2f}), the optimizer that moves other weights ({other:.2f}, "
    "where it began), and, less loudly, the missing `zero_grad` ({none:.2f} and unsteady). It does not find the last two ({same:.2f} and {wrong:.2f}): what is wrong in them is the task, and a "
    "wrong task can be learned by heart as well.",
    question="Answer",
    right=near(by_heart["a right loop"][-1], 0.05, 0.3),
    twice=near(by_heart["softmax twice"][-1], 6.28, 0.2),
    least=math.log(1 + (V - 1) / math.e),
    other=near(by_heart["an optimizer of other weights"][-1], 6.93, 0.1),
    none=by_heart["no zero_grad"][-1],
    same=by_heart["targets = inputs"][-1],
    wrong=by_heart["targets of other windows"][-1],
)
figure

# %% [markdown] name="overfit_explained"
# (Why the double softmax cannot pass its limit: probabilities lie between 0 and 1, so the best scores there can be are a 1 for the right token and 0 for all others. The second
# softmax makes $e / (e + V - 1)$ of that.)
#
# For a wrong task there is a third test, and it is the dullest and best: print one row of inputs and targets as text, and read it.

# %% name="read_a_row"
row_in, row_out = batch[0, :-1], batch[0, 1:]
for t in range(5):
    seen, wanted = tokenizer.decode(row_in[: t + 1].tolist()), tokenizer.decode(row_out[t : t + 1].tolist())
    print(f"position {t}: sees {seen!r:42} and is asked for {wanted!r}")
print(f"position {T - 1}: sees all {T} tokens{'':23} and is asked for {tokenizer.decode(row_out[-1:].tolist())!r}")

# %% [markdown] name="targets_intro"
# ## Every position is a target
#
# A window of 64 tokens is not one question but 64 of them, and thanks to the causal mask they are asked at once, in one pass. The last position too has a target, since
# we read one token more than the model does: hence `T + 1` above. "Mask out the last token, it has nothing to predict" is a sentence of popular texts, and it is true only where somebody forgot to read
# that one token more.
#
# What do the questions bring? Three ways to train, the same number of steps and the same windows: with all targets; with all but the last; with the last one alone, which is how one would naively
# write "given a text, predict the next word". (A target of −1 means "none here", and the loss leaves it out.)
#
# **Predict.** Order the three by their loss on text that was held back, and guess the differences.


# %% name="targets_code"
def windows_at(step: int, text: Tensor = ids, rows: int = B) -> Tensor:
    """The windows of a step, (rows, T + 1): the same whenever it is asked."""
    generator = torch.Generator().manual_seed(step)
    begin = torch.randint(len(text) - T, (rows, 1), generator=generator)
    return text[begin + torch.arange(T + 1)]


judge = windows_at(10**6, held_back, rows=200)  # (200, T + 1)


@torch.no_grad()
def measured(network: nn.Module) -> Tensor:
    """Mean loss at each position on text that was held back, (T,)."""
    logits, _ = network.eval()(judge[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1), judge[:, 1:].flatten(), reduction="none")
    network.train()
    return losses.view(-1, T).mean(dim=0)


def with_targets(kept: slice, steps: int = 150) -> Tensor:
    torch.manual_seed(0)
    network = GPT(tiny)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, betas=(0.9, 0.99))
    for step in range(steps):
        windows = windows_at(step)
        targets = torch.full((B, T), -1)
        targets[:, kept] = windows[:, 1:][:, kept]
        _, loss = network(windows[:, :-1], targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # a section below says why
        optimizer.step()
    return measured(network)


by_targets = {
    "all": with_targets(slice(None)),
    "all but the last": with_targets(slice(-1)),
    "only the last": with_targets(slice(-1, None)),
}

# %% name="targets_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.6,
    3.0,
    title="Sixty-four questions a window teach more than one",
    alt="Loss at each of 64 positions on text held back. Means: "
    + ", ".join(f"{name} {values.mean():.2f}" for name, values in by_targets.items())
    + ".",
)
for (name, values), colour, dash in zip(by_targets.items(), (BLUE, VERMILION, GREEN), ("-", "--", ":"), strict=True):
    axes.plot(values, dash, color=colour, label=f"targets: {name}")
axes.set(xlabel="position in the window", ylabel="loss (nats per token)", ylim=(0, None))
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "All targets: {all:.2f} nats on average. The last alone: {last:.2f}, after just as much computing, since it was asked {B} questions a step and not {BT}. All but the last: {most:.2f}. Masking it out "
    "throws one question in {T} away; it does no harm that one could see here, and no good either.",
    question="Answer",
    all=near(by_targets["all"].mean(), 2.92, 0.4),
    last=near(by_targets["only the last"].mean(), 5.82, 0.5),
    most=by_targets["all but the last"].mean(),
    B=B,
    BT=B * T,
    T=T,
)
assert by_targets["only the last"].mean() > by_targets["all"].mean() + 0.5
figure

# %% [markdown] name="targets_explained"
# Two more traps stand at the same place. The targets are a *slice* of the windows, and a slice is not one stretch of memory, so that the `view(-1)` of many tutorials refuses it; `flatten` and `reshape` copy
# where they must. And whoever shifts the targets must not call something that shifts them too. The `labels=` of transformers does (we meet it at the end), and shifting twice trains a model that skips every other word.

# %% name="popular_view"
windows = windows_at(0)
targets = windows[:, 1:]  # (B, T), in memory a row of T + 1 with a hole
try:
    targets.view(-1)
except RuntimeError as error:
    print("RuntimeError:", error)
print("flatten:", tuple(targets.flatten().shape), " reshape:", tuple(targets.reshape(-1).shape))

# %% [markdown] name="step_intro"
# ## Downhill, but how far?
#
# `optimizer.step()` is one line and hides the most. The plainest optimizer subtracts the gradient times a **learning rate**. Its trouble: the gradients of a GPT's weights differ in size by orders of
# magnitude, and no one rate suits them all. **Adam** gives every weight a pace of its own: it keeps a running mean $m$ of the gradient and one of its square, $v$, and moves by $m / \sqrt{v}$. That quotient is
# near ±1 where the gradient keeps its direction, and near 0 where it only rattles, whatever its size. So a weight moves by at most about the learning rate in a step.
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\,g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2 \qquad p \leftarrow p - \eta\,\lambda\,p - \eta\,\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}$$
#
# Both means start at 0; the divisions by $1 - \beta^t$ make up for that. The term $\eta\,\lambda\,p$ is **weight decay**: each step takes a small share off the weight itself, so that what is not needed fades.


# %% name="adamw"
def adamw_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, weight_decay: float) -> None:
    beta1, beta2, eps = 0.9, 0.99, 1e-8
    m.mul_(beta1).add_((1 - beta1) * g)
    v.mul_(beta2).add_((1 - beta2) * g**2)
    p.mul_(1 - lr * weight_decay)
    p.sub_(lr * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + eps))


torch.manual_seed(0)
ours = torch.randn(6, 5)  # any weights
theirs = nn.Parameter(ours.clone())
optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
m, v = torch.zeros_like(ours), torch.zeros_like(ours)
for t in range(1, 51):
    g = torch.randn(6, 5) * torch.logspace(-4, 4, 5)  # gradients of five very different sizes
    adamw_step(ours, g, m, v, t, lr=0.01, weight_decay=0.1)
    theirs.grad = g
    optimizer.step()
say(
    "After 50 steps ours and PyTorch's weights differ by at most {d:.0e}, though their gradients ranged from 10⁻⁴ to 10⁴.",
    d=near((ours - theirs.detach()).abs().max(), 0, 1e-4),
)

# %% [markdown] name="l2_predict"
# "Weight decay is L2 regularisation" is true of the plain optimizer: there one may as well add $\lambda p$ to the gradient. In Adam, what is added to the gradient is divided by $\sqrt v$ with the rest of it. PyTorch has both: `Adam(weight_decay=…)`
# adds it to the gradient, `AdamW` takes it off the weight. The W is from the paper that noticed the difference, of Loshchilov and Hutter.
#
# **Predict.** A thousand weights start at 1. Their gradients are pure noise, which for some has a standard deviation of 0.1 and for others of 10. With a rate of 0.01 and a decay of 0.1, AdamW takes a share of 0.001 off in each step. What is left
# after 1,000 steps, for either kind, with AdamW and with Adam?

# %% name="l2"
left = {}
for name, kind in {"AdamW": torch.optim.AdamW, "Adam with L2": torch.optim.Adam}.items():
    torch.manual_seed(0)
    for size in (0.1, 10.0):
        weights = nn.Parameter(torch.ones(1000))
        optimizer = kind([weights], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
        for _ in range(1000):
            weights.grad = size * torch.randn(1000)
            optimizer.step()
        left[name, size] = weights.mean().item()

# %% name="l2_answer" gptlib={"role": "reveal"}
reveal(
    "| | gradient noise 0.1 | gradient noise 10 |\n|---|---|---|\n| AdamW | {w_small:.2f} | {w_large:.2f} |\n| Adam with L2 | {a_small:.2f} | {a_large:.2f} |\n\n"
    "AdamW leaves $0.999^{{1000}}$ = {expected:.2f} of both. Adam with L2 hardly touches the weights with large gradients and wipes out those with small ones.",
    question="Answer",
    w_small=near(left["AdamW", 0.1], 0.37, 0.04),
    w_large=near(left["AdamW", 10.0], 0.37, 0.04),
    a_small=near(left["Adam with L2", 0.1], 0.0, 0.05),
    a_large=near(left["Adam with L2", 10.0], 0.9, 0.05),
    expected=0.999**1000,
)

# %% [markdown] name="rate_intro"
# ## The rate, and how it changes
#
# At the first step Adam has no past. Its means are one gradient, $m / \sqrt v$ is exactly ±1, and *every* weight jumps by the full learning rate in a direction that one batch suggested. Hence **warmup**: begin near 0 and rise
# in a line. And at the end, a large step only rattles around the valley that was found. Hence a slow fall; half a **cosine** is the usual one.


# %% name="schedule"
def schedule(step: int, steps: int, warmup: int, highest: float, lowest: float) -> float:
    if step < warmup:
        return highest * (step + 1) / warmup
    progress = (step - warmup) / (steps - 1 - warmup)  # 0 … 1
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2


def clip(parameters: list[Tensor], limit: float) -> float:
    """Make the gradient, all weights' together, at most `limit` long; returns how long it was."""
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters))
    if norm > limit:
        for p in parameters:
            p.grad *= limit / norm
    return norm


def learn(rate=3e-3, warmup=20, limit=1.0, steps=120, plain=False):
    """The loop, whole: with a schedule, and with the gradient clipped. Returns losses, gradient norms, loss held back."""
    torch.manual_seed(0)
    network = GPT(tiny)
    if plain:
        optimizer = torch.optim.SGD(network.parameters(), momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    losses, norms = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = schedule(step, steps, warmup, rate, rate / 10)
        windows = windows_at(step)
        _, loss = network(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norms.append(clip(list(network.parameters()), limit))
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, measured(network).mean().item()


# %% [markdown] name="rate_predict"
# The third part is **clipping**. Now and then a batch has a gradient many times longer than usual, and then its direction is not to be trusted far. If the gradient, taken as one long vector over all weights, is longer than 1, it is
# scaled down to that length.
#
# ## Wrong first: no warmup, no clipping, too high a rate
#
# **Predict.** The same 120 steps with four learning rates from 0.001 to 0.03: with warmup and clipping, without the one, without the other, and without both. Which rate is too low and which too high? Where does it matter most that something is missing?

# %% name="rates"
rates = (1e-3, 3e-3, 1e-2, 3e-2)
ways = {
    "warmup and clipping": {},
    "no warmup": {"warmup": 0},
    "no clipping": {"limit": math.inf},
    "neither": {"warmup": 0, "limit": math.inf},
}
runs = {}
for way, changes in ways.items():
    runs[way] = [learn(rate, **changes) for rate in rates]
held = {way: [run[2] for run in found] for way, found in runs.items()}
shares = torch.bincount(ids, minlength=V) / len(ids)  # (V,): how common each token is
counting = -(shares * shares.clamp(min=1e-9).log()).sum().item()

# %% name="rates_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    7.0,
    3.2,
    title="Warmup and clipping pay where the rate is worth having",
    alt="Loss held back after 120 steps by learning rate: "
    + "; ".join(
        f"{way} " + ", ".join(f"{rate:g}: {loss:.2f}" for rate, loss in zip(rates, found, strict=True))
        for way, found in held.items()
    ),
)
for (way, found), colour, dash in zip(
    held.items(), (BLUE, VERMILION, GREEN, BLACK), ("o-", "s--", "^:", "d-."), strict=True
):
    axes.plot(rates, found, dash, color=colour, label=way)
axes.set_xscale("log")
axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
axes.minorticks_off()
axes.set(xlabel="highest learning rate", ylabel="loss held back (nats per token)")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "With both, 0.003 is best: {best:.2f}. At 0.001 nothing goes wrong and little happens: {low:.2f} to {low_most:.2f} in all four. At 0.003 the run without both ends at {neither:.2f}, at 0.01 with {neither_high:.2f} "
    "against {both_high:.2f}. At 0.03 all four are bad, {high:.2f} to {high_most:.2f}. Knowing only how common each token is gives {counting:.2f}.",
    question="Answer",
    best=near(held["warmup and clipping"][1], 3.8, 0.6),
    low=near(min(found[0] for found in held.values()), 4.94, 0.3),
    low_most=max(found[0] for found in held.values()),
    neither=near(held["neither"][1], 5.3, 0.9),
    neither_high=held["neither"][2],
    both_high=held["warmup and clipping"][2],
    high=min(found[3] for found in held.values()),
    high_most=max(found[3] for found in held.values()),
    counting=counting,
)
assert held["warmup and clipping"][1] < min(held["neither"])
figure

# %% [markdown] name="rates_explained"
# Nothing crashes in any of these sixteen runs. A rate that is too high for Adam shows as a loss that falls fast at first and then stays near what counting tokens alone would give: the weights were thrown about in the first steps and did not come back. That is why one must try: three rates, each three times
# the one before, for a short while. (The best rate falls as models grow: GPT-3's smallest was trained at 0.0006, its largest at 0.00006.)
#
# The plain optimizer fails more loudly:

# %% name="plain"
plain = {rate: learn(rate, plain=True, limit=limit) for rate, limit in ((0.3, 1.0), (3.0, math.inf))}
broken = next((step for step, loss in enumerate(plain[3.0][0]) if not math.isfinite(loss)), None)
print(
    "plain, rate 0.3, clipped:", f"{plain[0.3][2]:.2f} nats held back; AdamW had {held['warmup and clipping'][1]:.2f}"
)
print(
    "plain, rate 3, unclipped:",
    "its loss reaches",
    f"{max(x for x in plain[3.0][0] if math.isfinite(x)):,.0f},",
    "and is no longer a number from step",
    broken,
)

# %% [markdown] name="plain_explained"
# A loss that is NaN never comes back, since every weight is NaN after the next step. The trainer of the course stops there, says so, and keeps the last good checkpoint.
#
# The gradient's length is worth logging: it is the pulse of a run. Here is that of two runs at 0.003, which differ in clipping alone.

# %% name="pulse"
figure, axes = picture(
    6.6,
    2.8,
    title="The pulse of two runs: unclipped, it is higher and leaps",
    alt="Norm of the gradient at each of 120 steps, before clipping; the longest is "
    + ", ".join(
        f"{max(runs[way][1][1]):.0f} {name}"
        for way, name in (("warmup and clipping", "with clipping"), ("no clipping", "without"))
    ),
)
for way, colour, dash in (("no clipping", GREEN, ":"), ("warmup and clipping", BLUE, "-")):
    axes.plot(runs[way][1][1], dash, color=colour, linewidth=1.4, label=way)
axes.axhline(1, color=GREY, linestyle="--", linewidth=1, label="the limit")
axes.set_yscale("log")
axes.set_yticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
axes.minorticks_off()
axes.set(xlabel="step", ylabel="length of the gradient")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown] name="pulse_explained"
# Since Adam divides by $\sqrt v$, a long gradient does not make a long step by itself. It fills the means: for some $1 / (1 - \beta_2) = 100$ steps $v$ remembers the leap, and meanwhile the weights that it hit hardly move, while $m$ still pulls in the direction that one batch chose. With the gradient cut to length, one batch cannot have so much to say.

# %% [markdown] name="accumulation_intro"
# ## A batch that does not fit
#
# If the batch you want does not fit into memory, compute it in parts. `backward` *adds* to the gradients that are there, which is a nuisance in every other step and here is what we want: call it for each part, and `step` once. This is **accumulation**.
# Each part's loss is an average, so it has to be divided by the number of parts.
#
# **Predict.** Is the gradient from four parts the same as from the whole? And if the parts hold different numbers of targets, as they do when texts of different lengths are padded?


# %% name="accumulation"
def gradient(network: nn.Module, parts: list[tuple[Tensor, Tensor]], shares: list[float]) -> Tensor:
    """All weights' gradient as one vector, from parts (inputs, targets) whose losses count by their shares."""
    network.zero_grad()
    for (inputs, targets), share in zip(parts, shares, strict=True):
        _, loss = network(inputs, targets)  # the mean over this part's targets
        (loss * share).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


windows = windows_at(0, rows=16)
inputs, full = windows[:, :-1], windows[:, 1:].contiguous()
lengths = torch.tensor([64] * 4 + [40] * 4 + [12] * 4 + [3] * 4)  # of the 16 texts, the long ones first
padded = full.masked_fill(torch.arange(T) >= lengths[:, None], -1)  # (16, T): beyond its end, a text asks nothing
differences = {}
for name, targets in {"equal": full, "unequal": padded}.items():
    whole = gradient(model, [(inputs, targets)], [1.0])
    parts = list(zip(inputs.split(4), targets.split(4), strict=True))
    counts = [int((part >= 0).sum()) for _, part in parts]
    by_parts = gradient(model, parts, [1 / 4] * 4)
    by_counts = gradient(model, parts, [count / sum(counts) for count in counts])
    for way, found in {"each part 1/4": by_parts, "each part by its targets": by_counts}.items():
        differences[name, way] = ((found - whole).norm() / whole.norm()).item()
    print(f"{name} parts, targets {counts}")

# %% name="accumulation_answer" gptlib={"role": "reveal"}
reveal(
    "| difference from the whole batch's gradient | each part counts 1/4 | each part counts by its targets |\n|---|---|---|\n"
    "| parts with equally many targets | {equal:.0e} | {equal_counts:.0e} |\n| parts with unequal numbers | {unequal:.0%} | {unequal_counts:.0e} |\n\n"
    "With equal parts, the mean of the means is the mean. With unequal ones it is not: the twelve targets of the last part count as much as the 256 of the first.",
    question="Answer",
    equal=near(differences["equal", "each part 1/4"], 0, 1e-4),
    equal_counts=near(differences["equal", "each part by its targets"], 0, 1e-4),
    unequal=near(differences["unequal", "each part 1/4"], 1.9, 1.7),
    unequal_counts=near(differences["unequal", "each part by its targets"], 0, 1e-4),
)
assert differences["unequal", "each part 1/4"] > 0.1

# %% [markdown] name="accumulation_explained"
# This is not a mistake for beginners alone: several well-known trainers, that of transformers among them, averaged the averages until October 2024, when somebody's loss with four parts would not agree with that of one batch. The cure is to sum the losses of all parts and to divide by the number of all targets.
# (The course's trainer always reads full windows, so its parts are equal, and dividing by their number is exact.) The same holds for a loss that is *reported*: an average over batches is the average over tokens only if the batches are equally large.
#
# ## Dropout, left on
#
# **Dropout** sets some activations to 0 at random while training, so that no part of the model can rely on another, which holds off learning by heart when text is scarce. It belongs to training alone. `model.eval()` switches it off and `model.train()` on again, and
# forgetting the first is among the commonest mistakes. The bundled model was trained without; we build it anew with dropout of 0.1 and give it the same weights.
#
# **Predict.** What does it cost, if dropout is left on while one measures? And is greedy writing, which always takes the most probable token, still the same each time?

# %% name="dropout"
from dataclasses import replace

leaky_bucket = GPT(replace(bundled.config, dropout=0.1))
leaky_bucket.load_state_dict(bundled.state_dict())
test_stories = tales.split("test", 100)
rows = [[tokenizer.end_id, *tokenizer.encode(story.text), tokenizer.end_id] for story in test_stories[:24]]
longest = max(map(len, rows))
texts = torch.tensor([row + [-1] * (longest - len(row)) for row in rows])  # (24, longest)
start = torch.tensor([tokenizer.encode("<|endoftext|>One morning")])
in_mode = {}
for mode in ("eval", "train"):
    found, written = [], set()
    for seed in range(4):
        leaky_bucket.train(mode == "train")
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(leaky_bucket(texts[:, :-1].clamp(min=0), texts[:, 1:].contiguous())[1].item())
            text = start
            for _ in range(12):  # greedy, by hand: generate() switches to evaluation itself
                text = torch.cat([text, leaky_bucket(text)[0][:, -1:].argmax(dim=-1)], dim=1)  # (1, n + 1)
        written.add(tokenizer.decode(text[0, 1:].tolist()))
    in_mode[mode] = found
    print(f"{mode + '()':8} {len(written)} different continuations in 4 attempts, for example: {min(written)}")

# %% name="dropout_answer" gptlib={"role": "reveal"}
reveal(
    "In evaluation mode the loss is {eval:.3f}, four times the same. With dropout on it is {low:.2f} to {high:.2f}, and another one each time. What is worse, nothing looks broken.",
    question="Answer",
    eval=near(in_mode["eval"][0], 0.22, 0.03),
    low=min(in_mode["train"]),
    high=max(in_mode["train"]),
)
assert len(set(in_mode["eval"])) == 1 and min(in_mode["train"]) > in_mode["eval"][0] + 0.01

# %% [markdown] name="precision_intro"
# `generate`, `tales.evaluate` and the trainer's own measurements switch for you, and back again. `torch.no_grad()` does not: it saves the memory that gradients would need, and leaves dropout as it is.
#
# ## Precision: sixteen bits, but not everywhere
#
# Modern hardware multiplies matrices two to sixteen times faster if their numbers have 16 bits and not 32. **bf16** keeps the exponents of fp32 and has only 8 bits for the digits, so that neighbouring numbers lie 0.4 to 0.8 % apart. For a product over many terms, whose rounding errors
# largely cancel, that will do. For a weight that changes a little at a time it will not.

# %% name="bf16"
one = torch.tensor(1.0, dtype=torch.bfloat16)
print("1 + 0.003 in bf16:", (one + 0.003).item(), "  1 + 0.005:", (one + 0.005).item())
unmoved = {}
for size in (1e-3, 1e-4, 1e-5):
    before = torch.cat([p.detach().flatten() for p in bundled.parameters()]).bfloat16()
    unmoved[size] = ((before + size) == before).float().mean().item()
say(
    "If the bundled model's weights were kept in bf16, a step of 0.001 would leave {a:.0%} of them where they are, one of 0.0001 {b:.0%}, and one of 0.00001 {c:.0%}.",
    a=unmoved[1e-3],
    b=near(unmoved[1e-4], 0.72, 0.1),
    c=unmoved[1e-5],
)

# %% [markdown] name="autocast_intro"
# So the usual recipe is **mixed precision**: weights, gradients and the optimizer's means stay in fp32, and inside `autocast` PyTorch rounds the inputs of matrix products to bf16 on the way in. Softmax and loss stay in fp32. On hardware without native bf16 it only costs time.

# %% name="autocast"
from gptlib.training import autocast, choose_precision

choice = choose_precision("cpu")
print("precision on this CPU:", choice)
shape = GPTConfig.preset("shakespeare-gpu", n_layer=2, dropout=0.0)  # wide enough for its products to matter
torch.manual_seed(0)
network = GPT(shape)
some = torch.randint(shape.vocab_size, (4, shape.n_positions + 1))
taken, found = {}, {}
for precision in ("fp32", "bf16") if choice.value == "bf16" else ("fp32",):
    taken[precision] = []
    for _ in range(5):
        begun = time.perf_counter()
        with autocast("cpu", precision):
            _, loss = network(some[:, :-1], some[:, 1:])
        loss.backward()
        taken[precision].append(time.perf_counter() - begun)
    found[precision] = loss.item()
if "bf16" in taken:
    ratios = [slow / fast for slow, fast in zip(sorted(taken["fp32"][1:]), sorted(taken["bf16"][1:]), strict=True)]
    say(
        "Forwards and backwards through two layers of width 384, bf16 autocast was {ratio:.1f} times as fast as fp32 on this machine; the losses differ by {d:.0e}. "
        "The smaller the matrices, the less is gained: what is rounded has to be converted first.",
        ratio=sorted(ratios)[len(ratios) // 2],
        d=abs(found["bf16"] - found["fp32"]),
    )
else:
    say("This CPU has no native bf16, so there is nothing to gain, and the comparison is left out.")

# %% [markdown] name="minute_intro"
# ## A minute of your own
#
# All parts are there. Now a real run: the *tales preset*, which is the very model that comes with the course, for as long as two cores allow in about a minute. The trainer is the course's own, `gptlib.training`; at the end of the lesson you will see
# that it is the loop above, line for line. (One thing in the preset stands outside it, and you have met it in lessons 06 and 07: the matrices inside the blocks are moved by **Muon**, a younger optimizer, and only the rest by AdamW. A later lesson takes it apart.)
#
# The bundled model's run was recorded: 11,000 steps, seventy minutes (`gptlib train --corpus tales:180000 --preset tales --steps 11000 --out runs/tales`). Its curve is drawn dashed and labelled *recorded*; nothing of it is computed here. Yours is drawn over it while it learns. And since tales is a world whose probabilities are
# known, so is the floor: no model's loss on new stories can lie below it, on average.
#
# **Predict.** Your run has a fiftieth of the recorded one's steps. How much of the way from ln V down to the floor will it cover? And will the two curves lie on each other as far as yours goes?

# %% name="minute"
import json

from gptlib import TrainConfig
from gptlib.pretrained import ASSETS
from gptlib.widgets import TrainingMonitor

STEPS = 200  # about a minute on two cores; the preset's own are 1,200
FOLDER = "runs/08_a_minute"  # your model is kept here; a run that is finished is not trained again, so name another folder for another
recorded_log = [json.loads(line) for line in (ASSETS / "tales" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
torch.manual_seed(1337)
mine = GPT(GPTConfig.preset("tales", vocab_size=V))
config = TrainConfig.preset("tales", steps=STEPS, eval_every=STEPS // 5, precision="fp32", device="cpu")
monitor = TrainingMonitor(
    mine,
    corpus,
    tokenizer,
    config,
    out=FOLDER,
    resume=True,
    measure=tales.tracker(tokenizer),
    recorded=[entry for entry in recorded_log if entry["step"] <= 5 * STEPS],
    recorded_name="recorded: the first part of 11,000 steps",
)
result = monitor.run()

# %% name="minute_answer" gptlib={"role": "reveal"}
floor = tales.entropy(tokenizer, n=2000).nats_per_token
at_end = result.val_loss
middle, same_step = (min(recorded_log, key=lambda entry: abs(entry["step"] - at)) for at in (STEPS // 2, STEPS))
mine_then = min(result.log, key=lambda entry: abs(entry["step"] - middle["step"]))["loss"]
figure, axes = picture(
    7.4,
    3.4,
    title="The first minute covers nearly the whole way; the other seventy go into the rest",
    alt=f"Training loss by step, logarithmic. This run ends at step {STEPS} with {at_end:.2f} on validation; the recorded run ends at step "
    f"{recorded_log[-1]['step']:,} with {recorded_log[-1]['loss']:.2f}; the floor is {floor:.3f}.",
)
axes.plot(
    [e["step"] for e in recorded_log],
    [e["loss"] for e in recorded_log],
    "--",
    color=BLACK,
    linewidth=1.2,
    label="recorded, 11,000 steps (batches)",
)
axes.plot([e["step"] for e in result.log], [e["loss"] for e in result.log], color=BLUE, label="this run (batches)")
axes.plot([STEPS], [at_end], "o", color=VERMILION, label="this run, validation")
axes.axhline(floor, color=GREY, linestyle=":", linewidth=1.6, label=f"floor, {floor:.3f}")
axes.set_xscale("log")
axes.set_yscale("log")
axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
axes.set_xticks([10, 100, 1000, 10_000], ["10", "100", "1,000", "10,000"])
axes.minorticks_off()
axes.set(xlabel="step", ylabel="loss (nats per token)")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "It ends at {end:.2f} nats on stories it has not read, and the floor is {floor:.3f}: {share:.0%} of the way. The curves do not lie on each other: at step {half} yours had {mine_then:.2f} and the recorded one {theirs_then:.2f}. At step {step} the recorded one had {other:.2f}, and they have met.",
    question="Answer",
    end=near(at_end, 0.57, 0.12),
    floor=near(floor, 0.218, 0.002),
    share=(math.log(V) - at_end) / (math.log(V) - floor),
    half=middle["step"],
    mine_then=mine_then,
    theirs_then=middle["loss"],
    step=same_step["step"],
    other=same_step["loss"],
)
figure

# %% [markdown] name="minute_explained"
# Why is the short run ahead of the long one at the same step, and why does it lose its lead? Not because it knows more or less: the schedules differ. Its warmup is a tenth of its own length and over after 20 steps, while the recorded run was rising for 100. Then its rate falls to nothing, while the recorded run goes on at its highest. Hence never compare
# two runs in mid-air whose schedules differ.
#
# With every nat the next one gets dearer: the last tenth of a nat took the recorded run all but the first few of its seventy minutes. How loss falls with compute is a law of its own, and a later lesson fits it.

# %% [markdown] name="abilities_intro"
# You may have noticed that the GPT of lesson 07 came lower, and in less time. It has half as many blocks, so that a step costs it less; it took 300 steps and not 200; and its learning rate, 0.02, was chosen for so short a run, where the preset's 0.003 is meant for a
# long one. Given its seventy minutes, the preset ends where the bundled model stands. How large a model should be for the computing that one has is a question of its own, and a later lesson measures it.
#
# ## Abilities, as they appear
#
# A loss says how much a model knows and not what. In tales every pronoun, fact and sum is marked, so one can ask: does the model give the right words more probability than each of the wrong ones? The recorded run was asked every 250 steps.
#
# **Predict.** Which comes first: *he was* and *an old map* rather than *he were* and *a old map* (agreement), *he* or *she* (pronoun), or naming once more the thing that was named some sentences ago (recall)?

# %% name="abilities_answer" gptlib={"role": "reveal"}
from gptlib.plots import plot_abilities

early = [entry for entry in recorded_log if entry["step"] <= 5000]
order = {}
for kind in ("agreement", "pronoun", "recall"):
    order[kind] = next(e["step"] for e in recorded_log if e.get("measured", {}).get(f"{kind} accuracy", 0) >= 0.95)
reveal(
    "In this order: agreement is at 95 % in the measurement of step {agreement:,}, pronouns at {pronoun:,}, recall at {recall:,}. Of your own run: agreement {a:.0%}, pronouns {p:.0%}, recall {r:.0%}.",
    question="Answer",
    **order,
    a=result.log[-1]["measured"]["agreement accuracy"],
    p=result.log[-1]["measured"]["pronoun accuracy"],
    r=result.log[-1]["measured"]["recall accuracy"],
)
plot_abilities(early, title="Recorded: grammar first, then who, then what was said", kinds=list(order))

# %% [markdown] name="abilities_explained"
# What stands in the last word can be learned from pairs of words; what stands five sentences back needs attention that finds it, and a model has to build that first.
#
# Not every line goes up. Sums that no training story contains (*held out*) are right more and more often at first, and then hardly ever, while the loss of the whole falls and falls:

# %% name="held_out_sum"
found = [e for e in recorded_log if "measured" in e]
peak = max(found, key=lambda e: e["measured"]["sum accuracy (held out)"])
say(
    "Held-out sums: {peak:.0%} right at step {step:,}, and {end:.0%} at the end; the sums that stories contain: {seen:.0%}.",
    peak=peak["measured"]["sum accuracy (held out)"],
    step=peak["step"],
    end=found[-1]["measured"]["sum accuracy (held out)"],
    seen=found[-1]["measured"]["sum accuracy"],
)
plot_abilities(
    recorded_log, status="held out", kinds=["sum", "recall", "speaker"], title="Recorded: one ability comes and goes"
)

# %% [markdown] name="held_out_explained"
# The model first had a rough sense of quantity, which helps with any sum, and then learned the few sums of its stories by heart, which pays better. The training loss cannot tell the one from the other. Only a question that the training does not ask can.
#
# ## Emergence
#
# It was reported of large models that abilities appear *suddenly*: nothing over many sizes, and then all at once. Look at how such an ability is measured. Recall in the recorded run, three ways:
#
# - the **log-probability** of the right words, averaged, which is a part of the very loss that is being lowered;
# - the **accuracy**, which asks only whether the right words are ahead;
# - an **exam**: ten questions, and passed only with all ten right. If a question is answered rightly with probability $a$, the exam is passed with $a^{10}$. Many benchmarks are exams of this kind: a sum of many digits, a program of many lines, where one mistake spoils the whole.
#
# **Predict.** Over which part of the run does each of the three do most of its rising?

# %% name="emergence"
asked = [e for e in recorded_log if "measured" in e]
steps = [e["step"] for e in asked]
log_prob = [e["measured"]["recall log_prob"] for e in asked]
accuracy = [e["measured"]["recall accuracy"] for e in asked]
exam = [a**10 for a in accuracy]


def reaches(values: list[float], share: float) -> int:
    """The first step at which a curve has made this share of its way."""
    low, high = values[0], max(values)
    return next(step for step, value in zip(steps, values, strict=True) if value >= low + share * (high - low))


# %% name="emergence_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    9.2,
    3.0,
    title="Recorded: log-probability climbs",
    alt="Three curves of recall over steps: mean log-probability from "
    f"{log_prob[0]:.2f} to {log_prob[-1]:.2f}, accuracy from {accuracy[0]:.0%} to {accuracy[-1]:.0%}, exam of ten from {exam[0]:.0%} to {exam[-1]:.0%}.",
)
axes.set_subplotspec(figure.add_gridspec(1, 3)[0])
with style():
    panels = [axes, figure.add_subplot(1, 3, 2), figure.add_subplot(1, 3, 3)]
    panels[1].set_title("so does accuracy")
    panels[2].set_title("an exam of ten leaps")
for panel, values, label in zip(
    panels,
    (log_prob, [100 * a for a in accuracy], [100 * e for e in exam]),
    ("mean log-probability (nats)", "right words ahead (%)", "passed (%)"),
    strict=True,
):
    panel.plot(steps, values, "o-", markersize=2.5, linewidth=1.4, color=BLUE)
    panel.set_xscale("log")
    panel.set_xticks([250, 1000, 10_000], ["250", "1,000", "10,000"])
    panel.minorticks_off()
    panel.set(xlabel="step", ylabel=label)
reveal(
    "| | a quarter of its way | half | nine tenths |\n|---|---|---|---|\n{rows}\n\nAt step {step:,}, the log-probability has made {made:.0%} of its way, and the exam is passed {passed:.1%} of the time.",
    question="Answer",
    rows="\n".join(
        f"| {name} | {reaches(values, 0.25):,} | {reaches(values, 0.5):,} | {reaches(values, 0.9):,} |"
        for name, values in (("log-probability", log_prob), ("accuracy", accuracy), ("exam of ten", exam))
    ),
    step=steps[2],
    made=(log_prob[2] - log_prob[0]) / (log_prob[-1] - log_prob[0]),
    passed=exam[2],
)
figure

# %% [markdown] name="emergence_explained"
# One and the same progress. The log-probability does most of its rising early; the exam does not move while that happens, and then leaps. (Each point is an average over thirty questions, hence the ripple; $a^{10}$ supposes that questions are missed independently.)
#
# That is the objection of Schaeffer, Miranda and Koyejo (2023) to "emergent abilities": a harsh measure makes a leap out of a smooth improvement. It does not say that nothing new is learned, nor that the leap is without meaning: whoever needs all ten right has nothing before it. And not everything is smooth. When the head forms that finds
# an earlier occurrence of a word, the loss itself drops within few steps; a later lesson watches it. The advice for your own runs: track the log-probability of the right answer, and you see an ability coming.
#
# ## Similar words, similar vectors
#
# Before training, the rows of the embedding were noise. Nobody told the model which words are alike. Take some words, and look for the rows that point most nearly in the same direction: the highest **cosine**, the dot product of two vectors brought to length 1.
#
# **Predict.** What stands next to *red*? To *winter*? To *five*? To *good*: a word that means much the same, or its opposite? And which of the many animals to *otter*?

# %% name="neighbours"
from collections import Counter

common = {word for word, n in Counter(corpus.train.split()).items() if n >= 50}
vectors = {}  # of common words, as they stand within a sentence
for i in range(V):
    text = tokenizer.decode([i])
    if text.startswith(" ") and text[1:] in common and text[1:].isalpha():
        vectors[text[1:]] = F.normalize(bundled.token_embedding.weight[i].detach(), dim=0)  # (C,)


def nearest(word: str, n: int = 4) -> str:
    cosines = {other: float(vectors[word] @ vector) for other, vector in vectors.items() if other != word}
    best = sorted(cosines, key=lambda other: -cosines[other])[:n]
    return ", ".join(f"{other} {cosines[other]:.2f}" for other in best)


numbers = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
table = torch.stack([vectors[word] for word in numbers])  # (9, C)
cosines = table @ table.T  # (9, 9)

# %% name="neighbours_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    4.6,
    3.4,
    title="Nobody told it how to count",
    alt="Cosines between the vectors of the number words two to ten: neighbours have "
    + ", ".join(f"{cosines[i, i + 1]:.2f}" for i in range(8))
    + f"; two and ten {cosines[0, 8]:.2f}.",
)
image = axes.imshow(cosines, cmap="viridis", vmin=0, vmax=0.7)
axes.set_xticks(range(9), numbers, rotation=60, fontsize=9)
axes.set_yticks(range(9), numbers, fontsize=9)
axes.spines[:].set_visible(False)
figure.colorbar(image, ax=axes, label="cosine (the diagonal is 1)")
off = torch.stack([torch.diagonal(cosines, distance).mean() for distance in range(1, 9)])
reveal(
    "| word | nearest, with their cosines |\n|---|---|\n{rows}\n\nNumber words one apart have a cosine of {one:.2f} on average, two apart {two:.2f}, four apart {four:.2f}, eight apart {eight:.2f}. Two random directions of {C} dimensions would have 0 ± {random:.2f}.",
    question="Answer",
    rows="\n".join(
        f"| {word} | {nearest(word)} |"
        for word in ("red", "girl", "Nora", "winter", "five", "good", "heavy", "otter", "old")
    ),
    one=near(off[0], 0.5, 0.03),
    two=near(off[1], 0.36, 0.04),
    four=near(off[3], 0.12, 0.05),
    eight=off[7],
    C=bundled.config.n_embd,
    random=1 / math.sqrt(bundled.config.n_embd),
)
figure

# %% [markdown] name="neighbours_explained"
# Words that can stand in each other's place have similar vectors, since what the model has to do with them is similar: colours, people, names. The seasons are all but one vector, because nothing in these stories depends on which it is. The number words have even lined up: in sums, near numbers have near
# consequences.
#
# What a cosine does not show is whether two words *mean* the same. *Good* lies next to *bad* and *heavy* next to *light*: opposites stand in the same places. And the otter's nearest relative is the ox, far ahead of the fox, for no zoological reason: both are preceded by *an*. So are *old*, *empty* and *umbrella*. In this model the same vectors
# serve twice, as what is read and as what is predicted, so that *likely at the same place* counts as much as anything. (Rare words and pieces of words are left out above: little was learned about them, and their neighbours are accidents.) A cosine tells about use. It is not a dictionary.

# %% [markdown] name="texts_intro"
# ## Other texts: Shakespeare, Python, your own
#
# Nothing in the loop knows stories. Give it characters of something else, and it learns that. Three texts, and one model for each, of the *shakespeare-cpu* preset, whose tokens are single characters: the plays of Shakespeare, the source code of Python's own library, and a text of yours.
#
# The plays are the one thing in this lesson that has to be fetched from the network, once, and then lies in the cache. If it cannot be fetched, you get the recorded run alone, and are told.

# %% name="my_text"
MY_TEXT = ""  # the path of a text file or a folder of your own, some 100,000 characters or more

# %% name="texts"
from pathlib import Path

from gptlib.corpora import Corpus
from gptlib.measured import recorded
from gptlib.training import tokenizer_for, train

on_shakespeare = recorded("shakespeare")
texts = {}
try:
    texts["Shakespeare"] = load_corpus("tinyshakespeare")
except ConnectionError as error:
    print("Shakespeare could not be fetched, so nothing is trained on it here; below is the recorded run alone.")
    print("The reason:", str(error).split(" could not be downloaded ")[-1].split(";")[0])
library = load_corpus("python")
texts["Python"] = Corpus("python, a part", library.train[:600_000], library.validation[:60_000])
if MY_TEXT:
    texts["yours"] = load_corpus(MY_TEXT)
else:
    from pydoc_data.topics import topics

    Path("runs").mkdir(exist_ok=True)
    Path("runs/08_my_text.txt").write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    texts["yours (here: Python's reference manual)"] = load_corpus("runs/08_my_text.txt")


def learn_characters(text: Corpus, steps: int = 120):
    letters = tokenizer_for(text, "char")
    torch.manual_seed(1337)
    network = GPT(GPTConfig.preset("shakespeare-cpu", vocab_size=letters.vocab_size))
    recipe = TrainConfig.preset("shakespeare-cpu", steps=steps, eval_every=steps, precision="fp32", device="cpu")
    return network, letters, train(network, text, letters, recipe, verbose=False)


by_text = {name: learn_characters(text) for name, text in texts.items()}

# %% name="texts_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    7.2,
    3.0,
    title="The same model learns each text, and no two end at the same loss",
    alt="Training loss in nats per character: "
    + "; ".join(f"{name} ends at {done.val_loss:.2f} on validation" for name, (_, _, done) in by_text.items())
    + f"; recorded run on Shakespeare ends at {on_shakespeare['val_loss']:.2f} after {on_shakespeare['steps']:,} steps.",
)
axes.plot(
    [step for step, _ in on_shakespeare["curve"]],
    [loss for _, loss in on_shakespeare["curve"]],
    "--",
    color=BLACK,
    linewidth=1.2,
    label=f"recorded: Shakespeare, {on_shakespeare['steps']:,} steps",
)
for (name, (_, _, done)), colour in zip(by_text.items(), (BLUE, VERMILION, GREEN), strict=False):
    axes.plot([e["step"] for e in done.log], [e["loss"] for e in done.log], color=colour, label=name)
axes.set_xscale("log")
axes.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
axes.minorticks_off()
axes.set(xlabel="step", ylabel="loss (nats per character)")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
for name, (network, letters, done) in by_text.items():
    begun = torch.tensor([letters.encode(texts[name].validation[:1])])
    written = letters.decode(generate(network, begun, 160, temperature=0.8, slide=True, seed=3)[0].tolist())
    print(f"--- {name}: {done.val_loss:.2f} nats per character; it writes\n{written}\n")
print(
    f"--- recorded, Shakespeare, {on_shakespeare['val_loss']:.2f} after {on_shakespeare['steps']:,} steps ({on_shakespeare.command}):"
)
print(on_shakespeare["sample"])
figure

# %% [markdown] name="texts_explained"
# After so short a time they know which characters there are, how long words and lines are, and the commonest words. Compare losses only where the unit is the same: a nat *per character* is not one per token, and a token of tales is several characters long. And here no floor is drawn, because nobody knows the
# entropy of Shakespeare.
#
# Longer runs are made with one command in a shell, which shows its rate and the time left, and can be stopped with Ctrl-C and gone on with. This one takes a few minutes:
#
# ```sh
# gptlib train --corpus tinyshakespeare --preset shakespeare-cpu --out runs/shakespeare
# gptlib train --corpus letters.txt     --preset shakespeare-cpu --out runs/letters
# gptlib generate runs/shakespeare --prompt "ROMEO:" --temperature 0.8
# ```
#
# ## Stop, resume, same curve
#
# Long runs get interrupted: a battery, a deadline, a machine that somebody else needs. What does a run have to keep so that it can go on as though nothing had happened? The weights, of course.
#
# **Predict.** What else? There are at least four things.
#
# <details><summary>Answer</summary>
#
# The optimizer's means $m$ and $v$ of every weight, which are twice as much as the weights; the number of the step, on which the learning rate depends; which batches come next, that is the state of what draws them; and the state of the random numbers of dropout. With a GPU, that of *its* random numbers too.
#
# </details>
#
# We stop a run at step 30 through the trainer's own control (the *stop* of the monitor does the same), go on in a fresh model, and compare with a run that was never stopped. And wrong first: a checkpoint from which somebody left out the optimizer.

# %% name="resume"
import tempfile

from gptlib.training import Control
from gptlib.training.checkpoint import CHECKPOINT, read_tensors, write_tensors

small = GPTConfig.preset("tales", vocab_size=V, n_embd=64, n_layer=2, n_positions=T, dropout=0.1)
sixty = TrainConfig(steps=60, batch_size=8, learning_rate=3e-3, log_every=1, precision="fp32", device="cpu")


def run_to(stop_at: int | None, folder: Path, resume: bool = False):
    torch.manual_seed(0)
    network, control = GPT(small), Control()

    def watch(progress) -> None:
        if progress.step == stop_at:
            control.stop()

    options = {"out": folder, "resume": resume, "on_step": watch, "control": control, "verbose": False}
    return network, train(network, corpus, tokenizer, sixty, **options)


with tempfile.TemporaryDirectory() as place:
    whole, uninterrupted = run_to(None, Path(place, "whole"))
    _, first_half = run_to(30, Path(place, "stopped"))
    tensors, metadata = read_tensors(Path(place, "stopped", CHECKPOINT))
    resumed, both_halves = run_to(None, Path(place, "stopped"), resume=True)

    forgetful = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")}
    Path(place, "forgetful").mkdir()
    write_tensors(Path(place, "forgetful", CHECKPOINT), forgetful, metadata)
    _, without = run_to(None, Path(place, "forgetful"), resume=True)
kept = {
    kind: sum(t.numel() for name, t in tensors.items() if name.startswith(kind)) for kind in ("model.", "optimizer.")
}
print(f"stopped at step {first_half.step} of {first_half.steps}; the checkpoint holds {kept['model.']:,} weights,")
print(f"{kept['optimizer.']:,} numbers of the optimizer, and the state of dropout's random numbers")

# %% name="resume_answer"
curve = [e["loss"] for e in uninterrupted.log]
again = [e["loss"] for e in both_halves.log]
bump = max(entry["loss"] - curve[entry["step"] - 1] for entry in without.log[:10])
same_weights = all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
figure, axes = picture(
    6.8,
    2.9,
    title="Stopped and resumed: the same curve, to the last bit",
    alt=f"Loss over 60 steps. The resumed run equals the uninterrupted one in all {len(curve)} losses. Without the optimizer's "
    f"means it is up to {bump:.2f} higher in the ten steps after the stop.",
)
axes.plot(range(1, 61), curve, color=BLUE, linewidth=3, alpha=0.45, label="never stopped")
axes.plot(range(1, 61), again, color=BLACK, linewidth=1, label="stopped at 30, resumed")
axes.plot(
    [e["step"] for e in without.log],
    [e["loss"] for e in without.log],
    "--",
    color=VERMILION,
    label="resumed without the optimizer",
)
axes.axvline(30, color=GREY, linestyle=":", linewidth=1)
axes.set(xlabel="step", ylabel="loss (nats per token)")
axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
say(
    "Of {n} losses, {equal} are equal to the last bit, and so are the weights at the end: {same}. Without the optimizer's means the loss is up to {off:.2f} nats higher in the ten steps after the stop: every weight jumps by the full rate once more, as in a first step without warmup.",
    n=len(curve),
    equal=sum(a == b for a, b in zip(curve, again, strict=True)),
    same=same_weights,
    off=bump,
)
assert curve == again and same_weights
figure

# %% [markdown] name="resume_explained"
# The trainer draws the batch of step $n$ from a generator that is seeded with the run's seed and $n$, so there is no state to lose. "To the last bit" holds on a CPU with the same precision and the same number of threads, since threads decide in which order sums are added. It says so when they differ.
#
# ## On a GPU
#
# The same lines run on a GPU; only the sizes change. `--device auto` takes it where there is one, in bf16 if it multiplies that natively, and `--compile` lets PyTorch fuse small operations into few large ones, which takes a minute once and pays in long runs. The next cell trains the *shakespeare-gpu* preset, eight times the size of your model above, where
# there is a GPU, and is skipped where there is none.

# %% name="gpu"
if torch.cuda.is_available():
    try:
        long_text = load_corpus("tinyshakespeare")
    except ConnectionError:
        long_text = texts["Python"]
    letters = tokenizer_for(long_text, "char")
    torch.manual_seed(1337)
    larger = GPT(GPTConfig.preset("shakespeare-gpu", vocab_size=letters.vocab_size))
    recipe = TrainConfig.preset("shakespeare-gpu", steps=1000, eval_every=250, device="cuda", compile=True)
    done = train(larger, long_text, letters, recipe)
    print(f"{done.val_loss:.3f} nats per character, {done.tokens / done.seconds:,.0f} tokens/s, {done.precision}")
    begun = torch.tensor([letters.encode("\n")], device="cuda")
    print(letters.decode(generate(larger, begun, 300, temperature=0.8, slide=True, seed=3)[0].tolist()))
else:
    print("There is no CUDA GPU here, so the larger preset was not run.")

# %% [markdown] name="gpu_expect"
# What to expect of one? On one H100, a thousand steps of the *shakespeare-gpu* preset with `--compile` took 21 seconds, compiling included, and came to 1.466 nats per character on validation. A training step of it reached 9 % of the peak that the maker states for bf16 (dense), and one of GPT-2 small 36 %: in models as small as the first, the GPU
# waits for the next operation longer than it computes. (`docs/benchmarks.md` has both, with their commands.) For other GPUs and whole runs, what follows is arithmetic: the operations of a run, divided by the stated peak and by the share that the H100 reached. Take it as right within a factor of two or three.

# %% name="gpu_arithmetic"
from gptlib.scaling import training_flops_per_token

PEAKS = {"L4": 121e12, "A100": 312e12, "H100 (SXM)": 989e12}  # FLOP/s, from the maker's data sheets
SHARES = {"shakespeare-gpu": 0.09, "gpt2": 0.36}  # reached on an H100; taken to be the same elsewhere
recipe = TrainConfig.preset("shakespeare-gpu")
lines = []
for name, tokens in (("shakespeare-gpu", recipe.steps * recipe.batch_size * 256), ("gpt2", 20 * 124_439_808)):
    flops = tokens * training_flops_per_token(GPTConfig.preset(name))
    hours = [flops / peak / SHARES[name] / 3600 for peak in PEAKS.values()]
    times = " | ".join(f"{60 * each:.1f} min" if each < 1 else f"{each:.0f} h" for each in hours)
    lines.append(f"| {name} | {tokens / 1e6:,.0f} M | {flops:.1e} | {times} |")
say(
    "| preset | tokens | FLOPs | {names} |\n|---|---|---|{rule}\n{lines}\n\nCalculated; of these runs none was made whole. For GPT-2 small, 20 tokens per parameter are counted.",
    names=" | ".join(PEAKS),
    rule="---|" * len(PEAKS),
    lines="\n".join(lines),
)

# %% [markdown] name="several"
# ## One command for several
#
# Several GPUs, or several machines, share a run in the way in which parts share a batch above: each process holds the whole model, computes the gradient of its own rows of the batch, and before the step all of them average. With equally many rows each, the average *is* the whole batch's gradient, so every
# process takes the same step and has the loss of a single one. PyTorch's `torchrun` starts the processes and tells each its number; `gptlib train` then does its share:
#
# ```sh
# torchrun --nproc-per-node=4 -m gptlib train --corpus tinyshakespeare --preset shakespeare-gpu --out runs/shakespeare
# ```
#
# Only the first process prints and writes. If one of them dies, the others stop and say so, and the same command with `--resume` goes on from the last checkpoint, with any number of processes that shares the batch evenly. It works with CPUs too, which is how the course tests it; on one machine's CPU it gains nothing. A model that one GPU cannot hold is cut into parts with `--shard`: each process keeps a part of every weight, and they lend each other the block at hand. `docs/many-gpus.md` has the commands, also for several machines.

# %% name="shared_rows"
from gptlib.training.distributed import Team

rows, answers = windows_at(0)[:, :-1], windows_at(0)[:, 1:].contiguous()
whole = gradient(model, [(rows, answers)], [1.0])
team = [Team(rank, 4) for rank in range(4)]  # as torchrun would tell four processes
shares = [gradient(model, [(rows[each.rows], answers[each.rows])], [1.0]) for each in team]
difference = ((sum(shares) / 4 - whole).norm() / whole.norm()).item()
say(
    "Four processes with {n} rows each: their average differs from the whole batch's gradient by {d:.0e} of its length.",
    n=len(rows[team[0].rows]),
    d=near(difference, 0, 1e-4),
)

# %% [markdown] name="library"
# ## The part in the library
#
# You have used `train` for the larger runs. Here is the middle of it, with what draws a batch and what sets the rate. You will find every line of yours:

# %% name="library_source"
import inspect
import textwrap

from gptlib.training import data, learning_rate_at, loop
from gptlib.training.step import clip_gradient

source = inspect.getsource(loop.train)
middle = source[source.index("            while state.step") : source.index("                state.step += 1")]
print(textwrap.dedent(middle))
for function in (loop._accumulate, learning_rate_at, clip_gradient, data.TokenData.batch):
    code = inspect.getsource(function)
    print("\n" + textwrap.dedent(code.split('"""')[0].rstrip() + code.rsplit('"""', 1)[1].rstrip()))

# %% [markdown] name="library_explained"
# It has accumulation and precision around the loss, and where there are several processes each takes its rows, and PyTorch averages the gradients during the backward pass; everything else in that room is for stopping, watching and writing down. Is it the same? The loop of this lesson, with the trainer's batches, against `train` with the same settings:

# %% name="library_equal"
from gptlib.training import tokenize_corpus

settings = {"steps": 50, "batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 5, "weight_decay": 0.1, "seed": 7}
settings = TrainConfig(**settings, log_every=1, precision="fp32", device="cpu")
torch.manual_seed(0)
theirs = GPT(tiny)
their_losses = [e["loss"] for e in train(theirs, corpus, tokenizer, settings, verbose=False).log]

train_data, _ = tokenize_corpus(corpus, tokenizer, T)
torch.manual_seed(0)
ours = GPT(tiny)
matrices = [p for p in ours.parameters() if p.dim() >= 2]  # these decay, with the embeddings
vectors_of_norms = [p for p in ours.parameters() if p.dim() < 2]  # these do not
groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors_of_norms, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
our_losses = []
for step in range(50):
    for group in optimizer.param_groups:
        group["lr"] = schedule(step, steps=50, warmup=5, highest=3e-3, lowest=3e-4)
    inputs, targets = train_data.batch(step, 8, T, seed=7)  # 2 × (B, T)
    logits, _ = ours(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    clip(list(ours.parameters()), 1.0)
    optimizer.step()
    our_losses.append(loss.item())
say(
    "Over 50 steps the losses of the two differ by at most {d:.0e} nats; both end at {end:.2f}.",
    d=near(max(abs(a - b) for a, b in zip(our_losses, their_losses, strict=True)), 0, 0.02),
    end=our_losses[-1],
)

# %% [markdown] name="popular"
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "Mask out the last token, it has nothing to predict." | Read one token more: every position has a target (above). |
# | "`targets.view(-1)`" | Refused for a slice; `flatten` or `reshape` (above). |
# | "Adam with weight decay", for AdamW | In Adam, decay is divided by √v with the rest (above). |
# | "Average the losses of the parts." | Right for equal parts; else sum and divide by all targets (above). |
# | "`torch.no_grad()` for evaluation" | It stops gradients, not dropout; `eval()` does that (above). |
# | "The loss went down, so it learns." | By heart, or the wrong task, it also goes down (above). |

# %% [markdown] name="end_intro"
# ## Your model writes, and moves out
#
# Back to the model that you trained for a minute. Its run has left a folder with weights, config, tokenizer and log, from which `load_model` takes it up again, in another notebook or tomorrow:

# %% name="writes"
again, its_tokenizer = load_model(FOLDER)
begun = torch.tensor([its_tokenizer.encode("<|endoftext|>One morning")])
story = its_tokenizer.decode(
    generate(again, begun, 90, temperature=0.7, stop_id=its_tokenizer.end_id, seed=2)[0, 1:].tolist()
)
print(textwrap.fill(story.replace("<|endoftext|>", ""), 100))
print("\nfiles:", ", ".join(sorted(path.name for path in Path(FOLDER).iterdir())))

# %% [markdown] name="export_intro"
# It need not stay in this course. `export_to_huggingface` writes a folder that the transformers library loads as one of its own kinds; for this one, a Qwen3. From there it can go to whatever reads such folders.
#
# **Predict.** The `labels=` of transformers takes targets that are *not* shifted, and shifts them itself. What happens to one who does not know that and shifts before?

# %% name="export"
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from gptlib import export_to_huggingface

logging.disable_progress_bar()
folder = export_to_huggingface(mine, tokenizer, "runs/08_for_transformers")
theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
their_tokenizer = AutoTokenizer.from_pretrained(folder)
sample = torch.tensor([their_tokenizer("<|endoftext|>" + test_stories[0].text)["input_ids"]])  # (1, T)
with torch.no_grad():
    logits, our_loss = mine(sample[:, :-1], sample[:, 1:])
    their_logits = theirs(sample).logits
    unshifted = theirs(sample, labels=sample).loss.item()
    twice = theirs(sample[:, :-1], labels=sample[:, 1:].contiguous()).loss.item()

# %% name="export_answer" gptlib={"role": "reveal"}
reveal(
    "In transformers it is a {kind}. Its logits differ from ours by at most {d:.0e}, and with `labels` unshifted its loss is ours: {theirs:.4f} and {ours:.4f}. Shifted twice, the loss is {twice:.1f}: it is asked for the token after next, and nothing complains. "
    "A model that is *trained* so learns the wrong task, and learns it well.",
    question="Answer",
    kind=type(theirs).__name__,
    d=near((their_logits[:, :-1] - logits).abs().max(), 0, 1e-3),
    theirs=unshifted,
    ours=our_loss.item(),
    twice=twice,
)
assert abs(unshifted - our_loss.item()) < 1e-3

# %% name="their_generate"
begun = their_tokenizer("<|endoftext|>One morning", return_tensors="pt")
theirs_written = theirs.generate(**begun, max_new_tokens=40, do_sample=False)[0].tolist()
ours_written = generate(mine, begun["input_ids"], 40, temperature=0, stop_id=tokenizer.end_id)[0].tolist()
print("transformers:", textwrap.shorten(their_tokenizer.decode(theirs_written[1:]), 200))
print("gptlib:      ", textwrap.shorten(tokenizer.decode(ours_written[1:]), 200))
print("the same:", theirs_written == ours_written)

# %% [markdown] name="end"
# A model that you can account for from its first token to its last weight, written by a loop of a dozen lines. How it *chooses* what it writes is the next lesson.
#
# ## Three sentences to remember
#
# 1. A step asks every position of every window for its next token, averages the losses, and moves each weight a little against its gradient; warmup, clipping and the slow fall of the rate keep the little from being too much.
# 2. Three cheap tests come before every run: the first loss is ln V, one batch can be learned by heart, and a row of inputs and targets reads right.
# 3. A loss that falls does not say what is learned: compare with the floor, measure on what was held back, ask for abilities one by one, and look at the log-probability before the score.
#
# ## Exercises
#
# [`exercises/08_training.ipynb`](../exercises/08_training.ipynb) (in `work/exercises` if you came by `make lab`), about 50 minutes:
#
# | exercise | minutes |
# |---|---|
# | `training.batches`: windows and their targets | 8 |
# | `training.schedule`: warmup and cosine | 8 |
# | `training.step`: one step of AdamW | 10 |
# | `training.clip`: shorten a gradient that is too long | 6 |
# | `training.diagnose`: six sick runs | 20 |
#
# **Next:** [Sampling: from probabilities to text](09_sampling.ipynb).
#
# ## Where to read more
#
# - Diederik Kingma and Jimmy Ba, *Adam: A Method for Stochastic Optimization* (2014).
# - Ilya Loshchilov and Frank Hutter, *Decoupled Weight Decay Regularization* (2017). Why the W; their *SGDR: Stochastic Gradient Descent with Warm Restarts* (2016) brought the cosine.
# - Razvan Pascanu, Tomas Mikolov and Yoshua Bengio, *On the Difficulty of Training Recurrent Neural Networks* (2012). Gradients that explode, and clipping.
# - Paulius Micikevicius and others, *Mixed Precision Training* (2017).
# - Nitish Srivastava and others, *Dropout: A Simple Way to Prevent Neural Networks from Overfitting* (2014).
# - Rylan Schaeffer, Brando Miranda and Sanmi Koyejo, *Are Emergent Abilities of Large Language Models a Mirage?* (2023); against Jason Wei and others, *Emergent Abilities of Large Language Models* (2022).
# - Tomas Mikolov and others, *Efficient Estimation of Word Representations in Vector Space* (2013). Similar words, similar vectors.
# - Andrej Karpathy, *A Recipe for Training Neural Networks* (2019). Overfit one batch, and much else.
