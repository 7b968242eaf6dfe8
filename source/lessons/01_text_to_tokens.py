# %% [markdown] name="title"
# # Text to tokens
#
# {{badge}}
#
# After this lesson you can turn any text into the numbers that a GPT reads, with a tokenizer that you have trained yourself;
# you can say what a vocabulary costs and what it saves; and you know why models stumble over spaces, numbers and letters.
#
# | | |
# |---|---|
# | Reading | about 45 minutes |
# | Running | under a minute on two CPU cores; no GPU, no network |
# | Know first | Python: lists, dicts, loops; for the last third, tensors and `@` in PyTorch (lesson 00 is enough for the rest) |
# | Afterwards | the three exercises of set 01, about 25 minutes |
#
# Shapes stand in the comments. `T` is the number of tokens in a text, `V` the number of tokens that a tokenizer knows, `C` the
# width of the vector that a model keeps for each token.

# %% [markdown] name="thing_predict"
# ## The thing itself
#
# A GPT computes with numbers, and a text is not one. Between the two stands a **tokenizer**, which cuts the text into
# **tokens** and gives each kind of token a number, its **id**. The course's small GPT brings its own.
#
# **Predict.** It has read nothing but stories from a village, in which people called Otto see foxes and hares. Into how many
# tokens does it cut *Otto saw a fox.*? And a word that no story holds, *strawberry*?
#
# <details><summary>Answer</summary>
#
# The first into five or six, depending on what stands before *Otto*; the second into seven, which are mere letters and pairs of
# letters. The tokens are the strings that were frequent in the stories, and nobody eats strawberries there.
#
# </details>

# %% name="thing"
from gptlib import load_model, say
from gptlib.plots import BLUE, GREY, ORANGE, picture, plot_tokenizations, visible
from gptlib.prose import near, reveal

model, tokenizer = load_model("tales")


def show(tokenizer, text):
    ids = tokenizer.encode(text)
    cut = "|".join(visible(token) for token in tokenizer.tokens(ids))  # a space shows as ␣
    print(f"{text!r}: {len(ids)} tokens   {cut}   {ids}")


show(tokenizer, "Otto saw a fox.")
show(tokenizer, " Otto saw a fox.")
show(tokenizer, " strawberry")
print(repr(tokenizer.decode(tokenizer.encode("strawberry 🙂, שלום"))))

# %% [markdown] name="thing_explained"
# Some words are one token, others are pieced together, and a space belongs to the word behind it. Nothing is lost: `decode`
# gives back the text, emoji, Hebrew and all. Everything else in a GPT starts from these ids. It never sees the letters.
#
# Where does such a list of tokens come from? Three simple answers come first, and what is wrong with each.
#
# ## A number for each character
#
# Every character has a number already. That is what Unicode is: a table from numbers to characters, and Python's `ord` reads
# it.

# %% name="characters"
import sys
import unicodedata

