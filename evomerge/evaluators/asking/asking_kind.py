"""The contract of kinds that ask: documents, measures, and how one document is judged.

What such a kind is made of::

    class LengthSettings(TaskSettings):
        file: str = Field(description="A .jsonl file with a prompt in each line.")

    class Length(AskingKind[str]):
        Settings = LengthSettings
        measures = (Measure("letters", higher_is_better=True, low=0.0),)
        max_new_tokens = 64

        def items(self):
            for line, row in json_rows(self.settings.file):
                yield Item(row["prompt"], row["prompt"])

        def judge(self, item):
            reply = yield AskText(item.content, self.max_new_tokens)
            return Judgement({"letters": float(len(reply))}, reply, Shown(item.content, reply))

and a line in the table of evaluators. Preparing, batching, metrics with standard errors, digests,
samples for people, mixtures and ``verify`` are one evaluator's for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from evomerge.evaluators.asking.asked import Asked, AskText
from evomerge.evaluators.beside import Room
from evomerge.evaluators.kind_of_task import KindOfTask
from evomerge.foundations.errors import Problem
from evomerge.foundations.findings import Finding
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import Task

if TYPE_CHECKING:
    import torch

    from evomerge.evaluators.asking.prompt_reader import PromptReader

C = TypeVar("C")


@dataclass(frozen=True)
class Item(Generic[C]):
    """A document of a task as its files have it; its number is its place among all of them.

    Attributes:
        content: What the kind makes of it.
        asks: What it asks, as text: documents that ask the same are the same.
        row: Everything of it that scores stand on, JSON; the text itself where there is no more.
    """

    content: C
    asks: str
    row: Any = None

    @property
    def stands_for(self) -> Any:
        """What it is digested by."""
        return self.asks if self.row is None else self.row


@dataclass(frozen=True)
class Shown:
    """A document for people to read.

    Attributes:
        prompt: What was asked.
        answer: What was said to it.
        target: What would have been right; may be empty.
    """

    prompt: str
    answer: str
    target: str = ""


@dataclass(frozen=True)
class Judgement:
    """What came of a document.

    Attributes:
        values: Measure -> value of this document. One that is missing is in no mean; one that is
            no finite number makes the mean none, which fails a trial that reads it and is left
            out of others.
        answer: What is kept of it for every trial: a text, an option's index, or nothing.
        shown: For people; the first few are kept.
        lacks: Why it has not the value that counts, in a few words; empty where it has.
    """

    values: Mapping[str, float]
    answer: int | str | None = None
    shown: Shown | None = None
    lacks: str = ""


@dataclass(frozen=True)
class RightReply:
    """A document that is answered by one text, from which a model can learn.

    Attributes:
        asked: What the model is asked, the only thing.
        right: What would be right; None where only the values of replies tell, the best of which
            are learned.
    """

    asked: AskText
    right: str | None = None


@dataclass(frozen=True)
class RightOption:
    """A document whose first reply is one of several, and more than that decides its value.

    Attributes:
        asked: What the model is asked first.
        options: The replies that there are.
        right: Which of them is right.
    """

    asked: AskText
    options: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class LikelyText:
    """A document that is the likelier text, the better."""

    text: str


@dataclass(frozen=True)
class TaughtText:
    """A document on which the model is the better, the more it says what a teacher says.

    Attributes:
        text: What both read.
        max_tokens: Tokens of it that are read: its beginning.
        temperature: See :class:`~evomerge.evaluators.questions.Taught`.
        said: Likewise.
    """

    text: str
    max_tokens: int
    temperature: float
    said: Callable[[tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]]


Lesson = RightReply | RightOption | LikelyText | TaughtText


class NotAskedError(Exception):
    """Raised in a judging that asks somebody else about a text that counts for nothing.

    Whoever has paid for something before returns what there is; all others let it pass.
    """


# Requests go out, one or several at a time; their answers come in, one or as many.
Asking = Generator[Asked | Sequence[Asked], Any, Judgement]
# The same of several documents; judgements in their order.
AskingTogether = Generator[Asked | Sequence[Asked], Any, Sequence[Judgement]]


@dataclass(frozen=True)
class Around:
    """What a task may know beside its own settings.

    Attributes:
        seed: Root seed of the run; draw from streams named after the task.
        search_path: Folders with task definitions of the user's.
        permissions: What the user allows tasks.
    """

    seed: int = 0
    search_path: tuple[str, ...] = ()
    permissions: Permissions = field(default_factory=Permissions)


class AskingKind(KindOfTask, ABC, Generic[C]):
    """One task of a kind that asks; made anew for each split and worker.

    Args:
        task: As the genome has it; its settings are sound.
        around: What else it may know.

    Attributes:
        settings: What stands under its key.
        measures: What it reports; the first is read unless the genome says. Of the class, or set
            per task where settings decide.
        rounds: How often it asks one after the other, at most.
        max_new_tokens: Of the longest text that is written; 0 where none is.
        reads_beginnings: Whether the beginning of a text is all that counts: none is told to be
            cut then.
        most_missing: Share of documents that may lack their value; a trial with more of them fails.
        is_verifiable: Whether ``verify`` may judge its documents a second time: what others say
            may cost, or be another thing tomorrow.
        gates_itself: Whether it has itself looked at the language of replies, as what a document
            gets whose reply does not count is not its to say.
        wants_folder: Whether it asks for the model as one folder, which a mixture is not.
        hears_all: Whether all its documents are heard together where they are judged one by one
            elsewhere: somebody whom they ask takes long to begin.
        too_long: What becomes of prompts that do not fit the model, and what to do: two sentences.
    """

    rounds: int = 1
    max_new_tokens: int = 0
    reads_beginnings: bool = False
    most_missing: float = 1.0
    is_verifiable: bool = True
    hears_all: bool = False
    gates_itself: bool = False
    wants_folder: bool = False
    too_long: str = "their beginnings are not read. Shorten the prompts."

    def __init__(self, task: Task, around: Around) -> None:
        self.task = task
        self.around = around
        self.settings: Any = type(self).Settings.model_validate(task.given)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of which replies have to be in one; empty for any.

        They stand in the field ``language`` of its settings, of type ``Languages``.
        """
        given: Any = getattr(self.settings, "language", None)
        return () if given is None else (given,) if isinstance(given, str) else tuple(given)

    @abstractmethod
    def items(self) -> Iterable[Item[C]]:
        """All documents of the task, in the order of its files; read once.

        Raises:
            GenomeError: a file is missing or not of its form, with the line; its ``where`` is the
                key below the kind's own, empty for that one itself.
        """

    @abstractmethod
    def judge(self, item: Item[C]) -> Asking:
        """Asks what there is to ask of a document, and judges the answers.

        A generator: ``reply = yield AskText(...)``, ``first, second = yield [..., ...]``, and at
        last ``return Judgement(...)``. It depends on nothing but the document and the answers.
        """

    def askings(
        self, items: Sequence[Item[C]], numbers: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], Asking | AskingTogether]]:
        """What judges some documents, and which: each apart, unless the kind does otherwise.

        Args:
            items: The documents.
            numbers: Of each.
        """
        for number, item in zip(numbers, items, strict=True):
            yield (number,), self.judge(item)

    def lesson(self, item: Item[C]) -> Lesson | None:
        """What a model can learn from a document; None: nothing, only its score is known."""
        return None

    def findings(self) -> Iterator[Finding]:
        """What can be known before a run, beyond the files: an endpoint, a key, a format, room.

        Their ``where`` is the key below the kind's own.
        """
        return iter(())

    def room(self) -> Room:
        """What it holds in memory beside the model that is scored."""
        return {}

    def keep_in(self, run_dir: Path | None) -> None:  # most keep nothing
        """Has what was paid for kept in a run folder, to be found there again; None: nowhere."""

    def misfits(
        self, items: Sequence[Item[C]], reader: PromptReader, longest: int
    ) -> Iterator[Problem]:
        """What keeps models from being judged by it, which only their tokenizer tells.

        Args:
            items: The documents that are scored.
            reader: Reads as these models do.
            longest: Tokens that they read at most.
        """
        return iter(())

    def stands_on(self) -> Sequence[Any]:
        """What scores stand on beside metric and documents, JSON: settings that change them."""
        return ()

    def guess(self, items: Sequence[Item[C]]) -> float | None:
        """What answers drawn at random score, by the first measure; None where nobody knows."""
        return None
