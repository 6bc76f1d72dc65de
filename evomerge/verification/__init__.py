"""A winner built and scored again by mergekit and lm-eval alone, compared with its ledger."""

from evomerge.verification.comparison import Difference
from evomerge.verification.verify import Verdict, Verification, prepare

__all__ = ["Difference", "Verdict", "Verification", "prepare"]
