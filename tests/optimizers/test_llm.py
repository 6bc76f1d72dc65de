from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evomerge.endpoint.chat import ChatAnswer
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.seeding import stream
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey
from evomerge.nouns.space import Choice, Integer, Real, Space
from evomerge.optimizers.focus import Focus
from evomerge.optimizers.llm.dialogue import Clock
from evomerge.optimizers.llm.evolution import Llm
from evomerge.optimizers.llm.llm_settings import LlmSettings
from evomerge.optimizers.search_context import Brief, InMemory, SearchContext
from tests.optimizers.labels import labels_of
from tests.scripted_llm import ScriptedModel, recombined

SPACE = Space((Real("a", 0.0, 2.0), Real("b", 0.0, 1.0), Real("c", 0.0, 1.0)))
MEAN = {"a": 1.0, "b": 0.25, "c": 0.75}
MEAN_GENOTYPE = [0.5, 0.25, 0.75]
DEAD = NoAnswerError("no answer (refused)")


def proposal(mean=None, **beside):
    return json.dumps({"thought": "because", "mean": MEAN if mean is None else mean, **beside})


class Told(LlmSettings):
    """Settings that lead to a model the test holds."""

    def connect(self):
        return MODELS[-1]


MODELS: list[ScriptedModel] = []


class Waits:
    """A clock that only counts what it was asked to wait."""

    def __init__(self):
        self.time, self.waits = 0.0, []

    def now(self):
        return self.time

    def wait(self, seconds):
        self.waits += [seconds] if seconds else []
        self.time += seconds


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    found = Waits()
    monkeypatch.setattr(Llm, "clock", Clock(found.now, found.wait))
    yield found
    MODELS.clear()


def llm(*replies, space=SPACE, size=4, kept=None, brief=None, experts=None, **settings):
    replies = [(lambda _, text=r: text) if isinstance(r, str) else r for r in replies]
    MODELS.append(ScriptedModel(*replies))
    artifacts = kept if kept is not None else InMemory()
    context = SearchContext(experts=experts, brief=brief or Brief(), artifacts=artifacts)
    return Llm(space, seed=3, population_size=size, settings=Told(**settings), context=context)


def sphere(genotypes):
    return ((genotypes - 0.3) ** 2).sum(axis=1)


def second(optimizer, loss=sphere):
    """The generation after the first, which is random."""
    first = optimizer.ask()
    optimizer.tell(first, loss(first))
    return first, optimizer.ask()


def record(optimizer, generation=1):
    return json.loads(optimizer.context.artifacts.recall(f"generation-{generation:04d}.json"))


# The algorithm


def test_the_first_generation_is_uniform_as_seen_from_the_start_and_asks_nobody():
    optimizer = llm(proposal())
    drawn = stream(3, "optimizer", 0).random((4, 3))
    np.testing.assert_array_equal(optimizer.ask(), Focus(optimizer.space).meant(drawn))
    assert MODELS[-1].heard == []


def test_the_first_generation_may_lie_around_the_start():
    start = SPACE.starting_at(np.array([0.5, 0.25, 0.75]))
    asked = llm(proposal(), space=start, first_generation="start").ask()
    np.testing.assert_allclose(asked[0], [0.5, 0.25, 0.75])
    noise = 0.2 * stream(3, "optimizer", 0).standard_normal((4, 3))
    np.testing.assert_allclose(asked[1:], np.clip(asked[0] + noise[1:], 0, 1))


def test_the_population_is_the_mean_a_step_from_the_best_and_steps_from_the_mean():
    optimizer = llm(proposal())
    first, asked = second(optimizer)
    best = first[np.argmin(sphere(first))]
    noise = 0.05 * stream(3, "optimizer", 1).standard_normal((4, 3))
    np.testing.assert_allclose(asked[0], MEAN_GENOTYPE)
    np.testing.assert_allclose(asked[1], np.clip(best + noise[1], 0, 1))
    np.testing.assert_allclose(asked[2:], np.clip(np.array([MEAN_GENOTYPE]) + noise[2:], 0, 1))
    assert [label.partition(", ")[2] for label in labels_of(optimizer)] == [
        "the mean",
        "near the best",
        "near the mean",
        "near the mean",
    ]


