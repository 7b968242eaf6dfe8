# %% [markdown] name="title"
# # Exercises 08: training
#
# {{badge}}
#
# Five functions. Four are parts of the loop that trains a GPT: the batch, the learning rate of each step, the step of the
# optimizer, the clipping of the gradient. With the fifth you are the doctor: from what a run has logged, it says what the
# run is ill with. About 50 minutes. Know first: lesson 08.
#
# Write each answer where the cell raises `NotImplementedError`, run the cell, then run the check below it. A check says
# what was expected, what came out, and on which input; when it knows the mistake, it names it. Hints come in three
# stages.
#
# An answer is self-contained: in its cell it may use `math` and `torch` from the first cell, and whatever the cell itself
# defines.

# %% name="imports" gptlib={"role": "imports"}
import math

import torch

from gptlib import check

# %% [markdown] name="about_batches"
# ## 1. Windows and their targets
#
# *8 minutes, 3 points.*
#
# A text is one long row of token ids. A batch is `B` stretches of it, each beginning somewhere at random, and for every
# token in them the one that follows: that is its target.
#
# Write `batches(ids, batch_size, length, generator)`:
#
# - `ids` is `(N,)` int64. `batch_size` is B, `length` is T, and N is at least T + 1.
# - `generator` is a `torch.Generator`, from which all that is random comes. Two generators with the same seed give the
#   same batch; another seed gives another batch.
# - It returns the pair `(x, y)`, both `(B, T)` int64. Each row of `x` is a stretch of T neighbouring tokens of `ids`. `y`
#   holds the token that follows each of them in `ids`, also after the last one of the row.
# - Where a row begins is drawn evenly from **all** places at which a stretch and its last target fit into `ids`, for each
#   row by itself. The same place may come twice.
# - It leaves `ids` as it is.
#
# For example, with `ids = torch.tensor([10, 11, 12, 13])` and `length=2` a row can begin at 0 or at 1. One that begins at
# 1 is `[11, 12]` in `x` and `[12, 13]` in `y`.


# %% name="batches" gptlib={"role": "answer", "exercise": "training.batches", "points": 3}
def batches(ids, batch_size, length, generator):
    """Draw a batch of windows and their targets.

    ids: (N,) int64, a text.    batch_size: B.    length: T, at most N - 1.    generator: a torch.Generator.
    Returns x and y, both (B, T) int64.
    """
    # answer
    starts = torch.randint(len(ids) - length, (batch_size,), generator=generator)  # (B,)
    places = starts[:, None] + torch.arange(length)  # (B, T)
    return ids[places], ids[places + 1]
    # end answer


# %% name="check_batches" gptlib={"role": "check", "exercise": "training.batches"}
check("training.batches")

# %% [markdown] name="after_batches"
# Stuck? `check("training.batches", hint=1)` gives a direction, `hint=2` a place, `hint=3` nearly the answer.

# %% [markdown] name="about_schedule"
# ## 2. Warmup and cosine
#
# *8 minutes, 3 points.*
#
# The learning rate rises in a straight line during the warmup and then falls on half a cosine, steeply in the middle and
# gently at both ends.
#
# Write `schedule(step, steps, warmup, highest, lowest)`, the learning rate of one step:
#
# - `step` is 0 for the first of `steps` steps, so the last one is `steps - 1`.
# - During the warmup, that is while `step < warmup`, the rate is $\text{highest} \cdot (\text{step} + 1) / \text{warmup}$.
#   So the first step already moves, and the last step of the warmup has the highest rate. `warmup` may be 0, and is at
#   most `steps - 2`.
# - After it, $\text{lowest} + (\text{highest} - \text{lowest}) \cdot (1 + \cos \pi p) / 2$. The progress $p$ is 0 at step
#   `warmup`, 1 at the **last** step, and grows by equal parts.
# - `highest` and `lowest` are floats, `highest` at least `lowest`, and `lowest` at least 0. It returns one number.
#
# For example, with `steps=6`, `warmup=2`, `highest=0.004` and `lowest=0.0004` the six rates are 0.002, 0.004, 0.004,
# 0.0031, 0.0013 and 0.0004.


# %% name="schedule" gptlib={"role": "answer", "exercise": "training.schedule", "points": 3}
def schedule(step, steps, warmup, highest, lowest):
    """Return the learning rate of a step.

    step: 0 to steps - 1.    steps: of the whole run.    warmup: steps of it, 0 to steps - 2.
    highest, lowest: the rates after the warmup and at the last step.
    Returns a number.
    """
    # answer
    if step < warmup:
        return highest * (step + 1) / warmup
    progress = (step - warmup) / (steps - 1 - warmup)  # 0 … 1
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2
    # end answer


# %% name="check_schedule" gptlib={"role": "check", "exercise": "training.schedule"}
check("training.schedule")

