"""Gradient searches as users run them: real models, real tasks, one run folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from evomerge.cli.main import main
from evomerge.compiler.examine import compile_genome
from evomerge.compiler.make_trainer import TrainerMaker
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import GenomeError, LedgerError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.merging.build import build
from evomerge.nouns.events import Proposing, TrialFinished
from evomerge.nouns.trial import Candidate, Trial
from evomerge.optimizers.gradient.training_section import training_of, training_section
from evomerge.recipe.plain import Recipe
from evomerge.report.exporting import exports
from evomerge.report.page import report_html
from evomerge.run.chosen import trial_of, winners_of
from evomerge.run.ledger.old_origins import origin_in
from evomerge.run.recorded_run import load_run
from evomerge.training.mixture import Mixture
from evomerge.training.trainer import GradientTrainer
from tests.end_to_end.conftest import GENOME, make_workplace
from tests.killed import history, killed_at_random, killed_run, real_run, whole_run
from tests.merging.built import build_in_process
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own
from tests.tiny_models import tiny_family

CMA = "{name: cma_es, budget: 6, population_size: 4}"
TRAINED = "{name: gradient, epochs: 3, batch_size: 4, budget: 5}"
N_BASELINES = 4
BLOCK = {"models": ["a", "c"], "base_model": "b", "merge_method": "task_arithmetic"}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradient_workplace")
    tiny_family(folder / "models")
    return folder


@pytest.fixture
def workplace(template, tmp_path, monkeypatch):
    folder = make_workplace(template, tmp_path / "workplace")
    (folder / "genome.yml").write_text(GENOME.replace(CMA, TRAINED))
    monkeypatch.chdir(folder)
    return folder


def begin(folder, *overrides, hear=None):
    genome, source = load_genome(folder / "genome.yml", overrides)
    compiled = compile_genome(genome, source, Permissions(), folder / "run")
    return search_for(compiled, folder / "run", hear=hear)


def test_every_epoch_is_a_trial_and_a_continued_run_trains_nothing_again(workplace, monkeypatch):
    search = begin(workplace)
    events = list(search.run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [str(e.candidate.origin) for e in asked] == [f"optimizer, epoch {n}" for n in (1, 2, 3)]
    assert len({e.candidate.recipe.digest for e in asked}) == 3
    told = [e.activity for e in events if isinstance(e, Proposing)]
    assert told == [f"epoch {n} of 3: training" for n in (1, 2, 3)]
    before = history(workplace / "run")
    (workplace / "run" / "best.yml").unlink()

    def trained_again(*_):
        pytest.fail("trained again")

    monkeypatch.setattr(GradientTrainer, "epoch", trained_again)
    list(begin(workplace).run())
    assert history(workplace / "run") == before


@pytest.mark.slow
def test_every_step_is_told_and_what_an_epoch_took_is_kept_and_shown(workplace):
    heard = []
    prompts = (
        "optimizer.losses={nll: 1, kl: 0.5}",
        "optimizer.prompts={models/model_1: [{task: tiny_search}], "
        "models/model_2: [{file: tasks/search.jsonl, limit: 5}]}",
    )
    list(begin(workplace, *prompts, hear=heard.append).run())
    heard = [event for event in heard if isinstance(event, Proposing)]
    taught = [event for event in heard if "reads its prompts" in event.activity]
    steps = [event for event in heard if event not in taught]
    assert {event.share for event in taught} == {0.0}
    n_steps = len(steps) // 3
    assert [event.share for event in steps] == 3 * [n / n_steps for n in range(1, n_steps + 1)]
    line = rf"epoch 1 of 3: step 1 of {n_steps}, loss \d+\.\d+, learning rate 0.05"
    assert re.fullmatch(line, steps[0].activity)
    run = load_run(workplace / "run")
    epochs = training_of(run)
    assert [e.trial.candidate.label for e in epochs] == ["epoch 1", "epoch 2", "epoch 3"]
    assert [set(e.lesson.losses) for e in epochs] == [{"nll", "kl"}] * 3
    efforts = [epoch.lesson.effort for epoch in epochs]
    # Four documents with four options each, four texts a pass; and prompts of each source.
    assert [e.n_passes for e in efforts] == [(4 + 2) * n_steps] * 3
    assert all(e.seconds > 0 and e.n_tokens > 0 for e in efforts)
    assert [e.n_teacher_tokens > 0 for e in efforts] == [True, False, False]  # asked once
    assert [e.n_documents for e in efforts] == [4 * n_steps] * 3
    shown = CliRunner().invoke(main, ["show", str(workplace / "run")]).output
    assert f"{18 * n_steps} passes forward and backward over" in shown
    assert "training: mean of each loss over an epoch" in shown
    assert f"{18 * n_steps} passes forward and backward over" in report_html(run)
    data = json.loads(CliRunner().invoke(main, ["show", "--json", str(workplace / "run")]).output)
    assert data["training"]["total"]["n_passes"] == 18 * n_steps
    (workplace / "run" / "optimizer" / "epoch-2.npz").write_bytes(b"broken")
    with pytest.raises(LedgerError, match=r"epoch-2.npz: not what an epoch of training leaves"):
        training_of(run)


def test_the_trainer_moves_the_model_of_the_trials_and_merges_what_they_merge(
    workplace, monkeypatch
):
    mixtures = []
    built = Mixture.__init__

    def watched(self, merger, coefficients):
        built(self, merger, coefficients)
        mixtures.append(self)

    monkeypatch.setattr(Mixture, "__init__", watched)
    search = begin(workplace)
    events = list(search.run())
    (mixture,) = mixtures
    assert mixture.merger is search.executor.worker.merger.resident
    last = [e for e in events if isinstance(e, TrialFinished)][-1].candidate
    held = {k: v.clone() for k, v in mixture.at(mixture.coefficients.of(last.genotype))
            .module.state_dict().items()}  # fmt: skip
    for name, tensor in mixture.merger.merge(last.recipe).module.state_dict().items():
        np.testing.assert_allclose(held[name].numpy(), tensor.numpy(), rtol=0, atol=1e-6)


def test_of_models_with_another_vocabulary_than_the_merges_nothing_is_read():
    """Their tokens are others; of merges, whoever made them, they are the merges' own."""
    origins = ("model a", "base b", "uniform average", "seed x", "optimizer, epoch 1")
    trials = [Trial(Candidate(i, origin_in(o), Recipe({})), Mock()) for i, o in enumerate(origins)]

    def read(**definition):
        genome = MergeDefinition.model_validate({**BLOCK, **definition})
        compiled = SimpleNamespace(genome=SimpleNamespace(genome=genome))
        maker = TrainerMaker(compiled, Mock(), Mock(), Mock(), lambda: trials, Mock())
        return [str(trial.candidate.origin) for trial in maker._readable()]

    assert read() == list(origins)
    assert read(tokenizer_source="union") == list(origins[2:])
    assert read(tokenizer={"source": "base"}) == list(origins[2:])


