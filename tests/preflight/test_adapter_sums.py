"""What is said of adapters whose factors are to be summed."""

from __future__ import annotations

import re

import pytest
import yaml
from safetensors.numpy import load_file, save_file

from evomerge.checks.adapter_sums import seeds_have_their_adapters
from evomerge.checks.context import CheckContext
from evomerge.compiler.chosen_space import with_space
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.findings import Severity
from evomerge.genome.load import validate_genome
from evomerge.genome.schema import Genome
from evomerge.genome.source import parse_yaml
from evomerge.nouns.trial import Candidate
from evomerge.recipe.adapter_sum import AdapterSum
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_in
from tests.preflight.variants import (
    adapter,
    check,
    config,
    lines,
    removed,
    variant,
    written,
)

WEIGHTS = "adapter_model.safetensors"
NAME = "base_model.model.model.layers.0.self_attn.q_proj"


def errors(base, tmp_path, change=None, **settings):
    """What is said of two adapters, the second of which is changed."""
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", **settings)
    if change:
        change(two)
    models = [f"{base}+{one}", f"{base}+{two}"]
    return lines(check(models, adapters="factors"), Severity.ERROR)


def renamed(old, new):
    def change(folder):
        tensors = load_file(folder / WEIGHTS)
        save_file({n.replace(old, new): t for n, t in tensors.items()}, folder / WEIGHTS)

    return change


def without_b(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({n: t for n, t in tensors.items() if "lora_A" in n}, folder / WEIGHTS)


def test_adapters_of_one_kind_give_no_finding(base, tmp_path):
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", lora_alpha=8)
    models = [f"{base}+{one}", f"{base}+{two}"]
    assert lines(check(models, adapters="factors")) == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 4}, r"cannot be summed with .*: r is 4 here and 2 there"),
        ({"rank": 4}, r"have tensors of different shapes: .*_A\.weight \[4, 32\] and \[2, 32\]"),
        ({"lora_alpha": 32}, "lora_alpha is 32 here and 8 there"),
        (
            {"target_modules": ["v_proj", "q_proj"]},
            "target_modules is q_proj, v_proj here and q_proj there",
        ),
        ({"use_rslora": True}, "use_rslora is True here and False there"),
        ({"use_dora": True}, r"is more than A and B \(use_dora: True\)"),
        ({"use_dora": True}, "use_dora is True here and False there"),
        ({"bias": "all"}, r"is more than A and B \(bias: all\)"),
        (
            {"modules_to_save": ["lm_head"]},
            r"is more than A and B \(modules_to_save: \['lm_head'\]",
        ),
        ({"alpha_pattern": {"q": 4}}, r"is more than A and B \(alpha_pattern"),
        ({"fan_in_fan_out": True}, r"is more than A and B \(fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, r"is more than A and B \(init_lora_weights: pissa\)"),
        ({"change": without_b}, r"one has 1 tensors that .*two lacks: .*lora_B"),
        ({"change": renamed("q_proj", "k_proj")}, r"two has 2 tensors that .*one lacks: .*k_proj"),
        (
            {"change": renamed("q_proj.lora_A.weight", "q_proj.lora_magnitude_vector")},
            "holds tensors that are no A or B of a linear layer: .*magnitude",
        ),
        (
            {"change": renamed("layers.0", "layers.7")},
            r"changes what is not in the files of its base: model\.layers\.7",
        ),
    ],
)
def test_adapters_that_cannot_be_summed_are_told_why(base, tmp_path, settings, message):
    found = errors(base, tmp_path, **settings)
    assert re.search(message, found), found
    assert "Leave adapters: delta" in found


def test_the_same_adapters_may_be_folded_first(base, tmp_path):
    one, two = adapter(tmp_path / "one"), adapter(tmp_path / "two", rank=4, use_rslora=True)
    found = check([f"{base}+{one}", f"{base}+{two}"])
    assert lines(found, Severity.ERROR) == ""
    assert "differ in r, use_rslora" in lines(found, Severity.NOTE)


