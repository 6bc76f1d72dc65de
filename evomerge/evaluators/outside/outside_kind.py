"""What kinds have in common whose judge is the user's own code: documents, direction, range."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from evomerge.evaluators.asking.asked import AskOther
from evomerge.evaluators.asking.asking_kind import (
    Around,
    Asking,
    AskingKind,
    AskingTogether,
    Item,
)
from evomerge.evaluators.kind_of_task import Languages, Measure, TaskSettings
from evomerge.evaluators.outside.conversation import Answered, Conversation, Wants
from evomerge.evaluators.outside.replies import Exchange, Replies
from evomerge.evaluators.outside.scores import SCORE, judgements_of
from evomerge.evaluators.task_files import all_read, json_rows, wrong_line
from evomerge.foundations.canonical import canonical_json
from evomerge.foundations.errors import EvaluationError, GenomeError, Problem
from evomerge.foundations.findings import Finding, note
from evomerge.genome.block import Number, fits
from evomerge.genome.misfit import MisfitError
from evomerge.genome.task_blocks import Task


class OutsideSettings(TaskSettings):
    """What stands under the key of such a kind."""

    run: Any = Field(description="What judges.")
    documents: str | None = Field(
        None,
        description="A `.jsonl` file with a document in each line, any JSON; it gets those that "
        "are scored, and gives a score for each. Without it has documents of its own.",
    )
    higher_is_better: bool = Field(True, description="Direction of the score.")
    low: Number | None = Field(None, description="The least a score can be; below, a trial fails.")
    high: Number | None = Field(None, description="The most; above, a trial fails.")
    repeatable: bool = Field(
        True, description="`false`: `verify` does not have it judge the built model once more."
    )
    language: Languages = Field(
        None,
        description="Languages by their codes, e.g. `ja`: a reply in none of them is told as an "
        "empty text, which may be the best of all to what judges (nothing toxic is in it), and "
        "`in_language` is the share of those that are. A word or two, a number or a formula is in "
        "any. Needs the extra `language`.",
    )

    @fits("low", "high")
    def _range(self) -> Iterator[MisfitError]:
        if self.low is not None and self.high is not None and self.low >= self.high:
            yield MisfitError(f"low {self.low:g} is not below high {self.high:g}", "low")


class OutsideKind(AskingKind[Any]):
    """A task whose documents are judged together, by one call of somebody else's code."""

    Settings = OutsideSettings
    runs_code = True
    measures = (Measure(SCORE, higher_is_better=True, what="what it returns"),)
    gates_itself = True

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        given = self.settings
        low = -math.inf if given.low is None else given.low
        high = math.inf if given.high is None else given.high
        self.measures = (Measure(SCORE, given.higher_is_better, low, high),)
        self.is_verifiable = given.repeatable
        self._n_scores: int | None = None  # of the first model, where no file tells

    @abstractmethod
    def conversation(self, documents: Sequence[Any] | None) -> Conversation:
        """What judges a model, not yet begun.

        Args:
            documents: The rows that are scored; None where it has its own.
        """

    @abstractmethod
    def missing(self) -> Iterator[Problem]:
        """What is not there that has to be, as far as that shows without running anything."""

    @property
    @abstractmethod
    def called(self) -> str:
        """What would run, for people."""

    def items(self) -> Iterator[Item[Any]]:
        """See :meth:`AskingKind.items`; one stands for all where there is no file of them.

        Raises:
            GenomeError: the code is not there or not allowed, the file is not of its form.
        """
        found = [*self.missing()]
        if not self.around.permissions.code:
            what = f"would run {self.called}, which needs permission"
            found.append(Problem(what, fix="Add --allow-code if you trust it."))
        rows: list[Item[Any]] = []
        if self.settings.documents is not None:
            try:
                rows = _rows(self.settings.documents)
            except GenomeError as error:
                found += (Problem(one.what, "documents", one.fix) for one in error.problems)
        if found:
            raise GenomeError.of(found)
        if self.settings.documents is None:
            return iter((Item(None, f"{self.task.kind}: {self.called}"),))
        return iter(rows)

    def stands_on(self) -> Sequence[Any]:
        """See :meth:`AskingKind.stands_on`: which way is good, and what is too little or much."""
        own = self.settings
        return [own.higher_is_better, own.low, own.high, *self.code()]

    @abstractmethod
    def code(self) -> Sequence[Any]:
        """What is called and the digests of its files, JSON, as far as these can be known."""

    def judge(self, item: Item[Any]) -> Asking:
        """See :meth:`AskingKind.judge`; one by one is not how it judges."""
        # Nobody calls it: ``askings`` is this kind's, and the contract wants a ``judge`` of all.
        raise NotImplementedError(f"{type(self).__name__} judges all documents at once")

    def findings(self) -> Iterator[Finding]:
        """See :meth:`AskingKind.findings`."""
        yield note(
            f"what {self.called} asks of a model shows only when it runs; its rows of forward "
            "passes are not counted"
        )

    def askings(
        self, items: Sequence[Item[Any]], numbers: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], AskingTogether]]:
        """See :meth:`AskingKind.askings`; all at once."""
        has_file = self.settings.documents is not None
        yield numbers, self._together([one.content for one in items] if has_file else None)

    def _together(self, documents: Sequence[Any] | None) -> AskingTogether:
        talk, replies = self.conversation(documents), Replies(self.languages)
        try:
            said = yield AskOther(talk, Answered())
            while isinstance(said, Wants):
                told = replies.told(said.asked, (yield said.asked))
                said = yield AskOther(talk, Answered(told))
        finally:
            talk.end()
        exchange = self.exchanged(documents, replies.exchange)
        shown, n_expected = replies.marked(exchange), self._expected(documents)
        try:
            found = judgements_of(said.value, n_expected, self.measures[0], shown)
        except EvaluationError as error:
            raise EvaluationError(error.problems[0].what, where=self.task.name) from error
        if documents is None:
            self._n_scores = len(found)
        return replies.judged(found, exchange)

    def exchanged(self, documents: Sequence[Any] | None, exchange: Exchange) -> Exchange:
        """Prompt and reply of each document; none where they are not as many.

        Args:
            documents: The rows that are scored.
            exchange: Prompts and replies, in the order in which they were asked.
        """
        return exchange

    def _expected(self, documents: Sequence[Any] | None) -> int | None:
        """How many scores there have to be: models are compared document by document."""
        return self._n_scores if documents is None else len(documents)


def _rows(file: str) -> list[Item[Any]]:
    def item(numbered: tuple[int, Any]) -> Item[Any]:
        line, row = numbered
        try:
            return Item(row, canonical_json(row), row)
        except ValueError as error:
            raise wrong_line(file, line, "holds NaN or Infinity, which is no JSON") from error

    return all_read(json_rows(file), item)
