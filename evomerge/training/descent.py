"""Steps down a gradient: AdamW, its momentum-filtered form, and the schedule of the learning rate.

Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), arXiv:1711.05101;
Chen et al., MoFO: momentum-filtered optimizer (2024), arXiv:2407.20999.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.arrays import arrays_in
from evomerge.foundations.errors import LedgerError
from evomerge.optimizers.gradient.gradient_settings import GradientSettings

Array = NDArray[np.floating[Any]]
Schedule = Literal["constant", "linear", "cosine"]
_ARRAYS = {
    **dict.fromkeys(("values", "first", "second"), ("f", 1)),
    **dict.fromkeys(("step", "position"), ("iu", 0)),
}


@dataclass(frozen=True)
class Descent:
    """How a step is made.

    Attributes:
        learning_rate: Of the first step after the warm-up.
        schedule: What becomes of it until the last step, where it is 0 unless constant.
        warmup: Share of the steps in which it rises from 0.
        weight_decay: Pull to 0, times the learning rate.
        betas: Decay of the two moments.
        epsilon: Added to the root of the second moment.
        mofo: Share of the entries, those of the largest momentum, that move; None: all.
        clip: Largest norm of a gradient; None: no limit.
        stretches: Entries that are filtered apart, in order; empty: all together.
    """

    learning_rate: float
    schedule: Schedule = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    mofo: float | None = None
    clip: float | None = None
    stretches: tuple[slice, ...] = ()

    @classmethod
    def of(cls, settings: GradientSettings, stretches: tuple[slice, ...] = ()) -> Descent:
        """As the settings of the optimizer have it."""
        return cls(
            settings.learning_rate,
            settings.schedule,
            settings.warmup,
            settings.weight_decay,
            mofo=settings.mofo,
            clip=settings.clip,
            stretches=stretches,
        )

    def rate(self, step: int, n_steps: int) -> float:
        """The learning rate of step ``step`` of ``n_steps``, counted from 0."""
        n_warm = round(self.warmup * n_steps)
        if step < n_warm:
            return self.learning_rate * (step + 1) / n_warm
        done = (step - n_warm) / max(n_steps - n_warm, 1)
        if self.schedule == "linear":
            return self.learning_rate * max(1 - done, 0.0)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return self.learning_rate

    def step(self, state: State, gradient: Array, rate: float) -> State:
        """The state after one more step at a learning rate."""
        if self.clip is not None:
            norm = math.sqrt(float(np.square(gradient).sum()))  # in one thread, unlike linalg's
            gradient = gradient * min(1.0, self.clip / (norm + 1e-12))
        step = state.step + 1
        first = self.betas[0] * state.first + (1 - self.betas[0]) * gradient
        second = self.betas[1] * state.second + (1 - self.betas[1]) * gradient**2
        root = np.sqrt(second / (1 - self.betas[1] ** step)) + self.epsilon
        moves = rate * first / (1 - self.betas[0] ** step) / root
        moves = np.where(self._is_moved(first), moves, 0.0)
        values = state.values * (1 - rate * self.weight_decay) - moves
        return State(values, first, second, step, state.position)

    def _is_moved(self, first: Array) -> NDArray[np.bool_]:
        """Which entries the momentum filter lets through, one of each stretch at least."""
        is_moved = np.ones(len(first), dtype=bool)
        for stretch in (self.stretches or (slice(None),)) if self.mofo is not None else ():
            own = np.abs(first[stretch])
            n = max(round((self.mofo or 0.0) * len(own)), 1)
            is_moved[stretch] = False
            is_moved[stretch][np.argsort(-own, kind="stable")[:n]] = True
        return is_moved


@dataclass(frozen=True)
class State:
    """Where a descent is, all that the next step needs.

    Attributes:
        values: What is trained, shape (n,).
        first: Mean of the gradients, shape (n,).
        second: Mean of their squares, shape (n,).
        step: Steps made.
        position: Items of the data read.
    """

    values: Array
    first: Array
    second: Array
    step: int = 0
    position: int = 0

    @classmethod
    def begin(cls, values: Array) -> State:
        """At some values, before the first step."""
        return cls(values, np.zeros_like(values), np.zeros_like(values))

    def to_bytes(self) -> bytes:
        """As a file that can be kept."""
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, n_values: int | None = None) -> State:
        """What :meth:`to_bytes` wrote.

        Args:
            content: Of the file.
            n_values: How many are trained; None: any number.

        Raises:
            LedgerError: it is damaged, or something else.
        """
        try:
            held = arrays_in(content, _ARRAYS)
            values, first, second = (held[name] for name in ("values", "first", "second"))
            sizes = {
                len(values),
                len(first),
                len(second),
                len(values) if n_values is None else n_values,
            }
            if len(sizes) > 1:
                raise ValueError(f"{len(values)}, {len(first)}, {len(second)} of {n_values} values")
        except ValueError as error:
            raise LedgerError(
                f"not the state of a training ({error})",
                where="what an epoch of training left",
                fix="Restore the files in optimizer/ from a copy, or start a new run folder.",
            ) from error
        return cls(values, first, second, int(held["step"]), int(held["position"]))
