"""A search steered by tasks of two kinds, from genome to built and verified model."""

from __future__ import annotations

import json

import pytest
import yaml

from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import WORDS
from tests.tiny_models import tiny_reward_model

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
    with (workplace / "out" / "ledger.jsonl").open() as ledger:
        header = json.loads(ledger.readline())
    assert set(header["tasks"]["tasks"]) == {"tiny_search", "text", "tiny_validation"}
    evomerge("export", "out", "-o", "recipe.yml")
    done = evomerge("verify", "out")
    assert done.stdout.endswith("all 52 documents of 2 splits answer as recorded\n")
    assert "lm-eval with transformers scores search tasks" in done.stderr


def test_questions_and_a_reward_model_run_and_verify_beside_a_task_by_name(workplace, evomerge):
    write_questions(workplace / "q.json")
    tiny_reward_model(workplace / "reward")
    rewarded = {"file": "q.json", "model": "reward", "max_tokens": 6, "reward_range": [-1, 1]}
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    genome["tasks"] = [
        {"choice": "q.json", "weight": 0.5},
        {"name": "tiny_search", "limit": 12},
        {"abstain": {"file": "q.json", "name": "doubts", "match": "loose"}},
        {"exact": {"file": "q.json", "name": "words", "max_tokens": 6, "language": "en"}},
        {"reward": {**rewarded, "name": "liked", "shape": "concise"}},
    ]
    genome["validation"] = []
    genome["holdout"] = [{"choice": {"file": "q.json", "split": "test", "name": "exam"}}]
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome))
    checked = evomerge("check", "genome.yml")
    assert "reward model reward" in checked.stdout + checked.stderr  # its memory
    evomerge("run", "genome.yml", "--run-dir", "out")
    run = load_run(workplace / "out")
    assert {trial.outcome.state.value for trial in run.leaderboard.trials} == {"complete"}
    winner = run.winners[0].candidate.trial_id
    told = json.loads(evomerge("show", "out", "--answers", str(winner), "--json").stdout)
    liked = [one for one in told["documents"] if one["task"] == "liked"]
    assert set(liked[0]["values"]) == {"score,none", "reward,none", "tokens,none"}
    assert len(told["documents"]) == 12 + 5 * 4
    assert all(isinstance(one["answer"], (str, int)) for one in told["documents"])
    done = evomerge("verify", "out")
    assert done.stdout.endswith("answer as recorded\n")


def write_questions(file):
    """Four questions for the search and four others, with options, to be asked in three ways."""
    lists = {"dev": WORDS[:4], "test": WORDS[4:8]}
    rows = {
        split: [
            {
                "question": f"after {word}?",
                "prompt": f"say {word} and",
                "choices": {"A": word, "B": WORDS[i]},
                "answer": "AB"[i % 2],
            }
            for i, word in enumerate(words)
        ]
        for split, words in lists.items()
    }
    file.write_text(json.dumps({"dataset": "words", **rows}))
