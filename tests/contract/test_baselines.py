"""What a run scores before its search: which recipes, which points, and what mergekit makes."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file

from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.methods import METHODS
from evomerge.genome.source import parse_yaml
from evomerge.genome.words import BASELINES
from evomerge.merge_spaces.baselines import baselines
from evomerge.merging.resident import ResidentMerger
from tests.contract.merge_space_cases import LAYOUTS, LLAMA, build
from tests.contract.resolved import resolved
from tests.lora_experts import lora_expert
from tests.merging.built import build_in_process
from tests.tiny_models import tiny_family

TASK_ARITHMETIC = [f"task arithmetic {weight}" for weight in ("0.3", "0.5", "0.7", "1.0")]


def space_of(n_models, method, *, has_base=True, **fields):
    models = [f"org/model_{index}" for index in range(n_models)]
    base = {"base_model": "org/base"} if has_base else {}
    block = {"models": models, "merge_method": method, **base, **fields}
    return build(MergeDefinition.model_validate(block))


def fixed(merge_space):
    """Origin -> candidate, of all but the models, the base and the average."""
    own = ("model ", "base ", "uniform average")
    return {str(c.origin): c for c in baselines(merge_space) if not str(c.origin).startswith(own)}


@pytest.mark.parametrize(
    ("n_models", "has_base", "expected"),
    [
        (1, True, [*TASK_ARITHMETIC, "slerp 0.5"]),
        (2, False, ["slerp 0.5"]),
        (2, True, [*TASK_ARITHMETIC, "ties", "slerp 0.5"]),
        (3, False, []),
        (3, True, [*TASK_ARITHMETIC, "ties"]),
    ],
)
@pytest.mark.parametrize("method", ["linear", "dare_ties", "karcher"])
def test_models_and_base_say_what_one_would_have_tried(method, n_models, has_base, expected):
    if not has_base and method == "dare_ties":
        method = "linear"
    more = {"parameters": {"max_iter": {"integer": [1, 9]}}} if method == "karcher" else {}
    if n_models == 1 and method == "linear":
        more = {"normalize": False}
    assert [*fixed(space_of(n_models, method, has_base=has_base, **more))] == expected


def test_a_base_among_the_models_is_no_task_vector():
    models = ["org/base", "org/one"]
    block = {"models": models, "base_model": "org/base", "merge_method": "task_arithmetic"}
    found = fixed(build(MergeDefinition.model_validate(block)))
    assert [*found] == [*TASK_ARITHMETIC, "slerp 0.5"]
    assert found["slerp 0.5"].recipe.config["base_model"] == "org/base"
    entries = found["task arithmetic 0.3"].recipe.config["models"]
    assert [entry.get("parameters") for entry in entries] == [None, {"weight": 0.3}]


def test_adapters_that_are_summed_apart_have_no_others():
    models = [f"org/base+org/lora_{index}" for index in range(2)]
    block = {"models": models, "merge_method": "linear", "adapters": "factors"}
    assert fixed(build(MergeDefinition.model_validate(block))) == {}


def test_recipes_are_framed_as_those_of_the_genome_are():
    frame = {"tokenizer_source": "union", "chat_template": "chatml", "out_dtype": "float16"}
    for candidate in fixed(space_of(2, "linear", **frame)).values():
        config = candidate.recipe.config
        assert {key: config[key] for key in frame} == frame
        assert config["dtype"] == "float32"


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "slerp"])
def test_a_fixed_recipe_of_the_genomes_method_is_a_point_that_merges_the_same(method, layout):
    merge_space = space_of(2, method, **LAYOUTS[layout])
    told = {o: c for o, c in fixed(merge_space).items() if c.genotype is not None}
    own = {"task_arithmetic": TASK_ARITHMETIC, "ties": ["ties"], "slerp": ["slerp 0.5"]}
    assert [*told] == own[method]
    for candidate in told.values():
        point = merge_space.space.decode(candidate.genotype)
        assert values(merge_space.recipe(point)) == pytest.approx(values(candidate.recipe))


def values(recipe):
    """What mergekit reads; shares of a sum as a search writes them."""
    found = resolved(recipe, LLAMA)
    weights = {key: value for key, value in found.items() if key[2] == "weight"}
    if recipe.config.get("parameters", {}).get("normalize"):
        sums = {t: sum(v for (other, *_), v in weights.items() if other == t) for t, *_ in weights}
        found |= {key: value / sums[key[0]] for key, value in weights.items()}
    return {str(key): float(value) for key, value in found.items()}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"parameters": {"weight": {"range": [0.4, 0.8]}}}, ["0.5", "0.7"]),
        ({"parameters": {"lambda": 1.0}}, ["0.3", "0.5", "0.7", "1.0"]),
        ({"parameters": {"lambda": {"range": [0.5, 2.0]}}}, ["0.3", "0.5", "0.7", "1.0"]),
        ({"parameters": {"lambda": 0.5}}, []),
        ({"normalize": True}, []),
    ],
)
def test_a_recipe_outside_the_space_is_tried_and_not_told(fields, told):
    found = fixed(space_of(2, "task_arithmetic", **fields))
    assert [*found] == [*TASK_ARITHMETIC, "ties", "slerp 0.5"]
    assert [o for o, c in found.items() if c.genotype is not None] == [
        f"task arithmetic {weight}" for weight in told
    ]


def test_the_genome_chooses_and_the_order_stays():
    merge_space = space_of(2, "linear")
    origins = [str(c.origin) for c in baselines(merge_space, ["ties", "models", "average"])]
    assert origins == ["model org/model_0", "model org/model_1", "uniform average", "ties"]
    whole = baselines(merge_space)
    assert [c.trial_id for c in whole] == list(range(len(whole)))
    for kinds in itertools.combinations(BASELINES[1:], 2):
        assert len(baselines(merge_space, ["models", *kinds])) < len(whole)


def test_the_models_are_among_them_whatever_is_named():
    text = "genome: {models: [a, b], merge_method: linear}\ntasks: [x]\nbaselines: [mixture]\n"
    assert validate_genome(parse_yaml(text, "g.yml")).baselines == ["models", "mixture"]


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ("[models, tis]", "did you mean 'ties'"),
        ("[models, ties, ties]", "stand twice: ties"),
        ("ties", "expected a list"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(block, what):
    text = "genome: {models: [a, b], merge_method: linear}\ntasks: [x]\n"
    source = parse_yaml(f"{text}baselines: {block}\n", "g.yml")
    with pytest.raises(GenomeError, match=what):
        validate_genome(source)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return tiny_family(tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize("origin", ["task arithmetic 0.3", "ties", "slerp 0.5"])
def test_mergekit_builds_the_weights_that_are_scored(family, tmp_path, origin):
    base, *models = map(str, family)
    block = {"models": models, "base_model": base, "merge_method": "linear"}
    candidate = fixed(build(MergeDefinition.model_validate(block)))[origin]
    assert candidate.recipe.config["merge_method"] in METHODS
    live = ResidentMerger().merge(candidate.recipe).module.state_dict()
    built = build_in_process(candidate.recipe.config, tmp_path / "built")
    stored = load_file(built / "model.safetensors")
    assert all(torch.equal(live[name], tensor) for name, tensor in stored.items())


def test_adapters_on_a_base_are_task_vectors_too(family, tmp_path):
    base = family[0]
    loras = [lora_expert(tmp_path / name, base, seed) for seed, name in enumerate("ab")]
    block = {"models": [f"{base}+{lora}" for lora in loras], "base_model": str(base)}
    found = fixed(build(MergeDefinition.model_validate({**block, "merge_method": "linear"})))
    recipe = found["ties"].recipe
    live = ResidentMerger().merge(recipe).module.state_dict()
    built = build_in_process(recipe.config, tmp_path / "built", tmp_path / "folded")
    stored = load_file(built / "model.safetensors")
    assert all(torch.equal(live[name], tensor) for name, tensor in stored.items())
