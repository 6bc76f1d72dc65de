from __future__ import annotations

import copy
import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.compiler.file_mistakes import genome_of
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.make_optimizer import chosen_optimizer
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import load_genome, to_yaml, validate_genome
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.genome.source import MAX_BYTES, parse_yaml
from tests.thinned import thinned

FULL = """\
genome:
  models:
    - org/math@v1
    - model: org/code+org/lora@main
      parameters:
        weight: {range: [0.1, 2.0], initial: 1.0}
    - model: {path: folder+with@marks, revision: main}
      parameters: {density: 0.5}
  space: parameters
  merge_method: ties
  base_model: org/base
  adapters: delta
  parameters:
    density:
      - {filter: self_attn, range: [1e-2, 1], log: true, initial: 0.5}
      - {choice: [0.2, 0.4]}
    lambda: {range: [0.5, 1.5]}
    rescale: true
  granularity: layers
  layer_granularity: 4
  filters: [mlp]
  smooth: false
  normalize: false
  allow_negative_weights: true
  dtype: float32
  out_dtype: bfloat16
  tokenizer:
    source: base
    tokens: {"<x>": {source: org/math}}
    pad_to_multiple_of: 64
  chat_template: chatml
  name: my merge
tasks:
  - {name: gsm8k_part, metric: "exact_match,strict-match", weight: 2, num_fewshot: 5, limit: 100}
  - {name: mbpp_part, samples: 50}
validation:
  - {name: gsm8k_check, samples: [0, 3, 5]}
holdout:
  - gsm8k_hold
objective: normalized
baselines: [models, base]
optimizer:
  name: cma_es
  budget: 200
  population_size: 12
  seed: 7
  patience: 50
  timeout: 3600.5
  start: average
  seed_from: [runs/before, winner.yml]
  sigma: 0.2
evaluation:
  backend: transformers
  exactness: reference
  batch_size: 8
  device: cpu
  dtype: float32
  apply_chat_template: true
  fewshot_as_multiturn: true
  system_instruction: Be brief.
  gen_kwargs: {max_gen_toks: 32}
execution: {executor: processes, workers: 2, trial_timeout: 600}
trackers: [page]
output: adapter
run_dir: runs/full
seed: 3
task_search_path: [tasks]
limit: 500
validation_limit: 400
holdout_limit: 600
num_fewshot: 0
shuffle: true
random_init: true
finalists: 3
"""
EVOLVE = """\
genome:
  models:
    - augmxnt/shisa-gamma-7b-v1
    - WizardLM/WizardMath-7B-V1.1
    - GAIR/Abel-7B-002
  merge_method: dare_ties
  base_model: mistralai/Mistral-7B-v0.1
  tokenizer_source: base
  layer_granularity: 8
  normalize: true
  allow_negative_weights: false
  filters: [self_attn, mlp]
  smooth: false
tasks:
  - spaetzle_math_ja
  - name: hotpot_ja
    weight: 0.5
    metric: exact_match,none
limit: 1000
num_fewshot: 4
shuffle: true
random_init: false
apply_chat_template: true
fewshot_as_multiturn: false
"""
SMALL = "genome: {models: [a, b], merge_method: linear}\ntasks: [x]\n"


def parse(text):
    source = parse_yaml(text, "g.yml")
    return validate_genome(source), source


def problems(text):
    with pytest.raises(GenomeError, match=r"g.yml") as raised:
        parse(text)
    return [str(problem) for problem in raised.value.problems]


def chosen(text):
    """The optimizer that a genome names; needs no model."""
    source = parse_yaml(text, "g.yml")
    return chosen_optimizer(genome_of(source), source)


def read_genome_text(text, folder):
    """As the commands read a genome file."""
    path = folder / "g.yml"
    path.write_text(text)
    (stage,) = read_genomes(path).stages
    return stage.genome, stage.source


# What loads


def test_every_key_of_the_schema_loads():
    genome, _ = parse(FULL)
    assert [source.model.text for source in genome.genome.models] == [
        "org/math@v1",
        "org/code+org/lora@main",
        "folder+with@marks@main",
    ]
    first, rest = genome.genome.parameters["density"].entries
    assert (first.range, first.filter, rest.choice) == ((0.01, 1.0), "self_attn", [0.2, 0.4])
    assert genome.genome.models[2].parameters["density"].entries[0].value == 0.5
    assert genome.optimizer.settings == {"sigma": 0.2}


