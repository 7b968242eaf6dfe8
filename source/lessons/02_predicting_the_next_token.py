# %% [markdown] name="title"
# # Predicting the next token
#
# {{badge}}
#
# After this lesson you can say what a language model is trained to do and compute its loss by hand, in nats, in bits and as a
# perplexity; you know how low a loss can go, and why; and you have a first model of your own, which writes.
#
# | | |
# |---|---|
# | Reading | about 45 minutes, ten of which you spend guessing words |
# | Running | about a minute on two CPU cores; no GPU, no network |
# | Know first | Python, and tensors and indexing in PyTorch; that a text is a list of tokens (lesson 00 is enough) |
# | Afterwards | the three exercises of set 02, about 30 minutes |
#
# Shapes stand in the comments. `T` is the number of tokens in a text, `V` the number of tokens that a model knows, `B` the
# number of texts side by side.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# A language model answers one kind of question, again and again: *given the text so far, what comes next?* The simplest model
# that deserves the name is a table. Take the course's stories from a small village, and count for each word which words follow it.
#
# **Predict.** Such a table knows one word back and nothing else. Can it write? What will be right in its sentences, and what wrong?

# %% name="thing"
import random
import textwrap
from collections import Counter, defaultdict
from itertools import pairwise

from gptlib import load_corpus

corpus = load_corpus("tales:10000")  # 10,000 stories to learn from
words = corpus.train.replace(corpus.separator, " START ").split()
followers = defaultdict(Counter)
for word, after in pairwise(words):
    followers[word][after] += 1

for word in ("Otto", "was", "did"):
    total = followers[word].total()
    print(f"after {word}:", ", ".join(f"{w} {n / total:.0%}" for w, n in followers[word].most_common(5)))

random.seed(3)
written = ["START"]
while len(written) < 60:
    choices = followers[written[-1]]
    written += random.choices(list(choices), weights=choices.values())
print("\n" + textwrap.fill(" ".join(written).replace("START", "\n"), 100))

# %% [markdown] name="thing_explained"
# Any two neighbours fit; hardly any five words do. That is a **bigram** model, and it already has all that a language model
# needs: a probability for everything that may come next, learned from text, and a loop that draws one word after the other. All that
# follows in this course is about better probabilities.
#
# ## One text, many questions
#
# A GPT works on tokens, as lesson 01 makes them. Where do its questions and answers come from? From the text
# itself: at every position the question is all that came before, and the answer is the token that stands there.

# %% name="shift"
import torch

from gptlib import load_model, say, tales

model, tokenizer = load_model("tales")
ids = torch.tensor(tokenizer.encode("<|endoftext|>Otto lived in the lighthouse."))  # (T + 1,)
inputs, targets = ids[:-1], ids[1:]  # 2 × (T,): the same tokens, shifted by one
names = tokenizer.tokens(ids.tolist())
for t in range(len(inputs)):
    print(f"{t}   {' '.join(repr(name) for name in names[: t + 1]):<78} → {names[t + 1]!r}")

# %% [markdown] name="shift_explained"
# A text of T + 1 tokens is T questions with their answers, and nobody had to label anything. A GPT answers all T of them in one
# pass, because its attention never lets a position see what comes later (lesson 03).
#
# You will read that a language model is trained by hiding *the last word* of a text. It is not: every position is a target, and
# the last one is one of hundreds. Much of the method's success is that a text read once teaches so much.
#
# **Predict.** Targets are the ids without the first. With texts side by side, `batch[:, 1:]` is (B, T), and a loss wants them in a
# row, (B · T,). What does `batch[:, 1:].view(-1)` do?

# %% name="view_fails"
batch = torch.stack([ids, ids.flip(0)])  # (B, T + 1)
try:
    batch[:, 1:].view(-1)
except RuntimeError as error:
    print("RuntimeError:", str(error).split(".")[0])
print(tuple(batch[:, 1:].flatten().shape))

# %% [markdown] name="view_explained"
# It raises. A slice is a window on the same memory, with gaps in it where the first column was, and `view` never copies.
# `flatten` and `reshape` copy when they must.
#
# ## How wrong is a guess?
#
# A model's answer is a probability for each of the V tokens. Then the text tells what really came. How should we score the answer?
# Let one number of it count, the probability p that was given to the token that came. The score in use everywhere is
#
# $$\text{loss} = -\ln p$$
#
# **Predict.** What is the loss of a sure and right answer, p = 1? Of one that gave the truth a chance of one half? Of one that ruled
# the truth out?

# %% name="losses"
import math

V = tokenizer.vocab_size
rows = [
    ("sure, and right", 1.0),
    ("one half", 0.5),
    ("one in ten", 0.1),
    ("like everything else, 1/V", 1 / V),
    ("ruled out", 0.0),
]
say(
    "| p of what came | loss (nats) | loss (bits) | perplexity |\n|---|---|---|---|\n{table}",
    table="\n".join(
        f"| {name} | {0 - math.log(p):.2f} | {0 - math.log2(p):.2f} | {1 / p:,.0f} |"
        if p
        else f"| {name} | ∞ | ∞ | ∞ |"
        for name, p in rows
    ),
)

# %% [markdown] name="units"
# The three columns say the same. **Nats** use the natural logarithm and are what training uses. **Bits** use base 2: one bit is the
# surprise of a fair coin, and a nat is $1 / \ln 2 \approx 1.44$ bits. **Perplexity** is $e^{\text{nats}}$: the number of equally likely
# options that would be just as surprising. A model that knows nothing has $\ln V$ nats, which for GPT-2's 50,257 tokens is 10.8; a first
# loss far from it tells you that something is wrong before training has begun.
#
# Why the logarithm? Because of whole texts. The probability of a text is that of its first token, times that of the second given
# the first, and so on:
#
# $$p(x_1 \ldots x_T) = p(x_1)\; p(x_2 \mid x_1)\; p(x_3 \mid x_1 x_2) \cdots p(x_T \mid x_1 \ldots x_{T-1})$$
#
# Products of many small numbers leave what a computer can hold; sums of their logarithms do not.

