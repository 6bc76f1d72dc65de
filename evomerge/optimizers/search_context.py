"""What an optimizer may know of a search beside the unit cube, and what it may keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Artifacts(Protocol):
    """What cost an optimizer something, to be found again when the run goes on."""

    def recall(self, name: str) -> bytes | None:
        """What was kept under a name, None where nothing was."""

    def keep(self, name: str, content: bytes) -> None:
        """Keeps content under a name, for good once this returns."""


@dataclass
class InMemory:
    """Artifacts that end with the process."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def recall(self, name: str) -> bytes | None:
        """See :class:`Artifacts`."""
        return self.kept.get(name)

    def keep(self, name: str, content: bytes) -> None:
        """See :class:`Artifacts`."""
        self.kept[name] = content


@dataclass(frozen=True)
class LinkArtifacts:
    """The artifacts of one of several optimizers.

    Attributes:
        artifacts: Of all of them.
        prefix: A folder for its own.
    """

    artifacts: Artifacts
    prefix: str

    def recall(self, name: str) -> bytes | None:
        """See :class:`Artifacts`."""
        return self.artifacts.recall(f"{self.prefix}/{name}")

    def keep(self, name: str, content: bytes) -> None:
        """See :class:`Artifacts`."""
        self.artifacts.keep(f"{self.prefix}/{name}", content)


@dataclass(frozen=True)
class Effort:
    """What an epoch of training took.

    Attributes:
        seconds: From its beginning to its end.
        n_passes: Passes through the model, forward and backward.
        n_tokens: Tokens read in them, padding included.
        n_teacher_tokens: Tokens that the sources read to teach, forward only.
        n_documents: Documents of the search tasks whose answers were learned.
    """

    seconds: float = 0.0
    n_passes: int = 0
    n_tokens: int = 0
    n_teacher_tokens: int = 0
    n_documents: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.seconds + other.seconds,
            self.n_passes + other.n_passes,
            self.n_tokens + other.n_tokens,
            self.n_teacher_tokens + other.n_teacher_tokens,
            self.n_documents + other.n_documents,
        )

    def __sub__(self, other: Effort) -> Effort:
        return self + Effort(*(-amount for amount in astuple(other)))


@dataclass(frozen=True)
class Lesson:
    """What one epoch of training gave.

    Attributes:
        genotype: Where it ended, shape (n_dims,), in [0, 1].
        state: What the next epoch needs to go on, in a form that can be kept.
        losses: Name of each term -> its mean over the epoch.
        config: The mergekit recipe of the result where no point of the space means it.
        folder: The checkpoint that this recipe names, below the run folder, which must be there.
        effort: What it took.
        to_beat: Loss of the best trial before it; None where nobody knows.
        after: Epoch it went on from, from 1; 0 is the start, None the one before it.
    """

    genotype: NDArray[np.float64]
    state: bytes
    losses: Mapping[str, float]
    config: Mapping[str, Any] | None = None
    folder: str | None = None
    effort: Effort = Effort()
    to_beat: float | None = None
    after: int | None = None


class Trainer(Protocol):
    """Learns a point by back-propagation."""

    def epoch(
        self,
        index: int,
        genotype: NDArray[np.float64],
        state: bytes | None,
        seed: int,
        pace: float = 1.0,
    ) -> Lesson:
        """One pass over the data.

        Args:
            index: Which epoch, from 0.
            genotype: Where it begins, shape (n_dims,); used where ``state`` is None.
            state: Of the epoch before; None begins anew.
            seed: Of everything drawn at random in it.
            pace: What its learning rate is multiplied by.
        """

    def restore(self, lesson: Lesson) -> None:
        """Writes the folder of a lesson again."""


@dataclass(frozen=True)
class Brief:
    """A search in words, for whoever reads rather than computes.

    Attributes:
        models: Name of each model that is merged.
        base: Name of the base, empty without one.
        merge_method: How they are merged.
        tasks: Name of each task, as "name (metric)".
        weights: Name of a task -> how much it counts; 1 for one that is not named.
    """

    models: tuple[str, ...] = ()
    base: str = ""
    merge_method: str = ""
    tasks: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)


def _unheard(activity: str, share: float) -> None:
    """Nobody wants to know."""


def _untrained() -> None:
    """Nobody was."""


def _unread(message: str) -> None:
    """Nobody wants to know that either."""


@dataclass(frozen=True)
class SearchContext:
    """What an optimizer may know and use beside the cube; everything is optional.

    Attributes:
        experts: Genotypes of the parents that are points of the space, shape (k, n_dims).
        seeds: Those of the merges that the user asked to begin from, shape (k, n_dims).
        places: Per coordinate the number of the place in the model that it belongs to, from the
            first layers to the last; None where nobody knows, or there is one place.
        has_shares: Whether weights are searched as shares of what is left.
        brief: What is searched, in words.
        artifacts: Where it keeps what must not be paid for twice.
        trainer: The trainer for the optimizer's settings, the same one while it trains the same
            model; None where there is none.
        end_training: Is called when nothing is trained any more, or not by who trained; again and
            again, as it may be.
        budget: Trials it will be asked for.
        begins_at_best: Whether the space starts at the best trial of an optimizer before it, or
            at a seed that nothing known is better than.
        keeps_start: Whether the space's own start is the place to begin at, whatever the trials
            made before the search say.
        folder: The run folder; None where there is none.
        say: Tells people what an ``ask`` does, and which share of it is done, from 0 to 1.
        notify: Tells people what they should know of a search that goes on all the same.
    """

    experts: NDArray[np.float64] | None = None
    seeds: NDArray[np.float64] | None = None
    places: NDArray[np.intp] | None = None
    has_shares: bool = False
    brief: Brief = Brief()
    artifacts: Artifacts = field(default_factory=InMemory)
    trainer: Callable[[Any], Trainer] | None = None
    end_training: Callable[[], None] = _untrained
    budget: int | None = None
    begins_at_best: bool = False
    keeps_start: bool = False
    folder: Path | None = None
    say: Callable[[str, float], None] = _unheard
    notify: Callable[[str], None] = _unread