print([f"{character} {ord(character):,}" for character in "Ottoéש世🙂"])
assigned = sum(unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs") for i in range(sys.maxunicode + 1))
say(
    "Unicode has room for {room:,} characters and, in the version that this Python knows ({version}), gives a meaning to {assigned:,}.",
    room=sys.maxunicode + 1,
    version=unicodedata.unidata_version,
    assigned=assigned,
)

# %% [markdown] name="characters_explained"
# A vocabulary of that size would be three times GPT-2's, and nearly all of it would stand for characters that the training text
# never shows. So one takes the characters that do occur. `CharTokenizer` does; it is the smallest tokenizer there is, and good
# enough for a play by Shakespeare. **What breaks:** the first character that it has not met.

# %% name="characters_break"
from gptlib import CharTokenizer, load_corpus

tales_text = load_corpus("tales:2000")  # 2,000 stories to learn from, and others to measure on
characters = CharTokenizer.train(tales_text.train)
print(characters.vocab_size, "characters:", "".join(characters.characters))
try:
    characters.encode("Otto saw 12 foxes.")
except ValueError as error:
    print("ValueError:", error)

# %% [markdown] name="bytes"
# ## A number for each byte
#
# Files know the way out. A file is a list of **bytes**, numbers from 0 to 255, and **UTF-8** writes every character of Unicode
# as one to four of them: English letters as one, accented letters and many alphabets as two, most of the rest as three, most
# emoji as four.

# %% name="bytes_code"
for text in ("O", "é", "ש", "世", "🙂"):
    print(text, list(text.encode()))

# %% [markdown] name="bytes_explained"
# With a vocabulary of 256 no text is beyond us. (The numbers from 128 on never stand alone: one above 191 begins a character,
# and those below it go on with it, which is how a reader knows where characters begin.)
#
# **What breaks:** nothing, but texts get long, and length is what a model pays for. It has a longest text, and the work of
# attention grows with the square of the length (lessons 03 and 04).
#
# **Predict.** The bundled model reads at most 256 positions. How many of the village's stories fit in, as bytes? As its own
# tokens?

# %% name="length_of_stories"
stories = [story for story in tales_text.test.split(tales_text.separator) if story]
as_bytes = [len(story.encode()) for story in stories]
as_tokens = [len(tokenizer.encode(story)) for story in stories]
limit = model.config.n_positions
mean_bytes, mean_tokens = sum(as_bytes) / len(stories), sum(as_tokens) / len(stories)
say(
    "As bytes, {fit_bytes:.0%} of {n} stories fit into {limit} positions, as tokens {fit_tokens:.0%}. A story is {mean_bytes:.0f} bytes or "
    "{mean_tokens:.0f} tokens on average, and has {squared:.0f} times as many pairs of positions for attention to compare.",
    fit_bytes=near(sum(n <= limit for n in as_bytes) / len(stories), 0.0, 0.1),
    n=len(stories),
    limit=limit,
    fit_tokens=near(sum(n <= limit for n in as_tokens) / len(stories), 1.0, 0.1),
    mean_bytes=mean_bytes,
    mean_tokens=mean_tokens,
    squared=(mean_bytes / mean_tokens) ** 2,
)

# %% [markdown] name="words"
# ## A number for each word
#
# Then why not a number for each word? For decades that was the custom: take the most frequent words of the training text, and
# give one last number, `<unk>`, to all others.
#
# To try it on something less tidy than the village we need English. There is some on every machine that runs Python: the
# descriptions in the source code of Python's own library, more than a megabyte of them. The source itself will serve as a third
# kind of text.

# %% name="english"
import inspect
import re

python_text = load_corpus("python")  # the standard library of this Python: source to learn from, and files held back
python_learn, python_new = (part.split(python_text.separator) for part in (python_text.train, python_text.validation))
DESCRIPTION = re.compile(r':\n\s+r?"""(.+?)"""', re.DOTALL)


def descriptions(files):
    found = (inspect.cleandoc(text) for source in files for text in DESCRIPTION.findall(source))
    return "\n\n".join(text for text in found if ">>>" not in text)  # without examples of code


texts = {
    "tales": (
        tales_text.train.replace(tales_text.separator, "\n"),
        tales_text.test.replace(tales_text.separator, "\n"),
    ),
    "English": (descriptions(python_learn[::2]), descriptions(python_new)),  # every other file is enough
    "Python": ("\n".join(python_learn[::8]), "\n".join(python_new[::2])),
}
texts = {name: (learn[:400_000], new[:50_000]) for name, (learn, new) in texts.items()}
print({name: (len(learn), len(new)) for name, (learn, new) in texts.items()})
print(texts["English"][1][1000:1400])

# %% [markdown] name="words_predict"
# **Predict.** Make a list of *all* words in 400,000 characters of this English. How many words of new text are not in it? One
# in a thousand, one in a hundred, one in ten?

# %% name="unknown_words"
from collections import Counter

WORD = re.compile(r"\w+|[^\w\s]")
unknown = {}
for name in ("tales", "English"):
    learn, new = (WORD.findall(text) for text in texts[name])
    ranked = [word for word, _ in Counter(learn).most_common()]
    sizes = sorted({*(n for n in (100, 200, 500, 1000, 2000, 5000) if n < len(ranked)), len(ranked)})
    known = {n: set(ranked[:n]) for n in sizes}
    unknown[name] = {n: sum(word not in known[n] for word in new) / len(new) for n in sizes}
missed = [word for word in dict.fromkeys(WORD.findall(texts["English"][1])) if word not in known[len(ranked)]]
print("not in the list:", ", ".join(missed[:14]))

# %% name="plot_unknown" gptlib={"role": "reveal"}
figure, axes = picture(
    6,
    3,
    title="However long the list of words, new English brings others",
    alt="Share of unknown words in new text against the length of the list: "
    + "; ".join(
        f"{name} from {100 * max(s.values()):.0f} % to {100 * min(s.values()):.1f} %" for name, s in unknown.items()
    ),
)
for (name, shares), style in zip(unknown.items(), ("o-", "s--"), strict=True):
    axes.plot(list(shares), [100 * share for share in shares.values()], style, label=name)
axes.set(xscale="log", xlabel="words in the list", ylabel="unknown words\nin new text (%)", ylim=(0, None))
axes.set_xticks([100, 1000, 10_000], ["100", "1,000", "10,000"])
axes.legend(frameon=False)
say(
    "With all {all:,} words in the list, {share:.1%} of the words of new English are unknown, one in {one_in:.0f}. For the village, "
    "{village_all:,} words are enough: {village:.2%} are unknown.",
    all=max(unknown["English"]),
    share=near(unknown["English"][max(unknown["English"])], 0.06, 0.04),
    one_in=1 / unknown["English"][max(unknown["English"])],
    village_all=max(unknown["tales"]),
    village=unknown["tales"][max(unknown["tales"])],
)
figure

# %% [markdown] name="words_explained"
# Names, numbers, compounds, typing errors: language is never finished. And a `<unk>` cannot be decoded, so a model that reads
# it has lost just the word that carried the news. Characters and bytes are never at a loss but long-winded; words are brief but
# run out. What is wanted lies between: short pieces for whatever is rare, long ones for whatever is frequent.
#
# ## Byte pair encoding, by hand
#
# The idea is Philip Gage's, who wanted to compress files (1994). Rico Sennrich, Barry Haddow and Alexandra Birch brought it to
# language (2016), and with GPT-2 it moved from characters to bytes (2019):
#
# 1. Begin with bytes.
# 2. Count all pairs of neighbours.
# 3. Give the most frequent pair a new id, and replace it by that id wherever it stands.
# 4. Again from 2, until there are as many tokens as you want.
#
# Two functions do it.

# %% name="pair_counts_and_merge"
from itertools import pairwise


def pair_counts(ids):
    return Counter(pairwise(ids))


def merge(ids, pair, new_id):
    merged = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2  # both are used up
        else:
            merged.append(ids[i])
            i += 1
    return merged


print(pair_counts([1, 2, 1, 2, 3]))
print(merge([1, 2, 1, 2, 3], (1, 2), 9), merge([1, 1, 1], (1, 1), 9))

# %% [markdown] name="steps_predict"
# **Predict.** The text is *the hen and the other hen then saw the fox*. Which pair goes first? Which second?
#
# <details><summary>Answer</summary>
#
# *h* and *e*: they stand in *the*, *hen*, *other* and *then*, seven times in all. Then *t* with the new *he*, five times.
#
# </details>

# %% name="steps"
toy = "the hen and the other hen then saw the fox"
ids = list(toy.encode())
text_of = {byte: bytes([byte]) for byte in range(256)}
print(f"{len(ids)} bytes   {toy}")
for new_id in range(256, 262):
    counts = pair_counts(ids)
    pair = min(counts, key=lambda pair: (-counts[pair], pair))  # the most frequent; of equals the one with smaller ids
    text_of[new_id] = text_of[pair[0]] + text_of[pair[1]]
    ids = merge(ids, pair, new_id)
    cut = "|".join(visible(text_of[i].decode()) for i in ids)
    print(f"{visible(text_of[new_id].decode()):>5}, {counts[pair]} times, is {new_id}: {len(ids):2} left   {cut}")

# %% [markdown] name="steps_explained"
# First *he*, then, on top of it, what stands beside it. A later merge may use what an earlier one made; that is how tokens grow
# beyond two bytes. Nobody told the procedure what a word is.
#
# And yet look at the last lines. Tokens have grown across a space, and from there on *the* is written in several ways,
# depending on what stands next to it.
#
# ## Where merges must stop
#
# So GPT-2 cuts the text into pieces before anything is merged, and no merge ever crosses a cut. Its rule is a single regular
# expression: English contractions; then runs of letters, of digits, or of other signs, each with at most one space in front;
# then white space.

# %% name="pieces"
from gptlib.tokenizers import GPT2_PATTERN, pretokenize

print(GPT2_PATTERN)
for text in ("Otto's 12 hens saw it, didn't they?", "def f(x):\n    return x"):
    print("|".join(visible(piece) for piece in pretokenize(text)))

# %% [markdown] name="across_predict"
# **Wrong first.** What if merges may cross spaces? Let both ways learn 1,500 tokens from the same 40,000 characters of English.
# (The library's `learn_merges_fast` learns what the loop above learns, in less time.)
#
# **Predict.** Which of the two needs fewer tokens for the text? In how many tokens will the word *the* occur?
#
# <details><summary>Answer</summary>
#
# Merging across spaces needs fewer: it has all merges of the other to choose from, and more. But see what it spends them on.
#
# </details>

# %% name="across"
from gptlib.tokenizers import apply_merges, learn_merges_fast

sample = texts["English"][0][:40_000]
learned = {}
for name, pieces in {"cut at words": pretokenize(sample), "across spaces": sample.splitlines(keepends=True)}.items():
    vocab = {bytes([byte]): byte for byte in range(256)}
    merges = learn_merges_fast(pieces, vocab, 1500)
    ranks = {pair: rank for rank, pair in enumerate(merges)}  # apply_merges: further down you write it yourself
    n_tokens = sum(n * len(apply_merges(piece.encode(), merges, ranks)) for piece, n in Counter(pieces).items())
    holds_the = [token for token in vocab if re.search(rb"\bthe\b", token)]
    with_space = sum(b" " in token.strip() for token in vocab)
    whole_words = {token.strip() for token in vocab if len(token) > 1 and token.strip().isalpha()}
    learned[name] = n_tokens, len(holds_the), with_space, len(whole_words)
    print(f"{name}: {[token.decode() for token in holds_the[:9]]}")

# %% name="say_across" gptlib={"role": "reveal"}
say(
    "| | tokens that the text takes | in the vocabulary: with the word *the* | with a space inside | different strings of letters |\n"
    "|---|---|---|---|---|\n{rows}",
    rows="\n".join(f"| {name} | {n:,} | {a} | {b} | {c:,} |" for name, (n, a, b, c) in learned.items()),
)
assert learned["cut at words"][0] > learned["across spaces"][0]
assert learned["cut at words"][1] <= 3 and learned["across spaces"][1] > 20

# %% [markdown] name="across_explained"
# Across spaces the tokens get longer, so the text gets shorter: as compression it is the better deal. But *the* now hides in
# dozens of tokens, each with a number and a vector of its own, and a model has to learn anew for each of them that an English
# noun follows. The places in the vocabulary that phrases take are missing for words. GPT-2's authors saw the same with *dog.*,
# *dog!* and *dog?*, and made the cut for that reason.
#
# ## A vocabulary from real text
#
# Counting within the pieces is the only change. Here is the whole of training.


# %% name="learn"
def learn_merges(pieces, vocab, vocab_size):
    words = [[vocab[bytes([byte])] for byte in piece.encode()] for piece in pieces]
    text_of = {token_id: token for token, token_id in vocab.items()}
    merges = {}
    while len(vocab) < vocab_size:
        counts = Counter()
        for word in words:
            counts.update(pair_counts(word))
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        token = text_of[pair[0]] + text_of[pair[1]]
        new_id = merges[pair] = vocab.setdefault(token, len(vocab))  # another pair may have made this token before
        text_of[new_id] = token
        words = [merge(word, pair, new_id) for word in words]
    return merges


some_tales = texts["tales"][0][:6000]
my_vocab = {bytes([byte]): byte for byte in range(256)}
my_merges = learn_merges(pretokenize(some_tales), my_vocab, 380)
my_tokens = list(my_vocab)  # in the order of their ids
print("|".join(visible(token.decode()) for token in my_tokens[256:]))

# %% [markdown] name="learn_explained"
# Read it from left to right: letters that go together, then endings and little words, then names and things. From two pages of
# text it knows who lives in the village.
#
# ## Text to ids
#
# What training leaves behind is the list of merges, in their order. To encode a new text, cut it into pieces, begin with the
# bytes of each, and apply the merges in the order in which they were learned.


# %% name="encode"
def encode(text, merges):
    ids = []
    for piece in pretokenize(text):
        part = list(piece.encode())
        for pair, new_id in merges.items():
            part = merge(part, pair, new_id)
        ids += part
    return ids


def decode(ids):
    return b"".join(my_tokens[i] for i in ids).decode(errors="replace")


for text in ("Otto saw a fox.", "Ottoman, naïve 🙂"):
    ids = encode(text, my_merges)
    print("|".join(visible(my_tokens[i].decode(errors="backslashreplace")) for i in ids), ids, decode(ids) == text)

# %% [markdown] name="longest_predict"
# You will read that BPE takes, from left to right, the *longest* token that fits.
#
# **Predict.** Does that give the same?


# %% name="longest"
def longest_first(text, vocab):
    ids, data, i = [], text.encode(), 0
    while i < len(data):
        end = max(end for end in range(i + 1, len(data) + 1) if data[i:end] in vocab)
        ids.append(vocab[data[i:end]])
        i = end
    return ids


words_of_tales = sorted(set(pretokenize(texts["tales"][1])))
differ = [word for word in words_of_tales if longest_first(word, my_vocab) != encode(word, my_merges)]
for word in differ[:5]:
    by_merges, by_length = encode(word, my_merges), longest_first(word, my_vocab)
    print(
        f"{word!r}: merges {[my_tokens[i].decode() for i in by_merges]}, longest {[my_tokens[i].decode() for i in by_length]}"
    )
say("{n} of {all} different words are cut in another way.", n=len(differ), all=len(words_of_tales))

# %% [markdown] name="longest_explained"
# Not the same, and a model that was trained on one and is fed with the other reads texts cut in a way it has never met. The
# order of the merges is the rule, and the list of tokens alone does not hold it: that is why GPT-2's tokenizer is *two* files,
# one with tokens and one with merges.
#
# ## What a larger vocabulary buys
#
# Every further merge makes texts shorter. By how much? A vocabulary has a pleasant property here: the first 1,000 tokens of a
# large one are exactly what training would have given when asked for 1,000. So one training gives the whole curve.
#
# **Predict.** From 256 tokens to 512, from 512 to 1,024 and so on: does every doubling shorten the text by the same share? For
# which of the three texts does the curve end first?

# %% name="curves"
from gptlib import BPETokenizer

SIZES = (256, 512, 1024, 2048, 4096, 8192)
trained = {name: BPETokenizer.train(learn, max(SIZES), special_tokens=()) for name, (learn, _) in texts.items()}


def first_tokens(tokenizer, n):
    """The tokenizer as it was when it had n tokens."""
    vocab = {token: i for token, i in tokenizer.vocab.items() if i < n}
    return BPETokenizer(vocab, {pair: i for pair, i in tokenizer.merges.items() if i < n}, {})


def per_100_characters(tokenizer, text):
    return 100 * len(tokenizer.encode(text)) / len(text)


lengths = {
    name: {n: per_100_characters(first_tokens(trained[name], n), new) for n in SIZES if n <= trained[name].vocab_size}
    for name, (_, new) in texts.items()
}
for name, tokenizer_of_text in trained.items():
    lengths[name][tokenizer_of_text.vocab_size] = per_100_characters(tokenizer_of_text, texts[name][1])
    print(f"{name:8}", {n: round(length, 1) for n, length in sorted(lengths[name].items())})

# %% name="plot_curves" gptlib={"role": "reveal"}
figure, axes = picture(
    6.4,
    3.3,
    title="Each doubling of the vocabulary shortens a text, and less each time",
    alt="Tokens per 100 characters of new text against vocabulary size: "
    + "; ".join(
        f"{name} " + ", ".join(f"{length:.0f} at {n:,}" for n, length in sorted(points.items()))
        for name, points in lengths.items()
    ),
)
for (name, points), style in zip(lengths.items(), ("o-", "s--", "^:"), strict=True):
    axes.plot(*zip(*sorted(points.items()), strict=True), style, label=name)
axes.axhline(25, color=GREY, linewidth=1)
axes.text(256, 24, "“four characters a token”", va="top", fontsize=9, color=GREY)
axes.set_xscale("log", base=2)
axes.set_xticks(SIZES, [f"{n:,}" for n in SIZES])
axes.set(xlabel="tokens in the vocabulary", ylabel="tokens per 100 characters\nof new text", ylim=(0, 105))
axes.legend(frameon=False)
say(
    "English: from {start:.0f} tokens per 100 characters, the first doubling takes away {first:.0%}, the last one {last:.0%}. The village has no use "
    "for more than {village:,} tokens: by then every word that it was shown is one token, and no pair is left to merge.",
    start=lengths["English"][256],
    first=near(1 - lengths["English"][512] / lengths["English"][256], 0.50, 0.08),
    last=near(1 - lengths["English"][8192] / lengths["English"][4096], 0.06, 0.05),
    village=trained["tales"].vocab_size,
)
figure

# %% [markdown] name="curves_explained"
# "A token is about four characters", one reads, or "three quarters of a word". That is the grey line: a fair figure for
# English, cut by a vocabulary of many thousand tokens that was learned from English. Change either, and it is gone.
#
# ## The wrong tokenizer
#
# **Predict.** Python source, cut by the tokenizer that was trained on the village's stories, at equal vocabulary: how much
# longer does it get?

# %% name="crossed"
small = {name: first_tokens(each, 1024) for name, each in trained.items()}
crossed = {(a, b): per_100_characters(small[a], texts[b][1]) for a in small for b in texts}
say(
    "Tokens per 100 characters, 1,024 tokens each:\n\n| trained on | tales | English | Python |\n|---|---|---|---|\n{rows}\n\n"
    "On Python source, the village's tokenizer needs {factor:.1f} times as many tokens as Python's own.",
    rows="\n".join(f"| {a} | " + " | ".join(f"{crossed[a, b]:.0f}" for b in texts) + " |" for a in small),
    factor=near(crossed["tales", "Python"] / crossed["Python", "Python"], 2.2, 0.5),
)
line = "\n    for name, value in self.items():"
lines = {f"trained on {name}": each.tokens(each.encode(line)) for name, each in small.items()}
plot_tokenizations(lines, title="The village's tokenizer spells what the others read")

# %% [markdown] name="crossed_explained"
# Nothing fails: it is bytes below. But the text is longer, each token says less, and much of what the model had learned about
# the tokens of its own text is of no use. A tokenizer is trained once, before the model, and then never changed: each id is the
# number of a row in the model's table, as you will see below.
#
# ## Other scripts pay more
#
# One sentence, in nine languages. The tokenizer was trained on English only, which is an extreme case of what GPT-2's was
# trained on.
#
# **Predict.** Chinese writes the sentence with 12 characters, English with 32. Which one is more tokens?
#
# <details><summary>Answer</summary>
#
# Chinese, by far. The tokenizer has never met its characters, so each of them is the three bytes that write it, and three tokens.
#
# </details>

# %% name="languages"
fox = {
    "English": "Otto saw a fox beside the river.",
    "German": "Otto sah einen Fuchs am Fluss.",
    "French": "Otto a vu un renard au bord de la rivière.",
    "Greek": "Ο Όττο είδε μια αλεπού δίπλα στο ποτάμι.",
    "Russian": "Отто увидел лису у реки.",
    "Hebrew": "אוטו ראה שועל ליד הנהר.",
    "Hindi": "ओटो ने नदी के किनारे एक लोमड़ी देखी।",
    "Chinese": "奥托在河边看见一只狐狸。",
    "Japanese": "オットーは川のそばで狐を見た。",
}
counted = {name: (len(text), len(trained["English"].encode(text))) for name, text in fox.items()}
print({name: f"{c} characters, {t} tokens" for name, (c, t) in counted.items()})

# %% name="plot_languages" gptlib={"role": "reveal"}
times = {name: t / counted["English"][1] for name, (_, t) in counted.items()}
worst = max(times, key=times.get)
figure, axes = picture(
    6.4,
    3.2,
    title=f"The same sentence is up to {times[worst]:.0f} times as many tokens",
    alt="Tokens of one sentence: " + ", ".join(f"{name} {t}" for name, (_, t) in counted.items()) + ".",
)
axes.barh(
    list(counted), [t for _, t in counted.values()], color=[ORANGE if name == "English" else BLUE for name in counted]
)
for row, (c, t) in enumerate(counted.values()):
    axes.text(t + 1, row, f"{t} for {c} characters", va="center", fontsize=9)
axes.invert_yaxis()
axes.set(xlabel="tokens (trained on English, 8,192 tokens)", xlim=(0, 1.3 * max(t for _, t in counted.values())))
figure

# %% [markdown] name="languages_explained"
# Where the training text had nothing of a script, two or three bytes a character are two or three tokens. Those who write in it
# pay more where tokens are billed, fit less into the same context, and leave the model to spell what it elsewhere reads.
# Vocabularies of later models were trained on more languages, and are larger; the gap has become smaller and has not closed.
#
# ## Half a character
#
# An emoji is four bytes. Tokens are byte strings, so a token may end in the middle of a character.

# %% name="half"
faces = BPETokenizer.train("🙂🙃🙄🙁🙅" * 3, 258, special_tokens=())  # the bytes, and two merges
ids = faces.encode("🙂")
print("tokens:", faces.tokens(ids))
print("one at a time:", [faces.decode([i]) for i in ids])
print("together:     ", faces.decode(ids))

# %% [markdown] name="half_explained"
# The first token is what all these faces share, and by itself it is no text: decoded alone it becomes �, the sign for bytes
# that are no character. Whoever shows a model's tokens as they come has to hold back until a character is whole. (The course's
# `stream_text` does.) And a model that samples freely may write such a half and never the other.
#
# ## A space makes another token
#
# **Predict.** *Otto* at the beginning of a text, *Otto* after a space, *OTTO* and *otto*: how many of them have a token in
# common?
#
# <details><summary>Answer</summary>
#
# *Otto* and *otto* share their end, because neither is a token of its own. *Otto* after a space, the form that stands in nearly every
# sentence, has nothing in common with any of them.
#
# </details>

# %% name="spaces"
for text in ("Otto", " Otto", " otto", " OTTO", " Ottos", "\nOtto"):
    show(tokenizer, text)

# %% [markdown] name="spaces_explained"
# The model is given numbers, and the number of " Otto" has no more to do with those of "Otto" than with any other. That the two
# mean the same it has to learn from texts, token by token. Usually that goes well enough. Here is where it does not.
#
# **Predict.** The prompt *Otto lived in the* goes on with *lighthouse*. What happens if you end the prompt, as one does when
# typing, with a space?

# %% name="trailing_space"
import torch

from gptlib import generate


def go_on(prompt, n=7):
    ids = torch.tensor([tokenizer.encode("<|endoftext|>" + prompt)])  # (1, T)
    with torch.no_grad():
        p = model(ids)[0][0, -1].softmax(dim=-1)  # (V,)
        new = generate(model, ids, n, temperature=0)[0, ids.size(1) :]
    text = tokenizer.decode(new.tolist())
    print(f"{prompt!r} -> {text!r}")
    return p, text


before, home = go_on("Otto lived in the")
with_space, elsewhere = go_on("Otto lived in the ")
assert "lighthouse" in home and "lighthouse" not in elsewhere
read = tokenizer.encode(tales_text.train)
behind = Counter(after for space, after in pairwise(read) if [space] == tokenizer.encode(" "))  # a space alone
beginning = sum(
    before[i].item() for i, token in enumerate(tokenizer.tokens(range(len(before)))) if token.startswith(" ")
)
say(
    "Without the space, tokens that begin with a space had {share:.1%} of the probability, *lighthouse* alone {sure:.1%}. With it, the most probable "
    "token gets {lost:.0%}. In {n:,} tokens of stories, a space stands alone {alone:.0f} times, before {before}.",
    n=len(read),
    alone=near(behind.total(), 273, 2000),
    before=", ".join(f"`{tokenizer.decode([i])}`" for i, _ in behind.most_common(3)) or "nothing",
    share=beginning,
    sure=near(before[tokenizer.encode(" lighthouse")[0]], 0.99, 0.1),
    lost=with_space.max(),
)

# %% [markdown] name="trailing_space_explained"
# The space belongs to the word behind it. One that stands alone is rare in what this model has read, and comes only before
# words whose beginning has no token together with a space. So it is on ground that it hardly knows. To say *lighthouse* it
# would have to write the word without its space, in pieces that it hardly ever met in such a place, and it says something that
# no story would. Larger models recover better, and they too do worse on a prompt that ends in a space. End it with the word.
#
# ## Numbers
#
# Digits are merged like everything else: what was frequent is one token.

# %% name="numbers"
english = trained["English"]
for text in ("1990", "1995", "2000", "2005", "2010", "2017", "1000", "1001", "12345", "12346"):
    print(f"{text:>6}", "|".join(english.tokens(english.encode(text))))
tokens_of = Counter(len(english.encode(str(n))) for n in range(1000, 10_000))
print("numbers of four digits by tokens:", dict(sorted(tokens_of.items())))

# %% [markdown] name="numbers_explained"
# A number's neighbour may be cut in another place, so that the digit of the tens stands here in the first token and there in
# the second. Adding in columns is hard to learn when the columns move. Later models changed the rule and not the method: the
# first Llama models cut every digit off by itself, and GPT-4's pattern allows at most three digits in a token. Since the cut is
# made before merging, all it takes is another regular expression.
#
# ## Letters
#
# *How many r are in strawberry?* became famous because large models used to get it wrong. What does a model see of the word?

# %% name="letters"
show(tokenizer, " Otto")
show(tokenizer, " strawberry")
show(english, " strawberry")
print(sum(letter == "t" for letter in "Otto"), "t in Otto;", "in", tokenizer.encode(" Otto"), "there is none to count")

# %% [markdown] name="letters_explained"
# Ids have no letters. That " Otto" is written with two t can be learned only from a text that says so. Large models have read
# enough spelling, rhymes and typing errors to know how most tokens are written; what they know is a fact *about* the token,
# like the capital of a country, and nothing that they could look at and count. The tokenizer explains why this is hard. It is
# not an excuse for every wrong sum.
#
# ## Try it
#
# Type, and compare: characters, bytes, the bundled model's tokens, and the two that you trained on English and on Python.
#
# - Put a space at the end. Delete the first space of a word.
# - Find an English word that is one token for English and three for tales.
# - Write your name, and write it in capitals.
# - Indent a line by four spaces, by eight. Who has a token for that?

# %% name="view"
from gptlib.widgets import TokenizerView
from gptlib.widgets.tokenizer_view import usual_tokenizers

mine = {f"trained on {name}": trained[name] for name in ("English", "Python")}
TokenizerView("Otto saw 12 foxes beside a river.\n    return self.name  # naïve 🙂", {**usual_tokenizers(), **mine})

# %% [markdown] name="parity"
# ## The same ids as everybody
#
# A tokenizer is only of use if everyone who reads the ids has the same one. In practice the `tokenizers` package does this
# work, and the file it reads is called `tokenizer.json`. Ours writes one. Does the package, written in another language by
# other people, give the same ids?

# %% name="parity_code"
import json
import random
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

with tempfile.TemporaryDirectory() as folder:
    file = english.save(Path(folder))  # tokenizer.json
    theirs = Tokenizer.from_file(str(file))
    our_merges = json.loads(file.read_text(encoding="utf-8"))["model"]["merges"]

AWKWARD = [
    "Otto's hens can't; we'll, I'D, they've",
    "  two  spaces   three\t\ttabs \n\n \r\n end ",
    "naïve café, straße, ﬁ, ½, ², Ⅷ, ١٢٣",
    "奥托 אוטו ओटो 🙂🙃 👩‍👩‍👧 e\u0301",
    "\x00\x1f\u200b\ufeff\u2028\xa0",
    "====---->>>> x**2 != y // 3",
    "".join(map(chr, range(300))),
    "",
]
random.seed(0)
everything = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i < 0xE000]  # half pairs are no characters
anything = ["".join(random.choices(everything[:3000] if n % 2 else everything, k=20)) for n in range(1000)]
different = [
    text for text in AWKWARD + anything + [texts["Python"][1]] if theirs.encode(text).ids != english.encode(text)
]
returned = all(english.decode(english.encode(text)) == text for text in AWKWARD + anything)
say(
    "Of {n:,} awkward and random texts, {different:.0f} have other ids; all come back whole: {returned}.",
    n=len(AWKWARD + anything) + 1,
    different=near(len(different), 0, 0),
    returned=returned,
)