def test_noise_is_low_after_an_improvement_and_high_after_none():
    optimizer = llm(proposal())
    for loss in (3.0, 2.0, 2.0, 1.0, 1.0):
        optimizer.tell(optimizer.ask(), np.array([loss, 9.0, 9.0, 9.0]))
    sigmas = [record(optimizer, generation)["sigma"] for generation in (1, 2, 3, 4)]
    assert sigmas == [0.05, 0.05, 0.2, 0.05]


def test_generations_are_compared_with_one_another_though_a_parent_or_a_migrant_leads():
    optimizer = llm(proposal())
    optimizer.tell(np.full((1, 3), 0.3), np.array([-1.0]))
    for number, loss in enumerate((3.0, 2.0, 2.0, 1.0, 1.0)):
        optimizer.tell(optimizer.ask(), np.array([loss, 9.0, 9.0, 9.0]))
        optimizer.tell(np.full((1, 3), 0.4), np.array([-2.0 - number]))
    sigmas = [record(optimizer, generation)["sigma"] for generation in (1, 2, 3, 4)]
    assert sigmas == [0.05, 0.05, 0.2, 0.05]
    prompt = record(optimizer, 4)["prompt"][1]["content"]
    assert "generation 3: best score -1, improved by 1" in prompt
    assert "generation 2: best score -2, no improvement" in prompt
    assert "The last generation improved on the best score of those before it" in prompt


def test_the_first_proposal_counts_as_after_an_improvement_though_every_trial_failed():
    optimizer = llm(proposal())
    optimizer.tell(np.full((1, 3), 0.3), np.array([-1.0]))
    for _ in range(3):
        optimizer.tell(optimizer.ask(), np.full(4, np.inf))
    assert [record(optimizer, generation)["sigma"] for generation in (1, 2)] == [0.05, 0.2]


def test_a_mean_that_was_tried_already_is_not_tried_again():
    optimizer = llm(proposal())
    _, asked = second(optimizer)
    optimizer.tell(asked, sphere(asked))
    again = optimizer.ask()
    assert np.abs(again[0] - MEAN_GENOTYPE).max() > 1e-3
    assert labels_of(optimizer)[0] == "generation 2, near the mean"


def test_choices_and_counts_are_kept_or_drawn_anew():
    space = Space((Integer("start", 0, 999), Choice("method", ("linear", "ties", "slerp"))))
    mean = {"start": 500, "method": "ties"}
    optimizer = llm(proposal(mean), space=space, size=200)
    points = [space.decode(genotype) for genotype in second(optimizer)[1]]
    assert points[0] == mean
    kept = np.mean([point["method"] == "ties" for point in points])
    assert 0.9 < kept < 1
    near = np.mean([abs(point["start"] - 500) <= 150 for point in points])
    assert 0.9 < near < 1


def test_all_models_failing_costs_no_request():
    optimizer = llm(proposal())
    _, asked = second(optimizer, lambda genotypes: np.full(len(genotypes), np.inf))
    assert MODELS[-1].heard == []
    assert labels_of(optimizer) == ("generation 1, at random",) * 4
    optimizer.tell(asked, sphere(asked))
    optimizer.ask()
    assert len(MODELS[-1].heard) == 1


# What the model is told


def evaluation(**values):
    metrics = [Metric(MetricKey(t, "acc"), v, None, 9, t != "loss") for t, v in values.items()]
    return Evaluation(tuple(metrics))


def test_the_model_reads_tasks_parents_and_the_best_of_the_whole_search():
    brief = Brief(("org/x", "org/y"), "", "linear", ("sort/acc,none", "loss/acc,none"))
    experts = np.eye(3)[:2]
    optimizer = llm(proposal(), brief=brief, experts=experts, top_k=2)
    optimizer.tell(
        experts, np.array([0.01, 2.0]), [evaluation(sort=0.9, loss=3.0, other=1.0), None]
    )
    asked = optimizer.ask()
    optimizer.tell(asked, np.array([1.0, 0.5, 0.25, np.inf]), [None] * 3 + [None])
    optimizer.ask()
    said = MODELS[-1].heard[0][1]["content"].splitlines()
    assert "org/x: score -0.01 (sort/acc,none 0.9, loss/acc,none 3)" in said
    assert "trial |  | before the search | generation 0" in said
    assert "sort/acc,none | higher is better | 0.9 | unknown" in said
    assert "loss/acc,none | lower is better | 3 | unknown" in said
    assert "generation 0: best score -0.25" in said
    assert "The last generation" not in said[0]  # there is none before it to compare with


