"""What `LmEval` keeps, restores, draws and refuses."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
from tqdm import tqdm

from evomerge.evaluators.lm_eval import sanity
from evomerge.evaluators.lm_eval.isolation import inside_lm_eval
from evomerge.foundations.errors import EvaluationError, GenomeError, OutOfMemoryError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.merging.live_model import LiveModel
from evomerge.models.quiet import lock_bars_in_this_process
from tests.tiny_models import tiny_tokenizer


def answers(evaluation) -> list:
    return [document.answer for document in evaluation.documents]


def test_changed_weights_change_the_answers(make, live_model):
    evaluator = make("tiny_choice", {"name": "tiny_text", "metric": "exact_match,whole"})
    first = evaluator.evaluate(live_model)
    with torch.no_grad():
        live_model.module.get_input_embeddings().weight.mul_(-3.0)
    second = evaluator.evaluate(live_model)
    assert answers(first) != answers(second)
    assert answers(second) == answers(evaluator.evaluate(live_model))


def test_texts_are_tokenised_once(make, live_model, monkeypatch):
    calls = []
    encode = type(live_model.tokenizer).encode
    monkeypatch.setattr(
        type(live_model.tokenizer),
        "encode",
        lambda self, text, **settings: calls.append(text) or encode(self, text, **settings),
    )
    evaluator = make("tiny_choice", "tiny_likelihood", {"name": "tiny_rolling", **WORDS})
    evaluator.evaluate(live_model)
    assert len(calls) == len(set(calls)) > 0
    calls.clear()
    evaluator.evaluate(live_model)
    assert calls == []


WORDS = {"metric": "word_perplexity"}


def test_a_new_tokenizer_rebuilds_the_requests(make, chat_model):
    evaluator = make("tiny_choice")
    with_chat = evaluator.evaluate(chat_model)
    plain = LiveModel(chat_model.module, tiny_tokenizer())
    without_chat = evaluator.evaluate(plain)
    again = evaluator.evaluate(chat_model)
    assert with_chat == again
    assert with_chat != without_chat


def test_drawn_documents_depend_on_the_seed_alone(make, live_model):
    def drawn(seed):
        evaluator = make({"name": "tiny_choice", "samples": 6}, seed=seed)
        return [document.doc_id for document in evaluator.evaluate(live_model).documents]

    assert drawn(1) == drawn(1) == sorted(set(drawn(1)))
    assert len(drawn(1)) == 6
    assert drawn(1) != drawn(2)


def test_sampled_texts_repeat_and_depend_on_the_seed(make, live_model):
    task = {"name": "tiny_text", "metric": "exact_match,whole"}
    settings = {"gen_kwargs": {"do_sample": True, "temperature": 2.0, "top_k": 50}}
    first, again = (
        answers(make(task, **settings).evaluate(live_model)),
        answers(make(task, **settings).evaluate(live_model)),
    )
    assert first == again
    assert first != answers(make(task, seed=1, **settings).evaluate(live_model))


def test_the_callers_random_states_are_left_alone(make, live_model):
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    make("tiny_choice").evaluate(live_model)
    drawn = (random.random(), np.random.rand(), torch.rand(()).item())
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    assert drawn == (random.random(), np.random.rand(), torch.rand(()).item())


def test_nothing_is_printed(make, live_model, capfd, caplog):
    make("tiny_choice", {"name": "tiny_text", "metric": "exact_match,whole"}).evaluate(live_model)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_tag_is_the_mean_over_its_documents(make, live_model):
    tag = make("tiny_choices").evaluate(live_model)
    alone = [make(name).evaluate(live_model) for name in ("tiny_choice", "tiny_other_choice")]
    mean = sum(evaluation.metrics[0].value for evaluation in alone) / 2
    assert str(tag.metrics[0].key) == "tiny_choices/acc,none"
    assert tag.metrics[0].value == pytest.approx(mean)
    assert tag.metrics[0].n == 40
    assert {document.task for document in tag.documents} == {"tiny_choice", "tiny_other_choice"}


def test_a_group_without_a_score_takes_the_metric_its_tasks_share(make, live_model):
    metric = make("tiny_bare_group").evaluate(live_model).metrics[0]
    assert (str(metric.key), metric.n) == ("tiny_bare_group/acc,none", 40)


def test_lower_is_better_is_read_from_the_task(make, live_model):
    evaluation = make({"name": "tiny_likelihood", "metric": "perplexity"}).evaluate(live_model)
    metric = evaluation.metrics[0]
    assert (metric.higher_is_better, metric.stderr) == (False, None)
    values = [document.values["perplexity,none"] for document in evaluation.documents]
    assert np.exp(np.mean(np.log(values))) == pytest.approx(metric.value)


def test_every_mistake_is_reported_at_once(make):
    evaluator = make(
        "tiny_choise",
        {"name": "tiny_choice", "metric": "acc_nrom"},
        "tiny_text",
        "tiny_text",
        {"name": "tiny_likelihood", "samples": [3, 20]},
        "tiny_undirected",
        "tiny_rolling",
    )
    evaluator.search_path = (*evaluator.search_path, "no/such/folder")
    with pytest.raises(GenomeError, match="did you mean") as caught:
        evaluator.prepare()
    assert [str(problem) for problem in caught.value.problems] == [
        "task_search_path[1]: no folder 'no/such/folder'.",
        "tasks[3].name: 'tiny_text' is already tasks[2]. Keep one of them.",
        "tasks[0].name: unknown task 'tiny_choise'; did you mean 'tiny_choice'? Check the "
        "spelling, or add the folder of its YAML to `task_search_path`.",
        "tasks[1].metric: task 'tiny_choice' has no metric 'acc_nrom'; did you mean "
        "'acc_norm,none'? (it has: acc,none, acc_norm,none).",
        *[
            f"tasks[{i}]: no metric given and 'tiny_text' has several: exact_match,whole, "
            "exact_match,first-letter. Write one of them as `metric`."
            for i in (2, 3)
        ],
        "tasks[4].samples: 20 is outside [0, 19], the documents of 'tiny_likelihood'.",
        "tasks[5].metric: task 'tiny_undirected' does not say whether a higher 'share' is better. "
        "Add `higher_is_better` to the metric in the task's YAML.",
        "tasks[6]: no metric given and 'tiny_rolling' has several: word_perplexity,none, "
        "bits_per_byte,none. Write one of them as `metric`.",
    ]


@pytest.fixture(autouse=True)
def _small_index(monkeypatch):
    """lm-eval's full index takes ten seconds to read; nothing here is in it."""
    from lm_eval.tasks import TaskManager

    build = TaskManager.__init__
    monkeypatch.setattr(
        TaskManager,
        "__init__",
        lambda self, include_path=None, include_defaults=True: build(
            self, include_path=include_path, include_defaults=False
        ),
    )


