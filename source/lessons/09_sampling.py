# %% [markdown] name="title"
# # Sampling: from probabilities to text
#
# {{badge}}
#
# After this lesson you can write the loop with which a GPT writes, say what temperature, top-k, top-p, min-p and penalties do
# to its probabilities and what they do not, find out by measuring which temperature is the honest one, and explain why a model
# that has made a mistake goes on as if it were none.
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | about a minute and a half on two CPU cores; no GPU, no network |
# | Know first | softmax and logits (lesson 03), cross-entropy, entropy and KL divergence (lesson 02) |
# | Afterwards | the four exercises of set 09, about 40 minutes |
#
# Shapes stand in the comments. `B` texts of `T` tokens lie side by side; `V` is the number of tokens that the model knows.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# Below, the bundled model continues *Otto lived* three times at temperature 0, three times at 0.7 and three times at 2.0.
#
# **Predict.** What will the three of a kind have in common? And which of the three kinds would you rather read?

# %% name="thing"
import math
import textwrap
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlib import GPT, GPTConfig, TrainConfig, generate, load_corpus, load_model, record, say, tales, train
from gptlib.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, picture, visible
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
END, V = tokenizer.end_id, tokenizer.vocab_size  # <|endoftext|>, which stands between stories
beginning = torch.tensor([[END, *tokenizer.encode("Otto lived")]])  # (1, T)
for temperature in (0, 0.7, 2.0):
    print(f"temperature {temperature}")
    for seed in (1, 2, 3):
        text = generate(model, beginning, 32, temperature=temperature, seed=seed)[0, 1:].tolist()
        print(
            textwrap.fill(
                tokenizer.decode(text).replace("\n", " "), 110, initial_indent="  - ", subsequent_indent="    "
            )
        )

# %% [markdown] name="thing_explained"
# At 0 the seed makes no difference. At 0.7 three stories begin, all of which could be. At 2.0 words fall out of their sentences
# and letters out of their words. It is one and the same model, and it computed its probabilities in one and the same way.
#
# ## Everything but the draw
#
# A GPT does not write texts. It takes a text and returns, for the token that comes next, a score for each of the V tokens: its
# **logits**. A softmax makes probabilities of them. Then somebody outside of the model chooses one token, appends it, and asks
# again. This is called **autoregression**: what comes out goes in again.
#
# The whole of it is a loop of four lines.


# %% name="loop"
def choose_and_append(text: Tensor, generator: torch.Generator) -> Tensor:
    logits = model(text)[0][:, -1]  # (B, T, V) -> (B, V): at the last position stands what follows the last token
    p = F.softmax(logits, dim=-1)  # (B, V)
    token = torch.multinomial(p, 1, generator=generator)  # (B, 1): the draw
    return torch.cat([text, token], dim=1)  # (B, T) -> (B, T + 1)


def write(text: Tensor, n: int, seed: int) -> str:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(n):
            text = choose_and_append(text, generator)
    return tokenizer.decode(text[0, 1:].tolist())


for seed in (1, 2):
    print(textwrap.fill(write(beginning, 50, seed), 110), "\n")

# %% [markdown] name="loop_predict"
# **Predict.** Which of the four lines can give something else when it is run again with the same text? And how much of a text
# can the model plan ahead in this loop?
#
# <details><summary>Answer</summary>
#
# Only the draw. The logits are a calculation, and the same weights and the same text give the same logits. (On a GPU that sums
# in another order, or in another batch, the last digits may differ, and where two tokens are nearly tied so may the choice.)
#
# Nothing is kept from one round to the next but the text. Whatever was "planned" has to be found in the text again, by reading
# it. The cache of lesson 13 keeps some of what was computed, and changes nothing about that: it is the same numbers, not
# computed twice.
#
# </details>

# %% name="deterministic"
scene = "Otto lived in the lighthouse. He often had supper with Nora. One morning Otto"
ids = torch.tensor([[END, *tokenizer.encode(scene)]])  # (1, T)
with torch.no_grad():
    scene_logits, again = (model(ids)[0][:, -1] for _ in range(2))  # 2 × (1, V)
p = scene_logits.softmax(-1)[0]  # (V,)
draws = torch.multinomial(p, 10_000, replacement=True, generator=torch.Generator().manual_seed(0))  # ids
share = draws.bincount(minlength=V) / 10_000  # (V,)
print("logits the same to the last bit:", torch.equal(scene_logits, again))
for i in p.topk(6).indices.tolist():
    print(f"{tokenizer.decode([i])!r:10} p = {p[i]:.3f}, drawn in {share[i]:.3f} of 10,000 draws")

# %% [markdown] name="wrong_loops"
# ## Wrong first
#
# Three small slips, all of which run without an error: giving the model its last token only; reading the logits at the first
# position; and forgetting to append. Here each writes greedily, that is, it takes the most probable token each time.


# %% name="wrong_loops_code"
def greedy(text: Tensor, n: int, seen=lambda text: text, position: int = -1, append: bool = True) -> str:
    new = []
    with torch.no_grad():
        for _ in range(n):
            token = model(seen(text))[0][0, position].argmax()
            new.append(token.item())
            if append:
                text = torch.cat([text, token[None, None]], dim=1)
    return tokenizer.decode(new)


slips = {
    "right": {},
    "the last token only": {"seen": lambda text: text[:, -1:]},
    "logits of the first position": {"position": 0},
    "nothing appended": {"append": False},
}
for name, slip in slips.items():
    print(f"{name:30}…{greedy(beginning, 18, **slip)}")

# %% [markdown] name="wrong_loops_explained"
# With the last token only, the model has forgotten everything else at each step. At the first position stands the prediction
# for what follows the end mark, which is how stories begin. And without appending, the same question is asked again and gets
# the same answer.

# %% [markdown] name="temperature"
# ## Temperature
#
# Between logits and softmax there is room for a knob. Divide the logits $z_i$ by a **temperature** $\tau$:
#
# $$p_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}}$$
#
# What it does is seen best at two tokens. The ratio of their probabilities, $p_i / p_j$, becomes $(p_i / p_j)^{1/\tau}$. If one
# is 9 times as probable as the other, it is 81 times as probable at $\tau = 0.5$ and 3 times at $\tau = 2$. Which of the two is
# ahead never changes, so no temperature makes a model prefer something else.
#
# **Predict.** Take $\tau = 0$ in this formula. What comes out?

# %% name="temperature_zero"
three = torch.tensor([2.0, 1.0, 0.0])  # logits
for tau in (2.0, 1.0, 0.5, 0.1, 0.0):
    print(f"temperature {tau}: {(three / tau).softmax(-1).numpy().round(4)}")

# %% [markdown] name="temperature_zero_explained"
# NaN: 2 / 0 is infinite, and a softmax over infinities divides one by another. One reads that a program
# at temperature 0 divides by zero. None does: "temperature 0" is a *name* for the limit, and the limit is **greedy** choice:
# all the probability goes to the largest logit, by argmax. Here is our own version, and what transformers, the best-known
# library of models for PyTorch, does when it is asked for a zero.


