"""``evomerge init --from``: recipes become genomes that pass a check and begin at them."""

from __future__ import annotations

import pytest
import yaml
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.compiler.examine import compile_genome
from evomerge.foundations.counted import counted
from evomerge.genome.load import load_genome
from tests.evaluators.tiny_tasks import write_tasks
from tests.thinned import thinned
from tests.tiny_models import tiny_family

M1, M2, BASE = "models/model_1", "models/model_2", "models/base"
N_LAYERS = 6


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("from")
    tiny_family(folder / "models", num_hidden_layers=N_LAYERS)
    (folder / "tasks").mkdir()
    write_tasks(folder / "tasks")
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch):
    for name in ("models", "tasks"):
        (tmp_path / name).symlink_to(template / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TASK = ("--task", "tiny_choice", "--task-search-path", "tasks")


@pytest.fixture
def opened(place):
    """Opens a recipe; gives what was said and what compiles of the genome."""

    def call(recipe, *options):
        text = recipe if isinstance(recipe, str) else yaml.safe_dump(recipe)
        (place / "recipe.yml").write_text(text)
        arguments = ["init", "my.yml", "--from", "recipe.yml", *TASK, "--yes", *options]
        done = CliRunner().invoke(main, arguments)
        if done.exit_code or done.exception:
            return f"{done.output}{done.exception}", None
        genome, source = load_genome(place / "my.yml")
        return done.output, compile_genome(genome, source)

    return call


def start_of(compiled):
    """The recipe where the search begins."""
    space = compiled.merge_space.space
    return compiled.merge_space.recipe(space.decode(space.initial))


def entry(model, **parameters):
    return {"model": model, **({"parameters": parameters} if parameters else {})}


def sliced(weights):
    """Two layers a slice, a weight for each of two models, and the base."""
    return [
        {
            "sources": [
                {**entry(M1, weight=first), "layer_range": [2 * index, 2 * index + 2]},
                {**entry(M2, weight=second), "layer_range": [2 * index, 2 * index + 2]},
                {"model": BASE, "layer_range": [2 * index, 2 * index + 2]},
            ]
        }
        for index, (first, second) in enumerate(weights)
    ]


def unequal(first, second):
    """Two layers and four, a weight for each of two models, and the base."""
    return [
        {
            "sources": [
                {**entry(M1, weight=one), "layer_range": layers},
                {**entry(M2, weight=other), "layer_range": layers},
                {"model": BASE, "layer_range": layers},
            ]
        }
        for (one, other), layers in ((first, [0, 2]), (second, [2, 6]))
    ]


BY_FILTER = [{"filter": "self_attn", "value": 0.25}, {"filter": "mlp", "value": 0.2}, {"value": 0}]
OVER_DEPTH = [0.9, 0.2, 0.4, 0.95]
HALF = {"dtype": "bfloat16"}
WITH_BASE = {"base_model": BASE, **HALF}
# Recipe -> how many coordinates it opens.
RECIPES = {
    "della_linear by filters, with int8_mask": (
        {
            "models": [
                entry(M1, weight=BY_FILTER, density=0.65),
                entry(BASE, weight=0.3, density=0.6),
                entry(M2, weight=0.35, density=0.7),
            ],
            "merge_method": "della_linear",
            "tokenizer_source": "union",
            "chat_template": "chatml",
            "parameters": {"normalize": False, "int8_mask": True, "epsilon": 0.05, "lambda": 1},
            **WITH_BASE,
        },
        9,
    ),
    "ties, normalised, values for all models": (
        {
            "models": [entry(M1), entry(M2)],
            "merge_method": "ties",
            "parameters": {"weight": 0.5, "density": 0.5, "normalize": 1.0},
            **WITH_BASE,
        },
        3,
    ),
    "modules, lists over depth": (
        {
            "merge_method": "della_linear",
            "modules": {
                "default": {
                    "slices": [
                        {
                            "sources": [
                                {
                                    **entry(M1, weight=OVER_DEPTH, density=0.5, epsilon=0.4),
                                    "layer_range": [0, N_LAYERS],
                                },
                                {
                                    **entry(M2, weight=0.3, density=0.5, epsilon=0.3),
                                    "layer_range": [0, N_LAYERS],
                                },
                                {"model": BASE, "layer_range": [0, N_LAYERS]},
                            ]
                        }
                    ]
                }
            },
            "parameters": {"lambda": 1.0, "normalize": 1.0},
            "tokenizer": {},
            **WITH_BASE,
        },
        9,
    ),
    "slerp in one slice, gradients by filter": (
        {
            "slices": [
                {
                    "sources": [
                        {"model": M1, "layer_range": [0, N_LAYERS]},
                        {"model": M2, "layer_range": [0, N_LAYERS]},
                    ]
                }
            ],
            "merge_method": "slerp",
            "base_model": M1,
            "parameters": {
                "t": [
                    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
                    {"filter": "no_such_tensor", "value": 1},
                    {"value": 0.5},
                ]
            },
            **HALF,
        },
        6,
    ),
    "slices of two layers, normalised": (
        {
            "allow_negative_weights": True,
            "slices": sliced([(1, 0.35), (0.9, 0.45), (0.4, 0.4)]),
            "merge_method": "task_arithmetic",
            "parameters": {"int8_mask": 1.0, "normalize": 1.0},
            **WITH_BASE,
        },
        3,
    ),
    "slices of two layers, free": (
        {
            "slices": sliced([(1, 0.35), (0.9, -0.45), (0.4, 0.4)]),
            "merge_method": "task_arithmetic",
            "parameters": {"lambda": 0.8},
            **WITH_BASE,
        },
        6,
    ),
    "slices of two layers and of four": (
        {
            "slices": unequal((1, 0.35), (0.9, 0.4)),
            "merge_method": "task_arithmetic",
            **WITH_BASE,
        },
        6,
    ),
    "karcher with its own numbers": (
        {
            "models": [entry(M1), entry(M2), entry(BASE)],
            "merge_method": "karcher",
            "parameters": {"tol": 1e-10, "max_iter": 999},
            "tokenizer": {"source": "union"},
            **HALF,
        },
        1,
    ),
    "linear, its base an ordinary model": (
        {
            "models": [entry(M1, weight="4e-1"), entry(M2, weight=0.6), entry(BASE, weight=0.2)],
            "merge_method": "linear",
            **WITH_BASE,
        },
        2,
    ),
    "sce, nothing said": (
        {"models": [entry(M1), entry(BASE), entry(M2)], "merge_method": "sce", **WITH_BASE},
        1,
    ),
    "nearswap over depth": (
        {
            "models": [entry(M1)],
            "merge_method": "nearswap",
            "out_dtype": "bfloat16",
            "parameters": {"t": [0.0001, 0.0005, 0.0001]},
            **WITH_BASE,
        },
        3,
    ),
    "task arithmetic that takes away": (
        {
            "models": [entry(M1, weight=1.0), entry(M2, weight=-0.4, density=0.5)],
            "merge_method": "task_arithmetic",
            **WITH_BASE,
        },
        2,
    ),
}


@pytest.mark.parametrize("name", thinned(RECIPES))
def test_a_recipe_becomes_a_search_that_begins_at_it(opened, name):
    recipe, n_dims = RECIPES[name]
    said, compiled = opened(recipe)
    assert compiled is not None, said
    assert compiled.merge_space.space.n_dims == n_dims, said
    (seed,) = compiled.context.seeds
    assert seed.genotype is not None  # the recipe is a point of the space, and its first one
    if "slices of" not in name:  # whose values begin at their mean
        assert seed.recipe.to_yaml() == start_of(compiled).to_yaml()
    kept = {key: recipe[key] for key in ("merge_method", "dtype", "chat_template") if key in recipe}
    assert {key: seed.recipe.config[key] for key in kept} == kept
    assert f"{counted(n_dims, 'parameter')} for 100 trials" in said


def test_the_last_of_several_stages_is_opened_where_it_merges_models_that_are_there(opened):
    recipe, n_dims = RECIPES["task arithmetic that takes away"]
    first = {"name": "first", "merge_method": "linear", "models": [entry(M1, weight=1)]}
    said, compiled = opened(yaml.safe_dump_all([first, recipe]) + "---\n")
    assert compiled is not None, said
    assert compiled.merge_space.space.n_dims == n_dims
    (seed,) = compiled.context.seeds
    assert seed.genotype is not None
    assert seed.recipe.config["merge_method"] == "task_arithmetic"


def test_a_filter_that_finds_no_tensor_is_told(opened):
    said, _ = opened(RECIPES["slerp in one slice, gradients by filter"][0])
    assert "no tensor of these models has 'no_such_tensor' in its name; it is left out" in said
    assert said.count("in its name") == 1
    assert "recipe.yml:" in said


def test_what_the_recipe_holds_in_vain_is_told(opened):
    said, compiled = opened(RECIPES["della_linear by filters, with int8_mask"][0])
    assert compiled is not None
    assert "note: recipe.yml:" in said
    assert said.count("parameters.int8_mask: mergekit ignores 'int8_mask'") == 1
    assert "mergekit ignores 'weight': della_linear has no weight for the base" in said


STOCK = {
    "name": "three-way",
    "models": [entry(M1), entry(M2, weight=[{"filter": "mlp", "value": [1, 2]}, {"value": 1}])],
    "merge_method": "model_stock",
    "tokenizer_source": BASE,
    **WITH_BASE,
}
FUSION = {
    "models": [entry(BASE, weight=1), entry(M1, weight=[1, 0.5])],
    "merge_method": "arcee_fusion",
    "out_dtype": "bfloat16",
    **WITH_BASE,
}


@pytest.mark.parametrize("recipe", [STOCK, FUSION], ids=["model_stock", "arcee_fusion"])
def test_a_method_without_numbers_leaves_its_models_and_is_tried_first(opened, recipe):
    said, compiled = opened(recipe)
    assert compiled is not None, said
    assert "has no number to open; searched are those of task_arithmetic" in said
    assert "mergekit ignores 'weight'" in said
    assert compiled.genome.genome.merge_method == "task_arithmetic"
    (seed,) = compiled.context.seeds
    assert seed.recipe.config["merge_method"] == recipe["merge_method"]


def test_another_method_may_be_asked_for(opened):
    said, compiled = opened(RECIPES["sce, nothing said"][0], "--method", "ties")
    assert compiled is not None, said
    assert compiled.genome.genome.merge_method == "ties"
    assert compiled.genome.optimizer.seed_from == "recipe.yml"
    recipe, _ = RECIPES["karcher with its own numbers"]
    said, compiled = opened(recipe, "--method", "linear", "--force")
    assert compiled is not None, said
    assert [source.model.text for source in compiled.genome.genome.models] == [M1, M2, BASE]


REFUSED = {
    "a stack": (
        {
            "slices": [{"sources": [{"model": M1, "layer_range": [0, 3]}]}] * 2,
            "merge_method": "passthrough",
        },
        f"recipe.yml: its slices stack layers (layers 0 to 2 of {M1}, layers 0 to 2 of {M1}): "
        "which layers a merge has is searched by space: layers, which no recipe is opened into. "
        "Name it as optimizer.seed_from",
    ),
    "slices of other models": (
        {
            "slices": [
                {"sources": [{"model": M1, "layer_range": [0, 3]}]},
                {"sources": [{"model": M2, "layer_range": [3, 6]}]},
            ],
            "merge_method": "passthrough",
        },
        "its slices merge different models: a search merges the same in all layers",
    ),
    "two modules": (
        {
            "modules": {"text": {"models": [entry(M1)]}, "vision": {"models": [entry(M1)]}},
            "merge_method": "passthrough",
        },
        "it merges 2 modules (text, vision), and one alone is opened: what is searched of several "
        "is written under genome.modules. Name it as optimizer.seed_from",
    ),
    "a part of the layers": (
        {
            "slices": [{"sources": [{"model": M1, "layer_range": [0, 3]}]}],
            "merge_method": "passthrough",
        },
        "its slices end at layer 3 of 6: which layers a merge has is searched by space: layers",
    ),
    "a model twice": (
        {"models": [entry(M1), entry(M2), entry(M1)], "merge_method": "karcher"},
        f"mergekit refuses it: models: {M1} stands there twice",
    ),
    "different layers of two models": (
        {
            "slices": [
                {
                    "sources": [
                        {**entry(M1, weight=1), "layer_range": [0, 3]},
                        {**entry(M2, weight=1), "layer_range": [3, 6]},
                    ]
                }
            ]
            * 2,
            "merge_method": "linear",
        },
        "slice 0 merges different layers of its models (layers 0 to 2, layers 3 to 5)",
    ),
    "different slices, values over depth": (
        {
            "slices": unequal((1, [0.5, 0.3]), (0.5, 0.4)),
            "merge_method": "task_arithmetic",
            **WITH_BASE,
        },
        "its slices have different numbers of layers and values over depth",
    ),
    "stages that build on others": (
        "merge_method: linear\nname: first\nmodels: [{model: models/base}]\n---\n"
        "merge_method: slerp\nbase_model: first\nmodels: [{model: models/model_1}]\n",
        "recipe.yml is no single merge, mergekit-multi builds it: its numbers cannot be opened. "
        "Name it as optimizer.seed_from",
    ),
    "a stage with a list for a name": (
        "merge_method: linear\nname: [a]\nmodels: [{model: models/base}]\n---\n"
        "merge_method: slerp\nbase_model: a\nmodels: [{model: models/model_1}]\n",
        "recipe.yml:2: name: the name of a stage is ['a'], expected a text. Put it in",
    ),
    "nothing but beginnings of documents": ("---\n---\n", "it names no merge_method"),
    "stages indented as one": (
        "genome:\n  merge_method: linear\n  ---\n  merge_method: slerp\n",
        "recipe.yml:3: an indented ---, which begins a document of YAML only at the start of a ",
    ),
    "a mixture of experts": (
        "base_model: models/base\ngate_mode: random\nexperts_per_token: 1\n"
        "experts: [{source_model: models/base}]\n",
        "is no single merge, mergekit-moe builds it",
    ),
    "a mixture of none": ("base_model: models/base\nexperts: []\n", "experts is [], expected"),
    "a misspelt key": ("merge_method: linear\nbase_modle: a\n", "did you mean 'base_model'?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_opened_is_told_and_nothing_written(opened, place, name):
    recipe, message = REFUSED[name]
    said, compiled = opened(recipe)
    assert compiled is None
    assert message in said
    assert not (place / "my.yml").exists()


def test_models_come_from_the_recipe_alone(opened):
    said, _ = opened(STOCK, "--model", M1)
    assert "--from takes models and base from the recipe" in said
