"""The append-only history of a run, its only truth.

``ledger.jsonl``: line 1 is the header (versions, seed, digests, space); then one line per
event, each on disk before the run goes on. Replaying the lines rebuilds everything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.files import remove_unfinished, write_atomic, writing
from evomerge.foundations.lock import RunLock
from evomerge.foundations.reading import is_there
from evomerge.nouns.evaluation import Document, Outcome
from evomerge.nouns.trial import Candidate, Trial
from evomerge.run.ledger.kept_documents import read_documents, write_documents
from evomerge.run.ledger.lines import (
    Extension,
    KnownOutcome,
    Turn,
    known_line,
    outcome_line,
    outcome_of,
    trial_line,
    trial_of,
)
from evomerge.run.ledger.no_run import no_run
from evomerge.run.ledger.old_origins import OldOrigins
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import event_in, header_in
from evomerge.run.ledger.store import BROKEN_FIX, LedgerFile, cut_torn_tail, events_of


@dataclass
class Ledger:
    """A run's history in memory, and the file it came from.

    Attributes:
        folder: Where it lives.
        header: Line 1.
        trials: Trial id -> trial, as recorded.
        finals: (split, trial id) -> evaluation on a split that did not steer.
        order: When the optimizer was asked and told, as far as it does not follow from the rest.
        ended: Why the search proposes no more; empty while it does.
        extensions: The larger limits that it was given, in order.
        earlier_finals: The ``finals`` of a search that has gone on since, to be taken up again.
        known: (split, recipe digest) -> what another run found, for a run that was forked.
        lock: Held while this process writes the folder.
        file: Held open for the same time.
        repairs: What was mended when it was opened.
    """

    folder: RunFolder
    header: Mapping[str, Any]
    trials: dict[int, Trial] = field(default_factory=dict)
    finals: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    order: list[Turn] = field(default_factory=list)
    ended: str = ""
    extensions: list[Extension] = field(default_factory=list)
    earlier_finals: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    known: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    lock: RunLock | None = None
    file: LedgerFile | None = None
    repairs: list[str] = field(default_factory=list)

    @classmethod
    def create(
        cls,
        folder: RunFolder,
        header: Mapping[str, Any],
        genome: str,
        known: Sequence[KnownOutcome] = (),
        mirrors: Sequence[str] = (),
        carry: Callable[[], None] = lambda: None,
    ) -> Ledger:
        """Starts a run folder.

        Args:
            folder: Where it will live.
            header: Line 1.
            genome: The text of its genome.yml.
            known: Outcomes found by another run and still valid.
            mirrors: Names of the files that trackers will write.
            carry: Brings what else the run is to have from its first moment: while there is no
                ledger, a kill leaves the same command to begin again.

        Raises:
            LedgerError: another process writes it, or it holds files that a run writes and no
                run.
            LostFileError: the folder cannot be written.
        """
        with writing(folder.path):
            (folder.path / "documents").mkdir(parents=True, exist_ok=True)
        folder.refuse_special()
        folder.refuse_files_of_others(genome, mirrors)
        first = {"kind": "header", **header}
        try:
            header_in(json.loads(canonical_json(first)))  # as it will be read back
        except ValueError as error:
            raise LedgerError(
                f"a run cannot begin ({error})", where=str(folder.path), fix="Rename what holds it."
            ) from error
        ledger = cls(folder, header, lock=RunLock(folder.path))
        try:
            ledger._begin([first, *map(known_line, known)], genome, known, carry)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _begin(
        self,
        events: Sequence[Mapping[str, Any]],
        genome: str,
        known: Sequence[KnownOutcome],
        carry: Callable[[], None],
    ) -> None:
        """Writes the first files of a run."""
        if is_there(self.folder.ledger):
            raise LedgerError(
                "another process has just begun a run here",
                where=str(self.folder.path),
                fix="Give the same command again to continue it.",
            )
        write_atomic(self.folder.genome, genome)
        for entry in known:
            write_documents(self.folder.known(entry.digest, entry.split), entry.outcome)
            self.known[entry.split, entry.digest] = entry.outcome
        carry()
        # Whole or not at all: a run killed right here is started again by the same command.
        lines = "".join(canonical_json(event) + "\n" for event in events)
        write_atomic(self.folder.ledger, lines)
        self.file = LedgerFile(self.folder)

    def close(self) -> None:
        """Lets other processes write the folder."""
        if self.file is not None:
            self.file.close()
            self.file = None
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    @classmethod
    def open(cls, folder: RunFolder, *, read_only: bool = False, salvage: bool = False) -> Ledger:
        """Reads a run folder; a torn last line is cut off.

        Args:
            folder: Where it lives.
            read_only: Only skip a torn last line: a run may be writing it right now.
            salvage: Skip broken lines too, for a fork of a run that cannot be continued.

        Raises:
            NoRunError: there is no ledger.
            LedgerError: another process writes it, a line that is not the last is broken, or
                something in the folder is neither a file nor a folder.
        """
        if not is_there(folder.ledger):
            raise no_run(folder.path)
        folder.refuse_special()
        if read_only:
            return cls._replayed(folder, salvage)
        lock = RunLock(folder.path)
        try:
            for place in folder.written:
                remove_unfinished(place)
            repairs = cut_torn_tail(folder.ledger)
            ledger = cls._replayed(folder, salvage)
            ledger.file = LedgerFile(folder)
        except BaseException:
            lock.release()
            raise
        ledger.lock = lock
        ledger.repairs += repairs
        return ledger

    @classmethod
    def _replayed(cls, folder: RunFolder, salvage: bool) -> Ledger:
        """The history, line by line."""
        numbered = events_of(folder.ledger, salvage)
        number, line = next(numbered, (0, {}))
        try:
            header, reason = (header_in(line), "") if number == 1 else ({}, "it is missing")
        except ValueError as error:
            header, reason = {}, str(error)
        if reason:
            raise LedgerError(
                f"line 1 is not a header ({reason})",
                where=str(folder.ledger),
                fix="Restore the file from a copy, or start anew with another --run-dir.",
            )
        ledger, old = cls(folder, header), OldOrigins(header)
        for number, event in numbered:
            try:
                ledger._read(event_in(old.read(event)))
            except ValueError as error:
                if not salvage:
                    raise LedgerError(
                        f"line {number} is not an event of a ledger ({error})",
                        where=str(folder.ledger),
                        fix=BROKEN_FIX,
                    ) from error
        return ledger

    def record_trial(self, trial: Trial) -> None:
        """Adds a finished trial, its documents first; these stay in their file alone."""
        documents = self.folder.documents(trial.candidate.trial_id, "tasks")
        self._write({"kind": "trial", **trial_line(trial)}, documents, trial.outcome)
        slim = replace(trial, outcome=trial.outcome.without_documents())
        self.trials[trial.candidate.trial_id] = slim

    def record_final(self, trial_id: int, split: str, outcome: Outcome) -> None:
        """Adds a finalist's result on a split."""
        outcome = outcome.without_tokens()  # nothing learns from these documents
        line = {"kind": "final", "id": trial_id, "split": split, **outcome_line(outcome)}
        self._write(line, self.folder.documents(trial_id, split), outcome)
        self.finals[(split, trial_id)] = outcome.without_documents()

    @property
    def told(self) -> list[tuple[int, ...]]:
        """Ids of the trials of each ``tell``, in order."""
        return [turn.trial_ids for turn in self.order if turn.kind == "told"]

    def record_turn(self, turn: Turn) -> None:
        """Notes that the optimizer is asked for these trials, or heard them, in this order."""
        self._write({"kind": turn.kind, "ids": list(turn.trial_ids)})
        self.order.append(turn)

    def record_end(self, reason: str) -> None:
        """Notes why the search proposes no more."""
        self._write({"kind": "ended", "reason": reason})
        self.ended = reason

    @property
    def genome_digest(self) -> str:
        """Of the genome that it goes on with."""
        first: str = self.header["genome_digest"]
        return self.extensions[-1].genome_digest if self.extensions else first

    def record_extension(self, extension: Extension, genome: str) -> None:
        """Notes that the search goes on with larger limits, and writes the genome that has them."""
        self._write(extension.line)
        self._extend(extension)
        self.keep_genome(genome)

    def keep_genome(self, genome: str) -> None:
        """Writes the folder's genome.yml anew."""
        write_atomic(self.folder.genome, genome)
        if self.file is not None:
            self.file.genome = genome.encode()

    def _extend(self, extension: Extension) -> None:
        self.extensions.append(replace(extension, knew_finals=bool(self.finals)))
        self.ended = "" if extension.has_more_time else self.ended
        self.earlier_finals.update(self.finals)
        self.finals.clear()

    def final_again(self, split: str, trial_id: int) -> Outcome | None:
        """Takes up what a finalist did before the search went on; None where it was none."""
        key = (split, trial_id)
        outcome = self.earlier_finals.get(key)
        if outcome is not None and key not in self.finals:  # its documents are there already
            self._write({"kind": "final", "id": trial_id, "split": split, **outcome_line(outcome)})
            self.finals[key] = outcome
        return outcome

    def recorded_outcome(self, candidate: Candidate) -> Outcome | None:
        """What came of a candidate; None where it was not tried yet.

        Raises:
            LedgerError: its trial was of another recipe.
        """
        trial = self.trials.get(candidate.trial_id)
        if trial is None:
            return None
        if trial.candidate.recipe.digest != candidate.recipe.digest:
            raise LedgerError(
                f"trial {candidate.trial_id} is another one than the optimizer proposes now",
                where=str(self.folder.ledger),
                fix="Resume with the genome and the versions of the ledger's first line, or "
                "start a new run folder.",
            )
        return trial.outcome

    def documents(self, trial_id: int, split: str = "tasks") -> tuple[Document, ...]:
        """Per-document results of a trial, empty where it failed."""
        return read_documents(self.folder.documents(trial_id, split))

    def whole_outcome(self, trial_id: int) -> Outcome:
        """What came of a trial, its documents included."""
        outcome = self.trials[trial_id].outcome
        if outcome.evaluation is None:
            return outcome
        documents = self.documents(trial_id)
        return replace(outcome, evaluation=replace(outcome.evaluation, documents=documents))

    def final_outcomes(self, split: str) -> dict[int, Outcome]:
        """Trial id -> outcome on a split that did not steer."""
        return {trial_id: outcome for (of, trial_id), outcome in self.finals.items() if of == split}

    def known_outcome(self, split: str, digest: str) -> Outcome | None:
        """What another run found for a recipe, documents included; None where it found nothing."""
        outcome = self.known.get((split, digest))
        if outcome is None or outcome.evaluation is None:
            return outcome
        documents = read_documents(self.folder.known(digest, split))
        return replace(outcome, evaluation=replace(outcome.evaluation, documents=documents))

    def _write(
        self,
        event: Mapping[str, Any],
        documents: Path | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        if self.file is None:
            raise RuntimeError("a ledger that was opened to be read, or is closed, was written")
        self.file.write(canonical_json(event), documents.name if documents else "", outcome)

    def _read(self, event: Mapping[str, Any]) -> None:
        kind = event["kind"]
        if kind == "trial":
            if event["id"] in self.trials:
                raise ValueError(f"trial {event['id']} stands twice")
            self.trials[event["id"]] = trial_of(event)
        elif kind == "final":
            self._refuse_unknown(event["id"])
            self.finals[(event["split"], event["id"])] = outcome_of(event)
        elif kind in ("asked", "told"):
            if kind == "told":
                self._refuse_unknown(*event["ids"])
            self.order.append(Turn(kind, tuple(event["ids"])))
        elif kind == "ended":
            self.ended = event["reason"]
        elif kind == "extended":
            self._extend(Extension(event["genome_digest"], event["was"], event["now"]))
        elif kind == "known":
            self.known[event["split"], event["digest"]] = outcome_of(event)

    def _refuse_unknown(self, *trial_ids: int) -> None:
        for trial_id in trial_ids:
            if trial_id not in self.trials:
                raise ValueError(f"no trial {trial_id} stands above it")
