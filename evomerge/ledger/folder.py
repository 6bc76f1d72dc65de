"""The names of the files in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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

    def known(self, digest: str, split: str) -> Path:
        """Per-document results that another run found for a recipe."""
        return self.path / "documents" / f"known-{digest}-{split}.jsonl.gz"
