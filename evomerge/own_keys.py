"""Keys and passwords in this process's environment, taken out of whatever is shown or kept.

Code of tasks and libraries may write them into an error, or hold them in a line of a traceback.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

from evomerge.secret import Secret

_NAME = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)", re.IGNORECASE)
_PLACE = re.compile(r"[/~.]|\w+://")  # where a key is, not one


def without_keys(text: str) -> str:
    """The text as it may be shown: keys are cut out, a text that disguises one is withheld."""
    for name, value in os.environ.items():
        if _NAME.fullmatch(name) and not _PLACE.match(value):
            text = _secret(value.strip()).clean(text)
    return text


@lru_cache(maxsize=64)
def _secret(value: str) -> Secret:
    return Secret(value)
