"""`stages:` of a genome file: what each stage is, and every mistake of all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomerge.cli.run import default_run_dir
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.other_models import with_other_models
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.model_names import ModelName
from evomerge.genome.source import parse_yaml

FILE = """\
tasks: [mine]
optimizer: {name: random, budget: 3}
seed: 7
stages:
  - name: sums
    genome: {merge_method: linear, models: [a, b]}
  - name: pairs
    genome:
      merge_method: slerp
      models: [{stage: sums}, c]
    optimizer: {name: cma_es, budget: 9}
"""
WRONG = """\
tasks: [mine]
run_dir: out
limit: two
stages:
  - name: sums
    genome: {merge_method: linear, models: [a, {stage: pairs}]}
    objective: per_task
    optimizer: {name: nsga2}
  - name: pairs
    genome:
      merge_method: slurp
      models: [{stage: sums}, {model: {stage: some}}]
      base_model: {stage: pairs}
    optimizer: {name: random, budget: none}
  - name: last
    genome: {merge_method: linear, models: [c, {stage: last, lora: d}]}
    optimizer: random
    run_dir: elsewhere
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def file(text, *overrides):
        (tmp_path / "g.yml").write_text(text)
        return read_genomes(tmp_path.joinpath("g.yml").relative_to(tmp_path), overrides)

    return file


@pytest.fixture
def problems(read):
    def told(text, *overrides):
        with pytest.raises(GenomeError) as raised:
            read(text, *overrides)
        return [str(problem) for problem in raised.value.problems]

    return told


def test_a_stage_is_a_genome_and_the_top_of_the_file_says_the_rest(read):
    sums, pairs = read(FILE).stages
    assert (sums.name, pairs.name) == ("sums", "pairs")
    assert (sums.uses, pairs.uses) == ((), ("sums",))
    assert [stage.genome.optimizer.name for stage in (sums, pairs)] == ["random", "cma_es"]
    assert [stage.genome.optimizer.budget for stage in (sums, pairs)] == [3, 9]
    assert {stage.genome.seed for stage in (sums, pairs)} == {7}
    assert [source.model.text for source in pairs.genome.genome.models] == ["stage sums", "c"]
    sums, pairs = read(FILE, "stages[1].optimizer.budget=5", "optimizer.budget=2").stages
    assert [stage.genome.optimizer.budget for stage in (sums, pairs)] == [2, 5]


def test_where_the_run_is_kept_is_said_of_all_stages_at_once(read):
    file = read(f"run_dir: out\n{FILE}")
    assert [stage.genome.run_dir for stage in file.stages] == ["out", "out"]
    assert default_run_dir(Path("g.yml"), file.genome) == Path("out")


def test_a_file_without_stages_is_one_search(read):
    (alone,) = read("tasks: [mine]\ngenome: {merge_method: linear, models: [a, b]}").stages
    assert (alone.name, alone.uses) == ("", ())


def test_every_mistake_of_all_stages_is_told_at_once_where_it_stands(problems):
    found = problems(WRONG)
    expected = [
        "g.yml:3: limit: got 'two', expected a whole number.",
        "g.yml:6: stages[0].genome.models[1].stage: stage pairs is not over when sums begins.",
        "g.yml:7: stages[0].objective: stage sums finds a front",
        "g.yml:11: stages[1].genome.merge_method: unknown merge method 'slurp'; did you mean",
        "g.yml:12: stages[1].genome.models[1].model.stage: no stage is called 'some'",
        "g.yml:13: stages[1].genome.base_model.stage: stage pairs is not over when pairs begins.",
        "g.yml:14: stages[1].optimizer.budget: got 'none', expected a whole number.",
        "g.yml:16: stages[2].genome.models[1]",
        "g.yml:18: stages[2].run_dir: 'run_dir' is of the whole file",
    ]
    for sentence in expected:
        assert any(line.startswith(sentence) for line in found), (sentence, found)
    assert len(found) == len(set(found))
    lines = [int(line.split(":")[1]) for line in found]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stages: {}\ntasks: [t]", "g.yml:1: stages: got dict, expected a list"),
        ("stages: [x]\ntasks: [t]", "g.yml:1: stages[0]: got 'x', expected keys and values."),
        (FILE.replace("name: pairs", "name: Sums"), "stages[0] has the name 'Sums' too"),
        (FILE.replace("name: pairs", "name: ../up"), "got '../up', expected letters and digits"),
        (FILE.replace("- name: pairs", "- seed: 3"), "g.yml:7: stages[1].name: is missing."),
        (FILE.replace("{stage: sums}", "d"), "no later stage merges what sums finds."),
        (FILE + "genome: {}\n", "every stage has a 'genome' of its own, and this one is read by"),
        (FILE.replace("stage: sums", "stage: 3"), "a stage is named by {stage: NAME}"),
        (
            "tasks: [t]\ngenome: {merge_method: linear, models: [a, {stage: sums}]}",
            "g.yml:2: genome.models[1].stage: this file has no stages.",
        ),
    ],
)
def test_what_is_wrong_with_the_list(problems, text, told):
    assert any(told in line for line in problems(text)), problems(text)