def test_a_metric_with_several_filters_needs_the_filter(make):
    with pytest.raises(GenomeError, match="several filters in 'tiny_text': exact_match,whole, "):
        make({"name": "tiny_text", "metric": "exact_match"}).prepare()


def test_a_task_in_two_groups_is_refused(make):
    with pytest.raises(GenomeError, match="'tiny_choice' is also part of 'tiny_group'"):
        make("tiny_group", "tiny_choice").prepare()


def test_a_task_that_cannot_be_built_says_why(make, tmp_path):
    (tmp_path / "gone.yaml").write_text(
        "task: gone\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path}/gone.jsonl}}}}\n"
    )
    evaluator = make("gone")
    evaluator.search_path = (str(tmp_path),)
    with pytest.raises(GenomeError, match=r"tasks\[0\]\.name: task 'gone' needs the file"):
        evaluator.prepare()


def test_prompts_that_cannot_be_built_say_why(make, live_model):
    with pytest.raises(
        GenomeError,
        match=r"prompts of task 'tiny_choice' cannot be built \(document 0, ValueError: Sample",
    ):
        make({"name": "tiny_choice", "num_fewshot": 9}).evaluate(live_model)


def test_a_task_can_be_named_by_its_file(make, task_folder, live_model):
    path = str(task_folder / "choice.yaml")
    evaluation = make(path).evaluate(live_model)
    assert evaluation.metrics[0].key.task == path
    assert answers(evaluation) == answers(make("tiny_choice").evaluate(live_model))


