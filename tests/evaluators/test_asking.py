"""Kinds that ask: what all tasks ask is answered together, and one evaluator does the rest."""

from __future__ import annotations

import inspect
import pickle
import threading
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from evomerge.evaluators.asking.asked import AskLikelihood, AskOther, AskText, Message, Outsider
from evomerge.evaluators.asking.asking_kind import Judgement
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.evaluators.asking.respondent import EngineRespondent
from evomerge.evaluators.asking.rounds import Hearing, hear
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, GenomeError
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.evaluators import asking_double
from tests.evaluators.asking_double import CRITIC, PROMPTS, SLOW_CRITIC, TOKENS, with_echo


@pytest.fixture(autouse=True)
def _double_in_table():
    CRITIC.__init__(), SLOW_CRITIC.__init__()
    with with_echo():
        yield


class Watched(ENGINES["transformers"]):
    """Remembers what it was asked."""

    asked = ()
    kinds = ()

    def generate(self, asked):
        Watched.asked = (*Watched.asked, list(asked))
        return super().generate(asked)

    def log_likelihoods(self, requests, kind):
        Watched.kinds = (*Watched.kinds, kind)
        return super().log_likelihoods(requests, kind)


@pytest.fixture
def watched():
    Watched.asked = Watched.kinds = ()
    return Watched


def made(*given, engine=ENGINES["transformers"], **settings):
    tasks = [Task.model_validate(one) for one in given]
    return evaluator_for(tasks, EvaluationBlock(**settings), engine)


TWO = ({"echo": {"name": "one"}}, {"echo": {"name": "two", "prompts": "2"}, "metric": "surprise"})


def test_equal_requests_of_all_tasks_are_answered_once_and_round_by_round(live_model, watched):
    evaluation = made(*TWO, engine=watched).evaluate(live_model)
    assert [len(asked) for asked in watched.asked] == [3, 3]  # of 4 and 2 documents
    assert watched.kinds == ("later continuations",)  # what opens a trial stays as it is
    assert [one.key.metric for one in evaluation.metrics[:2]] == ["letters", "surprise"]
    by_task = {}
    for one in evaluation.documents:
        by_task.setdefault(one.task, []).append(one)
    assert [one.values for one in by_task["two"]] == [one.values for one in by_task["one"][:2]]
    assert by_task["one"][0].values == by_task["one"][3].values
    assert [one.doc_id for one in by_task["one"]] == [0, 1, 2, 3]
    assert all(one.written is None for one in evaluation.documents)  # two texts were written
    assert pickle.loads(pickle.dumps(evaluation)) == evaluation  # as it comes from a worker


def test_others_are_asked_all_at_once_and_those_who_wait_beside_the_model(live_model):
    evaluation = made(*TWO).evaluate(live_model)
    texts = {one.answer for one in evaluation.documents}
    assert [set(heard) for heard in CRITIC.heard] == [texts]
    assert len(CRITIC.heard[0]) == len(texts)
    assert (CRITIC.threads, SLOW_CRITIC.threads) == ([True], [False])


def test_what_opens_a_trial_is_the_same_to_the_engine_in_the_next_one(live_model, watched):
    evaluator = made(TWO[0], engine=watched)
    first = evaluator.evaluate(live_model)
    with torch.no_grad():
        live_model.module.get_input_embeddings().weight.mul_(-1)
    assert evaluator.evaluate(live_model) != first
    opening, _, again, _ = watched.asked
    assert all(one is other for one, other in zip(opening, again, strict=True))


def test_what_no_trial_opens_with_any_more_is_forgotten(live_model):
    respondent = EngineRespondent(
        ENGINES["transformers"](live_model.tokenizer), EvaluationBlock(), 0
    )
    respondent.bind(live_model.module, None, 1)
    first, second = AskLikelihood("the quick", " fox"), AskLikelihood("the lazy", " dog")
    (one, _), (two, _) = [respondent.answers([asked], 0)[0] for asked in (first, second)]
    assert list(respondent._opening[AskLikelihood]) == [(second, respondent.engine.max_length)]
    again = [likelihood for likelihood, _ in respondent.answers([second, first], 0)]
    assert again == pytest.approx([two, one], rel=1e-4)


def test_names_of_metrics_are_known_without_asking_anybody(live_model, watched):
    evaluator = made(*TWO, engine=watched)
    first = evaluator.first_documents(live_model)
    assert tuple(one.key for one in first) == evaluator.prepare()
    assert [one.higher_is_better for one in first] == [True, False]
    assert (watched.asked, CRITIC.heard, SLOW_CRITIC.heard) == ((), [], [])


