"""Whether the documents that steer, validate and judge are different ones.

A score on documents that had a say in what is scored is too high, and nothing in it shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from evomerge.checks.context import CheckContext
from evomerge.evaluators.task_contents import TaskContents, digests_of
from evomerge.foundations.findings import Finding, error, warning
from evomerge.genome.words import SPLITS


@dataclass(frozen=True)
class _Part:
    """A task of a split, and where the genome names it."""

    split: str
    where: str
    contents: TaskContents
    weight: float  # in the mean of its split; 0: it is in none

    @property
    def name(self) -> str:
        return f"{self.where} ({self.contents.name})"

    def shared(self, digests: frozenset[str]) -> int:
        """How many of its documents are among some others."""
        return sum(not digests.isdisjoint(document) for document in self.contents.documents)


def splits_apart(context: CheckContext) -> Iterator[Finding]:
    """No document in two splits; a later split never gives worked examples to an earlier one."""
    for first, second in combinations(_parts(context), 2):
        if first.split == second.split:
            continue
        n_shared = second.shared(digests_of(first.contents.documents))
        if n_shared:
            yield error(
                f"{_of(n_shared, second)} are also documents of {first.name}",
                second.where,
                "Use other documents in one of them: another split of the data, or `samples`.",
            )
        n_told = second.shared(first.contents.examples)
        if n_told:
            yield error(
                f"worked examples are drawn from documents that {second.name} scores, {n_told} "
                "of them",
                first.where,
                "Set num_fewshot: 0, or draw the examples from another split (fewshot_split).",
            )


def own_answers_hidden(context: CheckContext) -> Iterator[Finding]:
    """No prompt shows the answer to its own question among its worked examples."""
    for part in _parts(context):
        n_told = part.shared(part.contents.examples)
        if n_told and not part.contents.hides_own:
            yield warning(
                f"{_of(n_told, part)} may be worked examples in their own prompts",
                part.where,
                "Set num_fewshot: 0, or draw the examples from another split (fewshot_split).",
            )


def documents_once(context: CheckContext) -> Iterator[Finding]:
    """Documents that stand twice in a split count twice, and standard errors are too small."""
    parts = _parts(context)
    for part in parts:
        copies = sum(
            n - 1 for n in Counter(question for question, *_ in part.contents.documents).values()
        )
        if copies:
            yield warning(
                f"{_of(copies, part)} are copies of others; they count twice, and the standard "
                "error is smaller than it should be",
                part.where,
                "Remove the copies from the data.",
            )
    weighty = [part for part in parts if part.weight]
    for index, part in enumerate(weighty):
        before = [one for one in weighty[:index] if one.split == part.split]
        alike = [one for one in before if part.shared(digests_of(one.contents.documents))]
        if alike:
            known = digests_of(document for one in alike for document in one.contents.documents)
            yield warning(
                f"{_of(part.shared(known), part)} are also documents of "
                f"{', '.join(one.name for one in alike)}; the standard error of their mean takes "
                "them as different ones",
                part.where,
            )


def benchmarks_unsearched(context: CheckContext) -> Iterator[Finding]:
    """A public benchmark that steers the search can no longer judge its winner."""
    for part in _parts(context):
        if part.split == "tasks" and part.contents.benchmark:
            yield warning(
                f"{part.contents.name!r} is the {part.contents.benchmark}, a public benchmark: "
                "a model chosen by it scores high there whatever it can do",
                part.where,
                "Search on its training split or on a task of your own, and keep the benchmark "
                "for holdout.",
            )


def _parts(context: CheckContext) -> list[_Part]:
    """Every task of every split, in the order in which they are scored."""
    found = []
    for split in SPLITS:
        evaluator = context.evaluators.get(split)
        if evaluator is None:
            continue
        places = {task.name: (index, task.weight) for index, task in enumerate(evaluator.tasks)}
        for contents in evaluator.contents():
            index, weight = places[contents.task]
            found.append(_Part(split, f"{split}[{index}]", contents, weight))
    return found


def _of(count: int, part: _Part) -> str:
    return f"{count} of its {len(part.contents.documents)} documents"
