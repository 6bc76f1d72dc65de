"""What a person allows on the command line; no file can grant it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Permissions:
    """Things that can run a stranger's code; nothing of it is allowed by default.

    Attributes:
        trust_remote_code: Models may bring Python code of their own.
        pickle: Models, as the genome names them, whose weights may be read from pickle files.
        unsafe_code: Tasks may run code that a model wrote.
        code: The genome may name Python code and programs, which are run.
    """

    trust_remote_code: bool = False
    pickle: frozenset[str] = frozenset()
    unsafe_code: bool = False
    code: bool = False