@pytest.mark.slow
def test_models_that_are_merged_into_a_union_of_vocabularies_are_trained(workplace):
    events = list(begin(workplace, "genome.tokenizer_source=union").run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert all(e.scores for e in asked)


@pytest.mark.slow
def test_epochs_of_two_islands_stand_apart(workplace):
    island = "{name: gradient, epochs: 2, budget: 2"
    islands = f"[{island}}}, {island}, learning_rate: 0.2}}]"
    text = (workplace / "genome.yml").read_text()
    block = f"{{islands: {islands}, migrate_every: 2, budget: 4}}"
    (workplace / "genome.yml").write_text(text.replace(TRAINED, block))
    list(begin(workplace).run())
    run = load_run(workplace / "run")
    labels = [(e.link, e.number, e.trial.candidate.label) for e in training_of(run)]
    assert labels == [
        (link, number, f"island {link + 1} gradient, epoch {number}")
        for link in (0, 1)
        for number in (1, 2)
    ]
    rows = training_section(run).rows
    assert [row[0] for row in rows] == ["1, 1", "1, 2", "2, 1", "2, 2"]


@pytest.mark.slow
def test_sources_teach_where_they_are_told_to(workplace):
    overrides = (
        "optimizer.losses={nll: 0, kl: 1, entropy: 0.1}",
        "optimizer.prompts={models/model_1: [{task: tiny_search}], "
        "models/model_2: [{file: tasks/search.jsonl, limit: 5}]}",
    )
    events = list(begin(workplace, *overrides).run())
    assert len([e for e in events if isinstance(e, TrialFinished)]) == N_BASELINES + 3
    kept = list((workplace / "run" / "optimizer" / "teachers").glob("*.safetensors"))
    assert len(kept) == 2


COLUMNS = ("optimizer.granularity=column",)


@pytest.mark.slow
def test_columns_are_checkpoints_that_are_scored_found_again_and_built(
    workplace, monkeypatch, tmp_path
):
    events = list(begin(workplace, *COLUMNS).run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [str(e.candidate.origin) for e in asked] == [f"optimizer, epoch {n}" for n in (1, 2, 3)]
    names = [e.candidate.recipe.config["models"][0]["model"] for e in asked]
    folders = [workplace / "run" / name for name in names]
    assert (
        sorted(folder.parent.parent for folder in folders)
        == [workplace / "run" / "optimizer" / "columns"] * 3
    )
    before = history(workplace / "run")
    content = {path: path.read_bytes() for path in folders[1].iterdir()}
    shutil.rmtree(folders[1].parent)  # to save room
    (workplace / "run" / "best.yml").unlink()

    def trained_again(*_):
        pytest.fail("trained again")

    monkeypatch.setattr(GradientTrainer, "epoch", trained_again)
    list(begin(workplace, *COLUMNS).run())
    assert history(workplace / "run") == before
    assert {path: path.read_bytes() for path in folders[1].iterdir()} == content
    build(trial_of(workplace / "run", N_BASELINES + 2).recipe, tmp_path / "built")
    built = load_file(tmp_path / "built" / "model.safetensors")
    for name, tensor in load_file(folders[-1] / "model.safetensors").items():
        assert torch.equal(built[name], tensor)


@pytest.mark.slow
def test_a_run_of_columns_that_was_stopped_becomes_the_one_that_never_was(workplace):
    list(begin(workplace, *COLUMNS).run())
    expected = history(workplace / "run")
    (workplace / "run").rename(workplace / "whole")
    search = begin(workplace, *COLUMNS)
    n_done = 0
    for event in search.run():
        n_done += isinstance(event, TrialFinished)
        if n_done == N_BASELINES + 2:
            search.stop()
    assert history(workplace / "run") != expected
    list(begin(workplace, *COLUMNS).run())
    assert history(workplace / "run") == expected


@pytest.mark.slow
def test_a_run_of_columns_goes_on_where_its_folder_was_moved_to(workplace, tmp_path):
    list(begin(workplace, *COLUMNS).run())
    expected = history(workplace / "run")
    shutil.move(workplace / "run", tmp_path / "whole")
    search = begin(workplace, *COLUMNS)
    n_done = 0
    for event in search.run():
        n_done += isinstance(event, TrialFinished)
        if n_done == N_BASELINES + 2:
            search.stop()
    away = tmp_path / "moved" / "there"
    away.parent.mkdir()
    shutil.move(workplace / "run", away)
    genome, source = load_genome(workplace / "genome.yml", COLUMNS)
    list(search_for(compile_genome(genome, source, Permissions(), away), away).run())
    assert history(away) == expected
    assert not (workplace / "run").exists()
    last = trial_of(away, N_BASELINES + 2)
    named = Path(last.recipe.config["models"][0]["model"])
    assert named.parents[2] == away / "optimizer"
    assert (named / "config.json").is_file()
    assert str(away) in exports([last])[0].to_yaml()
    columns = winners_of(away / "best.yml")[0].recipe.config
    assert str(columns).count("optimizer/columns") == str(columns).count(str(away))


@pytest.mark.slow
def test_columns_of_a_moved_run_seed_another(workplace, tmp_path):
    list(begin(workplace, *COLUMNS).run())
    shutil.move(workplace / "run", tmp_path / "moved")
    (workplace / "genome.yml").write_text(GENOME.replace(CMA, "{name: random, budget: 1}"))
    seeds = f"optimizer.seed_from=[{tmp_path / 'moved'}]"
    events = list(begin(workplace, seeds).run())
    seeded = [e for e in events if isinstance(e, TrialFinished) and e.candidate.is_seed]
    assert len(seeded) == 3
    before = load_run(tmp_path / "moved").leaderboard.trials[N_BASELINES:]
    assert sorted(e.scores[0].value for e in seeded) == sorted(
        score.value for t in before for score in load_run(tmp_path / "moved").leaderboard.scores(t)
    )


@pytest.mark.slow
def test_the_next_link_of_a_chain_begins_beside_the_columns(workplace):
    chain = "[{name: gradient, granularity: column, epochs: 2, budget: 2}, {name: cma_es}]"
    text = (workplace / "genome.yml").read_text()
    (workplace / "genome.yml").write_text(text.replace(TRAINED, f"{{chain: {chain}, budget: 5}}"))
    events = list(begin(workplace).run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    methods = [e.candidate.recipe.config["merge_method"] for e in asked]
    assert methods == ["passthrough"] * 2 + ["task_arithmetic"] * 3


TENSORS = ("optimizer.granularity=tensor",)


def test_tensors_are_plain_recipes_that_mergekit_builds_as_they_were_scored(workplace, tmp_path):
    space = load_genome(workplace / "genome.yml")[0].genome
    assert space.granularity == "layers"
    search = begin(workplace, *TENSORS)
    events = list(search.run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [str(e.candidate.origin) for e in asked] == [f"optimizer, epoch {n}" for n in (1, 2, 3)]
    for event in asked:
        assert event.candidate.recipe.config["merge_method"] == "task_arithmetic"
        assert "'filter': 'self_attn.q_proj'" in str(event.candidate.recipe.config)
        assert event.candidate.point == {}  # which no point of the space means
    assert not (workplace / "run" / "optimizer" / "columns").exists()
    last = trial_of(workplace / "run", N_BASELINES + 2)
    build_in_process(last.recipe.config, tmp_path / "built")
    live = search.executor.worker.merger.merge(asked[-1].candidate.recipe).module.state_dict()
    for name, tensor in load_file(tmp_path / "built" / "model.safetensors").items():
        torch.testing.assert_close(live[name], tensor, rtol=0, atol=1e-6)
    assert "passes forward and backward over" in report_html(load_run(workplace / "run"))


@pytest.mark.slow
def test_a_run_of_tensors_that_was_stopped_becomes_the_one_that_never_was(workplace):
    list(begin(workplace, *TENSORS).run())
    expected = history(workplace / "run")
    (workplace / "run").rename(workplace / "whole")
    search = begin(workplace, *TENSORS)
    n_done = 0
    for event in search.run():
        n_done += isinstance(event, TrialFinished)
        if n_done == N_BASELINES + 2:
            search.stop()
    assert history(workplace / "run") != expected
    list(begin(workplace, *TENSORS).run())
    assert history(workplace / "run") == expected


@pytest.mark.slow
def test_a_run_of_tensors_killed_at_random_moments_becomes_the_uninterrupted_run(
    workplace, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    genome = (workplace / "genome.yml").read_text()
    (workplace / "genome.yml").write_text(
        genome.replace("3, batch", "3, granularity: tensor, batch")
    )
    assert killed_at_random(workplace, 6, 0, real_run, "genome.yml") == 6


@pytest.mark.slow
def test_the_next_link_of_a_chain_begins_beside_the_tensors(workplace):
    chain = "[{name: gradient, granularity: tensor, epochs: 2, budget: 2}, {name: cma_es}]"
    text = (workplace / "genome.yml").read_text()
    (workplace / "genome.yml").write_text(text.replace(TRAINED, f"{{chain: {chain}, budget: 4}}"))
    events = list(begin(workplace).run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [bool(e.candidate.point) for e in asked] == [False, False, True, True]


@pytest.mark.slow
def test_where_the_genome_has_a_weight_per_tensor_its_own_points_are_tried(workplace):
    text = (workplace / "genome.yml").read_text()
    text = text.replace(
        "  granularity: layers\n  layer_granularity: 1\n", "  granularity: tensor\n"
    )
    (workplace / "genome.yml").write_text(text)
    one = "optimizer.epochs=1"
    events = list(begin(workplace, *TENSORS, one).run())
    shutil.rmtree(workplace / "run")
    again = list(begin(workplace, one).run())
    (tensor, space) = (
        [e.candidate for e in found if isinstance(e, TrialFinished)][N_BASELINES]
        for found in (events, again)
    )
    assert tensor.point == space.point != {}


def test_what_it_cannot_train_is_refused_before_a_run(workplace):
    model, over_depth = "genome.granularity=model", "genome.parameters={lambda: [0.5, 1.0]}"
    with pytest.raises(GenomeError, match=r"fixes lambda as a list over depth.*granularity: space"):
        begin(workplace, *TENSORS, over_depth, "genome.layer_granularity=0", model)
    with pytest.raises(GenomeError, match=r"ties has no useful gradient.*cma_es"):
        begin(workplace, "genome.merge_method=ties")


@pytest.mark.slow
def test_a_gradient_run_killed_at_random_moments_becomes_the_uninterrupted_run(
    workplace, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert killed_at_random(workplace, 6, 0, real_run, "genome.yml") == 6


@pytest.mark.slow
def test_a_run_of_columns_killed_at_random_moments_becomes_the_uninterrupted_run(
    workplace, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    genome = (workplace / "genome.yml").read_text()
    (workplace / "genome.yml").write_text(
        genome.replace("3, batch", "3, granularity: column, batch")
    )
    run = workplace / "run"  # recipes name it: it is always the same
    n_calls = whole_run(real_run, run, "genome.yml")
    expected, names = history(run), names_in(run)
    for seed in range(3):
        shutil.rmtree(run)
        n_killed = 0
        for number in np.random.default_rng(seed).integers(n_calls // 20, n_calls, 3).tolist():
            n_killed += killed_run(number, real_run, run, "genome.yml")
        assert n_killed > 0
        whole_run(real_run, run, "genome.yml")
        assert history(run) == expected
        assert names_in(run) == names


def names_in(run):
    """Of what an optimizer keeps."""
    return sorted(str(path.relative_to(run)) for path in (run / "optimizer").rglob("*"))
