"""What an evaluator knows of its tasks before it scores a model."""

from __future__ import annotations

from dataclasses import dataclass

from evomerge.nouns.evaluation import MetricKey


@dataclass(frozen=True)
class PartFacts:
    """One task, alone or inside a group.

    Attributes:
        name: Its name.
        n_available: Documents it has.
        n_documents: Documents that are scored.
        rows_per_document: Rows of the forward passes that a document asks for, at most: its
            options, or one generation. The mean over the first documents.
        n_fewshot: Worked examples in each prompt.
        is_fewshot_scored: Whether these come from the documents that are scored.
        max_new_tokens: Tokens of a generation; 0 where likelihoods are asked for.
        is_sampled: Whether its texts are drawn at random, which no other batch repeats.
    """

    name: str
    n_available: int
    n_documents: int
    rows_per_document: float
    n_fewshot: int
    is_fewshot_scored: bool
    max_new_tokens: int
    is_sampled: bool = False


@dataclass(frozen=True)
class GroupFacts:
    """A group of tasks, or one inside it.

    Attributes:
        name: Its name.
        parts: Names of all tasks below it.
        is_by_size: Whether its score is the mean over documents; else it is that over tasks.
    """

    name: str
    parts: tuple[str, ...]
    is_by_size: bool


@dataclass(frozen=True)
class TaskFacts:
    """One entry of the genome's tasks.

    Attributes:
        key: The metric read from it.
        higher_is_better: Direction of that metric.
        parts: Its tasks: one, or those of a group or tag.
        is_pooled: Whether it is a group without a score of its own.
        is_known: Whether metric and direction are known; else its first document tells them.
        groups: Of a group: itself, then those inside it, outer ones first; empty for one task.
        teaches: Whether a model can learn from any document, beside being scored on it.
        wants_folder: Whether it is scored on a folder, which a mixture is not.
    """

    key: MetricKey
    higher_is_better: bool
    parts: tuple[PartFacts, ...]
    is_pooled: bool = False
    is_known: bool = True
    groups: tuple[GroupFacts, ...] = ()
    teaches: bool = True
    wants_folder: bool = False

    @property
    def n_documents(self) -> int:
        """Documents that are scored."""
        return sum(part.n_documents for part in self.parts)

    @property
    def n_rows(self) -> int:
        """Rows of the forward passes of one trial, at most."""
        return round(sum(part.n_documents * part.rows_per_document for part in self.parts))

    @property
    def max_new_tokens(self) -> int:
        """Tokens of the longest generation; 0 where there is none."""
        return max((part.max_new_tokens for part in self.parts), default=0)
