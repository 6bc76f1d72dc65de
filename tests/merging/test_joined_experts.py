"""Mixtures of experts in memory are the folders that mergekit-moe writes, tensor by tensor."""

from __future__ import annotations

import gc
import itertools
import json
import weakref

import pytest
import torch
import yaml
from mergekit.io.tasks import LoaderCache
from mergekit.moe.config import MoEMergeConfig
from mergekit.options import MergeOptions
from mergekit.scripts.moe import build as build_moe
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

from evomerge.foundations.errors import MergeError
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.plain import Recipe
from tests.merging.built import SEED, build_in_process, load
from tests.suite_seed import of_suite
from tests.thinned import ZIGZAG, thinned
from tests.tiny_models import tiny_family

PROMPTS = (["the quick brown fox", "a lazy dog"], ["one two three"], ["zebras jump = 7"])


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    made = {}

    def of(architecture, **settings):
        key = (architecture, *sorted(settings.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp(architecture)
            made[key] = list(map(str, tiny_family(folder, architecture, **settings)))
        return made[key]

    return of


def merged(models, weight):
    base, *others = models
    return {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [{"model": one, "parameters": {"weight": weight}} for one in others],
        "dtype": "float32",
        "out_dtype": "float32",
    }


def mixture(models, weight=0.4, *, is_base_merged=True, **joined):
    """Two merges and a model; the base is the first of the merges, or a model."""
    stages = ["evomerge-stage-1", "evomerge-stage-2"]
    named = [*stages, models[2]]
    experts = [
        {"source_model": name, "positive_prompts": prompts}
        for name, prompts in zip(named, PROMPTS, strict=True)
    ]
    experts[1]["negative_prompts"] = ["how vexingly"]
    merges = [
        {"name": name, **merged(models, w)} for name, w in zip(stages, (weight, 0.8), strict=True)
    ]
    base = stages[0] if is_base_merged else models[0]
    config = {"base_model": base, "experts": experts, "dtype": "float32", **joined}
    recipe = Recipe({"merges": merges, "moe": config})
    recipe.check()
    return recipe


def built(recipe, folder):
    """What the commands of a recipe write, in this process."""
    for name, document in zip(recipe.made, recipe.documents, strict=True):
        build_in_process(document, folder / name)
    return joined(recipe, folder)


def joined(recipe, folder):
    """What mergekit-moe writes of merges that are built."""
    text = recipe.files(folder)["moe.yml"]
    LoaderCache().loaders.clear()
    torch.manual_seed(SEED)  # as --random-seed
    options = MergeOptions(random_seed=SEED, quiet=True)
    config = MoEMergeConfig.model_validate(yaml.safe_load(text))
    build_moe(config, str(folder / "out"), options, device="cpu")
    return folder / "out"


def assert_is(live, folder):
    model, held = load(folder), live.module.state_dict()
    assert type(model) is type(live.module)
    assert held.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(held[name], tensor), name
    tokens = torch.arange(4, 24)[None]
    with torch.no_grad():
        found, expected = live.module(tokens).logits, model(tokens).logits
    # Of equal weights; sums over the tokens of an expert run as the memory is aligned.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert live.module.generation_config.to_dict() == model.generation_config.to_dict()
    assert live.module.config.to_dict() == model.config.to_dict() | {
        "_name_or_path": live.module.config.to_dict().get("_name_or_path", "")
    }


SHARED = {"shared_experts": [{"source_model": "evomerge-stage-2", "positive_prompts": ["dozen"]}]}
KINDS = {
    "mixtral of llama, hidden": ("llama", {"gate_mode": "hidden"}),
    "mixtral of mistral, averaged": ("mistral", {"gate_mode": "hidden_avg"}),
    "mixtral of llama, drawn": ("llama", {"gate_mode": "random", "experts_per_token": 1}),
    "mixtral, drawn evenly": ("llama", {"gate_mode": "uniform_random"}),
    "mixtral, embedded": ("mistral", {"gate_mode": "cheap_embed", "experts_per_token": 3}),
    "qwen of qwen2": ("qwen2", {"gate_mode": "cheap_embed", **SHARED}),
    "qwen of llama, without biases": (
        "llama",
        {"gate_mode": "random", **SHARED, "architecture": "qwen"},
    ),
    "qwen3": ("qwen3", {"gate_mode": "hidden_last"}),
    "in bfloat16": ("llama", {"gate_mode": "hidden", "dtype": "bfloat16"}),
    "of the models' dtype": ("llama", {"gate_mode": "random", "dtype": None}),
}


@pytest.mark.parametrize("kind", thinned(KINDS))
def test_the_live_mixture_is_the_folder_merge_after_merge(families, tmp_path, kind):
    architecture, joined = KINDS[kind]
    models = families(architecture)
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    before = mixture(models, 1.1, **joined)
    module = mergers.merge(before).module
    recipe = mixture(models, **joined)
    live = mergers.merge(recipe)
    assert live.module is module  # overwritten in place
    assert_is(live, built(recipe, tmp_path))


@pytest.mark.parametrize(
    ("mode", "ties"),
    thinned(itertools.product(("hidden", "cheap_embed"), (True, False)), **ZIGZAG),
)
def test_a_base_that_is_a_model_gives_its_own_gates(families, tmp_path, mode, ties):
    models = families("llama", tie_word_embeddings=ties)
    recipe = mixture(models, is_base_merged=False, gate_mode=mode)
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    live = mergers.merge(recipe)
    folder = built(recipe, tmp_path)
    assert_is(live, folder)
    head = {"lm_head.weight"} & load_file(folder / "model.safetensors").keys()
    assert bool(head) is not ties


def test_a_model_between_two_mixtures_changes_nothing(families, tmp_path):
    models = families("llama")
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    recipe = mixture(models, gate_mode="random")
    before = weakref.ref(mergers.merge(recipe).module)
    plain = weakref.ref(mergers.merge(Recipe(merged(models, 0.3))).module)
    gc.collect()
    assert before() is None  # one model is in memory, not two
    assert type(plain()).__name__ == "LlamaForCausalLM"
    assert_is(mergers.merge(recipe), built(recipe, tmp_path))
    gc.collect()
    assert plain() is None
    mergers.forget_structures()
    assert_is(mergers.merge(recipe), tmp_path / "out")


def test_an_expert_may_be_merged_of_what_another_merge_makes(families, tmp_path):
    models = families("llama")
    recipe = mixture(models, gate_mode="random")
    first, second = recipe.config["merges"]
    second = {**second, "models": [{"model": first["name"], "parameters": {"weight": 0.3}}]}
    recipe = Recipe({**recipe.config, "merges": [first, second]})
    live = Mergers(lambda: ResidentMerger(merge_seed=SEED)).merge(recipe)
    here = {first["name"]: str(tmp_path / first["name"])}
    for name, document in zip(recipe.made, recipe.documents, strict=True):
        own = Recipe(document).with_models(
            lambda model: model.model_copy(update={"path": here.get(model.path, model.path)})
        )
        build_in_process(own.config, tmp_path / name)
    assert_is(live, joined(recipe, tmp_path))


def test_experts_that_draw_at_random_draw_as_their_merges_do(families, tmp_path):
    models = families("llama")
    recipe = mixture(models, gate_mode="random")
    merges = [
        {
            **one,
            "merge_method": "dare_linear",
            "models": [{"model": models[1], "parameters": {"weight": 0.7, "density": 0.6}}],
        }
        for one in recipe.config["merges"]
    ]
    recipe = Recipe({**recipe.config, "merges": merges})
    for engine in ("fast", "reference"):
        mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED, engine=engine))  # noqa: B023
        live = mergers.merge(recipe)
        folder = tmp_path / engine
        assert_is(live, built(recipe, folder))


