"""The sentences of which `arithmetic` problems are made.

A story follows one number. An opening introduces it, middle sentences change it, a closing may
change it a last time and asks for it. Fields: `{name} {he} {him}` the hero, `{other}` another
person, `{things} {thing}` what is counted, `{extra}` other objects, `{a} {b} {k}` numbers.
"""

import re
from typing import NamedTuple


class Sentence(NamedTuple):
    """A template and what it does to the story's number: `sign` one of `+ - * /`, or None.

    `fixed` is the operand where the words hold it ("half"), else None: the operand is `{k}`.
    """

    text: str
    sign: str | None = None
    fixed: int | None = None


HEROES = (  # name, subject, object
    *((name, "she", "her") for name in ("Anna", "Mia", "Olivia", "Sara", "Julia", "Emma")),
    *((name, "he", "him") for name in ("Ben", "Tom", "Lucas", "Omar", "David", "Max")),
)
OTHERS = ("Kim", "Alex", "Sam", "Robin", "Jordan", "Taylor")
THINGS = (  # plural, singular
    ("apples", "apple"),
    ("books", "book"),
    ("marbles", "marble"),
    ("stickers", "sticker"),
    ("pencils", "pencil"),
    ("shells", "shell"),
    ("cookies", "cookie"),
    ("candles", "candle"),
    ("flowers", "flower"),
    ("stamps", "stamp"),
    ("cards", "card"),
    ("oranges", "orange"),
)
EXTRAS = ("chairs", "hats", "kites", "plants", "coins", "toys")

OPENINGS = (
    Sentence("{name} has {a} {things}."),
    Sentence("{name} starts the day with {a} {things}."),
    Sentence("{name} picked up {a} {things} at the market."),
    Sentence("There are {a} {things} in the shop of {name}."),
    Sentence("On Monday {name} collected {a} {things}."),
    Sentence("{name} got {a} {things} for a school project."),
)
# These hold the first step: {a} sign {k}.
DOUBLE_OPENINGS = (
    Sentence("{name} has {a} red {things} and {k} blue {things}.", "+"),
    Sentence("{name} found {a} {things} on Monday and {k} {things} on Tuesday.", "+"),
    Sentence("{name} bought {a} boxes with {k} {things} in each box.", "*"),
    Sentence("There are {a} shelves with {k} {things} each in the shop of {name}.", "*"),
    Sentence("{name} had {a} {things} but {k} of them were broken.", "-"),
    Sentence("{a} {things} are shared equally by {k} people, and {name} is one of them.", "/"),
)
MIDDLES = (
    Sentence("{he} buys {k} more {things}.", "+"),
    Sentence("{other} gives {him} {k} {things}.", "+"),
    Sentence("Then {he} finds {k} {things} in the garden.", "+"),
    Sentence("The next day {k} more {things} arrive.", "+"),
    Sentence("{he} wins {k} {things} at the fair.", "+"),
    Sentence("{he} gives {k} {things} to {other}.", "-"),
    Sentence("{he} loses {k} of the {things} on the way home.", "-"),
    Sentence("{he} sells {k} {things} in the morning.", "-"),
    Sentence("{k} of the {things} are too old and {he} throws them away.", "-"),
    Sentence("Then {other} takes {k} {things}.", "-"),
    Sentence("A week later {he} has {k} times as many {things}.", "*"),
    Sentence("{he} works hard until the number of {things} is {k} times as large.", "*"),
    Sentence("After the holidays {he} has twice as many {things}.", "*", 2),
    Sentence("{he} makes {k} equal groups of the {things} and keeps only one group.", "/"),
    Sentence("A storm leaves {him} with only one out of every {k} {things}.", "/"),
    Sentence("{he} gives half of the {things} to {other}.", "/", 2),
)
CLOSINGS = (
    Sentence("How many {things} does {name} have now?"),
    Sentence("How many {things} are there in the end?"),
    Sentence("How many {things} are left for {name}?"),
    Sentence("What is the number of {things} now?"),
)
# These hold the last step.
DOUBLE_CLOSINGS = (
    Sentence("{he} sells all of them for {k} dollars each. How many dollars does {he} get?", "*"),
    Sentence("Each {thing} weighs {k} grams. How many grams do all the {things} weigh?", "*"),
    Sentence("It takes {k} minutes to clean one {thing}. How many minutes do all take?", "*"),
    Sentence("{he} puts them equally into {k} bags. How many {things} are in each bag?", "/"),
    Sentence("{he} shares them equally with {k} friends, keeping none. "
             "How many {things} does each friend get?", "/"),
    Sentence("{other} has {k} {things} more than {name}. How many does {other} have?", "+"),
    Sentence("{other} has {k} {things} less than {name}. How many does {other} have?", "-"),
)  # fmt: skip
DISTRACTORS = (
    Sentence("{other} is {k} years old."),
    Sentence("{other} also has {k} {extra}."),
    Sentence("The shop is {k} minutes away."),
    Sentence("There are {k} {extra} in the room."),
    Sentence("The bus of {other} costs {k} dollars."),
    Sentence("{name} read {k} pages of a story that day."),
)


def words() -> list[str]:
    """Every word that a story can hold, each in the forms that occur, sorted."""
    sentences = [
        sentence.text
        for group in (OPENINGS, DOUBLE_OPENINGS, MIDDLES, CLOSINGS, DOUBLE_CLOSINGS, DISTRACTORS)
        for sentence in group
    ]
    text = " ".join(re.sub(r"\{\w+\}", " ", sentence) for sentence in sentences)
    pronouns = {form for _, *forms in HEROES for form in forms}
    fillers = {name for name, *_ in HEROES} | set(OTHERS) | set(EXTRAS)
    fillers |= {form for pair in THINGS for form in pair}
    fillers |= pronouns | {"He", "She"}  # as the first word of a sentence
    return sorted(fillers | set(re.findall(r"[A-Za-z]+", text)))
