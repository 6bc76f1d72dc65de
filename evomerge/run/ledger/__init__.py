"""The run folder and its ledger: what a run found, on disk before it goes on."""

from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import KnownOutcome
from evomerge.run.ledger.run_folder import RunFolder

__all__ = ["KnownOutcome", "Ledger", "RunFolder"]
