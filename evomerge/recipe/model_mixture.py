"""A probability mixture: models whose next-token distributions are combined with weights.

It is several models side by side and no merge, so no command builds it. Its file says it all::

    mixture:
    - model: org/one                       # a model, as recipes name it ...
      weight: 0.7
    - recipe: {merge_method: linear, ...}  # ... or a merge, as mergekit-yaml reads it
      weight: 0.3
    mean: geometric                        # of probabilities; arithmetic where it does not stand
    tasks:                                 # where some tasks have weights of their own
      some_task: [0.2, 0.8]                # in the order of the members

Weights are 0 or more and sum to 1. The first member gives the tokenizer, the chat template and the
tokens that end a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.misfit import KeyPath
from evomerge.genome.model_names import ModelName
from evomerge.genome.yaml_file import YamlFile
from evomerge.recipe.base import Document, Hear, RecipeKind, Use
from evomerge.recipe.file import recipe_config
from evomerge.recipe.pool import MEAN, MEANS, MEMBERS, TASKS, UNMERGED, Pool
from evomerge.recipe.stage_names import stage_name
from evomerge.recipe.walk import merged_in

SUM_TOLERANCE = 1e-3  # weights are written with six digits, by people with fewer


class ModelMixture(RecipeKind):
    """Members, each a model or a merge, and their weights."""

    key = MEMBERS
    unbuilt: ClassVar[str] = UNMERGED
    unadapted: ClassVar[str] = UNMERGED
    is_stage: ClassVar[bool] = False

    @classmethod
    def takes(cls, documents: Sequence[YamlFile]) -> bool:
        """One document with members."""
        last = documents[-1].data
        return isinstance(last, dict) and MEMBERS in last

    @classmethod
    def read(cls, documents: Sequence[YamlFile], hear: Hear) -> dict[str, Any]:
        """The members and their weights; every mistake at once."""
        source = documents[-1]
        found = [Problem(what, source.where(path), fix) for path, what, fix in _flaws(source.data)]
        if len(documents) > 1:
            what = f"a mixture stands alone in its file, got {len(documents)} documents"
            found.append(Problem(what, source.where((MEMBERS,)), "Put it into a file of its own."))
        if found:
            raise GenomeError.of(found)
        config = dict(source.data)
        config[MEMBERS] = [
            {**entry, "recipe": recipe_config(_part(source, (MEMBERS, i, "recipe")), hear)}
            if "recipe" in entry
            else dict(entry)
            for i, entry in enumerate(config[MEMBERS])
        ]
        return config

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """The same, of what a ledger or a best.yml holds."""
        for _, what, _ in _flaws(config):
            raise ValueError(what)

    @classmethod
    def documents(cls, config: Mapping[str, Any]) -> tuple[Document, ...]:
        """Each member as a merge."""
        return tuple(map(_document, config[MEMBERS]))

    @classmethod
    def uses(cls, config: Mapping[str, Any]) -> tuple[Use, ...]:
        """Each member as a merge: all of them answer."""
        return tuple(map(Use, cls.documents(config)))

    @classmethod
    def pool(cls, config: Mapping[str, Any]) -> Pool:
        """The weights of its members, which sum to 1 exactly."""
        return Pool.of(config)

    @classmethod
    def parts(cls, config: Mapping[str, Any]) -> tuple[tuple[Document, ...], Document]:
        """The merges among its members, and the mixture of what they make."""
        merges: list[Document] = []
        members = []
        for entry in config[MEMBERS]:
            member = {key: value for key, value in entry.items() if key != "recipe"}
            if "recipe" in entry:
                member["model"] = stage_name(len(merges))
                merges.append(entry["recipe"])
            members.append(member)
        return tuple(merges), {**config, MEMBERS: members}

    @classmethod
    def whole(cls, before: Sequence[Document], last: Document) -> dict[str, Any]:
        """The mixture with the merges in the place of what they make.

        Raises:
            GenomeError: one of them merges what another one makes.
        """
        merges = {stage_name(index): dict(one) for index, one in enumerate(before)}
        if any(model.path in merges for model in merged_in(before)):
            raise GenomeError(
                "a mixture holds models and merges, and no merges of merges",
                where="genome.models",
                fix="Merge the last of them in a stage, or mix what it is made of.",
            )
        members = []
        for entry in last[MEMBERS]:
            member = dict(entry)
            if entry["model"] in merges:
                member["recipe"] = merges[member.pop("model")]
            members.append(member)
        return {**last, MEMBERS: members}


def _document(entry: Mapping[str, Any]) -> Document:
    if "recipe" in entry:
        document: Document = entry["recipe"]
        return document
    return {"merge_method": "passthrough", "models": [{"model": entry["model"]}]}


def _part(source: YamlFile, path: KeyPath) -> YamlFile:
    """What stands under a key, as a file of its own with the lines of the whole."""
    data = source.data
    for key in path:
        data = data[key]
    n = len(path)
    lines = {one[n:]: line for one, line in source.lines.items() if one[:n] == path}
    return replace(source, data=data, lines=lines, lent={})


Flaw = tuple[KeyPath, str, str]  # where, what, what to do


def _flaws(config: Any) -> Iterator[Flaw]:
    """Everything that keeps a configuration from being a mixture."""
    if not isinstance(config, Mapping):
        yield (), f"a mixture is a mapping, got {config!r}", "Write mixture: and its members."
        return
    for key in config:
        if key not in (MEMBERS, MEAN, TASKS):
            yield (key,), f"a mixture has no key {key!r}", f"Have {MEMBERS}, {MEAN}, {TASKS}."
    mean = config.get(MEAN, MEANS[0])
    if mean not in MEANS:
        yield (MEAN,), f"mean is {mean!r}, expected {' or '.join(MEANS)}", "Correct it."
    members = config.get(MEMBERS)
    if not isinstance(members, (list, tuple)) or not members:
        what = f"mixture is {members!r}, expected a list of members"
        yield (MEMBERS,), what, "List models, each with its weight."
        return
    for index, entry in enumerate(members):
        yield from _member_flaws(entry, (MEMBERS, index))
    own = [entry.get("weight") if isinstance(entry, Mapping) else None for entry in members]
    yield from _weight_flaws(own, (MEMBERS,), len(members))
    of_tasks = config.get(TASKS, {})
    if not isinstance(of_tasks, Mapping):
        yield (TASKS,), f"tasks is {of_tasks!r}, expected task: [weights]", "Correct it."
        return
    for name, given in of_tasks.items():
        if not isinstance(name, str):
            yield (TASKS, name), f"{name!r} is no name of a task", "Put it in quotation marks."
        yield from _weight_flaws(given, (TASKS, name), len(members))


def _member_flaws(entry: Any, path: KeyPath) -> Iterator[Flaw]:
    if not isinstance(entry, Mapping) or not {"model", "recipe"} & set(entry):
        yield path, f"a member is {entry!r}, expected a model or a recipe", "Name its model."
        return
    for key in entry:
        if key not in ("model", "recipe", "weight"):
            yield (*path, key), f"a member has no key {key!r}", "Have model or recipe, and weight."
    if {"model", "recipe"} <= set(entry):
        yield path, "a member has both a model and a recipe", "Remove one of them."
        return
    recipe = entry.get("recipe")
    if "recipe" in entry and not (
        isinstance(recipe, Mapping) and isinstance(recipe.get("merge_method"), str)
    ):
        what = "the recipe of a member is no merge with a merge_method"
        yield (*path, "recipe"), what, "Write it as mergekit-yaml reads it."
    if "model" in entry:
        try:
            ModelName.model_validate(entry["model"])
        except ValueError:
            yield (*path, "model"), f"{entry['model']!r} names no model", "Correct it."
    try:
        canonical_json(entry)
    except (TypeError, ValueError) as error:
        yield path, f"a member holds what no recipe can ({error})", "Write finite numbers."


def _weight_flaws(given: Any, path: KeyPath, n_members: int) -> Iterator[Flaw]:
    if not isinstance(given, (list, tuple)) or len(given) != n_members:
        what = f"weights are {given!r}, expected {n_members}, one per member"
        yield path, what, "Give each member its weight."
        return
    wrong = [one for one in given if not _is_weight(one)]
    if wrong:
        yield path, f"a weight is {wrong[0]!r}, expected a number of 0 or more", "Correct it."
    elif abs(math.fsum(given) - 1) > SUM_TOLERANCE:
        what = f"weights sum to {math.fsum(given):.6g}, expected 1"
        yield path, what, "Divide each by their sum."


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf
