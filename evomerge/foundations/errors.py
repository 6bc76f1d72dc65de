"""The error tree: what evomerge raises on purpose, and the one sentence pattern.

::

    EvomergeError
      GenomeError         the YAML is wrong: the user edits a file            exit 2
      UnknownNameError    a table was asked for a name it does not hold       exit 2
      MissingExtraError   a feature needs a package that is not installed     exit 2
      OccupiedError       something is where a result was to be written      exit 2
      ModelError          a model folder or Hub id cannot be used             exit 2
      CandidateError      one candidate failed: recorded, the run goes on     -
        MergeError        its weights could not be computed
        EvaluationError   its scores could not be computed
          OutOfMemoryError  the batch did not fit
        TrialTimeoutError it took longer than the genome allows
      SearchTimeoutError  the search is over: what ran says nothing            -
      RunError            the run stopped                                     exit 1
        LedgerError       the run folder contradicts itself
          NoRunError      what was named as a run is none                     exit 2
        LostFileError     a file is gone, unreadable or cannot be written
          UnreadableError   it cannot be read

Every message reads ``WHERE: WHAT, got, expected. FIX.``
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from evomerge.foundations.secret import without_keys
from evomerge.foundations.text_safety import one_name, shown

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; its texts are fit to be shown, whoever wrote what they quote.

    Keys of the environment are not in them.

    Attributes:
        what: What is wrong, with the value received and the value expected.
        where: File, line and key path, e.g. ``genomes/ties.yml:7: genome.models[1]``.
        fix: One imperative sentence; may be empty.
    """

    what: str
    where: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        for name in ("what", "fix"):
            object.__setattr__(self, name, shown(without_keys(getattr(self, name))))
        object.__setattr__(self, "where", shown(one_name(without_keys(self.where))))

    def __str__(self) -> str:
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        if not sentence.endswith((".", "?")):
            sentence += "."
        return f"{sentence} {self.fix}".rstrip()


class EvomergeError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        what: What is wrong, with the value received and the value expected.
        where: File and key path.
        fix: One imperative sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(what, where, fix),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> EvomergeError:
        """One error that carries several problems, reported together."""
        collected = tuple(problems)
        error = cls(collected[0].what, where=collected[0].where, fix=collected[0].fix)
        error.problems = collected
        error.args = ("\n".join(map(str, collected)),)
        return error


class GenomeError(EvomergeError):
    """The genome file says something that cannot be searched."""

    exit_code = 2


class UnknownNameError(EvomergeError):
    """A table was asked for a name it does not hold."""

    exit_code = 2


class MissingExtraError(EvomergeError):
    """A feature needs a package that is not installed."""

    exit_code = 2


class ModelError(EvomergeError):
    """A model folder or Hub id cannot be read or does not fit the others."""

    exit_code = 2


class OccupiedError(EvomergeError):
    """Something is where a command would write."""

    exit_code = 2


class CandidateError(EvomergeError):
    """One candidate failed; the run records it and goes on."""


class MergeError(CandidateError):
    """The weights of a candidate could not be computed."""


class EvaluationError(CandidateError):
    """The scores of a candidate could not be computed."""


class OutOfMemoryError(EvaluationError):
    """The forward passes of a candidate did not fit the memory."""


class TrialTimeoutError(CandidateError):
    """A candidate took longer than the genome allows."""


class SearchTimeoutError(EvomergeError):
    """The time of the search is over; what was running is not recorded."""


class RunError(EvomergeError):
    """The run cannot go on."""


class LedgerError(RunError):
    """The run folder contradicts itself or the genome."""


class NoRunError(LedgerError):
    """What a command was given as a run, or for one, cannot be used as that."""

    exit_code = 2


class LostFileError(RunError):
    """A file the run needs is gone or unreadable, or the disk takes no more."""


class UnreadableError(LostFileError, OSError):
    """A file cannot be read; an OSError too, for those who handle what the system says."""


def nearest(name: str, known: Sequence[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def why(error: BaseException) -> str:
    """The text of an error that others raised, in one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def told(error: BaseException) -> str:
    """Kind and text of an error that others raised, in one line; some have no text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def has_no_room(error: BaseException) -> bool:
    """Whether a disk takes no more; libraries written in Rust say it in words alone."""
    known = f"(?:Errno|os error) (?:{'|'.join(map(str, _NO_ROOM))})\\b"
    return getattr(error, "errno", None) in _NO_ROOM or bool(re.search(known, str(error)))
