"""The names of lm-eval's tasks: the user's folders first, everything only when needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager


class TaskIndex:
    """lm-eval's task index: the user's folders first, everything only when needed.

    Reading the 14,000 YAML files that come with lm-eval takes ten seconds.

    Args:
        search_path: Folders with task YAML of the user's.

    Attributes:
        manager: lm-eval's task manager, the full one once a name asked for it.
    """

    def __init__(self, search_path: Sequence[str]) -> None:
        self._folders = list(search_path)
        self.manager = TaskManager(include_path=self._folders, include_defaults=False)
        self._is_full = False

    def manager_for(self, name: str) -> Any:
        """The smallest task manager that knows the name, or the full one."""
        if not self._is_full and not self._resolves(name):
            self.manager = _full_manager(tuple(self._folders))
            self._is_full = True
        return self.manager

    def unread_file_of(self, name: str) -> Path | None:
        """The user's file that defines a task which lm-eval, unable to read it, left out."""
        if name in self.manager.task_index or Path(name).is_file():
            return None
        defines = re.compile(rf"^(task|group):\s*['\"]?{re.escape(name)}['\"]?\s*$", re.MULTILINE)
        files = (file for folder in self._folders for file in sorted(Path(folder).rglob("*.yaml")))
        return next(
            (file for file in files if defines.search(file.read_text("utf-8", "replace"))), None
        )

    def config_of(self, name: str) -> Mapping[str, Any]:
        """The YAML of a task as far as it was read."""
        entry = self.manager.task_index.get(name)
        return (entry.cfg if entry is not None else None) or {}

    def _resolves(self, name: str) -> bool:
        entry = self.manager.task_index.get(name)
        if entry is None:
            return Path(name).is_file()
        members = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else None
        names = [member for member in members or [] if isinstance(member, str)]
        return all(map(self._resolves, names)) if isinstance(members, list) else True


@lru_cache(maxsize=1)
def _full_manager(folders: tuple[str, ...]) -> Any:
    """Kept: the splits of a genome, and the checks of it, all read the same index."""
    return TaskManager(include_path=list(folders), include_defaults=True)
