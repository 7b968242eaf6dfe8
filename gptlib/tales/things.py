"""What the world holds besides people: places, things, weather, animals, and the words for them.

Each value has a key, which is how it is usually spoken, and further forms by name. A form called "one" carries its
article. Templates in `scenes` ask for them as "{place}", "{place.at}", "{gift.one}".
"""

Forms = dict[str, str]

# "spot" is where in that place a lost thing turns up.
PLACES: dict[str, Forms] = {
    "market": {"at": "at the market", "to": "to the market", "spot": "under a stall"},
    "harbour": {"at": "at the harbour", "to": "to the harbour", "spot": "behind the nets"},
    "wood": {"at": "in the wood", "to": "to the wood", "spot": "beneath an oak"},
    "meadow": {"at": "in the meadow", "to": "to the meadow", "spot": "among the poppies"},
    "castle": {"at": "at the castle", "to": "to the castle", "spot": "beside the gate"},
    "beach": {"at": "on the beach", "to": "to the beach", "spot": "between two rocks"},
    "station": {"at": "at the station", "to": "to the station", "spot": "on a bench"},
    "garden": {"at": "in the garden", "to": "to the garden", "spot": "under the roses"},
    "lake": {"at": "at the lake", "to": "to the lake", "spot": "in the reeds"},
    "square": {"at": "in the square", "to": "to the square", "spot": "next to the fountain"},
    "farm": {"at": "on the farm", "to": "to the farm", "spot": "behind the barn"},
    "theatre": {"at": "in the theatre", "to": "to the theatre", "spot": "below the stage"},
}

# Things to carry about, to lose, and to quarrel over. "use" is what one does with it.
THINGS: dict[str, Forms] = {
    "kite": {"use": "flew it high"},
    "drum": {"use": "beat it loudly"},
    "ball": {"use": "kicked it about"},
    "whistle": {"use": "blew it like a bird"},
    "flute": {"use": "played it softly"},
    "basket": {"use": "filled it with moss"},
    "rope": {"use": "skipped with it"},
    "bell": {"use": "rang it again and again"},
    "book": {"use": "read it from the first page"},
    "net": {"use": "caught leaves with it"},
    "bucket": {"use": "built towers with it"},
    "wheel": {"use": "rolled it along the path"},
    "puppet": {"use": "made it dance"},
    "scarf": {"use": "wore it like a king"},
}

COLOURS: dict[str, Forms] = {
    "red": {"one": "a red"},
    "blue": {"one": "a blue"},
    "green": {"one": "a green"},
    "yellow": {"one": "a yellow"},
    "orange": {"one": "an orange"},
    "silver": {"one": "a silver"},
}

# Things to give, to promise, to buy and to deliver.
GIFTS: dict[str, Forms] = {
    "jar of honey": {"one": "a jar of honey"},
    "ladder": {"one": "a ladder"},
    "lamp": {"one": "a lamp"},
    "iron pot": {"one": "an iron pot"},
    "blanket": {"one": "a blanket"},
    "old map": {"one": "an old map"},
    "umbrella": {"one": "an umbrella"},
    "apple tree": {"one": "an apple tree"},
    "ball of wool": {"one": "a ball of wool"},
    "sack of flour": {"one": "a sack of flour"},
    "wooden chair": {"one": "a wooden chair"},
    "empty barrel": {"one": "an empty barrel"},
    "clay jug": {"one": "a clay jug"},
    "mirror": {"one": "a mirror"},
}

CROPS: dict[str, Forms] = {
    word: {} for word in ("apples", "pears", "onions", "carrots", "turnips", "lemons", "peaches", "potatoes")
}

DAYS: dict[str, Forms] = {
    "Monday": {"next": "Tuesday"},
    "Tuesday": {"next": "Wednesday"},
    "Wednesday": {"next": "Thursday"},
    "Thursday": {"next": "Friday"},
    "Friday": {"next": "Saturday"},
    "Saturday": {"next": "Sunday"},
    "Sunday": {"next": "Monday"},
}

SEASONS: dict[str, Forms] = {"spring": {}, "summer": {}, "autumn": {}, "winter": {}}

# The weather of the night, what it did to the road, what one takes along, what becomes of those who do not, the cure.
WEATHER: dict[str, Forms] = {
    "rain": {
        "fell": "it rained", "effect": "the road was full of puddles", "take": "a pair of tall boots",
        "state": "wet to the knees", "cure": "dry",
    },
    "snow": {
        "fell": "it snowed", "effect": "the road was white and deep", "take": "a sledge",
        "state": "stuck in a drift", "cure": "free",
    },
    "wind": {
        "fell": "the wind howled", "effect": "there were branches across the road", "take": "an axe",
        "state": "caught among the leaves", "cure": "on the path again",
    },
    "frost": {
        "fell": "it froze", "effect": "the road was as smooth as glass", "take": "a bag of sand",
        "state": "sitting on the ice", "cure": "standing up",
    },
    "fog": {
        "fell": "fog rolled in from the sea", "effect": "nobody could see the road", "take": "a bright lantern",
        "state": "lost", "cure": "sure of the way",
    },
    "heat": {
        "fell": "the air stayed hot", "effect": "the road was nothing but dust", "take": "an extra bottle of water",
        "state": "very thirsty", "cure": "fresh and cool",
    },
}  # fmt: skip

