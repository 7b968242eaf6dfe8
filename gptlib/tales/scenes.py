"""The stories: every rule a list of alternatives, every alternative a template.

    {hero}              say the value of a slot; the first time, it is drawn (`slots` says from what)
    {hero.home}         say another form of it; {hero.He} is {hero.he} with a capital, {Day} is {day} with a capital
    {recall day}        say it and mark it: the story decides it (recall, cause, reference, sum, speaker or ending)
    [ending]            one of the alternatives of that rule
    [end:why.side]      one of those of the rule end:animal or end:barrier, by what {why.side} is
    {mood=happy}        settle a slot without a word; {left=total-given} by arithmetic, {culprit=hero} by another slot
    {refer it subject}  the word said for slot `it` meant what slot `subject` holds

An alternative that speaks of a fact is open only to people of whom the fact is told. A number before an alternative is
its weight; without one it is 1. The same words must never come about in two ways: alternatives of a rule differ in what
they say.
"""

Alternative = str | tuple[int, str]
Rules = dict[str, list[Alternative]]

# What kind of choice a rule is, for the account of where the entropy lies. A rule that is not named here is wording.
KINDS = {
    "plot": "plot",
    "about": "facts",
    "pal": "facts",
    "who": "facts",
    "lost.search": "outcome",
    "promise.day": "outcome",
    "market.after": "outcome",
    "coins.after": "outcome",
    "cross.end:animal": "outcome",
    "cross.end:barrier": "outcome",
    "quarrel.break": "outcome",
    "quarrel.peace": "outcome",
    "weather.help": "outcome",
    "naming.end": "outcome",
    "visit.end": "outcome",
    "visit.bring": "facts",
    "visit.pet": "facts",
    "errand.where": "facts",
    "errand.end": "outcome",
    "hiding.end": "outcome",
    "race.run": "outcome",
}

FRAME: Rules = {
    "story": ["[introduction] [company] [plot] [ending]"],
    "introduction": [
        (4, "{hero} [about]."),
        (1, "Everyone in the village knew {hero}. {hero.He} [about]."),
        (1, "This is a story about {hero}, who [about]."),
    ],
    "about": [
        "lived {hero.home}",
        "{hero.was} {hero.trade}",
        "had {hero.pet}",
        "liked {hero.food} better than anything else",
        "{hero.was} {hero.trade} and lived {hero.home}",
        "lived {hero.home} and had {hero.pet}",
        "spent the days {hero.work} and the evenings eating {hero.food}",
        "had {hero.pet} that liked {hero.food} as much as {hero.he} did",
    ],
    "company": [
        "{hero.He} {hero.was} best friends with {pal}[pal]",
        "{hero.He} often had supper with {pal}[pal]",
        "Nobody knew {hero} better than {pal}[pal]",
    ],
    "pal": [
        (2, "."),
        (1, ", who lived {pal.home}."),
        (1, ", who {pal.was} {pal.trade}."),
        (1, ", who had {pal.pet}."),
        (1, ", who loved {pal.food}."),
    ],
    "plot": [
        "[lost]",
        "[promise]",
        "[market]",
        "[coins]",
        (2, "[cross]"),
        "[quarrel]",
        "[weather]",
        "[naming]",
        "[visit]",
        "[errand]",
        "[hiding]",
        "[race]",
    ],
    "when": ["One morning", "One afternoon", "One {season} day"],
    "who": [
        (4, "."),
        (1, ", who lived {friend.home}."),
        (1, ", who {friend.was} {friend.trade}."),
        (1, ", who {friend.was} tired from {friend.work}."),
        (1, ", who {friend.was} out with {friend.his} {friend.animal}."),
    ],
    "thanks": [
        '"Thank you," said {speaker hero}.',
        "{hero} {hero.was} so glad that {hero.he} hugged {friend}.",
        '"What would {hero.i} do without you?" said {speaker hero}.',
    ],
    "ending": [
        "{hero} went home {ending mood.heart}.",
        "That night {hero} {ending mood.night}.",
        "Back {hero.home}, {hero} {ending mood.night}.",
        "It had been a {ending mood.day} day for {hero}.",
        "When {recall pal} heard about it, {pal.he} {ending mood.reply}.",
        "At supper {recall pal} asked why {hero} {hero.was} so {ending mood.look}.",
        "{hero} walked home {ending mood.song}, and {hero.his} {hero.animal} came to meet {hero.him}.",
    ],
}
