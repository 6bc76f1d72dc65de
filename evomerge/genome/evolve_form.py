"""The form of mergekit-evolve's files: what it would ignore in one is dropped here too, and told.

A file is of that form when it names nothing that is evomerge's alone: every key it shares with a
genome is one that mergekit-evolve reads, and so is its merge method. What is set on the command
line does not count.

Source: mergekit 0.1.5, `mergekit.evo.config` and `mergekit.evo.genome`, whose models take any
further key without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from evomerge.foundations.errors import Problem
from evomerge.genome.keys_allowed import home_of, keys_at
from evomerge.genome.misfit import KeyPath
from evomerge.genome.schema import Genome
from evomerge.genome.yaml_file import YamlFile

METHODS = ("linear", "task_arithmetic", "ties", "dare_ties", "slerp")
_TOP = frozenset(
    {
        "genome",
        "tasks",
        "limit",
        "num_fewshot",
        "shuffle",
        "random_init",
        "apply_chat_template",
        "fewshot_as_multiturn",
    }
)
_GENOME = frozenset(
    {
        "models",
        "merge_method",
        "base_model",
        "tokenizer_source",
        "layer_granularity",
        "normalize",
        "allow_negative_weights",
        "filters",
        "smooth",
    }
)
_TASK = frozenset({"name", "weight", "metric"})
# CMA-ES from the uniform average, each first step a sixth of a unit.
_SEARCH: Mapping[str, Any] = {"name": "cma_es", "start": "average", "step": 1 / 6}
# A misspelt key stands where the right one is missing, and has this share of its letters.
_RESEMBLES = 0.65
# What stands in files without a meaning there, though another block has a key of that name.
_MEANT_NOT = ("name", "int8_mask")
# Where these stand without `models`, a recipe was written that mergekit-evolve cannot read either.
_HOLD_MODELS = ("slices", "modules")


def read_as_evolve(source: YamlFile) -> YamlFile:
    """The file without what mergekit-evolve would ignore, where it is of its form.

    A key that resembles one that is not given stays, and so does one of another block: the
    schema refuses them.
    """
    if not _is_of_its_form(source.data):
        return source
    ignored = []
    for path, block, known in _blocks(source.data):
        for key in [key for key in block if _is_ignored((*path, key), block, known)]:
            del block[key]
            what = f"{key!r} is no key of a genome; ignored, as mergekit-evolve does"
            ignored.append(Problem(what, source.where((*path, key))))
    return replace(source, is_evolve=True, ignored=tuple(ignored))


def searched_as_evolve(source: YamlFile) -> YamlFile:
    """A file of its form with the search of mergekit-evolve, where nobody was named to search.

    It is written out, so that the genome of a run folder says it too.
    """
    block = source.data.get("optimizer", {}) if source.is_evolve else None
    if not isinstance(block, dict) or {"name", "chain", "islands"} & block.keys():
        return source
    search = {key: value for key, value in _SEARCH.items() if key != "step" or "sigma" not in block}
    return replace(source, data={**source.data, "optimizer": {**search, **block}})


def _is_of_its_form(data: Any) -> bool:
    genome = data.get("genome")
    if not isinstance(genome, dict) or genome.get("merge_method") not in METHODS:
        return False
    if any("parameters" in _dict_of(model) for model in _list_of(genome.get("models"))):
        return False
    if any("name" not in task for task in _list_of(data.get("tasks")) if isinstance(task, dict)):
        return False
    return not any(
        key in _ours(path) and key not in known
        for path, block, known in _blocks(data)
        for key in block
    )


def _blocks(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any], frozenset[str]]]:
    """Each block that mergekit-evolve reads: where it stands, what it holds, what is read of it."""
    yield (), _dict_of(data), _TOP
    yield ("genome",), _dict_of(data.get("genome")), _GENOME
    for index, task in enumerate(_list_of(data.get("tasks"))):
        yield ("tasks", index), _dict_of(task), _TASK


def _dict_of(part: Any) -> dict[str, Any]:
    """The block itself; an empty one where something else stands in its place."""
    return part if isinstance(part, dict) else {}


def _list_of(part: Any) -> list[Any]:
    """The list itself; an empty one where something else stands in its place."""
    return part if isinstance(part, list) else []


def _ours(path: KeyPath) -> set[str]:
    """Keys that a genome may have there."""
    return set(keys_at(Genome, tuple(part for part in path if isinstance(part, str))))


def _is_ignored(path: KeyPath, block: Mapping[str, Any], known: frozenset[str]) -> bool:
    key, ours = str(path[-1]), _ours(path[:-1])
    if key in known | ours or (key not in _MEANT_NOT and home_of(Genome, path, sorted(ours))):
        return False
    if key in _HOLD_MODELS and "models" not in block:
        return False
    missing = (ours | known) - block.keys()
    return not any(SequenceMatcher(None, key, one).ratio() >= _RESEMBLES for one in missing)
