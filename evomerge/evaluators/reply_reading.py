"""What a reply answers: the option it chooses, the number or the word it ends on.

Strict reading takes an answer only where a person would: after ``the answer is``, or where the
reply begins with it, and never a piece of another word or number. Loose reading is that of Model
Swarms, which finds more, rightly or not: ``A`` in ``Actually``, ``5`` in ``15``.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping

_MARK = re.compile(
    r"(?:(?<!other )(?<!second )(?<!next )(?<!wrong )(?<!incorrect )"  # these are not the answer
    r"\b(?:answer|option|choice)\s*(?:is\b|:)|####|\\boxed\{)",
    re.IGNORECASE,
)
# Letters of a script without blanks may stand beside a number, those of English may not.
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_NUMBER = re.compile(rf"(?<![A-Za-z0-9_./])[-+]?{_PLAIN}(?: ?/ ?{_PLAIN})?(?![A-Za-z0-9_]|/[0-9])")
_SUM = re.compile(r"(?:[-+*/\u00d7\u00f7^().,$%0-9xX ]*=)+")  # 3 + 4 = 7 up to what comes out
_WORDS = ("A", "I")  # keys that begin sentences
_EDGES = " \t\r\n*_`\"'()[]{}<>.:;,!?$-\u2013\u2014"
_ENDS = 5  # characters at either end of a reply where loose reading looks for a key


def final_part(reply: str) -> str:
    """What follows the last ``answer is``, ``answer:`` or ``####``; all of it where none is."""
    marks = list(_MARK.finditer(reply))
    return reply[marks[-1].end() :] if marks else reply


def chosen_option(reply: str, options: Mapping[str, str]) -> str | None:
    """The key of the option that a reply chooses; None where it chooses none.

    The key stands at the beginning, alone or before its punctuation or its own option, and any
    key but ``A`` and ``I`` before a blank; or the text of just one option does.

    Args:
        reply: What was written.
        options: Key -> text.
    """
    said = final_part(reply).strip(" \t\r\n*_`\"'([{<:$-\u2013\u2014")
    for key, text in options.items():
        rest = said[len(key) :]
        if said.startswith(key) and (
            not rest.strip()
            or rest[0] in "\n.):]},;*_`\"'>"
            or (rest[0] == " " and (key not in _WORDS or _begins_with(rest, text)))
        ):
            return key
    fitting = [key for key, text in options.items() if _begins_with(said, text)]
    return fitting[0] if len(fitting) == 1 else None


def loosely_chosen_option(reply: str, options: Mapping[str, str]) -> str | None:
    """The same as Model Swarms reads it: first key near either end, else first text anywhere."""
    said = reply.strip()
    for part in (said[:_ENDS], said[-_ENDS:]):
        for key in options:
            if key in part:
                return key
    return next((key for key, text in options.items() if text.lower() in said.lower()), None)


def says_exactly(reply: str, answer: str) -> bool:
    """Whether a reply gives an answer.

    A number is the first one after ``the answer is``, what comes out where that is a sum, or the
    last one of the reply; a fraction is one number. A text stands there, or the reply begins with
    it; case and punctuation around it aside.

    Args:
        reply: What was written.
        answer: What is right.
    """
    reply, answer = (unicodedata.normalize("NFKC", text) for text in (reply, answer))
    said = final_part(reply)
    wanted = _number(answer)
    if wanted is None:
        return _begins_with(said, answer)
    found = list(_NUMBER.finditer(said))
    if not found:
        return False
    if said is reply:
        return _number(found[-1][0]) == wanted
    result = _SUM.match(said, found[0].start())
    after = found[0] if result is None else _NUMBER.search(said, result.end())
    return _number((after or found[0])[0]) == wanted


def says_loosely(reply: str, answer: str, last_words: int | None) -> bool:
    """Whether the answer stands anywhere in the last so many words, as Model Swarms reads it."""
    words = reply.strip().split(" ")
    return answer in " ".join(words[-last_words:] if last_words else words)


def _number(text: str) -> float | None:
    """A text that is nothing but a number."""
    bare = text.strip().strip("$%").rstrip(".").strip()
    if not _NUMBER.fullmatch(bare):
        return None
    above, _, below = bare.replace(",", "").partition("/")
    try:
        return float(above) / float(below or 1)
    except ZeroDivisionError:
        return math.nan


def _begins_with(said: str, text: str) -> bool:
    """Whether whole words of a reply are those of a text, at its beginning."""
    wanted = _folded(text)
    begun = _folded(said)
    follows = begun[len(wanted) : len(wanted) + 1]
    return bool(wanted) and begun.startswith(wanted) and not follows.isalnum()


def _folded(text: str) -> str:
    return " ".join(text.strip(_EDGES).casefold().split())
