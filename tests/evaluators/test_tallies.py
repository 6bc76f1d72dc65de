"""What people are shown of answers, and what is counted over all of them."""

from __future__ import annotations

import string

import pytest

from evomerge.nouns.evaluation import Tally
from tests.evaluators.tiny_tasks import N_DOCUMENTS

TEXT = {"name": "tiny_text", "metric": "exact_match,whole"}


def text_tally(make, model, engine, **gen_kwargs):
    (tally,) = make(TEXT, engine=engine, gen_kwargs=gen_kwargs).evaluate(model).tallies
    return tally


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_answers_that_the_length_limit_ends_are_counted(make, live_model, engine):
    cut = text_tally(make, live_model, engine, until=["\x07"], max_gen_toks=3)
    assert cut == Tally("tiny_text", N_DOCUMENTS, n_cut=N_DOCUMENTS, n_empty=cut.n_empty)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_answers_that_end_at_once_are_empty_and_not_cut(make, live_model, engine):
    """A stop text in every token, also in the last one there is room for."""
    until = [*string.printable]
    tally = text_tally(make, live_model, engine, until=until, max_gen_toks=1)
    assert tally == Tally("tiny_text", N_DOCUMENTS, n_cut=0, n_empty=N_DOCUMENTS)


@pytest.mark.parametrize(
    ("task", "guess"),
    [
        ({"name": "tiny_choice"}, 1 / 4),
        ({"name": "tiny_choice", "metric": "acc_norm"}, 1 / 4),
        ({"name": "tiny_group", "metric": "acc"}, (1 / 4 + 1 / 3) / 2),
        ({"name": "tiny_likelihood", "metric": "acc"}, None),
        (TEXT, None),
    ],
)
def test_what_guessing_scores_is_known_where_it_is_defined(make, live_model, task, guess):
    (tally,) = make(task).evaluate(live_model).tallies
    assert tally.guess == (None if guess is None else pytest.approx(guess))


SEVERAL = "{{[0, 2, 2] if answer == 0 else [1]}}"
ACC = ("acc", "acc_norm")


@pytest.mark.parametrize(
    ("target", "options", "metrics", "guess"),
    [
        (SEVERAL, "options", ACC, (5 * 2 + 15 * 1) / 4 / 20),  # answer is 0 of every fourth
        ("0", "['dog', 'fox']", ("mcc",), 0.0),
        ("0", "['dog', 'fox']", ("f1",), None),
        ("0", "options", ("mcc",), None),
    ],
)
def test_what_guessing_scores_counts_every_right_option(
    make, live_model, task_folder, tmp_path, target, options, metrics, guess
):
    given = "\n".join(f"  - {{metric: {name}}}" for name in metrics)
    (tmp_path / "own.yaml").write_text(
        "task: own\ndataset_path: json\ntest_split: test\noutput_type: multiple_choice\n"
        f"dataset_kwargs: {{data_files: {{test: {task_folder}/test.jsonl}}}}\n"
        f"doc_to_text: 'the {{{{a}}}} and'\ndoc_to_target: \"{target}\"\n"
        f"doc_to_choice: {options}\nmetric_list:\n{given}\n"
    )
    for name in metrics:
        evaluator = make({"name": "own", "metric": name})
        evaluator.search_path = (str(tmp_path),)
        (tally,) = evaluator.evaluate(live_model).tallies
        assert tally.guess == (None if guess is None else pytest.approx(guess))


def test_one_document_of_each_task_is_shown_with_what_is_right(make, live_model):
    tasks = ({"name": "tiny_group", "metric": "acc"}, TEXT)
    likelihoods = ("tiny_likelihood", "tiny_rolling")
    metrics = ("acc", "bits_per_byte")
    others = [{"name": n, "metric": m} for n, m in zip(likelihoods, metrics, strict=True)]
    samples = make(*tasks, *others).evaluate(live_model).samples
    assert [one.task for one in samples] == ["tiny_choice", "tiny_text", *likelihoods]
    choice, text, *_ = samples
    assert choice.target == "brown"  # options[0] of the first document
    assert text.target == "a"
    assert text.prompt.endswith(" then")