def test_answers_are_shown_and_counted(live_model, monkeypatch):
    evaluation = made(*TWO).evaluate(live_model)
    assert [one.task for one in evaluation.samples] == ["one", "two", "one"]
    assert (evaluation.samples[0].prompt, evaluation.samples[0].target) == (PROMPTS[0], "nothing")
    assert evaluation.samples[0].answer.startswith(str(evaluation.documents[0].answer))
    one, two = evaluation.tallies
    assert (one.task, one.n_generated, two.n_generated, one.guess) == ("one", 8, 4, None)
    assert 0 < two.n_cut <= one.n_cut <= 8
    monkeypatch.setattr(asking_double.Echo, "reads_beginnings", True)
    assert [tally.n_cut for tally in made(*TWO).evaluate(live_model).tallies] == [0, 0]


def test_what_is_known_beforehand_follows_from_the_requests(live_model):
    evaluator = made(TWO[0], {"echo": {"name": "drawn", "temperature": 1}})
    greedy, drawn = evaluator.facts()
    (part,) = greedy.parts
    assert (part.rows_per_document, part.max_new_tokens, part.is_sampled) == (2.0, TOKENS, False)
    assert drawn.parts[0].is_sampled
    assert (greedy.n_documents, part.name) == (4, "one")
    (finding,) = made(TWO[0]).findings()
    assert str(finding) == "tasks[0].echo.prompts: it only echoes. Ask something."


def test_the_first_documents_stand_for_many(live_model, monkeypatch):
    monkeypatch.setattr(asking_double, "PROMPTS", ("dog",) * 40)
    (facts,) = made(TWO[0]).facts()
    assert (facts.n_documents, facts.parts[0].rows_per_document) == (40, 2.0)


def test_blanks_and_capitals_make_no_other_question(monkeypatch):
    found = []
    for prompt in ("A lazy  dog", "a LAZY dog", "a lazy fox"):
        monkeypatch.setattr(asking_double, "PROMPTS", (prompt,))
        (contents,) = made(TWO[0]).contents()
        found.append(contents.documents[0])
    (one, *rows), (other, *other_rows), (third, *_) = found
    assert one == other != third
    assert rows != other_rows


def test_drawn_texts_are_drawn_by_the_seed(live_model):
    task = {"echo": {"name": "drawn", "temperature": 5}}
    first, again = made(task).evaluate(live_model), made(task).evaluate(live_model)
    assert first == again
    assert first.documents[0].answer != made(TWO[0]).evaluate(live_model).documents[0].answer
    respondent = EngineRespondent(
        ENGINES["transformers"](live_model.tokenizer), EvaluationBlock(), 0
    )
    seeds = {respondent.generation(AskText("a", 5, (), 1.0, draw)).seed for draw in range(3)}
    assert len(seeds) == 3


def test_settings_that_no_genome_was_checked_for_are_told_as_a_mistake_of_the_task():
    with pytest.raises(GenomeError, match=r"tasks\[1\].echo.temperature: .*, got 'hot'. Run"):
        made(TWO[0], {"echo": {"temperature": "hot"}})


def test_a_document_that_cannot_be_judged_is_named(live_model):
    with pytest.raises(EvaluationError, match="document 0 of 'bad' cannot be judged: ZeroDiv"):
        made({"echo": {"name": "bad", "fails": True}}).evaluate(live_model)


def test_a_mixture_by_task_has_each_task_answered_by_its_model(live_model, model_folder):
    other = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    with torch.no_grad():
        other.get_input_embeddings().weight.mul_(-1)
    mixed, evaluator = replace(live_model, of_tasks={"two": other}), made(*TWO)
    found = evaluator.evaluate(mixed)
    ours = made(TWO[0]).evaluate(live_model).documents
    theirs = made(TWO[1]).evaluate(replace(live_model, module=other)).documents
    assert found.documents == (*ours, *theirs)
    assert evaluator.evaluate(mixed) == found


def test_prompts_too_long_for_the_model_are_told(live_model, monkeypatch):
    monkeypatch.setattr(asking_double, "PROMPTS", ("dog " * 3000, "dog"))
    (told,) = made(TWO[0]).warnings(live_model.tokenizer, live_model.module.config)
    assert "1 of the first 2 documents of task 'one' do not fit the " in told
    reader = PromptReader(live_model.tokenizer, EvaluationBlock())
    assert len(reader.prompt(AskText("dog " * 99, 5), 64)) == 59
    length, config = len(reader.context("dog")) + TOKENS, live_model.module.config
    monkeypatch.setattr(asking_double, "PROMPTS", ("dog",))
    for room, is_told in ((length, False), (length - 1, True)):
        monkeypatch.setattr(config, "max_position_embeddings", room)
        assert bool(made(TWO[0]).warnings(live_model.tokenizer, config)) == is_told
    monkeypatch.setattr(asking_double, "TOKENS", 9999)
    with pytest.raises(GenomeError, match="9999 tokens of an answer leave no room for a prompt"):
        made(TWO[0]).warnings(live_model.tokenizer, live_model.module.config)


