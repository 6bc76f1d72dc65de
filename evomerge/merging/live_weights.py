"""A live model bound to the tensors of a built checkpoint, heads tied or not as it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.core_model_loading import WeightRenaming

from evomerge.foundations.errors import MergeError, ModelError
from evomerge.merging.kernels.engine import Merged, TensorOrigin
from evomerge.models.own_heads import keep_own_heads
from evomerge.models.quiet import quiet_transformers


class Weights:
    """The parameters of one model, by checkpoint name.

    Writing in place equals loading anew only if each of the model's tensors is one tensor
    of the checkpoint, unchanged. That is looked at, not assumed: transformers renames some
    tensors and fuses others.

    Args:
        module: The model, just loaded from ``tensors``.
        tensors: Checkpoint name -> tensor, as a built folder would hold them.

    Attributes:
        bound: The model's tensors by the names they have in the checkpoint.
        in_place: Whether ``write`` may be used.
    """

    def __init__(self, module: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
        self.module = module
        homes = _homes(module, tensors)
        _untie(module, set(homes.values()))
        keep_own_heads(module)
        own = module.state_dict(keep_vars=True)
        refuse_not_finite(own.items())
        self.bound = {name: own[home] for name, home in homes.items()}
        bound = {id(tensor) for tensor in self.bound.values()}
        self._held: dict[str, TensorOrigin] = {}  # what was last written where
        self.in_place = all(id(tensor) in bound for tensor in own.values()) and all(
            torch.equal(home, tensors[name].to(home)) for name, home in self.bound.items()
        )

    @classmethod
    def load(
        cls,
        config: PreTrainedConfig,
        tensors: Mapping[str, torch.Tensor],
        *,
        device: str,
        dtype: str | None,
    ) -> Weights:
        """What ``from_pretrained`` makes of a folder with these tensors, without the folder.

        Args:
            config: The folder's configuration.
            tensors: Checkpoint name -> tensor; may become the model's own storage.
            device: Where the model goes.
            dtype: Of the model; None: the configuration's, as transformers does by itself.

        Raises:
            ModelError: tensors that the model needs are missing.
            MergeError: a weight is not finite.
        """
        with quiet_transformers():
            module = loaded(
                model_class(config),
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=dtype or "auto",
            )
        return cls(module.to(device), tensors)  # type: ignore[arg-type]  # transformers hides torch's signature

    def release(self) -> None:
        """Gives the model's memory back, whoever has the model: it answers nothing any more."""
        self.bound = {}
        self.module.to("meta")  # type: ignore[arg-type]  # transformers hides torch's signature

    def write(self, tensors: Iterable[Merged]) -> frozenset[str]:
        """Overwrites every parameter; ``tensors`` have the names of those it was loaded from.

        Those that hold the same values of the same plan already are left as they are.

        Returns:
            Names of those that mergekit leaves out, whose places hold what they held.

        Raises:
            MergeError: a weight is not finite.
        """
        left_out = set()
        for merged in tensors:
            name, home = merged.name, self.bound.get(merged.name)
            if home is None or merged.origin.repeats(self._held.get(name)):
                continue
            self._held.pop(name, None)
            if merged.is_left_out:
                left_out.add(name)
                continue
            if not merged.write(home):
                refuse_not_finite([(name, home)])
            self._held[name] = merged.origin
        return frozenset(left_out)


def loaded(kind: type[PreTrainedModel], source: str | None, **given: Any) -> PreTrainedModel:
    """A model of a class as ``from_pretrained`` makes it, with everything that the class needs.

    Args:
        kind: Its class.
        source: Where it is loaded from; None: of tensors that are given.
        given: As ``from_pretrained`` takes it.

    Raises:
        ModelError: tensors that the model needs are missing.
    """
    found: Any = kind.from_pretrained(source, output_loading_info=True, **given)
    module, report = found
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the models hold no {missing[0]!r} (and {len(missing) - 1} more), which"
            f" {kind.__name__} needs",
            fix="Save the models with the transformers class they were trained with.",
        )
    module.requires_grad_(False)
    own: PreTrainedModel = module
    return own


def model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """What ``AutoModelForCausalLM`` would take, which itself insists on a folder.

    Of models that see: what ``AutoModelForImageTextToText`` would take; it reads plain text, too.
    """
    found: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    found = found or MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(type(config), None)
    if found is None:
        raise ModelError(
            f"transformers has no causal language model for {type(config).__name__}",
            fix="Use models of an architecture that transformers holds itself.",
        )
    known: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return known


def _homes(module: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Checkpoint name -> name in the model: its own, or of the one tensor it became.

    Checkpoint tensors without a home are those transformers does not use.
    """
    own = module.state_dict(keep_vars=True)
    homes = {name: name for name in tensors if name in own}
    for name in tensors.keys() - own.keys():
        home = _renamed(module, name)
        if home in own and home not in tensors and _same(own[home], tensors[name]):
            homes[name] = home
    renamed = [name for name in tensors if name not in homes]
    for home in own.keys() - set(homes.values()):
        equal = [name for name in renamed if _same(own[home], tensors[name])]
        if len(equal) == 1:
            homes[equal[0]] = home
    return homes


def _renamed(module: PreTrainedModel, name: str) -> str:
    """The name in the model of a tensor that transformers only renames."""
    for conversion in getattr(module, "_weight_conversions", None) or ():
        if isinstance(conversion, WeightRenaming):
            name, _ = conversion.rename_source_key(name)
    return name


def _same(home: torch.Tensor, tensor: torch.Tensor) -> bool:
    return home.shape == tensor.shape and torch.equal(home, tensor.to(home))


def _untie(module: PreTrainedModel, homes: set[str]) -> None:
    """Parts tied parameters for each of which the checkpoint holds a tensor.

    transformers ties such a pair only where both are equal. That may change from merge to
    merge; a pair of equal tensors computes the same as a tied one.
    """
    taken: set[int] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name not in homes:
            continue
        if id(parameter) in taken:
            parent, _, leaf = name.rpartition(".")
            own = torch.nn.Parameter(parameter.clone(), requires_grad=False)
            setattr(module.get_submodule(parent), leaf, own)
        taken.add(id(parameter))


def refuse_not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Looks at merged weights.

    Raises:
        MergeError: one holds NaN or infinity.
    """
    for name, tensor in tensors:
        # One fast pass in most cases: a sum is finite unless an entry is not, or it overflows.
        if not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
            continue
        if not torch.isfinite(tensor).all():
            raise MergeError("the merged weights are not finite", where=name)
