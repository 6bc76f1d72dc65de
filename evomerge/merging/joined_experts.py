"""Mixtures of experts in memory: every expert is merged straight into its place in one live model.

transformers keeps the experts of a layer in two tensors: ``gate_up_proj``, shape (experts, 2 *
intermediate size, hidden size), gate above up, and ``down_proj``, shape (experts, hidden size,
intermediate size). A part of one of them is the home of one tensor of one expert's merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import MergeError
from evomerge.merging.joined_frame import JoinedFrame
from evomerge.merging.kernels.engine import Merged, TensorOrigin
from evomerge.merging.live_model import LiveModel
from evomerge.merging.live_weights import Weights, refuse_not_finite
from evomerge.merging.merge_failures import failures_told
from evomerge.merging.mergers import Mergers
from evomerge.merging.router_gates import needs, of_tensors
from evomerge.merging.staged import made_before
from evomerge.recipe.joined_parts import Part, merges_of_merges, parts_of
from evomerge.recipe.plain import Recipe

_MLP = ".mlp."
_RESIDUAL = "down_proj"


class JoinedMerger:
    """Merges expert after expert into one live mixture.

    Args:
        mergers: Whose sources the experts are merged from.
    """

    def __init__(self, mergers: Mergers) -> None:
        self._mergers = mergers
        self._resident = mergers.resident
        self._live: _Live | None = None
        self._key = ""

    def merge(self, recipe: Recipe, deadline: Deadline | None = None) -> LiveModel:
        """See :class:`evomerge.merging.base.Merger`."""
        if merges_of_merges(recipe):
            self._live = None
            with made_before(recipe, self._mergers.make(), deadline) as built:
                return JoinedMerger(Mergers(self._mergers.make)).merge(built, deadline)
        parts = parts_of(recipe)
        if self._live is None or self._key != recipe.structure_key:
            self._live = None  # its memory is the next one's
            self._resident.keep(len(parts))
            with failures_told():
                frame = JoinedFrame.of(recipe, parts, self._resident)
                self._live = _Live.of(frame, parts)
            self._key = recipe.structure_key
        live = self._live
        for part in parts:
            self._resident.send(part.recipe, live.taking(part), deadline)
        live.route(parts[0])
        return LiveModel(module=live.module, tokenizer=live.frame.tokenizer)

    def drop_live(self) -> None:
        """See :class:`evomerge.merging.base.KindMerger`."""
        self._live = None

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Gives back the live mixture."""
        self._live = None


