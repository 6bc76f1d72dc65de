"""A merge as a LoRA of its base: exact where it is a sum of adapters, else the nearest of a rank.

The change of each linear layer, ``D = W_merge - W_base``, becomes ``B A``. A sum of adapters,
``D = sum c_k s_k B_k A_k``, is their factors one below the other, the coefficients in B; these are
found by least squares, and the sum has to give D but for rounding. Any other change is cut to its
largest singular values, which is the nearest matrix of that rank.

Source: Eckart and Young (1936), the approximation of one matrix by another of lower rank; Hu et
al., LoRA (2021), arXiv:2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from evomerge.foundations.errors import MergeError
from evomerge.genome.model_names import ModelName
from evomerge.merging.factors import A_SUFFIX, B_SUFFIX, PREFIX, read_adapter, scaling_of
from evomerge.merging.live_model import LiveModel
from evomerge.merging.lora_output import LoraOutput, TensorFit

Report = Callable[[float], None]
# Rounding of a weight, relative to its size in the mean: even within a step, sizes over an octave.
_ROUNDING = 0.21
_SUMS = 4  # sums of a few products in float32, likewise
_ROOM = 1.5  # for methods that round in between
_NOTHING = 1e-6  # a coefficient that is 0 but for rounding


@dataclass(frozen=True)
class LoraExpert:
    """An adapter that a merge may be a sum of.

    Attributes:
        scaling: What ``B A`` is multiplied with.
        factors: Module -> A and B, float32.
    """

    scaling: float
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    @property
    def rank(self) -> int:
        """The largest of its modules' ranks."""
        return max((len(a) for a, _ in self.factors.values()), default=0)


def read_expert(model: ModelName) -> LoraExpert:
    """The adapter of a ``base+adapter``.

    Raises:
        OSError: it cannot be read.
    """
    tensors = {name: tensor.float() for name, tensor in read_adapter(model).items()}
    modules = [name.removesuffix(A_SUFFIX) for name in tensors if name.endswith(A_SUFFIX)]
    return LoraExpert(
        scaling_of(model),
        {
            module.removeprefix(PREFIX): (tensors[module + A_SUFFIX], tensors[module + B_SUFFIX])
            for module in modules
            if module + B_SUFFIX in tensors
        },
    )


def weights_in(model: LiveModel) -> dict[str, torch.Tensor]:
    """A copy of every parameter, in the main memory: the next merge overwrites the model."""
    named = model.module.named_parameters()
    return {name: one.detach().to("cpu", copy=True) for name, one in named}


class Change:
    """What a merge changed in its base.

    Args:
        merged: Parameters of the merge, by name.
        base: The base; it has to stay as it is meanwhile.

    Raises:
        MergeError: the two have other parameters, or parameters of other shapes.
    """

    def __init__(self, merged: Mapping[str, torch.Tensor], base: LiveModel) -> None:
        self._merged = merged
        self._base = dict(base.module.named_parameters())
        shapes = {name: tuple(one.shape) for name, one in self._base.items()}
        other = {name: tuple(one.shape) for name, one in merged.items()}
        apart = sorted(n for n in shapes.keys() | other.keys() if shapes.get(n) != other.get(n))
        if apart:
            name = apart[0]
            raise MergeError(
                f"{len(apart)} tensors of the merge are others than in its base, the first: {name} "
                f"has {other.get(name, 'no')} there and {shapes.get(name, 'no')} here",
                fix="An adapter keeps the base's shapes: export the merge as a recipe.",
            )
        # A head that is tied to the embeddings is no parameter of its own, and no linear layer.
        self.modules = [
            name
            for name, module in base.module.named_modules()
            if isinstance(module, nn.Linear) and f"{name}.weight" in self._base
        ]

    def of(self, module: str) -> torch.Tensor:
        """The change of a linear layer, float32 on the device of the base."""
        return self._of(f"{module}.weight")

    def _of(self, name: str) -> torch.Tensor:
        before = self._base[name].detach().float()
        return self._merged[name].to(before.device).float() - before

    def rounding(self, module: str, parts: Sequence[float]) -> float:
        """Frobenius norm of what rounding alone may leave of a sum of adapters.

        Args:
            module: The linear layer.
            parts: Coefficient of each adapter times the norm of its weight with the base's.
        """
        name = f"{module}.weight"
        base, merged = self._base[name], self._merged[name]
        coarser = max(torch.finfo(one.dtype).eps for one in (base, merged))
        steps = _ROUNDING * coarser + _SUMS * torch.finfo(torch.float32).eps
        return _ROOM * steps * math.hypot(float(merged.float().norm()), *parts)

    def size(self, module: str) -> float:
        """Frobenius norm of the base's weight."""
        return float(self._base[f"{module}.weight"].detach().float().norm())

    def others(self) -> Iterator[TensorFit]:
        """Tensors that change and are no weight of a linear layer."""
        linear = {f"{module}.weight" for module in self.modules}
        for name in self._base:
            if name not in linear:
                size = float(self._of(name).norm())
                if size:
                    yield TensorFit(name, size, size)


