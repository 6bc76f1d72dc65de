"""The run folder and its ledger: the append-only history of a run, its only truth.

``ledger.jsonl``: line 1 is the header (versions, seed, digests, space); then one line per
event, each on disk before the run goes on. Replaying the lines rebuilds everything else.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import LedgerError
from evomerge.files import append_line, canonical_json, write_atomic
from evomerge.recipe import Recipe
from evomerge.trial import (
    Candidate,
    Document,
    Evaluation,
    Metric,
    MetricKey,
    Outcome,
    Trial,
    TrialState,
)


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder."""

    path: Path

    @property
    def genome(self) -> Path:
        """Exact copy of the genome the run was started with, overrides included."""
        return self.path / "genome.yml"

    @property
    def ledger(self) -> Path:
        """The history."""
        return self.path / "ledger.jsonl"

    @property
    def best(self) -> Path:
        """The winner so far."""
        return self.path / "best.yml"

    @property
    def journal(self) -> Path:
        """Optuna journal, a mirror that may be deleted."""
        return self.path / "study.journal"

    @property
    def report(self) -> Path:
        """Self-contained HTML."""
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        """What libraries said."""
        return self.path / "log.txt"

    @property
    def front(self) -> Path:
        """Folder with one recipe per point of the Pareto front."""
        return self.path / "front"

    def documents(self, trial_id: int, split: str) -> Path:
        """Per-document results of one trial on one split."""
        return self.path / "documents" / f"trial-{trial_id:05d}-{split}.jsonl.gz"