# %% [markdown] name="after_schedule"
# Hints: `check("training.schedule", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_step"
# ## 3. One step of AdamW
#
# *10 minutes, 4 points.*
#
# AdamW keeps two running means for every parameter: $m$ of its gradient, $v$ of its gradient's square. It moves along the
# first, divided by the root of the second, so that parameters with large gradients and with small ones move about equally
# far. Both means start at 0 and are too small at first; dividing by $1 - \beta^t$ makes up for that. Weight decay pulls
# the parameter towards 0 beside all this, and not through the gradient. That is what the W stands for (Loshchilov and
# Hutter 2017).
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2$$
#
# $$\hat m = \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad
# p \leftarrow p - \eta \lambda p - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon}$$
#
# Write `step(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay)`, without `torch.optim`:
#
# - `p` is a parameter, `g` its gradient, `m` and `v` its running means **before** this step: four tensors of one shape,
#   whatever that is, float32.
# - `t` is the number of this step, 1 for the first. `lr` is $\eta$, `weight_decay` is $\lambda$, `eps` is $\epsilon$.
# - It returns the tuple `(p, m, v)` after the step, as new tensors; the inputs stay as they are. The means are returned as
#   they are kept for the next step, without the hats.
# - On the right side of the last formula, both times, $p$ is the old one.
#
# For example, take `p = 1`, `g = 0.5` and `m = v = 0` at `t = 1`, with `lr=0.1`, `beta1=0.9`, `beta2=0.99`, an `eps` that
# hardly counts, and `weight_decay=0.1`. Then `m` is 0.05, `v` is 0.0025, and with hats they are 0.5 and 0.25. So the move is
# 0.1 · 0.5 / 0.5 = 0.1, the decay 0.1 · 0.1 · 1 = 0.01, and the new `p` is 0.89.


# %% name="step" gptlib={"role": "answer", "exercise": "training.step", "points": 4}
def step(p, g, m, v, t, lr, beta1, beta2, eps, weight_decay):
    """Take one step of AdamW.

    p, g, m, v: parameter, gradient and the running means before the step, of one shape.    t: 1 for the first step.
    lr, beta1, beta2, eps, weight_decay: numbers.
    Returns p, m and v after the step.
    """
    # answer
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    p = p - lr * weight_decay * p - lr * m_hat / (v_hat.sqrt() + eps)
    return p, m, v
    # end answer


# %% name="check_step" gptlib={"role": "check", "exercise": "training.step"}
check("training.step")

# %% [markdown] name="after_step"
# Hints: `check("training.step", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_clip"
# ## 4. Clip the gradient
#
# *6 minutes, 2 points.*
#
# Now and then a batch has a gradient ten times as long as usual. Clipping shortens it before the step: the direction
# stays, the length is cut to a limit. The length is that of **all** gradients together, as if their numbers stood in one
# long vector (Pascanu, Mikolov and Bengio 2012).
#
# Write `clip(gradients, limit)`, without `clip_grad_norm_`:
#
# - `gradients` is a list of three float32 tensors of any shapes. `limit` is a float above 0.
# - The norm is the root of the sum of the squares of all numbers in all tensors.
# - It returns the pair `(clipped, norm)`. `norm` is the norm **before**: one number, or a tensor without dimensions.
# - When the norm is above `limit`, `clipped` is the list of the gradients, each multiplied by `limit / norm`. When it is
#   not, `clipped` has the same numbers as `gradients`, also when they are all 0.
# - The tensors in `gradients` stay as they are. (In place, as `clip_grad_norm_` does it, would save memory.)
#
# For example, the gradients `[3., 0.]`, `[[0., -4.]]` and `[12.]` have the norm $\sqrt{9 + 16 + 144} = 13$. With
# `limit=1.0` they become `[3/13, 0.]`, `[[0., -4/13]]` and `[12/13]`.


# %% name="clip" gptlib={"role": "answer", "exercise": "training.clip", "points": 2}
def clip(gradients, limit):
    """Scale the whole gradient down to a norm.

    gradients: a list of three tensors.    limit: a float above 0.
    Returns the list of clipped tensors, and the norm before.
    """
    # answer
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    factor = limit / norm if norm > limit else 1.0
    return [g * factor for g in gradients], norm
    # end answer


# %% name="check_clip" gptlib={"role": "check", "exercise": "training.clip"}
check("training.clip")

