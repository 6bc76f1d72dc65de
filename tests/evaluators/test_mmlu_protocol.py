"""MMLU with five examples on lm-eval's task files and local data, held against plain code."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.evaluators.lm_eval import LmEval
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.live_model import LiveModel
from evomerge.report.score_rows import BY_TASKS, score_rows
from tests.tiny_models import tiny_model

SHIPPED = Path(__file__).parents[2] / "tasks" / "public" / "mmlu_5shot.yaml"
N_TEST = {"anatomy": 7, "high_school_us_history": 4, "virology": 12}
N_EXAMPLES = {"anatomy": 5, "high_school_us_history": 3, "virology": 5}
WORDS = "quick brown lazy dog fox jugs dozen five zebras liquor".split()  # noqa: SIM905  # short


def rows(subject: str, split: str) -> list[dict]:
    """Invented questions, the same ones whoever asks."""
    rng = random.Random(f"{subject} {split}")
    n = 5 if split == "dev" else N_TEST[subject]
    shift = len(subject) + 3 * (split == "dev")
    return [
        {
            "question": f"which animal is {WORDS[(i + shift) % 10]} and {WORDS[(3 * i) % 10]} ?",
            "choices": [f"the {WORDS[(i + k * (shift % 3 + 1)) % 10]}" for k in range(4)],
            "answer": rng.randrange(4),
        }
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the shipped group with a few subjects, and their data as a download has them."""
    folder = tmp_path_factory.mktemp("mmlu")
    configs = []
    for subject in N_TEST:
        files = []
        for split in ("test", "dev"):
            file = folder / "data" / subject / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows(subject, split)))
            files.append({"split": split, "path": f"{subject}/{split}.jsonl"})
        configs.append({"config_name": subject, "data_files": files})
    readme = f"---\n{yaml.safe_dump({'configs': configs})}---\n"
    (folder / "data" / "README.md").write_text(readme)
    group = yaml.safe_load(SHIPPED.read_text())
    wanted = {f"mmlu_{subject}" for subject in N_TEST}
    group["task"] = [
        one for one in group["task"] if (one if isinstance(one, str) else one["task"]) in wanted
    ]
    assert len(group["task"]) == len(N_TEST)
    (folder / "own.yaml").write_text(
        yaml.safe_dump({**group, "dataset_path": str(folder / "data")})
    )
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LiveModel:
    place = tiny_model(
        tmp_path_factory.mktemp("model") / "tiny",
        drift=0.2,
        extra_tokens=["A", "B", "C", "D"],
        max_position_embeddings=2048,
    )
    module = AutoModelForCausalLM.from_pretrained(place).eval()
    return LiveModel(module, AutoTokenizer.from_pretrained(place))


@pytest.fixture(scope="module")
def scored(folder, model):
    """The evaluator, and what it found."""
    evaluator = LmEval(
        [Task.model_validate("mmlu_5shot")],
        EvaluationBlock(),
        ENGINES["transformers"],
        search_path=[str(folder)],
    )
    evaluator.prepare()
    return evaluator, evaluator.evaluate(model)


def prompt_of(subject: str, index: int) -> str:
    """The prompt of a question, as the protocol describes it."""
    text = (
        "The following are multiple choice questions (with answers) about "
        f"{subject.replace('_', ' ')}.\n\n"
    )
    for row in rows(subject, "dev")[: N_EXAMPLES[subject]]:
        text += f"{question_of(row)} {'ABCD'[row['answer']]}\n\n"
    return text + question_of(rows(subject, "test")[index])


def question_of(row: dict) -> str:
    options = "".join(
        f"{letter}. {text}\n" for letter, text in zip("ABCD", row["choices"], strict=True)
    )
    return f"{row['question']} \n{options}Answer:"


@torch.no_grad()
def letter_of(model: LiveModel, prompt: str) -> int:
    """The letter that the model finds most likely to come next."""
    logits = []
    for letter in "ABCD":
        whole = model.tokenizer(f"{prompt} {letter}", return_tensors="pt").input_ids
        n_before = len(model.tokenizer(prompt).input_ids)
        given = torch.log_softmax(model.module(whole[:, :-1]).logits[0].float(), dim=-1)
        own = range(n_before, whole.shape[1])
        logits.append(sum(float(given[at - 1, whole[0, at]]) for at in own))
    return max(range(4), key=logits.__getitem__)


@pytest.mark.slow
def test_every_prompt_is_the_protocols(scored):
    evaluator, _ = scored
    (entry,) = evaluator.loaded()
    assert {leaf.name for leaf in entry.leaves} == {f"mmlu_{subject}" for subject in N_TEST}
    for leaf in entry.leaves:
        subject = leaf.name.removeprefix("mmlu_")
        for instance in leaf.task.instances:
            prompt, letter = instance.args
            assert prompt == prompt_of(subject, instance.doc_id)
            assert letter in (" A", " B", " C", " D")
        assert len(leaf.task.instances) == 4 * N_TEST[subject]


@pytest.mark.slow
def test_every_choice_is_the_likeliest_letter(scored, model):
    _, evaluation = scored
    found = {(one.task, one.doc_id): one.answer for one in evaluation.documents}
    expected = {
        (f"mmlu_{subject}", index): letter_of(model, prompt_of(subject, index))
        for subject, n in N_TEST.items()
        for index in range(n)
    }
    assert found == expected
    assert len(set(expected.values())) > 1  # else every rule would give the same


def test_micro_and_macro_averages_and_each_subject(scored, model):
    evaluator, evaluation = scored
    right = {
        subject: [
            letter_of(model, prompt_of(subject, index)) == row["answer"]
            for index, row in enumerate(rows(subject, "test"))
        ]
        for subject in N_TEST
    }
    shares = {subject: sum(own) / len(own) for subject, own in right.items()}
    (facts,) = evaluator.facts()
    found = {row.name: row.scores[0].value for row in score_rows(facts, [evaluation])}
    micro = sum(map(sum, right.values())) / sum(N_TEST.values())
    macro = sum(shares.values()) / len(shares)
    assert micro != pytest.approx(macro)
    assert found.pop("mmlu_5shot") == pytest.approx(micro)
    assert found.pop(BY_TASKS) == pytest.approx(macro)
    assert found == {f"mmlu_{s}": pytest.approx(share) for s, share in shares.items()}


def test_the_shipped_group_has_every_subject():
    group = yaml.safe_load(SHIPPED.read_text())
    named = [one if isinstance(one, str) else one["task"] for one in group["task"]]
    fewer = {one["task"]: one["num_fewshot"] for one in group["task"] if isinstance(one, dict)}
    assert len(set(named)) == 57
    assert fewer == {
        "mmlu_high_school_european_history": 3,
        "mmlu_high_school_us_history": 3,
    }
