"""Files of mergekit-evolve's form: what it ignores is told and dropped, a misspelt key is not."""

from __future__ import annotations

import pytest
from mergekit.evo.config import EvolMergeConfiguration, TaskConfiguration
from mergekit.evo.genome import METHOD_PARAM_MAPS, ModelGenomeDefinition

from evomerge.foundations.errors import GenomeError
from evomerge.genome import evolve_form
from evomerge.genome.load import load_genome, validate_genome

FILE = """\
{top}
genome:
  models: [org/a, org/b]
  merge_method: linear
{genome}
tasks:
  - name: sums
    weight: 0.5
{task}
"""


@pytest.fixture
def read(tmp_path):
    """Reads a file with further lines; gives genome and source."""

    def loaded(top="", genome="", task="", *overrides):
        path = tmp_path / "g.yml"
        path.write_text(FILE.format(top=top, genome=f"  {genome}", task=f"    {task}"))
        return load_genome(path, overrides)

    return loaded


def test_its_keys_are_those_of_mergekit():
    assert set(EvolMergeConfiguration.model_fields) == evolve_form._TOP
    assert set(ModelGenomeDefinition.model_fields) == evolve_form._GENOME
    assert set(TaskConfiguration.model_fields) == evolve_form._TASK
    assert set(METHOD_PARAM_MAPS) == set(evolve_form.METHODS)
    for model in (EvolMergeConfiguration, ModelGenomeDefinition, TaskConfiguration):
        assert model.model_config.get("extra", "ignore") == "ignore"


@pytest.mark.parametrize(
    ("place", "line", "where"),
    [
        ("top", "model_name: a-merge-v0.1", "1: model_name"),
        ("top", "name: a-merge", "1: name"),
        ("top", "description: {by: me, on: [a, b]}", "1: description"),
        ("top", "version: 2", "1: version"),
        ("genome", "int8_mask: true", "5: genome.int8_mask"),
        ("genome", "comment: as usual", "5: genome.comment"),
        ("task", "group: mine", "9: tasks[0].group"),
    ],
)
def test_a_key_that_it_ignores_is_told_and_dropped(read, place, line, where):
    genome, source = read(**{place: line})
    assert genome == read()[0]
    assert source.is_evolve
    (problem,) = source.ignored
    key = line.partition(":")[0]
    assert str(problem).endswith(
        f"g.yml:{where}: '{key}' is no key of a genome; ignored, as mergekit-evolve does."
    )
    assert source.data == read()[1].data


@pytest.mark.parametrize(
    ("place", "line", "sentence"),
    [
        ("top", "limt: 4", "unknown key 'limt'; did you mean 'limit'?"),
        ("top", "seeds: 4", "unknown key 'seeds'; did you mean 'seed'?"),
        ("top", "budget: 40", "'budget' is no key of this block. Move it to optimizer.budget"),
        ("genome", "normalise: true", "unknown key 'normalise'; did you mean 'normalize'?"),
        ("genome", "basemodel: org/c", "unknown key 'basemodel'; did you mean 'base_model'?"),
        ("genome", "density: 0.5", "'density' is no key of this block."),
        ("task", "metrics: acc", "unknown key 'metrics'; did you mean 'metric'?"),
    ],
)
def test_a_key_that_resembles_one_is_a_mistake(read, place, line, sentence):
    with pytest.raises(GenomeError) as raised:
        read(**{place: line})
    assert any(sentence in str(problem) for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("top", "seed: 3"),
        ("top", "optimizer: {budget: 4}"),
        ("top", "holdout: [other]"),
        ("genome", "dtype: bfloat16"),
        ("task", "limit: 4"),
    ],
)
def test_a_file_that_names_what_only_evomerge_has_is_no_such_file(read, place, line):
    assert not read(**{place: line})[1].is_evolve
    elsewhere = "top" if place == "genome" else "genome"
    with pytest.raises(GenomeError, match="unknown key 'comment'"):
        read(**{place: line, elsewhere: "comment: x"})


def test_what_is_set_on_the_command_line_changes_no_form(read):
    assert read("", "", "", "optimizer.budget=4", "task_search_path=[mine]")[1].is_evolve
    with pytest.raises(GenomeError, match="unknown key 'comment'"):
        read("", "", "", "comment=x")


AS_EVOLVE = {"name": "cma_es", "start": "average", "step": 1 / 6}


@pytest.mark.parametrize(
    ("overrides", "block"),
    [
        ((), AS_EVOLVE),
        (("optimizer.budget=4",), {**AS_EVOLVE, "budget": 4}),
        (("optimizer.sigma=0.2",), {"name": "cma_es", "start": "average", "sigma": 0.2}),
        (("optimizer.name=tpe",), {"name": "tpe"}),
        (("optimizer=gp",), "gp"),
        (("optimizer={chain: [tpe, gp]}",), {"chain": ["tpe", "gp"]}),
    ],
)
def test_it_is_searched_as_mergekit_does_where_nobody_else_is_named(read, overrides, block):
    genome, source = read("", "", "", *overrides)
    assert source.data["optimizer"] == block
    assert validate_genome(source) == genome


def test_a_genome_of_any_other_form_leaves_it_to_auto(read):
    genome, source = read(top="seed: 3")
    assert "optimizer" not in source.data
    assert genome.optimizer.name == "auto"