def test_the_full_genome_leaves_no_key_of_the_schema_out():
    data = yaml.safe_load(FULL)
    # These stand in the place of tokenizer and of name; the last two have genomes of their own.
    unused = {"tokenizer_source", "chain", "islands", "migrate_every", "merge_method_packages"} | {
        "modules"
    }
    assert set(Genome.model_fields) - set(data) == {"apply_chat_template", "fewshot_as_multiturn"}
    for block in ("genome", "optimizer", "evaluation", "execution"):
        annotation = Genome.model_fields[block].annotation
        assert set(annotation.model_fields) - set(data[block]) - unused == set()


def test_a_mergekit_evolve_file_runs_as_it_is_with_cma_es_and_100_trials(tmp_path):
    (tmp_path / "g.yml").write_text(EVOLVE)
    genome, _ = load_genome(tmp_path / "g.yml")
    assert (genome.optimizer.name, genome.optimizer.budget) == ("cma_es", 100)
    assert (genome.optimizer.start, genome.optimizer.settings) == ("average", {"step": 1 / 6})
    assert (genome.genome.layer_granularity, genome.genome.filters) == (8, ["self_attn", "mlp"])
    math, hotpot = genome.split("tasks")
    assert (math.name, math.weight, math.num_fewshot, math.samples) == (
        "spaetzle_math_ja",
        1.0,
        4,
        1000,
    )
    assert (hotpot.metric, hotpot.weight) == ("exact_match,none", 0.5)
    assert genome.evaluation_settings.apply_chat_template is True
    assert genome.evaluation_settings.fewshot_as_multiturn is False


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_ties", "slerp"])
def test_every_method_of_mergekit_evolve_loads(method):
    data = yaml.safe_load(EVOLVE)
    data["genome"]["merge_method"] = method
    if method == "slerp":
        del data["genome"]["filters"], data["genome"]["normalize"]
    assert validate_genome(parse_yaml(yaml.safe_dump(data), "g.yml")).genome.merge_method == method


@pytest.mark.parametrize("text", [FULL, EVOLVE, SMALL], ids=["full", "evolve", "small"])
def test_written_and_read_again_it_is_the_same_genome(text):
    genome, source = parse(text)
    again, source_again = parse(to_yaml(source))
    assert again == genome
    assert to_yaml(source_again) == to_yaml(source)


def test_file_wide_settings_fill_what_a_task_leaves_out():
    genome, _ = parse(
        "genome: {models: [a], merge_method: linear}\nlimit: 7\nnum_fewshot: 2\n"
        "tasks: [x, {name: y, limit: 3, num_fewshot: 0}, {name: z, samples: [1, 2]}]\n"
        "holdout: [h]\n"
    )
    x, y, z = genome.split("tasks")
    assert (x.limit, x.num_fewshot) == (7, 2)
    assert (y.limit, y.num_fewshot) == (3, 0)
    assert (z.limit, z.samples) == (None, [1, 2])
    assert genome.split("holdout")[0].num_fewshot == 2


@pytest.mark.parametrize(("shuffle", "key"), [("false", "limit"), ("true", "samples")])
def test_a_limit_of_the_search_cuts_no_other_split(shuffle, key):
    splits = "validation: [v, {name: w, limit: 2}]\nholdout: [h, {name: i, samples: 3}]\n"
    text = f"{SMALL}limit: 7\nshuffle: {shuffle}\n{splits}"
    own = "validation_limit: 5\nholdout_limit: 6\n"

    def limits(text):
        genome, _ = parse(text)
        found = [genome.split(split) for split in ("tasks", "validation", "holdout")]
        return [[task.samples or task.limit for task in tasks] for tasks in found], found[0][0]

    cut, task = limits(text)
    assert cut == [[7], [None, 2], [None, 3]]
    assert getattr(task, key) == 7
    assert limits(text + own)[0] == [[7], [5, 2], [6, 3]]


def test_the_settings_of_evaluation_win_over_mergekit_evolves_place():
    genome, _ = parse(
        SMALL + "apply_chat_template: true\nevaluation: {apply_chat_template: false}\n"
    )
    assert genome.evaluation_settings.apply_chat_template is False


