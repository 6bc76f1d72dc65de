"""What a run would search, as people read it."""

from __future__ import annotations

import click

from evomerge.cli.tables import plain_table
from evomerge.compiler import Compiled
from evomerge.merge_spaces.baselines import baselines
from evomerge.space import Choice, Integer, Parameter, Space, Value


def draw_plan(compiled: Compiled) -> None:
    """Prints the space, the baselines, the size of the search and the recipe at its start."""
    genome, space = compiled.genome, compiled.merge_space.space
    plain_table([_row(parameter) for parameter in space])
    click.echo("\nscored first")
    for candidate in baselines(compiled.merge_space):
        place = "a point of the space" if candidate.genotype is not None else "outside the space"
        click.echo(f"  {candidate.origin}  ({place})")
    click.echo(f"\n{_size(compiled, space)}")
    for split in ("tasks", "validation", "holdout"):
        names = [task.name for task in getattr(genome, split)]
        if names:
            click.echo(f"{split}: {', '.join(names)}")
    click.echo("\nrecipe where the search starts")
    recipe = compiled.merge_space.recipe(space.decode(space.initial))
    click.echo(recipe.to_yaml(), nl=False)


def _size(compiled: Compiled, space: Space) -> str:
    genome, population = compiled.genome, compiled.optimizer.population_size
    n_generations = -(-genome.optimizer.budget // population)
    return (
        f"{space.n_dims} parameters, {genome.optimizer.name}, {genome.optimizer.budget} trials in "
        f"{n_generations} generations of {population}, {genome.execution.workers} at once"
    )


def _row(parameter: Parameter) -> dict[str, str]:
    if isinstance(parameter, Choice):
        kind, values = "choice", ", ".join(map(str, parameter.values))
    else:
        kind = "integer" if isinstance(parameter, Integer) else "real"
        values = f"[{parameter.low:g}, {parameter.high:g}]"
        values += " log" if kind == "real" and getattr(parameter, "log", False) else ""
    start = "" if parameter.initial is None else _text(parameter.initial)
    return {"parameter": parameter.name, "kind": kind, "range": values, "start": start}


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
