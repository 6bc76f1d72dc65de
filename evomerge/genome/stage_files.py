"""A genome file as the searches it holds: one, or several stages that follow one another.

A stage is a genome of its own: what it does not say, the top of the file says for it. The models
of a later stage may be what earlier ones found, ``{stage: NAME}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.foundations.errors import Problem, nearest
from evomerge.genome.misfit import KeyPath
from evomerge.genome.yaml_file import YamlFile

KEY = "stages"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
OF_ALL = ("run_dir", KEY)  # say something of the whole file


@dataclass(frozen=True)
class StageFile:
    """One search of a genome file.

    Attributes:
        name: What later stages call it; empty where the file is one search.
        source: Its genome, with the file and lines of every key.
        uses: The earlier stages whose findings it merges, in the order in which it names them.
    """

    name: str
    source: YamlFile
    uses: tuple[str, ...] = ()


def stage_files(source: YamlFile) -> tuple[list[StageFile], list[Problem]]:
    """The searches of a file in their order, and what is wrong with how it names them.

    Args:
        source: The file, a mapping.
    """
    if KEY not in source.data:
        alone = [StageFile("", source)]
        return alone, list(_references(alone))
    given = source.data[KEY]
    if not isinstance(given, list) or not given:
        what = f"got {type(given).__name__}, expected a list of at least one stage"
        return [], [Problem(what, source.where((KEY,)), "Write `- {name: ..., genome: ...}`.")]
    found, wrong = [], list(_unread(source, given))
    for index, block in enumerate(given):
        wrong += _shape(source, index, block)
        if isinstance(block, dict):
            found.append(_stage(source, index, block))
    wrong += _names(source, given)
    wrong += _references(found)
    return found, wrong


def _stage(source: YamlFile, index: int, block: Mapping[str, Any]) -> StageFile:
    own = {key: value for key, value in block.items() if key not in ("name", *OF_ALL)}
    data = {k: v for k, v in source.data.items() if k not in (KEY, *own)} | own
    here = replace(
        source, data=data, stage=(KEY, index), shared=frozenset(data.keys() - own.keys())
    )
    uses = dict.fromkeys(name for _, name in _named(data))
    return StageFile(str(block.get("name", "")), here, tuple(uses))


def _shape(source: YamlFile, index: int, block: Any) -> Iterator[Problem]:
    if not isinstance(block, dict):
        what = f"got {block!r}, expected keys and values"
        yield Problem(what, source.where((KEY, index)), "Give its name and what it searches.")
        return
    for key in OF_ALL:
        if key in block:
            what = f"{key!r} is of the whole file"
            yield Problem(what, source.where((KEY, index, key)), "Move it to the top level.")


def _names(source: YamlFile, given: Sequence[Any]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, block in enumerate(given):
        name = block.get("name") if isinstance(block, dict) else ""
        where = source.where((KEY, index, "name"))
        if isinstance(block, dict) and (not isinstance(name, str) or not _NAME.fullmatch(name)):
            what = "is missing" if name is None else f"got {name!r}, expected letters and digits"
            yield Problem(what, where, "Name the stage; - and _ may stand in it.")
        elif name and name.casefold() in first:  # some disks know no case
            what = f"stages[{first[name.casefold()]}] has the name {name!r} too"
            yield Problem(what, where, "Give each stage a name of its own.")
        elif name:
            first[name.casefold()] = index


def _unread(source: YamlFile, given: Sequence[Any]) -> Iterator[Problem]:
    """Keys at the top that every stage has again."""
    blocks = [block for block in given if isinstance(block, dict)]
    for key in source.data if blocks else ():
        if key not in OF_ALL and all(key in block for block in blocks):
            what = f"every stage has a {key!r} of its own, and this one is read by none"
            yield Problem(what, source.where((key,)), "Remove it, or those that say the same.")


def _references(stages: Sequence[StageFile]) -> Iterator[Problem]:
    """Names of stages that are none, or none yet; stages that nobody uses."""
    names = [stage.name for stage in stages if stage.name]
    used: set[str] = set()
    for index, stage in enumerate(stages):
        before = names[:index]
        for path, name in _named(stage.source.data):
            used.add(name)
            where = stage.source.where(path)
            if name in before:
                continue
            if name in names:
                what = f"stage {name} is not over when {stage.name} begins"
                yield Problem(what, where, "Let each stage merge what those before it find.")
            elif not names:
                yield Problem("this file has no stages", where, "Run the genome that has them.")
            else:
                hint = nearest(name, before) or f" (earlier: {', '.join(before) or 'none'})"
                yield Problem(f"no stage is called {name!r}{hint}", where, "Name an earlier one.")
    for stage in stages[:-1]:
        if stage.name and stage.name not in used:
            what = f"no later stage merges what {stage.name} finds"
            fix = f"Write {{stage: {stage.name}}} among the models of one, or put it last."
            yield Problem(what, stage.source.where(("name",)), fix)


def _named(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Each place where a genome names a stage for a model, and which."""
    block = data.get("genome")
    if not isinstance(block, dict):
        return
    listed = block.get("models")
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        yield from _name_in(entry, ("genome", "models", index))
        if isinstance(entry, dict):
            yield from _name_in(entry.get("model"), ("genome", "models", index, "model"))
    yield from _name_in(block.get("base_model"), ("genome", "base_model"))
    for key in ("modules", "space"):
        yield from _named_below(block.get(key), ("genome", key))


def _named_below(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """The same anywhere in parts or the settings of a space, which alone knows its keys."""
    yield from _name_in(value, path)
    below = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else below:
        yield from _named_below(one, (*path, key))


def _name_in(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, dict) and isinstance(value.get("stage"), str):
        yield (*path, "stage"), value["stage"]
