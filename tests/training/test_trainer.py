from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evomerge.foundations.errors import GenomeError
from evomerge.optimizers.gradient.gradient_settings import GradientSettings, Prompts
from evomerge.optimizers.search_context import InMemory
from evomerge.training.descent import State
from evomerge.training.passes import OptionTexts, Pass, Text
from evomerge.training.prompt_texts import texts_of
from evomerge.training.teachers import Teachers
from evomerge.training.trainer import GradientTrainer, Lessons, _passes
from tests.tiny_models import tiny_tokenizer
from tests.training.tiny_mixtures import mixture_of, order_of_sums, somewhere

DRAWN = np.random.default_rng(5)
ANSWERS = {
    "short": [Text(tuple(DRAWN.integers(4, 96, 8).tolist()), 5) for _ in range(6)],
    "long": [Text(tuple(DRAWN.integers(4, 96, 12).tolist()), 7, 2.0) for _ in range(5)],
}
PROMPTS = [[Text(tuple(DRAWN.integers(4, 96, 9).tolist())) for _ in range(4)] for _ in range(3)]
TERMS = (
    *("nll", "kl", "mse", "entropy"),
    *("similarity", "overlap", "weighted_overlap", "l1", "l2"),
)
EVERYTHING = dict.fromkeys(TERMS, 1.0)


def trainer_of(mixture, artifacts=None, checkpoints=None, **settings):
    chosen = GradientSettings.model_validate(settings)
    space = mixture.coefficients._space
    recipes = [space.model_recipe(source.model) for source in space.definition.models]
    teachers = Teachers(mixture, recipes, chosen.teacher_top_k, artifacts)
    prompts = PROMPTS if chosen.losses.need_prompts else ()
    lessons = Lessons(lambda: ANSWERS, prompts)
    return GradientTrainer(mixture, lessons, chosen, teachers, checkpoints)


def total(trainer, values, answers, prompts=()):
    found, _ = trainer.gradient(values, answers, prompts)
    weights = trainer._settings.losses
    return sum(getattr(weights, name) * value for name, value in found.items())


@pytest.fixture(scope="module")
def mixture(family):
    return mixture_of(family.space(granularity="layer"))


@pytest.mark.parametrize(
    ("name", "top_k"), [*((name, None) for name in TERMS), ("kl", 12), ("mse", 12)]
)
def test_the_gradient_of_every_term_is_its_slope(mixture, name, top_k):
    trainer = trainer_of(
        mixture, losses={"nll": 0, name: 1.0}, teacher_top_k=top_k, cache_teachers=False
    )
    values = somewhere(mixture)
    answers = [ANSWERS["short"]] if name == "nll" else []
    prompts = list(enumerate(PROMPTS)) if trainer._lessons.prompts else []
    trainer._ask_teachers(list(trainer._steps(0)))
    _, gradient = trainer.gradient(values, answers, prompts)
    assert np.abs(gradient).max() > 0
    for index in np.argsort(-np.abs(gradient))[:4]:
        low, high = values.copy(), values.copy()
        low[index] -= 2e-3
        high[index] += 2e-3
        slope = total(trainer, high, answers, prompts) - total(trainer, low, answers, prompts)
        assert gradient[index] == pytest.approx(slope / 4e-3, rel=3e-2, abs=2e-3)


def test_terms_are_added_as_their_weights_say_whatever_the_passes(mixture):
    """So does each by hand: kl is T^2 times the mean over tokens, nll the mean over documents."""
    values = somewhere(mixture)
    answers = [ANSWERS["short"][:4], ANSWERS["short"][4:]]
    prompts = [(0, PROMPTS[0][:3]), (1, PROMPTS[1]), (0, PROMPTS[0][3:])]

    def found(passes, taught, **weights):
        trainer = trainer_of(mixture, losses=weights, teacher_top_k=None, cache_teachers=False)
        trainer._ask_teachers(list(trainer._steps(0)))
        return trainer.gradient(values, passes, taught)

    nll, kl = found(answers, [], nll=1), found([], prompts, nll=0, kl=1)
    both = found(answers, prompts, nll=0.5, kl=3)
    assert both[0] == pytest.approx({**nll[0], **kl[0]}, rel=1e-5)
    order = order_of_sums(mixture, 3 * kl[1])
    np.testing.assert_allclose(both[1], 0.5 * nll[1] + 3 * kl[1], rtol=0, atol=order)

    def log_probabilities(recipe, text, temperature):
        with torch.no_grad():
            logits = recipe.module(torch.tensor([text.tokens])).logits[0, :-1]
        return (logits[text.first - 1 :] / temperature).log_softmax(-1).double()

    space = mixture.coefficients._space
    each = []
    for source in (0, 1):
        teacher = mixture.of(space.model_recipe(space.definition.models[source].model))
        taught = [log_probabilities(teacher, text, 2.0) for text in PROMPTS[source]]
        student = mixture.at(values)
        for text, expected in zip(PROMPTS[source], taught, strict=True):
            own = log_probabilities(student, text, 2.0)
            each += (expected.exp() * (expected - own)).sum(-1).tolist()
    assert kl[0]["kl"] == pytest.approx(4 * np.mean(each), rel=1e-4)
    student = mixture.at(values)
    said = [
        -log_probabilities(student, text, 1.0).gather(1, torch.tensor(text.tokens[5:])[:, None])
        for text in ANSWERS["short"]
    ]
    assert nll[0]["nll"] == pytest.approx(np.mean([float(one.mean()) for one in said]), rel=1e-4)


