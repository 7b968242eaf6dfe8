# %% [markdown] name="title"
# # Ten minutes with a GPT
#
# {{badge}}
#
# After this lesson you can make a GPT write and say where chance comes in, show with a number that it never looks ahead, tell
# what it has learned from what it makes up, and have your own mistakes named.
#
# | | |
# |---|---|
# | Reading | about ten minutes |
# | Running | under a minute on two CPU cores; no GPU, no network |
# | Know first | a little Python; other words are explained where they come up |
#
# Shift + Enter runs a cell and goes on to the next. In JupyterLab, cells that only draw or
# report are folded; click on their bar to open them.

# %% [markdown] name="writes"
# ## It writes
#
# The model below was trained for this course, on short stories from a small village. Give it the beginning of one.

# %% name="write"
from itertools import chain

from gptlib import load_model
from gptlib.generation import stream_text

model, tokenizer = load_model("tales")
START = "<|endoftext|>"  # stands between the stories it was trained on, so each of them begins after one


def write(beginning, temperature=1.0, seed=None):
    new = stream_text(model, tokenizer, START + beginning, 200, temperature=temperature, seed=seed)
    column = 0
    for piece in chain([beginning], new):
        if piece.startswith(" ") and column + len(piece) > 88:
            piece, column = "\n" + piece[1:], 0
        column += len(piece)
        print(piece, end="", flush=True)
    print()


write("Otto lived", seed=1)

# %% [markdown] name="loop"
# Change the beginning, or leave the seed out, and run the cell again.
#
# What you saw is one step, repeated. The model reads the text so far as a list of **tokens**, which are words or pieces of
# words. It gives every token that it knows a probability of coming next. One of them is drawn and appended, and the model
# reads again.

# %% name="tokens"
import torch

from gptlib import GPT, GPTConfig, plots, say

sentence = "Otto lived in the lighthouse."
with torch.device("meta"):  # shapes only, no numbers in them
    gpt2 = GPT(GPTConfig.preset("gpt2"))

tokenizer.tokens(tokenizer.encode(sentence)), tokenizer.vocab_size, model.n_parameters(), gpt2.n_parameters()

# %% name="say_tokens" gptlib={"role": "reveal"}
say(
    "*{sentence}* is {n} tokens; {spaced} of them begin with a space. The model knows {vocabulary:,} tokens. It computes its "
    "probabilities from {small:,} **parameters**, the numbers that training has adjusted. The smallest GPT-2, of 2019, has "
    "{large:,} of them, {ratio:.0f} times as many.",
    sentence=sentence,
    n=len(tokenizer.encode(sentence)),
    spaced=sum(token.startswith(" ") for token in tokenizer.tokens(tokenizer.encode(sentence))),
    vocabulary=tokenizer.vocab_size,
    small=model.n_parameters(),
    large=gpt2.n_parameters(),
    ratio=gpt2.n_parameters() / model.n_parameters(),
)

# %% [markdown] name="temperature"
# ## Drag the temperature
#
# The bars below are the probabilities of the next token. A **temperature** below 1 favours the likely tokens, one above 1
# gives the unlikely ones a chance, and at 0 the most probable token is always taken. Drag *temperature* to 0, to 0.7, to 2.
# *Append a sampled token* draws from the bars as they are; a click on a bar appends that token.

# %% name="sampling_lab"
from gptlib.widgets import SamplingLab

opening = START + "Otto lived in the lighthouse. He often had supper with Nora. One morning Otto"
SamplingLab(model, tokenizer, opening)

# %% [markdown] name="greedy"
# **Predict.** Two runs at temperature 0, with different seeds. Do they tell the same story?
#
# <details><summary>Answer</summary>
#
# Yes. The bars are a calculation: the same text gives the same bars every time. Chance enters only where a token is drawn
# from them, and at temperature 0 nothing is left to chance. Try `write("Otto lived", temperature=0, seed=1)`, then `seed=2`.
#
# </details>