def test_a_helper_that_only_lends_its_content_is_none_of_a_stage(read):
    text = FILE.replace("stages:", "experts: &experts [a, b]\nstages:", 1)
    read(text.replace("models: [a, b]", "models: *experts"))


EXPERTS = """\
    genome:
      merge_method: linear
      models: [{stage: sums}, c]
      space: {name: moe, gate_mode: random, experts: [EXPERT, c]}
"""


@pytest.mark.parametrize("expert", ["{model: {stage: sums}}", "{models: [{stage: sums}, c]}"])
def test_what_a_stage_finds_may_be_an_expert_or_merged_into_one(read, expert):
    text = FILE[: FILE.index("    genome:\n")] + EXPERTS.replace("EXPERT", expert)
    assert read(text).stages[1].uses == ("sums",)


def test_a_stage_may_be_named_in_the_settings_of_a_space(read, problems):
    slices = "[{model: {stage: sums}, layer_range: [0, 2]}]"
    text = FILE.replace(
        "      merge_method: slerp\n",
        f"      space: {{name: layers, encoding: slices, slices: {slices}}}\n",
    )
    assert read(text).stages[1].uses == ("sums",)
    wrong = problems(text.replace("model: {stage: sums}", "model: {stage: sum}"))
    told = "g.yml:9: stages[1].genome.space.slices[0].model.stage: no stage is called 'sum'"
    assert any(line.startswith(told) for line in wrong), wrong


def test_a_mixture_holds_no_merges_of_merges(read, problems):
    mixed = "  - {name: mixed, genome: {space: mixture, models: [{stage: NAME}, d]}}\n"
    read(FILE[: FILE.index("  - name: pairs")] + mixed.replace("NAME", "sums"))
    assert problems(FILE + mixed.replace("NAME", "pairs")) == [
        "g.yml:12: stages[2].genome.models: a mixture holds models and merges, and no merges of "
        "merges: stage pairs merges what another stage finds. Mix what an earlier stage finds, or "
        "search another space here."
    ]


def test_a_part_merges_what_a_stage_finds_and_gets_what_was_built_of_it(read):
    part = "modules: {text_decoder: {models: [{stage: sums}, c]}}"
    _, pairs = read(FILE.replace("models: [{stage: sums}, c]", part)).stages
    assert pairs.uses == ("sums",)
    sums = ModelName(path="sums", is_stage=True)
    changed = with_other_models(pairs.genome, {sums: ModelName(path="built")}).genome
    for models in (changed.models, changed.modules["text_decoder"].models):
        assert [source.model.text for source in models] == ["built", "c"]


def test_models_that_give_tokens_are_other_models_too():
    text = """
genome:
  merge_method: linear
  models: [half.yml, c]
  tokenizer:
    source: half.yml
    tokens:
      <a>: {source: half.yml}
      <b>: {source: {kind: model_token, model: half.yml, token: <a>}}
      <c>: {source: {kind: zero}}
tasks: [mine]
"""
    genome = validate_genome(parse_yaml(text, "g.yml"))
    names = {ModelName(path="half.yml"): ModelName(path="built")}
    block = with_other_models(genome, names).genome.tokenizer
    assert block.source == "built"
    assert block.tokens["<a>"] == {"source": "built"}
    assert block.tokens["<b>"]["source"]["model"] == "built"
    assert block.tokens["<c>"] == {"source": {"kind": "zero"}}
    short = text.partition("  tokenizer:")[0] + "  tokenizer_source: half.yml\ntasks: [mine]\n"
    genome = validate_genome(parse_yaml(short, "g.yml"))
    assert with_other_models(genome, names).genome.tokenizer_source == "built"
