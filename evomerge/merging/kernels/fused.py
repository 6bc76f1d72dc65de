"""Weighted sums in one pass over memory, compiled by ``torch.compile`` once that pays.

Operation by operation, a sum reads and writes its blocks again and again; compiled into one loop
it reads each source as it is stored and writes each result once. Compiling takes seconds, so it
begins when sums have read so much that these seconds would have been saved. Before a compiled sum
is used, it is compared with torch's own operations, to the bit. Where there is no compiler, or it
rounds otherwise, everything stays as it is.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from types import FunctionType
from typing import Any

import torch

from evomerge.merging.kernels.output import OutputTensor
from evomerge.merging.kernels.workspace import part, spans

Tensors = Sequence[torch.Tensor]
# (home, scalars, divisor or None for nothing, what is read) -> None
Fill = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, Tensors], None]

# Entries read, after which compiling pays: on two cores, 26 to 124 million parameters and four
# sources, 0.06 ns are saved on each; a sum that torch's cache on disk knows takes 4 s, another 8.
PAYS_AFTER = 60e9
SECONDS_TO_COMPILE = 60.0  # to be left, also on a busy machine: nobody can end it half way
_SMALL = 1 << 15  # entries: beside the call, nothing is saved
_STEP = 1 << 22  # entries at a time, of sources that stream
_ALIGNED = 64  # entries, so that no vector crosses a line of the cache
_TRIED = 40_009  # entries on which a compiled sum is compared


@dataclass(frozen=True)
class Sum:
    """A sum in two ways that round alike.

    Attributes:
        compiled: What is compiled.
        plain: The same by torch's own operations.
        contract: Whether products are rounded before they are added ("off") or not ("fast").
        n_bases: How many tensors come before those that have weights.
    """

    compiled: Fill
    plain: Fill
    contract: str
    n_bases: int = 0


def scalars_of(weights: Sequence[float], factor: float = 1.0) -> torch.Tensor:
    """What a sum needs beside its entries, in float32: where it starts, its factor, its weights."""
    return torch.tensor([0.0, factor, *weights], dtype=torch.float32)


class Fusion:
    """Compiled sums of one merger.

    Args:
        pays_after: Entries that sums have to read before any is compiled.

    Attributes:
        is_allowed: Whether a merge may take the seconds that compiling takes.
    """

    is_allowed = True

    def __init__(self, pays_after: float | None = None) -> None:
        self._left = PAYS_AFTER if pays_after is None else pays_after
        self._known: dict[tuple[Any, ...], Fill | None] = {}

    def fills(
        self,
        output: OutputTensor,
        kind: Sum,
        scalars: torch.Tensor,
        divisor: torch.Tensor | None,
        tensors: Tensors,
    ) -> bool:
        """Fills an output with a sum, if that is compiled or is worth it by now.

        Args:
            output: Where to.
            kind: Of sum.
            scalars: As :func:`scalars_of` gives them.
            divisor: Of the sum, shape (1,), float32; None for nothing.
            tensors: What it reads, flat.
        """
        length = tensors[0].numel()
        if length < _SMALL or not output.is_direct:
            return False
        self._left -= length * len(tensors)
        if self._left >= 0 or not self.is_allowed:
            return False
        dtypes = [tensor.dtype for tensor in tensors]
        key = (kind, divisor is not None, *dtypes, output.dtype, torch.get_num_threads())
        if key not in self._known:
            self._known[key] = _compiled(kind, divisor is not None, dtypes, output.dtype)
        fill = self._known[key]
        if fill is None:
            return False
        for start, stop in _parts(length):
            parts = [part(tensor, start, stop) for tensor in tensors]
            home = output.home(start, stop)
            try:
                fill(home, scalars, divisor, parts)
            # torch compiles anew where it likes; what it raises then has no common name. Nothing is
            # lost: the caller adds operation by operation, and the log says why.
            except Exception as error:
                _tell(_reason(error))
                self._known[key] = None
                return False
            output.filled(start, stop)
        return True


def _parts(length: int) -> Iterator[tuple[int, int]]:
    """Starts and stops of parts of about one length: torch compiles tiny ones anew."""
    step = -(-length // -(-length // _STEP))
    return spans(length, step + -step % _ALIGNED)


def _compiled(
    kind: Sum, has_divisor: bool, dtypes: Sequence[torch.dtype], home: torch.dtype
) -> Fill | None:
    """The sum in one loop; None where it cannot be compiled or rounds otherwise."""
    try:
        compiled: Fill = torch.compile(
            _copy_of(kind.compiled), dynamic=True, fullgraph=True, options=_options(kind)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.compile's, for its developers
            is_equal = _agrees(compiled, kind, has_divisor, dtypes, home)
    # No compiler, a broken one, options of another version: what torch raises has no common name.
    # Nothing is lost: sums are added operation by operation, and the log says why.
    except Exception as error:
        _tell(_reason(error))
        return None
    if not is_equal:
        _tell("the compiler rounds in other places")
    return compiled if is_equal else None


def _options(kind: Sum) -> dict[str, Any]:
    """Of torch's compiler."""
    from torch._inductor import list_options

    wanted = {
        "cpp.enable_floating_point_contract_flag": kind.contract,
        "cpp.dynamic_threads": True,
        "compile_threads": 1,
        "cpp_cache_precompile_headers": False,  # 150 MB on the disk for each set of flags
    }
    return {name: value for name, value in wanted.items() if name in list_options()}