CHAT = (Message("user", "one"), Message("assistant", "two"), Message("user", "three"))


@pytest.mark.parametrize(
    ("prompt", "is_plain", "text"),
    [
        ("one", False, "one"),
        ((Message("system", "be"), Message("user", "one")), False, "be\n\none"),
        (CHAT, False, "User: one\nAssistant: two\nUser: three\nAssistant:"),
        ("one", True, "one"),
    ],
)
def test_without_a_template_a_text_stands_alone_and_turns_have_their_speakers(
    live_model, prompt, is_plain, text
):
    reader = PromptReader(live_model.tokenizer, EvaluationBlock())
    assert reader.text(prompt, is_plain=is_plain) == text
    assert reader.stops(AskText(CHAT, 1, ("x",))) == ("x", "\nUser:")
    assert reader.stops(AskText("one", 1, ("x",))) == ("x",)
    with pytest.raises(GenomeError, match="has no chat template"):
        PromptReader(live_model.tokenizer, EvaluationBlock(apply_chat_template=True))


def test_prompts_and_continuations_are_in_tokens_what_lm_eval_makes_of_them(chat_model):
    settings = EvaluationBlock(system_instruction="be brief")
    tokenizer = chat_model.tokenizer
    reader, engine = PromptReader(tokenizer, settings), ENGINES["transformers"](tokenizer)
    theirs = LiveLanguageModel(engine)
    theirs.bind(chat_model.module)
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the dog"}]
    text = theirs.apply_chat_template(turns)
    assert reader.text("the dog") == text != reader.text("the dog", is_plain=True)
    asked = AskText("the dog", 5)
    assert reader.prompt(asked, 64) == theirs.prompt(text, {"max_gen_toks": 5}).tokens
    assert reader.stops(AskText(CHAT, 1)) == ()
    for context in ("the quick ", "the quick", ""):
        for continuation in (" brown fox", "brown"):
            ask = AskLikelihood(context, continuation, is_plain=True)
            request = type("Request", (), {"args": (context, continuation)})
            assert reader.continuation(ask, 64) == tuple(theirs.pair(request)), context


def test_a_text_begins_with_one_bos_whoever_writes_it(live_model):
    tokenizer = live_model.tokenizer
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos[0]} $A", special_tokens=[bos]
    )
    reader = PromptReader(tokenizer, EvaluationBlock())
    for text in ("the dog", f"{bos[0]}the dog"):
        found = reader.context(text, is_plain=True)
        assert (found[0], found.count(bos[1])) == (bos[1], 1), text


class Late(Outsider):
    """Answers when it is given up, and no sooner; not while it has not begun."""

    waits = True

    def __init__(self):
        self.was_asked, self.is_over = threading.Event(), threading.Event()
        self.has_begun, self.in_time = False, True

    def answers(self, asked, deadline):
        self.was_asked.wait(5)
        self.has_begun = True
        self.in_time = self.is_over.wait(5)
        return [0.0 for _ in asked]

    def give_up(self):
        (self.is_over if self.has_begun else self.was_asked).set()


def test_who_is_given_up_before_having_begun_is_waited_for_no_more():
    late = Late()

    class Interrupted:
        def answers(self, asked, turn):
            raise KeyboardInterrupt

    def asking():
        yield [AskText("a", 1), AskOther(late, "b")]

    hearing = Hearing("task", (0,), asking())
    with pytest.raises(KeyboardInterrupt):
        hear([hearing], Interrupted(), Deadline())
    assert late.in_time
    assert inspect.getgeneratorstate(hearing.asking) == inspect.GEN_CLOSED


def test_what_was_answered_is_not_asked_again_in_a_later_round():
    asked = []

    class Counting:
        def answers(self, requests, turn):
            asked.append(list(requests))
            return [one.prompt for one in requests]

    def asking():
        first = yield AskText("a", 1)
        again, other = yield [AskText("a", 1), AskText("b", 1)]
        return Judgement({"right": float((first, again, other) == ("a", "a", "b"))})

    hearing = Hearing("task", (0,), asking())
    hear([hearing], Counting(), Deadline())
    assert [[one.prompt for one in requests] for requests in asked] == [["a"], ["b"]]
    assert hearing.judgements[0].values == {"right": 1.0}
