"""`genome.space`: a merge space by name, with its own settings and the keys it reads."""

from __future__ import annotations

import pytest

from evomerge.compiler.chosen_space import told, with_space
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.json_schema import genome_schema
from evomerge.foundations.errors import GenomeError
from evomerge.genome.block import Whole
from evomerge.genome.load import load_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.merge_spaces import MERGE_SPACES, merge_space_for
from evomerge.merge_spaces.base import MergeSpace, SpaceSettings
from evomerge.nouns.space import Choice, Space
from tests.contract.merge_space_cases import CASES, LLAMA, build

TIES = """\
genome:
  models: [org/a, org/b]
  base_model: org/base
"""
FLAT = f"""{TIES}  merge_method: ties
  layer_granularity: 2
  parameters:
    density: {{range: [0.2, 0.9]}}
tasks: [x]
"""
UNDER = f"""{TIES}  space:
    name: parameters
    merge_method: ties
    layer_granularity: 2
    parameters:
      density: {{range: [0.2, 0.9]}}
tasks: [x]
"""
THREE = "genome:\n  models: [org/a, org/b, org/c]\n"
EXPERTS = "genome:\n  models: [org/base+org/a, org/base+org/b]\n"


def written(tmp_path, text):
    file = tmp_path / "g.yml"
    file.write_text(text, encoding="utf-8")
    return file


def read(tmp_path, text, *overrides):
    genome, source = load_genome(written(tmp_path, text), overrides)
    return with_space(genome, source).genome


def refusals(tmp_path, text, *overrides):
    with pytest.raises(GenomeError) as raised:
        read_genomes(written(tmp_path, text), overrides)
    return [str(one).replace(f"{tmp_path}/", "") for one in raised.value.problems]


def middle(definition):
    merge_space = merge_space_for(definition)(definition, LLAMA, "bfloat16")
    return merge_space.recipe(merge_space.space.decode(merge_space.space.initial))


def test_the_form_of_mergekit_evolve_means_the_space_of_parameters(tmp_path):
    flat, under = read(tmp_path, FLAT), read(tmp_path, UNDER)
    assert merge_space_for(flat) is merge_space_for(under) is MERGE_SPACES["parameters"]
    assert flat.model_dump(exclude={"space"}) == under.model_dump(exclude={"space"})
    assert middle(flat).digest == middle(under).digest
    short = read(tmp_path, FLAT.replace("  merge_method", "  space: parameters\n  merge_method"))
    assert middle(short).digest == middle(flat).digest


def test_overrides_reach_keys_in_either_place(tmp_path):
    for text in (FLAT, UNDER):
        for key in ("genome.layer_granularity", "genome.space.layer_granularity"):
            assert read(tmp_path, text, f"{key}=1").layer_granularity == 1


@pytest.mark.parametrize(
    ("old", "new", "sentences"),
    [
        ("ties", "tie", ["g.yml:6: genome.space.merge_method: unknown merge method 'tie'"]),
        ("0.2, 0.9", "0.9, 0.2", ["g.yml:9: genome.space.parameters.density: range: expected"]),
        ("density", "desnity", ["g.yml:9: genome.space.parameters.desnity: "]),
        ("layer_gran", "layer_grain", ["g.yml:7: genome.space.layer_grainularity: unknown key"]),
        ("name: parameters", "name: parmeters", ["g.yml:5: genome.space.name: unknown space"]),
        ("    name: parameters\n", "", ["g.yml:4: genome.space.name: is missing. Add it."]),
        (
            "  space:",
            "  layer_granularity: 3\n  space:",
            ["g.yml:8: genome.space.layer_granularity: stands beside genome.layer_granularity"],
        ),
        (
            "tasks: [x]",
            "tasks: 3",
            ["g.yml:10: tasks: got 3, expected a list"],
        ),
    ],
)
def test_a_mistake_under_space_is_told_with_its_line(tmp_path, old, new, sentences):
    found = refusals(tmp_path, UNDER.replace(old, new))
    assert len(found) == len(sentences), found
    for line, sentence in zip(found, sentences, strict=True):
        assert line.startswith(sentence), line


def test_a_misspelt_name_gets_the_nearest_and_where_to_look(tmp_path):
    (line,) = refusals(tmp_path, f"{THREE}  space: slerp_pair\ntasks: [x]\n")
    assert line.startswith("g.yml:3: genome.space: unknown space 'slerp_pair'; did you mean")
    assert line.endswith("Run `evomerge list spaces`.")


def test_mistakes_of_space_optimizer_and_file_are_told_at_once(tmp_path):
    text = f"{THREE}  space: {{name: slerp_pairs, smooth: true}}\ntasks: [x]\n"
    found = refusals(tmp_path, f"{text}limt: 3\noptimizer: {{name: tpee}}\n")
    assert [line.partition(": ")[0] for line in found] == ["g.yml:3", "g.yml:5", "g.yml:6"]


