"""Genomes for every merge method in every layout; imports nothing heavy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.merge_method import Base, Method, MethodParameter, Scope
from evomerge.genome.methods import METHODS
from evomerge.merge_spaces import merge_space_for
from evomerge.merge_spaces.base import MergeSpace
from evomerge.models.architecture import Architecture

# Three layers, so that groups of two leave a remainder; one module with a bias.
LLAMA = Architecture(
    "LlamaForCausalLM",
    3,
    ("model.embed_tokens.weight",),
    (
        "model.layers.{layer}.input_layernorm.weight",
        "model.layers.{layer}.self_attn.q_proj.weight",
        "model.layers.{layer}.self_attn.q_proj.bias",
        "model.layers.{layer}.mlp.up_proj.weight",
    ),
    ("model.norm.weight",),
    ("lm_head.weight",),
)
# With all tensors that add to the residual stream, which paths may scale.
GATED = replace(
    LLAMA,
    layer_tensors=(
        *LLAMA.layer_tensors,
        "model.layers.{layer}.self_attn.o_proj.weight",
        "model.layers.{layer}.mlp.down_proj.weight",
    ),
)
# Two parts beside a language model, one without layers.
SEEING = replace(
    LLAMA,
    name="SeeingForConditionalGeneration",
    beside=("projector.weight", "tower.0.weight", "tower.1.weight"),
    parts={
        "text_decoder": LLAMA,
        "projector": Architecture("", 0, ("projector.weight",), (), (), ()),
        "tower": Architecture("", 2, (), ("tower.{layer}.weight",), (), ()),
    },
)
ARCHITECTURES = {"layers": GATED, "modules": SEEING}
# Two modules of embeddings, a tied head, a layer module whose name holds another's.
GPT = Architecture(
    "GPT2LMHeadModel",
    2,
    ("wte.weight", "wpe.weight"),
    (
        "h.{layer}.ln_1.weight",
        "h.{layer}.attn.c_proj.weight",
        "h.{layer}.mlp.c_proj.weight",
        "h.{layer}.mlp.c_proj_gate.weight",
    ),
    ("ln_f.weight", "ln_f.bias"),
    (),
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "evolve": {},
    "evolve-groups": {"layer_granularity": 2},
    "evolve-filters": {"layer_granularity": 2, "filters": ["self_attn", "lm_head", "layers.0."]},
    "evolve-smooth": {"layer_granularity": 1, "smooth": True},
    "evolve-smooth-filters": {
        "layer_granularity": 2,
        "smooth": True,
        "filters": ["mlp", "embed_tokens"],
    },
    "model": {"granularity": "model"},
    "layers": {"granularity": "layers", "layer_granularity": 2},
    "layer": {"granularity": "layer"},
    "parameter": {"granularity": "parameter"},
    "tensor": {"granularity": "tensor"},
}

TASKS = (("sums", "sums_holdout"), ("rhymes",))
# Two models of LLAMA's three layers, written as two slices that may vary.
_SLICES = [
    {"model": "org/model_0", "layer_range": [0, {"integer": [1, 3]}]},
    {
        "model": "org/model_1",
        "layer_range": [{"integer": [0, 2]}, 3],
        "scale": {"range": [0.5, 2.0]},
    },
]
LAYER_SPACES: dict[str, dict[str, Any]] = {
    "path": {"edits": 1},
    "mask": {"encoding": "mask", "repeats": 1},
    "mask-twice": {"encoding": "mask", "scales": None},
    "slices": {"encoding": "slices", "slices": _SLICES},
}

OPENED_LAYOUTS = ("evolve", "evolve-filters", "parameter")


def is_open(method: Method, parameter: MethodParameter) -> bool:
    """Whether there is a choice or a range that may be searched."""
    can_vary = parameter.kind is bool or parameter.range is not None
    return can_vary and not parameter.is_dead and parameter.name != method.normalized_by


def opened(method: Method) -> dict[str, Any]:
    """Every parameter that may vary and does not by itself, opened."""
    settings: dict[str, Any] = {}
    for parameter in method.parameters:
        range_ = parameter.range
        if parameter.searched or not is_open(method, parameter):
            continue
        if parameter.kind is bool or range_ is None:
            settings[parameter.name] = {"choice": [True, False]}
        elif parameter.kind is int:
            settings[parameter.name] = {"integer": [int(range_.low), int(range_.high)]}
        else:
            settings[parameter.name] = {"range": [range_.low, range_.high], "log": range_.log}
    return settings


def definition(method: Method, **fields: Any) -> MergeDefinition:
    """A genome block with as many models as the method takes, three at most."""
    n_models = min(method.max_sources or 3, 3)
    data: dict[str, Any] = {
        "models": [f"org/model_{index}" for index in range(n_models)],
        "merge_method": method.name,
        **fields,
    }
    if method.base is Base.REQUIRED:
        data.setdefault("base_model", "org/base")
    return MergeDefinition.model_validate(data)


def build(definition: MergeDefinition, architecture: Architecture | None = None) -> MergeSpace:
    kind = merge_space_for(definition)
    architecture = architecture or ARCHITECTURES.get(kind.name, LLAMA)
    return kind(definition, architecture, "bfloat16", TASKS)


def _cases() -> dict[str, MergeDefinition]:
    found = {}
    for name, method in METHODS.items():
        searched = any(parameter.searched for parameter in method.parameters)
        for layout, fields in LAYOUTS.items():
            if searched:
                found[f"{name}-{layout}"] = definition(method, **fields)
            if opened(method) and layout in OPENED_LAYOUTS:
                found[f"{name}-{layout}-opened"] = definition(
                    method, **fields, parameters=opened(method)
                )
        weight = [p for p in method.parameters if p.name == "weight"]
        if weight:
            found[f"{name}-negative"] = definition(method, allow_negative_weights=True)
        if weight and method.normalized_by not in (None, "always"):
            for normalize in (True, False):
                found[f"{name}-normalize-{normalize}"] = definition(method, normalize=normalize)
    slerp = {"models": ["org/a", "org/b", "org/c"], "merge_method": "slerp"}
    found["slerp-three"] = MergeDefinition.model_validate(slerp)
    experts = {"models": [f"org/base+org/lora_{i}" for i in range(3)], "merge_method": "linear"}
    found["factors"] = MergeDefinition.model_validate({**experts, "adapters": "factors"})
    found["slerp-three-groups"] = MergeDefinition.model_validate({**slerp, "layer_granularity": 2})
    soup = {"models": ["org/model_0", "org/model_1", "org/model_2"], "space": "soup"}
    for layout in ("evolve-groups", "evolve-filters", "evolve-smooth", "parameter"):
        found[f"moe-{layout}"] = _mixture(**LAYOUTS[layout])
    for method, layout in (("linear", "layers"), ("ties", "evolve-filters"), ("slerp", "evolve")):
        found[f"modules-{method}-{layout}"] = _parts(method, **LAYOUTS[layout])
    found["soup"] = MergeDefinition.model_validate(soup)
    for name, settings in {"mixture": {}, "mixture-by-task": {"per": "task"}}.items():
        mixture = {**soup, "space": {"name": "mixture", **settings}}
        found[name] = MergeDefinition.model_validate(mixture)
    for name, settings in LAYER_SPACES.items():
        block = {"models": soup["models"], "space": {"name": "layers", **settings}}
        found[f"layers-{name}"] = MergeDefinition.model_validate(block)
    return found


def _parts(method: str, **fields: Any) -> MergeDefinition:
    """The language models are merged; of the towers those of two models; one part stays."""
    tower = {"models": ["org/base", "org/model_0"]}
    language: dict[str, Any] = {"models": ["org/base", "org/model_0", "org/model_1"]}
    if method == "slerp":
        language = tower
    data = {
        "base_model": "org/base",
        "merge_method": method,
        "modules": {"text_decoder": language, "tower": tower},
        **fields,
    }
    return MergeDefinition.model_validate(data)


def _mixture(**fields: Any) -> MergeDefinition:
    """A merge of its own method and prompts, one of the genome's, and a model as it is."""
    experts: list[Any] = [
        {"positive_prompts": ["one"], "models": ["org/model_0", "org/model_2"]},
        {"merge_method": "linear", "positive_prompts": ["two"]},
        {"model": "org/model_1", "positive_prompts": ["three"]},
    ]
    shared = [{"expert": 1, "positive_prompts": ["four"]}]
    data = {
        "models": ["org/model_0", "org/model_1", "org/model_2"],
        "base_model": "org/base",
        "merge_method": "ties",
        "space": {
            "name": "moe",
            "experts": experts,
            "architecture": "qwen",
            "shared_experts": shared,
        },
        **fields,
    }
    return MergeDefinition.model_validate(data)


CASES = _cases()


def _placed(method: str) -> tuple[Any, ...]:
    """What decides where the values of a method stand: methods that are alike share that code."""
    found = METHODS[method]
    searched = [parameter for parameter in found.parameters if parameter.searched]
    scopes = {p.name if p.name == "weight" else p.scope is Scope.SHARED for p in searched}
    return (scopes, found.normalize or found.normalized_by == "always")


def _met() -> set[str]:
    """Names of cases in which each way of placing values meets each layout, each method two.

    Layouts do not know methods, nor methods layouts; the rest of the product is slow.
    """
    met, pairs = set(CASES), []
    for turn, method in enumerate(METHODS):
        names = [name for name in CASES if name.startswith(f"{method}-")]
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            pair = (_placed(method), name.removeprefix(method))
            if place >= 2 and pair in pairs:
                met.discard(name)
            pairs.append(pair)
    return met


MET = _met()
