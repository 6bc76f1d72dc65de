"""Mixtures brought to life: every member stays in memory, and a trial sets the weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.counted import counted
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import MergeError
from evomerge.merging.live_model import LiveModel
from evomerge.merging.mergers import Mergers
from evomerge.merging.mixed_model import MixedModel
from evomerge.recipe.plain import Recipe


class MixtureMerger:
    """Holds the members of one mixture at a time.

    Each member is merged by a merger of its own, so that none overwrites another, and nothing of
    their sources is kept.

    Args:
        mergers: Makes mergers of plain merges.
    """

    def __init__(self, mergers: Mergers) -> None:
        self._mergers = mergers
        self._held: _Members | None = None

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`.

        Raises:
            MergeError: a member cannot be merged, or two have different tokens.
        """
        key = _key(recipe)
        if self._held is None or self._held.key != key:
            self._held = None  # frees the members before the new ones
            self._held = self._brought_to_life(recipe, key, deadline)
        return self._held.mixed(recipe)

    def drop_live(self) -> None:
        """Keeps the members: finals score a mixture and its models in turn, and memory has both."""

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Frees the members, unless they are those of the mixture that comes."""
        if self._held is not None and (coming is None or self._held.key != _key(coming)):
            self._held = None

    def _brought_to_life(self, recipe: Recipe, key: str, deadline: Deadline | None) -> _Members:
        documents = map(Recipe, recipe.documents)
        live = [Mergers(self._mergers.make).merge(one, deadline) for one in documents]
        for number, other in enumerate(live[1:], 2):
            for what in _differences(live[0], other):
                raise MergeError(f"members 1 and {number} differ: {what}", where="merge")
        return _Members(key, live[0], MixedModel([one.module for one in live]))


@dataclass
class _Members:
    """The members of a mixture, alive.

    Attributes:
        key: Equal for equal members.
        first: Whose tokenizer the mixture has.
        model: Of all tasks that have no weights of their own.
        of_tasks: Of each that has.
    """

    key: str
    first: LiveModel
    model: MixedModel
    of_tasks: dict[str, MixedModel] = field(default_factory=dict)

    def mixed(self, recipe: Recipe) -> LiveModel:
        """The members, mixed as a recipe says."""
        pool = recipe.pool
        if pool is None:
            raise ValueError(f"a recipe of the kind {recipe.kind} is no mixture")
        for task, weights in pool.of_tasks.items():
            if task not in self.of_tasks:
                self.of_tasks[task] = self.model.beside()
            self.of_tasks[task].mix(weights, pool.mean)
        return LiveModel(
            self.model.mix(pool.weights, pool.mean),
            self.first.tokenizer,
            identity=recipe.digest,
            of_tasks={task: self.of_tasks[task] for task in pool.of_tasks},
        )


def _key(recipe: Recipe) -> str:
    return canonical_json([dict(document) for document in recipe.documents])


def _differences(one: LiveModel, other: LiveModel) -> Iterator[str]:
    """What keeps two models from having one mean over their next tokens."""
    ids, others = one.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    changed = [t for t in ids.keys() | others.keys() if ids.get(t) != others.get(t)]
    if changed:
        first = min(changed, key=lambda token: (ids.get(token, others.get(token, 0)), token))
        yield (
            f"{counted(len(changed), 'token')} of their tokenizers, first {first!r} with id "
            f"{ids.get(first)} and {others.get(first)}"
        )
