"""Every family of files that Model Swarms publishes is read as it is, by the kind it is for."""

from __future__ import annotations

import json

import pytest

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.asking.asking_task import AskingTask, asking_task
from evomerge.genome.task_blocks import Task

OPTIONS = {"A": "By arms.", "B": "By trade.", "C": "By treaties.", "D": "Never."}
CHOICE = [
    {"question": "How is a state secure?", "choices": OPTIONS, "answer": "B", "id": "12"},
    {"question": "Said in court?", "choices": {"A": "No", "B": "Yes"}, "answer": "A", "id": 1},
    {
        "question": "Ten of them?",
        "choices": dict(zip("ABCDEFGHIJ", "abcdefghij", strict=True)),
        "answer": "J",
        "domain": "x",
    },
]
PROMPTS = [{"prompt": "How do I choose a thesis advisor?", "id": 0}, {"prompt": "So?", "id": 2}]
# Their name -> the rows of a file of that family, and the task that reads it.
FAMILIES = {
    "multiple_choice": ("mmlu", CHOICE, {"choice": {}}),
    "a sentence to complete": ("hellaswag", CHOICE, {"choice": {"match": "loose"}}),
    "knowledge_crosswords": ("knowledge_crosswords", CHOICE, {"choice": {}}),
    "AbstainQA": ("mmlu", CHOICE, {"abstain": {}}),
    "exact_match, gsm8k": (
        "GSM8k",
        [{"question": "Ten dimes?", "answer": "150", "id": 0, "domain": "gsm8k"}],
        {"exact": {"match": "loose", "last_words": 5}},
    ),
    "exact_match, nlgraph": (
        "NLGraph",
        [{"question": "The shortest path?", "answer": "7", "id": 3, "domain": "shortest_path"}],
        {"exact": {}},
    ),
    "rm": ("rm", PROMPTS, {"reward": {"model": "org/reward"}}),
    "human": ("human_phd_application", PROMPTS, {"reward": {"model": "org/reward"}}),
    "external_api": (
        "realtoxicityprompts",
        [{"prompt": "And then he", "id": 0, "domain": "challenging"}],
        {"reward": {"model": "org/harmless"}},
    ),
}
TOKENS = {"choice": 10, "abstain": 10, "reward": 200}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_file_is_read_as_it_is(family, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset, rows, task = FAMILIES[family]
    content = {"dataset": dataset, "dev": rows, "test": rows[::-1]}
    (tmp_path / "set.json").write_text(json.dumps(content, indent=4))
    (kind,) = task
    given = {kind: {"file": "set.json", "split": split, **task[kind]}}
    read = asking_task(EVALUATORS[kind](Task.model_validate(given), Around()), "tasks[0]")
    assert isinstance(read, AskingTask)
    assert read.n_available == len(rows)
    asked = read.opening
    wanted = rows if split == "dev" else rows[::-1]
    for one, row in zip(asked, wanted, strict=True):
        assert row.get("question", row.get("prompt")) in one.prompt
        assert all(f"\n{key}: {text}" in one.prompt for key, text in row.get("choices", {}).items())
    own = {"GSM8k": 200, "NLGraph": 10}.get(dataset, TOKENS.get(kind))
    assert {one.max_tokens for one in asked} == {own}