def test_the_prompt_stays_bounded_and_the_dialogue_is_not_repeated():
    optimizer = llm(proposal(thought="x" * 5000), max_prompt_characters=3000)
    for _ in range(12):
        asked = optimizer.ask()
        optimizer.tell(asked, sphere(asked))
    for heard in MODELS[-1].heard:
        assert [message["role"] for message in heard] == ["system", "user"]
        assert sum(len(message["content"]) for message in heard) <= 3000


# What can go wrong


@pytest.mark.parametrize(
    "bad",
    [
        "no JSON at all",
        "",
        proposal({"a": 1.0}),
        proposal({**MEAN, "a": 2.5}),
        ChatAnswer("I am sorry", "you refused"),
        ChatAnswer(""),
    ],
)
def test_a_bad_reply_is_asked_for_again_with_what_is_wrong(bad):
    optimizer = llm(bad, proposal())
    _, asked = second(optimizer)
    np.testing.assert_allclose(asked[0], MEAN_GENOTYPE)
    roles = [message["role"] for message in MODELS[-1].heard[1]]
    assert roles == ["system", "user", "assistant", "user"]
    kept = record(optimizer)
    assert kept["attempts"][0]["problem"]
    assert kept["attempts"][0]["problem"] in kept["attempts"][1]["correction"]


def test_only_the_last_bad_reply_stays_in_the_dialogue_and_only_its_beginning():
    optimizer = llm("first", "second" * 5000, proposal())
    second(optimizer)
    last = MODELS[-1].heard[-1]
    assert len(last) == 4
    assert last[2]["content"].startswith("second")
    assert len(last[2]["content"]) == 2000


@pytest.mark.parametrize("reply", ["nonsense", DEAD, NoAnswerError("HTTP 401", may_pass=False)])
def test_after_all_retries_a_generation_is_drawn_around_the_best(reply):
    optimizer = llm(reply)
    first, asked = second(optimizer)
    best = first[np.argmin(sphere(first))]
    noise = 0.05 * stream(3, "optimizer", 1).standard_normal((4, 3))
    np.testing.assert_allclose(asked, np.clip(best + noise, 0, 1))
    assert labels_of(optimizer) == ("generation 1, fallback, near the best",) * 4
    kept = record(optimizer)
    assert kept["is_fallback"]
    assert len(kept["attempts"]) == (1 if getattr(reply, "may_pass", True) is False else 3)


@pytest.mark.parametrize(
    ("failure", "advised"),
    [
        (
            NoAnswerError("HTTP status 401: no", may_pass=False, status=401, cause="key refused"),
            "Check the key in OPENAI_API_KEY.",
        ),
        (
            NoAnswerError("HTTP status 302: ", may_pass=False, status=302, cause="HTTP status 302"),
            "Check base_url and model; a base_url most often ends in /v1.",
        ),
    ],
)
def test_why_a_model_is_not_used_is_told_once(failure, advised):
    told = []
    optimizer = llm(failure, max_retries=1)
    optimizer.context = replace(optimizer.context, notify=told.append)
    second(optimizer)
    (asked,) = [ask.genotypes for ask in optimizer._out._asks]
    optimizer.tell(asked, sphere(asked))
    optimizer.ask()
    (message,) = told
    assert f"proposed nothing for generation 1 ({failure.reason})" in message
    assert message.endswith(advised)


def test_waits_double_and_obey_the_server(waits):
    second(llm(DEAD, DEAD, DEAD, NoAnswerError("429", wait=7.0), proposal(), max_retries=9))
    assert waits.waits == [1.0, 2.0, 4.0, 7.0]


def test_a_wait_beyond_the_time_of_a_generation_is_not_begun(waits):
    second(llm(NoAnswerError("429", wait=301.0)))
    assert waits.waits == []
    second(llm(DEAD, max_retries=99, generation_timeout=20.0))
    assert sum(waits.waits) <= 20.0


def test_a_request_gets_no_more_time_than_its_generation_has_left(waits):
    second(llm(DEAD, max_retries=3, generation_timeout=61.5, request_timeout=61.0))
    assert MODELS[-1].seconds == [61.0, 60.5, 58.5]