def test_passes_of_a_step_give_the_gradient_of_one_pass(mixture):
    trainer = trainer_of(mixture)
    values = somewhere(mixture)
    texts = [*ANSWERS["short"], *ANSWERS["long"]]
    whole_terms, whole = trainer.gradient(values, [texts])
    terms, parts = trainer.gradient(values, [texts[:3], texts[3:7], texts[7:]])
    assert terms["nll"] == pytest.approx(whole_terms["nll"], rel=1e-5)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=order_of_sums(mixture, whole))


def test_a_choice_is_learned_by_the_likelihoods_that_lm_eval_compares(mixture):
    """Each option by its length; what is read beside it is taken away."""
    texts = [Text(tuple(DRAWN.integers(4, 96, n).tolist()), 4) for n in (6, 8, 7, 5, 6, 7)]
    plain = OptionTexts(tuple(texts[:3]), (1,), (2.0, 1.0, 3.0))
    less = OptionTexts(tuple(texts[:3]), (0, 2), (1.0, 1.0, 1.0), tuple(texts[3:]), share=2.0)
    trainer, values = trainer_of(mixture), somewhere(mixture)
    module = mixture.at(values).module
    with torch.no_grad():
        said = []
        for text in texts:
            logits = module(torch.tensor([text.tokens])).logits[0, text.first - 1 : -1]
            wanted = torch.tensor(text.tokens[text.first :])[:, None]
            said.append(float(logits.log_softmax(-1).gather(1, wanted).sum()))
    options, against = np.array(said[:3]), np.array(said[3:])
    odds = np.exp(options / [2.0, 1.0, 3.0]), np.exp(options - against)
    expected = [
        -np.log(odds[0][1] / odds[0].sum()),
        -np.log((odds[1][0] + odds[1][2]) / odds[1].sum()),
    ]
    found, gradient = trainer.gradient(values, [[plain, less]])
    assert found["nll"] == pytest.approx((expected[0] + 2 * expected[1]) / 2, rel=1e-4)
    index = int(np.abs(gradient).argmax())
    low, high = values.copy(), values.copy()
    low[index] -= 2e-3
    high[index] += 2e-3
    slope = total(trainer, high, [[plain, less]]) - total(trainer, low, [[plain, less]])
    assert gradient[index] == pytest.approx(slope / 4e-3, rel=3e-2, abs=2e-3)


def test_a_pass_holds_no_more_texts_than_the_batch_whatever_the_options(mixture):
    text = Text((5, 6, 7))
    three = OptionTexts((text,) * 3, (0,), (1.0,) * 3)
    found = list(_passes([text, three, three, text, text, three], 4))
    assert [len(one) for one in found] == [2, 2, 2]
    assert [sum(len(e.texts) for e in one) for one in found] == [4, 4, 4]
    assert [len(one) for one in _passes([three, three], 1)] == [1, 1]


def test_at_half_the_pace_the_first_step_is_half_as_long(mixture):
    trainer = trainer_of(mixture, batch_size=64, epochs=1)
    start = np.full(len(mixture.coefficients), 0.5)
    begun = mixture.coefficients.of(start)
    ends = [trainer.epoch(0, start, None, 0, pace).state for pace in (1.0, 0.5)]
    whole, half = (State.from_bytes(end).values - begun for end in ends)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-6)
    assert np.abs(whole).max() > 0


def test_tasks_count_by_their_weight_not_by_their_documents(mixture):
    trainer = trainer_of(mixture)
    drawn = trainer._drawn_answers(0)
    shares = {len(text.tokens): 0.0 for text in drawn}
    for text in drawn:
        shares[len(text.tokens)] += text.share / len(drawn)
    assert shares == pytest.approx({8: 1 / 3, 12: 2 / 3})


