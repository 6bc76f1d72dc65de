"""Tasks of lm-eval and of kinds that ask: one engine answers both, and writes no text twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asked import AskLikelihood
from evomerge.evaluators.asking.asking_kind import AskingKind, Item, Judgement
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.kind_of_task import Measure, TaskSettings
from evomerge.evaluators.task_files import json_rows
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.evaluators.tiny_tasks import N_DOCUMENTS

TEXT = {"name": "tiny_text", "metric": "exact_match,whole"}
EXACT = {"exact": {"file": "same.json", "max_tokens": 12}}
CHOICE = "tiny_choice"


@pytest.fixture(autouse=True)
def _same_prompts(task_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents = map(json.loads, (task_folder / "test.jsonl").read_text().splitlines())
    rows = [
        {"question": f"the {one['a']} and the {one['b']} then", "answer": one["target"]}
        for one in documents
    ]
    (tmp_path / "same.json").write_text(json.dumps({"dev": rows}))


class Counted(ENGINES["transformers"]):
    """Remembers the engines there are, and how many requests came at a time."""

    made, asked = (), ()

    def __init__(self, *given):
        super().__init__(*given)
        Counted.made = (*Counted.made, self)

    def generate(self, asked):
        Counted.asked = (*Counted.asked, len(asked))
        return super().generate(asked)


@pytest.fixture
def counted():
    Counted.made = Counted.asked = ()
    return Counted


def made(task_folder, *given, engine=ENGINES["transformers"], **settings):
    tasks = [Task.model_validate(one) for one in given]
    block = EvaluationBlock(**settings)
    return evaluator_for(tasks, block, engine, search_path=[str(task_folder)])


def tokens_read(evaluator, model):
    """What came of a trial, and how many tokens its forward passes read."""
    read = []

    def count(module, args, kwargs):
        given = kwargs.get("input_ids", args[0] if args else None)
        given = kwargs.get("inputs_embeds") if given is None else given
        read.append(given.shape[0] * given.shape[1])

    hook = model.module.register_forward_pre_hook(count, with_kwargs=True)
    try:
        return evaluator.evaluate(model), sum(read)
    finally:
        hook.remove()


@pytest.mark.parametrize("exactness", ["fast", "reference"])
def test_a_text_that_two_kinds_have_written_is_written_once(task_folder, live_model, exactness):
    def scored(*tasks):
        settings = EvaluationBlock(exactness=exactness)
        given = [Task.model_validate(one) for one in tasks]
        engine = ENGINES["transformers"]
        evaluator = evaluator_for(given, settings, engine, search_path=[str(task_folder)])
        return tokens_read(evaluator, live_model)

    (theirs, n_theirs), (ours, n_ours) = scored(TEXT), scored(EXACT)
    both, n_both = scored(TEXT, EXACT)
    assert n_theirs > 0
    assert n_both == n_ours  # its texts have no stop, so that lm-eval's are their beginnings
    values = {(one.task, one.doc_id): one for one in both.documents}
    assert len(values) == 2 * N_DOCUMENTS
    for one in (*theirs.documents, *ours.documents):
        assert values[one.task, one.doc_id] == one


class LikelySettings(TaskSettings):
    file: str


class Likely(AskingKind[dict]):
    """Asks how likely the options are that ``tiny_choice`` has, in the words that it has them."""

    Settings = LikelySettings
    measures = (Measure("nats", higher_is_better=True, high=0.0),)

    def items(self):
        for _, row in json_rows(self.settings.file):
            yield Item(row, row["a"], row)

    def judge(self, item):
        prompt = f"the {item.content['a']} and the {item.content['b']} then"
        asked = [AskLikelihood(prompt, f" {one}", is_plain=True) for one in item.content["options"]]
        found = yield asked
        return Judgement({"nats": max(log_likelihood for log_likelihood, _ in found)})


@pytest.mark.parametrize("exactness", ["fast", "reference"])
@pytest.mark.parametrize("theirs", [CHOICE, "tiny_rolling"])
def test_a_text_that_two_kinds_have_scored_is_read_once(
    task_folder, live_model, tmp_path, monkeypatch, theirs, exactness
):
    monkeypatch.setitem(EVALUATORS._targets, "likely", f"{__name__}:Likely")
    documents = [json.loads(row) for row in (task_folder / "test.jsonl").read_text().splitlines()]
    texts = [f"how {one['a']} and {one['b']} then jump over the lazy dog" for one in documents]
    (tmp_path / "texts.jsonl").write_text(
        "".join(f"{json.dumps({'text': one})}\n" for one in texts)
    )
    ours = {
        CHOICE: {"likely": str(task_folder / "test.jsonl")},
        "tiny_rolling": {"perplexity": "texts.jsonl"},
    }[theirs]
    theirs = {"name": theirs, "metric": {CHOICE: "acc"}.get(theirs, "bits_per_byte")}

    def scored(*tasks):
        return tokens_read(made(task_folder, *tasks, exactness=exactness), live_model)

    alone = [scored(theirs), scored(ours)]
    both, n_both = scored(theirs, ours)
    assert n_both == max(n for _, n in alone) > 0
    found = {(one.task, one.doc_id): one for one in both.documents}
    assert len(found) == 2 * N_DOCUMENTS
    for evaluation, _ in alone:
        assert all(found[one.task, one.doc_id] == one for one in evaluation.documents)


def test_all_kinds_of_a_split_have_one_engine_that_is_asked_once(task_folder, live_model, counted):
    evaluator = made(task_folder, EXACT, CHOICE, TEXT, engine=counted)
    evaluator.prepare()
    first = evaluator.evaluate(live_model)
    prompts = {row["question"] for row in json.loads(Path("same.json").read_text())["dev"]}
    assert Counted.asked == (len(prompts) + N_DOCUMENTS,)
    assert sum(hasattr(one, "module") for one in Counted.made) == 1
    assert evaluator.evaluate(live_model) == first
    assert [metric.key.task for metric in first.metrics[:3]] == ["exact", CHOICE, "tiny_text"]


def test_a_mixture_by_task_has_each_kind_answered_by_its_model(
    task_folder, live_model, model_folder
):
    other = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(-1)
    tasks = (EXACT, CHOICE, TEXT)
    mixed = replace(live_model, of_tasks={"exact": other, "tiny_text": other})
    found = made(task_folder, *tasks).evaluate(mixed)
    own = made(task_folder, CHOICE).evaluate(live_model)
    others = made(task_folder, EXACT, TEXT).evaluate(replace(live_model, module=other))
    both = sorted((*own.documents, *others.documents), key=lambda one: (one.task, one.doc_id))
    assert sorted(found.documents, key=lambda one: (one.task, one.doc_id)) == both


def test_texts_that_lm_eval_draws_are_drawn_by_the_seed_whoever_else_asks(task_folder, live_model):
    settings = {"gen_kwargs": {"do_sample": True, "temperature": 2.0}}
    alone = made(task_folder, TEXT, **settings).evaluate(live_model)
    state = torch.random.get_rng_state()
    together = made(task_folder, TEXT, EXACT, **settings).evaluate(live_model)
    assert torch.random.get_rng_state().equal(state)
    drawn = [one for one in together.documents if one.task == "tiny_text"]
    assert drawn == list(alone.documents)
    greedy = made(task_folder, TEXT).evaluate(live_model)
    assert [one.answer for one in drawn] != [one.answer for one in greedy.documents]