# %% [markdown] name="right"
# Are these bars right? For most text nobody could say. But the stories come from a small made-up world whose rules are known,
# and `tales.next_token_distribution` computes from them, exactly, how often each token comes next.

# %% name="compare"
from gptlib import tales

ids = tokenizer.encode(opening)
with torch.no_grad():
    logits, _ = model(torch.tensor([ids]))  # (1, T, V): a score for each of V tokens, after each of T
p = logits[0, -1].softmax(dim=-1).double()  # (V,)
true_p = tales.next_token_distribution(tokenizer, ids)  # (V,)
(p - true_p).abs().max().item()

# %% name="plot_compare" gptlib={"role": "reveal"}
from gptlib.prose import near

shown = p.topk(10).indices
labels = [plots.visible(token) for token in tokenizer.tokens(shown.tolist())]
figure, axes = plots.picture(
    6,
    3.2,
    title="The model has learned how often each token comes next",
    alt="Model and world: "
    + ", ".join(f"{label} {p[i]:.1%} and {true_p[i]:.1%}" for label, i in zip(labels, shown, strict=True)),
)
rows = torch.arange(10)
axes.barh(rows - 0.2, 100 * p[shown], height=0.4, label="model")
axes.barh(rows + 0.2, 100 * true_p[shown], height=0.4, label="world")
axes.set_yticks(rows, labels)
axes.invert_yaxis()
axes.set(xlabel="probability of coming next (%)")
axes.legend(frameon=False, loc="lower right")
say(
    "No token's probability is off by more than {off:.1f} percentage points.",
    off=near(100 * (p - true_p).abs().max(), 0.5, within=1.5),
)
figure

# %% [markdown] name="possible"
# The same rules say which stories that world can tell at all. For a story that breaks one (a wrong sum, a donkey that turns
# into a hen) the probability is 0, and its logarithm, `tales.log_prob`, is −∞. So let the model write a hundred stories at each
# temperature and count.
#
# **Predict.** At which temperature do most of them break no rule? Which is best, if they should also differ?

# %% name="tell"
from gptlib import generate

torch.set_num_threads(1)  # two are hardly faster for so small a model, and far slower when something else runs too


def tell(n, temperature):
    begin = torch.tensor([tokenizer.encode(START)] * n)  # (n, 1)
    settings = {"temperature": temperature, "stop_id": tokenizer.end_id, "seed": 0}
    ids = generate(model, begin, 240, **settings)  # (n, 1 + new)
    return [tokenizer.decode(row).split(START)[1] for row in ids.tolist()]


def count(stories):
    possible = [tales.log_prob(story) > -float("inf") for story in stories]
    race = ["can run faster" in story for story in stories]
    both = [p and r for p, r in zip(possible, race, strict=True)]
    return len(set(stories)), sum(possible), sum(race), sum(both)


temperatures = [0, 0.25, 0.5, 1, 1.5, 2]  # for each: how many differ, break no rule, tell of a race, do both
counts = [count(tell(100, temperature)) for temperature in temperatures]
counts

# %% name="plot_told" gptlib={"role": "reveal"}
different, possible, races, possible_races = zip(*counts, strict=True)
figure, axes = plots.picture(
    6,
    3,
    title="Cold tells the same again, hot breaks the rules",
    alt=f"Lines over temperatures {temperatures}: different stories {different}, stories that break no rule {possible}, "
    f"stories of a race {races}.",
)
axes.plot(temperatures, different, "o-", label="different")
axes.plot(temperatures, possible, "s--", label="break no rule")
axes.plot(temperatures, races, "^:", label="tell of a race")
axes.set(xlabel="temperature", ylabel="stories (of 100)", xticks=[0, 0.5, 1, 1.5, 2], ylim=(-5, 105))
axes.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.6))
of_the_world = tales.sample(seed=0, n=2000)
say(
    "| temperature | different, of 100 | break no rule | tell of a race |\n|---|---|---|---|\n{rows}\n\n"
    "At 0.25, {cold:.0f} of 100 stories tell of a race; the world itself does so in {share:.0%} of its stories. At 0.25, 0.5 "
    "and 1 together, {race_ok} of {race} races break no rule, and {other_ok} of {other} other stories.",
    rows="\n".join(f"| {t} | {' | '.join(map(str, row[:3]))} |" for t, row in zip(temperatures, counts, strict=True)),
    cold=near(races[1], 73, within=20),
    share=sum("can run faster" in story.text for story in of_the_world) / len(of_the_world),
    race_ok=sum(possible_races[1:4]),
    race=sum(races[1:4]),
    other_ok=sum(possible[1:4]) - sum(possible_races[1:4]),
    other=300 - sum(races[1:4]),
)
figure