def test_exactness_has_an_older_name():
    older, _ = parse(SMALL + "evaluation: {engine: reference}\n")
    assert older.evaluation.exactness == "reference"
    (both,) = problems(SMALL + "evaluation: {engine: reference, exactness: fast}\n")
    assert "evaluation.engine: unknown key" in both


def test_an_optimizer_may_be_its_name_alone():
    assert parse(SMALL + "optimizer: tpe\n")[0].optimizer.name == "tpe"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1.5E3", 1500.0), ("-2e+1", -20.0), ("1e3", 1000.0), ("12", 12), (".5", 0.5)],
)
def test_numbers_are_read_as_yaml_1_2_reads_them(text, value):
    found = parse_yaml(f"x: {text}", "g.yml").data["x"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["2024-13-45", "2024-01-02", "e3", "1.2.3", "0b_", "12e"])
def test_what_only_looks_like_a_number_or_a_date_stays_text(text):
    assert parse_yaml(f"x: {text}", "g.yml").data["x"] == text


# Models


@pytest.mark.parametrize(
    ("given_model", "text", "in_recipe"),
    [
        ("a/b", "a/b", "a/b"),
        ("a/b@v1", "a/b@v1", "a/b@v1"),
        ("a/b+c/d", "a/b+c/d", "a/b+c/d"),
        ("a/b@v1+c/d@v2", "a/b@v1+c/d@v2", "a/b@v1+c/d@v2"),
        ({"path": "x+y"}, "x+y", {"model": {"path": "x+y"}}),
        ({"model": {"path": "x@y"}, "lora": "l@r"}, "x@y+l@r", None),
        ({"model": "a", "lora": {"path": "l", "revision": "r"}}, "a+l@r", "a+l@r"),
    ],
)
def test_a_model_is_named_as_mergekit_names_it(given_model, text, in_recipe):
    name = ModelName.model_validate(given_model)
    assert name.text == text
    assert in_recipe is None or name.in_recipe == in_recipe
    assert ModelName.model_validate(name.in_recipe) == name


@pytest.mark.parametrize(
    "form", ["{model: {path: a+b}}", "{path: a+b}", "{model: {path: a+b}, parameters: {}}"]
)
def test_a_folder_with_plus_in_its_name_is_a_mapping_in_any_place(form):
    genome, _ = parse(f"genome: {{models: [{form}], merge_method: linear}}\ntasks: [x]\n")
    assert genome.genome.models[0].model.path == "a+b"


def test_a_folder_with_plus_and_at_in_its_name_compiles(tmp_path):
    # These load torch and lm-eval; nothing else here needs them.
    from evomerge.compiler.examine import compile_genome
    from tests.evaluators.tiny_tasks import write_tasks
    from tests.tiny_models import tiny_family

    base, *models = tiny_family(tmp_path / "x+y@z")
    genome = {
        "models": [{"path": str(model)} for model in models],
        "base_model": {"path": str(base)},
        "merge_method": "task_arithmetic",
    }
    write_tasks(tmp_path)
    found = compile_genome(
        *parse(
            yaml.safe_dump(
                {"genome": genome, "tasks": ["tiny_choice"], "task_search_path": [str(tmp_path)]}
            )
        )
    )
    assert [p.name for p in found.merge_space.space] == ["weight[model_1]", "weight[model_2]"]
    assert found.merge_space.architecture.n_layers == 2


# Mistakes