# %% name="product"
story = tales.split("test", 1)[0].text
ids = torch.tensor([tokenizer.encode(f"<|endoftext|>{story}<|endoftext|>")])  # (1, T + 1)
inputs, targets = ids[:, :-1], ids[:, 1:]
with torch.no_grad():
    log_p = model(inputs)[0].log_softmax(dim=-1)  # (1, T, V)
chosen = log_p[0, range(targets.size(1)), targets[0]]  # (T,): what came, at each position
uniform = torch.full((targets.size(1),), 1 / V)
say(
    "The story has {T} tokens. Under the model that knows nothing, its probability comes out as {product:g}, which is wrong: it is "
    "$e^{{{nothing:.0f}}}$, too small for a 32-bit number. The bundled model gives it $e^{{{known:.1f}}}$, and the world that tells such "
    "stories gives it $e^{{{truth:.1f}}}$.",
    T=targets.size(1),
    product=uniform.prod(),
    nothing=uniform.log().sum(),
    known=chosen.sum(),
    truth=tales.log_prob(story),
)

# %% [markdown] name="cross_entropy"
# So the loss of a text is $-\ln p(\text{text})$, and divided by its tokens it is a **mean loss in nats per token**. This mean, taken over much
# text, is called the **cross-entropy** of the model on the text. In PyTorch it is one call, and it is four lines by hand.


# %% name="cross_entropy_code"
import torch.nn.functional as F
from torch import Tensor, nn


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of −ln p of the targets (N,), where p is the softmax of the logits (N, V)."""
    logits = logits - logits.amax(dim=-1, keepdim=True)  # no p changes, and no exp overflows
    log_p = logits - logits.exp().sum(dim=-1, keepdim=True).log()  # (N, V)
    return -log_p[torch.arange(len(targets)), targets].mean()


with torch.no_grad():
    logits, built_in = model(inputs, targets=targets)  # (1, T, V), and the loss that a GPT reports
by_hand = cross_entropy(logits[0], targets[0])
print(
    f"by hand {by_hand:.6f}   F.cross_entropy {F.cross_entropy(logits[0], targets[0]):.6f}   the model's own {built_in:.6f}"
)

# %% [markdown] name="two_mistakes"
# **Wrong first.** Two things go wrong often. `F.cross_entropy` wants *logits* and takes the softmax itself; fed with probabilities it
# takes the softmax of a softmax, and the loss cannot get far below $\ln V$ however good the model is. And without the first line above,
# a large logit ends it.

# %% name="two_mistakes_code"
double = F.cross_entropy(logits[0].softmax(dim=-1), targets[0])
large = 100 * torch.ones(1, V)
naive = -(large - large.exp().sum(dim=-1, keepdim=True).log())[0, 0]
from gptlib.prose import near, reveal

say(
    "Softmax twice: {double:.2f} instead of {right:.2f} nats, beside ln V = {uniform:.2f}. "
    "All logits 100, without subtracting the largest: {naive}, where {uniform:.2f} is right.",
    double=near(double, 6.06, 0.1),
    right=by_hand,
    uniform=math.log(V),
    naive=naive.item(),
)

# %% [markdown] name="surprise"
# ## Where the surprise sits
#
# One number for a whole story hides where it was earned. Here is the loss token by token, of three who know the language more or
# less well: the counts of neighbours, the bundled model, and the world itself, which made up the story and knows each
# probability exactly.


# %% name="count_bigram"
class Bigram(nn.Module):
    """Scores of the next token from the last one alone: a table, (V, V)."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding.from_pretrained(scores, freeze=False)  # a token's row is its scores

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.token_embedding(ids)  # (B, T) -> (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


stream = torch.tensor(tokenizer.encode(corpus.train))  # all training stories in a row
counts = torch.full((V, V), 0.01)  # not 0, so that what was never seen is not impossible
counts.index_put_((stream[:-1], stream[1:]), torch.tensor(1.0), accumulate=True)
bigram = Bigram((counts / counts.sum(dim=1, keepdim=True)).log())

truth = tales.world().truth(tokenizer)
T = targets.size(1)
true_p = [p.get(int(t), 0.0) for p, t in zip(truth.along(targets[0].tolist(), range(T)), targets[0], strict=True)]
surprise = {
    "bigram": -bigram(inputs)[0].log_softmax(-1)[0, range(T), targets[0]].detach(),
    "bundled model": -chosen,
    "the world": -torch.tensor(true_p).log(),
}
for name, nats in surprise.items():
    print(
        f"{name:14} {nats.sum():6.1f} nats in all, {nats.mean():.3f} per token; over 1 nat: {(nats > 1).sum()} of {T} tokens"
    )

# %% name="plot_surprise" gptlib={"role": "reveal"}
from gptlib.plots import BLUE, GREEN, GREY, ORANGE, VERMILION, picture, visible

shown = slice(0, 46)
labels = [visible(token) for token in tokenizer.tokens(targets[0].tolist())][shown]
figure, axes = picture(
    9,
    3.2,
    title="The world is surprised where it chose, the bigram nearly everywhere",
    alt="Loss of each token of a story's beginning, for bigram, bundled model and world: "
    + "; ".join(f"{name} {nats[shown].mean():.2f} nats on average" for name, nats in surprise.items()),
)
for (name, nats), colour, width in zip(surprise.items(), (GREY, BLUE, VERMILION), (0.9, 0.6, 0.25), strict=True):
    axes.bar(
        range(len(labels)), nats[shown], width=width, color=colour, label=name, alpha=0.55 if name == "bigram" else 1
    )
axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=8)
axes.set(ylabel="loss (nats)", xlim=(-0.7, len(labels) - 0.3))
axes.legend(frameon=False, ncols=3)
figure

# %% [markdown] name="surprise_explained"
# Most tokens cost the world nothing: once *the lighthou* is there, *se* follows. It pays where it had a choice: whom the story is
# about, what happens, with what. The bundled model pays at nearly the same places. The bigram pays all over, most of all
# where the answer was said further back than one token.
#
# ## Nobody beats the truth
#
# Could a cleverer model be less surprised than the world that tells the stories?
#
# **Predict.** Tomorrow it will rain with a chance of 70 %; that is the truth, and nobody can know more. You must state a
# probability q of rain, and will pay −ln q if it rains and −ln (1 − q) if it does not. Which q should you state to pay least on average? 0.7? Or,
# since rain is the better bet, something nearer to 1?

# %% name="honesty" gptlib={"role": "reveal"}
q = torch.linspace(0.01, 0.99, 99)
cost = -0.7 * q.log() - 0.3 * (1 - q).log()
entropy = -0.7 * math.log(0.7) - 0.3 * math.log(0.3)
figure, axes = picture(
    5.6,
    3.0,
    title="The cheapest forecast is the honest one",
    alt=f"Expected loss against the stated probability: lowest, {cost.min():.2f} nats, at {q[cost.argmin()]:.2f}.",
)
axes.plot(q, cost)
axes.plot(0.7, entropy, "o", color=VERMILION)
axes.annotate(
    f"{entropy:.2f} nats at q = 0.7", (0.7, entropy), textcoords="offset points", xytext=(-70, -20), color=VERMILION
)
axes.set(xlabel="stated probability q", ylabel="expected loss (nats)", ylim=(0, 2.5))
say("The lowest expected loss is at q = {best:.2f}: {least:.2f} nats.", best=q[cost.argmin()], least=cost.min())
figure

# %% [markdown] name="honesty_explained"
# Exactly 0.7. This loss cannot be gamed: who states anything else than what they believe pays more on average, so a model that
# minimises it is pushed towards true probabilities, and not merely towards the likeliest token. What even the honest forecast
# pays is the **entropy** of the truth, and what anyone pays above it is the **KL divergence** from the truth to them, which is never
# negative:
#
# $$\underbrace{-\textstyle\sum_x p(x) \ln q(x)}_{\text{cross-entropy}} = \underbrace{-\textstyle\sum_x p(x) \ln p(x)}_{\text{entropy}} + \underbrace{\textstyle\sum_x p(x) \ln \frac{p(x)}{q(x)}}_{\text{KL}\;\ge\;0}$$
#
# Here are ten thousand random pairs of p and q that try to break it.

# %% name="gibbs"
torch.manual_seed(0)
p, q = (torch.randn(10_000, 30) * torch.rand(10_000, 1) * 4 for _ in range(2))
p, q = p.softmax(-1).double(), q.softmax(-1).double()  # (10000, 30)
kl = (p * (p / q).log()).sum(-1)  # (10000,)
identity = -(p * q.log()).sum(-1) - (-(p * p.log()).sum(-1) + kl)
print(f"smallest KL {kl.min():.4f}, largest {kl.max():.2f}; the equation holds to {identity.abs().max():.0e}")

# %% [markdown] name="floor"
# ## The floor
#
# For English nobody knows the entropy. For the course's stories it is known, since a story's probability under the world that tells it can
# be computed exactly. The mean of −ln p over stories is the **floor**: no model, however large, however long it trains, gets
# below it on new stories, except by luck.

# %% name="measure_floor"
floor = tales.entropy(tokenizer, n=4000)
test_stories = tales.split("test", 300)


