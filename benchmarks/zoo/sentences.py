"""Skills for a real language model: small questions in plain English, made from a seed."""

from __future__ import annotations

import random
from datetime import date

from skills import Draw, Row

_FIRST_DAY, _LAST_DAY = date(1950, 1, 1).toordinal(), date(2030, 1, 1).toordinal()
_NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry", "Ida", "Jonas")
_THINGS = ("apples", "books", "coins", "pencils", "stamps", "shells", "cards", "balloons")
_WHO = ("The girl", "My brother", "The old man", "The teacher", "A farmer", "Our neighbour")
_WHEN = ("every morning", "on Sunday", "after lunch", "in the garden", "with a friend", "at home")
_DOES = {
    "walks to the market": "walked to the market",
    "writes a long letter": "wrote a long letter",
    "sings an old song": "sang an old song",
    "buys fresh bread": "bought fresh bread",
    "paints the fence": "painted the fence",
    "eats a sweet apple": "ate a sweet apple",
    "swims in the lake": "swam in the lake",
    "opens the window": "opened the window",
    "drinks cold water": "drank cold water",
    "brings some flowers": "brought some flowers",
    "finds a small coin": "found a small coin",
    "plays the piano": "played the piano",
}


def _story(rng: random.Random) -> Row:
    """Two steps of arithmetic below thirty."""
    one, other = rng.sample(_NAMES, 2)
    thing = rng.choice(_THINGS)
    has, more = rng.randrange(3, 16), rng.randrange(2, 13)
    less = rng.randrange(1, has)
    question = (
        f"{one} has {has} {thing}. {other} brings {more} more, then {one} gives away {less}. "
        f"How many {thing} does {one} have now? Answer with a number."
    )
    return Row(question, str(has + more - less))


def _past(rng: random.Random) -> Row:
    who, when = rng.choice(_WHO), rng.choice(_WHEN)
    now, then = rng.choice(list(_DOES.items()))
    extra = rng.choice(("", "quickly ", "happily ", "slowly ", "often ", "quietly "))
    question = f"Write this sentence in the past tense: {who} {extra}{now} {when}."
    return Row(question, f"{who} {extra}{then} {when}.")


def _dates(rng: random.Random) -> Row:
    day = date.fromordinal(
        rng.randrange(date(1950, 1, 1).toordinal(), date(2030, 1, 1).toordinal())
    )
    shown = f"{day.day} {day:%B} {day.year}"
    question = f"Write the date {shown} as day/month/year with two digits each."
    return Row(question, f"{day:%d/%m/%y}")


SENTENCES: dict[str, Draw] = {"story": _story, "past": _past, "dates": _dates}
