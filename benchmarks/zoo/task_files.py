"""Skills as lm-eval tasks: a folder of YAML and jsonl files that no working directory moves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from skills import SPLIT_SIZES, documents, is_choice

SPLITS = {"search": "tasks", "validation": "validation", "holdout": "holdout"}  # -> genome's key
_MAX_NEW_TOKENS = 8  # the longest answer has five, and the sign of its end
_CHOOSING = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
_WRITING = {
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": _MAX_NEW_TOKENS},
    "filter_list": [
        {"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def task_name(family: str, skill: str, split: str) -> str:
    """How lm-eval calls a task."""
    return f"zoo_{family}_{skill}_{split}"


def write_tasks(folder: Path, family: str, skills: Sequence[str], seed: str) -> None:
    """Writes the three splits of each skill.

    Args:
        folder: The tasks' own; made.
        family: Part of the tasks' names.
        skills: Which.
        seed: Of the documents.
    """
    for skill in skills:
        settings = _CHOOSING if is_choice(skill) else _WRITING
        for split in SPLIT_SIZES:
            lines = [row.document() for row in documents(skill, split, seed)]
            write_task(folder, task_name(family, skill, split), settings, lines)


def write_task(
    folder: Path, name: str, settings: dict[str, Any], lines: Sequence[dict[str, object]]
) -> None:
    """Writes one task: its YAML, and its documents beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        **settings,
        "metadata": {"version": 1.0},
    }
    text = yaml.safe_dump(task, sort_keys=False)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