def test_the_random_state_is_left_as_it_was(families):
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    torch.manual_seed(of_suite(5))
    before = torch.get_rng_state()
    mergers.merge(mixture(families("llama"), gate_mode="random"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("architecture", "joined", "sentence"),
    [
        ("gpt_neox", {"gate_mode": "random"}, "mergekit-moe makes no mixture of these models"),
        ("qwen2", {"gate_mode": "random"}, "makes no mixture of these models .qwen2"),
        ("llama", {"gate_mode": "random", "architecture": "deepseek"}, "transformers holds no"),
        ("llama", {"gate_mode": "random", "architecture": "qwen3"}, "makes no qwen3"),
    ],
)
def test_a_mixture_that_nobody_makes_or_loads_says_so(families, architecture, joined, sentence):
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    with pytest.raises(MergeError, match=sentence):
        mergers.merge(mixture(families(architecture), **joined))


def test_what_mergekit_moe_writes_as_deepseek_no_class_of_transformers_loads(families, tmp_path):
    recipe = mixture(families("llama"), gate_mode="random", architecture="deepseek")
    folder = built(recipe, tmp_path / "built")
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "deepseek"
    assert "deepseek" not in CONFIG_MAPPING
    assert all("deepseek-ai/deepseek-moe-16b-base" in code for code in config["auto_map"].values())
    with pytest.raises(Exception, match=r"deepseek|trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    held = {name.partition("layers.0.")[2] for name in load_file(folder / "model.safetensors")}
    assert {"self_attn.k_proj.weight", "self_attn.v_proj.weight"} <= held
    later = {"deepseek_v2": {"q_lora_rank": None}, "deepseek_v3": {}}
    for kind, settings in later.items():
        with torch.device("meta"):
            own = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(kind, num_hidden_layers=1, **settings)
            )
        there = {name.partition("layers.0.")[2] for name in own.state_dict()}
        assert "self_attn.kv_a_proj_with_mqa.weight" in there
        assert not {"self_attn.k_proj.weight", "self_attn.v_proj.weight"} & there


def test_noise_that_is_drawn_while_writing_is_refused(families):
    recipe = mixture(families("llama"), gate_mode="random")
    recipe.config["moe"]["experts"][0]["noise_scale"] = 0.1
    with pytest.raises(MergeError, match="noise_scale"):
        Mergers(lambda: ResidentMerger(merge_seed=SEED)).merge(recipe)


def test_weights_that_are_not_finite_are_told(families):
    mergers = Mergers(lambda: ResidentMerger(merge_seed=SEED))
    with pytest.raises(MergeError, match="not finite"):
        mergers.merge(mixture(families("llama"), 1e6, gate_mode="random", dtype="float16"))