ANIMALS: dict[str, Forms] = {
    "fox": {"one": "a fox"},
    "hare": {"one": "a hare"},
    "badger": {"one": "a badger"},
    "otter": {"one": "an otter"},
    "deer": {"one": "a deer"},
    "squirrel": {"one": "a squirrel"},
    "ox": {"one": "an ox"},
}

BARRIERS: dict[str, Forms] = {
    "river": {"one": "a river"},
    "road": {"one": "a road"},
    "bridge": {"one": "a bridge"},
    "field": {"one": "a field"},
}

# Why it did not cross. "side" says who was so: the animal, or what lay before it; "of" says where it can be so.
REASONS: dict[str, Forms] = {
    "tired": {"side": "animal", "of": "any", "then": "lay down and slept for an hour"},
    "hungry": {"side": "animal", "of": "any", "then": "ate some berries first"},
    "frightened": {"side": "animal", "of": "any", "then": "hid until its heart beat slowly"},
    "thirsty": {"side": "animal", "of": "any", "then": "drank from a puddle"},
    "wide": {"side": "barrier", "of": "river", "then": "looked for a place with stepping stones"},
    "deep": {"side": "barrier", "of": "river", "then": "searched for an empty boat"},
    "fast": {"side": "barrier", "of": "river", "then": "walked on to calmer water"},
    "crowded": {"side": "barrier", "of": "road", "then": "waited for the carts to pass"},
    "steep": {"side": "barrier", "of": "road", "then": "went around by the valley"},
    "icy": {"side": "barrier", "of": "road", "then": "waited for the sun to melt the ice"},
    "narrow": {"side": "barrier", "of": "bridge", "then": "let everyone else go over"},
    "rotten": {"side": "barrier", "of": "bridge", "then": "tried every plank with one foot"},
    "slippery": {"side": "barrier", "of": "bridge", "then": "waited for the wood to dry"},
    "muddy": {"side": "barrier", "of": "field", "then": "followed the dry wall around it"},
    "thorny": {"side": "barrier", "of": "field", "then": "crept along the hedge"},
    "flooded": {"side": "barrier", "of": "field", "then": "waited until the ground was dry"},
}

BABIES: dict[str, Forms] = {
    "puppy": {"one": "a puppy"},
    "kitten": {"one": "a kitten"},
    "lamb": {"one": "a lamb"},
    "duckling": {"one": "a duckling"},
    "foal": {"one": "a foal"},
    "owlet": {"one": "an owlet"},
}

# What the foundling was called, and why.
PET_NAMES: dict[str, Forms] = {
    "Biscuit": {"why": "it is as brown as toast"},
    "Pepper": {"why": "it never stops sneezing"},
    "Thunder": {"why": "it makes such a noise"},
    "Button": {"why": "it is so round and small"},
    "Cloud": {"why": "it is so white and soft"},
    "Captain": {"why": "it walks in front of everyone"},
    "Noodle": {"why": "it is so long and thin"},
    "Whisper": {"why": "it hardly makes a sound"},
    "Acorn": {"why": "it was lying under a tree"},
    "Patch": {"why": "it has one dark ear"},
}

TRICKS: dict[str, Forms] = {
    "ring the doorbell": {},
    "carry the post": {},
    "open the gate": {},
    "find a lost glove": {},
    "dance to music": {},
    "jump over a stool": {},
}

HIDING_PLACES: dict[str, Forms] = {
    word: {}
    for word in (
        "behind the woodpile",
        "inside a barrel",
        "under the cart",
        "up in the pear tree",
        "beneath the stairs",
        "in the hayloft",
        "behind the curtain",
        "inside the clock",
    )
}

# What else turns up while one looks for something.
FINDS: dict[str, Forms] = {
    "a sleeping hen": {},
    "an old boot": {},
    "a spider": {},
    "an empty nest": {},
    "a broken plate": {},
    "an angry goose": {},
}

STRANGERS: dict[str, Forms] = {
    "old woman": {"one": "an old woman"},
    "boy": {"one": "a boy"},
    "soldier": {"one": "a soldier"},
    "girl": {"one": "a girl"},
    "merchant": {"one": "a merchant"},
    "old man": {"one": "an old man"},
    "actor": {"one": "an actor"},
    "nurse": {"one": "a nurse"},
}

NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen",
]  # fmt: skip

# How a story may end.
MOODS: dict[str, Forms] = {
    "happy": {
        "heart": "with a light heart", "night": "slept well", "day": "good", "reply": "laughed out loud",
        "song": "singing", "look": "cheerful",
    },
    "sad": {
        "heart": "with a heavy heart", "night": "lay awake for a long time", "day": "bad", "reply": "sighed",
        "song": "without a word", "look": "quiet",
    },
}  # fmt: skip

# How far one counts before looking.
COUNTS: dict[str, Forms] = {"ten": {}, "twenty": {}, "fifty": {}, "a hundred": {}}

WATERS: dict[str, Forms] = {"river": {}, "well": {}, "pond": {}, "sea": {}}
