"""From recipe to weights, in memory and on disk: the table of mergers that some kinds have.

======= ==========================================================
kind    how it comes to life
======= ==========================================================
moe     its experts are merged into their places in one model
multi   what is made on the way lies on disk, the last is live
merge   its weights are computed into a live model that stays; stacks of layers run as they are
======= ==========================================================

Each is made from the :class:`evomerge.merging.mergers.Mergers` that it is one of. All other kinds
need none: models that answer together stay, each merged as its own kind is, and what mergekit
builds is built and loaded.
"""

from collections.abc import Callable

from evomerge.foundations.registry import Registry
from evomerge.merging.base import KindMerger

MERGERS: Registry[Callable[..., KindMerger]] = Registry(
    "merger",
    {
        "moe": "evomerge.merging.joined_experts:JoinedMerger",
        "multi": "evomerge.merging.staged:StagedMerger",
        "merge": "evomerge.merging.path_merger:PathMerger",
    },
)
