"""What a gradient search needs of a run: its merger, its answers, its teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evomerge.compiler.compiled import Compiled
from evomerge.compiler.trained_worker import TrainedWorker, WorkerBeside, WorkerOfTrials
from evomerge.executors.base import Executor
from evomerge.executors.worker import Worker
from evomerge.foundations.errors import LostFileError, RunError
from evomerge.merge_spaces.learnable import Learnable
from evomerge.nouns.evaluation import Document
from evomerge.nouns.events import Notice, Proposing, Warned
from evomerge.nouns.trial import Trial
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.search_context import Trainer
from evomerge.recipe.kept_stages import folded
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.history import Ledger
from evomerge.training.right_targets import RightTargets

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel
    from evomerge.training.exercises import Exercises
    from evomerge.training.mixture import Mixture
    from evomerge.training.passes import Text


def trainer_maker(
    compiled: Compiled,
    executor: Executor,
    worker_here: Callable[[str | None], Worker],
    ledger: Ledger,
    history: Callable[[], Sequence[Trial]],
    hear: Callable[[Proposing | Notice | Warned], None],
) -> TrainerMaker | None:
    """Makes trainers that share the model of the trials, or take the place of one of the workers.

    Args:
        compiled: What is searched.
        executor: Where trials run.
        worker_here: Builds a worker in this process, on a device; None: on that of the run.
        ledger: Holds their documents, and what trainers keep.
        history: The trials that are over.
        hear: Takes what a trainer tells people.

    Returns:
        None where no weights can be learned, or nobody can train here.
    """
    learnable = compiled.merge_space.learnable()
    can_train = executor.runs_here or (executor.lends and executor.n_workers > 1)
    if learnable is None or not can_train:
        return None
    worker: TrainedWorker = WorkerOfTrials(executor)
    if not executor.runs_here:
        worker = WorkerBeside(executor, worker_here)
    return TrainerMaker(compiled, learnable, worker, ledger, history, hear)


@dataclass(frozen=True)
class TrainerMaker:
    """Called with an optimizer's settings it gives the trainer for them."""

    compiled: Compiled
    learnable: Learnable
    worker: TrainedWorker
    ledger: Ledger
    history: Callable[[], Sequence[Trial]]
    hear: Callable[[Proposing | Notice | Warned], None]

    _made: list[tuple[Worker, GradientSettings, Trainer]] = field(default_factory=list)
    _right: list[RightTargets] = field(default_factory=list)  # one for all, once it is asked for

    def end(self) -> None:
        """Nothing is trained any more."""
        self._made.clear()
        self.worker.end()

    def __call__(self, settings: GradientSettings) -> Trainer:
        """The trainer of an optimizer; a new one where the worker of the trials is another now."""
        worker = self.worker()
        self._made[:] = [made for made in self._made if made[0] is worker]
        for _, own, trainer in self._made:
            if own is settings:
                return trainer
        self._made.append((worker, settings, self._make(settings)))
        return self._made[-1][-1]

    def _make(self, settings: GradientSettings) -> Trainer:
        from evomerge.merging.mergers import Mergers
        from evomerge.training.coefficients import Coefficients
        from evomerge.training.column_mixture import ColumnMixture
        from evomerge.training.mixture import Mixture
        from evomerge.training.teachers import Teachers
        from evomerge.training.tensor_mixture import TensorMixture
        from evomerge.training.trainer import GradientTrainer, Lessons
        from evomerge.training.written_models import Checkpoints  # loads torch, as those below

        coefficients = Coefficients(self.learnable)
        mergers = self.worker().merger
        if not isinstance(mergers, Mergers):
            raise RunError(
                f"weights can be trained in a merge held in memory, got {type(mergers).__name__}",
                where="optimizer",
                fix="Use optimizer: cma_es.",
            )
        merger = mergers.resident
        checkpoints = None
        finer = self._finer() if settings.is_by_tensor else None
        if settings.granularity == "column":
            mixture: Mixture = (columns := ColumnMixture(merger, coefficients))
            checkpoints = Checkpoints(columns.save, self.ledger.folder.path)
        elif finer is not None and finer.space.n_dims > self.learnable.space.n_dims:
            mixture = TensorMixture(merger, coefficients, Coefficients(finer))
        else:  # the space says it itself
            mixture = Mixture(merger, coefficients)
        start = mixture.trained.of(self.learnable.space.initial)
        model = mixture.at(mixture.trained.settled(start))
        exercises = self._exercises(settings, mixture, model)
        models = [source.model for source in self.compiled.genome.genome.models]
        lessons = Lessons(
            exercises.now,
            self._prompts(settings, model, exercises) if settings.losses.need_prompts else (),
        )
        recipes = [self.compiled.merge_space.model_recipe(name) for name in models]
        artifacts = ArtifactStore(self.ledger.folder) if settings.cache_teachers else None
        teachers = Teachers(mixture, recipes, settings.teacher_top_k, artifacts)
        return GradientTrainer(mixture, lessons, settings, teachers, checkpoints, self._say)

    def _finer(self) -> Learnable | None:
        """The same with a weight per tensor."""
        finer = self.compiled.merge_space.by_tensor()
        return None if finer is None else finer.learnable()

    def _say(self, activity: str, share: float) -> None:
        self.hear(Proposing(activity, share))

    def _readable(self) -> Sequence[Trial]:
        """The trials whose answers are tokens of the merges' own vocabulary.

        Models and base are scored with their own, where the genome gives the merges another.
        """
        trials = self.history()
        definition = self.compiled.genome.genome
        if definition.tokenizer is None and definition.tokenizer_source is None:
            return trials
        return [t for t in trials if not t.candidate.origin.is_unmerged]

    def _documents(self, trial_id: int) -> Sequence[Document]:
        """What a scored trial answered.

        Raises:
            LostFileError: nobody knows any more: without it, other answers would be learned.
        """
        documents = self.ledger.documents(trial_id)
        if not documents:
            raise LostFileError(
                "the documents of a trial are gone, and what they teach with them",
                where=str(self.ledger.folder.documents(trial_id, "tasks")),
                fix="Restore the file from a copy, or start a new run folder.",
            )
        return documents

    def _exercises(
        self, settings: GradientSettings, mixture: Mixture, model: LiveModel
    ) -> Exercises:
        """What the documents of the search tasks teach, each as its task counts."""
        from evomerge.training.exercises import Exercises, History

        def tell(message: str) -> None:
            self.hear(Notice(message))

        if not self._right:
            self._right.append(RightTargets(ArtifactStore(self.ledger.folder), tell))
        return Exercises(
            self.worker().evaluators["tasks"].questions(model),
            {task.name: task.weight for task in self.compiled.genome.tasks},
            History(self._readable, self._documents),
            lambda recipe: mixture.of(folded(recipe, self.compiled.context.made)).module,
            lambda message: self.hear(Warned(message)),
            tell,
            settings.batch_size,
            self._right[0],
        )

    def _prompts(
        self, settings: GradientSettings, model: LiveModel, exercises: Exercises
    ) -> list[list[Text]]:
        """The texts of each source, in the order of the models."""
        from evomerge.training.prompt_texts import texts_of

        window = getattr(model.module.config, "max_position_embeddings", settings.max_length)
        longest = min(settings.max_length, window)
        own = [one for prompts in settings.prompts.values() for one in prompts]
        answers = {one.task: exercises.targets(one.task) for one in own if one.task is not None}
        return [
            texts_of(settings.prompts[source.model.text], model.tokenizer, longest, answers)
            for source in self.compiled.genome.genome.models
        ]