class Constant(nn.Module):
    """The same scores at every position: what a model can do that does not look at the text at all."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores  # (V,)

    def forward(self, ids: Tensor) -> tuple[Tensor, None]:
        return self.scores.expand(*ids.shape, -1), None  # (B, T, V)


models = {
    "knows nothing": Constant(torch.zeros(V)),
    "knows how often each token occurs": Constant((stream.bincount(minlength=V) + 0.01).log()),
    "bigram": bigram,
    "bundled model": model,
}
scores = {name: tales.evaluate(m, tokenizer, test_stories) for name, m in models.items()}
characters = sum(len(s.text) for s in test_stories) / scores["bigram"].tokens  # per token
losses = {name: score.nats_per_token for name, score in scores.items()} | {"the world itself": scores["bigram"].floor}
say(
    "| | nats per token | perplexity | bits per character | nats above the floor |\n|---|---|---|---|---|\n{table}\n\n"
    "The floor over {n:,} stories is {floor:.4f} ± {error:.4f} nats per token; in the table it is that of these {m} stories.",
    table="\n".join(
        f"| {name} | {loss:.3f} | {math.exp(loss):,.2f} | {loss / math.log(2) / characters:.3f} "
        f"| {loss - losses['the world itself']:.3f} |"
        for name, loss in losses.items()
    ),
    n=floor.stories,
    floor=near(floor.nats_per_token, 0.218, 0.003),
    error=floor.token_error,
    m=len(test_stories),
)

# %% [markdown] name="floor_explained"
# So a perplexity of 1 is not the goal; it would mean that the language holds no surprises at all. What counts is the last column.
#
# One trap: **losses per token compare only between models that share a tokenizer.** Cut the same stories into characters, and
# there are more tokens, each with less to decide.

# %% name="units_trap"
from gptlib import CharTokenizer

letters = CharTokenizer.train(corpus.train)
by_letter = tales.entropy(letters, n=1000)
by_token = tales.entropy(tokenizer, n=1000)
say(
    "The same world, the same stories: {token:.3f} nats per token or {letter:.4f} nats per character-token, perplexity {p1:.3f} or "
    "{p2:.3f}; but {c1:.4f} and {c2:.4f} nats per character, which is the fair unit.",
    token=by_token.nats_per_token,
    letter=by_letter.nats_per_token,
    p1=math.exp(by_token.nats_per_token),
    p2=math.exp(by_letter.nats_per_token),
    c1=by_token.nats_per_character,
    c2=by_letter.nats_per_character,
)

# %% [markdown] name="what_kind"
# Which choices make up the floor? Since every story says how it was chosen, that is known as well.

# %% name="by_kind" gptlib={"role": "reveal"}
kinds = list(floor.by_kind.items())[:9]
others = floor.nats_per_story - sum(nats for _, nats in kinds)
figure, axes = picture(
    6.2,
    3.2,
    title="What happens, and to whom, carries the entropy",
    alt="Nats per story: " + ", ".join(f"{kind} {nats:.1f}" for kind, nats in kinds) + f", all others {others:.1f}.",
)
axes.barh([kind for kind, _ in kinds] + ["all others"], [nats for _, nats in kinds] + [others])
axes.invert_yaxis()
axes.set(xlabel=f"nats per story (of {floor.nats_per_story:.1f})")
figure

# %% [markdown] name="ngrams"
# ## Counting further back
#
# The bigram sees one token. Why not count what follows each *two* tokens, or each five? Such models are called **n-grams**, n being
# the tokens of a context and one more, and until about 2010 they were what nearly everybody used.
#
# **Predict.** As n grows, what happens to the loss on the stories that were counted? And on new stories?

# %% name="ngram_code"
ORDERS = (1, 2, 3, 4, 6, 8, 12, 16)


def keys(ids: Tensor, n: int) -> Tensor:
    """Every run of n tokens in ids (N,) as one 64-bit number, so mixed that no two runs are likely to share one: (N - n + 1,)."""
    key = torch.zeros(len(ids) - n + 1, dtype=torch.int64)
    for column in ids.unfold(0, n, 1).unbind(dim=1) if n else ():  # n × (N - n + 1,)
        key = key * 6364136223846793005 + column + 1  # wraps around, as it should
    return key


def look_up(known: Tensor, numbers: Tensor, wanted: Tensor) -> Tensor:
    """The number beside each wanted key, 0 for one that is not known; `known` ascends."""
    place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    return torch.where(known[place] == wanted, numbers[place], 0)


class NGrams:
    """How often each run of n tokens was met, and each context: a run without its last token."""

    def __init__(self, ids: Tensor) -> None:
        self.runs, self.contexts = {}, {}
        for n in ORDERS:
            met, which, count = keys(ids, n).unique(return_inverse=True, return_counts=True)
            of = torch.empty_like(met).scatter_(0, which, keys(ids[:-1], n - 1))  # the context of each run
            contexts, which, kinds = of.unique(return_inverse=True, return_counts=True)
            total = torch.zeros_like(contexts).index_add_(0, which, count)
            self.runs[n] = (met, count, total[which])
            self.contexts[n] = (contexts, total, kinds)  # kinds: by how many different tokens it was followed

    def p(self, ids: Tensor, order: int) -> Tensor:
        """The probability of each token of ids (N,) but the first 15, with contexts of up to `order` - 1 tokens."""
        p = torch.full((len(ids) - ORDERS[-1] + 1,), 1 / V, dtype=torch.float64)
        for n in ORDERS[: ORDERS.index(order) + 1]:
            run, context = keys(ids, n)[ORDERS[-1] - n :], keys(ids[:-1], n - 1)[ORDERS[-1] - n :]
            seen = look_up(*self.runs[n][:2], run)
            contexts, total, kinds = self.contexts[n]
            total, kinds = look_up(contexts, total, context), look_up(contexts, kinds, context)
            # A context that many different tokens followed will be followed by yet others: lean more on the shorter one.
            p = torch.where(total > 0, (seen + kinds * p) / (total + kinds), p)
        return p


n_grams = NGrams(stream)
new = torch.tensor(tokenizer.encode(corpus.separator.join(["", *(s.text for s in test_stories), ""])))
on_counted, on_new, unseen = [], [], []
for n in ORDERS:
    met, count, total = n_grams.runs[n]
    # Plain counts on the text that was counted: each run's −ln p, as often as it occurs.
    on_counted.append(-(count * (count / total).log()).sum().item() / count.sum().item())
    on_new.append(-n_grams.p(new, n).log().mean().item())
    unseen.append((look_up(*n_grams.contexts[n][:2], keys(new[:-1], n - 1)) == 0).double().mean().item())
    print(
        f"n = {n:2}: counted stories {on_counted[-1]:.3f}, new ones {on_new[-1]:.3f}; {unseen[-1]:.1%} of their contexts never met"
    )

# %% name="plot_ngrams" gptlib={"role": "reveal"}
best = min(on_new)
figure, axes = picture(
    6.4,
    3.3,
    title="Counting further back learns the text, and soon not the language",
    alt=f"Loss for n = {ORDERS}: on the counted stories "
    + ", ".join(f"{x:.2f}" for x in on_counted)
    + "; on new ones "
    + ", ".join(f"{x:.2f}" for x in on_new)
    + f"; floor {floor.nats_per_token:.2f}; bundled model {losses['bundled model']:.2f}.",
)
axes.plot(ORDERS, on_new, "o-", color=BLUE, label="new stories")
axes.plot(ORDERS, on_counted, "s--", color=ORANGE, label="the stories that were counted")
axes.axhline(losses["bundled model"], color=GREEN, linewidth=1.2, label="bundled model, new stories")
axes.axhline(floor.nats_per_token, color=GREY, linestyle=":", label="floor")
axes.set(xlabel="n (tokens of context and one more)", ylabel="loss (nats per token)", ylim=(0, 4))
axes.legend(frameon=False)
say(
    "On new stories the best n-gram has {best:.3f} nats per token, {times:.1f} times the floor. On the stories that were counted, n = {n} "
    "reaches {low:.3f}, which is *below* the floor of {floor:.3f}: it has learned these stories, not the language. And {unseen:.0%} of the new stories' "
    "contexts of {length} tokens did not occur in {stories:,} stories.",
    best=near(best, 0.498, 0.02),
    times=best / floor.nats_per_token,
    n=ORDERS[-1],
    low=near(on_counted[-1], 0.156, 0.02),
    floor=floor.nats_per_token,
    unseen=unseen[-1],
    length=ORDERS[-1] - 1,
    stories=corpus.train.count(corpus.separator),
)
figure

# %% [markdown] name="ngrams_explained"
# A context of fifteen tokens can be any of $V^{15} \approx 10^{45}$, and a table treats each of them as a thing of its own. It cannot know that *Nora saw a fox
# beside a* and *Otto saw a hare beside a* are the same for what follows. And what it needs to know, such as whom the story is about, often
# stands a hundred tokens back, where no table will ever reach. A model that generalises has to *compute* its probabilities from
# the context, and the rest of the course builds one.
#
# ## Your turn: Shannon's game
#
# In 1951 Claude Shannon let people guess English letter by letter, to find out how many bits a letter carries; his bounds were 0.6 to 1.3.
# Play it with words. For each gap, name up to three words and say how sure you are of each; what you leave over is shared by all other
# words. Your loss is −ln of what you gave to the word that was there, and you play against the bigram, the bundled model, and the world itself.

# %% name="game"
from gptlib.widgets import ShannonGame

game = ShannonGame.on_tales({"bigram": bigram, "bundled model": model}, tokenizer)
game

# %% [markdown] name="game_english"
# And in English, where nobody knows the truth. The bundled model plays along; it has never read a word of it outside the village.

# %% name="game_in_english"
english = ShannonGame.on_english({"bundled model": model}, tokenizer)
english

# %% name="plot_game" gptlib={"role": "reveal"}
game.plot()

# %% [markdown] name="calibration"
# Run the cell above when you have played. The left half puts you on the axis of the models. The right half shows whether you meant what you
# said: of all the words to which you gave about 30 %, were about 30 % right? Who keeps this up is **calibrated**. People are often too sure. The
# loss charges for that, since a wrong word with 95 % behind it costs $-\ln$ of a small remainder.
#
# ## Other questions one could ask of a text
#
# Predicting the next token won, but it had rivals. **BERT** (2018) hides 15 % of the tokens, all over the text, and asks for those,
# with both sides in view. **T5** (2019) cuts out spans and asks for them one after the other.


# %% name="objectives"
def next_token(tokens, rng):
    return tokens[:-1], tokens[1:], len(tokens) - 1


def masked(tokens, rng, rate=0.15):
    hidden = set(rng.sample(range(len(tokens)), max(1, round(rate * len(tokens)))))
    return (
        ["[MASK]" if i in hidden else w for i, w in enumerate(tokens)],
        [w if i in hidden else "·" for i, w in enumerate(tokens)],
        len(hidden),
    )


def spans(tokens, rng, rate=0.15, length=3):
    n = max(1, round(rate * len(tokens) / length))
    starts = sorted(rng.sample(range(0, len(tokens) - length, length + 1), n))
    asked, answer, at = [], [], 0
    for i, start in enumerate(starts):
        asked += [*tokens[at:start], f"<{i}>"]
        answer += [f"<{i}>", *tokens[start : start + length]]
        at = start + length
    return asked + tokens[at:], answer, n * length


sentence = "Nora saw a fox beside a river . The fox did not cross the river because it was too wide . So it"
for objective in (next_token, masked, spans):
    asked, answer, n = objective(sentence.split(), random.Random(2))
    print(
        f"{objective.__name__}: {n} of {len(sentence.split())} words are targets\n   reads  {' '.join(asked)}\n   says   {' '.join(answer)}\n"
    )

# %% [markdown] name="objectives_predict"
# Count again, once for each objective, on the same stories. A table for BERT's question takes its context from both sides, one for T5's
# from the left and from beyond the span; and both learn only from the positions that are asked, 15 % of the text.
#
# **Predict.** Which of the three ends with the lowest loss on the tokens it is asked for?


# %% name="objectives_measured"
REACH = 8  # no context goes further than so many tokens to either side


def runs(ids: Tensor, offsets: tuple[int, ...]) -> Tensor:
    """At every position of ids (N,) the tokens at these offsets from it, mixed into one number: (N - 2 · REACH,)."""
    key = torch.zeros(len(ids) - 2 * REACH, dtype=torch.int64)
    for offset in offsets:
        key = key * 6364136223846793005 + ids[REACH + offset : len(ids) - REACH + offset] + 1
    return key


def asked_for(contexts: list[tuple[int, ...]], share: float) -> float:
    """The loss on new stories of a table with these contexts, from short to long, that learned from a share of all positions."""
    chosen = torch.rand(len(stream) - 2 * REACH, generator=torch.Generator().manual_seed(0)) < share
    p = torch.full((len(new) - 2 * REACH,), 1 / V, dtype=torch.float64)
    for offsets in contexts:
        run, which, count = runs(stream, (*offsets, 0))[chosen].unique(return_inverse=True, return_counts=True)
        of = torch.empty_like(run).scatter_(0, which, runs(stream, offsets)[chosen])  # the context of each run
        known, which, kinds = of.unique(return_inverse=True, return_counts=True)
        total = torch.zeros_like(known).index_add_(0, which, count)
        context = runs(new, offsets)
        seen = look_up(run, count, runs(new, (*offsets, 0)))
        total, kinds = look_up(known, total, context), look_up(known, kinds, context)
        p = torch.where(total > 0, (seen + kinds * p) / (total + kinds), p)
    return -p.log().mean().item()


def two_sided(gap: int) -> list[tuple[int, ...]]:
    """Contexts of up to four tokens on the left and four on the right, where the text goes on `gap` tokens further."""
    right = tuple(range(gap, gap + 4))
    return [(), (-1,), *[(*range(-n, 0), *right[:m]) for n, m in ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 4))]]


one_sided = [tuple(range(-n, 0)) for n in range(REACH)]
next_loss, mask_loss = asked_for(one_sided, 1.0), asked_for(two_sided(1), 0.15)
span_loss = (
    sum(asked_for(two_sided(gap), 0.15) for gap in (1, 2, 3)) / 3
)  # the last word of a span, its middle, its first
all_masked = asked_for(two_sided(1), 1.0)

# %% name="objectives_answer" gptlib={"role": "reveal"}
reveal(
    "| asked for | positions that teach | nats per token asked for |\n|---|---|---|\n| the next token | all | {next_loss:.3f} |\n"
    "| spans of three | 15 % | {span_loss:.3f} |\n| hidden tokens | 15 % | {mask_loss:.3f} |\n\n"
    "Hidden tokens, and by far: what comes behind a gap tells what is in it. Had they learned from all positions, they would be at {all_masked:.3f}; "
    "asking one token in seven costs the rest.",
    question="Answer",
    next_loss=near(next_loss, 0.518, 0.02),
    span_loss=near(span_loss, 0.416, 0.03),
    mask_loss=near(mask_loss, 0.338, 0.03),
    all_masked=near(all_masked, 0.225, 0.02),
)
assert mask_loss < span_loss < next_loss

# %% [markdown] name="objectives_trap"
# So the rival wins its own game, and it is another game. Losses compare only between models that answer the same question, and the two have
# different floors: knowing what comes behind, the world itself would be lower, too.
#
# And what is it worth? Take a language of two texts, *heads heads* and *tails tails*, each with probability 1/2.
#
# **Predict.** Multiply the probabilities of the two words of *heads heads*, once as next tokens and once as hidden tokens. Which product is the
# probability of the text?

# %% name="objectives_product"
language = {("heads", "heads"): 0.5, ("tails", "tails"): 0.5}


def probability(known: dict[int, str]) -> float:
    """Of all texts that have these words in these places."""
    return sum(p for text, p in language.items() if all(text[i] == word for i, word in known.items()))


for text in language:
    first, second = text
    as_next = probability({0: first}) * probability({0: first, 1: second}) / probability({0: first})
    as_hidden = probability({0: first, 1: second}) / probability({1: second})  # the first word, the second in view
    as_hidden *= probability({0: first, 1: second}) / probability({0: first})  # and the other way round
    print(f"{' '.join(text)}: product of next tokens {as_next}, of hidden tokens {as_hidden}, truth {language[text]}")

# %% [markdown] name="objectives_explained"
# Every hidden word is certain, and the two texts together would have probability 2. Each answer was given with the other in view, and such answers do not
# multiply to anything. Why, then, did the plainest objective win?
#
# - **It writes.** The product of its answers is the probability of a text, so drawing one token after the other draws a text.
# - **Every token is a target.** One in seven is, for the other two, so that a text read once teaches less than it could. (For labelling texts, where
#   both sides are there, BERT's kind held its own for years.)
# - **A question is a text.** Whatever can be written down can be continued, with examples in front of it if need be. Nothing
#   has to be added for a new task. That was GPT-2's point in 2019 and GPT-3's in 2020.
#
# ## "Just autocomplete"
#
# True, as far as the training goes: nothing else is ever asked. But a question can be hard whatever its form. *Tess had nine coins and paid three, so
# she kept* asks for the next token, too. What a model must be able to do depends on the text.
#
# **Predict.** In the village's sums, some pairs of numbers were left out of all training stories. Does the bundled model add up those as well?

# %% name="abilities"
table = tales.abilities(model, tokenizer, max_stories=80, per_kind=60, kl_stories=0)
for kind, status, what in (
    ("pronoun", "seen", "he, she, they"),
    ("recall", "seen", "what was said earlier in the story"),
    ("sum", "seen", "sums that occur in training stories"),
    ("sum", "held out", "sums that never do"),
    ("fact", "seen", "facts of the world that stories tell"),
    ("fact", "untold", "facts that no story tells"),
):
    row = table[kind, status]
    print(f"{what:38} {row.accuracy:4.0%} right (guessing: {row.chance:.0%})")

# %% [markdown] name="autocomplete_explained"
# So both camps have their number. To predict well, this model has come to keep track of who is who, to remember, and to use facts
# and small sums: nobody asked for any of it by name, and a table of counts does none of it. And where the training text left sums out, most of
# what looked like adding turns out to be remembering. "It only predicts the next token" says what was rewarded, and nothing
# about how it is done. You have to look, and lessons 04 and 10 do.
#
# ## The model so far
#
# From now on you keep a model of your own, which grows with the lessons, and one chart: how many nats it stays above the floor. The first one is
# the bigram again, only that it is not counted but **trained**: it starts with scores of 0, is shown text, and moves its scores against the
# slope of the loss. `train` is the course's own loop, which lesson 08 builds.
#
# **Predict.** It is the same table with the same purpose. Will it end better than the counts, worse, or the same?

# %% name="train_bigram"
from gptlib import GPTConfig, TrainConfig, train

learned = Bigram(torch.zeros(V, V))
# train() reads from a config how long a text may be.
learned.config = GPTConfig(vocab_size=V, n_positions=256, n_embd=1, n_layer=1, n_head=1)
learned.n_parameters = lambda: V * V
settings = {"learning_rate": 0.5, "min_learning_rate": 0.01, "weight_decay": 0.0, "grad_clip": 0.0, "warmup_steps": 10}
settings |= {"batch_size": 16, "eval_every": 1000, "precision": "fp32", "device": "cpu"}
result = train(learned, corpus, tokenizer, TrainConfig(steps=400, **settings), verbose=False)
measured = tales.evaluate(learned, tokenizer, test_stories)
points = {"knows nothing": losses["knows nothing"], "bigram, trained": measured.nats_per_token}
points |= {"bigram, counted": losses["bigram"], "best n-gram": best, "bundled model": losses["bundled model"]}
above = {name: nats - losses["the world itself"] for name, nats in points.items()}
say(
    "After {steps} steps and {seconds:.0f} seconds the trained table has {learned:.3f} nats per token, the counted one {counted:.3f}.",
    steps=result.steps,
    seconds=result.seconds,
    learned=near(measured.nats_per_token, 2.11, 0.05),
    counted=losses["bigram"],
)

# %% name="chart"
if game.nats:
    above["you, on the words of the game"] = game.nats["you"] - game.nats["the world"]
figure, axes = picture(
    6.6,
    3.0,
    title="The running chart begins: a bigram, trained",
    alt="; ".join(f"{name}: {nats:.3f} nats above the floor" for name, nats in above.items()),
)
axes.plot(list(above.values()), list(above), "o", color=BLUE)
for name, nats in above.items():
    axes.annotate(f"{nats:.3f}", (nats, name), textcoords="offset points", xytext=(8, 4), fontsize=9)
axes.set(xlabel="nats per token above the floor", xscale="symlog", xlim=(0, 12))
axes.set_xticks([0, 1, 2, 5, 10], ["0", "1", "2", "5", "10"])
axes.invert_yaxis()
axes.grid(axis="x")
figure

# %% [markdown] name="trained_explained"
# Nearly the same: the counts *are* the answer to which a bigram's training leads. What training has over counting is that it also
# works where nothing can be counted, for a model that computes its scores from vectors, through any number of steps. It needs
# nothing but the slope of the loss.
#
# And it writes.

# %% name="writes"
torch.manual_seed(1)
ids = torch.tensor([[tokenizer.end_id]])  # (1, 1)
with torch.no_grad():
    for _ in range(70):
        p = learned(ids)[0][0, -1].softmax(dim=-1)  # (V,)
        ids = torch.cat([ids, torch.multinomial(p, 1)[None]], dim=1)  # (1, T + 1)
print(textwrap.fill(tokenizer.decode(ids[0, 1:].tolist()), 100))

# %% [markdown] name="library"
# ## The part in the library
#
# The loss above is inside `GPT.forward`, and this is all there is to it:

# %% name="library_source"
import inspect

from gptlib import GPT

source = inspect.getsource(GPT.forward)
print(source[source.index("        if targets is None") :])

# %% name="library_equal"
inputs, targets = stream[:64][None], stream[1:65][None]
with torch.no_grad():
    logits, theirs = model(inputs, targets=targets)
    ours = cross_entropy(logits[0], targets[0])
print(f"ours {ours:.6f}   theirs {theirs:.6f}   equal to rounding: {torch.allclose(ours, theirs, atol=1e-5)}")

# %% [markdown] name="appendix"
# ## Appendix: before attention
#
# Between n-grams and GPTs, language models were **recurrent**. A recurrent network reads one token after the other and keeps a vector, its
# *state*, in which all that it remembers must fit: $h_t = \tanh(W x_t + U h_{t-1})$. The **LSTM** (1997) adds gates that let a part of the state pass
# unchanged. Both see the whole past, in principle. Train each for the same 150 steps.


# %% name="recurrent"
class Recurrent(nn.Module):
    """Token vectors, a recurrent layer, and scores of the next token."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.config = learned.config
        self.token_embedding = nn.Embedding(V, 128)
        self.layer = {"RNN": nn.RNN, "LSTM": nn.LSTM}[kind](128, 128, batch_first=True)
        self.to_scores = nn.Linear(128, V)

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.to_scores(self.layer(self.token_embedding(ids))[0])  # (B, T) -> (B, T, C) -> (B, T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())