# %% [markdown] name="trainer"
# Its trainer, too, finds the same merges in the same order, when it is given the same text.

# %% name="trainer_code"
from tokenizers import models, pre_tokenizers, trainers

peer = Tokenizer(models.BPE())
peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
peer.train_from_iterator(
    [texts["English"][0]],
    trainers.BpeTrainer(vocab_size=8192, initial_alphabet=alphabet, special_tokens=[], show_progress=False),
)
peer_merges = json.loads(peer.to_str())["model"]["merges"]
print(f"our first: {our_merges[:4]}\ntheir first: {peer_merges[:4]}")
print(f"all {len(our_merges):,} merges, in their order, are the same:", our_merges == peer_merges)

# %% [markdown] name="gpt2_files"
# ## GPT-2's own files
#
# OpenAI published GPT-2's tokenizer as two files: `encoder.json` has the tokens with their ids, `vocab.bpe` the merges in their
# order. If you have loaded GPT-2 by transformers before, they are on your machine, under the names `vocab.json` and
# `merges.txt`. If not, and if you want them, put the two from
# `https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/` into a folder `gpt2` beside this notebook. `load_tokenizer`
# reads a folder with either pair. The lesson fetches nothing by itself; without the files the next cell says so and the rest
# goes on.

# %% name="gpt2_code"
from huggingface_hub.constants import HF_HUB_CACHE

