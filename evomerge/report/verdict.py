"""Whether searching found something better than one would have had without, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge.nouns.comparison import FEW, LEAST_DIFFERING, SURE, Comparison
from evomerge.nouns.score_text import gain_text, with_sign
from evomerge.report.split_table import WINNER, Contest, SplitTable

Answer = Literal["pays", "does not pay", "cannot be told"]
_BIAS: Mapping[str, str] = {
    "search": "These tasks made the choice, so this is biased upward; holdout tasks would tell.",
    "validation": "These tasks had a say in the choice, so this is biased upward a little; holdout "
    "tasks would tell.",
    "holdout": "Scores on the search tasks are biased upward: they made the choice.",
}
LEGEND = "± is one standard error; differences are taken document by document"


@dataclass(frozen=True)
class Verdict:
    """Whether searching paid on one objective.

    Attributes:
        answer: In words.
        objective: Which, where there are several; else empty.
        split: ``search``, ``validation`` or ``holdout``: the tasks it is read from.
        winner: ``winner``, or which point of the front.
        baseline: The best baseline, chosen as the winner was; None where none has a score.
        gain: What the winner has over it; None where it is a baseline itself.
        untold: Other baselines that the documents cannot tell from the winner; where a baseline
            has won, those with the very same score.
        better: Other baselines that the documents show to be better than the winner.
    """

    answer: Answer
    objective: str
    split: str
    winner: str
    baseline: str | None
    gain: Comparison | None
    untold: tuple[str, ...] = ()
    better: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The same for people."""
        of = f" on {self.objective}" if self.objective else ""
        of += f" ({self.winner})" if self.winner != WINNER else ""
        whether = {
            "pays": f"Searching pays{of}",
            "does not pay": f"Searching does not pay{of}",
            "cannot be told": f"Whether searching pays{of} cannot be told",
        }
        beaten = f" {_listed(self.better)} did better there." if self.better else ""
        return f"{whether[self.answer]}: {self._reason}{beaten}"

    @property
    def _reason(self) -> str:
        if self.baseline is None:
            return f"no baseline has a score on the {self.split} tasks."
        if self.gain is None:
            if self.untold:
                first = _listed((self.baseline, *self.untold))
                return f"{first} have the same score, and were there before the search."
            return f"{self.baseline} is the best, and it was there before the search."
        over = f"over {self.baseline}, the best baseline, on"
        if self.gain.stderr is None:
            difference = with_sign(self.gain.difference)
            return f"{difference} {over} the {self.split} tasks, but {self.gain.reason}."
        found = f"{gain_text(self.gain)} {over} {self.gain.n:,} {self.split} documents"
        if self.answer == "cannot be told" and self.untold:
            found += f", more than {SURE} standard errors"
            were = "were" if len(self.untold) > 1 else "was"
            which = f"{_listed(self.untold)} from it, which {were}"
            return f"{found}, but they cannot tell {which} there before, too."
        return f"{found}, {_certainty(self.gain)}"


def verdicts(tables: Sequence[SplitTable]) -> list[Verdict]:
    """One per objective; nothing where there is no winner yet.

    Read from holdout if the winner was scored there, else from validation, else from the search
    tasks. The rule: a difference of more than 1.96 standard errors, from every baseline.
    """
    return next(filter(None, (list(_of(table)) for table in reversed(tables))), [])


def verdict(tables: Sequence[SplitTable]) -> list[str]:
    """The verdicts in a sentence each, and a last one on what the tasks are worth."""
    found = verdicts(tables)
    return [*(one.sentence for one in found), *(_BIAS[one.split] for one in found[:1])]


def _of(table: SplitTable) -> Iterator[Verdict]:
    n_objectives = sum(column.is_objective for column in table.columns)
    for column, contest in zip(table.columns, table.contests, strict=False):
        if contest is not None:
            name = column.name if n_objectives > 1 else ""
            yield Verdict(
                _answer(contest),
                name,
                table.title,
                contest.winner,
                contest.baseline,
                contest.gain,
                contest.untold,
                contest.better,
            )


def _answer(contest: Contest) -> Answer:
    if contest.gain is None:
        return "cannot be told" if contest.baseline is None else "does not pay"
    if not contest.gain.is_distinguishable:
        return "cannot be told"
    if contest.gain.difference <= 0:
        return "does not pay"
    return "cannot be told" if contest.untold or contest.better else "pays"


def _listed(names: Sequence[str]) -> str:
    """The first of some names, and how many others there are."""
    first, *more = names
    return f"{first} and {len(more)} more" if more else first


def _certainty(gain: Comparison) -> str:
    """What makes the difference count, or not."""
    if gain.n_differing < LEAST_DIFFERING:
        are = "1 differs" if gain.n_differing == 1 else f"{gain.n_differing} differ"
        return f"of which {are}: too few to tell it from noise."
    more = "more" if gain.is_distinguishable else "not more"
    rough = "" if gain.n >= FEW else " With so few documents the rule is rough."
    return f"{more} than {SURE} standard errors.{rough}"
