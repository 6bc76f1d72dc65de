"""A run folder as it stands, read without its models or tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from evomerge.foundations.errors import LedgerError, RunError
from evomerge.foundations.text_safety import argument
from evomerge.genome.load import load_genome
from evomerge.genome.schema import Genome
from evomerge.genome.words import FINAL_SPLITS, Split
from evomerge.nouns.evaluation import Document, Evaluation, Outcome
from evomerge.nouns.objective import Objective
from evomerge.nouns.space import Space, from_data
from evomerge.nouns.trial import Trial
from evomerge.optimizers.picked import block_in, is_auto
from evomerge.run.final_choice import FinalChoice
from evomerge.run.leaderboard import Leaderboard, anchored
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import STAGES, begun_stages, result_folder


@dataclass(frozen=True)
class RecordedRun:
    """A run folder, finished or not.

    Attributes:
        ledger: The history.
        genome: What was searched.
        leaderboard: The trials on the search tasks, in order.
        finals: Split -> its objective, for the splits that have results; scaled, where it is
            scaled, by the baselines' scores on that split.
        lost: Name of each file of documents that was found to be broken -> what it is.
    """

    ledger: Ledger
    genome: Genome
    leaderboard: Leaderboard
    finals: Mapping[str, Objective]
    lost: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def space(self) -> Space:
        """What the run searches in."""
        return from_data(self.ledger.header["space"])

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.ledger.folder.path

    @property
    def winners(self) -> list[Trial]:
        """The front where there are several objectives, else the best trial; best first."""
        return self.choice.winners

    @property
    def choice(self) -> FinalChoice:
        """The rule that chose them, with all that was scored so far."""
        validated, count = self.ledger.final_outcomes("validation"), self.genome.finalists
        return FinalChoice(self.leaderboard, self.finals.get("validation"), validated, count)

    def complete_trial(self, trial_id: int) -> Trial:
        """The trial of an id.

        Raises:
            RunError: the run has no such trial, or it failed.
        """
        trial, where = self.ledger.trials.get(trial_id), str(self.ledger.folder.path)
        if trial is None:
            raise RunError(
                f"no trial {trial_id}, the last one is {max(self.ledger.trials, default=None)}",
                where=where,
                fix=f"Run `evomerge show {argument(where)}`.",
            )
        if trial.outcome.evaluation is None:
            raise RunError(f"trial {trial_id} failed: {trial.outcome.failure}", where=where)
        return trial

    def outcomes(self, split: str) -> Mapping[int, Outcome]:
        """Trial id -> what came of it on a split."""
        if split != "tasks":
            return self.ledger.final_outcomes(split)
        return {trial.candidate.trial_id: trial.outcome for trial in self.leaderboard.trials}

    def evaluation(self, split: str, trial_id: int) -> Evaluation | None:
        """What a trial did on a split, documents included; None where it has no scores there."""
        outcome = self.ledger.finals.get((split, trial_id))
        if split == "tasks":
            outcome = self.ledger.trials[trial_id].outcome
        if outcome is None or outcome.evaluation is None:
            return None
        return replace(outcome.evaluation, documents=self.documents(trial_id, split))

    def documents(self, trial_id: int, split: str = "tasks") -> tuple[Document, ...]:
        """Per-document results of a trial; none where their file is gone, or broken."""
        try:
            return self.ledger.documents(trial_id, split)
        except LedgerError as error:
            file = self.ledger.folder.documents(trial_id, split)
            self.lost[file.name] = error.problems[0].what
            return ()

    def kept_by(self, optimizer: str) -> Iterator[tuple[int, Path]]:
        """Position and folder of each optimizer of a name, where it keeps its things."""
        block, folder = self.genome.optimizer, self.ledger.folder.optimizer
        for position, link in enumerate(block.links):
            if link.name == optimizer:
                yield position, folder / f"{position}-{link.name}" if block.parts else folder

    def members(self, split: str) -> Mapping[str, Sequence[str]]:
        """Task -> the names its documents go by, for the groups among the tasks."""
        found: Mapping[str, Sequence[str]] = self.ledger.header.get("members", {}).get(split, {})
        return found


def load_run(path: Path) -> RecordedRun:
    """Reads a run folder; one that is being written at this moment too.

    Of a run with stages it is the last one that has begun.

    Raises:
        LedgerError: there is no run, or its history is broken.
        GenomeError: its genome.yml was changed into something that is no genome.
    """
    ledger = Ledger.open(RunFolder(result_folder(path)), read_only=True)
    genome, _ = load_genome(ledger.folder.genome)
    if is_auto(genome.optimizer):
        genome = genome.model_copy(update={"optimizer": block_in(ledger.header, genome.optimizer)})
    return recorded_run(ledger, genome)


def earlier_stages(run: RecordedRun) -> list[RecordedRun]:
    """The runs of the stages before it, in order; none of a run that is no stage."""
    folder = run.ledger.folder.path
    begun = begun_stages(folder.parent.parent) if folder.parent.name == STAGES else []
    paths = [one.path for one in begun]
    return [load_run(path) for path in paths[: paths.index(folder)]] if folder in paths else []


def recorded_run(ledger: Ledger, genome: Genome) -> RecordedRun:
    """The run of a ledger in memory."""
    trials = tuple(sorted(ledger.trials.values(), key=lambda trial: trial.candidate.trial_id))
    objective = _objective(ledger, genome, "tasks", [trial.outcome for trial in trials])
    finals: dict[str, Objective] = {}
    for split in FINAL_SPLITS:
        outcomes = ledger.final_outcomes(split)
        if any(outcome.evaluation is not None for outcome in outcomes.values()):
            unscaled = _objective(ledger, genome, split, outcomes.values())
            finals[split] = anchored(unscaled, trials, outcomes)
    return RecordedRun(ledger, genome, Leaderboard(objective, trials).with_anchors(), finals)


def _objective(
    ledger: Ledger, genome: Genome, split: Split, outcomes: Iterable[Outcome]
) -> Objective:
    """The objective of a split, its metrics as the evaluator recorded them.

    An evaluation begins with the tasks' own metrics, in the order of the tasks (the contract of
    evaluators), so that no task has to be loaded to know them.
    """
    tasks = genome.split(split)
    evaluation = next((o.evaluation for o in outcomes if o.evaluation is not None), None)
    metrics = evaluation.metrics[: len(tasks)] if evaluation is not None else ()
    named, scored = [task.name for task in tasks], [metric.key.task for metric in metrics]
    if evaluation is not None and (named != scored or not named):
        raise LedgerError(
            f"{split} is {', '.join(named) or 'empty'}; the trials were scored on "
            f"{', '.join(dict.fromkeys(metric.key.task for metric in evaluation.metrics))}",
            where=str(ledger.folder.genome),
            fix="Put back the genome that the run began with.",
        )
    return Objective(genome.objective, tasks, [metric.key for metric in metrics])
