"""Scores, standard errors and answers are those of lm-eval's own evaluation."""

from __future__ import annotations

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.inference import ENGINES
from tests.tiny_models import tiny_config, tiny_tokenizer

TASKS = ("tiny_choice", "tiny_text", "tiny_likelihood", "tiny_rolling")
METRIC = {"tiny_text": "exact_match,whole", "tiny_rolling": "word_perplexity"}


def named(name: str, **more) -> dict:
    return {"name": name, "metric": METRIC.get(name), **more}


@pytest.fixture
def reference(task_folder, monkeypatch):
    """lm-eval's own results on the same model and tokenizer."""
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")

    def run(live_model, tasks, **settings):
        return simple_evaluate(
            model=HFLM(pretrained=live_model.module, tokenizer=live_model.tokenizer, batch_size=4),
            tasks=list(tasks),
            task_manager=TaskManager(include_path=str(task_folder), include_defaults=False),
            bootstrap_iters=2,
            **settings,
        )

    return run


def assert_equal(evaluation, results):
    """Every metric and document of ours against lm-eval's."""
    for metric in evaluation.metrics:
        row = results["results"][metric.key.task]
        label = f"{metric.key.metric},{metric.key.filter}"
        assert metric.value == pytest.approx(row[label], rel=1e-5), metric.key
        if metric.stderr is not None:
            stderr = row[f"{metric.key.metric}_stderr,{metric.key.filter}"]
            assert metric.stderr == pytest.approx(stderr, rel=1e-5), metric.key
    documents = {(document.task, document.doc_id): document for document in evaluation.documents}
    for task, samples in results["samples"].items():
        for sample in samples:
            document = documents[task, sample["doc_id"]]
            for metric in ("acc", "acc_norm", "exact_match"):
                if metric in sample["metrics"]:
                    assert document.values[f"{metric},{sample['filter']}"] == sample[metric]
            if sample["filter"] == "whole":
                assert document.answer == sample["filtered_resps"][0]
            if task.endswith("choice"):
                likelihoods = [response[0] for response in sample["filtered_resps"]]
                assert document.answer == likelihoods.index(max(likelihoods))
    assert len(documents) == sum(
        len({sample["doc_id"] for sample in samples}) for samples in results["samples"].values()
    )


def test_every_kind_of_task_scores_as_in_lm_eval(make, live_model, reference):
    evaluation = make(*map(named, TASKS)).evaluate(live_model)
    assert_equal(evaluation, reference(live_model, TASKS))
    assert len(evaluation.metrics) == 2 + 2 + 2 + 2  # a filter each counts
    assert len({document.answer for document in evaluation.documents}) > 5


@pytest.mark.slow
def test_few_shot_prompts_and_a_limit_score_as_in_lm_eval(make, live_model, reference):
    tasks = [named(name, num_fewshot=2, limit=7) for name in TASKS]
    evaluation = make(*tasks, batch_size=3).evaluate(live_model)
    assert_equal(evaluation, reference(live_model, TASKS, num_fewshot=2, limit=7))


def test_the_chat_template_applies_as_in_lm_eval(make, chat_model, reference):
    tasks = ("tiny_choice", "tiny_text")
    ours = make(*[named(name, num_fewshot=2) for name in tasks], system_instruction="jump")
    settings = {"apply_chat_template": True, "system_instruction": "jump", "num_fewshot": 2}
    plain = make(*[named(name) for name in tasks], apply_chat_template=False)
    evaluation = ours.evaluate(chat_model)
    assert_equal(evaluation, reference(chat_model, tasks, **settings))
    assert evaluation.documents != plain.evaluate(chat_model).documents


@pytest.mark.slow
def test_a_single_turn_chat_applies_as_in_lm_eval(make, chat_model, reference):
    evaluation = make(
        named("tiny_text", num_fewshot=2), apply_chat_template=True, fewshot_as_multiturn=False
    ).evaluate(chat_model)
    settings = {"apply_chat_template": True, "fewshot_as_multiturn": False, "num_fewshot": 2}
    assert_equal(evaluation, reference(chat_model, ["tiny_text"], **settings))


@pytest.mark.slow
def test_chosen_documents_score_as_in_lm_eval(make, live_model, reference):
    indices = [17, 3, 9]
    evaluation = make(named("tiny_choice", samples=indices)).evaluate(live_model)
    # lm-eval labels documents rightly only if the list ascends.
    results = reference(live_model, ["tiny_choice"], samples={"tiny_choice": sorted(indices)})
    assert_equal(evaluation, results)
    assert [document.doc_id for document in evaluation.documents] == [3, 9, 17]


@pytest.mark.slow
def test_generation_settings_override_the_task_as_in_lm_eval(make, live_model, reference):
    settings = {"until": ["q"], "max_gen_toks": 5}
    evaluation = make(named("tiny_text"), gen_kwargs=settings).evaluate(live_model)
    assert_equal(evaluation, reference(live_model, ["tiny_text"], gen_kwargs=settings))


@pytest.mark.slow
def test_a_group_scores_as_in_lm_eval(make, live_model, reference):
    evaluation = make("tiny_group").evaluate(live_model)
    assert_equal(evaluation, reference(live_model, ["tiny_group"]))
    assert str(evaluation.metrics[0].key) == "tiny_group/acc,none"
    assert evaluation.metrics[0].stderr is not None


def tiny_gpt2():
    """Learned absolute positions, the architecture that padding hurts first."""
    settings = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return AutoConfig.for_model("gpt2", **settings, bos_token_id=1, eos_token_id=2)


@pytest.mark.parametrize(
    ("architecture", "batch_size"),
    [("llama", 1), ("llama", "auto"), ("gpt_neox", 5), ("gemma2", "auto"), ("gpt2", "auto")],
)
def test_likelihoods_and_texts_equal_those_of_hflm(architecture, batch_size):
    config = (
        tiny_gpt2()
        if architecture == "gpt2"
        else tiny_config(architecture, max_position_embeddings=64)
    )
    torch.manual_seed(0)
    module = AutoModelForCausalLM.from_config(config).eval()
    ours = LiveLanguageModel(ENGINES["transformers"](tiny_tokenizer(), batch_size))
    ours.bind(module)
    # With its logits cache, HFLM misreads two splits of one text (shown by the third pair).
    theirs = HFLM(module, tokenizer=tiny_tokenizer(), batch_size=1, logits_cache=False)
    pairs = [
        ("the quick", " brown fox"),
        ("the quick", " brown dog"),
        ("the quick brown ", "fox"),
        ("", "the lazy dog"),
        ("<s>the quick", " x"),
        ("how vexingly " * 30, "quick zebras jump"),  # longer than the model reads
        ("the quick", " brown fox"),
    ]
    scored = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    for mine, other in zip(ours.loglikelihood(scored), theirs.loglikelihood(scored), strict=True):
        assert mine == (pytest.approx(other[0], abs=1e-4), other[1])
    texts = ("", "the", "one two three " * 40, "<s>pack my box")
    rolled = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    assert ours.loglikelihood_rolling(rolled) == pytest.approx(
        theirs.loglikelihood_rolling(rolled), abs=1e-3
    )
    settings = {"until": ["e", "z"], "max_gen_toks": 10}
    asked = [
        Instance("generate_until", {}, (text, settings | {"max_gen_toks": length}), 0)
        for text in ("the quick", "one", "how vexingly " * 30, "the quick")
        for length in (10, 4)
    ]
    assert ours.generate_until(asked) == theirs.generate_until(asked)
