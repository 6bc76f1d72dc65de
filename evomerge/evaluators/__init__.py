"""Who judges: the table of evaluators, by the key of a task. One file or folder, one line each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evomerge.evaluators.kind_of_task import KindOfTask
from evomerge.foundations.registry import Registry

EVALUATORS: Registry[type[KindOfTask]] = Registry(
    "evaluator",
    {
        "name": "evomerge.evaluators.lm_eval:LmEval",
        "abstain": "evomerge.evaluators.abstain:Abstaining",
        "choice": "evomerge.evaluators.choice:ChoiceQuestions",
        "divergence": "evomerge.evaluators.divergence:Divergence",
        "exact": "evomerge.evaluators.exact:ExactAnswers",
        "format": "evomerge.evaluators.well_formed:WellFormed",
        "judge": "evomerge.evaluators.judge.judge_task:Judge",
        "perplexity": "evomerge.evaluators.perplexity:Perplexity",
        "command": "evomerge.evaluators.command:CommandTask",
        "python": "evomerge.evaluators.python_function:PythonFunction",
        "reward": "evomerge.evaluators.reward:Rewarded",
    },
)

# Which kinds have something to tell in a report, in its order: from a RunRecord to a Section, on
# whose modules whoever reads this table would stand.
SECTIONS: Registry[Callable[..., Any]] = Registry(
    "section", {"judge": "evomerge.evaluators.judge.judgments_section:judgments_section"}
)

# Kind -> the folder of a run in which it keeps what was paid for; a run folder looks after it.
KEEPS: Mapping[str, str] = {"judge": "judgments", "divergence": "teachers"}
# Of these what a fork takes over: from that folder of the one run to that of the other.
CARRIED: Registry[Callable[[Path, Path], None]] = Registry(
    "kept folder", {"judge": "evomerge.evaluators.judge.kept_judgments:copy_judgments"}
)