from gptlib.corpora import cache_folder
from gptlib.tokenizers import load_tokenizer


def find_gpt2():
    places = [Path("gpt2"), cache_folder() / "gpt2"]
    for name in ("gpt2", "openai-community--gpt2"):
        places += Path(HF_HUB_CACHE).glob(f"models--{name}/snapshots/*")
    for place in places:
        if (place / "encoder.json").is_file() and (place / "vocab.bpe").is_file():
            return load_tokenizer(place)
        if (place / "vocab.json").is_file() and (place / "merges.txt").is_file():
            return load_tokenizer(place / "vocab.json")
    return None


gpt2_tokenizer = find_gpt2()
if gpt2_tokenizer is None:
    say("GPT-2's files are not on this machine.")
else:
    for text in ("Otto", " Otto", " strawberry", " SolidGoldMagikarp", "12345", "🙂", "        return x"):
        show(gpt2_tokenizer, text)
    say(
        "{V:,} tokens. The sentence about the fox: {languages}. New text, tokens per 100 characters: {rates}.",
        V=gpt2_tokenizer.vocab_size,
        languages=", ".join(f"{name} {len(gpt2_tokenizer.encode(text))}" for name, text in fox.items()),
        rates=", ".join(f"{name} {per_100_characters(gpt2_tokenizer, new):.0f}" for name, (_, new) in texts.items()),
    )

