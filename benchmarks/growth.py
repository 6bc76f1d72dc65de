"""How the cost of a trial grows: with models, layer groups, documents, dimensions and trials.

    python benchmarks/growth.py [--trials 6] [--threads 2] [--quick] [--svg docs/images/growth.svg]

Tiny models, one quantity raised at a time; the least of some trials, in milliseconds, and the
exponent k of cost ~ quantity^k between the last two sizes: no term may go beyond 1. "Trials" is
the search alone, over models that cost nothing: its mean over the last hundred trials.
About a minute with the default; `--quick` has fewer and smaller sizes.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import torch
from phases import FORWARD, KERNELS, MERGE, SCORE, Spent, trials_of
from tiny_search import Size, tiny_search

from evomerge.executors.base import ExecutorEvent, Job, JobFinished
from evomerge.executors.serial import Serial
from evomerge.foundations.files import write_atomic
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey, Outcome, TrialState

TERMS = {"merge": (KERNELS, MERGE), "score": (FORWARD, SCORE), "else": ()}
N_SKIPPED = 2  # trials in which caches fill
WINDOW = 100  # trials that a mean is over where the search alone is measured
LINEAR = 1.2  # exponents up to here are noise

LAYERS = 16
AXES: dict[str, list[Size]] = {
    "models": [Size(models=n, layers=4, granularity="layer") for n in (1, 2, 4, 8)],
    "layer groups": [
        Size(layers=LAYERS, granularity="layers", layer_granularity=LAYERS // n)
        for n in (1, 2, 4, 8, 16)
    ],
    "documents": [Size(documents=n) for n in (100, 300, 1000, 3000, 10_000)],
    "dimensions": [
        Size(layers=LAYERS),
        Size(layers=LAYERS, granularity="layers", layer_granularity=4),
        Size(layers=LAYERS, granularity="layer"),
        Size(layers=LAYERS, granularity="tensor"),
    ],
    "trials": [Size(models=4, layers=8, granularity="layer", budget=n) for n in (100, 500, 2000)],
}
QUICK = {
    "models": [Size(models=n, granularity="layer", documents=20) for n in (1, 2)],
    "trials": [Size(granularity="layer", documents=20, budget=n) for n in (10, 20)],
}


@dataclass(frozen=True)
class Point:
    """What a trial costs at one size, in milliseconds by term."""

    quantity: int
    cost: dict[str, float]


class Free(Serial):
    """Trials that cost nothing: every recipe has some score."""

    def _tried(self, job: Job) -> Iterator[ExecutorEvent]:
        """A score from the digest of the recipe."""
        score = int(job.candidate.recipe.digest[:8], 16) / 2**32
        metric = Metric(MetricKey("tiny_arc", "acc"), score, 0.01, 100, True)
        yield JobFinished(job, Outcome(TrialState.COMPLETE, Evaluation((metric,))))


def measured(axis: str, size: Size, n_trials: int) -> Point:
    """One point of an axis."""
    is_alone = axis == "trials"
    with tempfile.TemporaryDirectory() as temporary:
        wanted = size if is_alone else replace(size, budget=n_trials + N_SKIPPED)
        with tiny_search(Path(temporary), wanted) as search:
            if is_alone:
                search.executor = Free(search.executor.make_worker)
            quantity = {
                "models": size.models,
                "layer groups": LAYERS // (size.layer_granularity or 1),
                "documents": size.documents,
                "dimensions": search.merge_space.space.n_dims,
                "trials": size.budget,
            }[axis]
            spent = trials_of(search)
    if is_alone:
        last = [_terms(trial)["else"] for trial in spent[-WINDOW:]]
        return Point(quantity, {"else": sum(last) / len(last)})
    terms = [_terms(trial) for trial in spent[N_SKIPPED:]]
    return Point(quantity, {name: min(trial[name] for trial in terms) for name in TERMS})


def _terms(spent: Spent) -> dict[str, float]:
    found = {name: 1e3 * sum(spent[phase] for phase in phases) for name, phases in TERMS.items()}
    found["else"] = 1e3 * sum(spent.values()) - sum(found.values())
    return found


def exponent(points: Sequence[Point], term: str) -> float:
    """Of the growth between the last two sizes."""
    one, other = points[-2:]
    ratio = other.cost[term] / max(one.cost[term], 1e-6)
    return math.log(ratio) / math.log(other.quantity / one.quantity)


def show(axis: str, points: Sequence[Point]) -> None:
    """Prints the table of an axis."""
    print(f"{axis:14}" + "".join(f"{point.quantity:10}" for point in points) + "   exponent")
    for term in points[0].cost:
        values = "".join(f"{point.cost[term]:10.2f}" for point in points)
        found = exponent(points, term)
        verdict = "" if found <= LINEAR else "  MORE THAN LINEAR"
        print(f"  {term:12}{values} {found:10.2f}{verdict}", flush=True)


# The drawing

_PANEL, _HEIGHT, _LEFT, _TOP, _BOTTOM, _GAP = 160, 220, 44, 44, 40, 56
_COLOURS = {"merge": "#2f6fb5", "score": "#c2571a", "else": "#4a8f3c"}


def drawing(found: dict[str, list[Point]]) -> str:
    """One panel per axis, both scales logarithmic, as SVG."""
    costs = [cost for points in found.values() for point in points for cost in point.cost.values()]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    width = _LEFT + len(found) * (_PANEL + _GAP)
    parts = list(_key())
    for index, (axis, points) in enumerate(found.items()):
        parts += _panel(axis, points, _LEFT + index * (_PANEL + _GAP), (low, max(high, low + 1)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img" '
        'aria-label="milliseconds of a trial" font-family="sans-serif" font-size="11" '
        f'fill="#444"><rect width="{width}" height="{_HEIGHT}" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n"
    )


def _key() -> Iterator[str]:
    yield f'<text x="{_LEFT}" y="16">milliseconds a trial, both scales logarithmic:</text>'
    for index, (term, colour) in enumerate(_COLOURS.items()):
        yield f'<text x="{_LEFT + 260 + 60 * index}" y="16" fill="{colour}">{term}</text>'


def _panel(
    axis: str, points: Sequence[Point], left: float, bounds: tuple[int, int]
) -> Iterator[str]:
    low, high = bounds
    bottom = _HEIGHT - _BOTTOM
    first, last = (math.log10(point.quantity) for point in (points[0], points[-1]))

    def x(quantity: float) -> float:
        return left + (math.log10(quantity) - first) / ((last - first) or 1) * _PANEL

    def y(cost: float) -> float:
        return bottom - (math.log10(cost) - low) / (high - low) * (bottom - _TOP)

    for power in range(low, high + 1):
        at = y(10**power)
        yield (
            f'<line x1="{left}" x2="{left + _PANEL}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 4}" y="{at + 4:.1f}" text-anchor="end">{10**power:g}</text>'
        )
    for point in (points[0], points[-1]):
        yield (
            f'<text x="{x(point.quantity):.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{point.quantity}</text>"
        )
    yield (
        f'<text x="{left + _PANEL / 2}" y="{bottom + 30}" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )
    for term in points[0].cost:
        line = " ".join(f"{x(p.quantity):.1f},{y(p.cost[term]):.1f}" for p in points)
        colour = _COLOURS[term]
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures every axis."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", default=6, type=int)
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found = {}
    print("milliseconds a trial")
    for axis, sizes in (QUICK if options.quick else AXES).items():
        found[axis] = [measured(axis, size, options.trials) for size in sizes]
        show(axis, found[axis])
    if options.svg is not None:
        write_atomic(options.svg, drawing(found))


if __name__ == "__main__":
    main()
