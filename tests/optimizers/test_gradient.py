from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from evomerge.foundations.errors import GenomeError, RunError
from evomerge.genome.schema import Genome
from evomerge.nouns.space import Choice, Real, Space
from evomerge.optimizers.chain import Chain, Link
from evomerge.optimizers.gradient.gradient_settings import GradientSettings
from evomerge.optimizers.gradient.learner import Gradient
from evomerge.optimizers.gradient.lessons import from_bytes, name_of, to_bytes
from evomerge.optimizers.gradient.prompt_rows import refuse_unreadable
from evomerge.optimizers.random_search import RandomSearch
from evomerge.optimizers.search_context import InMemory, Lesson, SearchContext
from tests.optimizers.labels import labels_of
from tests.optimizers.toy_trainer import ToyTrainer

SPACE = Space((Real("weight[a]", 0.0, 1.0, initial=0.9), Real("weight[b]", 0.0, 1.0)))


def optimizer(artifacts=None, trainer=None, is_told=True, context=None, **settings):
    context = SearchContext(
        artifacts=artifacts or InMemory(),
        trainer=(lambda _: trainer) if trainer else None,
        **(context or {}),
    )
    one = Gradient(SPACE, seed=0, settings=GradientSettings(**settings), context=context)
    if is_told:
        one.tell(SPACE.initial[None], np.array([9.0]))
    return one


def step(one, loss=1.0):
    asked = one.ask()
    one.tell(asked, np.array([loss]))
    return asked[0]


def genome(**fields):
    definition = {
        "models": ["org/a", "org/b"],
        "base_model": "org/base",
        "merge_method": "task_arithmetic",
        **fields.pop("genome", {}),
    }
    return Genome.model_validate({"genome": definition, "tasks": ["arc_easy"], **fields})


def obstacles(space=SPACE, settings=None, **fields):
    settings = GradientSettings.model_validate(settings or {})
    return [str(p) for p in Gradient.obstacles(space, genome(**fields), settings)]


def test_each_epoch_is_a_trial_and_the_last_ends_the_search():
    one = optimizer(trainer=ToyTrainer(), epochs=3)
    for epoch in (1, 2, 3):
        assert not one.is_finished
        assert one.activity == f"epoch {epoch} of 3: training"
        step(one)
        assert labels_of(one) == (f"epoch {epoch}",)
    assert one.is_finished


def test_what_was_learned_once_is_recalled_and_never_learned_again():
    artifacts, first, second = InMemory(), ToyTrainer(), ToyTrainer()
    one = optimizer(artifacts, first)
    asked = [step(one) for _ in range(3)]
    again = optimizer(artifacts, second)
    assert again.activity == ""
    np.testing.assert_array_equal([step(again) for _ in range(3)], asked)
    assert (first.epochs, second.epochs) == ([0, 1, 2], [])
    np.testing.assert_array_equal(step(again), step(one))
    assert second.epochs == [3]


def test_people_hear_of_an_epoch_that_was_kept_for_another_place():
    artifacts, trainer = InMemory(), ToyTrainer()
    optimizer(artifacts, ToyTrainer()).ask()
    kept = from_bytes(artifacts.recall(name_of(1)), "")
    artifacts.keep(name_of(1), to_bytes(replace(kept, after=2)))
    one = optimizer(artifacts, trainer, epochs=3)
    assert one.activity == "epoch 1 of 3: training"
    one.ask()
    assert trainer.epochs == [0]


def test_an_epoch_is_kept_before_anyone_hears_of_it():
    class Full(InMemory):
        def keep(self, name, content):
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        optimizer(Full(), ToyTrainer()).ask()


class Still:
    """Learns nothing."""

    def epoch(self, index, genotype, state, seed, pace):
        return Lesson(genotype, b"", {}, {"merge_method": "passthrough"})


def test_it_begins_at_the_best_trial_made_elsewhere():
    one = optimizer(trainer=Still())
    elsewhere = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    one.tell(elsewhere, np.array([2.0, 1.0, np.inf]))
    np.testing.assert_array_equal(step(one), [0.3, 0.4])


