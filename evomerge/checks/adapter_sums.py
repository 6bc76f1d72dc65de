"""Whether LoRA adapters can be summed factor by factor, where the genome asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evomerge.checks.context import CheckContext
from evomerge.checks.reference_model import some
from evomerge.checks.resources import HEADER_NAMES
from evomerge.foundations.findings import Finding, error
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import AdapterFacts, ModelFacts
from evomerge.models.inspect import ADAPTER_WEIGHTS
from evomerge.recipe.adapter_sum import sum_in

_PREFIX = "base_model.model."
_FACTORS = (".lora_A.weight", ".lora_B.weight")
_INSTEAD = "Leave adapters: delta, which folds each into the base first."
# What the sum shares, with what PEFT takes where it is absent.
_SHARED = {"r": 8, "lora_alpha": 8, "target_modules": None, "use_rslora": False, "use_dora": False}
# What changes a model in other ways than scaling * B A, or scales modules each in its own way.
_NOT_PLAIN = (
    *("use_dora", "use_qalora", "use_bdlora", "fan_in_fan_out", "lora_bias", "modules_to_save"),
    *("rank_pattern", "alpha_pattern", "target_parameters", "trainable_token_indices"),
    *("alora_invocation_tokens", "arrow_config", "velora_config", "monteclora_config"),
    *("mica", "kasa_config", "megatron_config"),
)
_PLAIN_STARTS = ("gaussian",)  # others change the base too


def summed_adapters(context: CheckContext) -> Iterator[Finding]:
    """Adapters that are not plain, or not like the first one."""
    if merge_space_for(context.genome.genome).folds_adapters:
        return
    first: tuple[ModelFacts, AdapterFacts] | None = None
    for model in context.models:
        adapter = model.adapter
        if adapter is None:
            continue  # the base, or refused by the genome itself
        yield from _kind(model, adapter)
        if first is None:
            first = model, adapter
            yield from _base(model)
        else:
            yield from _unlike(model, adapter, first[1])


def _kind(model: ModelFacts, adapter: AdapterFacts) -> Iterator[Finding]:
    config = adapter.config
    odd = [f"{key}: {config[key]}" for key in _NOT_PLAIN if config.get(key)]
    if config.get("bias", "none") != "none":
        odd.append(f"bias: {config['bias']}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights: {start}")
    if odd:
        yield error(
            f"{adapter.name} is more than A and B ({', '.join(odd)}), and adapter_factors sums"
            " these only",
            model.key,
            _INSTEAD,
        )
    if adapter.tensors and ADAPTER_WEIGHTS not in adapter.files:
        yield error(
            f"{adapter.name} has no {ADAPTER_WEIGHTS}, which adapter_factors reads",
            model.key,
            "Save it as safetensors.",
        )
    others = [name for name in adapter.tensors if not name.endswith(_FACTORS)]
    if others:
        yield error(
            f"{adapter.name} holds tensors that are no A or B of a linear layer: {some(others)}",
            model.key,
            _INSTEAD,
        )
    homeless = sorted(_targets(adapter) - model.tensors.keys()) if model.tensors else []
    if homeless:
        yield error(
            f"{adapter.name} changes what is not in the files of its base: {some(homeless)}",
            model.key,
            "Name the model that the adapter was trained on.",
        )


def _targets(adapter: AdapterFacts) -> set[str]:
    """The tensors that an adapter changes."""
    return {
        name.removeprefix(_PREFIX).removesuffix(suffix) + ".weight"
        for suffix in _FACTORS
        for name in adapter.tensors
        if name.endswith(suffix)
    }


def _base(model: ModelFacts) -> Iterator[Finding]:
    """A base that transformers casts as it reads it: an adapter would be added to other numbers."""
    named = model.config.get("dtype") or model.config.get("torch_dtype") or ""
    wanted = HEADER_NAMES.get(str(named).removeprefix("torch."))
    stored = {t.dtype for t in model.tensors.values() if t.dtype in HEADER_NAMES.values()}
    if stored and stored != {wanted}:
        yield error(
            f"{model.name.partition('+')[0]} is stored in {some(sorted(stored))}, and its"
            f" config.json says {named or 'nothing'}; adapter_factors needs one dtype",
            model.key,
            f"Save the base in one dtype with transformers. {_INSTEAD}",
        )


def _unlike(model: ModelFacts, adapter: AdapterFacts, first: AdapterFacts) -> Iterator[Finding]:
    differing = [
        f"{key} is {_text(adapter.config, key)} here and {_text(first.config, key)} there"
        for key in _SHARED
        if _text(adapter.config, key) != _text(first.config, key)
    ]
    if differing:
        yield error(
            f"{adapter.name} cannot be summed with {first.name}: {'; '.join(differing)}",
            model.key,
            _INSTEAD,
        )
    lacking = sorted(first.tensors.keys() - adapter.tensors.keys())
    added = sorted(adapter.tensors.keys() - first.tensors.keys())
    for names, where, which in ((lacking, first, adapter), (added, adapter, first)):
        if names and first.tensors and adapter.tensors:
            yield error(
                f"{where.name} has {len(names)} tensors that {which.name} lacks: {some(names)}",
                model.key,
                _INSTEAD,
            )
    other = sorted(
        f"{name} {list(tensor.shape)} and {list(first.tensors[name].shape)}"
        for name, tensor in adapter.tensors.items()
        if name in first.tensors and tensor.shape != first.tensors[name].shape
    )
    if other:
        yield error(
            f"{adapter.name} and {first.name} have tensors of different shapes: {some(other)}",
            model.key,
            _INSTEAD,
        )


def _text(config: Mapping[str, Any], key: str) -> str:
    """A setting as people read it; lists in any order are equal."""
    value = config.get(key)
    value = _SHARED[key] if value is None else value
    return ", ".join(sorted(map(str, value))) if isinstance(value, list) else str(value)


def seeds_have_their_adapters(context: CheckContext) -> Iterator[Finding]:
    """Seeds whose summed adapter lies in another run folder."""
    for seed in context.seeds:
        if sum_in(seed.recipe) is not None:
            yield error(
                f"{seed.origin} is a sum of adapters, whose parts only its own run folder knows",
                "optimizer.seed_from",
                "Name a recipe that `evomerge export` wrote with -o: its adapter lies beside it.",
            )