MISTAKES = {
    "tasks: [x]": "g.yml:1: genome: is missing. Add it.",
    "genome: {merge_method: linear}\ntasks: [x]": "g.yml:1: genome.models: is missing. Add it.",
    "genome:\n  models: [a]\n  merge_method: tie\ntasks: [x]": (
        "g.yml:3: genome.merge_method: unknown merge method 'tie'; did you mean 'ties'?"
    ),
    "genome:\n  models: [a]\n  merge_method: ties\ntasks: [x]": (
        "g.yml:1: genome.base_model: is missing: ties measures from a base."
    ),
    "genome:\n  models: [a, b, a]\n  merge_method: linear\ntasks: [x]": (
        "g.yml:2: genome.models: models stand twice: a (models[0], models[2])."
    ),
    "genome:\n  models:\n  - a+b+c\n  merge_method: linear\ntasks: [x]": (
        "g.yml:3: genome.models[0]: 'a+b+c' holds more than one '+'; write a folder"
    ),
    "genome:\n  models:\n  - {model: a, paramters: {}}\n  merge_method: linear\ntasks: [x]": (
        "g.yml:3: genome.models[0].paramters: unknown key 'paramters'; did you mean 'parameters'?"
    ),
    SMALL + "limit: ten": "g.yml:3: limit: got 'ten', expected a whole number",
    SMALL + "seed: -1": "g.yml:3: seed: got -1, expected greater than or equal to 0.",
    SMALL + "objective: worse": "g.yml:3: objective: got 'worse'; did you mean 'worst'?",
    SMALL + "holdout: [y, x]": (
        "g.yml:3: holdout: holdout tasks must not steer the search, x also stands in tasks."
    ),
    SMALL + "validation: [y, y]": "g.yml:3: validation: tasks stand twice: y.",
    SMALL + "evaluation: {batch_size: 0}": "g.yml:3: evaluation.batch_size: got 0, expected",
    "genome: {models: [a], merge_method: linear}\ntasks: [{name: x, limit: 1, samples: 2}]": (
        "g.yml:2: tasks[0]: limit and samples both choose the documents; give one of them."
    ),
    "genome: {models: [a], merge_method: linear}\ntasks: [{name: x, weight: 0}]": (
        "g.yml:2: tasks: all weights are 0."
    ),
    "genome: {models: [a], merge_method: linear}\ntasks: [{name: x, weight: .nan}]": (
        "g.yml:2: tasks[0].weight: got nan, expected a finite number."
    ),
    "objective: harmonic_mean\n" + SMALL.replace("[x]", "[x, {name: y, weight: -1}]"): (
        "g.yml:3: tasks: harmonic_mean needs weights above 0, got -1."
    ),
}
MERGE_MISTAKES = {
    "granularity: layers": "genome.layer_granularity: granularity: layers needs 1 or more.",
    "granularity: layer, layer_granularity: 2": (
        "genome.layer_granularity: 2 has no meaning beside granularity: layer; use"
    ),
    "smooth: true, granularity: layer": (
        "genome.smooth: interpolates between the groups of layer_granularity; leave granularity out"
    ),
    "filters: [mlp], granularity: tensor": "genome.filters: stand beside granularity: tensor",
    "filters: [mlp, mlp]": "genome.filters: filters stand twice",
    "tokenizer_source: base, tokenizer: {source: base}": (
        "genome.tokenizer: stands beside tokenizer_source; give one of them."
    ),
    "parameters: {weight: {range: [1, 0]}}": (
        "genome.parameters.weight: range: expected [low, high] with low < high, got (1.0, 0.0)"
    ),
    "parameters: {weight: {range: [0, 1], choice: [1, 2]}}": (
        "genome.parameters.weight: expected exactly one of value, range, integer, choice, got"
    ),
    "parameters: {weight: {range: [0, 1], log: true}}": (
        "genome.parameters.weight: log needs a range from above 0"
    ),
    "parameters: {weight: {range: [0, 1], initial: 2}}": (
        "genome.parameters.weight: initial 2 is outside [0.0, 1.0]."
    ),
    "parameters: {weight: {choice: [0.3, 0.3]}}": (
        "genome.parameters.weight: choice: values stand twice: [0.3, 0.3]."
    ),
    "parameters: {weight: .inf}": "genome.parameters.weight: expected finite numbers, got [inf].",
    "parameters: {weight: {rnge: [0, 1]}}": (
        "genome.parameters.weight.rnge: unknown key 'rnge'; did you mean 'range'?"
    ),
    "parameters: {weight: [{value: 1}, {filter: mlp, value: 2}]}": (
        "genome.parameters.weight: entry 0 has no filter and hides the 1 after it; put it last."
    ),
}


@pytest.mark.parametrize("text", sorted(MISTAKES))
def test_a_mistake_is_reported_with_its_line_and_key(text):
    (problem,) = problems(text)
    assert problem.startswith(MISTAKES[text])


