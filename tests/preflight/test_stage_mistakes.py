"""What `check` says of stages: all of them at once, and of models that are yet to be found."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from evomerge.checks.search_plan import plan_of
from evomerge.cli.run import default_run_dir
from evomerge.compiler import staged_run
from evomerge.compiler.checked import examine_stages
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.staged_run import StagedRun
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Severity, problems
from evomerge.models.facts import ModelFacts
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.run_folder import RunFolder
from tests.tiny_models import tiny_family, tiny_model

FILE = """\
tasks: [{perplexity: text.txt}]
optimizer: {name: random, budget: 30}
stages:
  - name: sums
    genome: {merge_method: linear, models: [models/model_1, models/model_2]}
  - name: between
    genome: {merge_method: slerp, models: [{stage: sums}, LAST]}
"""
STACK = "models: [untied, {stage: sums}], space: {name: layers, edits: 1}"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    tiny_family(folder / "models")
    tiny_family(folder / "others", "qwen2")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n")
    return folder


@pytest.fixture
def examine(template, monkeypatch):
    monkeypatch.chdir(template)

    def examinations(text):
        (template / "stages.yml").write_text(text)
        file = (template / "stages.yml").relative_to(template)
        return examine_stages(file, (), None, default_run_dir)

    return examinations


def errors(examination):
    return [str(problem) for problem in problems(examination.findings, Severity.ERROR)]


@pytest.mark.parametrize("other", ["untied", "tied_too"])
def test_a_stage_has_a_head_where_any_of_its_models_has_one(examine, template, other):
    for seed, name in enumerate(("tied", other, "untied")):
        if not (template / name).exists():
            tiny_model(template / name, seed=seed, tie_word_embeddings=name != "untied")
    text = FILE.replace("models/model_1, models/model_2", f"tied, {other}")
    stack = text.replace("merge_method: slerp, models: [{stage: sums}, LAST]", STACK)
    told = errors(examine(stack)[1])
    if other == "untied":
        assert told == []
    else:
        assert "the last layer is of stage sums, which has none of its own" in told[0]
        assert "Set base_model: {stage: sums}, whose configuration ties it." in told[0]


def test_a_stage_is_planned_though_the_model_it_merges_is_yet_to_be_found(examine):
    sums, between = examine(FILE.replace("LAST", "models/base"))
    assert [errors(one) for one in (sums, between)] == [[], []]
    assert [one.stage for one in (sums, between)] == ["sums", "between"]
    facts: ModelFacts = between.sound.context.models[0]
    assert (facts.name, facts.is_foreseen, facts.is_on_hub) == ("stage sums", True, False)
    needs = {
        need.what: need for store in plan_of(between.sound.context).stores for need in store.needs
    }
    kept = needs["what earlier stages find, built once"]
    assert kept.n_bytes == sum(tensor.n_bytes for tensor in facts.tensors.values()) > 0
    assert kept.is_certain
    first = plan_of(sums.sound.context)
    assert not any(
        need.what == kept.what and need.n_bytes for s in first.stores for need in s.needs
    )


def test_a_model_that_cannot_be_merged_with_what_a_stage_finds_is_told_before_any_runs(examine):
    sums, between = examine(FILE.replace("LAST", "others/model_1"))
    assert errors(sums) == []
    found = errors(between)
    assert any(
        one.startswith("stages.yml:7: stages[1].genome.models[1]: others/model_1 has architecture")
        for one in found
    ), found


def test_what_nobody_can_build_for_a_later_stage_is_no_stage(examine):
    text = FILE.replace("merge_method: linear,", "space: mixture,")
    sums, _ = examine(text.replace("LAST", "models/base"))
    told = "mergekit-multi cannot make what space mixture finds for a later stage"
    assert any(told in one for one in errors(sums)), errors(sums)


def test_mistakes_of_several_stages_are_told_together(examine):
    text = FILE.replace("models/model_2]", "models/gone]").replace("LAST", "models/lost")
    sums, between = examine(text)
    assert any("stages[0].genome.models[1]" in one for one in errors(sums))
    assert any("stages[1].genome.models[1]" in one for one in errors(between))


def test_a_run_folder_without_stages_is_not_searched_in_stages(examine, template):
    (template / "runs" / "stages").mkdir(parents=True)
    try:
        (template / "runs" / "stages" / "ledger.jsonl").write_text("")
        sums, _ = examine(FILE.replace("LAST", "models/base"))
        assert any("holds a run without stages" in one for one in errors(sums))
    finally:
        shutil.rmtree(template / "runs")


def test_a_file_without_stages_is_examined_as_the_one_search_it_is(examine):
    text = "tasks: [{perplexity: text.txt}]\ngenome: {merge_method: linear, models: [A, B]}\n"
    (alone,) = examine(text.replace("A", "models/model_1").replace("B", "models/model_2"))
    assert (errors(alone), alone.stage) == ([], "")


def only(model):
    return Recipe({"merge_method": "linear", "models": [{"model": model}]})


WINNER = only("models/model_1")
SLICES = """\
{name: layers, encoding: slices, slices: [{model: {stage: sums}, layer_range: [0, 1]},
      {model: models/base, layer_range: [{integer: [0, 1]}, 2]}]}"""


@pytest.fixture
def found(template, tmp_path, monkeypatch):
    """A run whose first stage has found model_1 so far: it is built, and the next is to begin."""
    monkeypatch.chdir(template)
    monkeypatch.setattr(
        staged_run, "winners_of", lambda folder: [SimpleNamespace(own_recipe=WINNER, content={})]
    )

    def run(text):
        (template / "stages.yml").write_text(text)
        whole = StagedRun(read_genomes(Path("stages.yml")), tmp_path / "out")
        folder = RunFolder(whole.folder.stage("sums"))
        folder.path.mkdir(parents=True)
        for file in (folder.ledger, folder.best):
            file.touch()
        shutil.copytree("models/model_1", whole.folder.model("sums", WINNER))
        return whole

    return run


def test_a_stage_that_is_not_over_may_get_more_trials_where_its_winner_helps_nobody(found):
    whole = found(FILE.replace("LAST", "models/model_1"))
    sums, between = whole.stages
    assert whole.left == (sums, between)
    whole.check()
    assert whole.examinations[1].sound.context.models[0].is_foreseen
    with pytest.raises(GenomeError, match="give it more trials"):
        whole.compiled(between)


def test_what_is_searched_of_a_stage_is_what_it_found_last(found, monkeypatch):
    whole = found(FILE.replace("LAST", "models/base"))
    later = only("models/model_2")
    whole.check()
    (chosen,) = staged_run.winners_of(None)
    monkeypatch.setattr(chosen, "own_recipe", later)
    monkeypatch.setattr(staged_run, "winners_of", lambda folder: [chosen])
    shutil.copytree("models/model_2", whole.folder.model("sums", later))
    compiled = whole.compiled(whole.stages[1])
    assert [*compiled.context.made.values()] == [later]


def test_settings_of_a_space_name_what_a_stage_found_too(found):
    text = FILE.replace("merge_method: slerp", f"space: {SLICES}").replace("LAST", "models/base")
    whole = found(text)
    whole.check()
    space = whole.compiled(whole.stages[1]).merge_space
    recipe = space.recipe(space.space.decode(space.space.initial))
    built = str(whole.folder.model("sums", WINNER))
    assert {model.path for model in recipe.models} == {built, "models/base"}