# %% name="temperature_code"
def at_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities (B, V) of logits (B, V)."""
    if temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)  # (B, 1); of equal ones the lowest id
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    return F.softmax(logits / temperature, dim=-1)


from transformers.generation.logits_process import TemperatureLogitsWarper

print(at_temperature(three[None], 0))
try:
    TemperatureLogitsWarper(0.0)
except ValueError as error:
    print("transformers:", error)

# %% name="temperature_plot" gptlib={"role": "reveal"}
shown = scene_logits[0].topk(12).indices
taus = {0: VERMILION, 0.7: ORANGE, 1: BLUE, 2: GREEN}
bars = {tau: at_temperature(scene_logits, tau)[0] for tau in taus}
figure, axes = picture(
    7.4,
    3.0,
    title="One set of logits, four temperatures; the order never changes",
    alt="Probabilities of the twelve best tokens at temperatures 0, 0.7, 1 and 2. Largest: "
    + ", ".join(f"{bar.max():.2f} at {tau}" for tau, bar in bars.items()),
)
for k, (tau, bar) in enumerate(bars.items()):
    axes.bar(torch.arange(12) + 0.2 * (k - 1.5), bar[shown], width=0.2, color=taus[tau], label=f"temperature {tau}")
axes.set_xticks(range(12), [visible(t) for t in tokenizer.tokens(shown.tolist())], rotation=45)
axes.set(ylabel="probability", ylim=(0, 1.05))
axes.legend(frameon=False)
tail = {tau: 1 - bar[shown].sum() for tau, bar in bars.items()}
say(
    "All other {n:,} tokens share {one:.2%} at temperature 1 and {two:.0%} at temperature 2. The **entropy** of what is drawn from is "
    "{h0:.1f} nats at 0, {h07:.2f} at 0.7, {h1:.2f} at 1 and {h2:.2f} at 2.",
    n=V - 12,
    one=tail[1],
    two=tail[2],
    **{f"h{str(tau).replace('.', '')}": torch.special.entr(bar).sum() for tau, bar in bars.items()},
)
figure

# %% [markdown] name="truth"
# ## Which temperature tells the truth?
#
# The stories come from a small world whose probabilities are known: `tales` computes exactly how often each token comes next
# after any beginning. So we can ask something that for English nobody can: at which temperature are the probabilities from
# which we draw nearest to the true ones? As in lesson 02 the distance is the KL divergence from the truth to the model,
# averaged over all positions of some stories that the model has not read.
#
# **Predict.** Will it be 0.7, which so many programs have as their default? 1? Or more, since a small model is too sure of
# itself?

# %% name="truth_code"
test_stories = tales.split("test", 40)
world = tales.world().truth(tokenizer)
texts = [[END, *tokenizer.encode(story.text)] for story in test_stories]
truth = torch.zeros(sum(map(len, texts)), V)  # (N, V): a distribution for each position
row = iter(truth)
for text in texts:
    for after in world.along(text[1:], range(len(text))):  # after the first t tokens of the story, t = 0, 1, …
        next(row)[list(after)] = torch.tensor(list(after.values()))
true_entropy = torch.special.entr(truth).sum(-1).mean()


def all_logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(torch.tensor([text]))[0][0] for text in texts])  # (N, V)


taus = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0]


def divergence(logits: Tensor) -> dict[float, float]:
    """From temperature to mean KL(truth ‖ model at it), in nats per token."""
    return {tau: (-(truth * (logits / tau).log_softmax(-1)).sum(-1).mean() - true_entropy).item() for tau in taus}


bundled_logits = all_logits(model)
bundled = divergence(bundled_logits)
best = min(bundled, key=bundled.get)

# %% name="truth_answer" gptlib={"role": "reveal"}
drawn_entropy = {tau: torch.special.entr((bundled_logits / tau).softmax(-1)).sum(-1).mean() for tau in (0.5, 1.0, 2.0)}
reveal(
    "Near 1: the best of those tried is {best}, with {least:.4f} nats per token; at 1 it is {one:.4f}, at 0.7 {warm:.4f}, at 0.3 {cold:.3f} "
    "and at 2 {hot:.2f}. The entropy of what is drawn from is {low:.3f} nats per token at 0.5, {own:.3f} at 1 and {high:.2f} at 2. The world's own "
    "is {entropy:.3f}.",
    question="Answer",
    best=near(best, 0.9, 0.1),
    least=bundled[best],
    one=near(bundled[1.0], 0.0047, 0.002),
    warm=bundled[0.7],
    cold=bundled[0.3],
    hot=near(bundled[2.0], 0.16, 0.05),
    low=drawn_entropy[0.5],
    own=near(drawn_entropy[1.0], 0.224, 0.02),
    high=drawn_entropy[2.0],
    entropy=true_entropy,
)

# %% [markdown] name="why_one"
# Why 1? Nobody set it. Suppose that another temperature were better on the training text. Then the model could get a lower loss
# by scaling all its logits, and it can do that: the norm before its last matrix has a gain for each feature, and a common
# factor on these is a factor on all logits. Training goes downhill in *every* direction, this one included. So it goes on until
# temperature 1 is the best one, on the text that it is trained on.
#
# That argument says nothing about how good a model is. It needs only that the training has got somewhere, and that the text it
# is asked about is like the text it was trained on. So take two worse models, and try.
#
# **Predict.** One model has seen little: a few hundred steps on 5,000 stories. The other has seen the same 100 stories over and
# over. Below 1, at 1 or above 1: where is the best temperature of each, measured on new stories?


# %% name="two_models"
corpus = load_corpus("tales:5000")
small = GPTConfig.preset("tales", vocab_size=V, n_layer=2)
recipe = {"batch_size": 8, "learning_rate": 0.01, "warmup_steps": 20, "optimizer": "muon", "eval_every": 1000}
recipe |= {"precision": "fp32", "device": "cpu"}


def taught(n_stories: int, steps: int) -> GPT:
    stories = corpus.train.split(corpus.separator)[:n_stories]
    part = type(corpus)("part", corpus.separator.join([*stories, ""]), corpus.validation[:20_000], "", corpus.separator)
    torch.manual_seed(0)
    pupil = GPT(small)
    result = train(pupil, part, tokenizer, TrainConfig(steps=steps, **recipe), verbose=False)
    print(f"{n_stories:,} stories, {steps} steps: training loss {result.log[-1]['loss']:.2f} nats per token")
    return pupil.eval()


little = taught(5000, 200)

# %% name="two_models_second"
narrow = taught(100, 200)
print(f"on new stories: {tales.evaluate(little, tokenizer, test_stories).nats_per_token:.2f} and "
      f"{tales.evaluate(narrow, tokenizer, test_stories).nats_per_token:.2f} nats per token")  # fmt: skip

# %% name="two_models_answer" gptlib={"role": "reveal"}
curves = {
    "bundled model": bundled,
    "little training": divergence(all_logits(little)),
    "100 stories again and again": divergence(all_logits(narrow)),
}
bests = {name: min(curve, key=curve.get) for name, curve in curves.items()}
by_heart = [[END, *tokenizer.encode(story), END] for story in corpus.train.split(corpus.separator)[:40]]
with torch.no_grad():
    own_logits = torch.cat([narrow(torch.tensor([text]))[0][0, :-1] for text in by_heart])  # (N, V)
own_targets = torch.tensor([token for text in by_heart for token in text[1:]])  # (N,)
own_best = min(taus, key=lambda tau: F.cross_entropy(own_logits / tau, own_targets).item())
figure, axes = picture(
    6.6,
    3.4,
    title="A model that generalises is nearest to the truth near temperature 1",
    alt="; ".join(f"{name}: best at {bests[name]}, {curve[bests[name]]:.3f} nats" for name, curve in curves.items()),
)
for (name, curve), colour, mark in zip(curves.items(), (BLUE, GREEN, VERMILION), "osD", strict=True):
    axes.plot(list(curve), list(curve.values()), color=colour, label=name)
    axes.plot(bests[name], curve[bests[name]], mark, color=colour)
axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
axes.set_yscale("log")
axes.set(xlabel="temperature (mark: the best)", ylabel="KL from the truth (nats per token)")
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
reveal(
    "Little training: {little}. A hundred stories again and again: {narrow}, which lowers its divergence from {at_one:.2f} to {at_best:.2f} nats per token; "
    "on the hundred stories themselves its best is {own}. For comparison, the bundled model: {bundled}.",
    question="Answer",
    little=near(bests["little training"], 0.9, 0.15),
    narrow=near(bests["100 stories again and again"], 1.5, 0.3),
    own=own_best,
    at_one=curves["100 stories again and again"][1.0],
    at_best=min(curves["100 stories again and again"].values()),
    bundled=bests["bundled model"],
)
figure

# %% [markdown] name="two_models_explained"
# The model with little training is some fifty times further from the truth than the bundled one, and its best temperature is
# the same: near 1, and nearly as good at 1. What it lacks is knowledge, and it says so, in flat distributions. The other knows
# its hundred stories by heart. On *them* it could be surer still; on new ones it is far too sure, and a temperature above 1
# takes some of that back. It does not bring it near the truth, for no temperature changes which token is ahead.
#
# So the best temperature on new text measures overconfidence, and a model that generalises has one near 1. (That it is 0.9 here
# and not 1 we can measure and not explain; around its minimum the curve is nearly flat.) Where, then, do the 0.7 and 0.8 come
# from that so many programs have as their default? Not from the truth about tokens.

# %% [markdown] name="whole_stories"
# ## One token is not a text
#
# The honest temperature is the one at which tokens come as often as they should. Is it also the one at which the model writes
# the best stories? Let it write some at each temperature, from the end mark to the end mark, and ask the world: does any of its
# stories go like this? (`tales.log_prob` is −∞ for a text that it never tells.)
#
# **Predict.** At which temperature are most stories without a mistake: 0, 0.5 or 1? At which do they differ most?


# %% name="whole_stories_code"
def stories_of(rows: Tensor) -> list[str | None]:
    """The text of each row up to its end mark; None where it has none."""
    lists = [row[1:].tolist() for row in rows]  # without the end mark that each begins with
    return [tokenizer.decode(row[: row.index(END)]) if END in row else None for row in lists]


@cache
def tell(n: int = 64, **settings) -> list[str | None]:
    start = torch.full((n, 1), END)  # (B, 1): each row begins after an end mark
    return stories_of(generate(model, start, 200, stop_id=END, seed=0, **settings))


def possible(story: str | None) -> bool:
    return story is not None and tales.log_prob(story) > -math.inf


of_the_world = tales.sample(seed=0, n=1000)
off_language = truth == 0  # (N, V): tokens that no story has there
told, slip_rate = {}, {}
for tau in (0.0, 0.5, 0.7, 1.0, 1.5, 2.0):
    told[tau] = tell(temperature=tau)
    slip_rate[tau] = (at_temperature(bundled_logits, tau) * off_language).sum(-1).mean().item()

# %% name="whole_stories_answer" gptlib={"role": "reveal"}
length = sum(map(len, texts)) / len(texts)  # tokens of a story, on average
table = {
    tau: (
        sum(map(possible, stories)) / len(stories),
        len({(s or "").split(".")[0] for s in stories}) / len(stories),
        sum(s is not None and "can run faster" in s for s in stories) / len(stories),
    )
    for tau, stories in told.items()
}
races = sum("can run faster" in story.text for story in of_the_world) / len(of_the_world)
reveal(
    "| temperature | no mistake | different first sentences | tell of a race | slips per token | (1 − slips) to the length of a story |\n|---|---|---|---|---|---|\n{rows}\n\n"
    "Of the world's own stories {races:.0%} tell of a race, and a story has {length:.0f} tokens on average.",
    question="Answer",
    rows="\n".join(
        f"| {tau} | {ok:.0%} | {different:.0%} | {race:.0%} | {slip_rate[tau]:.3%} | {(1 - slip_rate[tau]) ** length:.0%} |"
        for tau, (ok, different, race) in table.items()
    ),
    races=races,
    length=length,
)
figure, axes = picture(
    6.2,
    3.0,
    title="Above 1 noise; far below 1 the favourites, right or not",
    alt="; ".join(
        f"at {tau} {ok:.0%} without a mistake, {different:.0%} different first sentences"
        for tau, (ok, different, _) in table.items()
    ),
)
for column, (name, mark) in enumerate(
    {"no mistake": "o-", "different first sentences": "s--", "tell of a race": "^:"}.items()
):
    axes.plot(list(table), [100 * entry[column] for entry in table.values()], mark, label=name)
axes.set(xlabel="temperature", ylabel="share of 64 stories (%)", ylim=(-4, 104))
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown] name="whole_stories_explained"
# At 0 the model has one story, told 64 times, and it happens to break a rule, so that none is right. At 2 hardly a sentence
# holds. In between lies a reason for those defaults of 0.7 and 0.8. A story is without a mistake only if *each* of its
# hundred-odd tokens is. The fifth column is how often a token would be drawn that no story has there, measured along true
# stories; the sixth raises the rest to the length of a story, and comes close to what was counted. A slip in some 350 tokens
# sounds like little, and ruins every third story. A temperature a little below 1 makes the tail thinner and touches the rest
# less.
#
# Far below 1 this turns. The favourites win everywhere: at 0.5 the model tells of races far more often than the world does, and
# races are what it often gets wrong. The estimate in the sixth column does not see that, because it was measured along true
# stories, and those are no longer what is being written. Lesson 00 met the same thing from outside.

# %% [markdown] name="not_truer"
# ### "A low temperature makes it truthful"
#
# And "a high one makes it creative". Neither. A temperature can only stretch or squeeze what the model believes. In lesson 00
# the model made up pets for people whose pets no story tells. Here is the probability that it gives to the true pet, and to its
# own favourite.

# %% name="not_truer_code"
from gptlib.tales.people import PETS

people = tales.world().people
pets = list(PETS)


logits_of = {}
for person in people:
    begun = tokenizer.encode(f"<|endoftext|>{person.name} had")
    for pet in pets:
        text = tokenizer.encode(f"<|endoftext|>{person.name} had {PETS[pet]}")
        with torch.no_grad():  # the logits before each token of the pet, (n, V), and these tokens
            logits_of[person.name, pet] = model(torch.tensor([text]))[0][0, len(begun) - 1 : -1], text[len(begun) :]


def pet_probabilities(tau: float) -> Tensor:
    found = torch.zeros(len(people), len(pets))
    for i, person in enumerate(people):
        for j, pet in enumerate(pets):
            logits, chosen = logits_of[person.name, pet]
            found[i, j] = (logits / tau).softmax(-1)[range(len(chosen)), chosen].prod()
    return found / found.sum(1, keepdim=True)  # among the pets there are


true_pet = torch.tensor([pets.index(person.facts["pet"]) for person in people])
untold = torch.tensor(["pet" in person.never_told for person in people])
lines = []
for tau in (0.1, 0.5, 1.0, 2.0):
    p = pet_probabilities(tau)
    right = p[range(len(people)), true_pet]
    lines.append(
        f"| {tau} | {right[~untold].mean():.1%} | {p[untold].max(1).values.mean():.0%} | {right[untold].mean():.2%} |"
    )
say(
    "| temperature | true pet, where stories tell it | its favourite, where none does | the true pet there |\n|---|---|---|---|\n{lines}",
    lines="\n".join(lines),
)

# %% [markdown] name="not_truer_explained"
# Where it knows, it knows at every temperature. Where it does not, a low temperature makes it *sound* sure and leaves it as
# wrong as before. And the variety at a high temperature is that of a dice-player: the tokens that rise are those that the model
# thought worse.
#
# ## Loops
#
# Ask for more than a story. Nothing makes `generate` end at the end mark unless it is told to; then the model begins another
# story, and another. When the text is longer than the model can read (256 tokens here), the older half is forgotten.
#
# **Predict.** At temperature 0, how many different stories will it tell?

# %% name="loops_greedy"
for_ever = generate(model, torch.tensor([[END]]), 900, temperature=0, slide=True)[0, 1:].tolist()
for story in tokenizer.decode(for_ever).split("<|endoftext|>")[:-1]:
    print(textwrap.shorten(story, 108, placeholder=" …"))

# %% [markdown] name="loops_why"
# Three, and from the second on it goes round between two. In this case one need not ask what the model was thinking. At
# temperature 0 the next token is a *function* of the tokens that the model sees. There are only finitely many texts of up to
# 256 tokens, so one of them must come a second time if the model writes for long enough, and from there on everything does.
# Greedy choice in a finite window ends in a loop, always, for every model. What differs is how soon, and how long the loop is:
# give the same model a shorter window, and look.

# %% name="loops_window"
rows = []
for window in (1, 2, 4, 8, 16, 32):
    text, seen, found = [END], {}, None
    while found is None and len(text) < 400:
        state = tuple(text[-window:])  # all that the next token depends on
        if state in seen:
            found = seen[state], len(text) - seen[state]
        seen[state] = len(text)
        with torch.no_grad():
            text.append(model(torch.tensor([state]))[0][0, -1].argmax().item())
    loop = tokenizer.decode(text[found[0] : found[0] + found[1]]) if found else ""
    rows.append(
        f"| {window} | {found[0] if found else '–'} | {found[1] if found else '–'} | {textwrap.shorten(loop, 70, placeholder=' …')} |"
    )
say(
    "| window (tokens) | goes round from token | length of the loop | the loop |\n|---|---|---|---|\n{rows}",
    rows="\n".join(rows),
)

# %% [markdown] name="loops_temperature"
# A model's window is long, and real loops come sooner than that argument needs. A text that has repeated itself twice is
# evidence that it does so, and a model that has learned to continue patterns continues this one: each round makes the next more
# probable. Does it here? Put one sentence several times in a row, and look how probable each copy is.

# %% name="loops_reinforce"
sentence = tokenizer.encode(" So they went back together.")
prefix = [END, *tokenizer.encode("Otto lived in the lighthouse.")]
with torch.no_grad():
    repeated = torch.tensor([prefix + 8 * sentence])  # (1, T)
    log_p = model(repeated)[0].log_softmax(-1)[0, :-1].gather(1, repeated[0, 1:, None])[:, 0]  # (T - 1,)
copies = log_p[len(prefix) - 1 :].view(8, -1).sum(-1)  # (8,): of each copy
for k, nats in enumerate(copies.tolist(), 1):
    print(f"copy {k}: {nats:7.1f} nats, {nats / len(sentence):6.2f} per token")

# %% [markdown] name="loops_reinforce_explained"
# Here it does not: the eighth copy is no more expected than the first. No story that this model was trained on says a sentence
# twice, so it has not learned that texts do. In models that were trained on the web the effect is strong. Holtzman and others
# (2019) saw the probability of a repeated phrase rise with every copy. (The heads that do it are called induction heads; lesson
# 11 looks for them.)
#
# How much does a text repeat itself? Count its runs of four tokens, and say how many are different ones. Three texts for each
# temperature, of 600 tokens each, with the end mark ignored:

# %% name="loops_measure"
from gptlib.generation import left_pad

prompts, padding = left_pad([[END, *tokenizer.encode(person.name)] for person in people[:3]])  # (3, T)


def distinct(rows: Tensor, n: int = 4) -> float:
    runs = [[tuple(run) for run in row.unfold(0, n, 1).tolist()] for row in rows]
    return sum(len(set(each)) for each in runs) / sum(map(len, runs))


temperatures = (0, 0.7, 1.0, 2.0)
long_texts = {
    tau: generate(model, prompts, 600, temperature=tau, slide=True, seed=0, padding=padding)[:, -600:]
    for tau in temperatures
}
repeats = {tau: 1 - distinct(rows) for tau, rows in long_texts.items()}
stream = torch.tensor(tokenizer.encode("<|endoftext|>".join(story.text for story in of_the_world[:40])))
world_repeats = 1 - distinct(stream[:3600].view(6, 600))
say(
    "| temperature | runs of four that came before |\n|---|---|\n{rows}\n\nIn stories of the world, cut to the same length: {world:.0%}.",
    rows="\n".join(f"| {tau} | {share:.0%} |" for tau, share in repeats.items()),
    world=world_repeats,
)

# %% [markdown] name="loops_measure_explained"
# At 0 the texts go round before they are through; with more tokens the share would go on rising. At 0.7 and 1 a text repeats
# itself about as often as the world does, whose stories share their phrases too. At 2 it repeats itself least of all, which
# shows what the measure is worth alone: noise never says anything twice.
#
# ## Cutting off the tail
#
# Temperature 1 slips, and lower temperatures narrow the choice. What one would like is to keep the head of the distribution as
# it is, and to be rid of the tail: the thousand tokens that have a few thousandths between them. Filters do that. A **filter**
# takes logits and returns logits, with −∞ where a token is ruled out, since $e^{-\infty}$ is exactly 0.
#
# - **Top-k** keeps the k best.
# - **Top-p**, also called nucleus sampling, keeps the fewest that together have a probability of at least p.
# - **Min-p** keeps those with at least the fraction m of the best one's probability.


# %% name="filters"
def top_k(logits: Tensor, k: int) -> Tensor:
    kth = logits.topk(min(k, logits.size(-1))).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < kth, -math.inf)  # (B, V)


def top_p(logits: Tensor, p: float) -> Tensor:
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)  # (B, V), and which token each was
    q = F.softmax(ordered, dim=-1)
    before = q.cumsum(dim=-1) - q  # the probability of all that stand ahead
    drop = before >= p  # enough without it
    return logits.masked_fill(drop.scatter(-1, ids, drop), -math.inf)


def min_p(logits: Tensor, m: float) -> Tensor:
    q = F.softmax(logits, dim=-1)
    return logits.masked_fill(q < m * q.amax(dim=-1, keepdim=True), -math.inf)


settings = {"k = 10": (top_k, 10), "p = 0.9": (top_p, 0.9), "m = 0.05": (min_p, 0.05)}
after_the = torch.tensor([[END, *tokenizer.encode("Otto lived in the lighthou")]])
with torch.no_grad():
    sure_logits = model(after_the)[0][:, -1]  # (1, V)
for place, logits in {"… One morning Otto": scene_logits, "… in the lighthou": sure_logits}.items():
    kept = {name: int(f(logits, x).isfinite().sum()) for name, (f, x) in settings.items()}
    print(f"{place:20}", ", ".join(f"{name} keeps {n}" for name, n in kept.items()))

# %% [markdown] name="filters_explained"
# After *lighthou* only one token can come. Top-k keeps nine others all the same, because it counts tokens. Top-p and min-p look
# at the probabilities, and adapt.
#
# ### Wrong first: three filters that do not work
#
# **A finite number in place of −∞.** Many programs write −1e4, or 0, into the places of the dropped tokens. **Predict:** with
# top-k and zeros, how much probability do the dropped tokens get?

# %% name="finite_fill"
fills = {"-inf": -math.inf, "-1e9": -1e9, "-30": -30.0, "0": 0.0}
kth = scene_logits.topk(10).values[:, -1:]
for tau in (1.0, 5.0):
    leaks = {
        name: at_temperature(scene_logits.masked_fill(scene_logits < kth, fill), tau)[scene_logits < kth].sum()
        for name, fill in fills.items()
    }
    print(f"temperature {tau}:", ", ".join(f"fill {name}: {leak:.1e}" for name, leak in leaks.items()))

# %% [markdown] name="finite_fill_explained"
# Zero is a logit like any other, and there are a thousand of them. With −30 the leak is small until somebody turns up the
# temperature. −1e9 holds, in 32-bit numbers and at temperatures in use; half precision cannot even write it. −∞ needs no
# argument.
#
# **Top-p that stops short.** One reads that top-p "keeps the tokens whose cumulative probability is below p". Then the token
# with which the sum *reaches* p is dropped.


# %% name="top_p_below"
def top_p_below(logits: Tensor, p: float) -> Tensor:
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    drop = F.softmax(ordered, dim=-1).cumsum(dim=-1) > p  # and this is the mistake
    return logits.masked_fill(drop.scatter(-1, ids, drop), -math.inf)


four = torch.tensor([[0.5, 0.25, 0.2, 0.05]]).log()
for p in (0.9, 0.3):
    for f in (top_p, top_p_below):
        q = f(four, p).softmax(-1)[0]
        print(f"p = {p}, {f.__name__:12} {q.numpy().round(3)}, of the truth {four.exp()[0][q > 0].sum():.2f} kept")

# %% [markdown] name="top_p_below_explained"
# With p = 0.9 it keeps 0.75. With p = 0.3 it keeps nothing, and a softmax over nothing is NaN: the best token alone has more
# than p. In a language model that is the usual case, at every place where the model is sure.
#
# **The order of filters.** "It makes no difference." For temperature and top-k it does not: temperature changes no rank. For
# top-p it does.

# %% name="order"
tau, p = 2.0, 0.9
first = top_p(scene_logits / tau, p).isfinite().sum().item()  # temperature, then top-p
last = top_p(scene_logits, p).isfinite().sum().item()  # top-p, then temperature
k_first, k_last = top_k(scene_logits / tau, 10), top_k(scene_logits, 10) / tau
m_first, m_last = (int(x.isfinite().sum()) for x in (min_p(scene_logits / tau, 0.01), min_p(scene_logits, 0.01) / tau))
say(
    "At temperature {tau:.0f}, top-p 0.9 keeps {first} tokens when the temperature comes first and {last} when it comes last; min-p 0.01 keeps {m_first} or "
    "{m_last}. Top-k keeps the same ones either way: {same}.",
    tau=tau,
    first=first,
    last=last,
    m_first=m_first,
    m_last=m_last,
    same="yes" if torch.allclose(k_first, k_last) else "no",
)

# %% [markdown] name="order_explained"
# The library here divides by the temperature first, then takes top-k, top-p and min-p, as transformers does. Others, such as
# llama.cpp, apply the temperature last. So the same three numbers are different settings in different programs, most of all at
# high temperatures.
#
# ### What a filter buys, and what it costs
#
# The truth is known, so both sides of the bargain can be counted: how much probability still goes to tokens that no story has
# there, and how much of what the world *does* say can no longer be said.
#
# **Predict.** Which setting cuts off the most of the tail without touching the truth?

# %% name="bargain"
ways = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.7": {"temperature": 0.7},
    "top-k 40": {"top_k": 40},
    "top-k 3": {"top_k": 3},
    "top-p 0.9": {"top_p": 0.9},
    "top-p 0.99": {"top_p": 0.99},
    "min-p 0.05": {"min_p": 0.05},
    "temperature 2": {"temperature": 2.0},
    "temperature 2, top-p 0.9": {"temperature": 2.0, "top_p": 0.9},
    "temperature 2, min-p 0.2": {"temperature": 2.0, "min_p": 0.2},
}


def through(logits: Tensor, temperature: float = 1.0, **filters) -> Tensor:
    """Probabilities (B, V): temperature, then the filters."""
    logits = logits / temperature
    for name, f in (("top_k", top_k), ("top_p", top_p), ("min_p", min_p)):
        if name in filters:
            logits = f(logits, filters[name])
    return F.softmax(logits, dim=-1)


lines = []
for name, way in ways.items():
    q = through(bundled_logits, **way)  # (N, V)
    slips = (q * off_language).sum(-1).mean()
    lost = (truth * (q == 0)).sum(-1).mean()
    stories = tell(**way)
    lines.append(f"| {name} | {slips:.3%} | {lost:.2%} | {sum(map(possible, stories)) / len(stories):.0%} |")

# %% name="bargain_answer" gptlib={"role": "reveal"}
reveal(
    "| | slips per token | of the truth, unsayable | stories without a mistake |\n|---|---|---|---|\n{lines}",
    question="Answer",
    lines="\n".join(lines),
)

# %% [markdown] name="bargain_explained"
# Plain temperature 1 loses nothing, and every filter trades some of what can be said for fewer slips. Top-k pays the worst
# price: three tokens are too many where one is right, and too few where ten are, so it slips *and* cannot say what the world
# says. Top-p and min-p remove about as much of the tail and leave nearly all of the truth. At temperature 2 top-p is of little
# use, because it counts a tail that the heat has made heavy: more than a hundred bad tokens can be needed to get to 0.9. Min-p
# compares with the best token, and a large value of it brings the story back.
#
# None of them makes a token more probable because it is *true*. They cut by size, and what is small and right goes with what is
# small and wrong.
#
# ## Penalties
#
# Against loops, some programs make tokens that the text already holds less probable. The **repetition penalty** of CTRL (2019)
# divides their logits by a number such as 1.2. Implementations multiply where a logit is negative, because dividing would raise
# it.


# %% name="penalty"
def penalise(logits: Tensor, text: Tensor, penalty: float) -> Tensor:
    seen = logits.gather(1, text)  # (B, T): the logits of the tokens in the text
    return logits.scatter(1, text, torch.where(seen > 0, seen / penalty, seen * penalty))  # (B, V)


said = torch.tensor([[END, *tokenizer.encode(scene + ' met Sam. "I can run faster than you," said')]])  # (1, T)
with torch.no_grad():
    said_logits = model(said)[0][:, -1]  # (1, V)
otto_id = tokenizer.encode(" Otto")[0]
for shift in (-10, 0, 10, 30):
    before, after = said_logits + shift, penalise(said_logits + shift, said, 1.3)
    p, q = (z.softmax(-1)[0, otto_id].item() for z in (before, after))
    print(f"all logits {shift:+3}: p of Otto {p:.3f}, with the penalty {q:.3f}")

# %% [markdown] name="penalty_predict"
# A softmax does not care whether 10 is added to all logits. The penalty does: its effect hangs on where the logits happen to
# lie, which nothing in training determines. It is a knob to be tried out anew for each model. (Other programs *subtract*: a
# **presence penalty** the same from each token that has occurred, a **frequency penalty** as much again for each time that it
# has. To these it makes no difference where the logits lie.)
#
# **Predict.** It is meant to end loops. What will it do to stories that do not loop?

# %% name="penalty_cost" gptlib={"role": "reveal"}
lines = []
for penalty in (1.0, 1.2, 1.5):
    stories = tell(temperature=1.0) if penalty == 1 else tell(temperature=1.0, repetition_penalty=penalty)
    looped = generate(model, prompts, 600, temperature=0, slide=True, padding=padding, repetition_penalty=penalty)[
        :, -600:
    ]
    lines.append(f"| {penalty} | {1 - distinct(looped):.0%} | {sum(map(possible, stories)) / len(stories):.0%} |")
reveal(
    "| penalty | runs of four that came before, at temperature 0 | stories without a mistake, at temperature 1 |\n|---|---|---|\n{lines}\n\n"
    "A story needs its words again: full stops, *the*, and above all the names of those it is about. The penalty cannot tell a loop from a hero.",
    question="Answer",
    lines="\n".join(lines),
)

# %% [markdown] name="beams"
# ## Looking for the best text
#
# If each token is drawn or chosen on its own, why not look for the text that is most probable as a whole? There are too many to
# try them all. **Beam search** keeps the K most probable beginnings, continues each of them by every token, keeps the best K of
# all these, and so on. With K = 1 it is greedy choice.
#
# **Predict.** How will the probability of what it finds grow with K? And how will the stories read?

# %% name="beams_code"
from gptlib import beam_search

found = {
    K: beam_search(model, torch.tensor([[END]]), 220, beams=K, length_penalty=0, stop_id=END)[0][0]
    for K in (1, 2, 4, 8, 16)
}
best_stories = {K: tokenizer.decode(beam.ids[1:-1].tolist()) for K, beam in found.items()}

# %% name="beams_answer" gptlib={"role": "reveal"}
world_log_probs = torch.tensor([story.log_prob for story in of_the_world])
rows = "\n".join(
    f"| {K} | {beam.log_prob:.1f} | {tales.log_prob(best_stories[K]):.1f} | {len(beam.ids) - 2} |"
    for K, beam in found.items()
)
reveal(
    "| beams | log-probability by the model (nats) | by the world | tokens |\n|---|---|---|---|\n{rows}\n\n"
    "Stories that the world tells have {mean:.1f} nats on average, and the most probable of a thousand drawn at random has {top:.1f}.",
    question="Answer",
    rows=rows,
    mean=near(world_log_probs.mean(), -28.5, 2),
    top=world_log_probs.max(),
)
print(textwrap.fill(best_stories[16], 110))

# %% [markdown] name="beams_explained"
# More beams do not find more probable stories step by step: by the model's own measure two and four do a little worse than one,
# eight far worse, and only sixteen come out ahead. (The −∞ in the first line is the story of temperature 0 again, in which a
# rule is broken.) A beam is judged by what it has cost *so far*. A beginning that puts its choices off looks cheap, pushes the
# others out, and has to pay later. Among a thousand stories drawn at random there is one that is more probable than all that
# was found. So "beam search finds the most probable text" is wrong; that would take an exact search, and there are far too
# many texts for one.
#
# Nor does a higher probability make a better story. What beams find has few surprises, and surprise is what a story is about.
# The world's own stories are not the most probable ones: they are *typical*, and cost about as many nats as the entropy says.
# Where there is one right answer, as in translation, a few beams help. Where an answer can be given in a thousand ways they
# give the dullest, and an exact search can even prefer the empty one (Stahlberg and Byrne 2019).

# %% [markdown] name="end_of_text"
# ## The end of a text
#
# A model does not know that it has finished. There is a token for it, `<|endoftext|>`, which stood between the stories of its
# training text, and like any other token it has a probability at every place. That the writing *stops* there is up to the loop:
# it compares the token with a stop id. Two mistakes are common, and both look like faults of the model.
#
# - **Ignored:** the loop goes on, and the model begins another story; we saw it above.
# - **Forbidden:** its logit is set to −∞, to get a longer text.
#
# **Predict.** What does the model write at the end of a story when it may not end it?

# %% name="end_forbidden"
whole = test_stories[1].text
at_end = torch.tensor([[END, *tokenizer.encode(whole)]])
with torch.no_grad():
    p = model(at_end)[0][0].softmax(-1)[:, END]  # (T,): of the end, after each token
print(f"probability of the end: after the last token {p[-1]:.3f}; before it {p[:-1].max():.3f} at most")

text = at_end
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    for _ in range(40):
        logits = model(text)[0][:, -1]
        logits[:, END] = -math.inf  # forbidden
        text = torch.cat([text, torch.multinomial(logits.softmax(-1), 1, generator=generator)], dim=1)
print("…", whole[-50:], "|", tokenizer.decode(text[0, at_end.size(1) :].tolist()))

# %% [markdown] name="end_explained"
# The end had nearly all the probability. With it forbidden, the softmax shares out what is left, and that is a remainder of
# millionths on which training put hardly any work: noise, blown up to 1. A few words later the model is back on a path it
# knows, in the middle of some story. Whoever wants longer texts needs a model that has read longer ones.

# %% [markdown] name="written"
# ## What is written stays
#
# A token that was drawn becomes text, and the model reads it as it reads everything else. There is no mark on it that says *I
# made this one up*, and no key to take it back. Three stories, and in each of them one word is wrong, as it may happen at a
# high temperature:
#
# - Nora, whose dog is in many stories, gets a black hen. At the end her pet comes to meet her.
# - Otto loses a red whistle and says, "I have lost my rope." At last they find the red …
# - A lamb is named Acorn, and a sentence later it is called Patch. It does not come home, and they call for …
#
# **Predict.** How does each go on: with the right word, or with the one that was written by mistake? And how probable is a
# correction?

# %% name="written_code"
nora = """Nora had {}. She often had supper with Otto. One morning Nora went to the beach with a red kite and flew it until the bells rang.
Nora walked home singing, and her"""
otto = """Otto lived in the lighthouse. He was best friends with Nora, who had an old dog. One afternoon Otto went to the castle with a red
whistle and blew it like a bird until it was time to go. That evening he looked for the whistle, but it was not there. He ran to Ida. "I
have lost my {}," said Otto. "Where did you last see it?" asked Ida. "At the castle," said Otto. So they went back together. They searched
all over the castle, and at last, beside the gate, they found the red"""
lamb = """Otto lived in the lighthouse. One morning Otto found a lamb on the farm. It had no home, so he kept it. "What is its name?" asked
Olive. "Acorn," said Otto, "because it was lying under a tree." The lamb grew, and soon {} could carry the post. One evening it did not
come home. Otto and Olive called for"""


def next_p(start: str) -> Tensor:
    story = torch.tensor([[END, *tokenizer.encode(start.replace("\n", " "))]])  # (1, T)
    with torch.no_grad():
        return model(story)[0][0, -1].softmax(-1)  # (V,)


cases = {
    "Nora": (nora, ("an old dog", "a black hen"), ("dog", "hen")),
    "Otto": (otto, ("whistle", "rope"), ("whistle", "rope")),
    "the lamb": (lamb, ("Acorn", "Patch"), ("Acorn", "Patch")),
}
lines, after_mistake, unmoved = [], [], []
for name, (start, (right, wrong), words) in cases.items():
    for written in (right, wrong):
        p = next_p(start.format(written))
        p_right, p_wrong = (p[tokenizer.encode(" " + word)[0]].item() for word in words)  # of each word's first token
        lines.append(f"| {name}: {written} | *{words[0]}* {p_right:.1%} | *{words[1]}* {p_wrong:.1%} |")
    after_mistake.append(p_wrong)
    so_far = start[: start.index("{}")]
    usual = next_p(so_far + right).argmax()  # what comes directly after the right word
    unmoved.append(next_p(so_far + wrong)[usual].item())

# %% name="written_answer" gptlib={"role": "reveal"}
reveal(
    "| what was written | goes on with | or with |\n|---|---|---|\n{lines}\n\nThe mistake is followed by {nora:.0%}, {otto:.0%} and {lamb:.0%}. And nothing is corrected: directly after the "
    "wrong word the model goes on just as after the right one, with a probability of at least {least:.2%}. No story that it has read takes anything back.",
    question="Answer",
    lines="\n".join(lines),
    nora=near(after_mistake[0], 0, 0.05),
    otto=near(after_mistake[1], 0.11, 0.1),
    lamb=near(after_mistake[2], 0.92, 0.1),
    least=min(unmoved),
)

# %% [markdown] name="written_rows"
# Three endings. About Nora the model goes by what it has learned: its weights say *dog* so loudly that the text is not heard,
# and the story now has a hen at the beginning and a dog at the end. About Otto it mostly goes by the earlier mention. About the
# lamb it follows the mistake, as if the last name said were the one to go by. Which of them wins is a matter of what training
# has made worth listening to. What never happens is what you would do: cross out the wrong word.
#
# It cannot. Every row that was computed stays as it was, and the rows before the mistake do not even know of it: the causal
# mask again.

# %% name="written_bits"
right = torch.tensor([[END, *tokenizer.encode("Nora had an old dog. She often had supper with Otto.")]])
wrong = torch.tensor([[END, *tokenizer.encode("Nora had an old hen. She often had supper with Otto.")]])
place = int((right != wrong)[0].nonzero()[0])
with record(model) as run_right, torch.no_grad():
    model(right)
with record(model) as run_wrong, torch.no_grad():
    model(wrong)
names = [
    name for name in run_right if run_right[name].dim() == 3 and run_right[name].size(1) == right.size(1)
]  # (1, T, …)
earlier = max((run_right[name] - run_wrong[name])[:, :place].abs().max().item() for name in names)
later = max((run_right[name] - run_wrong[name])[:, place:].abs().max().item() for name in names)
say(
    "Of {n} recorded activations, the rows before token {place}, where the texts part, differ by at most {earlier:g}; the rows from there on by up to {later:.1f}.",
    n=len(names),
    place=place,
    earlier=near(earlier, 0, 0),
    later=later,
)

# %% [markdown] name="dropout"
# ## One more slip: dropout left on
#
# Models trained with dropout switch off a random part of themselves at each step of training. `model.eval()` ends that. Forget
# it, and there is a second source of chance besides the draw, one that nobody ordered: the same text gets other logits each
# time, and temperature 0 is no longer deterministic. `generate` switches it off by itself; a loop of your own must. The bundled
# model had no dropout; here are its weights in one that has.

# %% name="dropout_code"
import dataclasses

dropping = GPT(dataclasses.replace(model.config, dropout=0.1))
dropping.load_state_dict(model.state_dict())
for mode in (dropping.eval, dropping.train):
    torch.manual_seed(0)
    mode()
    with torch.no_grad():
        a, b = (dropping(beginning)[0][0, -1].softmax(-1) for _ in range(2))  # 2 × (V,)
        losses = [
            F.cross_entropy(dropping(torch.tensor([text]))[0][0, :-1], torch.tensor(text[1:])) for text in texts[:10]
        ]  # nats per token
        greedy_texts = set()
        for _ in range(6):
            text = ids
            for _ in range(40):
                text = torch.cat([text, dropping(text)[0][:, -1].argmax(-1, keepdim=True)], dim=1)  # (1, T + 1)
            greedy_texts.add(tokenizer.decode(text[0].tolist()))
    print(
        f"{mode.__name__:6} same logits twice: {torch.equal(a, b)}, different texts of 6 at temperature 0: {len(greedy_texts)}, "
        f"loss {sum(losses) / len(losses):.3f}"
    )

# %% [markdown] name="popular"
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "Temperature 0 divides by zero." | It is a name for argmax. The formula gives NaN; libraries take argmax, or refuse. |
# | "Top-k sets the other logits to a very small number." | To −∞. Every finite number leaks at some temperature. |
# | "Top-p keeps the tokens whose cumulative probability is below p." | And the one that crosses p. Without it, small p keeps nothing. |
# | "The order of the filters does not matter." | For top-k it does not; for top-p and min-p it does. |
# | "A low temperature makes the model truthful, a high one creative." | It changes no rank. It can make a wrong belief sound sure. |
# | "Beam search finds the most probable text." | It finds one that looked good on the way. See the table. |
# | "Sampling is random anyway, so dropout does no harm." | It makes another, worse model at every step. |
# | "The model decides when to stop." | It gives one token a probability; the loop stops. |
#
# Each has its cell above.

# %% [markdown] name="library"
# ## The part in the library
#
# `gptlib/generation/choosing.py` does in one function what `at_temperature` and the three filters do here (where logits tie for
# the k-th place, ours keeps them all and the library the one with the lower id), and `loop.py` has the loop. The middle of
# each:

# %% name="library_source"
import inspect

from gptlib.generation import loop, next_token_probabilities, penalise_repetition

code = inspect.getsource(next_token_probabilities)
print(code[code.index("    ordered, ids") :])
code = inspect.getsource(loop.stream)
print(code[code.index("        for _ in range") : code.index("    return loop()")])


# %% name="library_equal"
def our_generate(text: Tensor, n: int, seed: int, temperature=1.0, penalty=1.0, stop_id=None, **filters) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    finished = torch.zeros(len(text), dtype=torch.bool)
    for _ in range(n):
        with torch.no_grad():
            logits = model(text)[0][:, -1]  # (B, V)
        logits = penalise(logits, text, penalty)
        if temperature == 0:
            token = logits.argmax(-1)  # (B,)
        else:
            token = torch.multinomial(through(logits, temperature, **filters), 1, generator=generator)[:, 0]
        if stop_id is not None:
            token = torch.where(finished, stop_id, token)
            finished = finished | (token == stop_id)
        text = torch.cat([text, token[:, None]], dim=1)
        if finished.all():
            break
    return text


start = torch.full((3, 1), END)
for way in (
    {"temperature": 0},
    {},
    {"temperature": 0.7, "top_k": 5},
    {"top_p": 0.9},
    {"temperature": 1.5, "min_p": 0.1},
    {"top_k": 20, "top_p": 0.95},
):
    q = at_temperature(bundled_logits[:200], 0) if way == {"temperature": 0} else through(bundled_logits[:200], **way)
    difference = (q - next_token_probabilities(bundled_logits[:200], **way)).abs().max()
    same = torch.equal(
        our_generate(start, 60, seed=5, stop_id=END, **way),
        generate(model, start, 60, seed=5, stop_id=END, use_cache=False, **way),
    )
    print(f"{way!s:36} probabilities differ by {difference:.0e}; the same 3 × 60 tokens: {same}")
    assert difference < 1e-5 and same
assert torch.equal(penalise(scene_logits, ids, 1.3), penalise_repetition(scene_logits, ids, 1.3))

# %% [markdown] name="lab"
# ## Your turn
#
# The sampling lab has it all under your hand. Grey is the model's own probability, blue what is drawn from.
#
# - Let it continue the text at temperatures 0, 0.7 and 2.0, in three columns (the button below the bars), and again. Which
#   column changes? Darker tokens are those the model found more probable: what do the light ones at 2.0 have in common?
# - Set the temperature to 2 and bring the story back to its senses with one filter. Which one needs the least tuning?
# - Grow the tree at temperature 0.7, three levels deep. Where does the story branch, and where is it a corridor?
# - Click on a bad token on purpose, then append ten sampled ones. Does the story find its way back? Does it ever take the token
#   back?
# - Raise the repetition penalty slowly. Which word goes first?
#
# (Where no kernel runs, as on GitHub, you see a still picture.)

# %% name="lab_live"
from gptlib.widgets import SamplingLab

SamplingLab(model, tokenizer, "<|endoftext|>" + scene)

# %% [markdown] name="end"
# You can now let a model write, and know what in a text comes from its probabilities and what from the way they are drawn from.
# What the model *looked at* when it gave them, and what that tells, is the next lesson.
#
# ## Three sentences to remember
#
# 1. A GPT gives probabilities, and a loop outside of it draws, appends and asks again; everything but the draw is
#    deterministic.
# 2. Training pushes a model towards being right at temperature 1; lower ones trade variety for the likeliest, higher ones let
#    in noise, and none changes what it believes.
# 3. A token once written is text like any other: the model goes on from it, and can never take it back.
#
# ## Exercises
#
# [`exercises/09_sampling.ipynb`](../exercises/09_sampling.ipynb) (in `work/exercises` if you came by `make lab`), about 40
# minutes:
#
# | exercise | minutes |
# |---|---|
# | `sampling.temperature`: sharper or flatter | 6 |
# | `sampling.top_k`: only the k best | 7 |
# | `sampling.top_p`: the fewest that reach p | 12 |
# | `sampling.generate`: one token after the other | 15 |
#
# ## Where to read more
#
# - David H. Ackley, Geoffrey E. Hinton and Terrence J. Sejnowski, *A Learning Algorithm for Boltzmann Machines* (1985).
#   Temperature comes from physics, and this is where networks got it.
# - Angela Fan, Mike Lewis and Yann Dauphin, *Hierarchical Neural Story Generation* (2018). Top-k.
# - Ari Holtzman, Jan Buys, Li Du, Maxwell Forbes and Yejin Choi, *The Curious Case of Neural Text Degeneration* (2019). Top-p,
#   loops that feed themselves, and why the most probable text is dull.
# - Nitish Shirish Keskar and others, *CTRL: A Conditional Transformer Language Model for Controllable Generation* (2019). The
#   repetition penalty.
# - Minh Nhat Nguyen and others, *Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs* (2024).
# - Chuan Guo, Geoff Pleiss, Yu Sun and Kilian Q. Weinberger, *On Calibration of Modern Neural Networks* (2017). The best
#   temperature as a measure of overconfidence.
# - Felix Stahlberg and Bill Byrne, *On NMT Search Errors and Model Errors: Cat Got Your Tongue?* (2019). What an exact search
#   finds in a translation model: for half of all sentences, the empty one.
