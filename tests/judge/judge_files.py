"""Questions, prompts and judges for tests of ``judge:``."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from evomerge.endpoint.chat import ChatAnswer
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["the quick brown", "a lazy dog"]},
    {"question_id": 2, "category": "math", "turns": ["five dozen jugs"], "reference": ["sixty"]},
    {"question_id": "c3", "category": "extraction", "turns": ["pack my box"]},
]
_PLACES = {
    "single-v1": "{question} | {answer}",
    "single-v1-multi-turn": "{question_1} | {answer_1} | {question_2} | {answer_2}",
    "single-math-v1": "{question} | {answer} | {ref_answer_1}",
    "pair-v2": "{question} | A {answer_a} | B {answer_b}",
    "pair-v2-multi-turn": "{question_2} | A {answer_a_1} {answer_a_2} | B {answer_b_2}",
    "pair-math-v1": "{question} | A {answer_a} | B {answer_b} | {ref_answer_1}",
}


def prompt(name: str, template: str, **changed: Any) -> dict[str, Any]:
    kind, output = ("pairwise", "[[A]]") if name.startswith("pair") else ("single", "[[rating]]")
    row = {"name": name, "type": kind, "system_prompt": f"you are {name}", "category": "general"}
    return {**row, "prompt_template": template, "output_format": output, **changed}


PROMPTS = [prompt(name, template) for name, template in _PLACES.items()]


def write_rows(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def write_judge_files(folder: Path, questions: Any = None, prompts: Any = None) -> Path:
    """question.jsonl and judge_prompts.jsonl."""
    write_rows(folder / "question.jsonl", QUESTIONS if questions is None else questions)
    write_rows(folder / "judge_prompts.jsonl", PROMPTS if prompts is None else prompts)
    return folder


def judge_task(folder: Path, url: str = "http://127.0.0.1:9/v1", **settings: Any) -> dict[str, Any]:
    """A task of a genome."""
    given = {
        "name": "judged",
        "questions": str(folder / "question.jsonl"),
        "prompts": str(folder / "judge_prompts.jsonl"),
        "model": "strict",
        "base_url": url,
        "max_tokens": 8,
        **settings,
    }
    return {"judge": given}


def judge_evaluator(*tasks: dict[str, Any], run_dir: Path | None = None, **settings: Any):
    """What scores some tasks, their files read."""
    found = [Task.model_validate(one) for one in tasks]
    evaluator = evaluator_for(found, EvaluationBlock(**settings), ENGINES["transformers"])
    evaluator.prepare()
    evaluator.keep_in(run_dir)
    return evaluator


def letters(text: str) -> str:
    """A judge that counts: the same for the same prompt."""
    return f"I count. Rating: [[{1 + len(re.sub(r'[^a-z]', '', text)) % 10}]]"


class LettersJudge:
    """A judge without a server."""

    def complete(self, messages, seconds, idempotency_key):
        said = messages[-1]["content"]
        return ChatAnswer(letters(said), "", len(said), 7)

    def probe(self, seconds):
        return ("strict",)


@contextmanager
def with_letters_judge():
    """Has every judge behind an endpoint be that one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JudgeSettings, "connect", lambda self: LettersJudge())
        yield
