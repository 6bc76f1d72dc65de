"""A published recipe -> the answers of a first genome: its numbers opened, itself the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from evomerge.compiler.starter import Answers
from evomerge.foundations.errors import EvomergeError, GenomeError, Problem
from evomerge.foundations.findings import note, warning
from evomerge.foundations.permissions import Permissions
from evomerge.genome.merge_method import Base
from evomerge.genome.methods import METHODS
from evomerge.genome.yaml_file import YamlFile
from evomerge.models.architecture import Architecture
from evomerge.models.inspect import read_model
from evomerge.models.shared_layers import describe
from evomerge.recipe.base import Hear
from evomerge.recipe.effective import Effective, effective, tensors_of
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.opening import (
    frame_of,
    has_numbers,
    model_entry,
    opened_block,
    opened_modules,
)
from evomerge.recipe.plain import Recipe
from evomerge.recipe.walk import filters_in, models_in

_WIDTH = 96


def opened(answers: Answers, permissions: Permissions, hear: Hear) -> Answers:
    """The answers with models, base, method and settings of the recipe that they name.

    A method without numbers, or another one that the answers ask for, leaves the models and what
    stands beside them: that method's own numbers are searched, and the recipe is tried first.

    Args:
        answers: With ``seed_from``.
        permissions: What the user allows models.
        hear: Takes what mergekit ignores in the recipe, and what was made of it.

    Raises:
        EvomergeError: it is no recipe, mergekit would refuse it, or it cannot be opened yet.
    """
    file = Path(answers.seed_from)
    parts, language = _read(file, permissions, hear)
    recipe = next(iter(parts.values()))
    if len(parts) > 1:
        with _told_of(file):
            return replace(answers, block=tuple(_lines(_of_modules(parts, language, answers))))
    if has_numbers(recipe) and answers.method in ("", recipe.method.name):
        return replace(answers, block=tuple(_lines(opened_block(recipe))))
    base = recipe.base if recipe.names_base else None
    answers = replace(answers, base="" if base is None else base.text)
    keeps_base = METHODS[answers.merge_method].base is Base.IGNORED
    models = [model for model in recipe.models if model != base or keeps_base]
    answers = replace(answers, models=tuple(model.text for model in models))
    hear(
        note(
            f"{recipe.method.name} has no number to open; searched are those of "
            f"{answers.merge_method}, and the recipe is tried first"
            if not has_numbers(recipe)
            else f"searched are the numbers of {answers.merge_method}, not the recipe's own",
            str(file),
        )
    )
    listed = [model_entry(model) for model in models]
    block = {"models": listed, "merge_method": answers.merge_method, **frame_of(recipe)}
    return replace(answers, block=tuple(_lines({**block, "granularity": "model"})))


def _of_modules(parts: Mapping[str, Effective], language: str, answers: Answers) -> dict[str, Any]:
    method = next(iter(parts.values())).method.name
    if answers.method not in ("", method):
        raise GenomeError(
            f"it merges {len(parts)} modules, whose numbers are those of {method}, got method "
            f"{answers.method}",
            fix="Leave the method out.",
        )
    return opened_modules(parts, language)


@contextmanager
def _told_of(file: Path) -> Iterator[None]:
    """Says of which file a problem is."""
    try:
        yield
    except EvomergeError as error:
        raise GenomeError.of(
            [Problem(f"{file}: {p.what}", p.where, p.fix) for p in error.problems]
        ) from error


def _read(file: Path, permissions: Permissions, hear: Hear) -> tuple[Mapping[str, Effective], str]:
    """What a recipe merges, by its modules where it has several; and the one that writes."""
    documents = documents_of(file)
    source = documents[-1]
    if isinstance(source.data, dict) and "evomerge_best" in source.data:
        source = YamlFile(str(file), source.data.get("recipe"))
        documents = [source]
        _refuse_other_kinds(file, source.data)
    found = recipe_of(documents, hear)
    _refuse_other_kinds(file, found.config)
    with _told_of(file):
        architecture = _architecture(found, permissions)
        modules = found.config.get("modules") or {}
        if len(modules) > 1 and modules.keys() <= architecture.parts.keys():
            parts = {
                name: effective({**found.config, "modules": {name: own}}, architecture.parts[name])
                for name, own in modules.items()
            }
        else:
            parts = {"": effective(found.config, architecture)}
    tensors = [*tensors_of(architecture, 0, architecture.n_layers)]
    for path, text in filters_in(found.config):
        if text != "*" and not any(text in name for name in tensors):
            what = f"no tensor of these models has {text!r} in its name; it is left out"
            hear(warning(what, source.where(path)))
    return parts, architecture.language


def _refuse_other_kinds(file: Path, config: Any) -> None:
    recipe = Recipe(config if isinstance(config, dict) else {})
    if not recipe.is_plain:
        why = recipe.unbuilt or f"{recipe.program} builds it"
        raise GenomeError(
            f"{file} is no single merge, {why}: its numbers cannot be opened",
            fix="Name it as optimizer.seed_from of a genome of its models: it is tried as it is.",
        )


def _architecture(recipe: Recipe, permissions: Permissions) -> Architecture:
    from evomerge.merging.refusals import refusals  # loads mergekit

    names = list(dict.fromkeys(models_in(recipe.config)))
    if not names:
        raise GenomeError("it merges no models")
    facts = [
        read_model(name, "models", may_unpickle=name.text in permissions.pickle) for name in names
    ]
    architecture = describe(facts)
    refused = refusals(recipe, architecture)
    if refused:
        raise GenomeError.of([Problem(f"mergekit refuses it: {why}") for why in refused])
    return architecture


class _Dumper(yaml.SafeDumper):
    """Settings and lists of numbers on one line."""


def _mapping(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    kinds = {"value", "range", "integer"}
    flow = bool(kinds & set(value)) and not {"models", "source"} & set(value)
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=flow)


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    flow = all(isinstance(item, (int, float)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def _lines(block: Mapping[str, Any]) -> Iterator[str]:
    """A ``genome:`` block as YAML, without its first line."""
    text = yaml.dump(dict(block), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    yield from (f"  {line}" for line in text.splitlines())
