"""What a gradient search needs of a run: its merger, its answers, its teachers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.compiler.examine import Compiled
from evomerge.errors import GenomeError
from evomerge.executors.base import Executor
from evomerge.executors.serial import Serial
from evomerge.executors.worker import Worker
from evomerge.merge_spaces.parameters import ParameterSpace
from evomerge.optimizers.context import Keepsakes, Trainer
from evomerge.optimizers.gradient_settings import GradientSettings

if TYPE_CHECKING:
    from evomerge.merging.live_model import LiveModel
    from evomerge.training.passes import Text


def trainer_maker(
    compiled: Compiled,
    executor: Executor,
    keepsakes: Keepsakes,
    folder: Path,
    say: Callable[[str, float], None],
) -> Callable[[Any], Trainer] | None:
    """Makes trainers that share the model of the trials; None where trials run elsewhere."""
    merge_space = compiled.merge_space
    if not (isinstance(executor, Serial) and isinstance(merge_space, ParameterSpace)):
        return None
    return _TrainerMaker(compiled, merge_space, executor, keepsakes, folder / "columns", say)


@dataclass(frozen=True)
class _TrainerMaker:
    compiled: Compiled
    merge_space: ParameterSpace
    executor: Serial
    keepsakes: Keepsakes
    folder: Path
    say: Callable[[str, float], None]

    _made: list[tuple[Worker, GradientSettings, Trainer]] = field(default_factory=list)

    def __call__(self, settings: GradientSettings) -> Trainer:
        """The trainer of an optimizer; a new one where the worker of the trials is another now."""
        worker = self.executor.worker
        self._made[:] = [made for made in self._made if made[0] is worker]
        for _, own, trainer in self._made:
            if own is settings:
                return trainer
        self._made.append((worker, settings, self._make(settings)))
        return self._made[-1][-1]

    def _make(self, settings: GradientSettings) -> Trainer:
        from evomerge.training.checkpoints import Checkpoints  # loads torch, as those below
        from evomerge.training.coefficients import Coefficients
        from evomerge.training.column_mixture import ColumnMixture
        from evomerge.training.mixture import Mixture
        from evomerge.training.teachers import Teachers
        from evomerge.training.trainer import GradientTrainer, Lessons

        coefficients = Coefficients(self.merge_space)
        merger = self.executor.worker.merger
        checkpoints = None
        if settings.granularity == "column":
            mixture: Mixture = (columns := ColumnMixture(merger, coefficients))
            checkpoints = Checkpoints(columns, self.folder)
        else:
            mixture = Mixture(merger, coefficients)
        start = mixture.trained.of(self.merge_space.space.initial)
        model = mixture.at(mixture.trained.settled(start))
        answers = self._answers(model)
        answers = {name: texts for name, texts in answers.items() if texts[0].share > 0}
        if settings.losses.nll and not answers:
            raise GenomeError(
                "no right answer can be read off the search tasks",
                where="optimizer.losses.nll",
                fix="Set it to 0 and let the sources teach (kl, with prompts), or use cma_es.",
            )
        models = [source.model for source in self.compiled.genome.genome.models]
        lessons = Lessons(
            answers,
            self._prompts(settings, model, answers) if settings.losses.need_prompts else (),
        )
        recipes = [self.merge_space.model_recipe(name) for name in models]
        keepsakes = self.keepsakes if settings.cache_teachers else None
        teachers = Teachers(mixture, recipes, settings.teacher_top_k, keepsakes)
        return GradientTrainer(mixture, lessons, settings, teachers, checkpoints, self.say)

    def _answers(self, model: LiveModel) -> dict[str, list[Text]]:
        """Task -> its documents with their answers, each as its task counts."""
        from evomerge.evaluators.lm_eval.answers import answers_of
        from evomerge.evaluators.lm_eval.evaluator import LmEval
        from evomerge.training.passes import Text

        evaluator = self.executor.worker.evaluators["tasks"]
        if not isinstance(evaluator, LmEval):
            return {}
        shares = {task.name: task.weight for task in evaluator.tasks}
        found: dict[str, list[Text]] = defaultdict(list)
        for one in answers_of(evaluator, model):
            text = Text((*one.context, *one.answer), len(one.context), shares.get(one.task, 1.0))
            found[one.task].append(text)
        return found

    def _prompts(
        self, settings: GradientSettings, model: LiveModel, answers: dict[str, list[Text]]
    ) -> list[list[Text]]:
        """The texts of each source, in the order of the models."""
        from evomerge.training.prompts import texts_of

        window = getattr(model.module.config, "max_position_embeddings", settings.max_length)
        longest = min(settings.max_length, window)
        return [
            texts_of(settings.prompts[source.model.text], model.tokenizer, longest, answers)
            for source in self.compiled.genome.genome.models
        ]