# %% [markdown] name="gpt2_explained"
# GPT-2's vocabulary is 256 bytes, 50,000 merges and one token more: 50,257. In its files a space looks like `Ġ`, and *é* like
# `Ã©`. No letter is meant by that: tokens are bytes, a text file wants characters, and so each byte is written as one printable
# character. (The bytes are numbered in the order of these characters, so that *O*, byte 79, is token 46 there, and in the
# bundled tokenizer, too.) Hardly any token holds more than one space: an indentation of eight costs GPT-2 seven tokens,
# and the last space goes with the word. Later vocabularies mended that.
#
# One of the 50,000 is the name of a user of Reddit, " SolidGoldMagikarp": frequent, it seems, in the text on which the
# tokenizer was trained, and hardly present in the text on which models then were. We will meet the like below.
#
# ## One token that no text makes
#
# What is the last one? Training text is many documents in a row, and a model should know where one ends. So there is a token
# for it, **end of text**, that no merge makes. It is written `<|endoftext|>`, and it stands at the end of what a model writes,
# too: when it is drawn, the model is done.

# %% name="special"
plain = BPETokenizer(tokenizer.vocab, tokenizer.merges, {})  # the same tokens, without the special one
show(tokenizer, "The end.<|endoftext|>Otto")
show(plain, "The end.<|endoftext|>Otto")
print("end_id:", tokenizer.end_id)