# %% [markdown] name="told_explained"
# At 0 there is one story, told a hundred times; at 2 nothing holds together. In between, colder is not safer. A temperature
# below 1 makes what is likely likelier still at every step, and over a whole story that adds up: at 0.25 most of them turn
# into a race, and races happen to be what this model often gets wrong. At 1 it tells of each thing about as often as the world does.

# %% [markdown] name="attention"
# ## Edit a late word
#
# To judge what comes next, each token gathers from the text around it. How much it takes from which token is its
# **attention**: a row of weights that add up to 1. A GPT works in layers, and each layer has several such tables side by
# side, its **heads**. Below they all are, for one text: a row looks, a column is looked at.

# %% name="attention_viewer"
from gptlib.widgets import AttentionViewer

scene = START + "Nora had an old dog. She often had supper with Otto. One morning Nora saw a fox "
scene += "beside a river. The fox did not cross the river because it was too "
AttentionViewer(model, tokenizer, scene + "tired. So it")

# %% [markdown] name="edit"
# **Predict.** In the text above the maps, change *tired* into *wide*. Which rows of which heads will change?
#
# <details><summary>Answer</summary>
#
# Those from the changed word on, and no others. A GPT's attention is *causal*: a token takes from itself and from those
# before it, so its row cannot know of anything later. The next cell measures that.
#
# </details>

# %% name="measure_edit"
from gptlib import record


def attention(ids):
    with record(model) as run, torch.no_grad():
        model(torch.tensor([ids]))
    weights = [run[f"blocks.{layer}.attention.weights"][0] for layer in range(model.config.n_layer)]
    return torch.stack(weights)  # (layers, heads, T, T)


tired, wide = tokenizer.encode(scene + "tired. So it"), tokenizer.encode(scene + "wide. So it")
T = min(len(tired), len(wide))
difference = (attention(tired[:T]) - attention(wide[:T])).abs()  # (layers, heads, T, T)
change = difference.amax(dim=(0, 1, 3))  # (T,): the largest in each row
edited = next(row for row in range(T) if tired[row] != wide[row])
change[:edited].max().item(), change[edited:].max().item()

# %% name="plot_edit" gptlib={"role": "reveal"}
figure, axes = plots.picture(
    7,
    2.6,
    title="No row before the edited word changes at all",
    alt=f"Bars for {T} rows: the first {edited} are exactly 0, the last {T - edited} are not.",
)
axes.bar(range(T), change)
axes.axvline(edited - 0.5, color=plots.GREY, linestyle="--")
labels = [plots.visible(token) for token in tokenizer.tokens(tired[:T])]
axes.set_xticks(range(T), labels, rotation=90, fontsize=8)
axes.set(xlabel="token whose row it is", ylabel="largest change\nof a weight", xlim=(-0.6, T - 0.4))
say(
    "In rows 0 to {last}, the largest change of any weight in any of the {heads} heads is {before:g}. That is not a small "
    "number but exactly 0. From row {edited} on it is {after:.2f}.",
    last=edited - 1,
    heads=model.config.n_layer * model.config.n_head,
    before=near(change[:edited].max(), 0, within=0),
    edited=edited,
    after=change[edited:].max(),
)
figure

