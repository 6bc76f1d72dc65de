"""Several models that answer as one: the mean of their next-token distributions.

With members m of weights w_m, which sum to 1::

    arithmetic:  log p = log sum_m w_m p_m
    geometric:   log p = sum_m w_m log p_m - log sum_v exp(sum_m w_m log p_m(v))

each p_m a softmax in float32, whatever the members' dtypes. Rows of a head are tokens; where a
member has fewer than another, the probability of those it lacks is 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from evomerge.recipe.pool import Mean

# What the masks and the shared tokens of a pass depend on, beside the dtype; members that agree
# take the same ones.
_PASS_SETTINGS = ("model_type", "_attn_implementation", "sliding_window", "rope_parameters")
_OF_SEVERAL = "mixture"  # as a model type
_LENGTH = "max_position_embeddings"


class MixedModel(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]  # theirs
    """A model whose logits are the log-probabilities of a mixture of models.

    One cache holds the keys and values of all members, layer after layer. A member of weight 0
    is not run.

    Args:
        members: Whose tokens mean the same, on one device.

    Attributes:
        members: All of them.
        weights: One each.
        mean: Of their probabilities.
        token: The same object as long as the members are the same.
    """

    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, members: Sequence[PreTrainedModel]) -> None:
        super().__init__(_config_of(members))
        self.members = torch.nn.ModuleList(members)
        self.generation_config = members[0].generation_config
        self.token = object()
        self.weights: tuple[float, ...] = ()
        self.mean: Mean = "arithmetic"
        self._run: list[PreTrainedModel] = []
        self._is_apart = False
        self.mix([1 / len(members)] * len(members), "arithmetic")

    def mix(self, weights: Sequence[float], mean: Mean) -> MixedModel:
        """Sets how the members are combined from now on; the model itself.

        Args:
            weights: One per member, 0 or more, with the sum 1.
            mean: Of their probabilities.
        """
        self.weights, self.mean = tuple(weights), mean
        members: Any = self.members
        self._run = [m for m, weight in zip(members, weights, strict=True) if weight > 0]
        self.config.num_hidden_layers = sum(map(_n_layers, self._run))
        return self

    def beside(self) -> MixedModel:
        """Another model of the same members, to be mixed in another way."""
        other = MixedModel([*self.members])
        other.token = self.token
        return other

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Inside, the logits are those of each member, shape (..., members, vocabulary)."""
        self._is_apart = True
        try:
            yield
        finally:
            self._is_apart = False

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: Any = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **more: Any,
    ) -> CausalLMOutputWithPast:
        """As every causal model of transformers; a loss is none of its outputs."""
        run: Any = self.members if self._is_apart else self._run
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        logits = [
            member(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=logits_to_keep,
                **more,
            ).logits
            for member, cache in zip(run, _caches(run, past_key_values), strict=True)
        ]
        logits = even_rows(logits)
        if self._is_apart:
            mixed = torch.stack(logits, dim=-2)
        else:
            mixed = mix([w for w in self.weights if w > 0], logits, self.mean)
        return CausalLMOutputWithPast(logits=mixed, past_key_values=past_key_values)

    def get_output_embeddings(self) -> Any:
        """What stands for a head: it is hooked where those of the members are."""
        members: Any = self.members
        return _Heads([member.get_output_embeddings() for member in members])


def even_rows(logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Logits of several models over as many tokens: of those that one lacks, minus infinity."""
    most = max((one.shape[-1] for one in logits), default=0)
    return [
        torch.nn.functional.pad(one, (0, most - one.shape[-1]), value=-math.inf)
        if one.shape[-1] < most
        else one
        for one in logits
    ]


def mix(weights: Sequence[float], logits: Sequence[torch.Tensor], mean: Mean) -> torch.Tensor:
    """Log-probabilities of a mixture, float32, from its members' logits, all of them above 0."""
    total: torch.Tensor | None = None
    for weight, own in zip(weights, logits, strict=True):
        log = torch.log_softmax(own.float(), dim=-1)
        if mean == "geometric":
            total = weight * log if total is None else total.add_(log, alpha=weight)
        else:
            log += math.log(weight)
            total = log if total is None else torch.logaddexp(total, log)
    if total is None:
        raise ValueError("a mixture of no members")
    return torch.log_softmax(total, dim=-1) if mean == "geometric" else total


class _Heads:
    """The heads of several members, as a hook sees one."""

    def __init__(self, heads: Sequence[torch.nn.Module]) -> None:
        self._heads = heads
        self._handles: list[Any] = []

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> _Heads:
        self._handles = [head.register_forward_pre_hook(hook) for head in self._heads]
        return self

    def remove(self) -> None:
        """Takes the hook from all of them."""
        for handle in self._handles:
            handle.remove()


def _config_of(members: Sequence[PreTrainedModel]) -> Any:
    """The first member's configuration; of a type of its own where passes of others differ."""
    config: Any = copy.deepcopy(members[0].config)
    lengths = [getattr(m.config, _LENGTH, None) for m in members]
    if all(lengths):
        setattr(config, _LENGTH, min(filter(None, lengths)))
    config.get_text_config(decoder=True).vocab_size = max(
        member.config.get_text_config(decoder=True).vocab_size for member in members
    )
    told = {
        str([m.dtype, *(getattr(m.config, name, None) for name in _PASS_SETTINGS)]) for m in members
    }
    if len(told) > 1:
        config.model_type = _OF_SEVERAL
    return config


def _caches(members: Sequence[Any], whole: Cache | None) -> list[Cache | None]:
    """The part of a cache that is each member's; they share its layers."""
    if whole is None:
        return [None] * len(members)
    is_new = not any(getattr(layer, "is_initialized", True) for layer in whole.layers)
    if type(whole) is DynamicCache and is_new:
        own = (DynamicCache(config=member.config).layers for member in members)
        whole.layers[:] = chain.from_iterable(own)  # sliding ones where a member's are
    bounds = [0, *accumulate(map(_n_layers, members))]
    make = whole.layer_class_to_replicate
    while make is not None and len(whole.layers) < bounds[-1]:
        whole.layers.append(make())
    return [Cache(layers=whole.layers[begin:end]) for begin, end in pairwise(bounds)]


def _n_layers(member: PreTrainedModel) -> int:
    return int(member.config.get_text_config(decoder=True).num_hidden_layers)
