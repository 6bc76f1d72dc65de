"""The run as a terminal shows it: one picture, redrawn."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from evomerge.cli.plain_text import plain
from evomerge.cli.progress import Progress, duration
from evomerge.foundations.secret import without_keys
from evomerge.nouns.events import Event, FinalScored, Notice, RunStarted, TrialFinished, Warned
from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import score_text

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 40
_BAR_WIDTH = 30
_N_FAILURES_TOLD = 5  # the rest is in `evomerge show RUN --failed`


class LiveView:
    """Draws a run until it ends, then leaves the terminal as it was.

    Args:
        progress: The state to draw; the view feeds it.
        console: Where to draw.
    """

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress = progress
        self.console = console
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=console, transient=True, refresh_per_second=8, get_renderable=self.picture
        )

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Takes an event in; what must not scroll away is printed above the picture."""
        self.progress.see(event)
        if isinstance(event, RunStarted):
            for note in event.notes:
                self._tell(f"note: {note}", "cyan")
            for warning in event.warnings:
                self._tell(f"warning: {warning}", "yellow")
        elif isinstance(event, Notice):
            self._tell(f"note: {event.message}", "cyan")
        elif isinstance(event, Warned):
            self._tell(f"warning: {event.message}", "yellow")
        elif isinstance(event, TrialFinished) and not event.was_recorded:
            self._tell_failure(f"trial {event.candidate.trial_id}", event.outcome.failure)
        elif isinstance(event, FinalScored):
            self._tell_failure(f"{event.split} of trial {event.candidate.trial_id}", event.failure)

    def _tell(self, line: str, style: str) -> None:
        self.console.print(plain(without_keys(line), style=style))

    def _tell_failure(self, what: str, failure: str) -> None:
        if failure and self.progress.n_all_failed <= _N_FAILURES_TOLD:
            line = plain(f"{what} failed: {failure}", style="red")
            self.console.print(line, overflow="ellipsis", no_wrap=True)

    def picture(self) -> RenderableType:
        """The run at this moment."""
        progress = self.progress
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(style="dim", no_wrap=True)
        lines.add_column()
        if progress.started is None:
            self._spinner.update(text=plain(progress.stage))
            return self._spinner
        lines.add_row("run", plain(progress.started.run_dir))
        lines.add_row("trials", _bar(progress))
        if progress.stage:
            self._spinner.update(text=plain(progress.stage))
            lines.add_row("now", self._spinner)
        if progress.best_scores:
            lines.add_row("best", _best(progress))
        if len(set(progress.history)) > 1:
            lines.add_row("", plain(sparkline(progress.history, _CURVE_WIDTH), style="green"))
        if progress.baselines:
            lines.add_row("before", _baselines(progress))
        return Group(plain(), lines)


def _bar(progress: Progress) -> RenderableType:
    facts = [f"{progress.n_done}/{progress.budget}"]
    if progress.seconds_left is not None:
        facts.append(f"{duration(progress.seconds_left)} left")
    if progress.failures:
        facts.append(progress.failures)
    row = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(progress.budget, 1), completed=progress.n_done, width=_BAR_WIDTH)
    row.add_row(bar, plain("  ".join(facts)))
    return row


def _best(progress: Progress) -> Text:
    best = progress.best
    if best is None:
        name = f"each the highest of a front of {len(progress.front)}"
    else:
        name = f"trial {best.trial_id}" + (f" ({best.origin.short})" if best.is_baseline else "")
    return Text.assemble((_scores(progress, progress.best_scores), "bold green"), f"  {name}")


def _baselines(progress: Progress) -> RenderableType:
    rows = Table.grid(padding=(0, 2, 0, 0))
    for origin, scores in progress.baselines.items():
        rows.add_row(plain(origin.short), plain(_scores(progress, scores) if scores else "failed"))
    return rows


def _scores(progress: Progress, scores: tuple[Score, ...]) -> str:
    if len(scores) == 1:
        return score_text(scores[0])
    pairs = zip(progress.labels, scores, strict=False)
    return "\n".join(f"{label} {score_text(score)}" for label, score in pairs)


def sparkline(values: list[float], width: int) -> str:
    """The values as a row of bars, at most ``width`` of them."""
    n_columns = min(width, len(values))
    shown = [values[(i + 1) * len(values) // n_columns - 1] for i in range(n_columns)]
    low, high = min(shown), max(shown)
    span = high - low or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)