@pytest.mark.parametrize("text", sorted(MERGE_MISTAKES))
def test_a_mistake_in_the_genome_block_is_reported_with_its_key(text):
    (problem,) = problems(f"genome: {{models: [a, b], merge_method: linear, {text}}}\ntasks: [x]\n")
    assert problem.startswith(f"g.yml:1: {MERGE_MISTAKES[text]}")


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file():
    found = problems(
        "genome:\n  models: [a, 3]\n  merge_method: tie\n  dtyp: x\n"
        "tasks:\n- nme: x\noptimizr: y\nseed: -1\n"
    )
    assert [problem.split(": ")[0:2] for problem in found] == [
        ["g.yml:2", "genome.models[1]"],
        ["g.yml:3", "genome.merge_method"],
        ["g.yml:4", "genome.dtyp"],
        ["g.yml:6", "tasks[0].name"],
        ["g.yml:6", "tasks[0].nme"],
        ["g.yml:7", "optimizr"],
        ["g.yml:8", "seed"],
    ]


# The names below these keys are the user's or another program's.
OPEN = [("genome", "parameters"), ("evaluation", "gen_kwargs"), ("genome", "tokenizer", "tokens")]


def keys_of(data, path=()):
    if isinstance(data, dict):
        is_open = path in OPEN or path[-1:] == ("parameters",) or path[-2:-1] == ("tokens",)
        for key, value in data.items():
            if not is_open:
                yield (*path, key)
            yield from keys_of(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from keys_of(value, (*path, index))


@pytest.mark.parametrize(
    "path", list(keys_of(yaml.safe_load(FULL))), ids=lambda path: ".".join(map(str, path))
)
def test_a_key_that_is_misspelt_is_never_dropped(path):
    data = copy.deepcopy(yaml.safe_load(FULL))
    holder = data
    for part in path[:-1]:
        holder = holder[part]
    misspelt = f"{path[-1]}z"
    holder[misspelt] = holder.pop(path[-1])
    with pytest.raises(GenomeError, match=misspelt):
        chosen(yaml.safe_dump(data, sort_keys=False))


def test_a_misspelt_key_of_the_optimizer_finds_the_common_ones_too():
    with pytest.raises(
        GenomeError, match=r"g.yml:3: optimizer.buget: unknown key 'buget'; did you mean 'budget'"
    ):
        chosen(SMALL + "optimizer: {buget: 5}\n")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "{name: cmaes}",
            "g.yml:3: optimizer.name: unknown optimizer 'cmaes'; did you mean 'cma_es'",
        ),
        ("{name: cma_es, sigma: -1}", "g.yml:3: optimizer.sigma: got -1, expected greater than 0"),
        (
            "{name: cma_es, population_size: 2}",
            "g.yml:3: optimizer.population_size: got 2, cma_es needs 4 or more",
        ),
        (
            "{chain: [random, {name: cmaes}]}",
            r"g.yml:3: optimizer.chain\[1\].name: unknown optimizer 'cmaes'; did you mean 'cma_es'",
        ),
        (
            "{chain: [random, {name: cma_es, sigma: -1}]}",
            r"g.yml:3: optimizer.chain\[1\].sigma: got -1, expected greater than 0",
        ),
    ],
)
def test_a_mistake_in_the_optimizer_is_reported_before_any_model_is_read(block, message):
    with pytest.raises(GenomeError, match=message):
        chosen(SMALL + f"optimizer: {block}\n")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "{name: cma_es, sigma: 0.1, chain: [random, cma_es]}",
            r"optimizer.chain: name, sigma beside a chain: each link has its own",
        ),
        (
            "{chain: [{name: random, budget: 60}, {name: cma_es, budget: 30}], budget: 80}",
            r"optimizer.budget: the links of the chain have 90 trials, the budget is 80",
        ),
        (
            "{chain: [{name: random, budget: 100}, cma_es]}",
            r"the links of the chain have 100 trials and 1 without any, the budget is 100",
        ),
    ],
)
def test_a_chain_that_does_not_fit_its_block_is_refused(tmp_path, block, message):
    with pytest.raises(GenomeError, match=message):
        parse(SMALL + f"optimizer: {block}\n")
    with pytest.raises(GenomeError, match=message):
        read_genome_text(SMALL + f"optimizer: {block}\n", tmp_path)


