"""The twelve plots, in the template language that `scenes` describes. Each settles the mood in which the story ends."""

from gptlib.tales.scenes import Rules

LOST: Rules = {
    "lost": [
        "[when] {hero} went {place.to} with {colour.one} {thing} and {recall thing.use} [lost.until]. [lost.gone] "
        "{hero.He} ran to {friend}[who] [lost.talk] So they went back together. [lost.search]"
    ],
    "lost.until": ["until the bells rang", "until it was time to go", "for an hour or two"],
    "lost.gone": [
        "On the way home {hero.he} noticed that the {recall thing} was gone.",
        "But when {hero.he} came home, the {recall colour} {recall thing} was gone.",
        "That evening {hero.he} looked for the {recall thing}, but it was not there.",
    ],
    "lost.talk": [
        '"{hero.I} have lost {hero.my} {recall thing}," said {speaker hero}. "Where did you last see it?" asked '
        '{speaker friend}. "{recall place.At}," said {speaker hero}.',
        '"Why do you look so sad?" asked {speaker friend}. "{hero.I} left {hero.my} {recall colour} {recall thing} '
        '{recall place.at}," said {speaker hero}.',
    ],
    "lost.search": [
        "{mood=happy}They searched all over the {recall place}, and at last, {recall place.spot}, they found the "
        "{recall colour} {recall thing}. [thanks]",
        "{mood=happy}{stranger.One} stood {recall place.spot} and held the {recall colour} {recall thing}. "
        '"Is this yours?" asked the {recall stranger}. [thanks]',
        "{mood=sad}Nobody {recall place.at} had seen the {recall colour} {recall thing}, and {recall place.spot} "
        'there was only {find}. "{friend.I} {friend.am} sorry," said {speaker friend}.',
    ],
}

PROMISE: Rules = {
    "promise": ["[when] {hero} met {friend} {place.at}. [promise.word] [promise.week] [promise.day]"],
    "promise.word": [
        '"On {day} {hero.i} will bring you {gift.one}," said {speaker hero}. "{friend.I} will wait for you," said '
        "{speaker friend}.",
        '"{friend.I} need {gift.one}," said {speaker friend}. "Then you shall have it on {day}," said '
        '{speaker hero}. "{hero.I} promise."',
    ],
    "promise.week": [
        "The week was long and full of work.",
        "{friend} thought about it every night.",
        "Nobody spoke about it again.",
    ],
    "promise.day": [
        "{mood=happy}When {recall day} came, {hero} took the {recall gift} and set off early. [promise.kept]",
        "{mood=sad}But {recall day} came, and {hero} forgot. {friend} stood at the gate until dark, and nobody brought "
        'the {recall gift}. "You gave {friend.me} your word," said {speaker friend} the next day. {hero} did not know '
        "what to say.",
        "{mood=happy}On {recall day} {hero} {hero.was} ill in bed. But on {recall day.next} {hero.he} got up and "
        'carried the {recall gift} to {friend}. "You are a day late, but you came," said {speaker friend}.',
    ],
    "promise.kept": [
        '"You did not forget," said {speaker friend}, and they talked until the stars came out.',
        '"Come in," said {speaker friend}, and they ate {friend.food}, because {friend} liked it so much.',
        "{hero.He} found {friend} {friend.home}, and they sat together until evening.",
    ],
}

MARKET: Rules = {
    "market": [
        "[when] {hero} took a basket and went shopping. {hero.He} bought {first} {crop} and {second} {fruit}. On the "
        "way {hero.he} met {friend}[who] [market.count] [market.after]"
    ],
    "market.count": [
        '{total=first+second}"How many have you got?" asked {speaker friend}. "{recall First} {recall crop} and '
        '{recall second} {recall fruit}," said {speaker hero}. "That makes {sum total}."',
        '{total=first+second}"Your basket looks heavy," said {speaker friend}. "No wonder," said {speaker hero}. '
        '"{recall First} and {recall second} make {sum total}."',
    ],
    "market.after": [
        "{mood=happy}{hero} gave {given} of them to {friend} and had{left=total-given} {sum left} left.",
        "{mood=sad}Just then the basket broke, and {given} of them rolled into the river. Now there "
        "were{left=total-given} only {sum left}.",
        "{mood=happy}That evening they cooked {given} of them together and kept the{left=total-given} other {sum left} "
        "for {day}.",
    ],
}

COINS: Rules = {
    "coins": [
        '[when] {hero} went {place.to} with {had} coins. There {stranger.one} was selling {gift.one}. "How much is '
        'it?" asked {hero}. "{Price} coins," said the {recall stranger}. So {hero} paid {recall price} of the '
        "{recall had} coins{left=had-price} and kept {sum left}. [coins.after]"
    ],
    "coins.after": [
        "{mood=happy}The {recall gift} was a present for {friend}[who] "
        '"Is this really for {friend.me}?" asked {speaker friend}. "{recall gift.One}, how wonderful."',
        "{mood=happy}Soon after, {hero} met {friend}[who] {friend} wanted {recall gift.one} just like that and paid "
        "{given} coins for it{left=left+given}, so in the end {hero} had {sum left} coins.",
        "{mood=sad}But on the way home {hero.he} tripped, and the {recall gift} fell into the {water}. "
        '"What is the matter?" asked {friend}. "{hero.I} paid {recall price} coins for {recall gift.one}, and now it '
        'is in the {recall water}," said {speaker hero}.',
    ],
}

