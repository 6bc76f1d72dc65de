"""Has a program of your own judge: it asks a server of the model, and prints scores as JSON.

The server is OpenAI's API on loopback, for one trial; or the model is written into a folder. With
``--allow-code`` alone.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.outside.command_conversation import CommandConversation
from evomerge.evaluators.outside.conversation import Conversation
from evomerge.evaluators.outside.outside_kind import OutsideKind, OutsideSettings
from evomerge.evaluators.outside.replies import Exchange
from evomerge.foundations.errors import EvomergeError, Problem, RunError
from evomerge.foundations.reading import is_file, is_there, read_bytes
from evomerge.genome.block import fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.task_blocks import Task

_MOST_BYTES = 1 << 28  # of a file that is digested
_INTERPRETER = re.compile(r"python[\d.]*|(ba|da|k|z)?sh|perl|ruby|node|Rscript|julia")


class CommandSettings(OutsideSettings):
    """What stands under ``command:``."""

    run: Annotated[list[str], Field(min_length=1)] = Field(
        description="Program and arguments; no shell reads them. Files among them are remembered."
    )
    model: Literal["server", "folder"] = Field(
        "server",
        description="`server`: its URL is in EVOMERGE_URL and OPENAI_BASE_URL, its key in "
        "EVOMERGE_API_KEY and OPENAI_API_KEY. `folder`: the model is written down as well, as "
        "transformers does; its path is in EVOMERGE_MODEL.",
    )
    sets_openai: bool = Field(
        True,
        description="`false`: OPENAI_BASE_URL and OPENAI_API_KEY stay yours, for a program that "
        "asks somebody else too.",
    )
    files: list[str] = Field(
        default_factory=list, description="Further files that the scores stand on."
    )

    @fits("model", "language")
    def _heard(self) -> Iterator[MisfitError]:
        if self.model == "folder" and self.language:
            yield MisfitError(
                "of a model in a folder the program has replies that nobody else sees",
                "language",
                fix="Leave language out, or `model: folder`: the program asks the server then.",
            )


class CommandTask(OutsideKind):
    """``command: [python, judge.py]``: prints a number, or a list with one for each document."""

    Settings = CommandSettings

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        self.wants_folder = self.settings.model == "folder"

    @property
    def called(self) -> str:
        """See :attr:`OutsideKind.called`."""
        return shlex.join(self.settings.run)

    def missing(self) -> Iterator[Problem]:
        """See :meth:`OutsideKind.missing`."""
        program, *_ = self.settings.run
        if shutil.which(program) is None:
            if is_there(program):
                yield Problem(
                    f"{program!r} cannot be run", fix="Make it executable, or name what runs it."
                )
            else:
                yield Problem(
                    f"there is no program {program!r}", fix="Install it, or mend the path."
                )
        script = self._script
        # Of a folder, or a name without an ending, who runs it may make something else.
        if script and Path(script).suffix and not is_there(script) and shutil.which(script) is None:
            yield Problem(f"no file {script!r} for {program} to run", fix="Mend the path.")
        for index, file in enumerate(self.settings.files):
            if not is_file(file):
                yield Problem(f"no file {file!r}", f"files[{index}]", "Mend the path.")
        try:
            self._digests  # noqa: B018  # the files can be read
        except EvomergeError as error:
            yield from error.problems

    def code(self) -> Sequence[Any]:
        """See :meth:`OutsideKind.code`; what a program reads beside these is not known."""
        return (self.settings.run, self.settings.model, self._digests)

    def conversation(self, documents: Sequence[Any] | None) -> Conversation:
        """See :meth:`OutsideKind.conversation`.

        Raises:
            RunError: a file of the command is not what it was when the run began.
        """
        return CommandConversation(
            self.task.name,
            self.settings.run,
            documents,
            wants_folder=self.wants_folder,
            sets_openai=self.settings.sets_openai,
            check=self._check,
        )

    def exchanged(self, documents: Sequence[Any] | None, exchange: Exchange) -> Exchange:
        """See :meth:`OutsideKind.exchanged`; clients ask in any order."""
        replies = dict(sorted(exchange))
        if documents is None:
            return sorted(exchange)[:1] if len(replies) == 1 else ()
        prompts = (next((text for text in _texts(row) if text in replies), "") for row in documents)
        return [(prompt, replies.get(prompt, "")) for prompt in prompts]

    def _check(self) -> None:
        now = _digests([name for name in self._digests if is_file(name)])
        changed = [name for name, before in self._digests.items() if now.get(name) != before]
        if changed:
            what = f"{', '.join(changed)} is not what it was when the run began"
            raise RunError(what, where=self.task.name, fix="Put it back, or begin another run.")

    @property
    def _script(self) -> str | None:
        """What an interpreter is told to run; None where the first argument is something else."""
        program, *arguments = self.settings.run
        is_interpreter = _INTERPRETER.fullmatch(Path(program).name) is not None
        first = arguments[0] if arguments else ""
        return first if is_interpreter and first and not first.startswith("-") else None

    @property
    def _files(self) -> list[str]:
        return [one for one in (*self.settings.run, *self.settings.files) if is_file(one)]

    @cached_property
    def _digests(self) -> dict[str, str]:
        return _digests(self._files)


def _texts(row: Any) -> list[str]:
    values = row.values() if isinstance(row, dict) else [row]
    return [value for value in values if isinstance(value, str)]


def _digests(files: Sequence[str]) -> dict[str, str]:
    return {file: sha256(read_bytes(Path(file), _MOST_BYTES)).hexdigest() for file in files}