def test_links_that_all_have_a_budget_need_none_for_the_chain():
    chain = "[{name: random, budget: 10}, {name: cma_es, budget: 31}]"
    assert parse(SMALL + f"optimizer: {{chain: {chain}}}\n")[0].optimizer.budget == 41


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{islands: [tpe, swarm], chain: [random, tpe]}", "islands: a chain beside islands"),
        ("{islands: [tpe, swarm], sigma: 1}", "islands: sigma beside islands: each has its own"),
        ("{islands: [tpe]}", r"optimizer.islands: got \['tpe'\], expected 2 or more"),
        ("{migrate_every: 5}", "optimizer.migrate_every: only islands have migrants. Leave it out"),
        (
            "{islands: [{name: tpe, budget: 60}, {name: swarm, budget: 30}], budget: 80}",
            "optimizer.budget: the islands have 90 trials, the budget is 80",
        ),
    ],
)
def test_islands_that_do_not_fit_their_block_are_refused(block, message):
    with pytest.raises(GenomeError, match=message):
        parse(SMALL + f"optimizer: {block}\n")


def test_islands_share_the_budget():
    genome, _ = parse(SMALL + "optimizer: {islands: [tpe, {name: swarm, budget: 20}], budget: 50}")
    assert [(link.name, link.budget) for link in genome.optimizer.links] == [
        ("tpe", 30),
        ("swarm", 20),
    ]
    assert genome.optimizer.title == "tpe | swarm"


def test_links_without_a_budget_share_what_the_others_leave():
    chain = "[{name: random, budget: 10}, tpe, cma_es]"
    genome, _ = parse(SMALL + f"optimizer: {{chain: {chain}, budget: 41}}\n")
    assert [(link.name, link.budget) for link in genome.optimizer.links] == [
        ("random", 10),
        ("tpe", 16),
        ("cma_es", 15),
    ]
    assert genome.optimizer.title == "random -> tpe -> cma_es"


# YAML


def test_keys_that_stand_twice_are_all_reported():
    found = problems("seed: 1\nseed: 2\ngenome:\n  dtype: a\n  dtype: b\n")
    assert found == [
        "g.yml:2: seed: key 'seed' stands twice, first on line 1. Remove one of them.",
        "g.yml:5: genome.dtype: key 'dtype' stands twice, first on line 4. Remove one of them.",
    ]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BROKEN = {
    "a billion laughs": (BOMB, "g.yml:.* more than 100000 values"),
    "a list in itself": ("a: &a [*a]", "g.yml:1: nested deeper than 30"),
    "deep brackets": ("a: " + "[" * 5000, "g.yml"),
    "deep lists": ("a: " + "[" * 40 + "]" * 40, "g.yml:1: nested deeper than 30 levels"),
    "a tab": ("a:\n\t- b", "g.yml:2: not YAML: found character"),
    "a bracket left open": ("a: [b\nc: d", "g.yml:2: not YAML"),
    "an object of Python": ("a: !!python/object:os.system x", "g.yml:1: a: tag .*os.system"),
    "a key that is a list": ("? [a]\n: b", "g.yml:1: a key must be a text"),
    "nothing": ("# only a comment\n", "g.yml: the file is empty"),
    "a null byte": ("a: \x00", "g.yml:1: not YAML"),
    "two documents": ("a: 1\n---\nb: 2", "g.yml:2: holds several YAML documents"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_yaml_ends_in_a_sentence(name):
    text, message = BROKEN[name]
    with pytest.raises(GenomeError, match=message):
        parse_yaml(text, "g.yml")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:[]{}-#&*!|>'\"% \n\t0123.e", max_size=40))
def test_any_text_is_data_or_a_genome_error(text):
    found = ""
    try:
        parse(text)
    except GenomeError as error:
        found = str(error)
    assert not found or found.startswith("g.yml")


CHAIN = SMALL + "optimizer: {chain: [{name: random, budget: 3}, {name: cma_es, budget: 5}]}\n"
ISLANDS = SMALL + "optimizer: {islands: [{name: random, budget: 3}, {name: cma_es, budget: 5}]}\n"
WHOLE = (FULL, EVOLVE, CHAIN, ISLANDS)
WRONG = (5, True, None, "x", 0.5, [5], [None], [[]], {"x": 5}, [{"x": 5}])


def problems_with(text, path, value, folder):
    """What the commands say of a genome file where something else stands in one place."""
    genome = yaml.safe_load(text)
    holder = genome
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    try:
        read_genome_text(yaml.safe_dump(genome, sort_keys=False), folder)
    except GenomeError as error:
        return [str(problem) for problem in error.problems]
    return []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_value_in_any_place_is_data_or_a_genome_error(tmp_path_factory, data):
    text = data.draw(st.sampled_from(WHOLE))
    path = data.draw(st.sampled_from(list(keys_of(yaml.safe_load(text)))))
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4))
    value = data.draw(
        st.one_of(
            scalars,
            st.lists(scalars, max_size=2),
            st.dictionaries(st.text(max_size=3), scalars, max_size=2),
        )
    )
    folder = tmp_path_factory.getbasetemp()
    found = problems_with(text, path, value, folder)
    assert all(problem.startswith(f"{folder}/g.yml:") for problem in found)


