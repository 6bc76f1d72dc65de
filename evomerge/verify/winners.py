"""What is verified: the winners of a run folder or that of a best.yml, as the ledger has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.foundations.errors import LedgerError, LostFileError, NoRunError
from evomerge.foundations.reading import is_file, is_folder, is_there, real_path
from evomerge.foundations.text_safety import argument
from evomerge.genome.difference import differences
from evomerge.genome.source import read_yaml
from evomerge.genome.words import FINAL_SPLITS, Split
from evomerge.nouns.evaluation import Document, Evaluation
from evomerge.nouns.trial import Trial
from evomerge.run.best_file import read_best
from evomerge.run.chosen import refuse_none
from evomerge.run.ledger.no_run import no_run
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.staged_folder import result_folder
from evomerge.run.recorded_run import RecordedRun, load_run

_FIX = "Name a run folder or the best.yml in it."
_N_SHOWN = 5  # changed keys of a recipe in a message


@dataclass(frozen=True)
class Recorded:
    """A trial, and what its run found of it.

    Attributes:
        run: The run it is of.
        trial: The trial.
        documents: Split -> per-document results, for every split it was scored on.
        metrics: Split -> ``"task/metric,filter"`` -> value.
    """

    run: RecordedRun
    trial: Trial
    documents: Mapping[Split, tuple[Document, ...]]
    metrics: Mapping[Split, Mapping[str, float]]

    @property
    def trial_id(self) -> int:
        """Its trial."""
        return self.trial.candidate.trial_id


def read(best_or_run: Path, trial_id: int | None = None) -> tuple[Recorded, ...]:
    """The winner of a run folder, or its front; the trial of a best.yml or of a file of a front.

    Args:
        best_or_run: A run folder, or such a file in one.
        trial_id: Another trial of that run instead.

    Raises:
        NoRunError: it is neither.
        LedgerError: best.yml and ledger contradict each other.
        LostFileError: per-document results are gone.
        RunError: no trial is complete, or the one that is wanted is not.
    """
    if trial_id is not None:
        run = load_run(_run_folder(best_or_run))
        trials = [run.complete_trial(trial_id)]
    elif is_folder(best_or_run):
        run = load_run(_run_folder(best_or_run))
        if is_there(run.ledger.folder.best):
            _trial_in(run, run.ledger.folder.best)
        trials = run.winners
    else:
        run = load_run(_run_folder(best_or_run))
        trials = [_trial_in(run, best_or_run)]
    return tuple(_recorded(run, trial) for trial in refuse_none(run, trials))


def _run_folder(best_or_run: Path) -> Path:
    """The run folder itself, or the one that a best.yml or a file of its front lies in."""
    if is_folder(best_or_run):
        folder = result_folder(best_or_run)
        if not is_there(RunFolder(folder).ledger):
            raise no_run(best_or_run, _FIX)
        return folder
    return _folder_of(best_or_run)


def _folder_of(best: Path) -> Path:
    if not is_there(best):
        raise _neither(best, "does not exist")
    if best.suffix not in (".yml", ".yaml") or "evomerge_best" not in _content(best):
        raise _neither(best, "is neither a run folder nor a best.yml")
    for folder in (real_path(best).parent, real_path(best).parent.parent):
        if is_file(RunFolder(folder).ledger):
            return folder
    raise NoRunError(
        "no ledger.jsonl lies beside it, and there is nothing else to compare with",
        where=str(best),
        fix="Put it back into its run folder, or name the run folder.",
    )


def _neither(path: Path, what: str) -> NoRunError:
    return NoRunError(what, where=str(path), fix=_FIX)


def _content(best: Path) -> Mapping[str, Any]:
    data = read_yaml(best).data
    return data if isinstance(data, dict) else {}


def _trial_in(run: RecordedRun, best: Path) -> Trial:
    """The trial a best.yml names, if it says of it what the ledger says."""
    content = read_best(best)
    trial = run.ledger.trials.get(content["trial"])
    if trial is None or trial.outcome.evaluation is None:
        raise LedgerError(
            f"trial {content['trial']} is not a complete trial of the ledger",
            where=str(best),
            fix=_fix(run),
        )
    recorded = {
        **{key: run.ledger.header[key] for key in ("merge_seed", "threads", "device")},
        "recipe": dict(trial.candidate.recipe.config),
    }
    changed = list(differences(recorded, {key: content.get(key) for key in recorded}))
    if changed:
        listed = "".join(f"\n  {line}" for line in changed[:_N_SHOWN])
        raise LedgerError(
            f"is not what trial {trial.candidate.trial_id} was scored with:{listed}\n",
            where=str(best),
            fix=_fix(run),
        )
    return trial


def _fix(run: RecordedRun) -> str:
    return f"`evomerge export {argument(run.ledger.folder.path)}` writes what the ledger holds."


def _recorded(run: RecordedRun, trial: Trial) -> Recorded:
    evaluations = dict(_evaluations(run, trial))
    documents = {split: _documents(run, trial, split) for split in evaluations}
    metrics = {
        split: {str(metric.key): metric.value for metric in evaluation.metrics}
        for split, evaluation in evaluations.items()
    }
    return Recorded(run, trial, documents, metrics)


def _evaluations(run: RecordedRun, trial: Trial) -> Iterator[tuple[Split, Evaluation]]:
    """What the trial was scored on."""
    if trial.outcome.evaluation is not None:
        yield "tasks", trial.outcome.evaluation
    for split in FINAL_SPLITS:
        final = run.ledger.finals.get((split, trial.candidate.trial_id))
        if final is not None and final.evaluation is not None:
            yield split, final.evaluation


def _documents(run: RecordedRun, trial: Trial, split: Split) -> tuple[Document, ...]:
    trial_id = trial.candidate.trial_id
    documents = run.ledger.documents(trial_id, split)
    if not documents:
        raise LostFileError(
            "the per-document results are gone",
            where=str(run.ledger.folder.documents(trial_id, split)),
            fix="Put the file back; nothing else can be compared.",
        )
    return documents
