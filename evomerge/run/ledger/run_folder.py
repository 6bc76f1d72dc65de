"""The names of the files in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from evomerge.evaluators import KEEPS
from evomerge.foundations.errors import LedgerError, OccupiedError
from evomerge.foundations.reading import (
    is_file,
    is_folder,
    is_there,
    kind_of,
    listed,
    read_bytes,
    real_path,
)


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder."""

    path: Path

    @property
    def genome(self) -> Path:
        """Exact copy of the genome that the run has, overrides included."""
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

    @property
    def written(self) -> tuple[Path, ...]:
        """The folders that hold files of a run."""
        kept = (self.optimizer, *self.paid)
        inside = (Path(folder) for place in kept for folder, *_ in os.walk(place))
        return tuple(
            dict.fromkeys((self.path, self.path / "documents", self.front, *kept, *inside))
        )

    @property
    def optimizer(self) -> Path:
        """What the optimizer keeps: replies of a language model, states of a training."""
        return self.path / "optimizer"

    @property
    def paid(self) -> tuple[Path, ...]:
        """Where kinds of tasks keep what was paid for."""
        return tuple(self.path / name for name in KEEPS.values())

    def refuse_special(self) -> None:
        """Looks for what is neither file nor folder: a link leads elsewhere, a FIFO never ends.

        Raises:
            LedgerError: there is such a thing.
            UnreadableError: a folder of the run cannot be read.
        """
        for entry in (e for place in self.written if is_folder(place) for e in listed(place)):
            if os.path.islink(entry):
                raise LedgerError(
                    "is a symbolic link; the files of a run are written where its folder is",
                    where=str(entry),
                    fix="Remove it, or copy what it names to its place.",
                )
            if kind_of(entry) not in ("", "a folder"):
                raise LedgerError(
                    f"is {kind_of(entry)}; a run holds files only",
                    where=str(entry),
                    fix="Remove it.",
                )

    def holds(self, folder: Path) -> bool:
        """Whether a folder is one in which this run keeps its files."""
        kept = (self.path / "documents", self.front, self.optimizer, *self.paid)
        return folder in kept and is_there(self.ledger)

    def documents(self, trial_id: int, split: str) -> Path:
        """Per-document results of one trial on one split."""
        return self.path / "documents" / f"trial-{trial_id:05d}-{split}.jsonl.gz"

    def known(self, digest: str, split: str) -> Path:
        """Per-document results that another run found for a recipe."""
        return self.path / "documents" / f"known-{digest}-{split}.jsonl.gz"

    def refuse_files_of_others(self, genome: str, mirrors: Iterable[str] = ()) -> None:
        """Where there is no ledger: refuses what a run that begins here would write over.

        A genome.yml of the same text may be of a run that was killed as it began.

        Args:
            genome: The text of its genome.yml.
            mirrors: Names of files that its trackers write beside the usual ones.

        Raises:
            LedgerError: it holds files that a run writes and no run.
        """
        if is_there(self.ledger):
            return
        usual = (self.best, self.report, self.journal, self.log)
        taken = [*usual, *(self.path / name for name in mirrors)]
        if not is_file(self.genome) or read_bytes(self.genome) != genome.encode():
            taken.append(self.genome)
        for place in (self.optimizer, self.front, self.path / "documents"):
            # A fork that was killed as it began leaves what it took over.
            inside = listed(place) if is_folder(place) else []
            taken += [path for path in inside if path.name[:6] != "known-"]
        found = next(filter(is_there, taken), None)
        if found is not None:
            raise LedgerError(
                f"holds {found.relative_to(self.path)} and no run; a run that begins there would "
                "write over it, or take it for its own",
                where=str(self.path),
                fix="Choose another folder with --run-dir, or move it away.",
            )


def refuse_of_run(path: Path) -> None:
    """Does nothing where a file is none that a run wrote and reads again.

    Args:
        path: What a user lets a command write, whatever is there now.

    Raises:
        OccupiedError: it is the ledger of a run, its genome or its winner, or lies in one of the
            folders of a run.
    """
    real = real_path(path)
    beside = RunFolder(real.parent)
    is_own = real in (beside.ledger, beside.genome, beside.best)
    inside = any(RunFolder(above.parent).holds(above) for above in real.parents)
    if inside or (is_own and is_there(beside.ledger)):
        raise OccupiedError(
            "belongs to a run, which would be lost", where=str(path), fix="Choose another name."
        )