# %% [markdown] name="special_explained"
# Mind who may write it. Here the *text* `<|endoftext|>` becomes the token wherever it stands, which suits a course. In a
# service, a user who types it would end a document in the midst of a prompt, and with the tokens by which chats mark who is
# speaking they could put words in the system's mouth. Libraries therefore make it a choice: `tiktoken` raises an error at such
# a text unless it is allowed. Chat tokens are the subject of lesson 16.
#
# ## An id is the number of a row
#
# Now into the model. Its first part is a table with V rows, one for each token, of C numbers each. The id picks a row, and this
# row is the vector with which the token enters: its **embedding**.

# %% name="lookup"
table = model.token_embedding.weight.detach()  # (V, C)
V, C = table.shape
ids = torch.tensor(tokenizer.encode(" Otto saw a fox beside a river."))  # (T,)
x = table[ids]  # (T,) -> (T, C): row by row
print(f"table {tuple(table.shape)}, ids {tuple(ids.shape)}, vectors {tuple(x.shape)}")
print("what the model's own part gives:", torch.equal(x, model.token_embedding(ids)))

# %% [markdown] name="one_hot_predict"
# Textbooks say something else: write the id as a **one-hot** vector, V zeros but for a 1 at the place of the id, and multiply
# it by a matrix.
#
# **Predict.** How far apart are the two?
#
# <details><summary>Answer</summary>
#
# Not at all. Row by row, the product multiplies all rows of the table by 0 but one, which it multiplies by 1, and adds them up.
#
# </details>

# %% name="one_hot"
import torch.nn.functional as F

one_hot = F.one_hot(ids, V).float()  # (T, V)
table_1, table_2 = table.clone().requires_grad_(), table.clone().requires_grad_()
by_product, by_lookup = one_hot @ table_1, table_2[ids]  # (T, V) @ (V, C) -> (T, C)
target = torch.randn(by_lookup.shape)  # (T, C)
(by_product * target).sum().backward()
(by_lookup * target).sum().backward()
print("same vectors:", torch.equal(by_product, by_lookup))
print(
    "same slopes:",
    torch.allclose(table_1.grad, table_2.grad),
    "  rows with a slope:",
    table_2.grad.any(dim=1).sum().item(),
    "of",
    V,
)
say(
    "For 1,024 tokens of GPT-2, the one-hot matrix alone would be {mb:.0f} MB of numbers, of which one in {V:,} is not 0.",
    mb=1024 * 50_257 * 4 / 1e6,
    V=50_257,
)

# %% [markdown] name="one_hot_explained"
# They are the same to the last bit, and so are the slopes. The product says what the lookup *means*: an embedding is a linear
# map like any other, and can be trained. The lookup is how it is done, since multiplying by zeros is a waste of time. And
# through the lookup a row moves only when its token occurs: here seven, since *a* occurs twice.
#
# ## Similar tokens, similar vectors
#
# The ids say nothing about meaning: they are the order of merging. The rows began as noise. What has training made of them? The
# angle between two rows tells: their **cosine** is 1 when they point the same way and 0 when they have nothing in common.
#
# **Predict.** Which tokens are nearest to " fox"? To " Otto"? Those that are written alike, those that stand next to it in
# texts, or others?

