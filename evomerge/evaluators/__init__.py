"""Who judges: the table of evaluators. One file (or folder) each, one line here."""

from evomerge.evaluators.base import Evaluator
from evomerge.foundations.registry import Registry

EVALUATORS: Registry[type[Evaluator]] = Registry(
    "evaluator",
    {
        "lm_eval": "evomerge.evaluators.lm_eval:LmEval",
    },
)
