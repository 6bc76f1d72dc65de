"""Any recipe that mergekit builds, brought to life by that: its commands run, the folder is loaded.

What every kind can rely on. It costs a process of mergekit's and the model on disk for each merge,
so that kinds whose recipes are searched have mergers of their own.
"""

from __future__ import annotations

from pathlib import Path

import torch

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import LostFileError, MergeError, RunError
from evomerge.foundations.scratch import full_scratch, scratch
from evomerge.merging.build import KilledError, build
from evomerge.merging.live_model import LiveModel
from evomerge.merging.merge_failures import failures_told
from evomerge.merging.mergers import Mergers
from evomerge.merging.whole_model import WholeModels
from evomerge.recipe.plain import Recipe


class BuiltMerger:
    """Builds recipe after recipe in a temporary folder, and loads it as transformers does.

    Args:
        mergers: Whose resident merger says where models live, and what they are allowed.
    """

    def __init__(self, mergers: Mergers) -> None:
        self._resident = mergers.resident
        self._whole = WholeModels(mergers.resident)

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`; mergekit's last words are the failure.

        Raises:
            KilledError, LostFileError: mergekit lacked memory, or room on the disk.
        """
        limit = deadline or Deadline()
        self.drop_live()
        with failures_told(), scratch() as folder:
            self._resident.refuse(recipe)
            try:
                build(
                    recipe,
                    folder / "model",
                    merge_seed=self._resident.merge_seed,
                    threads=torch.get_num_threads(),
                    device=str(self._resident.device),
                    trust_remote_code=self._resident.trust_remote_code,
                    allow_pickle=self._resident.allow_pickle,
                    check=limit.check,
                )
            except (LostFileError, KilledError):
                raise
            except RunError as error:  # of this recipe; another one may well be built
                failure = MergeError(error.problems[0].what, where="merge")
                raise full_scratch(error) or failure from error
            limit.check()
            return self._whole.live(_copy(folder / "model"))

    def drop_live(self) -> None:
        """See :class:`evomerge.merging.base.KindMerger`."""
        self._whole.drop()

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Gives back the live model."""
        self._whole.drop()


def _copy(folder: Path) -> Recipe:
    return Recipe({"merge_method": "passthrough", "models": [{"model": str(folder)}]})
