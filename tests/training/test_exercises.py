"""What the documents teach: the best answers so far, else the targets as models write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.evaluators.questions import Answer, Question, Target
from evomerge.foundations.errors import GenomeError, LedgerError
from evomerge.nouns.evaluation import Document, Evaluation, Outcome, TrialState
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.search_context import InMemory
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in
from evomerge.training.best_answers import BestAnswers
from evomerge.training.exercises import Exercises, History
from evomerge.training.passes import OptionTexts, Text
from evomerge.training.right_targets import NAME, RightTargets
from evomerge.training.target_forms import Opinion, is_foreign, likeliest, opinion_of
from tests.training.tiny_mixtures import mixture_of, somewhere

PROMPT = (5, 6)
TARGETS = ((40, 2), (41, 2))  # in two forms


def question(doc_id, *, targets=TARGETS, higher=True, task="sums"):
    forms = [Answer(PROMPT, tokens) for tokens in targets]
    target = Target(len(forms), forms.__getitem__, lambda: True) if forms else None
    place = (task, doc_id)
    return Question(task, place, "score,none", higher, prompt=PROMPT, target=target)


class Past:
    """Trials that are over, each with the values and tokens of its documents."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.said: list[tuple[Document, ...]] = []

    def add(self, origin: str, *answers: tuple[float, tuple[int, ...] | None]) -> None:
        documents = tuple(
            Document("sums", i, {"score,none": value}, "", tokens)
            for i, (value, tokens) in enumerate(answers)
        )
        candidate = Candidate(len(self.trials), origin_in(origin), Recipe({"models": [origin]}))
        self.trials.append(Trial(candidate, Outcome(TrialState.COMPLETE, Evaluation(()))))
        self.said.append(documents)

    @property
    def history(self) -> History:
        return History(lambda: tuple(self.trials), lambda trial_id: self.said[trial_id])


def exercises(past, questions, *, form=0, monkeypatch=None, warned=None, told=None, **shares):
    if monkeypatch is not None:
        known = np.full(2, -9.0)
        known[form] = -1.0
        opinion = Opinion(known, known, -0.1)
        monkeypatch.setattr("evomerge.training.exercises.opinion_of", lambda *_: opinion)
    warn = [].append if warned is None else warned.append
    tell = [].append if told is None else told.append
    rights = RightTargets(InMemory(), tell)
    return Exercises(questions, shares, past.history, lambda recipe: recipe, warn, tell, 4, rights)


def learned(found, task="sums"):
    return [text.tokens[len(PROMPT) :] for text in found.now()[task]]


@pytest.fixture
def past():
    found = Past()
    found.add("base base", (0.0, (9, 2)), (0.0, (9, 2)), (0.0, (9, 2)), (0.0, (9, 2)))
    found.add("model weak", (1.0, (11, 2)), (1.0, (12, 2)), (0.0, (13, 2)), (0.0, (14, 2)))
    found.add("model strong", (1.0, (21, 2)), (0.0, (22, 2)), (1.0, (23, 2)), (0.0, (24, 2)))
    found.said[2] += (Document("sums", 4, {"score,none": 1.0}, "", (25, 2)),)
    return found


def test_the_right_answer_of_the_best_parent_is_learned_else_the_target(past, monkeypatch):
    found = exercises(past, [question(i) for i in range(5)], form=1, monkeypatch=monkeypatch)
    assert learned(found) == [(21, 2), (12, 2), (23, 2), (41, 2), (25, 2)]


def test_answers_are_renewed_by_better_ones_and_not_by_equal_ones(past, monkeypatch):
    questions = [question(i) for i in range(5)]
    found = exercises(past, questions, monkeypatch=monkeypatch)
    assert learned(found)[3] == (40, 2)
    past.add("optimizer, epoch 1", (1.0, (31, 2)), (1.0, (32, 2)), (0.0, (33, 2)), (1.0, (34, 2)))
    assert learned(found) == [(21, 2), (12, 2), (23, 2), (34, 2), (25, 2)]
    # So they are for a trainer that only comes now, as in a run that is continued.
    assert learned(exercises(past, questions, monkeypatch=monkeypatch))[3] == (34, 2)


def test_of_a_graded_metric_the_best_answer_above_the_mean_is_learned(monkeypatch):
    past = Past()
    past.add("model a", (0.2, (11,)), (0.6, (12,)), (0.1, (13,)))
    past.add("model b", (0.3, (21,)), (0.9, (22,)), (0.1, (23,)))
    questions = [question(0), question(1), question(2)]
    found = exercises(past, questions, monkeypatch=monkeypatch)
    assert learned(found) == [(40, 2), (22,), (40, 2)]  # the mean is 0.37
    bare = [question(i, targets=()) for i in range(3)]
    # Without a target the better answer teaches; where all are alike, nothing can be told.
    assert learned(exercises(past, bare, monkeypatch=monkeypatch)) == [(21,), (22,)]
    past.add("optimizer, epoch 1", (0.9, (31,)), (0.8, (32,)), (0.4, (33,)))
    assert learned(found) == [(31,), (22,), (33,)]


