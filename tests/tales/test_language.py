"""What the stories are like: length, words, agreement, and marks that say what is so."""

import re
from collections import Counter

import pytest

from gptlib import tales
from gptlib.tales.ability import KINDS
from gptlib.tales.things import NUMBERS

STORIES = tales.sample(11, 4000)


def test_stories_have_60_to_200_words():
    lengths = [len(story.text.split()) for story in STORIES]
    assert min(lengths) >= 60
    assert max(lengths) <= 200


def test_world_has_at_least_600_words():
    words = {word.lower() for story in STORIES for word in re.findall(r"[A-Za-z]+", story.text)}
    assert len(words) >= 600


def test_text_is_plain_and_well_formed():
    for story in STORIES:
        assert re.fullmatch(r"[A-Za-z .,?\":]+", story.text), story.text
        assert "  " not in story.text
        assert story.text.endswith(".")
        assert story.text.count('"') % 2 == 0
        for sentence in re.split(r'(?<=\.)"? ', story.text):
            assert re.match(r'"?[A-Z]', sentence), sentence
        assert not re.search(r" [.,?]|[,.?][A-Za-z]|\.\.", story.text), story.text


def test_every_quotation_but_a_continued_one_has_its_speaker():
    # Two quotations side by side would leave open who speaks.
    for story in STORIES:
        assert '" "' not in story.text, story.text


def test_articles_agree():
    for story in STORIES:
        for article, word in re.findall(r"\b([Aa]n?) (\w+)", story.text):
            assert (article.lower() == "an") == (word[0] in "aeiou" or word == "hour"), story.text


def test_verbs_and_pronouns_agree_with_those_they_speak_of():
    people = {person.name: person.pronoun for person in tales.world().people}
    names = "|".join(people)
    for story in STORIES:
        for name, verb in re.findall(rf"({names})(?:, who)? (was|were)\b", story.text):
            assert (verb == "were") == (people[name] == "they"), story.text
        for pronoun, verb in re.findall(r"\b(He|She|They|I|We) (was|were|am|are|is|lives|live)\b", story.text):
            assert (verb in ("were", "are", "live")) == (pronoun in ("They", "We")), story.text
        for name, pronoun in re.findall(rf"Everyone in the village knew ({names})\. (\w+)", story.text):
            assert pronoun.lower() == people[name], story.text
        for speaker, said in re.findall(rf'"(I|We) [^"]*" (?:said|asked) ({names})', story.text):
            assert (speaker == "We") == (people[said] == "they"), story.text


def test_sums_are_right():
    value = {word: number for number, word in enumerate(NUMBERS)}
    checked = 0
    for story in STORIES:
        if added := re.search(r"bought (\w+) \w+ and (\w+) .* makes? (\w+)\.", story.text):
            assert value[added[1]] + value[added[2]] == value[added[3]]
            checked += 1
            taken = re.search(r"(?:gave|broke, and|cooked) (\w+) of them.*? (?:had|only|other) (\w+)", story.text)
            assert taken
            assert value[added[3]] - value[taken[1]] == value[taken[2]]
        if paid := re.search(r"paid (\w+) of the (\w+) coins and kept (\w+)", story.text):
            assert value[paid[2]] - value[paid[1]] == value[paid[3]]
            checked += 1
    assert checked > 500


def test_the_adjective_decides_what_follows():
    after = {}
    for story in STORIES:
        found = re.search(r"The (\w+) did not cross the (\w+) because it was too (\w+)\. So it ([a-z ]+)\.", story.text)
        if found:
            animal, barrier, adjective, then = found.groups()
            who = re.search(rf"(?:Because the|The) (\w+) was too {adjective}", story.text[found.end() :])
            after.setdefault(adjective, (then, Counter()))[1][who[1] == animal] += 1
            assert after[adjective][0] == then
            assert who[1] in (animal, barrier)
    sides = {adjective: counts for adjective, (_, counts) in after.items()}
    assert len(sides) == 16
    assert all(len(counts) == 1 for counts in sides.values())
    assert sum(True in counts for counts in sides.values()) == 4


def test_marks_are_spans_of_the_text_with_wrong_alternatives():
    for story in STORIES:
        assert list(story.marks) == sorted(story.marks, key=lambda mark: mark.start)
        for mark in story.marks:
            assert mark.kind in KINDS
            assert story.text[mark.start : mark.end] == mark.text != ""
            assert mark.text not in mark.alternatives
            assert len(set(mark.alternatives)) == len(mark.alternatives)
            if mark.antecedent:
                assert 0 <= mark.antecedent[0] < mark.antecedent[1] <= mark.start


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mark_occurs_with_something_to_tell_apart(kind):
    marks = [mark for story in STORIES for mark in story.marks if mark.kind == kind]
    assert sum(bool(mark.alternatives) for mark in marks) > 500


def test_antecedents_say_what_is_recalled():
    for story in STORIES:
        for mark in story.marks:
            said = mark.antecedent and story.text[slice(*mark.antecedent)]
            if mark.kind == "pronoun" and mark.alternatives and said:
                person = next(person for person in tales.world().people if person.name == said)
                own = {"she": "she her her i me my", "he": "he him his i me my", "they": "they them their we us our"}
                assert mark.text.lower() in own[person.pronoun].split()
            if mark.kind == "reference" and mark.alternatives:
                assert said
            if mark.kind == "ending":
                assert len(mark.alternatives) == 1


def test_the_it_of_a_crossing_points_at_what_the_adjective_says():
    seen = set()
    for story in STORIES:
        if "because it was too" in story.text:
            (mark,) = [mark for mark in story.marks if mark.text == "it" and mark.kind == "pronoun"]
            subject = re.search(r"(?:Because the|\. The|\. The) (\w+) was too", story.text[mark.end :])[1]
            assert story.text[slice(*mark.antecedent)].split()[-1] == subject
            assert mark.alternatives == ()
            seen.add(subject)
    assert len(seen) == 11


def test_happy_and_sad_endings_follow_from_what_happened():
    endings = Counter(mark.text for story in STORIES for mark in story.marks if mark.kind == "ending")
    assert len(endings) == 12
    sad = sum(count for text, count in endings.items() if re.search("heavy|awake|bad|sigh|without|quiet", text))
    assert 0.25 < sad / len(STORIES) < 0.5
    for story in STORIES:
        if "they found the" in story.text and "gone" in story.text:
            assert not re.search(r"heavy heart|lay awake|a bad day|sighed|quiet\.", story.text)


def test_choices_that_carry_the_story_outweigh_its_wording():
    nats: Counter[str] = Counter()
    for story in STORIES:
        for kind, log_prob in story.choices:
            nats[kind] -= log_prob / len(STORIES)
    assert nats["wording"] / nats.total() < 0.25
    assert nats["people"] + nats["facts"] > nats["wording"]
