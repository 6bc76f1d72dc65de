"""A search steered by tasks of two kinds, from genome to built and verified model."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.end_to_end.conftest import WORDS

pytestmark = pytest.mark.slow

TASKS = "tasks: [{name: tiny_search}, {perplexity: text.txt, weight: 0.1}, tiny_validation]"


def test_two_tasks_by_name_and_a_perplexity_run_export_and_verify(workplace, evomerge):
    rows = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(8)]
    (workplace / "text.txt").write_text("\n\n".join(rows[:4]))
    (workplace / "rows.jsonl").write_text("".join(json.dumps({"text": r}) + "\n" for r in rows[4:]))
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    del genome["validation"]
    genome["tasks"] = yaml.safe_load(TASKS)["tasks"]
    genome["tasks"][1]["perplexity"] = {"file": "text.txt", "name": "text", "chunk_bytes": 100}
    genome["holdout"].append({"perplexity": "rows.jsonl"})
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    checked = evomerge("check", "genome.yml")
    assert "lower bits_per_byte,none is better" in checked.stdout + checked.stderr
    evomerge("run", "genome.yml", "--run-dir", "out")
    lines = [
        json.loads(line) for line in (workplace / "out" / "ledger.jsonl").read_text().splitlines()
    ]
    assert list(lines[0]["tasks"]["tasks"]) == ["tiny_search", "text", "tiny_validation"]
    evomerge("export", "out", "-o", "recipe.yml")
    done = evomerge("verify", "out")
    assert done.stdout.endswith("all 52 documents of 2 splits answer as recorded\n")
    assert "lm-eval with transformers scores search tasks" in done.stderr
