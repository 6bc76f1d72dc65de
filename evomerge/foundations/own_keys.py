"""Keys and passwords in this process's environment, taken out of whatever is shown or kept.

Code of tasks and libraries may write them into an error, or hold them in a line of a traceback.
Paths, names of models and words stand in such texts too, and in variables that are called like a
key: so only what looks like one counts, and only where most of it stands together.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from math import ceil

from evomerge.foundations.secret import Secret

_NAME = re.compile(
    r"(.*_)?(API_?KEY|ACCESS_KEY|SECRET(_KEY)?|TOKEN|PASSWORD|PASSWD|PAT|CREDENTIALS?)(_?\d+)?",
    re.IGNORECASE,
)
_WORD = r"([A-Z]?[a-z]+|[A-Z]+)"  # hf_ and 34 letters, large and small, are none
_NO_KEY = re.compile(rf".*\s.*|\{{.*|\d+|\w+://[^@?]*|{_WORD}?([-_./]+{_WORD})*", re.DOTALL)
_SHORTEST = 12  # characters of a key
_PIECE = range(16, 64)  # characters in a row: fewer may stand in any path, more in none
_SHARE = 0.75


def without_keys(text: str) -> str:
    """The text as it may be shown: keys are cut out, a text that disguises one is withheld."""
    for name, value in os.environ.items():
        if _NAME.fullmatch(name) and _looks_like_a_key(value.strip()):
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
    return Secret(value, min(max(share, _PIECE.start), _PIECE.stop, len(value)))
