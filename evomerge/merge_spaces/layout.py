"""Where in a model values of their own may stand: slices of layers, and filters in them.

mergekit takes the embeddings' parameters from the first slice and those of the final norm and
the head from the last; groups of their own are therefore filters in these two slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evomerge.foundations.errors import GenomeError
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.parameter_values import ParameterSettings, Setting
from evomerge.models.architecture import Architecture


@dataclass(frozen=True)
class TensorGroup:
    """Tensors outside the layers that have values of their own, or one kind of tensor.

    Attributes:
        label: For names of parameters: ``"embeddings"``, ``"self_attn.q_proj"``.
        filter: The text that finds them among the tensors of their slice.
        example: Name of one of the tensors.
        is_kind: Whether it stands in every slice, rather than once in the model.
    """

    label: str
    filter: str
    example: str
    is_kind: bool = False


@dataclass(frozen=True)
class Slice:
    """Consecutive layers, and the groups that stand apart in them.

    Attributes:
        start: First layer.
        end: Layer after the last.
        tensors: Names of all its tensors, those outside the layers included.
        outside: Those of them outside the layers.
        groups: Each with values of its own, tried in this order.
        has_rest: Whether further tensors are left, which take the unfiltered values.
        is_named: Whether names of parameters say the layers.
    """

    start: int
    end: int
    tensors: tuple[str, ...]
    outside: frozenset[str]
    groups: tuple[TensorGroup, ...]
    has_rest: bool = True
    is_named: bool = True

    @property
    def label(self) -> str:
        """``"layers 0-3"``, ``"layer 4"``, or nothing where there is only one slice."""
        if not self.is_named:
            return ""
        last = self.end - 1
        return f"layer {last}" if last == self.start else f"layers {self.start}-{last}"


@dataclass(frozen=True)
class Cell:
    """One place that gets a value: a filter in a slice, and how the value is set.

    Attributes:
        label: For names of parameters.
        filter: mergekit's filter; None for the rest of the slice.
        setting: What the genome says of it; None where it says nothing.
        has_layers: Whether it holds tensors of layers; mergekit reads the others at depth 0.
        tensors: Names of its tensors.
    """

    label: str
    filter: str | None
    setting: Setting | None
    has_layers: bool = True
    tensors: frozenset[str] = frozenset()


def layout(definition: MergeDefinition, architecture: Architecture) -> tuple[Slice, ...]:
    """The slices of a genome, in order; one slice means no slicing.

    Raises:
        GenomeError: it groups layers of models that have several parts.
    """
    depth = architecture.n_layers
    granularity = definition.granularity
    by_kind = granularity in ("parameter", "tensor")
    step = {
        "layers": definition.layer_granularity,
        "layer": 1,
        "tensor": 1,
        None: 0 if definition.smooth else definition.layer_granularity,
    }.get(granularity, 0)
    step = step or depth or 1
    starts = list(range(0, depth, step)) or [0]  # a part may have no layers
    apart = granularity not in (None, "model")
    if architecture.parts and (apart or len(starts) > 1):
        raise _no_groups(architecture)
    first = _outside("embeddings", architecture.embeddings) if apart else ()
    head = _outside("head", architecture.head)
    last = (*head, *_outside("final norm", architecture.final_norm)) if apart else ()
    outside = frozenset((*architecture.embeddings, *architecture.final_norm, *architecture.head))
    return tuple(
        Slice(
            start,
            min(start + step, depth),
            tuple(_tensors(architecture, start, min(start + step, depth))),
            outside,
            (
                *(first if start == 0 else ()),
                *(last if start == starts[-1] else ()),
                *(_kinds(architecture, start) if by_kind else ()),
            ),
            has_rest=not by_kind,
            is_named=len(starts) > 1 or (apart and not by_kind),
        )
        for start in starts
    )


def _no_groups(architecture: Architecture) -> GenomeError:
    parts = ", ".join(architecture.parts)
    return GenomeError(
        f"{architecture.name} has several parts ({parts}), each with layers of its own",
        where="genome.granularity",
        fix=f"Add `modules: {{{architecture.language}: {{}}}}` to search that one alone, or name"
        " more parts there.",
    )


def _tensors(architecture: Architecture, start: int, end: int) -> Iterator[str]:
    if start == 0:
        yield from (*architecture.embeddings, *architecture.beside)
    for layer in range(start, end):
        for name in architecture.layer_tensors:
            yield name.replace("{layer}", str(layer))
    if end == architecture.n_layers:
        yield from architecture.final_norm
        yield from architecture.head


def cells(
    slice_: Slice, settings: ParameterSettings | None, filters: tuple[str, ...]
) -> Iterator[Cell]:
    """The places of a slice where a parameter with these settings gets a value.

    A filter that finds no tensor of the slice, or none that an earlier one left, is no place:
    its value would change nothing.
    """
    left = set(slice_.tensors)
    for cell in _places(slice_, settings, filters):
        own = {name for name in left if cell.filter is None or cell.filter in name}
        if own:
            left -= own
            has_layers = not own <= slice_.outside
            yield replace(cell, has_layers=has_layers, tensors=frozenset(own))


def _places(
    slice_: Slice, settings: ParameterSettings | None, filters: tuple[str, ...]
) -> Iterator[Cell]:
    for group in slice_.groups:
        setting = settings.matching(group.example) if settings else None
        label = _joined(slice_.label, group.label) if group.is_kind else group.label
        yield Cell(label, group.filter, setting)
    if not slice_.has_rest:
        return
    entries = settings.entries if settings else [None]
    if len(entries) == 1 and (entries[0] is None or entries[0].is_default):
        for text in filters:
            yield Cell(_joined(slice_.label, text), text, entries[0])
        yield Cell(slice_.label, None, entries[0])
        return
    for entry in entries:
        if entry is None or entry.is_default:
            yield Cell(slice_.label, None, entry)
        else:
            yield Cell(_joined(slice_.label, entry.filter or ""), entry.filter, entry)


def _joined(*labels: str) -> str:
    return ", ".join(label for label in labels if label)


def _module(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def _outside(label: str, tensors: tuple[str, ...]) -> tuple[TensorGroup, ...]:
    """One group per module, so that weight and bias stay together."""
    modules = list(dict.fromkeys(_module(tensor) for tensor in tensors))
    examples = {_module(tensor): tensor for tensor in reversed(tensors)}
    labels = [label] if len(modules) == 1 else [f"{label} {module}" for module in modules]
    return tuple(
        TensorGroup(name, module, examples[module])
        for name, module in zip(labels, modules, strict=True)
    )


def _kinds(architecture: Architecture, layer: int) -> tuple[TensorGroup, ...]:
    """One group per module of a layer, with a filter that finds it and nothing else."""
    inside = {
        _module(tensor).partition("{layer}.")[2] or _module(tensor): tensor
        for tensor in reversed(architecture.layer_tensors)
    }
    kinds = list(reversed(inside))
    everywhere = (
        *architecture.layer_tensors,
        *architecture.final_norm,
        *architecture.head,
        *architecture.embeddings,
    )
    return tuple(
        TensorGroup(
            kind,
            _unambiguous(kind, everywhere),
            inside[kind].replace("{layer}", str(layer)),
            is_kind=True,
        )
        for kind in kinds
    )


def _unambiguous(kind: str, tensors: tuple[str, ...]) -> str:
    own = [tensor for tensor in tensors if f".{kind}." in tensor]
    return kind if [tensor for tensor in tensors if kind in tensor] == own else f".{kind}."
