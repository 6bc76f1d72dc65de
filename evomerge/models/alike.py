"""Which tensors of several models are equal.

A model with a LoRA adapter has the tensors of its base, but for those that the adapter changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.models.facts import AdapterFacts, FileFacts, ModelFacts, TensorFacts
from evomerge.models.families import family_of
from evomerge.models.family import Weight
from evomerge.models.same_bytes import SameBytes, Stored

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_PREFIX = "base_model.model."
# Where in the name of an adapter's tensor the name of the module that it changes ends.
_ENDS = ("modules_to_save", "base_layer", "token_adapter")


def alike(
    models: Sequence[ModelFacts], *, is_permuted: bool = False
) -> Mapping[str, Mapping[int, int]]:
    """Tensor name -> index of a model -> a number, the same for equal tensors.

    Left out are tensors in which no two models are equal, models on the Hub, and whatever files
    do not show.

    Args:
        models: Of one architecture.
        is_permuted: Whether a merge brings rows of tokens into another order, so that equal
            rows mean the same only where the tokenizers are the same.
    """
    family = family_of(models[0]) if models else None
    if family is None:
        return {}
    found: dict[str, Mapping[int, int]] = {}
    with SameBytes() as bytes_:
        weights = tuple(family.weights(family.n_layers(models[0])))
        changes = [_Changes(model, weights) for model in models]
        for weight in weights:
            if is_permuted and weight.vocabulary_axis is not None and not _one_tokenizer(models):
                continue
            places = [
                _place(model, change, weight) for model, change in zip(models, changes, strict=True)
            ]
            numbers = _numbered(places, bytes_)
            if len(set(numbers.values())) < len(numbers):
                found[weight.name] = numbers
    return found


def hold_equal(files: FileFacts, one: str, other: str) -> bool:
    """Whether two tensors of a folder have the same bytes; not where they cannot be read."""
    if files.folder is None:
        return False
    places = [
        _Place(Stored(files.folder / tensor.file, name, tensor), tensor.dtype)
        for name, tensor in ((name, files.tensors[name]) for name in (one, other))
    ]
    with SameBytes() as bytes_:
        return _are_equal(places[0], places[1], bytes_)


def _one_tokenizer(models: Sequence[ModelFacts]) -> bool:
    digests = {model.tokenizer.digest if model.tokenizer else None for model in models}
    return len(digests) == 1 and None not in digests


@dataclass(frozen=True)
class _Place:
    """Where the bytes of a tensor are, and the dtype in which it is merged."""

    stored: Stored
    dtype: str


def _are_equal(one: _Place, other: _Place, bytes_: SameBytes) -> bool:
    return one.dtype == other.dtype and bytes_.are_in(one.stored, other.stored)


def _place(model: ModelFacts, changes: _Changes, weight: Weight) -> _Place | None:
    """None where a tensor is not in a file, or not as it is there."""
    name = next((name for name in weight.names if name in model.tensors), None)
    if name is None or model.folder is None or changes.touch(weight):
        return None
    tensor = model.tensors[name]
    file = model.folder / tensor.file
    if not tensor.n_bytes or file.suffix != ".safetensors":
        return None
    return _Place(Stored(file, name, tensor), changes.dtype_of(tensor))


class _Changes:
    """What an adapter makes of the tensors of its model, when both are folded."""

    def __init__(self, model: ModelFacts, weights: Sequence[Weight]) -> None:
        adapter = model.adapter
        self._is_folded = adapter is not None
        self._loaded = str(model.config.get("dtype") or model.config.get("torch_dtype"))
        self._modules = frozenset(_modules(adapter)) if adapter is not None else frozenset()
        known = {_module(name) for weight in weights for name in weight.names}
        # Names of parameters follow the class in memory, and so do names that no file has.
        self._is_unclear = adapter is not None and (
            not self._modules <= known or bool(adapter.config.get("target_parameters"))
        )
        # A head and the embeddings may be tied, then or later.
        self._has_tokens = any(
            weight.vocabulary_axis is not None and self._names(weight) for weight in weights
        )

    def touch(self, weight: Weight) -> bool:
        """Whether a tensor may be another one then."""
        has_tokens = weight.vocabulary_axis is not None and self._has_tokens
        return self._is_unclear or has_tokens or self._names(weight)

    def _names(self, weight: Weight) -> bool:
        return any(_module(name) in self._modules for name in weight.names)

    def dtype_of(self, tensor: TensorFacts) -> str:
        """The dtype it is folded in: the one that the configuration names."""
        if not self._is_folded or tensor.dtype not in _DTYPES.values():
            return tensor.dtype
        return _DTYPES.get(self._loaded.removeprefix("torch."), "?")


def _modules(adapter: AdapterFacts) -> Iterator[str]:
    for name in adapter.tensors:
        parts = name.removeprefix(_PREFIX).split(".")
        ends = (i for i, p in enumerate(parts) if p in _ENDS or p.startswith("lora_"))
        yield ".".join(parts[: next(ends, len(parts) - 1)])


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _numbered(places: Iterable[_Place | None], bytes_: SameBytes) -> dict[int, int]:
    """Index of a model -> number of the first model with an equal tensor."""
    numbers: dict[int, int] = {}
    firsts: dict[int, _Place] = {}
    for index, place in enumerate(places):
        if place is None:
            continue
        equal = (i for i, first in firsts.items() if _are_equal(first, place, bytes_))
        numbers[index] = next(equal, index)
        if numbers[index] == index:
            firsts[index] = place
    return numbers
