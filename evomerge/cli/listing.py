"""``evomerge list``: what a genome may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from evomerge.cli.arguments import BY_HAND, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evomerge.cli.drawn import Cell
    from evomerge.foundations.registry import Registry
    from evomerge.genome.merge_method import Method, MethodParameter

KINDS = (
    *("optimizers", "methods", "spaces", "evaluators", "engines", "executors", "trackers"),
    "objectives",
)
DESCRIBED = ("evaluators", "spaces")  # whose settings say of themselves what they mean


@click.command(
    "list",
    short_help="List optimizers, methods, spaces, ...",
    epilog="Example: evomerge list methods",
)
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--full", is_flag=True, help="With the settings of each; evaluators with metrics.")
@click.option(
    "--package",
    "packages",
    multiple=True,
    metavar="NAME",
    help="Import this Python package and list the merge methods it registers. May be repeated.",
)
@json_option
def list_names(kind: str, full: bool, packages: tuple[str, ...], as_json: bool) -> None:
    """Lists what a genome may name, one line each."""
    from evomerge.cli.drawn import plain_table
    from evomerge.cli.written import print_json

    if full and kind not in DESCRIBED:
        raise click.UsageError(f"--full is for {' and '.join(DESCRIBED)}.")
    if packages and kind != "methods":
        raise click.UsageError("--package is for methods.")
    if packages:
        from evomerge.merging.registered_methods import register_methods

        register_methods(packages, BY_HAND)
    rows = _methods() if kind == "methods" else _summaries(kind)
    if full:
        rows = list(_settings(kind, rows))
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


def _settings(kind: str, summaries: Sequence[dict[str, Cell]]) -> Iterator[dict[str, Cell]]:
    """A line for each name, then one for each of its settings and metrics."""
    from evomerge.evaluators import EVALUATORS
    from evomerge.genome.field_words import default, type_name
    from evomerge.merge_spaces import MERGE_SPACES

    table: Registry[Any] = EVALUATORS if kind == "evaluators" else MERGE_SPACES
    for row in summaries:
        name, target = str(row["name"]), table[str(row["name"])]
        yield _line(name, what=str(row["what it is"]))
        for key, field in target.Settings.model_fields.items():
            given = default(field).strip("`*")
            yield _line(name, key, type_name(field.annotation), given, field.description or "")
        for measure in getattr(target, "measures", ()):
            better = "higher is better" if measure.higher_is_better else "lower is better"
            yield _line(name, f"metric {measure.name}", better, measure.range_text, measure.what)


def _line(
    name: str, key: str = "", type_: str = "", given: str = "", what: str = ""
) -> dict[str, Cell]:
    return {"name": name, "key": key, "type": type_, "default or range": given, "what it is": what}


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
