"""Scores a live model on lm-eval tasks; the only package that imports lm-eval."""

from evomerge.evaluators.lm_eval.evaluator import LmEval

__all__ = ["LmEval"]
