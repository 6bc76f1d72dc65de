"""The run as a log shows it: one line per finished trial."""

from __future__ import annotations

from types import TracebackType

from evomerge.cli.progress import Progress
from evomerge.cli.written import say
from evomerge.foundations.counted import counted
from evomerge.nouns.events import (
    Event,
    FinalScored,
    Notice,
    Preparing,
    Proposing,
    RunStarted,
    TrialFinished,
    Warned,
)
from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import score_text


class LineView:
    """Writes lines to standard error.

    Args:
        progress: The state; the view feeds it.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._told_activity, self._told_tenth = "", 0

    def __enter__(self) -> LineView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Takes an event in and writes its line, if it has one."""
        self.progress.see(event)
        if isinstance(event, RunStarted):
            for line in _opening(event):
                say(line)
        elif isinstance(event, TrialFinished) and not event.was_recorded:
            say(_trial(event))
        elif isinstance(event, Preparing | Proposing):
            self._work(event)
        elif isinstance(event, FinalScored):
            say(_final(event))
        elif isinstance(event, Notice):
            say(f"note: {event.message}")
        elif isinstance(event, Warned):
            say(f"warning: {event.message}")

    def _work(self, event: Preparing | Proposing) -> None:
        """A line when something begins, and one per tenth of it at most."""
        tenth = int(10 * event.share)
        if not event.share:
            say(event.activity)
        elif tenth != self._told_tenth:
            is_new = event.activity != self._told_activity  # says itself how far it is
            say(event.activity if is_new else f"{event.activity}: {10 * tenth} %")
        self._told_activity, self._told_tenth = event.activity, tenth


def _opening(event: RunStarted) -> list[str]:
    searched = f"{counted(event.budget, 'trial')} over {counted(event.n_dims, 'parameter')}"
    lines = [f"run {event.run_dir}: {searched}"]
    if event.n_recorded:
        lines.append(f"continued: {counted(event.n_recorded, 'trial')} recorded already")
    lines += [f"note: {note}" for note in event.notes]
    return lines + [f"warning: {warning}" for warning in event.warnings]


def _trial(event: TrialFinished) -> str:
    candidate, outcome = event.candidate, event.outcome
    seconds = sum(outcome.seconds.values())
    head = f"trial {candidate.trial_id:>4}  {seconds:>7.1f} s  "
    if outcome.failure:
        return f"{head}failed: {outcome.failure}"
    marks = ["best"] if event.is_best else []
    marks += [str(candidate.origin) if candidate.is_baseline else candidate.label]
    return f"{head}{_scores(event.scores)}  {', '.join(filter(None, marks))}".rstrip()


def _final(event: FinalScored) -> str:
    head = f"{event.split} of trial {event.candidate.trial_id}: "
    return head + (_scores(event.scores) if event.scores else f"failed: {event.failure}")


def _scores(scores: tuple[Score, ...]) -> str:
    return "  ".join(f"{score_text(score):<26}" for score in scores).rstrip()