# %% name="neighbours"
unit = F.normalize(table, dim=1)  # (V, C): each row at length 1
seen = torch.tensor(tokenizer.encode(tales_text.train)).bincount(minlength=V)  # (V,): how often each occurs


def neighbours(word, n=5):
    [i] = tokenizer.encode(word)
    cosine = unit @ unit[i]  # (V, C) @ (C,) -> (V,)
    cosine = cosine.where(seen >= 20, -1)  # those that the model has met often
    near_ids = cosine.topk(n + 1).indices[1:].tolist()  # the first is the word itself
    return ", ".join(f"{tokenizer.decode([j]).strip()} {cosine[j]:.2f}" for j in near_ids)


say(
    "| token | nearest, with their cosine |\n|---|---|\n{rows}",
    rows="\n".join(
        f"| {word.strip()} | {neighbours(word)} |" for word in (" fox", " Otto", " river", " three", " she", " saw")
    ),
)

# %% [markdown] name="kinds_predict"
# Neither. They are the tokens that could stand *in its place*: what can be seen beside a river, who can live in a lighthouse.
# Nobody told the model of animals, names and numbers. Tokens that are used alike were moved alike. Here are five kinds, all
# against all.

# %% name="kinds"
kinds = {
    "people": " Otto Nora Felix Hugo Tess Ida June Bram",
    "animals": " fox hare deer badger squirrel",
    "places": " river road bridge field",
    "numbers": " two three four five six seven eight",
    "verbs": " saw met found heard took went",
}
rows, kind_of = [], []
for kind, words in kinds.items():
    for ids_of_word in (tokenizer.encode(f" {word}") for word in words.split()):
        if len(ids_of_word) == 1:
            rows += ids_of_word
            kind_of.append(kind)
cosines = unit[rows] @ unit[rows].T  # (n, C) @ (C, n) -> (n, n)
same_kind = torch.tensor([[a == b for b in kind_of] for a in kind_of])
others = ~torch.eye(len(rows), dtype=torch.bool)
letters = [token.strip()[:1].lower() for token in tokenizer.tokens(range(V))]
words = [
    i for i, token in enumerate(tokenizer.tokens(range(V))) if re.fullmatch(r" [A-Za-z]{3,}", token) and seen[i] >= 20
]
all_words = unit[words] @ unit[words].T  # (m, m)
apart = ~torch.eye(len(words), dtype=torch.bool)
same_letter = torch.tensor([[letters[a] == letters[b] for b in words] for a in words])
print(
    f"{len(rows)} tokens of {len(kinds)} kinds; and all {len(words)} words that are one token, for their first letters"
)

# %% name="plot_kinds" gptlib={"role": "reveal"}
names = [token.strip() for token in tokenizer.tokens(rows)]
within, across = (round(cosines[chosen].mean().item(), 2) + 0.0 for chosen in (same_kind & others, ~same_kind))
figure, axes = picture(
    6.6,
    5.6,
    title="Tokens of one kind point the same way",
    alt=f"Map of cosines of {len(rows)} tokens. Blocks on the diagonal, one a kind, are bright, {within:.2f} on average; elsewhere {across:.2f}.",
)
image = axes.imshow(cosines, cmap="viridis", vmin=-0.2, vmax=0.8)
axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
axes.set_yticks(range(len(rows)), names, fontsize=8)
for place in range(1, len(rows)):
    if kind_of[place] != kind_of[place - 1]:
        axes.axhline(place - 0.5, color="white", linewidth=1.5)
        axes.axvline(place - 0.5, color="white", linewidth=1.5)
figure.colorbar(image, ax=axes, shrink=0.8, label="cosine of two rows of the table")
say(
    "Two tokens of one kind have a cosine of {within:.2f} on average, two of different kinds {across:.2f}. Spelling shows little: of all pairs of "
    "words, those that begin with the same letter have {letter:.3f}, all others {no_letter:.3f}.",
    within=near(within, 0.45, 0.15),
    across=near(across, 0.05, 0.15),
    letter=near(all_words[same_letter & apart].mean(), 0.07, 0.1),
    no_letter=all_words[~same_letter].mean(),
)
figure

# %% [markdown] name="kinds_explained"
# One line in passing: what is similar here is the token by itself, before the model has read anything around it. A *bank* has
# one row, of a river or not. Which one is meant is worked out in the layers above, by attention.
#
# ## Rows that nobody trained
#
# Some merges are only steps on the way. Once *squ* has become *squirrel*, it does not occur any more, and yet it keeps its
# number and its row.
#
# **Predict.** What share of the bundled model's tokens never occurs in 2,000 stories? And what do their rows look like: noise,
# as at the start?

# %% name="unmet"
never = (seen == 0).nonzero()[:, 0]  # ids that do not occur
often = (seen >= 20).nonzero()[:, 0]


def mean_cosine(chosen):
    n = len(chosen)
    together = unit[chosen] @ unit[chosen].T  # (n, n)
    return (together.sum() - n) / (n * (n - 1))  # without the diagonal


print("|".join(visible(token) for token in tokenizer.tokens(never[-40:].tolist())))

# %% name="say_unmet" gptlib={"role": "reveal"}
reveal(
    "{share:.0%}. Their rows are no noise: any two of them have a cosine of {never:.2f} on average, tokens that occur often {often:.2f}. Training had "
    "one thing to say about all of them, *this does not come next*, and moved them all in the same direction.",
    question="Answer",
    share=near(len(never) / V, 0.34, 0.1),
    never=near(mean_cosine(never), 1.0, 0.4),
    often=mean_cosine(often),
)

# %% [markdown] name="unmet_explained"
# (It could say so because the bundled model, like GPT-2, uses the table a second time, at its end, to score what comes next.
# Lesson 07 has more on that.) In large models such rows made news in 2023: asked to repeat " SolidGoldMagikarp", models of the
# GPT-3 family spoke of something else, or were rude. A vector that training never placed is a word that means nothing, at a
# spot where others may mean something.
#
# ## What a vocabulary costs
#
# The table has V × C numbers, and all of them count as parameters.
#
# **Predict.** GPT-2 small has 50,257 tokens and vectors of width 768. What share of its 124,439,808 parameters is the table?
# And in GPT-3, which has the same vocabulary?

# %% name="cost"
from dataclasses import replace

from gptlib import GPT, GPTConfig
from gptlib.scaling import parameters

presets = {"GPT-2 small": "gpt2", "GPT-2 medium": "gpt2-medium", "GPT-2 large": "gpt2-large"}
presets |= {"GPT-2 XL": "gpt2-xl", "GPT-3": "gpt3"}
configs = {"bundled model": model.config} | {name: GPTConfig.preset(preset) for name, preset in presets.items()}
counts = {name: parameters(config) for name, config in configs.items()}  # counted from the shapes of all matrices
with torch.device("meta"):  # shapes only, no numbers in them
    gpt2 = GPT(configs["GPT-2 small"])