def summed_experts(
    change: Change, experts: Sequence[LoraExpert], base: ModelName, report: Report
) -> LoraOutput | None:
    """The merge as a sum of adapters; None where it is none.

    Args:
        change: Of the merge.
        experts: What it may be a sum of.
        base: What it changes, without an adapter.
        report: Hears how far it is, in [0, 1].
    """
    coefficients: dict[str, list[float]] = {}
    fits = []
    for index, module in enumerate(change.modules):
        report(index / len(change.modules))
        delta = change.of(module)
        own = [expert.factors.get(module) for expert in experts]
        found = _coefficients(delta, experts, own)
        rest, size, parts = delta.clone(), change.size(module), []
        for c, expert, factors in zip(found, experts, own, strict=True):
            if factors is not None:
                a, b = (one.to(delta.device) for one in factors)
                part = expert.scaling * (b @ a)
                rest -= c * part
                parts.append(c * math.hypot(size, float(part.norm())))
        fit = TensorFit(f"{module}.weight", float(delta.norm()), float(rest.norm()))
        if fit.missing > change.rounding(module, parts):
            return None
        coefficients[module] = found
        fits += [fit] if fit.change else []
    used = [
        k for k in range(len(experts)) if any(abs(c[k]) > _NOTHING for c in coefficients.values())
    ]
    rank = sum(experts[k].rank for k in used)
    factors_of = {}
    for module in _alike(change.modules, {module for k in used for module in experts[k].factors}):
        summands = [
            (coefficients[module][k], experts[k], experts[k].factors.get(module)) for k in used
        ]
        factors_of[module] = _concatenated(summands, change.of(module).shape, rank)
    return LoraOutput(rank, base, factors_of, tuple(fits), tuple(change.others()))


def _coefficients(
    delta: torch.Tensor,
    experts: Sequence[LoraExpert],
    factors: Sequence[tuple[torch.Tensor, torch.Tensor] | None],
) -> list[float]:
    """By least squares, one per expert; 0 for one that leaves the module alone.

    ``<B_i A_i, B_j A_j>`` is the trace of ``(A_j A_i') (B_i' B_j)``: no product is written out.
    """
    there = [k for k, own in enumerate(factors) if own is not None]
    found = [0.0] * len(experts)
    if not there:
        return found
    pairs = [
        (experts[k].scaling * own[1].to(delta.device), own[0].to(delta.device))
        for k in there
        if (own := factors[k]) is not None
    ]
    gram = torch.tensor(
        [
            [float(((a_j @ a_i.T) * (b_j.T @ b_i)).sum()) for b_j, a_j in pairs]
            for b_i, a_i in pairs
        ],
        dtype=torch.float64,
    )
    onto = torch.tensor([float(((b.T @ delta) * a).sum()) for b, a in pairs], dtype=torch.float64)
    solved = torch.linalg.lstsq(gram, onto[:, None], driver="gelsd").solution[:, 0]
    for k, value in zip(there, solved.tolist(), strict=True):
        found[k] = value
    return found


def _concatenated(
    parts: Sequence[tuple[float, LoraExpert, tuple[torch.Tensor, torch.Tensor] | None]],
    shape: torch.Size,
    rank: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """All A one below the other and all B side by side; zeros fill up to the rank."""
    n_out, n_in = shape
    a, b = torch.zeros(rank, n_in), torch.zeros(n_out, rank)
    at = 0
    for c, expert, factors in parts:
        if factors is not None:
            own_a, own_b = factors
            end = at + len(own_a)
            a[at:end], b[:, at:end] = own_a, c * expert.scaling * own_b
        at += expert.rank
    return a, b


def nearest_of_rank(change: Change, rank: int, base: ModelName, report: Report) -> LoraOutput:
    """The nearest adapter of a rank.

    Args:
        change: Of the merge.
        rank: Of every module; a matrix with a shorter side is held as a whole.
        base: What it changes, without an adapter.
        report: Hears how far it is, in [0, 1].
    """
    factors_of: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    fits = []
    for index, module in enumerate(change.modules):
        report(index / len(change.modules))
        delta = change.of(module)
        size = float(delta.norm())
        if size:
            factors_of[module] = a, b = _cut(delta, rank)
            rest = delta - b.to(delta.device) @ a.to(delta.device)
            fits.append(TensorFit(f"{module}.weight", size, float(rest.norm())))
    for module in _alike(change.modules, set(factors_of)):
        if module not in factors_of:
            n_out, n_in = change.of(module).shape
            factors_of[module] = torch.zeros(rank, n_in), torch.zeros(n_out, rank)
    return LoraOutput(rank, base, factors_of, tuple(fits), tuple(change.others()))


def _cut(delta: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A and B from the largest singular values, which both share; zeros fill up to the rank."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    kept = min(rank, len(s))
    root = s[:kept].sqrt()
    a, b = torch.zeros(rank, delta.shape[1]), torch.zeros(delta.shape[0], rank)
    a[:kept], b[:, :kept] = (root[:, None] * v[:kept]).cpu(), (u[:, :kept] * root).cpu()
    return a, b


def _alike(modules: Sequence[str], wanted: set[str]) -> list[str]:
    """All modules that have the last name of a wanted one: PEFT targets modules by it."""
    names = {module.rpartition(".")[2] for module in wanted}
    return [module for module in modules if module.rpartition(".")[2] in names]