def test_where_nobody_was_there_one_request_finds_out_whether_somebody_is_now():
    optimizer = llm(DEAD, DEAD, DEAD, DEAD, "nonsense", proposal())
    for _ in range(5):
        asked = optimizer.ask()
        optimizer.tell(asked, sphere(asked))
    counts = [len(record(optimizer, generation)["attempts"]) for generation in (1, 2, 3, 4)]
    assert counts == [3, 1, 1, 1]
    assert not record(optimizer, 4)["is_fallback"]


def test_a_prompt_that_the_model_finds_too_long_is_halved_at_once(waits):
    too_long = NoAnswerError("HTTP status 400", may_pass=False, is_too_long=True)
    second(llm(too_long, too_long, proposal()))
    tables = [heard[1]["content"].count("generation 0 |") for heard in MODELS[-1].heard]
    assert tables == [3, 1, 0]  # four trials, two, one
    assert waits.waits == []


def test_it_waits_for_somebody_only_while_the_model_is_asked():
    seen = []

    def reply(prompt):
        seen.append(optimizer.is_waiting)
        return recombined(prompt)

    optimizer = llm(reply)
    assert not optimizer.is_waiting
    second(optimizer)
    assert seen == [True]
    assert not optimizer.is_waiting


def test_an_interrupted_request_leaves_nothing_behind():
    def interrupted(prompt):
        raise KeyboardInterrupt

    kept = InMemory()
    with pytest.raises(KeyboardInterrupt):
        second(llm(interrupted, kept=kept))
    assert kept.kept == {}


# What is kept


def test_everything_of_a_generation_is_kept_before_ask_returns():
    optimizer = llm("nonsense", proposal(), prompt_price=2.0, completion_price=8.0, model="m")
    second(optimizer)
    kept = record(optimizer)
    prompt_tokens = 2 * (len(kept["prompt"][1]["content"]) // 4)
    assert kept["model"] == "m"
    assert kept["mean"] == MEAN
    assert kept["thought"] == "because"
    assert [attempt["reply"] for attempt in kept["attempts"]] == ["nonsense", proposal()]
    assert kept["bill"]["prompt_tokens"] == prompt_tokens
    assert kept["bill"]["completion_tokens"] == 200
    assert kept["bill"]["cost"] == pytest.approx((2 * prompt_tokens + 8 * 200) / 1e6)
    assert kept["bill_so_far"] == kept["bill"]


def test_a_bill_adds_up_over_the_generations_and_is_shown():
    optimizer = llm(proposal(), prompt_price=1e6, completion_price=1e6)
    _, asked = second(optimizer)
    optimizer.tell(asked, sphere(asked))
    spent = record(optimizer)["bill"]
    n_tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    assert optimizer.activity == (
        f"asking gpt-4o for generation 2 ({n_tokens:,} tokens so far, {n_tokens}.00 spent)"
    )
    optimizer.ask()
    assert record(optimizer, 2)["bill_so_far"]["completion_tokens"] == 200


def test_replay_asks_nobody_and_proposes_the_same():
    kept = InMemory()
    replies = [recombined, "nonsense", DEAD, DEAD, recombined]

    def run(optimizer, n):
        asked = []
        for _ in range(n):
            asked.append(optimizer.ask())
            optimizer.tell(asked[-1], sphere(asked[-1]))
        return asked

    before = run(llm(*replies, kept=kept), 4)
    replayed = llm(AssertionError("the model was asked again"), kept=kept)
    np.testing.assert_array_equal(run(replayed, 4), before)
    assert MODELS[-1].heard == []
    assert replayed._bill.completion_tokens > 0


TOO_DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"mean": {"a": 1}, "generation": 1}', b"\xff", TOO_DEEP]
)
def test_a_damaged_record_is_a_sentence(damage):
    optimizer = llm(proposal(), kept=InMemory({"generation-0001.json": damage}))
    with pytest.raises(LedgerError, match=r"generation-0001.json: cannot be read .* Put the file"):
        second(optimizer)


def test_texts_of_strangers_are_kept_harmless():
    optimizer = llm("\x1b[31m\ud800", proposal())
    second(optimizer)
    assert record(optimizer)["attempts"][0]["reply"] == "\u241b[31m\ufffd"


def test_defaults_are_those_of_the_paper():
    settings = LlmSettings()
    assert (settings.model, settings.temperature, settings.top_k) == ("gpt-4o", 0.0, 4)
    assert (settings.sigma_low, settings.sigma_high, settings.max_retries) == (0.05, 0.2, 3)
    assert Llm.default_population_size(32) == 4 + round(3 * math.log(32)) == 14
