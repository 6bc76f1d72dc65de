"""lm-eval itself as an outside program: what it finds by the server is what is found here."""

from __future__ import annotations

import sys

import pytest

from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

HARNESS = """
import json, os, sys
import lm_eval
from lm_eval.tasks import TaskManager

folder, task, metric, filter = sys.argv[1:]
found = lm_eval.simple_evaluate(
    model="local-completions",
    model_args={
        "model": "candidate",
        "base_url": os.environ["OPENAI_BASE_URL"] + "/completions",
        "tokenizer": os.environ["EVOMERGE_MODEL"],
        "num_concurrent": 4,
        "max_length": 64,
    },
    tasks=[task],
    task_manager=TaskManager(include_path=folder),
)
rows = [row for row in found["samples"][task] if row["filter"] == filter]
rows.sort(key=lambda row: row["doc_id"])
print(json.dumps([row[metric] for row in rows]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [("tiny_choice", "acc", "none"), ("tiny_text", "exact_match", "first-letter")]
)
def test_lm_eval_finds_the_same_by_the_server(
    live_model, task_folder, tmp_path, monkeypatch, asked
):
    pytest.importorskip("tenacity", reason="lm-eval asks servers with it: lm-eval[api]")
    task, metric, of = asked
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harness.py").write_text(HARNESS)
    command = [sys.executable, "harness.py", str(task_folder), *asked]
    ours, theirs = (
        evaluator_for(
            [Task.model_validate(given)],
            EvaluationBlock(),
            ENGINES["transformers"],
            search_path=[str(task_folder)],
            permissions=Permissions(code=True),
        )
        for given in (
            {"name": task, "metric": f"{metric},{of}"},
            {"command": {"run": command, "model": "folder"}},
        )
    )
    ours.prepare(), theirs.prepare()
    expected, found = ours.evaluate(live_model), theirs.evaluate(live_model)
    values = [one.values[f"{metric},{of}"] for one in expected.documents]
    assert [one.values["score,none"] for one in found.documents] == values
    assert len(set(values)) > 1
