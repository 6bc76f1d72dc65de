"""Tasks of every kind for the contract of evaluators, and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.evaluators import asking_double, formula, tiny_tasks
from tests.judge.judge_files import judge_task, write_judge_files
from tests.tiny_models import tiny_model, tiny_reward_model

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


REWARD = {"file": "prompts.json", "model": "reward_model", "max_tokens": 4, "dtype": "float32"}
_JUDGED = judge_task(Path())

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
    "command": Case(
        ({"command": {"run": ["sh", "count.sh"], "documents": "rows.jsonl", "low": 0}},),
        (True,),
        N_TEXTS,
        {
            "run": (
                {"command": ["sh-no-such"]},
                r"tasks\[0\].command: there is no program 'sh-no-such'",
            ),
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
    "choice": Case(
        (
            {"choice": {"file": "options.json", "name": "dev"}},
            {
                "choice": {
                    "file": "options.json",
                    "name": "loose",
                    "split": "test",
                    "match": "loose",
                }
            },
        ),
        (True, True),
        N_TEXTS,
        {
            "split": (
                {"choice": {"file": "options.json", "split": "tset"}},
                r"choice.split: .* no list 'tset'; did you mean 'test'",
            ),
        },
    ),
    "exact": Case(
        ({"exact": {"file": "answers.json", "max_tokens": 4}},),
        (True,),
        N_TEXTS,
        {"file": ({"exact": "rows.jsonl"}, r"line 1 of 'rows.jsonl' has no text under 'question'")},
    ),
    "format": Case(
        (
            {"format": {"file": "prompts.json", "pattern": "[a-z ]*", "max_tokens": 4}},
            {"format": {"file": "prompts.json", "name": "json", "max_tokens": 4}},
        ),
        (True, True),
        N_TEXTS,
        {
            "pattern": (
                {"format": {"file": "prompts.json", "pattern": "("}},
                r"tasks\[0\].format: .*'\(' is no regular expression",
            ),
        },
    ),
    "abstain": Case(
        (
            {"abstain": "options.json"},
            {"abstain": {"file": "options.json", "name": "doubts"}, "metric": "abstained"},
        ),
        (True, False),
        N_TEXTS,
        {"file": ({"abstain": "texts.txt"}, r"tasks\[0\].abstain: 'texts.txt' is no JSON")},
    ),
    "reward": Case(
        (
            {"reward": {**REWARD, "name": "raw"}},
            {"reward": {**REWARD, "shape": "concise", "reward_range": [-1, 1]}, "metric": "tokens"},
        ),
        (True, False),
        N_TEXTS,
        {
            "metric": (
                {"reward": REWARD, "metric": "rewards"},
                r"tasks\[0\].metric: .*did you mean 'reward'\? \(it has: reward, tokens\)",
            ),
        },
    ),
    "judge": Case(
        (_JUDGED, {"judge": {**_JUDGED["judge"], "name": "thrice", "repeats": 3}}),
        (True, True),
        N_TEXTS,
        {
            "metric": ({**_JUDGED, "metric": "ratings"}, r"tasks\[0\].metric: .*mean 'rating'"),
            "file": (
                {"judge": {**_JUDGED["judge"], "questions": "none.jsonl"}},
                r"tasks\[0\].judge.questions: no file 'none.jsonl'",
            ),
        },
    ),
    "divergence": Case(
        (
            {"divergence": {"teachers": {"teacher": "rows.jsonl"}, "name": "one"}},
            {
                "divergence": {"teachers": {"teacher": "rows.jsonl"}, "max_tokens": 5, "top_k": 9},
                "metric": "divergence",
            },
        ),
        (False, False),
        N_TEXTS,
        {
            "file": (
                {"divergence": {"teachers": {"teacher": "row.jsonl"}}},
                r"tasks\[0\].divergence.teachers.teacher: no file 'row.jsonl'",
            ),
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
    questions = [{"question_id": i, "category": "math", "turns": texts[:2]} for i in range(N_TEXTS)]
    write_judge_files(folder, questions)
    rows = "".join(json.dumps({"text": text[:99]}) + "\n" for text in texts)
    (folder / "rows.jsonl").write_text(rows)
    prompts = [{"prompt": f"{word} and"} for word in tiny_tasks.WORDS[:N_TEXTS]]
    (folder / "prompts.json").write_text(json.dumps({"dev": prompts}))
    tiny_reward_model(folder / "reward_model")
    tiny_model(folder / "teacher")
    (folder / "letters.py").write_text(LETTERS)
    # As many letters as each line has, of a file with a document in each.
    script = (
        """awk 'BEGIN {printf "["} {printf "%s%d", sep, length($0); sep=","} END {print "]"}' """
    )
    (folder / "count.sh").write_text(script + '"$EVOMERGE_DOCUMENTS"\n')
    for name in ("options.json", "answers.json"):
        (folder / name).write_text(json.dumps({"dataset": "words", **_questions(name)}))
    return tiny_tasks.write_tasks(folder)


def _questions(name: str) -> dict[str, list[dict[str, Any]]]:
    """Lists of questions, with options or without."""
    found: dict[str, list[dict[str, Any]]] = {"dev": [], "test": []}
    for split, rows in found.items():
        for i in range(N_TEXTS):
            word, other = tiny_tasks.WORDS[i : i + 2]
            row: dict[str, Any] = {"question": f"{split} {word}", "answer": other, "id": i}
            if name == "options.json":
                row |= {"choices": {"A": word, "B": other}, "answer": "AB"[i % 2]}
            rows.append(row)
    return found
