"""The run folder and its ledger: what a run found, on disk before it goes on."""

from evomerge.ledger.folder import RunFolder
from evomerge.ledger.history import Ledger
from evomerge.ledger.lines import KnownOutcome

__all__ = ["KnownOutcome", "Ledger", "RunFolder"]
