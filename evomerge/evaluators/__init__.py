"""Who judges: the table of evaluators, by the key of a task. One file or folder, one line each."""

from evomerge.evaluators.base import Evaluator
from evomerge.foundations.registry import Registry

EVALUATORS: Registry[type[Evaluator]] = Registry(
    "evaluator",
    {
        "name": "evomerge.evaluators.lm_eval:LmEval",
    },
)