recurrent = {}
for kind in ("RNN", "LSTM"):
    torch.manual_seed(0)
    recurrent[kind] = Recurrent(kind)
    settings |= {"learning_rate": 0.01, "batch_size": 8, "grad_clip": 1.0}
    train(recurrent[kind], corpus, tokenizer, TrainConfig(steps=150, **settings), verbose=False)
    loss = tales.evaluate(recurrent[kind], tokenizer, test_stories).nats_per_token
    print(f"{kind:5} {loss:.2f} nats per token, {loss - losses['the world itself']:.2f} above the floor")

# %% [markdown] name="recurrent_predict"
# **Predict.** How does a token's influence on the prediction fade with its distance? The next cell takes the slope of the last prediction with
# respect to the vector of each earlier token.

# %% name="vanishing"
fading = {}
texts = torch.stack([stream[i * 300 : i * 300 + 120] for i in range(32)])  # (32, T)
for kind, network in recurrent.items():
    x = network.token_embedding(texts).detach().requires_grad_()  # (32, T, C)
    scores = network.to_scores(network.layer(x)[0][:, -1])  # (32, V): the last prediction
    scores.log_softmax(-1).max(dim=-1).values.sum().backward()
    fading[kind] = x.grad.norm(dim=-1).mean(dim=0).flip(0)  # (T,): by distance
