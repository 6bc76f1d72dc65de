"""What mixtures of experts mergekit-moe makes of which models, and which of their tensors it takes.

A contract test compares it with mergekit 0.1.5. A tensor that its list lacks is left out without a
word.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

GateMode = Literal["hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random"]
OutputName = Literal["mixtral", "deepseek", "qwen", "qwen3"]

_LAYER = re.compile(r"(?:^|\.)layers\.\d{1,9}\.")
_ATTENTION = ("q_proj", "k_proj", "v_proj")
_PLAIN = frozenset(
    {
        *(f"self_attn.{name}.weight" for name in (*_ATTENTION, "o_proj")),
        *(f"mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")),
        *("input_layernorm.weight", "post_attention_layernorm.weight"),
    }
)


@dataclass(frozen=True)
class Output:
    """One kind of mixture.

    Attributes:
        made_of: Architectures of its models; all have the same.
        n_shared: How many shared experts it may have.
        prompts: Whether shared experts have prompts; None: they may.
        takes: Names of the tensors of a layer that it takes.
        unheld: Why transformers holds no model that comes of it; empty where it does.
    """

    made_of: tuple[str, ...]
    n_shared: tuple[int, ...]
    takes: frozenset[str]
    prompts: bool | None = None
    unheld: str = ""


_CODE_OF_THE_HUB = (
    "its model_type deepseek is code of deepseek-ai/deepseek-moe-16b-base on the Hub, and "
    "transformers has deepseek_v2 and later alone, whose attention has other tensors"
)
_LLAMAS = ("LlamaForCausalLM", "MistralForCausalLM")
OUTPUTS: Mapping[str, Output] = {  # in the order in which mergekit takes the first that fits
    "mixtral": Output(_LLAMAS, (0,), _PLAIN),
    "deepseek": Output(_LLAMAS, (0, 1), _PLAIN, prompts=False, unheld=_CODE_OF_THE_HUB),
    "qwen": Output(
        (*_LLAMAS, "Qwen2ForCausalLM"),
        (1,),
        _PLAIN | {f"self_attn.{name}.bias" for name in _ATTENTION},
        prompts=True,
    ),
    "qwen3": Output(
        ("Qwen3ForCausalLM",),
        (0,),
        _PLAIN | {"self_attn.q_norm.weight", "self_attn.k_norm.weight"},
    ),
}


def output_of(
    architecture: str, wanted: str | None, shared: Sequence[bool], gate_mode: str
) -> str | None:
    """The mixture that mergekit-moe makes; None where it makes none.

    Args:
        architecture: Of the models.
        wanted: The one that is asked for by name.
        shared: Per shared expert, whether it has prompts.
        gate_mode: How gates are made.
    """
    for name, output in OUTPUTS.items():
        if (
            name.startswith(wanted or "")
            and architecture in output.made_of
            and len(shared) in output.n_shared
            and (output.prompts is None or _prompts_fit(output, shared, gate_mode))
        ):
            return name
    return None


def left_out(output: str, tensors: Collection[str]) -> Iterator[str]:
    """Tensors of a layer that mergekit-moe drops without a word.

    Args:
        output: What it makes.
        tensors: Names with ``{layer}`` for the layer's number.
    """
    for name in tensors:
        if name.partition("{layer}.")[2] not in OUTPUTS[output].takes:
            yield name


def lacks_biases(output: str, tensors: Collection[str]) -> bool:
    """Whether mergekit-moe gives it biases of zeros, as long as its hidden states are wide.

    Args:
        output: What it makes.
        tensors: As for :func:`left_out`.
    """
    there = {name.partition("{layer}.")[2] for name in tensors}
    return any(name.endswith(".bias") for name in OUTPUTS[output].takes - there)


def why_dropped(
    joined: Mapping[str, Any], architecture: str, name: str, *, is_base: bool, is_expert: bool
) -> str:
    """Why mergekit-moe does not take a tensor of a model; empty where it does.

    Args:
        joined: What it reads.
        architecture: Of the model.
        name: Of the tensor.
        is_base: Whether the model is the base.
        is_expert: Whether it is an expert, shared or not.
    """
    in_layer = _LAYER.split(name, maxsplit=1)[1:]
    is_mlp = bool(in_layer) and in_layer[0].startswith("mlp.")
    if is_mlp and not is_expert:
        return "mergekit-moe takes MLPs of experts alone"
    if not is_mlp and not is_base:
        return "mergekit-moe takes all but the MLPs from the base"
    shared = [bool(one.get("positive_prompts")) for one in joined.get("shared_experts") or ()]
    mode = joined.get("gate_mode", "hidden")
    output = output_of(architecture, joined.get("architecture"), shared, mode)
    if output is None or not in_layer or in_layer[0] in OUTPUTS[output].takes:
        return ""
    return f"mergekit-moe makes {output} of it, which has no such tensor"


def _prompts_fit(output: Output, shared: Sequence[bool], gate_mode: str) -> bool:
    if output.prompts and gate_mode == "random":
        return True
    return all(has == output.prompts for has in shared)
