"""What a run would search and take, as people read it and as programs do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from evomerge.checks.probe import Probe
from evomerge.checks.resources import Storage
from evomerge.checks.search_plan import Plan, Trials
from evomerge.checks.tensors_accounted import accounts
from evomerge.cli.drawn import Cell, plain_table
from evomerge.cli.progress import duration
from evomerge.cli.written import say
from evomerge.compiler.chosen_space import told
from evomerge.compiler.compiled import Compiled
from evomerge.foundations.counted import counted
from evomerge.foundations.findings import Finding
from evomerge.foundations.sizes import size_text
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.space import Choice, Integer, Parameter, Real, Value, to_data
from evomerge.recipe.tensor_account import TensorAccount

_SHOWN = 40  # parameters; the rest only for programs
_LATER = "from the first document"  # what only results tell


def draw_plan(compiled: Compiled, plan: Plan, measured: Probe | None) -> None:
    """Prints the space, the trials, the tasks, the room they take and the recipe at the start."""
    space = compiled.merge_space.space
    _title("space")
    say(told(compiled.genome.genome) or f"space {compiled.merge_space.name}", err=False)
    plain_table([_parameter(parameter) for parameter in space.parameters[:_SHOWN]])
    if space.n_dims > _SHOWN:
        click.echo(f"and {space.n_dims - _SHOWN} more; --json lists all")
    if plan.trials is not None:
        _title("search")
        for line in _search(plan.trials):
            say(line, err=False)
        _title("tasks")
        plain_table(list(_tasks(plan.trials)))
    tensors = accounts(compiled.context)
    if tensors:
        _title("tensors")
        plain_table([_account(one) for one in tensors])
    if plan.stores:
        _title("room")
        plain_table([row for store in plan.stores for row in _store(store)])
    _title("time")
    for line in _time(measured):
        say(line, err=False)
    _title("scored first")
    first = baselines(compiled.merge_space, compiled.genome.baselines)
    for candidate in (*first, *compiled.context.seeds):
        place = "a point of the space" if candidate.genotype is not None else "outside the space"
        say(f"{candidate.origin}  ({place})", err=False)
    _title("recipe with every parameter at its start")
    say(compiled.merge_space.recipe(space.decode(space.initial)).to_yaml().rstrip("\n"), err=False)


def check_data(
    findings: Sequence[Finding],
    compiled: Compiled | None,
    plan: Plan | None,
    measured: Probe | None,
) -> dict[str, Any]:
    """The same for programs; space, plan and recipe are null where there are errors."""
    data: dict[str, Any] = {
        "findings": [
            {"severity": finding.severity.value, **asdict(finding.problem)} for finding in findings
        ],
        "merge_space": None,
        "tensors": None,
        "space": None,
        "plan": None,
        "recipe": None,
    }
    if compiled is not None and plan is not None:
        space = compiled.merge_space.space
        data["merge_space"] = compiled.merge_space.name
        data["tensors"] = [one.data for one in accounts(compiled.context)]
        data["space"] = to_data(space)
        data["plan"] = _plan_data(plan, measured)
        data["recipe"] = compiled.merge_space.recipe(space.decode(space.initial)).config
    return data


def _plan_data(plan: Plan, measured: Probe | None) -> dict[str, Any]:
    trials = plan.trials
    found: dict[str, Any] = {"search": None if trials is None else asdict(trials)}
    if trials is not None:
        found["search"] |= {
            "n_generations": trials.n_generations,
            "n_documents": trials.n_documents(),
            "n_rows": trials.n_rows(),
            "finals": {
                split: {
                    "n_trials": trials.n_trials(split),
                    "n_documents": trials.n_documents(split),
                    "n_rows": trials.n_rows(split),
                }
                for split in trials.finals
            },
        }
    found["room"] = [
        {
            **asdict(store),
            "path": None if store.path is None else str(store.path),
            "n_bytes": store.n_bytes,
        }
        for store in plan.stores
    ]
    found["time"] = None
    if measured is not None:
        ranges = {
            "trial_s": measured.trial_s,
            "run_s": measured.run_s,
            "finals_s": measured.finals_s,
        }
        found["time"] = {**asdict(measured), **ranges}
    return found


def _title(text: str) -> None:
    click.echo(f"\n{click.style(text, bold=True)}")


def _parameter(parameter: Parameter) -> dict[str, Cell]:
    if isinstance(parameter, Choice):
        kind, values = "choice", ", ".join(map(str, parameter.values))
    else:
        kind = "integer" if isinstance(parameter, Integer) else "real"
        values = f"[{parameter.low:g}, {parameter.high:g}]"
        values += " log" if kind == "real" and getattr(parameter, "log", False) else ""
    return {
        "parameter": parameter.name,
        "kind": kind,
        "range": values,
        "values": "any" if isinstance(parameter, Real) else str(parameter.n_values),
        "start": "" if parameter.initial is None else _value_text(parameter.initial),
    }


def _value_text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _search(trials: Trials) -> Iterator[str]:
    how = f" in {counted(trials.n_generations, 'generation')} of {trials.population}"
    yield (
        f"{counted(trials.n_dims, 'parameter')}, {trials.optimizer}: "
        f"{counted(trials.budget, 'trial')}{how if trials.population > 1 else ''}, "
        f"{trials.workers} at once"
    )
    yield f"{counted(trials.n_baselines, 'baseline')} before them"
    yield (
        f"each trial scores {trials.n_documents():,} documents in {trials.n_rows():,} rows of "
        "forward passes, at most"
    )
    for split in trials.finals:
        n_trials, n_documents = trials.n_trials(split), trials.n_documents(split)
        yield (
            f"{split} scores {n_documents:,} documents with {n_trials} models at most, baselines "
            "among them"
        )


def _tasks(trials: Trials) -> Iterator[dict[str, Cell]]:
    for split, entries in trials.tasks.items():
        for facts in entries:
            yield {
                "split": "search" if split == "tasks" else split,
                "task": facts.key.task,
                "metric": str(facts.key).rpartition("/")[2] if facts.is_known else _LATER,
                "better": ("higher" if facts.higher_is_better else "lower")
                if facts.is_known
                else "",
                "documents": f"{facts.n_documents:,}",
                "rows": f"{facts.n_rows:,}",
            }


def _store(store: Storage) -> Iterator[dict[str, Cell]]:
    capacity = store.capacity
    free = "" if capacity is None else f"{size_text(capacity.free)} of {size_text(capacity.total)}"
    name = store.name if store.path is None else f"disk {store.path}"
    needs = [need for need in store.needs if need.n_bytes]
    if len(needs) > 1:
        yield {"place": name, "for": "all", "takes": size_text(store.n_bytes), "free": free}
        name = free = ""
    for need in needs:
        yield {"place": name, "for": need.what, "takes": size_text(need.n_bytes), "free": free}


def _time(measured: Probe | None) -> Iterator[str]:
    if measured is None:
        yield "not measured; --probe merges a few times and times a few documents"
        return
    (few, few_s), (more, more_s) = measured.few, measured.more
    yield f"the search takes {_range(measured.run_s)}, a trial {_range(measured.trial_s)}"
    for final in measured.finals:
        yield f"{final.split} comes on top with about {_seconds(final.seconds)}"
    yield "measured on this machine:"
    yield f"  reading the models and merging {_seconds(measured.first_s)}"
    yield f"  merging again, with other parameters, {_seconds(measured.merge_s)}"
    yield f"  scoring the first {few} documents {_seconds(few_s)}"
    yield (
        f"  scoring the first {more} documents {_seconds(more_s)}, of {measured.n_documents:,} "
        "in a trial"
    )


def _range(seconds: tuple[float, float]) -> str:
    low, high = map(_seconds, seconds)
    return low if low == high else f"{low} to {high}"


def _seconds(seconds: float) -> str:
    """A duration, with a fraction where it is short."""
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _account(one: TensorAccount) -> dict[str, Cell]:
    """A model's row; why which are not merged is said above, among the notes."""
    merged, carried_over, left_out = one.numbers
    return {
        "model": one.model,
        "merged": "" if one.is_by_trial else merged,
        "by trial": merged if one.is_by_trial else "",
        "carried over": carried_over,
        "left out": left_out,
    }
