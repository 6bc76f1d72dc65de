"""Tasks of every kind for the contract of evaluators, and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.evaluators import asking_double, formula, tiny_tasks

N_TEXTS = 5


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
    "perplexity": Case(
        (
            {"perplexity": "texts.txt"},
            {"perplexity": {"name": "rows", "file": "rows.jsonl"}, "metric": "word_perplexity"},
        ),
        (False, False),
        N_TEXTS,
        {
            "metric": (
                {"perplexity": "texts.txt", "metric": "word_perplexty"},
                r"tasks\[0\].metric: .*did you mean 'word_perplexity'",
            ),
            "file": ({"perplexity": "test.txt"}, r"tasks\[0\].perplexity: no file 'test.txt'"),
        },
    ),
    "python": Case(
        (
            {"python": {"run": "letters:count", "documents": "rows.jsonl"}},
            {
                "python": {
                    "name": "few",
                    "run": "letters:count",
                    "documents": "rows.jsonl",
                    "higher_is_better": False,
                    "low": 0,
                }
            },
        ),
        (True, False),
        N_TEXTS,
        {
            "metric": ({"python": "letters:count", "metric": "scroe"}, "did you mean 'score'"),
            "run": ({"python": "letters:cuont"}, r"tasks\[0\].python: .*did you mean 'count'"),
        },
    ),
    "echo": Case(
        ({"echo": {"name": "loud"}}, {"echo": {"name": "odd"}, "metric": "surprise"}),
        (True, False),
        len(asking_double.PROMPTS),
        {"metric": ({"echo": "all", "metric": "leters"}, r"metric: .*did you mean 'letters'")},
    ),
    "formula": Case(
        ({"formula": "wave"}, {"formula": {"name": "low", "curve": "bowl"}, "weight": 2}),
        (True, False),
        formula.N_DOCUMENTS,
    ),
}


LETTERS = """
def count(model, documents):
    texts = model.generate([one["text"] for one in documents], max_tokens=4)
    return list(map(len, texts))
"""


def write_files(folder: Path) -> Path:
    """What the tasks read."""
    texts = [" ".join(tiny_tasks.WORDS[i : i + 2] * 300) for i in range(N_TEXTS)]
    (folder / "texts.txt").write_text("\n\n".join(texts))
    rows = "".join(json.dumps({"text": text[:99]}) + "\n" for text in texts)
    (folder / "rows.jsonl").write_text(rows)
    (folder / "letters.py").write_text(LETTERS)
    return tiny_tasks.write_tasks(folder)
