"""A pass reads what memory or genome allow; scores do not depend on how much that is."""

from __future__ import annotations

import weakref
from itertools import pairwise

import pytest
import torch

from evomerge.inference.base import Continuation
from evomerge.inference.shortage import give_back, is_shortage
from evomerge.inference.transformers import pass_budget as budget
from evomerge.inference.transformers.likelihoods import largest, n_read, rows_of, scoring_pass
from evomerge.inference.transformers.pass_budget import PassBudget, PassBudgets
from evomerge.inference.transformers.trees import lay_out, lay_out_apart
from tests.evaluators.tiny_requests import (
    asked,
    assert_same,
    bound,
    build,
    prompts,
    questions,
    small_trees,
)
from tests.thinned import thinned

GENERATION = {"until": ["e", "ju"], "max_gen_toks": 14}


@pytest.fixture(autouse=True)
def _small_trees(monkeypatch):
    small_trees(monkeypatch)


@pytest.fixture
def passes(monkeypatch):
    """Rows and columns of every pass of a model: ``passes(module, most_tokens)``.

    A pass over more tokens finds no memory.
    """

    def watch(module, most_tokens: int | None = None) -> list[tuple[int, int]]:
        forward = module.model.forward
        seen: list[tuple[int, int]] = []

        def counting(input_ids, **settings):
            seen.append(tuple(input_ids.shape))
            if most_tokens is not None and input_ids.numel() > most_tokens:
                raise torch.OutOfMemoryError("out of memory. Tried to allocate 2 GiB")
            return forward(input_ids=input_ids, **settings)

        monkeypatch.setattr(module.model, "forward", counting)
        return seen

    return watch


@pytest.mark.parametrize(
    ("architecture", "batch_size", "divisor"),
    thinned(
        (architecture, *how)
        for architecture in ("llama", "gemma2")
        for how in (("auto", 16), ("auto", 64), (1, 1), (5, 1), (5, 2))
    ),
)
def test_scores_do_not_depend_on_how_much_a_pass_holds(architecture, batch_size, divisor):
    module = build(architecture)
    scored = asked("loglikelihood", questions())
    written = asked("generate_until", [(prompt, GENERATION) for prompt in prompts()])
    most, some = bound(module), bound(module, batch_size=batch_size, batch_divisor=divisor)
    found, expected = some.loglikelihood(scored), most.loglikelihood(scored)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    values = [value for value, _ in expected]
    assert [value for value, _ in found] == pytest.approx(values, abs=1e-5, rel=0)
    assert some.generate_until(written) == most.generate_until(written)


def test_a_batch_size_bounds_trees_and_tokens(passes):
    module = build("llama")
    requests = asked("loglikelihood", questions())
    seen = passes(module)
    bound(module, "reference", batch_size=1).loglikelihood(requests)
    longest = max(columns for _, columns in seen)
    seen.clear()
    bound(module, batch_size=4).loglikelihood(requests)
    assert max(rows for rows, _ in seen) <= 4
    assert max(rows * columns for rows, columns in seen) <= 4 * longest


def test_a_divided_batch_divides_trees_too(passes):
    module = build("llama")
    requests = asked("loglikelihood", questions()[:-2])  # without rows that fill a pass alone
    seen = passes(module)
    most = []
    for divisor in (16, 24, 32):
        bound(module, batch_divisor=divisor).loglikelihood(requests)
        most.append(max(rows * columns for rows, columns in seen))
        assert most[-1] <= budget.tokens_on("cpu") // divisor
        seen.clear()
    assert all(more > less for more, less in pairwise(most))