# %% [markdown] name="after_clip"
# Hints: `check("training.clip", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="about_diagnose"
# ## 5. Six sick runs
#
# *20 minutes, 5 points.*
#
# One small GPT was trained on tales eight times, for 300 steps each. In six of the runs one line of code was wrong. Nothing
# raised an error, and in every one of them the loss fell. These are the illnesses:
#
# | name | the line that was wrong |
# |---|---|
# | `"initial scale"` | the token embedding, which is the output's matrix too, was left at PyTorch's own standard deviation, 1 and not 0.02 |
# | `"no warmup"` | the learning rate is at its highest from the first step on, and that is too much for fresh weights |
# | `"last position only"` | the loss is that of the last position of every window, and not the mean over all |
# | `"shifted targets"` | the targets were shifted twice: each is not the next token but the one after it |
# | `"leak"` | attention was called without `is_causal=True`: every position sees all of the window |
# | `"dropout in evaluation"` | `model.eval()` was forgotten: validation losses are measured, and samples written, with dropout on |
#
# The other two runs are `"healthy"`. This is what every run has logged:
#
# | name | what it is |
# |---|---|
# | `vocab_size` | 1024, the number of tokens V |
# | `floor` | the lowest loss that any model of tales can have, in nats per token (lesson 02) |
# | `train_loss` | (300,), the loss of each step's batch, before the step |
# | `learning_rate` | (300,), of each step |
# | `gradient_norm` | (300,), of each step, before it was clipped to 1 |
# | `eval_step` | (7,), how many steps had been taken when the validation loss was measured |
# | `val_loss` | (7,), the validation loss at these steps, the mean over all positions of 64 windows, the same ones each time |
# | `val_loss_again` | (7,), the same measured a second time at once: same windows, same weights |
# | `val_loss_by_position` | (64,), the last validation loss, at each position of the window |
# | `sample` | the beginning of a story that the model wrote, a token at a time, as always |
# | `known_pairs` | of all pairs of neighbouring tokens in eight such stories, the share that are neighbours somewhere in the training text |
# | `known_pairs_two_apart` | the same, but the share that stand two places apart somewhere in the training text |
#
# Wrong targets and a wrong mask are in the validation loss as well, since training and validation call the same code.
#
# The next three cells load the recorded runs, draw them, and put their numbers into a table. (`[end]` in a sample is
# `<|endoftext|>`.)

# %% name="load_runs"
from gptlib.measured import recorded

kept = recorded("sick_runs")
runs = {}
for name, run in zip("ABCDEFGH", sorted(kept["runs"], key=lambda run: run["log"]["sample"]), strict=True):
    runs[name] = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in run["log"].items()}
print("recorded by:", kept.command)

# %% name="show_runs" gptlib={"role": "reveal"}
from gptlib.plots import BLUE, GREY, VERMILION, picture, style

figure, axes = picture(
    9.4,
    13.5,
    alt="Eight runs of one model: losses, learning rates, gradient norms and losses by position. The table below has the numbers.",
)
axes.remove()
with style():
    panels = figure.subplots(len(runs), 4, sharex="col", sharey="col", width_ratios=[2, 1, 1, 1])
for row, (name, run) in zip(panels, runs.items(), strict=True):
    loss, rate, norm, place = row
    loss.plot(run["train_loss"], color=BLUE, linewidth=1, label="training")
    loss.plot(run["eval_step"], run["val_loss"], "o", color=VERMILION, markersize=4, label="validation")
    rate.plot(run["learning_rate"], color=BLUE, linewidth=1)
    norm.plot(run["gradient_norm"], color=BLUE, linewidth=1)
    place.plot(run["val_loss_by_position"], color=VERMILION, linewidth=1)
    for panel in (loss, place):
        panel.axhline(run["floor"], color=GREY, linestyle="--", linewidth=1, label="floor")
    for panel in row:
        panel.tick_params(labelsize=8)
    loss.set_ylabel(f"run {name}\n(nats per token)")
for panel, title in zip(panels[0], ("loss", "learning rate", "gradient norm", "last loss by position"), strict=True):
    panel.set_title(title)
for panel, label in zip(panels[-1], ("step", "step", "step", "position in the window"), strict=True):
    panel.set_xlabel(label)
panels[0][0].set(yscale="log", ylim=(0.05, 100), yticks=[0.1, 1, 10, 100], yticklabels=["0.1", "1", "10", "100"])
panels[0][2].set(yscale="log", ylim=(0.1, 100), yticks=[0.1, 1, 10, 100], yticklabels=["0.1", "1", "10", "100"])
panels[0][3].set_ylim(-0.2, 7)
panels[0][0].legend(fontsize=8, ncols=3, loc="upper right")
figure

# %% name="runs_in_numbers" gptlib={"role": "reveal"}
from gptlib import say