class Watched(ToyTrainer):
    """Remembers where each epoch began, and at which pace."""

    def __init__(self):
        super().__init__()
        self.begun, self.lessons = [], []

    def epoch(self, index, genotype, state, seed, pace=1.0):
        ends = [None, *(lesson.state for lesson in self.lessons)]
        self.begun.append((ends.index(state), pace))
        if state is None:
            assert genotype.tolist() == [0.8, 0.8]
        self.lessons.append(super().epoch(index, genotype, state, seed, pace))
        return self.lessons[-1]


@pytest.mark.parametrize(
    ("losses", "begun"),
    [
        ([0.5, 0.4, 0.3], [(0, 1), (1, 1), (2, 1), (3, 1)]),
        # One that scores less is followed while the next ones score more and more,
        ([2.0, 1.5, 0.9, 0.8], [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]),
        # and else given up with those that followed it, each time at half the pace,
        ([2.0, 1.5, 1.6, 0.9], [(0, 1), (1, 1), (2, 1), (0, 0.5), (4, 1)]),
        ([2.0, 2.0, 3.0, 3.0, 9.0], [(0, 1), (1, 1), (0, 0.5), (3, 0.5), (0, 0.25), (5, 0.25)]),
        # as is one that cannot be scored; what is as good as the best is as good as that.
        ([0.5, np.inf, 0.5, 0.4], [(0, 1), (1, 1), (1, 0.5), (3, 1), (4, 1)]),
        ([np.inf, 1.0], [(0, 1), (0, 0.5), (2, 1)]),
    ],
)
def test_what_loses_is_taken_back_and_the_next_epoch_begins_at_the_best(losses, begun):
    artifacts, trainer = InMemory(), Watched()
    one = optimizer(artifacts, trainer, epochs=9)
    one.tell(np.array([[0.8, 0.8]]), np.array([1.0]))
    asked = [step(one, loss).tolist() for loss in losses]
    one.ask()
    assert trainer.begun == begun
    kept = [from_bytes(artifacts.recall(name_of(n)), "") for n in range(1, len(losses) + 1)]
    assert [lesson.to_beat for lesson in kept] == [
        min([1.0, *losses[:n]]) for n in range(len(losses))
    ]
    assert [lesson.after for lesson in kept] == [epoch for epoch, _ in begun[:-1]]
    again = optimizer(artifacts, Watched(), epochs=9)  # what was kept is taken back alike
    again.tell(np.array([[0.8, 0.8]]), np.array([1.0]))
    assert [step(again, loss).tolist() for loss in losses] == asked
    assert again._tip.epoch == begun[-1][0]


ASK = None


@pytest.mark.parametrize(
    ("calls", "begun"),
    [
        # The next one goes on from the last, whose score comes later,
        ([ASK, ASK, (1, 0.5), (2, 0.7), ASK], [(0, 1), (1, 1), (2, 1)]),
        # and all that stands on one that led nowhere is given up with it.
        (
            [ASK, ASK, (1, 0.5), (2, 0.7), ASK, ASK, (3, 0.8), ASK, (4, 0.9), ASK],
            [(0, 1), (1, 1), (2, 1), (3, 1), (1, 0.5), (5, 0.5)],
        ),
        # What was given up is taken up again where it is the best;
        (
            [ASK, ASK, ASK, (1, np.inf), ASK, (2, 0.4), ASK, (4, 9.0), (3, 0.5), ASK],
            [(0, 1), (1, 1), (2, 1), (0, 0.5), (2, 1), (5, 1)],
        ),
        # what the best stands on leads somewhere, whatever it scores.
        ([ASK, ASK, (2, 0.3), (1, 2.0), ASK], [(0, 1), (1, 1), (2, 1)]),
        ([ASK, ASK, ASK, (2, 2.0), (1, 3.0), (3, 0.3), ASK], [(0, 1), (1, 1), (2, 1), (3, 1)]),
    ],
)
def test_epochs_are_trained_while_others_are_scored(calls, begun):
    artifacts, trainer = InMemory(), Watched()

    def search(trainer):
        one = optimizer(artifacts, trainer, epochs=9)
        one.tell(np.array([[0.8, 0.8]]), np.array([1.0]))
        asked = {}
        for call in calls:
            assert one.can_ask
            if call is ASK:
                asked[len(asked) + 1] = one.ask()
            else:
                one.tell(asked[call[0]], np.array([call[1]]))
        return [*asked.values()]

    found = search(trainer)
    assert trainer.begun == begun
    again = Watched()
    np.testing.assert_array_equal(search(again), found)
    assert again.begun == []  # nobody trains what was kept