def test_where_less_is_better_the_lowest_value_is_the_best(monkeypatch):
    past = Past()
    past.add("model a", (0.0, (11,)), (3.0, (12,)))
    past.add("model b", (5.0, (21,)), (1.0, (22,)))
    questions = [question(i, higher=False) for i in range(2)]
    assert learned(exercises(past, questions, monkeypatch=monkeypatch)) == [(11,), (22,)]


def test_right_answers_of_all_models_are_right(monkeypatch):
    past = Past()
    past.add("model a", (1.0, (11, 2)))
    past.add("model b", (1.0, (21, 2)))
    assert learned(exercises(past, [question(0)], monkeypatch=monkeypatch)) == [(11, 2)]


def test_a_parent_that_failed_is_not_asked_for_its_opinion(monkeypatch):
    past, asked = Past(), []
    past.add("model a", (0.0, (11, 2)))
    past.add("model broken", (0.0, (21, 2)))
    past.trials[1] = replace(past.trials[1], outcome=Outcome(TrialState.FAILED))
    opinion = Opinion(np.array([-9.0, -1.0]), np.array([-9.0, -1.0]), None)
    monkeypatch.setattr(
        "evomerge.training.exercises.opinion_of", lambda module, *_: asked.append(module) or opinion
    )
    assert learned(exercises(past, [question(0)])) == [(41, 2)]
    assert asked == [past.trials[0].candidate.recipe]


def test_where_nothing_can_be_learned_it_is_said(monkeypatch):
    past = Past()
    past.add("model a", (0.0, (11, 2)))
    with pytest.raises(GenomeError, match="no model gave one"):
        exercises(past, [question(0, targets=())], monkeypatch=monkeypatch).now()
    with pytest.raises(GenomeError, match="no model gave one"):
        exercises(past, [question(0)], monkeypatch=monkeypatch, sums=0.0).now()


def test_tasks_that_teach_nothing_are_named_once(monkeypatch):
    past, told = Past(), []
    past.add("model a", (1.0, (11, 2)))
    bare = question(0, targets=(), task="essays")
    shares = {"sums": 1.0, "essays": 1.0, "puzzles": 2.0, "unwanted": 0.0}
    found = exercises(past, [question(0), bare], monkeypatch=monkeypatch, told=told, **shares)
    assert [*found.now()] == [*found.now()] == ["sums"]
    (sentence,) = told
    assert sentence.startswith("essays, puzzles: no document teaches (no option, target or")
    exercises(past, [question(0)], monkeypatch=monkeypatch, told=told, sums=1.0).now()
    assert len(told) == 1


def test_answers_recorded_without_their_tokens_are_an_error(past, monkeypatch):
    past.add("optimizer, epoch 1", (1.0, (31, 2)), (1.0, None))
    questions = [question(i) for i in range(5)]
    with pytest.raises(LedgerError, match=r"trial 3: document 1 of sums .* without the tokens"):
        exercises(past, questions, monkeypatch=monkeypatch).now()
    repeated = [replace(one, is_repeated=True) for one in questions]  # whose values are of several
    exercises(past, repeated, monkeypatch=monkeypatch).now()


def test_options_are_learned_as_a_choice(monkeypatch):
    answers = (Answer(PROMPT, (7,)), Answer(PROMPT, (8, 9)))
    chosen = Question("quiz", ("quiz", 0), "acc_norm,none", True, answers, (1,), (1.0, 4.0))
    (found,) = exercises(Past(), [chosen], quiz=2.0).now()["quiz"]
    assert isinstance(found, OptionTexts)
    assert [one.tokens for one in found.options] == [(5, 6, 7), (5, 6, 8, 9)]
    assert (found.right, found.lengths, found.share) == ((1,), (1.0, 4.0), 2.0)


def test_targets_that_every_model_finds_foreign_are_told_of_once(past, monkeypatch):
    warned = []
    found = exercises(past, [question(i) for i in range(4)], monkeypatch=monkeypatch, warned=warned)
    assert warned == []  # in the likeliest form a token is e^-1, its own right answers' e^-0.1
    opinion = Opinion(np.array([-9.0, -9.0]), np.array([-3.0, -3.0]), -0.1)
    monkeypatch.setattr("evomerge.training.exercises.opinion_of", lambda *_: opinion)
    found.now(), found.now()
    (message,) = warned
    assert message.startswith("sums: every model finds its own right answers far likelier")
    assert "which are learned for 1 document that nobody answered right" in message