@dataclass
class _Live:
    """A live mixture, and where each tensor of each part goes.

    Attributes:
        frame: What surrounds its weights.
        module: It.
        homes: Part's model -> tensor of its merge -> its places.
        gates: The places of the routers of experts, and of shared ones, layer by layer.
    """

    frame: JoinedFrame
    module: PreTrainedModel
    homes: Mapping[str, Mapping[str, Sequence[_Home]]]
    gates: Sequence[tuple[torch.Tensor, torch.Tensor | None]]
    _held: dict[tuple[str, str], TensorOrigin] = field(default_factory=dict)
    _of_base: dict[str, torch.Tensor] = field(default_factory=dict)
    _routed: str = ""  # digest of the base whose gates it has

    @classmethod
    def of(cls, frame: JoinedFrame, parts: Sequence[Part]) -> _Live:
        """A mixture of zeros, to be filled."""
        weights = Weights.load(
            frame.config,
            frame.zeros(),
            device=str(frame.device),
            dtype=frame.live_dtype,
        )
        if not weights.in_place:
            raise MergeError(
                f"{type(weights.module).__name__} has no place of its own for every tensor",
                where="merge",
            )
        weights.module.generation_config = frame.generation
        bound = weights.bound
        homes: dict[str, dict[str, list[_Home]]] = {part.name: {} for part in parts}
        for part in parts:
            for name, home in _homes(part, bound):
                homes[part.name].setdefault(name, []).append(home)
        n_layers = frame.base.num_hidden_layers
        places = [f"model.layers.{layer}.mlp" for layer in range(n_layers)]
        gates = [
            (bound[f"{p}.gate.weight"], bound.get(f"{p}.shared_expert_gate.weight")) for p in places
        ]
        return cls(frame, weights.module, homes, gates)

    def taking(self, part: Part) -> Callable[[Iterator[Merged]], None]:
        """What puts the tensors of a part into their places."""
        homes, base = self.homes[part.name], part.recipe.digest
        is_gated = part.is_base and self.frame.gates is None and self._routed != base
        needed = needs(self.frame.gate_mode) if is_gated else None

        def take(merged: Iterable[Merged]) -> None:
            for one in merged:
                if needed is not None and needed in one.name:
                    self._keep(one)
                own = homes.get(one.name, ())
                key = (part.name, one.name)
                if own and not one.origin.repeats(self._held.get(key)):
                    self._held.pop(key, None)
                    self._fill(one, own)
                    self._held[key] = one.origin

        return take

    def route(self, base: Part) -> None:
        """Gives the routers the gates that belong to the base that was merged."""
        if self._routed == base.recipe.digest:
            return
        frame, self._routed = self.frame, ""
        gates = frame.gates
        if gates is None:
            with failures_told():
                gates = of_tensors(
                    frame.joined, frame.base, self._of_base, frame.prompter, str(frame.device)
                )
        self._of_base.clear()
        n = len(frame.joined.experts)
        for rows, (home, shared) in zip(gates, self.gates, strict=True):
            home.copy_(rows[:n].to(frame.dtype))
            refuse_not_finite([("the gates", home)])
            if shared is not None:
                shared.copy_(rows[n:].to(frame.dtype))
        self._routed = base.recipe.digest

    def _keep(self, one: Merged) -> None:
        tensor = one.tensor()
        if tensor is not None:
            self._of_base[one.name] = tensor

    def _fill(self, one: Merged, homes: Sequence[_Home]) -> None:
        """Rounds as the files would: to the dtype of the merge, then to that of the mixture."""
        plain = [home.place for home in homes if home.scale is None]
        if plain and one.stored is not None and self.frame.dtype in (None, one.stored):
            if not one.write(plain[0]):
                refuse_not_finite([(one.name, plain[0])])
            for place in plain[1:]:
                place.copy_(plain[0])
            homes = [home for home in homes if home.scale is not None]
        tensor = one.tensor() if homes else None
        if tensor is None:
            return
        for home in homes:
            scaled = tensor if home.scale is None else tensor * home.scale
            home.place.copy_(scaled.to(self.frame.dtype or scaled.dtype))
            refuse_not_finite([(one.name, home.place)])


@dataclass(frozen=True, eq=False)
class _Home:
    """Where one tensor of one merge goes.

    Attributes:
        place: There.
        scale: By which it is multiplied on the way; None: it is not.
    """

    place: torch.Tensor
    scale: float | None = None


def _homes(part: Part, bound: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, _Home]]:
    """The tensors of a part that reach the mixture, each with a place."""
    for name, tensor in bound.items():
        before, mlp, after = name.partition(_MLP)
        if not mlp:
            if part.is_base:
                yield name, _Home(tensor)
        elif after == "experts.gate_up_proj":
            half = tensor.shape[1] // 2
            for index, _ in part.experts:
                yield f"{before}{_MLP}gate_proj.weight", _Home(tensor[index, :half])
                yield f"{before}{_MLP}up_proj.weight", _Home(tensor[index, half:])
        elif after == "experts.down_proj":
            for index, scale in part.experts:
                yield f"{before}{_MLP}down_proj.weight", _Home(tensor[index], scale)
        elif after.startswith("shared_expert.") and part.shared:
            own = after.removeprefix("shared_expert.")
            (scale,) = part.shared
            yield f"{before}{_MLP}{own}", _Home(tensor, scale if _RESIDUAL in own else None)