assert gpt2.token_embedding.weight.numel() == counts["GPT-2 small"]["token embeddings"] == 50_257 * 768
assert gpt2.n_parameters() == counts["GPT-2 small"].total == 124_439_808
assert model.n_parameters() == counts["bundled model"].total
with_theirs = parameters(replace(model.config, vocab_size=50_257))
print(counts["GPT-2 small"])

# %% name="plot_cost" gptlib={"role": "reveal"}
shares = {name: 100 * count.share("token embeddings") for name, count in counts.items()}
figure, axes = picture(
    6.4,
    2.8,
    title="50,257 tokens: a third of a small model, hardly a thing in a large one",
    alt="Token embeddings in percent of all parameters: "
    + ", ".join(f"{name} {share:.1f}" for name, share in shares.items()),
)
bars = [f"{name} ({configs[name].vocab_size:,})" if name == "bundled model" else name for name in shares]
axes.barh(bars, list(shares.values()))
for row, (name, share) in enumerate(shares.items()):
    axes.text(share + 0.5, row, f"{share:.1f} % of {counts[name].total:,}", va="center", fontsize=9)
axes.invert_yaxis()
axes.set(xlabel="token embeddings (% of all parameters)", xlim=(0, 50))
say(
    "In GPT-2 small {gpt2:.0f} % of all parameters are token embeddings, in GPT-3 {gpt3:.1f} %. With GPT-2's vocabulary, the bundled model would have "
    "{large:,} parameters instead of {small:,}, and {share:.0%} of them would be the table.",
    gpt2=near(shares["GPT-2 small"], 31, 0.5),
    gpt3=near(shares["GPT-3"], 0.35, 0.05),
    large=with_theirs.total,
    small=counts["bundled model"].total,
    share=with_theirs.share("token embeddings"),
)
figure

# %% [markdown] name="cost_explained"
# So the size of a vocabulary is a trade: shorter texts against a larger table, and against V scores to be computed at every
# position. A small model on a small language takes a thousand tokens. Large ones can afford more, and do: Llama 3 has 128,256.
#
# ## What popular texts say
#
# | They say | It is |
# |---|---|
# | "A token is a word", or "a syllable". | A frequent string of bytes. Words when they are frequent, half a character when need be. |
# | "Tokens are roots and endings." | Only as far as these are frequent: see the cuts below. |
# | "A token is four characters." | In English, with a large vocabulary learned from English. You measured other cases. |
# | "BPE takes the longest token that fits." | It applies merges in the order of learning; you saw words that differ. |
# | "The model reads letters." | It reads numbers of rows. Letters are facts that it may or may not have learned. |
# | "Neighbouring ids are related." | An id is a place in the order of merging. |
#
# The next two cells show the second line and the last.

# %% name="popular_parts"
for word in (" unhappy", " unhappily", " happiness", " rewriting", " written", " reusable", " unused"):
    print(f"{word:12}", "|".join(visible(token) for token in english.tokens(english.encode(word))))

# %% name="popular_ids"
i, j = torch.triu_indices(len(often), len(often), offset=1)
distance = (often[i] - often[j]).abs().double()
together = (unit[often[i]] * unit[often[j]]).sum(dim=1).double()
correlation = torch.corrcoef(torch.stack([distance, together]))[0, 1]
say(
    "Over {n:,} pairs of tokens, the distance of their ids and the cosine of their rows have a correlation of {r:.2f}.",
    n=len(i),
    r=near(correlation, 0.0, 0.2),
)

# %% [markdown] name="library"
# ## The part in the library
#
# What you have built is in `gptlib/tokenizers/merging.py`. This is its code, without the descriptions:

# %% name="library_source"
from gptlib.tokenizers import merging

for name in ("pair_counts", "merge", "apply_merges"):
    code = inspect.getsource(getattr(merging, name))
    print(code.split('"""')[0].rstrip() + code.rsplit('"""', 1)[1])

# %% [markdown] name="library_explained"
# `apply_merges` is the one that looks different. It does not try all merges, of which GPT-2 has 50,000, but asks which pairs of
# the piece are known, and takes the one that was learned first. The result is the same:

# %% name="library_equal"
their_vocab = {bytes([byte]): byte for byte in range(256)}
their_merges = merging.learn_merges(pretokenize(some_tales), their_vocab, 380)
print("same merges, same ids:", their_merges == my_merges and their_vocab == my_vocab)
real = BPETokenizer(my_vocab, my_merges, {})
checked = [*AWKWARD, *anything[:40], *stories[:20]]
equal = all(real.encode(text) == encode(text, my_merges) for text in checked)
print(f"your encode and BPETokenizer.encode give equal ids on {len(checked)} texts:", equal)
assert their_merges == my_merges and equal

# %% [markdown] name="end"
# ## Three sentences to remember
#
# 1. Byte pair encoding begins with bytes, so that no text is beyond it, and merges the most frequent pair of neighbours again and again, within words; the order
#    of the merges is the tokenizer.
# 2. A model sees neither letters nor words but ids, and an id is the number of a row in a table, which training fills.
# 3. A vocabulary suits the text that it was learned from: elsewhere texts get longer, and a larger one makes texts shorter and the table larger.
#
# ## Exercises
#
# [Set 01](../exercises/01_text_to_tokens.ipynb) (in `work/exercises` if you came by `make lab`):
#
# | exercise | minutes |
# |---|---|
# | `tokens.pair_counts`: count the pairs | 5 |
# | `tokens.merge`: merge a pair | 8 |
# | `tokens.encode`: text to ids | 12 |
#
# **Next:** [Predicting the next token](02_predicting_the_next_token.ipynb).
#
# ## Where to read more
#
# - Philip Gage, "A New Algorithm for Data Compression" (1994): byte pair encoding, for files.
# - Rico Sennrich, Barry Haddow and Alexandra Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016): the same for language, with the loop
#   above as its algorithm 1.
# - Alec Radford, Jeffrey Wu, Rewon Child, David Luan, Dario Amodei and Ilya Sutskever, "Language Models are Unsupervised Multitask Learners" (2019): GPT-2;
#   section 2.2 is about bytes, and the cut before merging.
# - Taku Kudo and John Richardson, "SentencePiece: A Simple and Language Independent Subword Tokenizer and Detokenizer for Neural Text Processing" (2018): the other
#   way to treat spaces, as a character like others.
# - Aleksandar Petrov, Emanuele La Malfa, Philip Torr and Adel Bibi, "Language Model Tokenizers Introduce Unfairness Between Languages" (2023).
# - Itay Itzhak and Omer Levy, "Models In a Spelling Bee: Language Models Implicitly Learn the Character Composition of Tokens" (2022).
# - Jessica Rumbelow and Matthew Watkins, "SolidGoldMagikarp (plus, prompt generation)" (2023): the rows that nobody trained.
