"""Files of several stages: which are needed, in which order, under which names."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from evomerge.foundations.errors import GenomeError
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.plain import Recipe


def stage(name, *models, method="linear", **beside):
    listed = [{"model": model, "parameters": {"weight": 1}} for model in models]
    named = {} if name is None else {"name": name}
    return {**named, "merge_method": method, "models": listed, **beside}


def read(place: Path, *stages) -> tuple[Recipe, list[str]]:
    file = place / "stages.yml"
    file.write_text(yaml.safe_dump_all(stages))
    told: list[str] = []
    recipe = recipe_of(documents_of(file), lambda finding: told.append(str(finding)))
    return recipe, told


def named(recipe):
    return [[model["model"] for model in stage["models"]] for stage in recipe.documents]


def test_stages_stand_in_the_order_in_which_they_are_built_and_those_nobody_needs_are_left_out(
    tmp_path,
):
    recipe, told = read(
        tmp_path,
        stage("late", "early", "b"),
        stage("unused", "c"),
        stage("early", "a"),
        stage("end", "late", "early"),
    )
    first, second = recipe.made
    assert named(recipe) == [["a"], [first, "b"], [second, first]]
    assert [model.text for model in recipe.models] == ["a", "b"]
    assert told == []
    assert [one.get("name") for one in yaml.safe_load_all(recipe.to_yaml())] == [*recipe.made, None]


def test_a_stage_that_only_gives_the_tokens_is_needed(tmp_path):
    recipe, _ = read(tmp_path, stage("donor", "a"), stage(None, "b", tokenizer_source="donor"))
    assert named(recipe) == [["a"], ["b"]]
    assert recipe.documents[-1]["tokenizer_source"] == recipe.made[0]


def test_names_that_mergekit_multi_would_take_for_models_everywhere_mean_stages_only(tmp_path):
    last = stage(None, "union", tokenizer_source="union")
    recipe, _ = read(tmp_path, stage("linear", "a"), stage("union", "linear"), last)
    assert set(recipe.made).isdisjoint(("linear", "union"))
    assert [one["merge_method"] for one in recipe.documents] == ["linear"] * 3
    assert recipe.documents[-1]["tokenizer_source"] == "union"


def test_equal_stages_under_other_names_are_one_recipe(tmp_path):
    one, _ = read(tmp_path, stage("x", "a"), stage(None, "x", "b"))
    other, _ = read(tmp_path, stage("../../out", "a"), stage("y", "../../out", "b"))
    assert one == other


def test_what_is_there_already_is_merged_as_one_document(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    recipe, _ = read(tmp_path, stage("x", "a"), stage(None, "x", "b"))
    assert recipe.is_plain
    assert named(recipe) == [["x", "b"]]


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ([stage("x", "y"), stage("y", "x"), stage(None, "x")], "need each other: x -> y -> x"),
        ([stage("x", "x"), stage(None, "x")], "need each other: x -> x"),
        ([stage("x", "a"), stage("x", "b"), stage(None, "x")], "two stages have the name x"),
        ([stage("x", "a"), stage(None, "x+lora")], "puts an adapter on what a stage makes"),
        ([stage("x", "a"), stage(None, "b"), stage("y", "x")], "Put that stage last"),
        ([stage("x", "a"), {"name": "y", "models": [{"model": "x"}]}], "names no merge_method"),
        ([stage("x", "a", dtpye="x"), stage(None, "x")], "did you mean 'dtype'"),
    ],
)
def test_what_mergekit_multi_cannot_build_is_told(tmp_path, stages, what):
    with pytest.raises(GenomeError, match=what):
        read(tmp_path, *stages)


def broken(recipe, change):
    config = copy.deepcopy(dict(recipe.config))
    change(config["stages"])
    return Recipe(config)


@pytest.mark.parametrize(
    "change",
    [
        lambda stages: stages.clear(),
        lambda stages: stages[0].update(name="../../out"),
        lambda stages: stages[0].pop("name"),
        lambda stages: stages[1].update(name="out"),
        lambda stages: stages[1].update(merge_method=["x"]),
        lambda stages: stages.append("x"),
        lambda stages: stages[1]["models"].append({"model": "evomerge-stage-1+pickled"}),
    ],
)
def test_a_strangers_stages_are_refused_before_anybody_reads_them(tmp_path, change):
    recipe, _ = read(tmp_path, stage("x", "a"), stage(None, "x"))
    recipe.check()
    with pytest.raises(ValueError, match="stage"):
        broken(recipe, change).check()
    with pytest.raises(ValueError, match="stages is 'x', expected a list"):
        Recipe({"stages": "x"}).check()


def test_a_recipe_that_merges_what_other_files_describe_is_several_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, content in {
        "deep.yml": stage(None, "a"),
        "half.yml": stage("my half", "deep.yml", "b"),
    }.items():
        Path(file).write_text(yaml.safe_dump(content))
    recipe, told = read(tmp_path, stage(None, "half.yml", "deep.yml", "c"))
    assert told == []
    first, second = recipe.made
    assert named(recipe) == [["a"], [first, "b"], [second, first, "c"]]
    assert [model.text for model in recipe.models] == ["a", "b", "c"]
    assert recipe.program == "mergekit-multi"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"x.yml": [stage(None, "y.yml")], "y.yml": [stage(None, "x.yml")]}, "need each other"),
        ({"x.yml": [stage("p", "a"), stage(None, "p")]}, "holds 2 documents, expected one recipe"),
        ({"x.yml": [{"models": ["a"]}]}, "names no merge_method"),
        ({"x.yml": [stage(None, "a", dtpye="x")]}, "did you mean 'dtype'"),
    ],
)
def test_files_that_cannot_be_merged_are_told(tmp_path, monkeypatch, files, what):
    monkeypatch.chdir(tmp_path)
    for file, stages in files.items():
        Path(file).write_text(yaml.safe_dump_all(stages))
    with pytest.raises(GenomeError, match=what):
        read(tmp_path, stage(None, "x.yml", "b"))
