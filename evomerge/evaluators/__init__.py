"""Who judges: the table of evaluators, by the key of a task. One file or folder, one line each."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from evomerge.evaluators.kind_of_task import KindOfTask
from evomerge.foundations.registry import Registry


class _Line(NamedTuple):
    """A kind of task.

    Attributes:
        target: Where it is.
        keeps: The folder of a run in which it keeps what was paid for; empty where it pays nothing.
        section: What it tells in a report, from a RunRecord to a Section; empty for nothing.
    """

    target: str
    keeps: str = ""
    section: str = ""


_TABLE = {
    "name": _Line("evomerge.evaluators.lm_eval:LmEval"),
    "abstain": _Line("evomerge.evaluators.abstain:Abstaining"),
    "choice": _Line("evomerge.evaluators.choice:ChoiceQuestions"),
    "divergence": _Line("evomerge.evaluators.divergence:Divergence", keeps="teachers"),
    "exact": _Line("evomerge.evaluators.exact:ExactAnswers"),
    "format": _Line("evomerge.evaluators.well_formed:WellFormed"),
    "judge": _Line(
        "evomerge.evaluators.judge.judge_task:Judge",
        keeps="judgments",
        section="evomerge.evaluators.judge.judgments_section:judgments_section",
    ),
    "perplexity": _Line("evomerge.evaluators.perplexity:Perplexity"),
    "command": _Line("evomerge.evaluators.command:CommandTask"),
    "python": _Line("evomerge.evaluators.python_function:PythonFunction"),
    "reward": _Line("evomerge.evaluators.reward:Rewarded"),
}
EVALUATORS: Registry[type[KindOfTask]] = Registry(
    "evaluator", {kind: line.target for kind, line in _TABLE.items()}
)
# A run folder looks after these.
KEEPS: Mapping[str, str] = {kind: line.keeps for kind, line in _TABLE.items() if line.keeps}
# In the order of a report. The types' modules stand on whoever reads this table.
SECTIONS: Registry[Callable[..., Any]] = Registry(
    "section", {kind: line.section for kind, line in _TABLE.items() if line.section}
)
