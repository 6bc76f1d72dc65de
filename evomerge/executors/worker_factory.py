"""How a worker is built where it is to live; picklable, so that a process can do it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.composite import evaluator_for
from evomerge.executors.twins import Twins
from evomerge.executors.worker import Worker
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.scratch import scratch_root, shared_root
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.recipe.kept_stages import Made


@dataclass(frozen=True)
class WorkerFactory:
    """What a worker needs; calling it builds one.

    Attributes:
        splits: Split name -> its tasks.
        settings: How the model is run.
        search_path: Folders with task definitions.
        seed: Root seed.
        device: Where the live model is.
        threads: Threads of the arithmetic; None leaves torch's own choice.
        permissions: What the user allows models and tasks.
        folders: Folders of local models; one that vanishes must not be taken for a Hub id.
        run_dir: The run folder, in which recipes may name models and adapters; None: they do not.
        made: Folders of models that earlier stages made, and how.
        packages: Those that register merge methods with mergekit.
        identities: Split name -> what its scores stand on, as the run began; see
            :meth:`Evaluator.identity`.
        n_sharing: Workers that have the memory of the device together.
        copies_in: Folder of each machine for copies of the models' folders; None: they have none.
        copied: The folders that are copied there, with their digests.
    """

    splits: Mapping[str, tuple[Task, ...]]
    settings: EvaluationBlock
    search_path: tuple[str, ...]
    seed: int
    device: str
    threads: int | None = None
    permissions: Permissions = field(default_factory=Permissions)
    folders: tuple[Path, ...] = ()
    run_dir: Path | None = None
    made: Made = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    identities: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    n_sharing: int = 1
    copies_in: str | None = None
    copied: Mapping[str, str] = field(default_factory=dict)

    def passing_in(self, dtype: str | None) -> WorkerFactory:
        """The same with forward passes in a dtype; None: in that of the models."""
        return replace(self, settings=self.settings.model_copy(update={"dtype": dtype}))

    def evaluators(self) -> dict[str, Evaluator]:
        """One evaluator per split that has tasks."""
        return {split: self.evaluator(split) for split, tasks in self.splits.items() if tasks}

    def evaluator(self, split: str) -> Evaluator:
        """What scores a split.

        Raises:
            UnknownNameError: no such engine, or no such kind of task.
        """
        return evaluator_for(
            self.splits[split],
            self.settings,
            ENGINES[self.settings.backend],
            search_path=self.search_path,
            seed=self.seed,
            permissions=self.permissions,
        )

    def __call__(self, evaluators: Mapping[str, Evaluator] | None = None) -> Worker:
        """A worker with a merger of its own.

        Raises:
            RunError: models cannot be copied to this machine.
        """
        # Else torch makes a folder of its own beside ours, which nobody removes.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(scratch_root() / "torchinductor"))
        import torch  # heavy; a worker is the first to need it

        from evomerge.merging.mergers import Mergers
        from evomerge.merging.registered_methods import register_methods
        from evomerge.merging.resident import ResidentMerger
        from evomerge.merging.shared_copies import Sharing
        from evomerge.models.node_copies import copies_of
        from evomerge.models.quiet import lock_bars_in_this_process

        lock_bars_in_this_process()
        register_methods(self.packages, self.permissions)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        places = copies_of(self.copied, self.copies_in) if self.copies_in else {}

        def placed(name: str) -> str:
            return "+".join(places.get(os.path.normpath(part), part) for part in name.split("+"))

        make = partial(
            ResidentMerger,
            device=self.device,
            dtype=self.settings.dtype,
            merge_seed=self.seed,
            trust_remote_code=self.permissions.trust_remote_code,
            allow_pickle=self.permissions.pickle | {*map(placed, self.permissions.pickle)},
            folders=[Path(places.get(os.path.normpath(one), one)) for one in self.folders],
            engine=self.settings.exactness,
            tokenizers={},
            sharing=Sharing(self.n_sharing, shared_root()),
        )
        scoring = evaluators or self.evaluators()
        for split, evaluator in scoring.items():
            evaluator.hold_to(self.identities.get(split, {}))
            evaluator.keep_in(self.run_dir)
        return Worker(Mergers(make), scoring, self.run_dir, Twins(), self.made, places)
