"""Sums of LoRA adapters: written as an adapter, or folded into the base as it is merged.

In a run nothing is written: while the base passes through a merge, each matrix that the adapters
change gets ``scaling * (sum c_k B_k) (sum c_k A_k)`` added, in the dtypes and on the device that
PEFT folds the written adapter with. So the weights equal those of a build to the bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save

from evomerge.foundations.errors import MergeError
from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import is_folder, read_text
from evomerge.foundations.scratch import scratch
from evomerge.genome.model_names import ModelName
from evomerge.merging.kernels.engine import Merged, TensorOrigin
from evomerge.models.inspect import ADAPTER_WEIGHTS
from evomerge.models.repository import open_repository
from evomerge.recipe.adapter_sum import AdapterSum, bases_of, file_of, sums_in, with_sums
from evomerge.recipe.plain import Recipe

CONFIG = "adapter_config.json"
_LARGEST_ADAPTER = 1 << 35  # bytes
_LONGEST_SUM = 1 << 20  # bytes of what says which adapters are summed
PREFIX, A_SUFFIX, B_SUFFIX = "base_model.model.", ".lora_A.weight", ".lora_B.weight"

Tensors = Mapping[str, torch.Tensor]


def summed(tensors: list[torch.Tensor], coefficients: tuple[float, ...]) -> torch.Tensor:
    """``sum c_k T_k`` in float32 and in order, then in the dtype of the first tensor."""
    total = coefficients[0] * tensors[0].float()
    for coefficient, tensor in zip(coefficients[1:], tensors[1:], strict=True):
        total += coefficient * tensor.float()
    return total.to(tensors[0].dtype)


def read_adapter(model: ModelName) -> dict[str, torch.Tensor]:
    """The tensors of the adapter of a ``base+adapter``; pickles are not read."""
    files = open_repository(model.lora or "", model.lora_revision)
    tensors: dict[str, torch.Tensor] = load(files.read(ADAPTER_WEIGHTS, _LARGEST_ADAPTER))
    return tensors


def read_config(model: ModelName) -> bytes:
    """The ``adapter_config.json`` of a ``base+adapter``."""
    return open_repository(model.lora or "", model.lora_revision).read(CONFIG)


def read_sum(name: str) -> AdapterSum:
    """What an adapter is a sum of.

    Args:
        name: As a recipe has it, with its full path.

    Raises:
        MergeError: its file is not there, or is not what its name says.
    """
    file = Path(file_of(name))
    try:
        adapter_sum = AdapterSum.parse(read_text(file, _LONGEST_SUM, follow=False))
    except (OSError, RecursionError, ValueError) as error:
        raise MergeError(
            f"the sum of adapters {file} cannot be read ({error})",
            fix="Continue its run, which writes it again; a best.yml must lie in its run folder.",
        ) from error
    if Path(adapter_sum.name).name != Path(name).name:
        raise MergeError(f"{file} holds another sum of adapters than its name says")
    return adapter_sum


def write_adapter(adapter_sum: AdapterSum, folder: Path) -> None:
    """Writes a sum as an ordinary PEFT adapter: all of it, or nothing.

    A folder that is there already is left: its name says what it holds.

    Raises:
        LostFileError: the disk is full, or the folder cannot be written.
        OSError: an adapter cannot be read.
    """
    if is_folder(folder):
        return
    adapters = [read_adapter(model) for model in adapter_sum.models]
    tensors = {
        name: summed([adapter[name] for adapter in adapters], adapter_sum.coefficients)
        for name in adapters[0]
    }
    config = read_config(adapter_sum.models[0])
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch(folder.parent) as unfinished:
            write_atomic(unfinished / CONFIG, config)
            write_atomic(unfinished / ADAPTER_WEIGHTS, save(tensors, {"format": "pt"}))
            unfinished.chmod(0o755)
            if not is_folder(folder):  # else another process was faster
                unfinished.rename(folder)


def placed(recipe: Recipe, beside: Path) -> Recipe:
    """A recipe that builds where there is no run folder; its summed adapters are written.

    A sum of one adapter is that adapter, wherever it is.

    Args:
        recipe: Of a run, with the full paths of what is in its folder.
        beside: Below which each adapter is written, and how the recipe names it.

    Raises:
        MergeError: what an adapter is a sum of cannot be read.
        LostFileError: it cannot be written.
    """
    return with_sums(recipe, {model: _written(model, beside) for model in sums_in(recipe)})


def _written(model: ModelName, beside: Path) -> ModelName:
    """The base with the adapter that a sum is."""
    lora = model.lora or ""
    adapter_sum = read_sum(lora)
    if adapter_sum.only is not None:
        return adapter_sum.only
    folder = beside / Path(lora).name
    write_adapter(adapter_sum, folder)
    # Never the name of a sum below a run folder, which begins with no dot and no slash.
    name = str(folder) if folder.is_absolute() else f"./{folder}"
    return model.model_copy(update={"lora": name})


class Sums:
    """Folds the sums of adapters that recipes name; each adapter is read once and stays."""

    def __init__(self) -> None:
        self._adapters: dict[ModelName, Tensors] = {}
        self._scaling: dict[ModelName, float] = {}

    def fold_of(self, recipe: Recipe) -> Fold | None:
        """How the recipe's sum is folded into its base; None where it names none.

        Raises:
            MergeError: what it is a sum of cannot be read, or it names several.
            OSError: an adapter cannot be read.
        """
        models = sums_in(recipe)
        if not models:
            return None
        if len(models) > 1:  # which of them a tensor gets is known before it is merged only
            raise MergeError(
                f"one merge of {len(models)} sums of adapters, expected one sum",
                fix="Let each sum be a merge of its own, with a name, and merge these.",
            )
        adapter_sum = read_sum(models[0].lora or "")
        for expert in adapter_sum.models:
            if expert not in self._adapters:
                self._adapters[expert] = read_adapter(expert)
                self._scaling[expert] = scaling_of(expert)
        return Fold(
            bases_of(recipe),
            tuple(self._adapters[expert] for expert in adapter_sum.models),
            adapter_sum.coefficients,
            self._scaling[adapter_sum.models[0]],
        )


def scaling_of(model: ModelName) -> float:
    """What PEFT multiplies ``B A`` of a ``base+adapter`` with."""
    settings = json.loads(read_config(model))
    alpha, rank = settings.get("lora_alpha", 8), settings.get("r", 8)
    return float(alpha / math.sqrt(rank)) if settings.get("use_rslora") else float(alpha / rank)


@dataclass(frozen=True)
class Fold:
    """A sum of adapters on its way into the base.

    Attributes:
        base: The recipe of the base alone.
        adapters: The tensors of each.
        coefficients: One per adapter.
        scaling: What ``B A`` is multiplied with.
    """

    base: Recipe
    adapters: tuple[Tensors, ...]
    coefficients: tuple[float, ...]
    scaling: float

    def applied(self, merged: Iterator[Merged]) -> Iterator[Merged]:
        """The tensors of the base, those that the adapters change with their change."""
        left = {name.removesuffix(A_SUFFIX) for name in self.adapters[0] if name.endswith(A_SUFFIX)}
        for one in merged:
            module = PREFIX + one.name.removesuffix(".weight")
            if module in left:
                left.remove(module)
                # It never passes for the base's tensor.
                origin = TensorOrigin(one.origin.planned, one.origin.values, is_all=False)
                yield Folded(origin, self, module)
            else:
                yield one
        if left:
            raise MergeError(f"the base has no {min(left)} for its adapter")

    def delta(self, module: str) -> torch.Tensor:
        """What is added to a matrix; float32, on the CPU.

        PEFT reads adapters of lower precision as float32.
        """
        a, b = (
            summed([adapter[module + factor] for adapter in self.adapters], self.coefficients)
            for factor in (A_SUFFIX, B_SUFFIX)
        )
        return (b.float() @ a.float()) * self.scaling


@dataclass(frozen=True, eq=False)
class Folded(Merged):
    """A matrix of the base with the change of a sum of adapters."""

    fold: Fold
    module: str

    def tensor(self) -> torch.Tensor:
        """The sum in the dtype of the base, then as any tensor that passes through."""
        (entry,) = self.origin.planned.inputs.stored().values()
        source, work = entry
        weight = source.clone()
        weight += self.fold.delta(self.module).to(weight.device)
        computed = weight.to(work or weight.dtype)
        return computed.to(self.stored or computed.dtype)

    def write(self, home: torch.Tensor) -> bool:
        """Copies it."""
        home.copy_(self.tensor())
        return bool(torch.isfinite(home.sum()))