CROSS: Rules = {
    "cross": [
        "[when] {hero} [cross.saw] {animal.one} beside {barrier.one}. The {recall animal} did not cross the "
        "{recall barrier} because {it} was too {why}. [cross.who:why.side]{refer it subject}So it "
        "{reference why.then}. [cross.end:why.side] [cross.talk]"
    ],
    "cross.saw": ["saw", "looked up and saw", "{hero.was} on the way {place.to} and saw"],
    "cross.who:animal": ["{subject=animal}"],
    "cross.who:barrier": ["{subject=barrier}"],
    "cross.end:animal": [
        "{mood=happy}Before dark it felt much better, and it ran across the {recall barrier} to its young ones.",
        "{mood=happy}{hero} picked it up and carried it over.",
        "{mood=sad}But it did not feel any better, and a hunter came by and took it away.",
    ],
    "cross.end:barrier": [
        "{mood=happy}In the end that was the right thing to do, and it came safely to the other side.",
        "{mood=happy}{hero} showed it an easier way around.",
        "{mood=sad}But nothing helped, and it had to turn back and go home alone.",
    ],
    "cross.talk": [
        'Later {hero} told {friend} about it. "Why did it not cross at once?" asked {speaker friend}. "Because the '
        '{reference subject} was too {recall why}," said {speaker hero}.',
        '"{hero.I} saw {animal.one} today," said {hero} to {friend}. "It did not cross the {recall barrier}. The '
        '{reference subject} was too {recall why}."',
    ],
}

QUARREL: Rules = {
    "quarrel": [
        "[when] {hero} met {friend}[who] {place.At} they found {colour.one} {thing}, and both of them wanted it. "
        "[quarrel.words] [quarrel.break] [quarrel.peace]"
    ],
    "quarrel.words": [
        '"{hero.I} saw it first," said {speaker hero}. "No, {friend.i} did," said {speaker friend}.',
        '"It belongs to {hero.me}," said {speaker hero}. "It does not," said {speaker friend}. "{friend.I} picked it '
        'up."',
    ],
    "quarrel.break": [
        "{culprit=hero}{other=friend}They pulled and pulled until {hero} fell over and broke the {recall thing}.",
        "{culprit=friend}{other=hero}They pulled and pulled until {friend} fell over and broke the {recall thing}.",
    ],
    "quarrel.peace": [
        '{mood=happy}"{culprit.I} {culprit.am} so sorry," said {speaker culprit}. "{culprit.I} {culprit.was} '
        'careless." {recall other} laughed and went to get some glue.',
        "{mood=happy}The next day {recall culprit} came with a new {recall thing}. It was {recall colour} too. "
        '"Let us share it," said {recall other}.',
        "{mood=sad}{recall other} went off without {recall culprit}, and for {days} days they did not say a word to "
        "each other.",
    ],
}

WEATHER: Rules = {
    "weather": [
        "One night {weather.fell}. In the morning {cause weather.effect}, so {hero} took {cause weather.take} and set "
        "out for the {place}. Halfway there {hero.he} met {friend}[who] {friend.He} {friend.was} "
        "{cause weather.state}. [weather.words] [weather.help]"
    ],
    "weather.words": [
        '"How lucky that you have {recall weather.take}," said {speaker friend}.',
        '"Last night {recall weather.fell}," said {speaker friend}, "and {friend.i} forgot all about it."',
    ],
    "weather.help": [
        '{mood=happy}{hero} smiled. "Come with {hero.me}," {hero.he} said. Soon {friend} {friend.was} '
        "{cause weather.cure}, and they reached the {recall place} together.",
        "{mood=happy}{hero} shared {hero.his} bread with {friend} and helped until {friend.he} {friend.was} "
        "{cause weather.cure}.",
        "{mood=sad}But {hero} had no time and hurried on. {recall place.At} "
        "{hero.he} could think of nothing but {friend}.",
    ],
}

NAMING: Rules = {
    "naming": [
        "[when] {hero} found {baby.one} {place.at}. It had no home, so {hero.he} kept it. [naming.name] The "
        "{recall baby} grew, and soon {recall petname} could {trick}. [naming.end]"
    ],
    "naming.name": [
        '"What is its name?" asked {friend}. "{petname}," said {speaker hero}, "because {cause petname.why}."',
        '"You must call it {petname}," said {friend}, "because {cause petname.why}."',
    ],
    "naming.end": [
        "{mood=happy}One evening it did not come home. {hero} called for {recall petname} all night. In the morning "
        "the {recall baby} was asleep {recall place.at}, where it had been found.",
        "{mood=sad}One evening it did not come home. {hero} and {friend} called for {recall petname} in every street, "
        "but no {recall baby} came.",
        "{mood=happy}When {friend} came to visit, {recall petname} would {recall trick} for anyone who asked.",
    ],
}

