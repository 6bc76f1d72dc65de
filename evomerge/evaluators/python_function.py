"""Has a Python function of your own judge: it asks the model what it likes, and returns scores.

It runs in a process of its own, with ``--allow-code`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

from evomerge.evaluators.outside.conversation import Conversation
from evomerge.evaluators.outside.found_function import FoundFunction, found_function
from evomerge.evaluators.outside.outside_kind import OutsideKind, OutsideSettings
from evomerge.evaluators.outside.python_conversation import PythonConversation, PythonProcess
from evomerge.foundations.errors import GenomeError, Problem


class PythonSettings(OutsideSettings):
    """What stands under ``python:``."""

    run: str = Field(
        description="`package.module:function`, of a package that is installed, or of a file in "
        "`task_search_path` or the folder where evomerge is run."
    )


class PythonFunction(OutsideKind):
    """``python: mine:length``: called with a model, and the documents where there is a file."""

    Settings = PythonSettings

    @property
    def called(self) -> str:
        """See :attr:`OutsideKind.called`."""
        return str(self.settings.run)

    def missing(self) -> Iterator[Problem]:
        """See :meth:`OutsideKind.missing`."""
        try:
            self._digest  # noqa: B018  # the files can be read
        except GenomeError as error:
            yield from error.problems
            return
        has_file, taken = self.settings.documents is not None, self._function.takes
        if taken is not None and 1 + has_file not in taken:
            given = "a model and its documents" if has_file else "a model alone, without documents"
            what = f"{self.called} cannot be called with {given}"
            yield Problem(what, fix="Mend its arguments, or what stands here.")

    def code(self) -> Sequence[Any]:
        """See :meth:`OutsideKind.code`; what the module imports from elsewhere is not known."""
        return (self.called, self._digest)

    def conversation(self, documents: Sequence[Any] | None) -> Conversation:
        """See :meth:`OutsideKind.conversation`."""
        arguments = [] if documents is None else [documents]
        return PythonConversation(self.task.name, self._process, self.called, arguments)

    @cached_property
    def _function(self) -> FoundFunction:
        return found_function(self.called, [*self.around.search_path, "."])

    @cached_property
    def _digest(self) -> str:
        return self._function.digest

    @cached_property
    def _process(self) -> PythonProcess:
        return PythonProcess(self._function, self._digest)