def test_a_chat_template_that_is_not_there_is_refused(make, live_model):
    with pytest.raises(GenomeError, match="the tokenizer has no chat template"):
        make("tiny_choice", apply_chat_template=True).evaluate(live_model)
    live_model.tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(
        GenomeError, match=r"no chat template 'short' \(the tokenizer has: no names"
    ):
        make("tiny_choice", apply_chat_template="short").evaluate(live_model)


def test_a_model_of_nan_is_a_failed_candidate(make, live_model):
    with torch.no_grad():
        live_model.module.lm_head.weight.fill_(torch.nan)
    with pytest.raises(EvaluationError, match="every log-likelihood is NaN"):
        make("tiny_choice").evaluate(live_model)


def test_a_failed_forward_pass_keeps_its_message(make, live_model, monkeypatch):
    def forward(*args, **settings):
        raise torch.OutOfMemoryError("out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(live_model.module.model, "forward", forward)
    with pytest.raises(OutOfMemoryError, match=r"out of memory\. Tried to allocate 2 GiB"):
        make("tiny_choice").evaluate(live_model)


def test_no_room_for_a_prompt_is_refused(make, live_model):
    evaluator = make(
        {"name": "tiny_text", "metric": "exact_match,whole"}, gen_kwargs={"max_gen_toks": 256}
    )
    with pytest.raises(GenomeError, match="max_gen_toks 256 leaves no room for a prompt"):
        evaluator.evaluate(live_model)


def test_a_bos_that_nobody_adds_is_noticed(make, live_model):
    (warning,) = make("tiny_choice").warnings(live_model.tokenizer, live_model.module.config)
    assert "has a BOS token '<s>' but does not add it" in warning
    live_model.tokenizer.init_kwargs["add_bos_token"] = False
    assert make("tiny_choice").warnings(live_model.tokenizer, live_model.module.config) == ()


def test_a_prompt_that_begins_with_bos_is_fine(make, chat_model):
    chat_model.tokenizer.chat_template = "<s>" + chat_model.tokenizer.chat_template
    warnings = make("tiny_choice").warnings(chat_model.tokenizer, chat_model.module.config)
    assert not any("BOS" in warning for warning in warnings)
    assert len(warnings) == 1  # "<" is not in the vocabulary


def test_vanishing_blanks_are_noticed():
    tokenizer = tiny_tokenizer()
    assert sanity.roundtrip_warning(tokenizer, ["the lazy dog", "one"]) == ""
    tokenizer.backend_tokenizer.pre_tokenizer = None
    tokenizer.backend_tokenizer.decoder = None
    warning = sanity.roundtrip_warning(tokenizer, ["the lazy dog"])
    assert "does not give back the tasks' text" in warning


def test_a_repeated_prepare_loads_nothing_again(make):
    evaluator = make("tiny_choice")
    assert evaluator.prepare() == evaluator.prepare()
    assert isinstance(evaluator.tasks[0], Task)
    assert evaluator.settings == EvaluationBlock()


def test_memory_that_runs_out_fits_in_half_the_batch_with_the_same_answers(
    make, live_model, monkeypatch
):
    expected = make("tiny_choice", batch_size=4).evaluate(live_model)
    forward = live_model.module.model.forward

    def small(input_ids, **settings):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 2 GiB")
        return forward(input_ids, **settings)

    monkeypatch.setattr(live_model.module.model, "forward", small)
    evaluator = make("tiny_choice", batch_size=4)
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        evaluator.evaluate(live_model)
    found = evaluator.evaluate(live_model, batch_divisor=2)
    assert [d.answer for d in found.documents] == [d.answer for d in expected.documents]


def test_no_progress_bar_of_a_task_takes_a_semaphore_of_the_system(monkeypatch):
    lock_bars_in_this_process.cache_clear()
    monkeypatch.delattr(tqdm, "_lock", raising=False)
    with inside_lm_eval():
        assert isinstance(tqdm.get_lock(), type(threading.RLock()))