rows = [
    f"| {name} | {run['train_loss'][0]:.2f} | {run['train_loss'][-20:].mean():.2f} ± {run['train_loss'][-20:].std():.2f} "
    f"| {run['val_loss'][-1]:.3f} | {run['val_loss_again'][-1]:.3f} | {1000 * run['learning_rate'][0]:.2f} of {1000 * run['learning_rate'].max():.2f} "
    f"| {run['known_pairs']:.2f} | {run['known_pairs_two_apart']:.2f} | {' '.join(run['sample'].replace('<|endoftext|>', ' [end] ').split())[:110]} |"
    for name, run in runs.items()
]
say(
    "| run | first loss | training loss, last 20 steps | validation loss | measured again | learning rate at first, thousandths "
    "| known pairs | known pairs two apart | sample |\n|---|---|---|---|---|---|---|---|---|\n{rows}",
    rows="\n".join(rows),
)

# %% [markdown] name="look_first"
# **Look first.** Which run is ill with what, and which two are healthy? Write down a letter for each illness before you open the
# answer.
#
# <details><summary>Answer</summary>
#
# - **C, initial scale.** Its first loss is 61, where ln 1024 = 6.93 is what knowing nothing costs. After that it learns, only
#   later than others, which is why this illness so often stays unnoticed.
# - **B, leak.** Its validation loss is 0.07, and no model can get below the floor of 0.218. Where it writes, there is no
#   future to look at, and it has learned nothing else. By position the loss is 0 everywhere, except at the last, after which
#   nothing comes.
# - **F, dropout in evaluation.** Measured again, the validation loss is another one. It also lies no longer below the
#   training loss, as it does in the healthy run E, where dropout disturbs the training alone.
# - **H, shifted targets.** The loss looks like that of a run that is a little slow. The sample gives it away: every other word
#   is missing. Read samples. (In the numbers: 0.84 of its pairs are known two apart. That it has more of these than of
#   neighbours is no sign: A has few of both, and which it has more of is chance.)
# - **A, last position only.** 16 targets a step and not 1,024: the loss jumps, and after 300 steps little is learned.
# - **G, no warmup.** The learning rate begins at 0.01, and the loss ends at twice that of E, which has the same rate after a
#   warmup.
# - **D and E are healthy.** D has no warmup either, but a rate of 0.004, at which none is missed; it is merely slower than E.
#
# </details>
#
# Now write `diagnose(run)`, which finds this out by itself:
#
# - `run` is a dict with the names of the table above, like `runs["A"]`: tensors for what has a shape (float32, `eval_step`
#   int64), a text for `sample`, a number for each of the others.
# - It returns one of the seven names as a `str`: an illness or `"healthy"`.
# - It is tried on 17 other runs. They were computed from these eight, not trained: every run twice, once a little better and
#   once a little worse. What its loss lies above the floor (in a leak, below it) is at the end 2 to 6 % less or more, and the
#   noise of the losses and the shares of known pairs are drawn anew. `sample`, `learning_rate` and `gradient_norm` stay as they
#   were. One more healthy run has a noisier training loss, as from smaller batches.
# - No run has two illnesses. A limit that lies about halfway between what the ill and the healthy runs show above will do.
#
# For example, `diagnose(runs["C"])` is `"initial scale"`, and `diagnose(runs["E"])` is `"healthy"`.


# %% name="diagnose" gptlib={"role": "answer", "exercise": "training.diagnose", "points": 5}
def diagnose(run):
    """Say what a training run is ill with.

    run: a dict of what it has logged, with the names of the table above.
    Returns "healthy", "initial scale", "no warmup", "last position only", "shifted targets", "leak" or
    "dropout in evaluation".
    """
    # answer
    if run["train_loss"][0] > 1.5 * math.log(run["vocab_size"]):
        return "initial scale"
    if run["val_loss"][-1] < run["floor"]:
        return "leak"
    if (run["val_loss"] != run["val_loss_again"]).any():
        return "dropout in evaluation"
    if run["known_pairs_two_apart"] > run["known_pairs"] + 0.3:
        return "shifted targets"
    if run["val_loss"][-1] > 4:
        return "last position only"
    if run["learning_rate"][0] == run["learning_rate"].max() and run["val_loss"][-1] > 2.15:
        return "no warmup"
    return "healthy"
    # end answer


# %% name="check_diagnose" gptlib={"role": "check", "exercise": "training.diagnose"}
check("training.diagnose")

# %% [markdown] name="after_diagnose"
# Hints: `check("training.diagnose", hint=1)`, then `hint=2`, then `hint=3`.

# %% [markdown] name="built"
# ## What you built
#
# The parts of a training loop, and an eye for what it does. The library's own are `TokenData.batch` in `gptlib/training/data.py`,
# and `learning_rate_at`, `make_optimizers` and `clip_gradient` in `gptlib/training/step.py`; the loop around them is in
# `gptlib/training/loop.py`. The runs of the fifth exercise were made by `source/measure/sick_runs.py`, where each illness is the
# one line that is wrong. See where you stand over all exercises with the next cell.

# %% name="progress"
from gptlib.checks import progress

progress()