def test_a_pickled_adapter_is_not_read(base, tmp_path):
    def pickled(folder):
        removed(WEIGHTS)(folder)
        written("adapter_model.bin", "")(folder)

    assert "in pickle files only" in errors(base, tmp_path, pickled)


def test_a_base_that_is_cast_as_it_is_read_is_refused(base, tmp_path):
    cast = variant(base, tmp_path / "cast", config(dtype="bfloat16"))
    found = errors(cast, tmp_path)
    assert re.search(r"cast is stored in F32, and its config\.json says bfloat16", found), found


# What the file alone shows

MODELS = ["org/base+org/a", "org/base+org/b"]
MISTAKES = {
    "another method": (
        {"merge_method": "ties", "base_model": "org/base"},
        "genome.merge_method: space adapter_factors merges by linear, got ties",
    ),
    "no adapter": (
        {"models": [MODELS[0], "org/b"]},
        r"genome.models\[1\]: org/b has no adapter, and adapter_factors sums adapters",
    ),
    "another base": (
        {"models": [MODELS[0], "org/other+org/b"]},
        r"genome.models\[1\]: org/other\+org/b has another base than org/base\+org/a",
    ),
    "another revision": (
        {"models": [MODELS[0], "org/base@v2+org/b"]},
        r"genome.models\[1\]: org/base@v2\+org/b has another base",
    ),
    "another base_model": (
        {"base_model": "org/other"},
        "genome.base_model: org/other is not what the adapters are for, which is org/base",
    ),
    "one model": ({"models": MODELS[:1]}, "genome.models: adapter_factors sums two or more"),
    "groups of layers": (
        {"layer_granularity": 4},
        "genome.layer_granularity: space adapter_factors does not read layer_granularity",
    ),
    "granularity": ({"granularity": "layer"}, "genome.granularity: .*whole model, got layer"),
    "filters": ({"filters": ["mlp"]}, "genome.filters: .*does not read filters"),
    "smooth": ({"smooth": True}, "genome.smooth: .*does not read smooth"),
    "normalize": ({"normalize": False}, "genome.normalize: .*coefficients that sum to 1"),
    "tokenizer": ({"tokenizer_source": "base"}, "genome.tokenizer_source: a sum of adapters has"),
    "settings of a model": (
        {"models": [{"model": MODELS[0], "parameters": {"weight": 0.5}}, MODELS[1]]},
        r"genome.models\[0\].parameters: adapter_factors has no settings of one model",
    ),
    "a fixed weight": ({"parameters": {"weight": 0.5}}, "genome.parameters.weight: .*nothing of"),
    "a range beside the adapters": (
        {"parameters": {"weight": {"range": [0.1, 0.9]}}},
        r"genome.parameters.weight: the range \[0.1, 0.9\] leaves out 0 or 1",
    ),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_a_genome_that_asks_for_what_no_sum_can_be_names_its_key(mistake):
    fields, message = MISTAKES[mistake]
    block = {"models": MODELS, "merge_method": "linear", "adapters": "factors", **fields}
    text = yaml.safe_dump({"genome": block, "tasks": ["x"]})
    source = parse_yaml(text, "g.yml")
    with pytest.raises(GenomeError, match=message):
        with_space(validate_genome(source), source)


def test_a_seed_that_is_a_sum_of_another_run_is_refused():
    block = {"models": MODELS, "merge_method": "linear", "adapters": "factors"}
    genome = Genome.model_validate({"genome": block, "tasks": ["x"]})
    models = tuple(source.model for source in genome.genome.models)
    recipe = Recipe({"models": [{"model": AdapterSum(models, (0.5, 0.5)).model.in_recipe}]})
    plain = Recipe({"models": [{"model": MODELS[0]}]})
    seeds = (
        Candidate(2, origin_in("seed runs/a"), recipe),
        Candidate(3, origin_in("seed b.yml"), plain),
    )
    found = lines(list(seeds_have_their_adapters(CheckContext(genome, seeds=seeds))))
    assert found.startswith("error: optimizer.seed_from: seed runs/a is a sum of adapters, whose")
    assert "b.yml" not in found
