"""A key that must not come back: found in a text, however it is written, and taken out of it.

Where it stands plainly it is cut out. Where it stands in a disguise (escaped, coded, spaced out,
split over neighbouring fields) the whole text is withheld: whoever disguises a key is not quoted.

Keys and passwords of this process's environment are looked for in whatever is shown or kept: code
of tasks and libraries may write them into an error, or hold them in a line of a traceback. Paths,
names of models and words stand in such texts too, and in variables that are called like a key: so
only what looks like one counts, and only where most of it stands together.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from math import ceil
from typing import AnyStr, Generic

HIDDEN = "[key]"
WITHHELD = "[withheld: it holds the key in disguise]"
_PIECE = 8  # characters of a key that must not be seen together
_WORDS = 12  # letters of it, without a digit, by which it is told from words, however spelt
_SAMPLE = 5  # characters that are looked up first
_LAYERS = 4  # of escapes, one inside the other, that are opened
_CODES_PER_CHARACTER = 2  # hexadecimal digits
_ESCAPE = re.compile(
    r"(?:\\U0000|\\u|%u|U\+)(?P<four>[0-9a-f]{4})"
    r"|(?:\\x|0x|%)(?P<two>[0-9a-f]{2})"
    r"|(?:\\u\{|&\#x)0*(?P<some>[0-9a-f]{1,5})[};]?"
    r"|&\#0*(?P<decimal>[0-9]{1,6});?"
    r"|\\(?P<octal>[0-3][0-7]{2})"
    r"|\\[nrtbfv]",  # stand for nothing that is seen
    re.IGNORECASE,
)
_BASES = {"decimal": 10, "octal": 8}
_BACKSLASHES = re.compile(r"\\+")  # as many as there are escapes one inside the other
_NAME = re.compile(r'"[^"]*"\s*:')  # of a field
_LETTERS = string.ascii_letters + string.digits
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_LOWER = bytes.maketrans(string.ascii_uppercase.encode(), string.ascii_lowercase.encode())
_NOT_LOOSE = bytes(set(range(256)) - set(_LETTERS.encode()))
_NOT_BASE64 = bytes(set(range(256)) - set(f"{_LETTERS}+/-_".encode()))

_VARIABLE = re.compile(
    r"(.*_)?(API_?KEY|ACCESS_KEY|SECRET(_KEY)?|TOKEN|PASSWORD|PASSWD|PAT|CREDENTIALS?)(_?\d+)?",
    re.IGNORECASE,
)
_LETTERING = r"([A-Z]?[a-z]+|[A-Z]+)"  # hf_ and 34 letters, large and small, are none
_NO_KEY = re.compile(
    rf".*\s.*|\{{.*|\d+|\w+://[^@?]*|{_LETTERING}?([-_./]+{_LETTERING})*", re.DOTALL
)
_SHORTEST = 12  # characters of a key
_PIECES = range(16, 64)  # characters in a row: fewer may stand in any path, more in none
_SHARE = 0.75


class Secret:
    """A key, known only to be found again.

    Args:
        value: The key. One shorter than ``piece`` is none: local servers are given words such as
            "EMPTY".
        piece: How many characters of it must not be seen together, eight or more.
    """

    def __init__(self, value: str, piece: int = _PIECE) -> None:
        self._piece = piece
        self._plain = _Stretches([value], piece)
        self._opened = _Stretches([_code(value)], piece)
        spellings = {value, value.lower(), value.upper()}
        codes = [_code(spelling) for spelling in spellings]
        loose = _loose(_code(value))
        both_ways = [loose, loose[::-1]]
        self._loose = _Stretches(both_ways, piece, lambda stretch: not stretch.isalpha())
        self._letters = _Stretches(both_ways, max(piece, _WORDS))
        numbers = [code.hex().encode() for code in codes]
        numbers += ["".join(map(str, code)).encode() for code in codes]
        self._numbers = _Stretches(numbers, _CODES_PER_CHARACTER * piece)
        self._base64 = _Stretches([one for code in codes for one in _in_base64(code)], piece)
        self._is_secret = len(value) >= piece

    def clean(self, text: str) -> str:
        """The text as it may be kept and shown; takes time in proportion to its length.

        No ``piece`` characters of the key in a row are in it, nor any that escapes, codes or
        separators hide; a text without them stays what it is.
        """
        if not self._is_secret:
            return text
        cleaned = self._without(text)
        return WITHHELD if self._is_disguised_in(cleaned) else cleaned

    def _without(self, text: str) -> str:
        """The text with each plain stretch of the key replaced."""
        parts: list[str] = []
        end = 0  # of what is dealt with
        for place in self._plain.places(text):
            if place > end or not parts:
                parts += [text[end:place], HIDDEN]
            end = place + self._piece
        return "".join(parts) + text[end:]

    def _is_disguised_in(self, text: str) -> bool:
        for view in _views(text):
            loose = _loose(view)
            if any(kind.are_in(loose) for kind in (self._loose, self._letters, self._numbers)):
                return True
            if self._opened.are_in(view):
                return True
            if self._base64.are_in(view.translate(_URL_SAFE, _NOT_BASE64)):
                return True
        return False


class _Stretches(Generic[AnyStr]):
    """Every stretch of one length of some texts, to be found in others in linear time.

    Args:
        texts: Any number; of those shorter than ``length`` there is none.
        length: Of a stretch.
        counts: Whether a stretch is looked for.
    """

    def __init__(
        self,
        texts: Sequence[AnyStr],
        length: int,
        counts: Callable[[AnyStr], bool] = lambda stretch: True,
    ) -> None:
        self._length = length
        self._step = length - _SAMPLE + 1
        self._all: set[AnyStr] = set()
        for text in texts:
            stretches = (text[i : i + length] for i in range(len(text) - length + 1))
            self._all |= set(filter(counts, stretches))
        # However a stretch lies, a sample of it begins at a multiple of ``step``.
        self._samples: set[AnyStr] = set()
        for text in texts:
            self._samples |= {text[i : i + _SAMPLE] for i in range(len(text) - _SAMPLE + 1)}

    def places(self, text: AnyStr) -> Iterator[int]:
        """Where such stretches begin, rising."""
        if not self._all:
            return
        for start in range(0, len(text), self._step):
            if text[start : start + _SAMPLE] in self._samples:
                for place in range(max(start - self._step + 1, 0), start + 1):
                    if text[place : place + self._length] in self._all:
                        yield place

    def are_in(self, text: AnyStr) -> bool:
        """Whether there is any."""
        return next(self.places(text), None) is not None


def _code(text: str) -> bytes:
    """Its bytes, of a variable of the environment also those that are no UTF-8."""
    return text.encode(errors="surrogateescape")


def _views(text: str) -> set[bytes]:
    """A text as it may be read: as it is or with escapes opened, all of it, values or names."""
    plain = {text, _opened(text)}
    values = {_NAME.sub("", one) for one in plain}
    names = {"".join(_NAME.findall(one)) for one in plain}
    return {_ascii(one) for one in plain | values | names}


def _ascii(text: str) -> bytes:
    """Letters of other alphabets' making as their plain ones; what is not seen is dropped."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.encode("ascii", "ignore")