def test_what_was_trained_on_from_elsewhere_is_trained_anew():
    """It was kept, and the run ended before anybody was asked to score it."""
    artifacts = InMemory()
    one = optimizer(artifacts, ToyTrainer())
    first = one.ask()
    one.ask()
    trainer = ToyTrainer()
    again = optimizer(artifacts, trainer)
    again.ask()
    again.tell(first, np.array([np.inf]))
    again.ask()
    assert trainer.epochs == [1]
    assert from_bytes(artifacts.recall(name_of(2)), "").after == 0


def test_no_epoch_is_trained_before_its_start_is_scored():
    one = optimizer(trainer=ToyTrainer(), is_told=False)
    start = one.ask()
    assert not one.can_ask
    one.tell(start, np.array([1.0]))
    one.ask()
    assert one.can_ask


@pytest.mark.parametrize("start", [[0.9, 0.5], [0.5, 0.5], [0.0, 1.0]])
def test_models_that_are_out_under_one_point_are_told_apart(start):
    one = optimizer(trainer=Still(), is_told=False)
    one.tell(np.array([start]), np.array([9.0]))
    first, second = one.ask(), one.ask()
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(first, second, atol=1e-12)
    one.tell(second, np.array([0.2]))
    one.tell(first, np.array([0.3]))
    assert (one._best.epoch, one._best.loss) == (2, 0.2)


def test_a_link_that_cannot_train_on_is_left_when_all_of_it_is_told():
    class Failing(ToyTrainer):
        def epoch(self, index, *arguments):
            if index == 1:
                raise RunError("no memory")
            return super().epoch(index, *arguments)

    def make(space, context):
        return Gradient(space, seed=0, settings=GradientSettings(epochs=3), context=context)

    def draw(space, context):
        return RandomSearch(space, seed=0, context=context)

    told = []
    links = [
        Link("gradient", Gradient, make, 3, is_optional=True),
        Link("random", RandomSearch, draw, 2),
    ]
    context = SearchContext(trainer=lambda _: Failing(), notify=told.append)
    chain = Chain(links, SPACE, seed=0, context=context)
    chain.tell(SPACE.initial[None], np.array([9.0]))
    first = chain.ask()
    assert chain.can_ask
    assert chain.ask().shape == (0, 2)
    assert not chain.can_ask
    assert told == []
    chain.tell(first, np.array([1.0]))
    assert chain.can_ask
    step(chain)
    assert labels_of(chain) == ("random",)
    assert told == ["gradient cannot go on, random takes its place: no memory."]


def test_people_hear_of_epochs_that_are_taken_back():
    one = optimizer(trainer=ToyTrainer(), epochs=5)
    one.tell(np.array([[0.8, 0.8]]), np.array([1.0]))
    for loss in (0.5, 0.7, 0.8):
        step(one, loss)
    assert one.activity == "epoch 4 of 5: training anew, 2 epochs taken back"