def test_every_epoch_draws_its_documents_anew(mixture):
    trainer = trainer_of(mixture, documents=3, batch_size=2, accumulation=2)
    steps = list(trainer._steps(0))
    assert [list(map(len, step.answers)) for step in steps] == [[2, 2], [2]]
    drawn = [{t.tokens for step in trainer._steps(seed) for own in step.answers for t in own}
             for seed in (0, 1)]  # fmt: skip
    assert len(drawn[0]) == len(drawn[1]) == 6
    assert drawn[0] != drawn[1]


def test_training_lowers_what_it_minimises_and_stays_in_the_space(mixture):
    trainer = trainer_of(mixture, losses={"nll": 1, "l2": 0.01}, epochs=6, batch_size=4)
    space = mixture.coefficients._space.space
    genotype, state, told = space.initial, None, []
    for epoch in range(6):
        lesson = trainer.epoch(epoch, genotype, state, seed=epoch)
        genotype, state = lesson.genotype, lesson.state
        assert ((genotype >= 0) & (genotype <= 1)).all()
        told.append(lesson.losses["nll"])
    assert told[-1] < told[0]
    assert State.from_bytes(state).step == 6 * 3


def test_an_epoch_that_goes_on_from_its_state_is_the_one_that_never_stopped(family):
    def lesson_after(trainers):
        genotype, state = np.full(len(mixtures[0].coefficients), 0.2), None
        for epoch, trainer in enumerate(trainers):
            lesson = trainer.epoch(epoch, genotype, state, seed=epoch)
            genotype, state = lesson.genotype, lesson.state
        return genotype, state

    mixtures = [mixture_of(family.space(granularity="layer")) for _ in range(2)]
    settings = {"losses": {"nll": 1, "kl": 0.5}, "batch_size": 4, "teacher_top_k": 12}
    artifacts = InMemory()
    one = trainer_of(mixtures[0], InMemory(), **settings)
    others = [trainer_of(mixture, artifacts, **settings) for mixture in mixtures]
    never_stopped, stopped = lesson_after([one, one]), lesson_after(others)
    np.testing.assert_array_equal(stopped[0], never_stopped[0])
    assert others[0]._teachers.n_tokens > 0
    assert others[1]._teachers.n_tokens == 0  # found in the run folder


def test_the_best_logits_of_a_teacher_are_the_source_models_own(mixture):
    space = mixture.coefficients._space
    recipe = space.model_recipe(space.definition.models[1].model)
    (said,) = Teachers(mixture, [recipe], 5, None).ask(0, PROMPTS[1][:1], 4)
    batch = Pass.of(PROMPTS[1][:1], torch.device("cpu"))
    with torch.no_grad():
        logits = batch.logits(mixture.of(recipe).module)
    torch.testing.assert_close(said.logits, logits.topk(5, dim=1).values)
    torch.testing.assert_close(said.among(logits), said.logits)


def test_every_term_can_be_on_at_once_with_mofo(mixture):
    trainer = trainer_of(mixture, losses=EVERYTHING, mofo=0.3, warmup=0.2, schedule="linear")
    lesson = trainer.epoch(0, mixture.coefficients._space.space.initial, None, seed=0)
    assert set(lesson.losses) == set(EVERYTHING)
    assert all(np.isfinite(list(lesson.losses.values())))


# Prompts


def test_prompts_are_read_from_json_lines_and_tasks(tmp_path):
    file = tmp_path / "prompts.jsonl"
    rows = [{"question": "the quick brown fox"}, {"question": "lazy dog", "other": "jugs"}]
    file.write_text("\n".join(map(json.dumps, rows)))
    tokenizer = tiny_tokenizer()

    def read(**fields):
        return texts_of([Prompts(**fields)], tokenizer, 6, ANSWERS)

    own = tuple(tokenizer(rows[0]["question"]).input_ids)[:6]
    assert read(file=str(file))[0].tokens == own
    assert len(read(file=str(file), limit=1)) == 1
    assert [len(text.tokens) for text in read(task="short", limit=2)] == [6, 6]
    with pytest.raises(GenomeError, match=r"a row of .* has no text under other\. Name the column"):
        read(file=str(file), column="other")
    with pytest.raises(GenomeError, match="no answers of a search task 'absent'"):
        read(task="absent")
    with pytest.raises(GenomeError, match=r"missing\.jsonl cannot be read"):
        read(file=str(tmp_path / "missing.jsonl"))
