"""The contract of every evaluator: a live model in, metrics and documents out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.evaluators.beside import Room
from evomerge.evaluators.built_model import BuiltModel, Report, Scored
from evomerge.evaluators.kind_of_task import KindOfTask
from evomerge.evaluators.questions import Question
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvomergeError, Problem
from evomerge.foundations.findings import Finding
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel


class Evaluator(KindOfTask, ABC):
    """Scores models on a fixed list of tasks of one kind.

    Built once per run; whatever does not depend on the weights is done once.

    Args:
        tasks: What to score on; names unique.
        settings: How to run the model.
        engine: What runs the model.
        search_path: Folders with task definitions of the user's.
        seed: Root seed of drawn documents and sampled generations.
        permissions: What the user allows tasks; nothing by default.

    Attributes:
        means: By what it scores a model folder apart from a run; empty where it cannot.
    """

    means: str = ""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: EvaluationBlock,
        engine: type[Engine],
        *,
        search_path: Sequence[str] = (),
        seed: int = 0,
        permissions: Permissions | None = None,
    ) -> None:
        self.tasks = tuple(tasks)
        self.settings = settings
        self.engine = engine
        self.search_path = tuple(search_path)
        self.seed = seed
        self.permissions = permissions or Permissions()

    @abstractmethod
    def prepare(self) -> tuple[MetricKey, ...]:
        """Loads tasks and data; the metric of each task, in the order of the tasks.

        Raises:
            GenomeError: a task or a metric is not known, with the nearest name.
        """

    @abstractmethod
    def evaluate(
        self, model: LiveModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> Evaluation:
        """Scores one model.

        Args:
            model: What to score.
            deadline: Looked at between forward passes; None for no limit.
            batch_divisor: What the batch is divided by to fit the memory.

        Returns:
            Every metric the tasks report, the tasks' own ones first and in their order.

        Raises:
            OutOfMemoryError: a forward pass did not fit; a smaller batch might.
            TrialTimeoutError: the deadline is over.
            EvaluationError: the model could not be scored.
        """

    @abstractmethod
    def first_documents(
        self, model: LiveModel, deadline: Deadline | None = None
    ) -> tuple[Metric, ...]:
        """The metric of each task, in their order, after one document where only results name it.

        Names that only results tell are known from then on, and are those of
        :meth:`evaluate`. The values stand for nothing.

        Args:
            model: What to score.
            deadline: Looked at between forward passes; None for no limit.

        Raises:
            GenomeError: a task's code fails, or its results lack the metric; all of them.
            EvaluationError: the model could not be scored.
        """

    @abstractmethod
    def let_go(self) -> None:
        """Forgets the model that was scored last, whose memory the next one needs."""

    def keep_in(self, run_dir: Path | None) -> None:  # most pay for nothing
        """Has what was paid for kept in a run folder, to be found there again; None: nowhere."""

    def hold_to(
        self, identity: Mapping[str, str]
    ) -> None:  # some find their files changed elsewhere
        """Has tasks that are read from now on refused where they are not those of the run.

        Args:
            identity: As :meth:`identity` had it when the run began.
        """

    def settle(self, keys: Sequence[MetricKey]) -> None:  # most have their names
        """Has :meth:`evaluate` read these metrics and no others, as first documents named them.

        Args:
            keys: One of each task, in the order of the tasks.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, str]:
        """Task name -> digest of everything its scores stand on: documents, prompts, metric.

        Read only after :meth:`prepare`. Equal digests, comparable scores.
        """

    def contents(self) -> tuple[TaskContents, ...]:
        """Documents of each task, in their order, for rules that compare them.

        Read only after :meth:`prepare`.
        """
        return ()

    @abstractmethod
    def facts(self) -> tuple[TaskFacts, ...]:
        """What is known of each task before a model is scored; after :meth:`prepare`."""

    def questions(self, model: LiveModel) -> tuple[Question, ...]:
        """What can be learned from: every document of which it may be known what is right.

        Args:
            model: Its tokenizer reads the prompts, its configuration says how much of them.
        """
        return ()

    def tokens_per_pass(self, device: str, longest: int) -> int:
        """Tokens that one forward pass reads at most, 0 where there is none.

        Args:
            device: Where the model is.
            longest: Tokens of the longest row.
        """
        return self.engine.tokens_per_pass(device, self.settings.batch_size, longest)

    def findings(self) -> Iterator[Finding]:
        """What can be known of the tasks before a run, beyond their files: endpoints, keys, room.

        Read only after :meth:`prepare`; asked for by ``check`` and before a run.
        """
        return iter(())

    def room(self) -> Room:
        """What it holds in memory beside the model that is scored."""
        return {}

    def warnings(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> tuple[str, ...]:
        """One sentence for each sign that models with this tokenizer do not fit the tasks."""
        return ()

    def score_folder(
        self, built: BuiltModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """Documents and metrics of a model folder, by ``means``: nothing of a run takes part.

        Read only after :meth:`prepare`, and where there are such means.

        Args:
            built: The model.
            report: Hears how far it is, from when the model is loaded.
            recorded: ``"task/metric,filter"`` of what it is compared with: names that only
                results tell are nowhere else.

        Raises:
            RunError: the model cannot be loaded or scored.
        """
        raise NotImplementedError(f"{type(self).__name__} has no means of its own")

    @property
    def unverifiable(self) -> frozenset[str]:
        """Tasks that it cannot score apart from a run, by name."""
        return frozenset() if self.means else frozenset(task.name for task in self.tasks)


def problems_of_split(error: EvomergeError, split: str) -> Iterator[Problem]:
    """An evaluator calls its tasks ``tasks``, whichever split they are of."""
    for problem in error.problems:
        where = problem.where
        if where.startswith("tasks"):
            where = split + where.removeprefix("tasks")
        yield Problem(problem.what, where, problem.fix)