def test_a_start_that_nobody_scored_is_a_trial_that_the_first_epoch_must_beat():
    trainer = ToyTrainer()
    one = optimizer(trainer=trainer, is_told=False, epochs=2)
    assert one.activity == ""
    np.testing.assert_allclose(step(one, 0.5), [0.9, 0.5])
    assert (labels_of(one), trainer.epochs, one.recipe_config(0)) == (("start",), [], None)
    assert one.is_at_start
    assert one.activity == "epoch 1 of 2: training"
    step(one, 0.7)
    assert not one.is_at_start
    step(one, 0.8)  # worse still: both are taken back
    assert (one._best.epoch, one._tip.epoch, one.is_finished) == (0, 0, True)
    np.testing.assert_allclose(one._tip.genotype, [0.9, 0.5])


def test_from_a_start_that_failed_anything_that_scores_is_better():
    artifacts = InMemory()
    one = optimizer(artifacts, ToyTrainer(), is_told=False)
    step(one, np.inf)
    step(one, 0.7)
    assert one._best.epoch == 1
    assert from_bytes(artifacts.recall(name_of(1)), "").to_beat is None


ELSEWHERE = np.array([[0.3, 0.4]])


@pytest.mark.parametrize(
    ("context", "loss", "begun"),
    [
        # The start that the genome names stays the start, whatever is better.
        ({"keeps_start": True}, 3.0, [0.9, 0.5]),
        # That of a chain's next link is the best trial, or the nearest point to its model,
        ({"begins_at_best": True}, 0.5, [0.9, 0.5]),
        # which may be no good: what is better is kept.
        ({"begins_at_best": True}, 3.0, [0.3, 0.4]),
    ],
)
def test_the_start_it_is_given_is_tried_before_it_is_left(context, loss, begun):
    one = optimizer(trainer=Still(), is_told=False, context=context)
    one.tell(ELSEWHERE, np.array([1.0]))
    np.testing.assert_allclose(step(one, loss), [0.9, 0.5])
    assert labels_of(one) == ("start",)
    np.testing.assert_allclose(step(one), begun)
    assert labels_of(one) == ("epoch 1",)


def test_a_given_start_that_was_told_is_not_tried_again():
    one = optimizer(trainer=Still(), context={"begins_at_best": True})
    one.tell(ELSEWHERE, np.array([1.0]))
    np.testing.assert_allclose(step(one), [0.9, 0.5])
    assert (labels_of(one), one._best.loss) == (("epoch 1",), 1.0)


def test_a_result_that_is_no_point_is_tried_as_its_own_recipe():
    artifacts = InMemory()
    one = optimizer(artifacts, Still())
    one.ask()
    assert one.recipe_config(0) == {"merge_method": "passthrough"}
    again = optimizer(artifacts, Still())
    again.ask()
    assert again.recipe_config(0) == {"merge_method": "passthrough"}


def test_a_folder_that_is_gone_is_restored_before_its_trial_is_asked_for(tmp_path):
    class Writing(Still):
        restored = 0

        def epoch(self, index, genotype, state, seed, pace):
            return replace(
                super().epoch(index, genotype, state, seed, pace), folder=str(tmp_path / "m")
            )

        def restore(self, lesson):
            self.restored += 1
            (tmp_path / "m").mkdir()
            assert lesson.folder == str(tmp_path / "m")

    artifacts, trainer = InMemory(), Writing()
    optimizer(artifacts, trainer).ask()
    for _ in range(2):
        optimizer(artifacts, trainer).ask()
    assert trainer.restored == 1


def test_without_a_model_it_cannot_begin():
    with pytest.raises(RunError, match="there is no model to train"):
        optimizer().ask()