@dataclass
class Ledger:
    """A run's history in memory, and the file it came from.

    Attributes:
        folder: Where it lives.
        header: Line 1.
        trials: Trial id -> trial, as recorded.
        finals: (split, trial id) -> evaluation on a split that did not steer.
        told: Ids of the trials of each ``tell``, in order.
    """

    folder: RunFolder
    header: Mapping[str, Any]
    trials: dict[int, Trial] = field(default_factory=dict)
    finals: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    told: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def create(cls, folder: RunFolder, header: Mapping[str, Any], genome: str) -> Ledger:
        """Starts a run folder.

        Raises:
            LedgerError: the folder cannot be written.
        """
        try:
            (folder.path / "documents").mkdir(parents=True, exist_ok=True)
            write_atomic(folder.genome, genome)
            # Whole or not at all: a run killed right here is started again by the same command.
            write_atomic(folder.ledger, canonical_json({"kind": "header", **header}) + "\n")
        except OSError as error:
            raise LedgerError(
                f"the run folder cannot be written ({error.strerror})",
                where=str(folder.path),
                fix="Choose another with --run-dir.",
            ) from error
        return cls(folder, header)

    @classmethod
    def open(cls, folder: RunFolder, *, read_only: bool = False) -> Ledger:
        """Reads a run folder; a torn last line is cut off.

        Args:
            folder: Where it lives.
            read_only: Only skip a torn last line: a run may be writing it right now.

        Raises:
            LedgerError: there is no ledger, or a line that is not the last is broken.
        """
        if not folder.ledger.is_file():
            raise LedgerError(
                "no ledger.jsonl in this folder",
                where=str(folder.path),
                fix="Name the folder of a run.",
            )
        events = list(_events(folder.ledger, mend=not read_only))
        if not events or events[0].get("kind") != "header":
            raise LedgerError("line 1 is not a header", where=str(folder.ledger))
        ledger = cls(folder, events[0])
        for number, event in enumerate(events[1:], start=2):
            try:
                ledger._read(event)
            except (KeyError, TypeError, ValueError) as error:
                raise LedgerError(
                    f"line {number} is not an event of a ledger ({error!r})",
                    where=str(folder.ledger),
                ) from error
        return ledger

    def record_trial(self, trial: Trial) -> None:
        """Adds a finished trial, its documents first."""
        self._write_documents(trial.candidate.trial_id, "tasks", trial.outcome)
        self._append({"kind": "trial", **_trial_line(trial)})
        self.trials[trial.candidate.trial_id] = trial

    def record_final(self, trial_id: int, split: str, outcome: Outcome) -> None:
        """Adds a finalist's result on a split."""
        self._write_documents(trial_id, split, outcome)
        self._append({"kind": "final", "id": trial_id, "split": split, **_outcome_line(outcome)})
        self.finals[(split, trial_id)] = outcome

    def record_told(self, trial_ids: tuple[int, ...]) -> None:
        """Notes that the optimizer heard these trials, in this order."""
        self._append({"kind": "told", "ids": list(trial_ids)})
        self.told.append(trial_ids)

    def documents(self, trial_id: int, split: str = "tasks") -> tuple[Document, ...]:
        """Per-document results of a trial, empty where it failed."""
        path = self.folder.documents(trial_id, split)
        if not path.is_file():
            return ()
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return tuple(Document(**json.loads(line)) for line in file)

    def _append(self, event: Mapping[str, Any]) -> None:
        append_line(self.folder.ledger, canonical_json(event))

    def _read(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "trial":
            self.trials[event["id"]] = _trial_of(event)
        elif kind == "final":
            self.finals[(event["split"], event["id"])] = _outcome_of(event)
        elif kind == "told":
            self.told.append(tuple(event["ids"]))

    def _write_documents(self, trial_id: int, split: str, outcome: Outcome) -> None:
        if outcome.evaluation is None or not outcome.evaluation.documents:
            return
        lines = "\n".join(canonical_json(_document_line(d)) for d in outcome.evaluation.documents)
        packed = gzip.compress(lines.encode(), compresslevel=1, mtime=0)
        write_atomic(self.folder.documents(trial_id, split), packed)


def _events(path: Path, *, mend: bool) -> Iterator[dict[str, Any]]:
    """Events of a ledger; to mend is to cut off a last line that was not finished."""
    content = path.read_bytes()
    complete, newline, tail = content.rpartition(b"\n")
    lines = complete.split(b"\n") if newline else []
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise LedgerError(
                f"line {number} of {len(lines)} is not JSON, and it is not the last",
                where=str(path),
                fix="Restore the file from a copy; a run cannot go on from a broken history.",
            ) from error
        if not isinstance(event, dict):
            raise LedgerError(f"line {number} is not an event", where=str(path))
        yield event
    if tail and mend:
        write_atomic(path, complete + newline)


def _trial_line(trial: Trial) -> dict[str, Any]:
    candidate = trial.candidate
    genotype = candidate.genotype
    return {
        "id": candidate.trial_id,
        "origin": candidate.origin,
        "digest": candidate.recipe.digest,
        "recipe": dict(candidate.recipe.config),
        "genotype": None if genotype is None else [float(u) for u in genotype],
        "point": dict(candidate.point),
        **_outcome_line(trial.outcome),
    }


def _trial_of(event: Mapping[str, Any]) -> Trial:
    genotype = event["genotype"]
    candidate = Candidate(
        event["id"],
        event["origin"],
        Recipe(event["recipe"]),
        None if genotype is None else np.array(genotype, dtype=np.float64),
        event["point"],
    )
    if candidate.recipe.digest != event["digest"]:
        raise ValueError(f"the recipe of trial {event['id']} does not have the digest beside it")
    return Trial(candidate, _outcome_of(event))


def _outcome_line(outcome: Outcome) -> dict[str, Any]:
    metrics = outcome.evaluation.metrics if outcome.evaluation else ()
    return {
        "state": outcome.state.value,
        "metrics": [_metric_line(metric) for metric in metrics],
        "failure": outcome.failure,
        "seconds": {stage: round(value, 4) for stage, value in outcome.seconds.items()},
    }


def _document_line(document: Document) -> dict[str, Any]:
    return {
        "task": document.task,
        "doc_id": document.doc_id,
        "values": dict(document.values),
        "answer": document.answer,
    }


def _metric_line(metric: Metric) -> dict[str, Any]:
    return {
        **asdict(metric.key),
        "value": _finite(metric.value),
        "stderr": _finite(metric.stderr),
        "n": metric.n,
        "higher_is_better": metric.higher_is_better,
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no inf or NaN; they are kept as text."""
    return value if value is None or np.isfinite(value) else str(value)


def _outcome_of(event: Mapping[str, Any]) -> Outcome:
    state = TrialState(event["state"])
    evaluation = None
    if state is TrialState.COMPLETE:
        evaluation = Evaluation(tuple(_metric_of(line) for line in event["metrics"]))
    return Outcome(state, evaluation, event["failure"], event["seconds"])


def _metric_of(line: Mapping[str, Any]) -> Metric:
    return Metric(
        MetricKey(line["task"], line["metric"], line["filter"]),
        float(line["value"]),
        None if line["stderr"] is None else float(line["stderr"]),
        line["n"],
        line["higher_is_better"],
    )
