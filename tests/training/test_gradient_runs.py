"""Gradient searches as users run them: real models, real tasks, one run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evomerge.compiler import compile_genome, search_for
from evomerge.errors import GenomeError
from evomerge.events import Proposing, TrialFinished
from evomerge.genome import load_genome
from evomerge.merging.build import build
from evomerge.permissions import Permissions
from evomerge.training.mixture import Mixture
from evomerge.training.trainer import GradientTrainer
from tests.end_to_end.conftest import GENOME, make_workplace
from tests.killed import history, killed_at_random, killed_run, real_run, whole_run
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own
from tests.tiny_models import tiny_family

CMA = "{name: cma_es, budget: 6, population_size: 4}"
TRAINED = "{name: gradient, epochs: 3, batch_size: 4, budget: 5}"
N_BASELINES = 4


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


def begin(folder, *overrides):
    genome, source = load_genome(folder / "genome.yml", overrides)
    return search_for(compile_genome(genome, source, Permissions(), folder / "run"), folder / "run")


def test_every_epoch_is_a_trial_and_a_continued_run_trains_nothing_again(workplace, monkeypatch):
    search = begin(workplace)
    events = list(search.run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [e.candidate.origin for e in asked] == [f"optimizer, epoch {n}" for n in (1, 2, 3)]
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
    assert mixture.merger is search.executor.worker.merger
    last = [e for e in events if isinstance(e, TrialFinished)][-1].candidate
    held = {k: v.clone() for k, v in mixture.at(mixture.coefficients.of(last.genotype))
            .module.state_dict().items()}  # fmt: skip
    for name, tensor in mixture.merger.merge(last.recipe).module.state_dict().items():
        np.testing.assert_allclose(held[name].numpy(), tensor.numpy(), rtol=0, atol=1e-6)


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


def test_columns_are_checkpoints_that_are_scored_found_again_and_built(
    workplace, monkeypatch, tmp_path
):
    events = list(begin(workplace, *COLUMNS).run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    assert [e.candidate.origin for e in asked] == [f"optimizer, epoch {n}" for n in (1, 2, 3)]
    folders = [Path(e.candidate.recipe.config["models"][0]["model"]) for e in asked]
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
    build(asked[-1].candidate.recipe, tmp_path / "built")
    built = load_file(tmp_path / "built" / "model.safetensors")
    for name, tensor in load_file(folders[-1] / "model.safetensors").items():
        assert torch.equal(built[name], tensor)


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


def test_the_next_link_of_a_chain_begins_beside_the_columns(workplace):
    chain = "[{name: gradient, granularity: column, epochs: 2, budget: 2}, {name: cma_es}]"
    text = (workplace / "genome.yml").read_text()
    (workplace / "genome.yml").write_text(text.replace(TRAINED, f"{{chain: {chain}, budget: 5}}"))
    events = list(begin(workplace).run())
    asked = [e for e in events if isinstance(e, TrialFinished)][N_BASELINES:]
    print(
        [
            (e.candidate.origin, e.candidate.recipe.config["merge_method"], e.candidate.point)
            for e in asked
        ]
    )
    methods = [e.candidate.recipe.config["merge_method"] for e in asked]
    assert methods == ["passthrough"] * 2 + ["task_arithmetic"] * 3


def test_what_it_cannot_train_is_refused_before_a_run(workplace):
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
