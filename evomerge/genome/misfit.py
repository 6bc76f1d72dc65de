"""An error about two values of a genome that do not fit together, with the path of its key."""

from __future__ import annotations

KeyPath = tuple[str | int, ...]  # from a block down to a key


class MisfitError(ValueError):
    """A value that does not fit another.

    Args:
        what: What is wrong, with the value received.
        path: The key to mend, below the block that was validated.
        fix: One imperative sentence.
    """

    def __init__(self, what: str, *path: str | int, fix: str = "") -> None:
        super().__init__(what)
        self.path: KeyPath = path
        self.fix = fix
