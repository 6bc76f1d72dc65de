"""Tasks of every kind for the contract of evaluators, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.evaluators import formula, tiny_tasks


@dataclass(frozen=True)
class Case:
    """Tasks of a kind.

    Attributes:
        tasks: As a genome has them; file names in the folder of :func:`write_files`.
        upwards: Whether higher is better, of each.
        n_documents: Of each.
        wrong: A task that is refused -> where and how.
    """

    tasks: tuple[Any, ...]
    upwards: tuple[bool, ...]
    n_documents: int
    wrong: Mapping[str, tuple[Any, str]] = field(default_factory=dict)


CASES = {
    "name": Case(
        (
            "tiny_choice",
            {"name": "tiny_text", "metric": "exact_match,whole"},
            {"name": "tiny_likelihood", "metric": "perplexity"},
        ),
        (True, True, False),
        tiny_tasks.N_DOCUMENTS,
        {
            "metric": (
                {"name": "tiny_choice", "metric": "acc_nrom"},
                r"tasks\[0\].metric: .*did you mean 'acc_norm",
            ),
        },
    ),
    "formula": Case(
        ({"formula": "wave"}, {"formula": {"name": "low", "curve": "bowl"}, "weight": 2}),
        (True, False),
        formula.N_DOCUMENTS,
    ),
}


def write_files(folder: Path) -> Path:
    """What the tasks read."""
    return tiny_tasks.write_tasks(folder)