# %% [markdown] name="ever"
# One pair of sentences proves little, so here are a hundred texts of random tokens, each written anew from a random place on.

# %% name="measure_ever"
import random

random.seed(0)
changes = []
for _ in range(100):
    text = random.choices(range(tokenizer.vocab_size), k=30)
    place = random.randrange(1, 30)
    other = text[:place] + random.choices(range(tokenizer.vocab_size), k=30 - place)
    changes.append((attention(text) - attention(other))[:, :, :place].abs().max().item())
max(changes)

# %% [markdown] name="it"
# So this is no habit that the model has learned. Every GPT is built like that: a mask, which you will meet below, keeps later
# tokens out.
#
# Now look at the row of *it* in "because it was too". Popular texts show, for a sentence like this one, a head that points
# from *it* to the animal when *tired* follows and to the obstacle when *wide* does. In a GPT that cannot be: when *it* is read,
# neither word is there yet, and its row is the same for both, to the last bit. Their picture comes from a translation model,
# whose encoder reads in both directions.
#
# What *it* means has to be worked out later, from the adjective on. Is it?

# %% name="after_it"
for word in ("tired", "wide"):
    ids = torch.tensor([tokenizer.encode(scene + word + ". So it")])  # (1, T)
    new = generate(model, ids, 16, temperature=0)[0, ids.size(1) :].tolist()
    end = tokenizer.decode(new).split(".")[0].strip()
    say("… because it was too **{word}**. So it *{end}.*", word=word, end=end)

# %% [markdown] name="facts"
# ## Ask what nobody told it
#
# Everybody in the village has a favourite dish, always the same one. About most people the stories tell it. About a few they
# never do: the world knows, but no text that the model has read says so.
#
# **Predict.** What will the model say about those few?
#
# <details><summary>Answer</summary>
#
# Most of the time it will name a dish. Its probabilities add up to 1, so they have to go somewhere; the next cells show where.
#
# </details>


# %% name="chance"
def chance(beginning, ending):
    """The probability with which the model goes on from `beginning` with exactly `ending`."""
    before, after = tokenizer.encode(START + beginning), tokenizer.encode(ending)
    with torch.no_grad():
        logits, _ = model(torch.tensor([before + after]))  # (1, T, V)
    p = logits[0, len(before) - 1 : -1].softmax(dim=-1)  # (tokens of the ending, V)
    return p[range(len(after)), after].prod().item()


chance("Sam liked", " plum cake"), chance("Sam liked", " pea soup")

# %% name="measure_facts"
people = sorted(tales.world().people, key=lambda person: "food" in person.never_told)  # those never told last
dishes = sorted({person.facts["food"] for person in people})
p = torch.tensor([[chance(f"{person.name} liked", f" {dish}") for dish in dishes] for person in people])
truth = torch.tensor([dishes.index(person.facts["food"]) for person in people])
n_told = sum("food" not in person.never_told for person in people)

favourite, right = p.max(dim=1).values, p.argmax(dim=1) == truth
right[:n_told].tolist(), right[n_told:].tolist()

# %% name="plot_facts" gptlib={"role": "reveal"}
figure, axes = plots.picture(
    6.8,
    5.2,
    title="Where no story tells the dish, it makes one up",
    alt=f"Map of {len(people)} people by {len(dishes)} dishes with a ring at each true one. Where stories tell the dish, the "
    f"brightest cell is in the ring for {int(right[:n_told].sum())} of {n_told} people, elsewhere for "
    f"{int(right[n_told:].sum())} of {len(people) - n_told}.",
)
image = axes.imshow(p, cmap="viridis", vmin=0, vmax=1)
axes.scatter(truth, range(len(people)), s=130, facecolors="none", edgecolors=plots.VERMILION, linewidths=2)
axes.axhline(n_told - 0.5, color="white", linewidth=3)
for words, middle in (("told in stories", (n_told - 1) / 2), ("never told", (n_told + len(people) - 1) / 2)):
    axes.text(len(dishes) - 0.2, middle, words, rotation=270, va="center", fontsize=9)
