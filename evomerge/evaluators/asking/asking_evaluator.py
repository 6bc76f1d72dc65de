"""The evaluator of every kind that asks: all tasks of a split are answered and judged together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asked import AskLikelihood, AskText, AskTextLikelihood
from evomerge.evaluators.asking.asking_kind import Around, AskingKind
from evomerge.evaluators.asking.asking_task import AskingTask, asking_task, placed
from evomerge.evaluators.asking.in_rounds import InRounds
from evomerge.evaluators.asking.judged_results import evaluation_of
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.asking.rounds import Hearing, hear
from evomerge.evaluators.asking.what_teaches import questions_of
from evomerge.evaluators.beside import Room, shared_room
from evomerge.evaluators.built_model import BuiltModel, Report, Scored
from evomerge.evaluators.questions import Question
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem, RunError, why
from evomerge.foundations.findings import Finding
from evomerge.genome.task_blocks import Task
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel

# Whatever torch and transformers raise on a model that they cannot load or run.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class AskingEvaluator(InRounds):
    """Scores tasks of kinds that ask; see :class:`AskingKind`."""

    _tasks: tuple[AskingTask, ...] | None = None

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._recorded: Mapping[str, str] = {}
        around = Around(self.seed, self.search_path, self.permissions)
        self._kinds = [_made(task, around, f"tasks[{i}]") for i, task in enumerate(self.tasks)]

    @property
    def means(self) -> str:  # type: ignore[override]  # of a class elsewhere, of its tasks here
        """By what it scores a model folder: transformers, where any task may be scored again."""
        return "transformers" if any(kind.is_verifiable for kind in self._kinds) else ""

    def prepare(self) -> tuple[MetricKey, ...]:
        """Reads the files; the metric of each task, in their order.

        Raises:
            GenomeError: a file cannot be read or holds nothing, a metric is none; all together.
        """
        found = [asking_task(kind, f"tasks[{i}]") for i, kind in enumerate(self._kinds)]
        problems = [one for each in found if isinstance(each, list) for one in each]
        if problems:
            raise GenomeError.of(problems)
        self._tasks = tuple(one for one in found if isinstance(one, AskingTask))
        return tuple(task.key for task in self._tasks)

    def hearings(self, model: LiveModel, engine: Engine, places: Sequence[int]) -> list[Hearing]:
        """See :meth:`InRounds.hearings`: a hearing per document."""
        tasks = self._loaded()
        return [one for place in places for one in tasks[place].hearings()]

    def evaluation(self, heard: Sequence[Hearing]) -> Evaluation:
        """See :meth:`InRounds.evaluation`."""
        of_task: dict[str, list[Hearing]] = defaultdict(list)
        for one in heard:
            of_task[one.task].append(one)
        return evaluation_of([(task, of_task[task.name]) for task in self._loaded()])

    def first_documents(
        self, model: LiveModel, deadline: Deadline | None = None
    ) -> tuple[Metric, ...]:
        """See :meth:`Evaluator.first_documents`; the names are known, and nothing is scored.

        A document may be a program's whole benchmark, or a judgment that is paid for.
        """
        measures = ((task.key, task.measures[0].higher_is_better) for task in self._loaded())
        return tuple(Metric(key, 0.0, None, 0, is_higher) for key, is_higher in measures)

    def keep_in(self, run_dir: Path | None) -> None:
        """See :meth:`Evaluator.keep_in`."""
        for kind in self._kinds:
            kind.keep_in(run_dir)

    def hold_to(self, identity: Mapping[str, str]) -> None:
        """See :meth:`Evaluator.hold_to`."""
        self._recorded = identity

    def settle(self, keys: Sequence[MetricKey]) -> None:
        """See :meth:`Evaluator.settle`."""
        pairs = zip(self._loaded(), keys, strict=True)
        self._tasks = tuple(replace(task, key=key) for task, key in pairs)

    def identity(self) -> Mapping[str, str]:
        """Task name -> digest of its documents, of its metric, and of settings that matter."""
        return {task.name: task.identity for task in self._loaded()}

    def contents(self) -> tuple[TaskContents, ...]:
        """See :meth:`Evaluator.contents`."""
        return tuple(task.contents for task in self._loaded())

    def facts(self) -> tuple[TaskFacts, ...]:
        """See :meth:`Evaluator.facts`."""
        return tuple(task.facts for task in self._loaded())

    def findings(self) -> Iterator[Finding]:
        """See :meth:`Evaluator.findings`."""
        for index, task in enumerate(self._loaded()):
            where = f"tasks[{index}].{task.kind.task.kind}"
            for one in task.kind.findings():
                yield replace(one, problem=placed(one.problem, where))

    def room(self) -> Room:
        """See :meth:`Evaluator.room`; what two tasks share once."""
        return shared_room(kind.room() for kind in self._kinds)

    def questions(self, model: LiveModel) -> tuple[Question, ...]:
        """See :meth:`Evaluator.questions`."""
        from evomerge.inference.base import context_length

        longest = context_length(model.module.config, model.tokenizer)
        reader = PromptReader(model.tokenizer, self.settings)
        return tuple(one for task in self._loaded() for one in questions_of(task, reader, longest))

    def warnings(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> tuple[str, ...]:
        """One sentence for each task whose prompts are longer than what the model reads.

        Raises:
            GenomeError: models with this tokenizer cannot be judged by a task.
        """
        from evomerge.inference.base import context_length

        reader, longest = PromptReader(tokenizer, self.settings), context_length(config, tokenizer)
        problems = [
            placed(problem, f"tasks[{index}].{task.kind.task.kind}")
            for index, task in enumerate(self._loaded())
            for problem in task.kind.misfits(task.items, reader, longest)
        ]
        if problems:
            raise GenomeError.of(problems)
        told = (_told_of_length(task, reader, longest) for task in self._loaded())
        return tuple(filter(None, told))

    def score_folder(
        self, built: BuiltModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """See :meth:`Evaluator.score_folder`; transformers alone, one request at a time."""
        from evomerge.evaluators.asking.plain_respondent import PlainRespondent, opened

        tasks = [task for task in self._loaded() if task.kind.is_verifiable]
        heard = [(task, task.hearings()) for task in tasks]
        n_done, n_all = 0, sum(len(own) for _, own in heard)
        try:
            module, tokenizer = built.opened_by(opened)
            respondent = PlainRespondent(module, tokenizer, built.settings, self.seed)
            report(0.0)
            for task, hearings in heard:
                respondent.answer_for(task.name)
                for several in [hearings] if task.kind.hears_all else [[one] for one in hearings]:
                    hear(several, respondent, Deadline())
                    n_done += len(several)
                    report(n_done / n_all)
        except EvomergeError:
            raise
        except (*_FAILURES, MemoryError) as error:
            what = f"cannot be scored by transformers ({why(error)})"
            raise RunError(what, where=str(built.folder)) from error
        evaluation = evaluation_of(heard)
        return evaluation.documents, {str(one.key): one.value for one in evaluation.metrics}

    @property
    def unverifiable(self) -> frozenset[str]:
        """See :meth:`Evaluator.unverifiable`."""
        return frozenset(kind.task.name for kind in self._kinds if not kind.is_verifiable)

    def _loaded(self) -> tuple[AskingTask, ...]:
        """The tasks with their documents, read when they are first asked for.

        Raises:
            RunError: files were changed since the run began.
        """
        if self._tasks is None:
            self.prepare()
            changed = self._changed(self._tasks or ())
            if changed:
                self._tasks = None
                raise RunError(
                    "a file, a program or a model that it names is not what it was when the run "
                    "began",
                    where=f"task {changed[0]}",
                    fix="Put it back, or begin another run.",
                )
        return self._tasks or ()

    def _changed(self, tasks: Sequence[AskingTask]) -> list[str]:
        """Those that are not what the run began with; none where nobody knows what that was."""
        recorded = self._recorded
        known = [task for task in tasks if task.name in recorded]
        return [task.name for task in known if task.identity != recorded[task.name]]


def _made(task: Task, around: Around, where: str) -> AskingKind[Any]:
    """A task's kind with its settings.

    Raises:
        GenomeError: these are not sound, which a genome's own check tells with lines.
    """
    kind = cast("type[AskingKind[Any]]", EVALUATORS[task.kind])
    try:
        return kind(task, around)
    except ValidationError as error:
        raise GenomeError.of(
            Problem(
                f"{details['msg']}, got {details['input']!r}",
                ".".join([where, task.kind, *map(str, details["loc"])]),
                f"Run `evomerge list evaluators --full` for what {task.kind} takes.",
            )
            for details in error.errors(include_url=False)
        ) from error


def _told_of_length(task: AskingTask, reader: PromptReader, longest: int) -> str:
    """A sentence where the first prompts do not fit; empty where they do.

    Raises:
        GenomeError: answers leave no room for any.
    """
    lengths = []
    for one in task.opening:
        if isinstance(one, AskText):
            reader.prompt(one, longest)
            lengths.append(len(reader.context(one.prompt, is_plain=one.is_plain)) + one.max_tokens)
        elif isinstance(one, AskLikelihood):
            lengths.append(sum(map(len, reader.continuation(one, longest))))
        elif isinstance(one, AskTextLikelihood):
            lengths.append(len(reader.whole(one.text)))
    n_long = sum(length > longest for length in lengths)
    if not n_long:
        return ""
    return (
        f"{n_long} of the first {len(lengths)} documents of task {task.name!r} do not fit the "
        f"{longest} tokens that the model reads; {task.kind.too_long}"
    )
