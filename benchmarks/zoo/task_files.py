"""Skills as lm-eval tasks: a folder of YAML and jsonl files that no working directory moves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from skills import SPLIT_SIZES, Draw, documents

SPLITS = {"search": "tasks", "validation": "validation", "holdout": "holdout"}  # -> genome's key
MAX_NEW_TOKENS = 8  # the longest answer of the tiny models has six, and the sign of its end
_CHOOSING = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def task_name(family: str, skill: str, split: str) -> str:
    """How lm-eval calls a task."""
    return f"zoo_{family}_{skill}_{split}"


def write_tasks(
    folder: Path,
    family: str,
    draws: Mapping[str, Draw],
    seed: str,
    sizes: Mapping[str, int] = SPLIT_SIZES,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> None:
    """Writes the three splits of each skill.

    Args:
        folder: The tasks' own; made.
        family: Part of the tasks' names.
        draws: Skill -> its questions.
        seed: Of the documents.
        sizes: Split -> documents of each skill.
        max_new_tokens: Of a written answer.
    """
    for skill, draw in draws.items():
        for split, n in sizes.items():
            found = documents(draw, split, f"{seed}/{skill}", n)
            settings = _CHOOSING if found[0].choices else _writing(max_new_tokens)
            lines = [row.document() for row in found]
            _write_task(folder, task_name(family, skill, split), settings, lines)


def _writing(max_new_tokens: int) -> dict[str, Any]:
    remove_whitespace, first = ({"function": name} for name in ("remove_whitespace", "take_first"))
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    return {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": max_new_tokens},
        "filter_list": [{"name": "none", "filter": [remove_whitespace, first]}],
        "metric_list": [metric],
    }


def _write_task(
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