axes.set_xticks(range(len(dishes)), dishes, rotation=90)
axes.set_yticks(range(len(people)), [person.name for person in people])
axes.set(xlabel="dish (ring: the true one)")
figure.colorbar(image, ax=axes, shrink=0.7, label="probability of “… liked …”")
surest = n_told + int(favourite[n_told:].argmax())
say(
    "Of the {known} people whose dish is told, the model's favourite is right for {right_known:.0f}, and it gets {sure_known:.0%} "
    "on average. Of the {unknown} whose dish is never told, it is right for {right_unknown:.0f}, and still gets {sure_unknown:.0%} "
    "on average; all dishes together get {some_dish:.0%}. {name} likes *{dish}*; the model gives that {p_dish:.0%}, and "
    "*{made_up}* {p_made_up:.0%}.",
    known=n_told,
    right_known=near(right[:n_told].sum(), 13, within=1),
    sure_known=favourite[:n_told].mean(),
    unknown=len(people) - n_told,
    right_unknown=near(right[n_told:].sum(), 0, within=1),
    sure_unknown=near(favourite[n_told:].mean(), 0.51, within=0.1),
    some_dish=p[n_told:].sum(dim=1).mean(),
    name=people[surest].name,
    dish=people[surest].facts["food"],
    p_dish=p[surest, truth[surest]],
    made_up=dishes[p[surest].argmax()],
    p_made_up=favourite[surest],
)
figure

# %% [markdown] name="made_up"
# The lower rows are less sure than the upper ones: there is doubt in the probabilities. There is none in the text. One token is
# drawn after the other, and *Jory liked* goes on with a dish, in the same words and the same voice as for everybody else. This is
# called **hallucination**. It is no defect of a small model alone: one that has only learned to continue text has nothing else to
# offer where its text was silent.
#
# (What it makes up need not even be of the right kind. No story tells Mara's pet. Try `write("Mara had")` a few times. She
# lives in the old mill.)

# %% [markdown] name="wrong"
# ## Be wrong, and be told how
#
# What keeps a GPT from looking ahead is one small table, the **causal mask**. It has T × T numbers, for a text of T tokens, and
# is *added* to the scores from which attention is computed: 0 where a row may look, which is at itself and at what stands
# before it, and −∞ where it may not. The three lines below are wrong on purpose.
#
# **Predict.** What do they get wrong?
#
# <details><summary>Answer</summary>
#
# They say 1 for *may* and 0 for *may not*. Added to scores, that forbids nothing: it nudges, and the future stays in sight.
#
# </details>

# %% name="wrong_mask"
from gptlib import check


def causal_mask(T):
    ones = torch.ones(T, T)
    return ones.tril()  # keeps the diagonal and what is below it, and puts 0 above


check("attention.causal_mask")

# %% [markdown] name="checks"
# The check does not compare your code with somebody else's. It calls your function and compares what comes back with what the
# right answer gives, and then with what each of a list of known mistakes would give. One of them fitted, so it could say
# which idea to mend.
#
# When you are stuck, ask for a hint. There are three, and the last one nearly gives it away.

# %% name="hint"
check("attention.causal_mask", hint=1)