def _copy_of(function: Fill) -> Fill:
    """A function with code of its own: torch compiles the same code a few times only."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_NUMBERS)}")
    return FunctionType(code, function.__globals__)


_NUMBERS = count()


def _agrees(
    compiled: Fill, kind: Sum, has_divisor: bool, dtypes: Sequence[torch.dtype], home: torch.dtype
) -> bool:
    """Whether a compiled sum gives the bits of the plain one, for numbers of many sizes."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> torch.Tensor:
        return torch.randn(length, generator=generator)

    least, most = (-20, 8) if torch.float16 in (*dtypes, home) else (-140, 20)  # powers of two
    sizes = [torch.empty(_TRIED).uniform_(least, most, generator=generator).exp2() for _ in dtypes]
    tensors = [_with_zeros(draw(_TRIED) * s).to(d) for s, d in zip(sizes, dtypes, strict=True)]
    divisor = draw(1).exp() if has_divisor else None
    found = [torch.empty(_TRIED, dtype=home) for _ in range(2)]
    scalars = scalars_of(draw(len(dtypes) - kind.n_bases).tolist(), factor=0.7)
    for fill, out in zip((compiled, kind.plain), found, strict=True):
        fill(out, scalars, divisor, tensors)
    one, other = (out.view(torch.uint8) for out in found)
    return torch.equal(one, other)


def _with_zeros(row: torch.Tensor) -> torch.Tensor:
    """A row whose beginning has positive and negative zeros."""
    row[:64] = 0.0
    row[:64:2].neg_()
    return row


def _reason(error: Exception) -> str:
    return ": ".join(filter(None, (type(error).__name__, str(error).strip().partition("\n")[0])))


def _tell(reason: str) -> None:
    logging.getLogger(__name__).info("sums are not compiled: %s", reason)


class NotCompiledError(Exception):
    """torch.compile is switched off; operation by operation nothing is gained."""


def _refuse_eager() -> None:
    if not torch.compiler.is_compiling():
        raise NotCompiledError


def _linear(
    home: torch.Tensor, scalars: torch.Tensor, divisor: torch.Tensor | None, tensors: Tensors
) -> None:
    _refuse_eager()
    total = scalars[0]
    for index, source in enumerate(tensors):
        total = total + source.float() * scalars[2 + index]
    home.copy_(total if divisor is None else total / divisor)


def _plain_linear(
    home: torch.Tensor, scalars: torch.Tensor, divisor: torch.Tensor | None, tensors: Tensors
) -> None:
    total = torch.zeros(len(home))
    for source, weight in zip(tensors, scalars[2:].unsqueeze(1).unbind(), strict=True):
        total = torch.addcmul(total, source.float(), weight)
    home.copy_(total if divisor is None else total / divisor)


def _arithmetic(
    home: torch.Tensor, scalars: torch.Tensor, divisor: torch.Tensor | None, tensors: Tensors
) -> None:
    _refuse_eager()
    base = tensors[0].float()
    total = scalars[0]
    for index, source in enumerate(tensors[1:]):
        total = total + (source.float() - base) * scalars[2 + index]
    if divisor is not None:
        total = total / divisor
    home.copy_(base + total * scalars[1])


def _plain_arithmetic(
    home: torch.Tensor, scalars: torch.Tensor, divisor: torch.Tensor | None, tensors: Tensors
) -> None:
    base, *sources = (tensor.float() for tensor in tensors)
    total = torch.zeros(len(home))
    for source, weight in zip(sources, scalars[2:].unsqueeze(1).unbind(), strict=True):
        total = total + (source - base) * weight
    if divisor is not None:
        total = total / divisor
    home.copy_(base + total * scalars[1])


LINEAR = Sum(_linear, _plain_linear, contract="fast")
ARITHMETIC = Sum(_arithmetic, _plain_arithmetic, contract="off", n_bases=1)