say(
    "Forty tokens back, the slope is {rnn:.0e} of that of the last token in the RNN, and {lstm:.0e} in the LSTM.",
    rnn=fading["RNN"][40] / fading["RNN"][0],
    lstm=fading["LSTM"][40] / fading["LSTM"][0],
)
figure, axes = picture(
    6,
    3,
    title="What lies far back hardly moves a recurrent network",
    alt=f"Slope by distance, logarithmic: RNN from {fading['RNN'][0]:.1e} to {fading['RNN'][40]:.1e} at 40 tokens, LSTM from "
    f"{fading['LSTM'][0]:.1e} to {fading['LSTM'][40]:.1e}.",
)
for (kind, slopes), style in zip(fading.items(), ("-", "--"), strict=True):
    axes.plot(range(len(slopes)), slopes, style, label=kind)
axes.set(xlabel="tokens back", ylabel="size of the slope", yscale="log")
axes.legend(frameon=False)
figure

# %% [markdown] name="vanishing_explained"
# After so few steps the LSTM is not ahead; what its gates buy shows in the figure, and only far back. The slope passes through one
# step for every token of distance, and shrinks at each. What has no slope is not learned, so that what stands far back is learned late
# or never. This is the **vanishing gradient**.
#
# The second trouble is time: step t needs the state of step t − 1. PyTorch remembers which operation waited for which, so the longest chain can be
# counted. Beside the two stands attention, which lesson 03 is about.
#
# **Predict.** The text gets four times as long. What happens to the number of operations that must be done one after the other?