def test_no_tree_of_several_rows_is_larger_than_the_budget():
    rows = [(*range(20), row // 9, row // 3, row, row, row) for row in range(27)]
    n_read = dict.fromkeys(rows, 1)
    for most in (24, 30, 60, 200):
        laid_out = [(stem, tree) for stem, part in lay_out(n_read, most) for tree in part]
        sizes = [len(stem) + len(tree) for stem, tree in laid_out if len(tree.places) > 1]
        assert max(sizes, default=0) <= most
        assert sorted(row for _, tree in laid_out for row in tree.places) == sorted(rows)


def test_the_budget_is_halved_until_the_longest_items_fit_and_then_kept(passes, monkeypatch):
    module = build("llama")
    scored = asked("loglikelihood", questions())
    written = asked("generate_until", [(prompt, GENERATION) for prompt in prompts()])
    expected = bound(module).loglikelihood(scored), bound(module).generate_until(written)
    monkeypatch.setattr(budget, "UNTRIED", ())
    monkeypatch.setattr(budget, "give_back", lambda _: None)  # collecting garbage takes long here
    model = bound(module)
    seen = passes(module, most_tokens=400)
    assert_same(model.loglikelihood(scored), expected[0])
    assert model.generate_until(written) == expected[1]
    assert max(rows * columns for rows, columns in seen) > 400
    again = list(seen)
    seen.clear()
    model.bind(module)
    assert_same(model.loglikelihood(scored), expected[0])
    assert model.generate_until(written) == expected[1]
    assert max(rows * columns for rows, columns in seen) <= 400
    assert len(seen) < len(again)


def test_memory_too_short_for_one_row_is_an_error(passes, monkeypatch):
    monkeypatch.setattr(budget, "UNTRIED", ())
    monkeypatch.setattr(budget, "give_back", lambda _: None)
    module = build("llama")
    passes(module, most_tokens=5)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        bound(module).loglikelihood(asked("loglikelihood", questions()))


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    monkeypatch.setattr(budget, "UNTRIED", ())
    tried = []

    def fail():
        tried.append(True)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        PassBudgets("auto").find("pairs", 10, fail)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("a task that speaks of being out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, is_one):
    assert is_shortage(error) == is_one


def test_what_a_failed_pass_held_is_given_back():
    def fail():
        held = torch.zeros(1)
        alive.append(weakref.ref(held))
        raise MemoryError

    alive: list[weakref.ref[torch.Tensor]] = []
    try:
        fail()
    except MemoryError as error:
        give_back(error)
        assert alive[0]() is None


def test_the_passes_that_are_tried_are_the_widest_and_the_one_from_which_most_is_read():
    requests = [
        Continuation([*range(4, 40)], [5]),
        Continuation([4], [*range(5, 25)]),
        Continuation([4, 6], [7]),
    ]
    readers = rows_of(requests, 100)
    [(_, trees)] = lay_out_apart(n_read(requests, readers))
    widest, most_read, least = (scoring_pass([tree], (), requests, readers) for tree in trees)
    assert [one.requests for one in (widest, most_read, least)] == [[0], [1], [2]]
    for own in ([least, most_read, widest], [most_read, widest, least]):
        assert [one.requests for _, (one,) in largest([((), own)])] == [[0], [1]]
    assert [one.requests for _, (one,) in largest([((), [widest, least])])] == [[0]]
    assert largest([]) == []


def test_a_batch_size_of_the_genome_is_never_searched_for(monkeypatch):
    monkeypatch.setattr(budget, "UNTRIED", ())
    PassBudgets(4).find("pairs", 10, pytest.fail)
    assert PassBudgets(4).of("pairs", 10) == PassBudget(tokens=40, rows=4)


def test_the_tokens_of_a_pass_are_what_the_plan_counts(make, passes, live_model):
    for batch_size in ("auto", 3):
        evaluator = make({"name": "tiny_choice", "num_fewshot": 2}, batch_size=batch_size)
        seen = passes(live_model.module)
        evaluator.evaluate(live_model)
        most = max(rows * columns for rows, columns in seen)
        assert 0 < most <= evaluator.tokens_per_pass("cpu", 256)
    assert make("tiny_choice", batch_size=3).tokens_per_pass("cuda:0", 256) == 768
    assert make("tiny_choice").tokens_per_pass("cuda:0", 256) == 16384
    assert make("tiny_choice").tokens_per_pass("cpu", 9000) == 9000


def test_one_long_row_does_not_pad_many_short_ones():
    rows = ["x" * n for n in (103, 101, 52, 52, 51, 50, 50)]
    parts = [[len(row) for row in part] for part in PassBudget(tokens=4096).split_by_length(rows)]
    assert parts == [[103, 101], [52, 52, 51, 50, 50]]
    assert [len(part) for part in PassBudget(tokens=4096).split_by_length(rows[2:])] == [5]
    few = ["x" * n for n in (60, 30, 30)]  # a pass of its own would cost as much
    assert [len(part) for part in PassBudget(tokens=4096).split_by_length(few)] == [3]


def test_rows_are_split_by_tokens_and_by_count():
    rows = ["aaaa", "aaa", "aa", "a", "a"]
    assert list(PassBudget(tokens=8).split(rows)) == [["aaaa", "aaa"], ["aa", "a", "a"]]
    assert [len(part) for part in PassBudget(tokens=8, rows=2).split(rows)] == [2, 2, 1]
    assert [len(part) for part in PassBudget(tokens=1).split(rows, extra=5)] == [1] * 5
