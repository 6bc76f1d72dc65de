"""What is said of recipes in the place of models, before anything is built."""

from __future__ import annotations

import pytest

from evomerge.compiler.recipe_sources import recipe_sources
from evomerge.foundations.permissions import Permissions
from evomerge.genome.schema import Genome
from tests.tiny_models import tiny_family, tiny_model

MERGE = """
merge_method: linear
models: [{{model: {0}, parameters: {{weight: 1}}}}, {{model: {1}, parameters: {{weight: 1}}}}]
dtype: float32
"""
STACK = """
merge_method: passthrough
slices:
- sources: [{{model: {0}, layer_range: [0, 2]}}]
- sources: [{{model: {1}, layer_range: [1, 2]}}]
"""
MOE = """
base_model: {0}
experts: [{{source_model: {0}}}, {{source_model: {1}}}]
gate_mode: random
experts_per_token: 1
"""
TWO = "name: first\n" + MERGE + "---\n" + MERGE.replace("{0}", "first", 1)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return tiny_family(tmp_path_factory.mktemp("family"))


def found(text, family, folder, **block):
    file = folder / "part.yml"
    file.write_text(text.format(*family))
    block = {"merge_method": "linear", **block, "models": [str(file), str(family[2])]}
    genome = Genome.model_validate({"genome": block, "tasks": ["any"]})
    return recipe_sources(genome, Permissions())


def test_what_a_recipe_makes_is_foreseen_with_its_depth(family, tmp_path):
    [one] = found(MERGE, family, tmp_path).sound
    assert (one.like.is_foreseen, one.like.folder) == (True, None)
    assert one.like.config["num_hidden_layers"] == 2
    [one] = found(STACK, family, tmp_path).sound
    assert one.like.config["num_hidden_layers"] == 3
    assert "model.layers.2.mlp.up_proj.weight" in one.like.tensors
    assert "model.layers.3.mlp.up_proj.weight" not in one.like.tensors
    assert len(found(TWO, family, tmp_path).sound) == 1


def test_what_a_recipe_makes_has_a_head_where_any_of_its_models_has_one(family, tmp_path):
    tied = tiny_model(tmp_path / "tied", tie_word_embeddings=True)
    [one] = found(MERGE, (tied, *family[1:]), tmp_path).sound
    assert one.like.tensors["lm_head.weight"] == one.like.tensors["model.embed_tokens.weight"]
    [one] = found(MERGE, (tied, tied, family[2]), tmp_path).sound
    assert "lm_head.weight" not in one.like.tensors


@pytest.mark.parametrize(
    ("text", "block", "what"),
    [
        (MOE, {}, "no merge takes the model of this recipe: mergekit-moe makes it"),
        (TWO, {"space": "mixture"}, "a mixture holds models and merges, and no merges of merges"),
        (MERGE.replace("linear", "linaer"), {}, "mergekit has no merge method 'linaer'"),
        (MERGE.replace("{1}", "{1}-gone"), {}, "-gone"),
        ("models: [", {}, "part.yml"),
    ],
)
def test_one_that_cannot_be_built_is_told(text, block, what, family, tmp_path):
    sources = found(text, family, tmp_path, **block)
    assert [name.path for name in sources.broken] == [str(tmp_path / "part.yml")]
    assert sources.foreseen[sources.broken[0]] is None
    assert what in " ".join(map(str, sources.findings))


def test_a_mixture_has_a_recipe_of_models_among_its_members(family, tmp_path):
    assert len(found(MERGE, family, tmp_path, space="mixture").sound) == 1


def test_two_files_of_one_name_are_told_as_a_run_could_not_tell_them_apart(family, tmp_path):
    files = [tmp_path / "a" / "half.yml", tmp_path / "b" / "half.yml", tmp_path / "b" / "also.yml"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text(MERGE.format(*family))
    genome = {"merge_method": "linear", "models": [*map(str, files)]}
    sources = recipe_sources(
        Genome.model_validate({"genome": genome, "tasks": ["any"]}), Permissions()
    )
    assert [name.path for name in sources.broken] == [str(files[1])]
    [finding] = sources.findings
    assert finding.problem.where == "genome.models[1]"
    assert f"{files[0]} has the same file name" in finding.problem.what
    assert "another name" in finding.problem.fix