# %% name="sequential"
def longest_chain(result: Tensor) -> int:
    """How many operations had to wait for one another, in the longest chain that led to this result."""
    length, waiting = {}, [result.grad_fn]
    while waiting:
        before = [operation for operation, _ in waiting[-1].next_functions if operation is not None]
        unknown = [operation for operation in before if operation not in length]
        waiting += unknown
        if not unknown:
            length[waiting.pop()] = 1 + max((length[operation] for operation in before), default=0)
    return length[result.grad_fn]


def step_by_step(cell: nn.Module, x: Tensor) -> Tensor:
    state = None
    for x_t in x.unbind(dim=1):  # T × (B, C)
        state = cell(x_t, state)  # (B, C), or for the LSTM a pair of them
    return state[0] if isinstance(state, tuple) else state


chains = {"RNN": {}, "LSTM": {}, "attention": {}}
for T in (16, 64, 256):
    x = torch.randn(1, T, 32, requires_grad=True)  # (B, T, C)
    for kind, cell in (("RNN", nn.RNNCell(32, 32)), ("LSTM", nn.LSTMCell(32, 32))):
        chains[kind][T] = longest_chain(step_by_step(cell, x))
    chains["attention"][T] = longest_chain(F.scaled_dot_product_attention(x, x, x, is_causal=True))
