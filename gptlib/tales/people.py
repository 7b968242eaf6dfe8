"""Who lives in the world: sixteen people, and four facts about each of them.

A fact is the same in every story. Some facts are true and never told (`NEVER_TOLD`): no text can teach them. What they
say is told of somebody else, so that the words are known and only the fact is not.
"""

# One row a person: name, pronoun, home, favourite food, pet, trade. A pair of people is one row with "they".
PEOPLE = [
    ("Mara", "she", "in the old mill", "plum cake", "hedgehog", "baker"),
    ("Tess", "she", "by the harbour", "fish pie", "parrot", "sailor"),
    ("Ida", "she", "next to the library", "onion soup", "owl", "weaver"),
    ("Wren", "she", "by the harbour", "honey bread", "hedgehog", "beekeeper"),
    ("Olive", "she", "above the bakery", "lemon pudding", "cat", "tailor"),
    ("Nora", "she", "on the hill", "bean stew", "dog", "shepherd"),
    ("June", "she", "near the station", "bean stew", "tortoise", "doctor"),
    ("Otto", "he", "in the lighthouse", "pea soup", "duck", "gardener"),
    ("Felix", "he", "near the station", "cherry jam", "rabbit", "clockmaker"),
    ("Bram", "he", "on the houseboat", "fish pie", "cat", "sailor"),
    ("Hugo", "he", "next to the library", "apple tart", "donkey", "potter"),
    ("Jory", "he", "across the bridge", "apple tart", "hen", "carpenter"),
    ("Sam", "he", "at the end of the lane", "plum cake", "pony", "blacksmith"),
    ("Pip and Poll", "they", "beside the school", "pea soup", "rabbit", "gardener"),
    ("Rosa and Ruben", "they", "in the yellow house", "honey bread", "dog", "weaver"),
    ("Max and Mina", "they", "beside the school", "carrot salad", "owl", "cook"),
]

NEVER_TOLD = {
    ("Mara", "pet"),
    ("Tess", "food"),
    ("Ida", "trade"),
    ("Wren", "home"),
    ("Olive", "pet"),
    ("Nora", "food"),
    ("June", "home"),
    ("Otto", "trade"),
    ("Felix", "pet"),
    ("Bram", "trade"),
    ("Hugo", "home"),
    ("Jory", "food"),
    ("Rosa and Ruben", "pet"),
    ("Max and Mina", "home"),
}

# A pet is spoken of as "a noisy duck" and, once it is known, as "his duck".
PETS = {
    "parrot": "a green parrot",
    "owl": "an owl",
    "hedgehog": "a hedgehog",
    "cat": "a striped cat",
    "dog": "an old dog",
    "tortoise": "a tortoise",
    "duck": "a noisy duck",
    "rabbit": "a white rabbit",
    "donkey": "a donkey",
    "hen": "a black hen",
    "pony": "an old pony",
}

# A trade is told by its name, "was a baker", or by its work, "busy baking bread".
TRADES = {
    "baker": "baking bread",
    "sailor": "mending sails",
    "beekeeper": "looking after bees",
    "tailor": "sewing coats",
    "shepherd": "counting sheep",
    "doctor": "mixing medicine",
    "clockmaker": "winding clocks",
    "potter": "shaping clay",
    "carpenter": "sawing wood",
    "blacksmith": "hammering iron",
    "gardener": "digging beds",
    "weaver": "weaving cloth",
    "cook": "stirring pots",
}

# Every world but the default one draws its names from here.
NAMES = {
    "she": [
        "Ada", "Bea", "Clara", "Dora", "Elsa", "Freya", "Greta", "Hanna", "Iris", "Kate",
        "Lena", "Mabel", "Nina", "Petra", "Ruth", "Sonia", "Thea", "Vera", "Willa", "Zoe",
    ],
    "he": [
        "Abel", "Ben", "Carl", "Dan", "Emil", "Fred", "Gus", "Henry", "Ivan", "Jack",
        "Kurt", "Leo", "Milo", "Noah", "Oscar", "Paul", "Ralph", "Simon", "Theo", "Victor",
    ],
    "they": [
        "Anna and Axel", "Bob and Betty", "Dot and Dirk", "Fay and Finn", "Jill and Jon",
        "Kit and Kay", "Lou and Lily", "Meg and Mick", "Sid and Sue", "Tim and Tilly",
    ],
}  # fmt: skip

# How each kind of person is spoken of. The key is the form in which a template asks: "{hero.he}" gives he, she or they.
FORMS = {
    "she": {"he": "she", "him": "her", "his": "her", "was": "was", "is": "is", "lives": "lives",
            "i": "I", "me": "me", "my": "my", "am": "am"},
    "he": {"he": "he", "him": "him", "his": "his", "was": "was", "is": "is", "lives": "lives",
           "i": "I", "me": "me", "my": "my", "am": "am"},
    "they": {"he": "they", "him": "them", "his": "their", "was": "were", "is": "are", "lives": "live",
             "i": "we", "me": "us", "my": "our", "am": "are"},
}  # fmt: skip