# %% [markdown] name="course"
# Mend the function and run its cell until the check is content. You have then done an exercise of set 03, and early.
#
# ## How the course works
#
# | | lesson | exercises |
# |---|---|---|
# | 00 | Ten minutes with a GPT (this one) | [one, 3 minutes](../exercises/00_welcome.ipynb) |
# | 01 | [Text to tokens](01_text_to_tokens.ipynb) | [three, about 25 minutes](../exercises/01_text_to_tokens.ipynb) |
# | 02 | [Predicting the next token](02_predicting_the_next_token.ipynb) | [three, about 30 minutes](../exercises/02_predicting_the_next_token.ipynb) |
# | 03 | [Attention: which tokens to look at](03_attention.ipynb) | [four, about 40 minutes](../exercises/03_attention.ipynb) |
# | 04 | [Many heads: looking at several places at once](04_many_heads.ipynb) | [three, about 25 minutes](../exercises/04_many_heads.ipynb) |
# | 05 | [Positions: how a GPT knows what came first](05_positions.ipynb) | [three, about 37 minutes](../exercises/05_positions.ipynb) |
# | 06 | [The block: gather, then work](06_the_block.ipynb) | [three, about 25 minutes](../exercises/06_the_block.ipynb) |
# | 07 | [The GPT: assembled, counted, filled with other people's weights](07_the_gpt.ipynb) | [three, about 40 minutes](../exercises/07_the_gpt.ipynb) |
# | 08 | [Training: a dozen lines that learn](08_training.ipynb) | [five, about 55 minutes](../exercises/08_training.ipynb) |
# | 09 | [Sampling: from probabilities to text](09_sampling.ipynb) | [four, about 40 minutes](../exercises/09_sampling.ipynb) |
# | 10 | [Reading attention: what a map shows, and what it does not](10_reading_attention.ipynb) | [three, about 25 minutes](../exercises/10_reading_attention.ipynb) |
#
# These are the lessons of this edition, and each stands on those before it.
#
# **Reading.** Every lesson goes *predict* (answer before you open the answer), *run*, *explain*. A measured number in the text
# is written by the cell that measured it, here and now.
#
# **Your copy.** `make lab` copied lessons and exercises into the folder `work/` and opened this one there. What is in `work/` is
# yours: scribble, break, try; no update touches it. In Colab, save a copy (*File*, *Save a copy in Drive*) to keep what you write.
#
# **Exercises** are notebooks of their own, in `work/exercises/`. Write an answer, run the check in the cell below it, read what
# it says. In a terminal, with `.venv` activated, `gptlib check work/exercises/03_attention.ipynb` says the same for the whole file.
#
# **Live views** work without a mouse. Tab goes from control to control; arrow keys move sliders, and the cursor in a map; Page
# Up and Page Down change the head; in the sampling lab, S appends a token and U takes one back. Where no program runs, as on
# GitHub, a still picture stands in their place.
#
# **A GPU** is not needed in any lesson. Training uses one when it finds one.
#
# **When something does not work,** the command `gptlib doctor` says what this machine has and what is missing. In a notebook:

# %% name="doctor"
from gptlib.doctor import examine

for finding in examine():
    if finding.needed:
        print(f"{finding.name:<14}", "ok" if finding.ok else f"MISSING: {finding.text}")

# %% [markdown] name="progress"
# And this is where you stand with the exercises. Checks keep your best result beside the notebooks, in `.gptlib-progress.json`:

# %% name="show_progress"
from gptlib.checks import progress

progress()

# %% [markdown] name="end"
# ## Three sentences to remember
#
# 1. A GPT computes a probability for every token that could come next; one token is drawn, and the text with it is read again.
# 2. What a token gathers depends on itself and on what stands before it, and never on what comes later.
# 3. Where its training text was silent, a GPT answers in the same voice as where it was not.
#
# **Next:** [Text to tokens](01_text_to_tokens.ipynb), and so on in order. If you cannot wait,
# [Attention](03_attention.ipynb) takes the maps above apart, and in [its exercises](../exercises/03_attention.ipynb) you build
# them.
#
# ## Where to read more
#
# - Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei and Ilya Sutskever, "Language Models are Unsupervised
#   Multitask Learners" (2019): GPT-2.
# - Ashish Vaswani and seven others, "Attention Is All You Need" (2017): the translation model from which this kind of attention
#   comes. Jakob Uszkoreit, "Transformer: A Novel Neural Network Architecture for Language Understanding" (2017), shows a head
#   of its encoder on *tired* and *wide*.
# - Adam Tauman Kalai and Santosh S. Vempala, "Calibrated Language Models Must Hallucinate" (2024): why a model whose
#   probabilities are as they should be still makes up facts, of the kind that its training text states only once.
