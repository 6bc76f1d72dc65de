"""The prompt of the language model: models, tasks, the best trials, and what to say.

Every generation has a prompt of its own; earlier ones are a line each in it, so that a long
search asks no longer questions than a short one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from evomerge.endpoint.chat import Message
from evomerge.nouns.space import WIDEST_STEP, Choice, Integer, Parameter, Real, Space, Value
from evomerge.optimizers.search_context import Brief

_LONGEST_THOUGHT = 600  # characters of the last thought
_ROLE = """\
You guide the search for a good merge of language models. A merge is described by parameters. In \
each generation you propose a mean, the values of all parameters that you expect to score best; \
the search merges and scores exactly your mean and random variations of it, and then shows you \
the best trials so far.
{search}
Think about what the best trials have in common and where they differ, which model is good at \
which task, and which part of the models a parameter is about. Propose a mean that scores higher \
than every trial so far; a copy of a trial is of no use.
Reply with one JSON object and nothing else:
{{"thought": "your reasons in a few sentences", "mean": {{"NAME": VALUE, ...}}}}
"mean" holds each of the {n_dims} parameters once, under exactly the name in the table, with a \
value that the table allows."""


@dataclass(frozen=True)
class Example:
    """One trial that the model is shown.

    Attributes:
        point: Parameter name -> value.
        score: Higher is better.
        tasks: Task -> what it said, in the task's own unit.
        origin: Where the trial comes from.
    """

    point: Mapping[str, Value]
    score: float
    tasks: Mapping[str, float] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class Situation:
    """Where a search stands.

    Attributes:
        generation: From 1.
        sigma: Noise around the mean, as a share of each range.
        has_improved: Whether the last generation beat those before it.
        examples: The best trials, the best first.
        parents: Model -> how it scores alone.
        lower_is_better: Tasks whose number is better when lower.
        history: A line per earlier generation, the oldest first.
        thought: What the model thought in the last generation.
    """

    generation: int
    sigma: float
    has_improved: bool
    examples: Sequence[Example]
    parents: Mapping[str, Example] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()
    history: Sequence[str] = ()
    thought: str = ""


def messages(space: Space, brief: Brief, situation: Situation) -> list[Message]:
    """The prompt: what it is about, then where the search stands."""
    role = _ROLE.format(search=_search(brief), n_dims=space.n_dims)
    return [
        {"role": "system", "content": role},
        {"role": "user", "content": _state(space, situation)},
    ]


def fitting(space: Space, brief: Brief, situation: Situation, limit: int) -> Situation:
    """The situation with as much of its examples and history as a prompt has room for.

    Args:
        space: What is searched.
        brief: The search in words.
        situation: All there is to tell; at least one example stays of it.
        limit: Characters of a prompt.
    """
    while n_characters(messages(space, brief, situation)) > limit:
        if situation.history or situation.thought:
            situation = replace(situation, history=situation.history[1:], thought="")
        elif len(situation.examples) > 1:
            situation = replace(situation, examples=situation.examples[:-1])
        else:
            break
    return situation


def n_characters(prompt: Sequence[Message]) -> int:
    """Length of a prompt."""
    return sum(len(message["content"]) for message in prompt)


def written(parameter: Parameter) -> str:
    """What a parameter may be."""
    if isinstance(parameter, Choice):
        return " or ".join(json.dumps(value) for value in parameter.values)
    edges = f"[{parameter.low!r}, {parameter.high!r}]"
    if isinstance(parameter, Integer):
        return f"{edges} whole"
    return f"{edges} logarithmic" if parameter.log else edges


def _search(brief: Brief) -> str:
    lines = [f"Models: {', '.join(brief.models)}." if brief.models else ""]
    lines += [f"Their base: {brief.base}." if brief.base else ""]
    lines += [f"Merge method: {brief.merge_method}, as in mergekit." if brief.merge_method else ""]
    lines += [f"Tasks: {', '.join(brief.tasks)}." if brief.tasks else ""]
    return "\n".join(line for line in lines if line)


def _state(space: Space, situation: Situation) -> str:
    improved = "improved on" if situation.has_improved else "did not improve on"
    progress = f"The last generation {improved} the best score of those before it. "
    parts = [
        f"Generation {situation.generation}. {progress if situation.generation > 1 else ''}"
        f"The noise around your mean will have a standard deviation of "
        f"{_noise(space, situation.sigma)}.",
        _listed("Each model alone", [_alone(*pair) for pair in situation.parents.items()]),
        _listed("Earlier generations", situation.history),
        f"What you thought last: {situation.thought[:_LONGEST_THOUGHT]}"
        if situation.thought
        else "",
        _table(space, situation),
        "Reply with the JSON object of the next mean.",
    ]
    return "\n\n".join(part for part in parts if part)


def _noise(space: Space, sigma: float) -> str:
    """In units of the parameters that have some; else, and for the others, as a share of ranges."""
    units = [_unit(p) for p in space]
    sizes = sorted(sigma * unit for unit in units if unit is not None)
    if not sizes:
        return f"{sigma:g} of each range"
    least, most = f"{sizes[0]:.3g}", f"{sizes[-1]:.3g}"
    said = least if least == most else f"{least} to {most}"
    if None in units:
        return f"{said} in plain ranges, {sigma:g} of the range elsewhere"
    return f"{said} in each parameter"


def _unit(parameter: Parameter) -> float | None:
    """How much of a parameter a noise of 1 is, in its own units; None where there are none."""
    if not isinstance(parameter, Real) or parameter.log:
        return None
    return (parameter.high - parameter.low) * parameter.step / WIDEST_STEP


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *lines]) if lines else ""


def _alone(name: str, example: Example) -> str:
    tasks = ", ".join(f"{task} {_number(value)}" for task, value in example.tasks.items())
    return f"{name}: score {_number(example.score)}" + (f" ({tasks})" if tasks else "")


def _table(space: Space, situation: Situation) -> str:
    """One line per parameter, one column per trial: each name stands there once."""
    examples = situation.examples
    rows = [["trial", "", *(e.origin or "earlier" for e in examples)]]
    rows += [["score", "higher is better", *(_number(e.score) for e in examples)]]
    for task in dict.fromkeys(task for e in examples for task in e.tasks):
        better = "lower" if task in situation.lower_is_better else "higher"
        shown = (_number(e.tasks[task]) if task in e.tasks else "unknown" for e in examples)
        rows.append([task, f"{better} is better", *shown])
    rows.append(["PARAMETER", "MAY BE", *("VALUE" for _ in examples)])
    rows += [
        [p.name, written(p), *(shown_value(p, e.point[p.name]) for e in examples)] for p in space
    ]
    title = "The best trials so far, the best first, in columns"
    return _listed(title, [" | ".join(row) for row in rows])


def shown_value(parameter: Parameter, value: Value) -> str:
    """A value in four digits, unless these lie outside of what it may be."""
    if not isinstance(parameter, Real):
        return json.dumps(value)
    text = f"{value:.4g}"
    return text if parameter.low <= float(text) <= parameter.high else repr(value)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "failed"