def test_a_form_is_the_one_that_some_parent_finds_likeliest():
    knows, knows_not = np.array([-1.0, -3.0]), np.array([-30.0, -9.0])
    opinions = [Opinion(knows, knows, -0.5), Opinion(knows_not, knows_not, None)]
    assert likeliest(opinions) == 0
    assert not is_foreign(opinions, 0)
    assert is_foreign(opinions, 1)  # of those who know: by more than a third per token
    assert not is_foreign([opinions[1]], 1)


def test_a_parent_finds_what_it_wrote_likelier_than_the_same_after_a_blank(family):
    mixture = mixture_of(family.space())
    module = mixture.at(somewhere(mixture)).module
    questions, own = [], []
    for doc_id in range(3):
        prompt = tuple(range(5 + doc_id, 12 + doc_id))
        written = []
        for _ in range(3):
            with torch.no_grad():
                logits = module(torch.tensor([[*prompt, *written]])).logits[0, -1]
            written.append(int(logits.argmax()))
        other = int(logits.argmin())
        answers = (Answer(prompt, (other, *written)), Answer(prompt, tuple(written)))
        place = ("sums", doc_id)
        target = Target(2, answers.__getitem__, lambda: True)
        questions.append(Question("sums", place, "score,none", True, prompt=prompt, target=target))
        own.append(tuple(written) if doc_id else None)
    found = opinion_of(module, questions, own, 2)
    assert likeliest([found]) == 1
    assert found.own == pytest.approx(found.per_token[1], rel=1e-4)
    text = Text((*questions[1].prompt, *own[1]), len(questions[1].prompt))
    with torch.no_grad():
        each = module(torch.tensor([text.tokens])).logits[0, text.first - 1 : -1].log_softmax(-1)
    assert float(each.max(-1).values.sum()) == pytest.approx(
        float(each.gather(1, torch.tensor(own[1])[:, None]).sum()), rel=1e-5
    )


def test_among_equal_answers_one_that_ended_by_itself_is_learned():
    ended, cut = (7, 8), (9, 9, 9)
    wanted = replace(question(0), max_tokens=3)
    best = BestAnswers([wanted])
    for tokens in (cut, ended):
        best.see([Document(*wanted.document, {wanted.metric: 1.0}, "x", tokens)], is_baseline=True)
    assert best.right(wanted) == ended


@pytest.mark.parametrize(("value", "is_right"), [(-1.0, False), (1.0, True)])
def test_the_worst_of_a_metric_is_no_full_mark(value, is_right):
    wanted = question(0)
    best = BestAnswers([wanted])
    best.see([Document(*wanted.document, {wanted.metric: value}, "x", (7,))], is_baseline=True)
    assert (best.right(wanted) is not None) == is_right


class Judge:
    """Whose mind changes, and who counts."""

    def __init__(self):
        self.n_asked = 0

    def __call__(self):
        self.n_asked += 1
        return self.n_asked % 2 == 1


def judged(doc_id, judge):
    one = question(doc_id)
    return replace(one, target=replace(one.target, is_right=judge, is_judged=True))


def test_a_judge_is_asked_once_for_each_target_that_may_be_learned(past, monkeypatch):
    artifacts, judge, told = InMemory(), Judge(), []
    questions = [judged(i, judge) for i in range(5)]
    found = exercises(past, questions, monkeypatch=monkeypatch)
    found._rights = RightTargets(artifacts, told.append)
    first = learned(found)
    asked = judge.n_asked
    assert asked <= 5
    assert told == [
        "sums: its own code is asked, once for each target that may be learned, whether that is "
        "right"
    ]
    assert learned(found) == first
    again = exercises(past, questions, monkeypatch=monkeypatch)
    again._rights = RightTargets(artifacts, told.append)  # of a run that goes on
    assert learned(again) == first
    assert (judge.n_asked, len(told)) == (asked, 1)
    for broken in (b"[]", b'{"a": true}', b'{"3": true}', b'{"[]": true}', b"\xff"):
        artifacts.keep(NAME, broken)
        with pytest.raises(LedgerError, match="not what tasks said of their targets"):
            RightTargets(artifacts, told.append)


def test_where_models_know_every_answer_nobody_judges_targets(monkeypatch):
    past, judge = Past(), Judge()
    past.add("model a", (1.0, (11, 2)), (1.0, (12, 2)))
    questions = [judged(i, judge) for i in range(2)]
    assert learned(exercises(past, questions, monkeypatch=monkeypatch)) == [(11, 2), (12, 2)]
    assert judge.n_asked == 0


def test_of_the_forms_of_a_target_one_alone_is_made_and_only_once(past, monkeypatch):
    made = []

    def form(index):
        made.append(index)
        return Answer(PROMPT, TARGETS[index])

    one = question(3)
    questions = [*map(question, range(3)), replace(one, target=replace(one.target, form=form))]
    found = exercises(past, questions, form=1, monkeypatch=monkeypatch)
    assert learned(found)[3] == learned(found)[3] == (41, 2)
    assert made == [1]