def _loose(text: bytes) -> bytes:
    """Letters and digits alone, in lower case."""
    return text.translate(_LOWER, _NOT_LOOSE)


def _opened(text: str) -> str:
    """The text with escapes of JSON, Python, URLs and HTML read, also one inside the other."""
    for _ in range(_LAYERS):
        before = text
        text = _BACKSLASHES.sub(r"\\", text).replace("&amp;", "&")
        text = _ESCAPE.sub(_character, text)
        if text == before:
            break
    return text


def _character(found: re.Match[str]) -> str:
    """What an escape stands for."""
    kind = found.lastgroup
    return "" if kind is None else chr(int(found[kind], _BASES.get(kind, 16)))


def _in_base64(code: bytes) -> Iterator[bytes]:
    """The characters of base64 that depend on a code alone, wherever it begins."""
    for n_before in range(3):
        whole = b64encode(bytes(n_before) + code).rstrip(b"=")
        is_open = (n_before + len(code)) % 3 != 0
        yield whole[(0, 2, 3)[n_before] : len(whole) - is_open]


def without_keys(text: str) -> str:
    """The text as it may be shown: keys are cut out, a text that disguises one is withheld."""
    for name, value in os.environ.items():
        if _VARIABLE.fullmatch(name) and _looks_like_a_key(value.strip()):
            text = _secret(value.strip()).clean(text)
    return text


def _looks_like_a_key(value: str) -> bool:
    """Whether it is long enough, and neither words, a number, JSON, an address nor a path."""
    if len(value) < _SHORTEST or _NO_KEY.fullmatch(value):
        return False
    return not os.path.exists(os.path.expanduser(value))


@lru_cache(maxsize=64)
def _secret(value: str) -> Secret:
    share = ceil(_SHARE * len(value))
    return Secret(value, min(max(share, _PIECES.start), _PIECES.stop, len(value)))