print(f"{'tokens':10}", *(f"{T:6}" for T in chains["RNN"]))
for kind, by_length in chains.items():
    print(f"{kind:10}", *(f"{n:6}" for n in by_length.values()))
assert len(set(chains["attention"].values())) == 1
assert chains["RNN"][256] > 3.5 * chains["RNN"][64] and chains["LSTM"][256] > 3.5 * chains["LSTM"][64]

# %% [markdown] name="recurrent_explained"
# In the recurrent networks it is four times as many, and no further processor shortens the wait. Attention reaches any token in one step and computes all
# positions at once: as many operations, whatever the length, each of them larger.
#
# ## Three sentences to remember
#
# 1. A language model is scored by −ln of the probability that it gave to the token which really came, at every position of a text.
# 2. On average nobody scores below the entropy of the language, and only true probabilities reach it.
# 3. Counts know only contexts that they have met; to go further, probabilities must be computed.
#
# ## Exercises
#
# [Set 02](../exercises/02_predicting_the_next_token.ipynb) (in `work/exercises` if you came by `make lab`), about 30 minutes:
#
# | exercise | minutes |
# |---|---|
# | `prediction.bigram`: a model that counts | 10 |
# | `prediction.cross_entropy`: what a prediction costs | 12 |
# | `prediction.perplexity`: as unsure as among how many | 6 |
#
# **Next:** [Attention: which tokens to look at](03_attention.ipynb).
#
# ## Where to read more
#
# - Claude E. Shannon, "A Mathematical Theory of Communication" (1948): n-grams, entropy, and English sentences drawn from them. "Prediction
#   and Entropy of Printed English" (1951): the game.
# - Ian H. Witten and Timothy C. Bell, "The Zero-Frequency Problem" (1991): how far to trust a count, as the n-grams above do.
# - Yoshua Bengio, Réjean Ducharme, Pascal Vincent and Christian Jauvin, "A Neural Probabilistic Language Model" (2003).
# - Sepp Hochreiter and Jürgen Schmidhuber, "Long Short-Term Memory" (1997).
# - Jacob Devlin, Ming-Wei Chang, Kenton Lee and Kristina Toutanova, "BERT" (2018). Colin Raffel and eight others, "Exploring the Limits of Transfer
#   Learning with a Unified Text-to-Text Transformer" (2019): T5, and a comparison of objectives.
# - Tilmann Gneiting and Adrian E. Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation" (2007): losses that reward honesty.