@pytest.mark.parametrize(
    ("text", "name", "method"),
    [
        (f"{THREE}  space: slerp_pairs\ntasks: [x]\n", "slerp_pairs", "slerp"),
        (f"{EXPERTS}  space: adapter_factors\ntasks: [x]\n", "adapter_factors", "linear"),
        (
            f"{EXPERTS}  space: {{name: parameters, merge_method: linear}}\ntasks: [x]\n",
            "parameters",
            "linear",
        ),
    ],
)
def test_the_name_decides_and_brings_its_merge_method(tmp_path, text, name, method):
    definition = read(tmp_path, text)
    merge_space = merge_space_for(definition)(definition, LLAMA, "bfloat16")
    assert (merge_space.name, merge_space.definition.merge_method) == (name, method)
    assert told(definition) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            f"{THREE}  space: {{name: parameters, merge_method: slerp}}\n",
            "g.yml:2: genome.models: slerp merges two models into one, got 3. Name two, or use "
            "space: slerp_pairs.",
        ),
        (
            f"{THREE}  space: parameters\n",
            "g.yml:1: genome.merge_method: is missing: space parameters has no merge method of its "
            "own. Add it.",
        ),
        (
            f"{THREE}  merge_method: ties\n  base_model: org/d\n  space: slerp_pairs\n",
            "g.yml:3: genome.merge_method: space slerp_pairs merges by slerp, got ties. Leave it "
            "out, or use space: parameters.",
        ),
        (
            "genome:\n  models: [org/a, org/b]\n  space: slerp_pairs\n",
            "g.yml:2: genome.models: space slerp_pairs chooses among three models or more, got 2. "
            "Name more, or use space: parameters.",
        ),
        (
            f"{THREE}  space: slerp_pairs\n  filters: [mlp]\n",
            "g.yml:4: genome.filters: space slerp_pairs does not read filters. Remove it, or use "
            "another space.",
        ),
        (
            f"{EXPERTS}  space: parameters\n  merge_method: linear\n  adapters: factors\n",
            "g.yml:5: genome.adapters: space parameters has adapters: delta, got factors. Remove "
            "it, or use another space.",
        ),
        (
            f"{THREE}  space: slerp_pairs\n  parameters: {{weight: {{range: [0, 1]}}}}\n",
            "g.yml:4: genome.parameters.weight: merge method slerp has no parameter 'weight' "
            "(known: t)",
        ),
    ],
)
def test_a_space_that_cannot_serve_a_genome_says_why(tmp_path, text, sentence):
    (line,) = refusals(tmp_path, f"{text}tasks: [x]\n")
    assert line.startswith(sentence), line


def test_without_a_name_a_rule_picks_and_says_which():
    lines = {name: told(CASES[name]) for name in ("linear-model", "slerp-three", "factors")}
    assert lines == {
        "linear-model": "space parameters (merge_method: linear; docs/genome.md has the rule)",
        "slerp-three": "space slerp_pairs (slerp over 3 models; docs/genome.md has the rule)",
        "factors": "space adapter_factors (adapters: factors; docs/genome.md has the rule)",
    }


def test_the_space_that_a_rule_picks_can_be_named():
    for name in sorted(CASES):
        picked = build(CASES[name])
        data = CASES[name].model_dump(mode="json", exclude_defaults=True)
        data["space"] = {**data.get("space", {}), "name": picked.name}
        again = build(MergeDefinition.model_validate(data))
        assert type(again) is type(picked), name
        assert again.space == picked.space, name


# A space of one file: its table line, its settings and checks are all there is to it


class Alone(MergeSpace):
    """One of the models."""

    name = "alone"
    merge_method = "linear"
    reads = frozenset()

    class Settings(SpaceSettings):
        """Its own."""

        first: Whole = 0

    def _build(self):
        names = [source.model.text for source in self.definition.models]
        return Space((Choice("model", tuple(names[self.settings.first :])),))

    def recipe(self, point):
        models = {source.model.text: source.model for source in self.definition.models}
        return self.model_recipe(models[point["model"]])

    def source_point(self, index):
        return {"model": self.definition.models[index].model.text}

    def average_point(self):
        return None

    def base_point(self):
        return None


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setitem(MERGE_SPACES._targets, "alone", f"{__name__}:Alone")


def test_a_space_has_settings_of_its_own(alone, tmp_path):
    definition = read(tmp_path, f"{THREE}  space: {{name: alone, first: 1}}\ntasks: [x]\n")
    merge_space = merge_space_for(definition)(definition, LLAMA, "bfloat16")
    assert merge_space.space.parameters[0].values == ("org/b", "org/c")
    assert merge_space.recipe({"model": "org/c"}).config["models"] == [{"model": "org/c"}]
    assert "first" in genome_schema()["$defs"]["SpaceBlock"]["properties"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("frist: 1", "g.yml:5: genome.space.frist: unknown key 'frist'; did you mean 'first'?"),
        ("first: x", "g.yml:5: genome.space.first: got 'x', expected a whole number"),
        ("smooth: true", "g.yml:5: genome.space.smooth: space alone does not read smooth"),
    ],
)
def test_mistakes_in_them_have_a_line(alone, tmp_path, settings, sentence):
    text = f"{THREE}  space:\n    name: alone\n    {settings}\ntasks: [x]\n"
    (line,) = refusals(tmp_path, text)
    assert line.startswith(sentence), line


def test_what_a_space_was_not_asked_for_it_says_it_cannot(alone):
    definition = MergeDefinition.model_validate(
        {"models": ["org/a", "org/b"], "space": {"name": "alone"}}
    )
    merge_space = build(definition)
    assert merge_space.point_of(merge_space.recipe({"model": "org/a"})) is None
    assert merge_space.places() is merge_space.by_tensor() is merge_space.learnable() is None
    assert not merge_space.has_shares()
    assert merge_space.files({"model": "org/a"}) == {}
    assert merge_space.beyond_models() is merge_space
