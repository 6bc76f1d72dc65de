"""The names of lm-eval's tasks: the user's folders first, of lm-eval's own what is named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks import TaskManager

from evomerge.foundations.reading import is_file, read_bytes

_OWN = Path(lm_eval.tasks.__file__).parent
_TEMPLATE_SUFFIXES = ("", ".yaml", ".yml")


class TaskIndex:
    """lm-eval's task index: the user's folders first, of lm-eval's own what is named.

    Reading the 14,000 YAML files that come with lm-eval takes six seconds; looking for a name in
    them as text takes half a second, and tells which of its folders have to be read.

    Args:
        search_path: Folders with task YAML of the user's.

    Attributes:
        manager: lm-eval's task manager of the folders read so far.
    """

    def __init__(self, search_path: Sequence[str]) -> None:
        self._folders = list(search_path)
        self._own: set[Path] = set()
        self.manager = self._manager()
        self._is_full = False

    def manager_for(self, name: str) -> Any:
        """A task manager that knows the name and all it stands for, or the full one."""
        while not self._is_full and (missing := set(self._missing(name))):
            mentioned = {folder for one in missing for folder in _folders_with(one)}
            if mentioned <= self._own or _OWN in mentioned:
                self._read_all()
            else:
                self._own |= mentioned
                self.manager = self._manager()
        # A tag is what stands in any folder; of several, lm-eval keeps the last alone.
        if not self._is_full and self._is_tag(name) and len(_folders_with(name)) > 1:
            self._read_all()
        return self.manager

    def _manager(self) -> Any:
        # Of two tasks of one name lm-eval takes the first among its own, the last among folders.
        own = sorted(self._own, key=lambda folder: f"{folder.as_posix()}/", reverse=True)
        return TaskManager(include_path=[*map(str, own), *self._folders], include_defaults=False)

    def _read_all(self) -> None:
        self.manager = _full_manager(tuple(self._folders))
        self._is_full = True

    def _is_tag(self, name: str) -> bool:
        entry = self.manager.task_index.get(name)
        return entry is not None and entry.kind.name == "TAG"

    def unread_file_of(self, name: str) -> Path | None:
        """The user's file that defines a task which lm-eval, unable to read it, left out."""
        if name in self.manager.task_index or is_file(name):
            return None
        defines = re.compile(rf"^(task|group):\s*['\"]?{re.escape(name)}['\"]?\s*$", re.MULTILINE)
        files = (file for folder in self._folders for file in sorted(Path(folder).rglob("*.yaml")))
        return next((file for file in files if defines.search(_text(file))), None)

    def config_of(self, name: str) -> Mapping[str, Any]:
        """The YAML of a task as far as it was read."""
        entry = self.manager.task_index.get(name)
        return (entry.cfg if entry is not None else None) or {}

    def _missing(self, name: str) -> Iterator[str]:
        """The name, or the members of a group, as far as nothing that was read defines them."""
        entry = self.manager.task_index.get(name)
        if entry is None:
            if not is_file(name):
                yield name
        elif entry.kind.name == "GROUP":
            for member in _names_in((entry.cfg or {}).get("task")):
                yield from self._missing(member)


def _names_in(members: Any) -> Iterator[str]:
    """What the members of a group are called, of those written inside it too."""
    for member in members if isinstance(members, list) else []:
        if isinstance(member, str):
            yield member
        elif isinstance(member, dict):
            yield from (
                member[key] for key in ("group", "task") if isinstance(member.get(key), str)
            )
            yield from _names_in(member.get("task"))


@lru_cache(maxsize=256)
def _folders_with(name: str) -> frozenset[Path]:
    """lm-eval's own folders in which a name stands; its root where it stands there itself."""
    whole = re.compile(rb"(?<![\w.-])%s(?![\w.-])" % re.escape(name.encode()))
    return frozenset(folder for folder, text in _own_texts().items() if whole.search(text))


@lru_cache(maxsize=1)
def _own_texts() -> dict[Path, bytes]:
    """What stands in the task files of each of lm-eval's own folders, templates included."""
    texts: dict[Path, list[bytes]] = {}
    for file in _OWN.rglob("*"):
        if file.suffix in _TEMPLATE_SUFFIXES and is_file(file):
            parts = file.relative_to(_OWN).parts
            place = _OWN / parts[0] if len(parts) > 1 else _OWN
            texts.setdefault(place, []).append(read_bytes(file))
    return {folder: b"\n".join(parts) for folder, parts in texts.items()}


def _text(file: Path) -> str:
    return read_bytes(file).decode(errors="replace")


@lru_cache(maxsize=1)
def _full_manager(folders: tuple[str, ...]) -> Any:
    """Kept: the splits of a genome, and the checks of it, all read the same index."""
    return TaskManager(include_path=list(folders), include_defaults=True)
