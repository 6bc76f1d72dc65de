"""A winner built and scored again by mergekit and lm-eval alone, compared with its ledger."""

from evomerge.verify.differences import Difference
from evomerge.verify.rebuild import Verdict, Verification, prepare

__all__ = ["Difference", "Verdict", "Verification", "prepare"]