def test_what_it_can_train_meets_no_obstacle():
    assert obstacles() == []
    assert obstacles(genome={"merge_method": "linear"}) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"genome": {"merge_method": "ties"}}, "name: ties has no useful gradient"),
        ({"settings": {"losses": {"kl": 1}}}, "prompts: kl, mse and entropy read prompts of each"),
        ({"settings": {"losses": {"nll": 0}}}, "losses: every loss is 0"),
        (
            {"tasks": [{"name": "arc_easy", "weight": -1}]},
            "losses: no search task has a weight above 0",
        ),
        (
            {"settings": {"prompts": {"org/a": [{"file": "no/such.jsonl"}]}}},
            "prompts: there is no file no/such.jsonl",
        ),
        (
            {"settings": {"prompts": {"org/a": [{"task": "holdout"}]}}},
            "prompts: 'holdout' is none of the search tasks (arc_easy)",
        ),
        ({"settings": {"prompts": {"org/c": []}}}, "prompts: 'org/c' is none of the models"),
        (
            {"settings": {"losses": {"weighted_overlap": 1}}, "genome": {"merge_method": "linear"}},
            "losses: weighted_overlap measures angles from a base",
        ),
        (
            {"space": Space((*SPACE, Real("lambda", 0.2, 2.0)))},
            "name: lambda cannot vary here: gradient learns weights only",
        ),
        ({"space": Space((*SPACE, Choice("normalize", (True, False))))}, "normalize cannot vary"),
    ],
)
def test_what_it_cannot_train_is_refused_with_what_to_use_instead(fields, said):
    found = obstacles(**fields)
    assert any(said in problem for problem in found), found
    assert all(problem.count(". ") >= 1 for problem in found), found  # what to do instead


def test_prompts_stand_in_one_place():
    with pytest.raises(ValidationError, match="give one of file, task and dataset"):
        GradientSettings.model_validate({"prompts": {"org/a": [{"file": "a", "task": "b"}]}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\nnot json\n', r"prompts.jsonl:2 is no JSON"),
        ('{"text": "a"}\n{"words": "b"}\n', r"a row of .*prompts.jsonl has no text under text or"),
    ],
)
def test_files_of_prompts_are_read_to_their_end_before_a_run(tmp_path, content, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(GenomeError, match=message):
        refuse_unreadable(path, None)


def test_the_block_with_the_originals_training_in_the_docs_can_be_read():
    page = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()
    (text,) = re.findall(r"```yaml\n(optimizer:\n  name: gradient\n.*?)```", page, re.DOTALL)
    block = yaml.safe_load(text)["optimizer"]
    assert block.pop("name") == "gradient"
    read = GradientSettings.model_validate(block)
    assert (read.granularity, read.losses.nll, read.losses.similarity) == ("column", 0, 0.01)
    assert read.losses.kl == len(read.prompts)  # a sum over models, of what is a mean here
    assert (read.learning_rate, read.schedule, read.epochs) == (0.001, "constant", 1)
    assert (read.batch_size, read.mofo, read.weight_decay) == (1, 0.3, 0.01)
    assert (read.temperature, read.clip, read.teacher_top_k) == (2, 1, 128)


@pytest.mark.parametrize(
    ("nearest", "begun"),
    [
        (2.0, [0.9, 0.5]),  # the nearest point to the checkpoint is worse than a parent,
        (0.5, [0.7, 0.1]),  # or better
    ],
)
def test_after_columns_or_tensors_a_link_that_trains_tries_the_point_nearest_to_them(
    nearest, begun
):
    class Columns(Still):
        def epoch(self, *arguments):
            return replace(super().epoch(*arguments), genotype=np.array([0.7, 0.1]))

    class Plain(Still):
        def epoch(self, *arguments):
            return replace(super().epoch(*arguments), config=None)

    trainers = [Columns(), Plain()]
    settings = GradientSettings(epochs=1)

    def link(trainer):
        def make(space, context):
            context = replace(context, trainer=lambda _: trainer)
            return Gradient(space, seed=0, settings=settings, context=context)

        return Link("gradient", Gradient, make, 1)

    chain = Chain([link(one) for one in trainers], SPACE, seed=0)
    chain.tell(SPACE.initial[None], np.array([1.0]))
    np.testing.assert_allclose(step(chain, 0.1), [0.7, 0.1])  # the columns are far better
    np.testing.assert_allclose(step(chain, nearest), [0.7, 0.1])
    assert labels_of(chain) == ("gradient, start",)
    assert chain.recipe_config(0) is None
    np.testing.assert_allclose(step(chain), begun)
    assert labels_of(chain) == ("gradient, epoch 1",)
