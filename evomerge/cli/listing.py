"""``evomerge list``: what a genome may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from evomerge.cli.arguments import BY_HAND, json_option

if TYPE_CHECKING:
    from evomerge.cli.drawn import Cell
    from evomerge.foundations.registry import Registry
    from evomerge.genome.merge_method import Method, MethodParameter

KINDS = (
    *("optimizers", "methods", "spaces", "evaluators", "engines", "executors", "trackers"),
    "objectives",
)


@click.command(
    "list",
    short_help="List optimizers, methods, spaces, ...",
    epilog="Example: evomerge list methods",
)
@click.argument("kind", type=click.Choice(KINDS))
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="Import this Python package and list the merge methods it registers. May be repeated.",
)
@json_option
def list_names(kind: str, packages: tuple[str, ...], as_json: bool) -> None:
    """Lists what a genome may name, one line each."""
    from evomerge.cli.drawn import plain_table
    from evomerge.cli.written import print_json

    if packages:
        from evomerge.merging.registered_methods import register_methods

        register_methods(packages, BY_HAND)

    rows = _methods() if kind == "methods" else _summaries(kind)
    if as_json:
        print_json(rows)
    else:
        plain_table(rows)


def _summaries(kind: str) -> list[dict[str, Cell]]:
    from evomerge.evaluators import EVALUATORS
    from evomerge.executors import EXECUTORS
    from evomerge.inference import ENGINES
    from evomerge.merge_spaces import MERGE_SPACES
    from evomerge.nouns.objective import OBJECTIVES
    from evomerge.optimizers import OPTIMIZERS
    from evomerge.trackers import TRACKERS

    tables: dict[str, Registry[Any]] = {
        "optimizers": OPTIMIZERS,
        "spaces": MERGE_SPACES,
        "evaluators": EVALUATORS,
        "engines": ENGINES,
        "executors": EXECUTORS,
        "trackers": TRACKERS,
    }
    table = tables.get(kind)
    found = OBJECTIVES if table is None else {name: table.summary(name) for name in table}
    return [{"name": name, "what it is": summary} for name, summary in found.items()]


def _methods() -> list[dict[str, Cell]]:
    from evomerge.genome.methods import METHODS

    return [
        {
            "name": method.name,
            "base": {"required": "yes", "optional": "may", "ignored": "no"}[method.base.value],
            "models": _n_models(method),
            "searched": [_with_range(p) for p in method.parameters if p.searched],
            "if the genome says so": [
                _with_range(p) for p in method.parameters if not p.searched and not p.is_dead
            ],
        }
        for method in METHODS.values()
    ]


def _n_models(method: Method) -> str:
    low, high = method.min_sources, method.max_sources
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"


def _with_range(parameter: MethodParameter) -> str:
    """The name, and the range it is searched in; only fixed values or choices where it has none."""
    bounds = parameter.range
    if bounds is None:
        return parameter.name
    low, high = (f"{bound:g}".replace("e-0", "e-") for bound in (bounds.low, bounds.high))
    return f"{parameter.name} [{low},{high}]{' log' if bounds.log else ''}"