@pytest.mark.parametrize(
    ("text", "value"),
    thinned(itertools.product((EVOLVE, CHAIN, ISLANDS), WRONG), of=3),
    ids=repr,
)
def test_a_wrong_kind_of_value_is_told_wherever_it_stands(tmp_path, text, value):
    """Before the schema has seen a file, it is read as mergekit-evolve's or as its short form."""
    for path in keys_of(yaml.safe_load(text)):
        found = problems_with(text, path, value, tmp_path)
        assert all(problem.startswith(f"{tmp_path}/g.yml:") for problem in found)
    assert problems_with(text, ("genome", "models"), value, tmp_path)


# Files and overrides


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "g.yml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_a_mistake_in_an_override_stands_in_no_line_of_the_file(file):
    overrides = [
        "objective=worstt",
        "evaluation.devise=x",
        "tasks[0]={name: x, weight: y}",
        "seed=-1",
    ]
    with pytest.raises(GenomeError) as told:
        load_genome(file, overrides)
    assert {problem.where for problem in told.value.problems} == {
        "--set: objective",
        "--set: evaluation.devise",
        "--set: tasks[0].weight",
        "--set: seed",
    }
    file.write_text(f"{file.read_text()}\nobjective: worstt\n")
    with pytest.raises(GenomeError, match=r"g.yml:\d+: objective: got 'worstt'"):
        load_genome(file, ["seed=3"])


def test_overrides_win_over_the_file_and_are_yaml(file):
    genome, source = load_genome(
        file,
        [
            "optimizer.budget=20",
            "optimizer.sigma=1e-1",
            "genome.models[1]={model: c, parameters: {weight: 0.5}}",
            "tasks.0={name: y, limit: 3}",
            "run_dir=",
        ],
    )
    assert (genome.optimizer.budget, genome.optimizer.settings) == (20, {"sigma": 0.1})
    assert genome.genome.models[1].model.text == "c"
    assert (genome.tasks[0].name, genome.tasks[0].limit, genome.run_dir) == ("y", 3, None)
    assert parse(to_yaml(source))[0] == genome


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget", "--set: got 'budget', expected key.path=value. Write for example"),
        ("=3", "--set: got '=3', expected key.path=value"),
        ("tasks[4].limit=3", "--set: .*'4' is not an index from 0 to 0"),
        ("tasks[0].limit=3", "--set: .*tasks.0 is 'x' and holds no keys. Set the whole entry"),
        ("seed=[", "--set seed:1: not YAML"),
        (
            "optimizer.budget=many",
            "--set: optimizer.budget: got 'many', expected a whole number",
        ),
        ("sede=3", "--set: sede: unknown key 'sede'; did you mean 'seed'"),
    ],
)
def test_a_wrong_override_says_so(file, override, message):
    with pytest.raises(GenomeError, match=message):
        load_genome(file, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected keys and values, got list"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"#" * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes, more than the {MAX_BYTES}"),
    ],
)
def test_a_file_that_is_no_genome_says_so(tmp_path, content, message):
    (tmp_path / "g.yml").write_bytes(content)
    with pytest.raises(GenomeError, match=f"g.yml.*: {message}"):
        load_genome(tmp_path / "g.yml")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(GenomeError, match=r"none.yml: no such file. Check the path"):
        load_genome(tmp_path / "none.yml")
    with pytest.raises(GenomeError, match="is a folder, expected a regular file"):
        load_genome(tmp_path)