VISIT: Rules = {
    "visit": [
        "[when] {hero} heard that {friend} {friend.was} ill. [visit.bring] [visit.pet] [visit.end]",
    ],
    "visit.bring": [
        '{friend} always liked {friend.food} best, so {hero} made some and took it along. "{friend.Food}, and still '
        'warm," said {speaker friend}. "You are very kind."',
        '{hero.He} packed {gift.one} and walked to the house. "{hero.I} have brought you {recall gift.one}," said '
        '{speaker hero}. "{friend.I} have wanted {recall gift.one} for years," said {speaker friend}.',
        'It was a long walk to {friend}, who lived {friend.home}. "Have you come all this way for {friend.me}?" asked '
        "{speaker friend}.",
    ],
    "visit.pet": [
        "The doctor had already been there.",
        "{friend.His} {friend.animal} sat by the bed and would not eat.",
        '{hero} sat down. "Who is {friend.work} today?" {hero.he} asked. "Nobody," said {speaker friend}.',
    ],
    "visit.end": [
        "{mood=happy}{hero} stayed for {days} days, and every day {friend} {friend.was} a little stronger.",
        "{mood=happy}{hero} took out some cards, and {friend} won {days} games. After that {friend.he} felt "
        "much better.",
        "{mood=sad}But {friend} {friend.was} too weak to talk for long, and when {stranger.one} came with a bitter "
        "drink, {hero} had to go.",
    ],
}

ERRAND: Rules = {
    "errand": [
        '[when] {stranger.one} stopped {hero} {place.at}. "Please take {gift.one} to {friend}," said the '
        "{recall stranger}. [errand.where] {hero} set off at once. [errand.way] [errand.end]"
    ],
    "errand.where": [
        '"{friend.He} {friend.lives} {friend.home}."',
        '"{friend.He} {friend.is} {friend.trade}."',
        '"You will know the house by the {friend.animal} at the door."',
        '"Nobody else can do it today."',
    ],
    "errand.way": [
        "At the crossroads {hero.he} turned left instead of right and lost an hour.",
        "A gate was shut, and {hero.he} had to climb over a wall.",
        "It began to rain, so {hero.he} hid the {recall gift} under a coat.",
    ],
    "errand.end": [
        '{mood=happy}"Who sent {friend.me} {recall gift.one}?" asked {speaker friend}. "{recall stranger.One} '
        '{recall place.at}," said {speaker hero}. {friend} poured some tea and cut a slice of bread.',
        "{mood=happy}{friend} paid {given} coins for the {recall gift} and asked {hero} to stay for supper.",
        "{mood=sad}But {friend} had gone away on a journey, and {hero} had to carry the {recall gift} all the way back "
        "to the {recall stranger}.",
    ],
}

HIDING: Rules = {
    "hiding": [
        "[when] {hero} played hide and seek with {friend}[who] {hero} counted to {count}, and {friend} hid {hide}. "
        "First {hero} looked {look}, but there was only {find}. [hiding.end]"
    ],
    "hiding.end": [
        '{mood=happy}Then {hero.he} looked {recall hide}. "Found you," said {speaker hero}. "{friend.I} thought that '
        'nobody would look {recall hide}," said {speaker friend}.',
        '{mood=happy}Then {friend} sneezed, and {hero} knew at once. "You are {recall hide}," said {speaker hero}, '
        "and out came {recall friend}.",
        '{mood=sad}{hero} gave up and went to eat. {friend} sat {recall hide} until it was dark. "You counted to '
        '{recall count} and then forgot {friend.me}," said {speaker friend}.',
    ],
}

RACE: Rules = {
    "race": [
        '[when] {hero} met {friend}[who] "{hero.I} can run faster than you," said {speaker hero}. "The first to reach '
        'the {place} shall have {gift.one}," said {speaker friend}. Off they went. [race.run] So the {recall gift} '
        "went to {recall winner}. [race.words]"
    ],
    "race.run": [
        "{winner=hero}{other=friend}{mood=happy}Halfway there {friend} lost a shoe, and {cause winner} reached the "
        "{recall place} first.",
        "{winner=friend}{other=hero}{mood=sad}Halfway there {hero} lost a shoe, and {cause winner} reached the "
        "{recall place} first.",
        "{winner=hero}{other=friend}{mood=happy}{friend} stopped to rest, but {hero} ran on and on to the "
        "{recall place}.",
        "{winner=friend}{other=hero}{mood=sad}{hero} stopped to rest, but {friend} ran on and on to the "
        "{recall place}.",
    ],
    "race.words": [
        '"That was a good race," said {speaker other}.',
        '"{winner.I} {winner.am} still the fastest," said {speaker winner}.',
        '"Next time it will be different," said {speaker other}.',
    ],
}

PLOTS: Rules = {
    **LOST, **PROMISE, **MARKET, **COINS, **CROSS, **QUARREL,
    **WEATHER, **NAMING, **VISIT, **ERRAND, **HIDING, **RACE,
}  # fmt: skip
