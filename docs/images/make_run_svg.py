"""Draws docs/images/run.svg: a run as the terminal shows it, from its folder.

python docs/images/make_run_svg.py runs/skills docs/images/run.svg
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from evomerge.cli.drawn import draw_final
from evomerge.cli.live import LiveView
from evomerge.cli.progress import Progress
from evomerge.foundations.files import write_atomic
from evomerge.nouns.events import RunStarted, TrialFinished, TrialStarted
from evomerge.run.recorded_run import RecordedRun, load_run

WIDTH = 84
FONT_FACES = re.compile(r"@font-face \{.*?\}", re.DOTALL)  # they load fonts from elsewhere


def draw(run: RecordedRun, console: Console) -> None:
    """The command, the live picture at its end, and the final tables."""
    genome = run.ledger.header["genome"]
    console.print(Text.assemble(("$ ", "bold green"), f"evomerge run {genome}"))
    progress = Progress(run.leaderboard.objective.labels, clock=lambda: 0.0)
    view = LiveView(progress, console)
    folder = Path(run.ledger.folder.path)
    view.show(RunStarted(f"runs/{folder.name}", run.genome.optimizer.budget, run.space.n_dims, 0))
    best = None
    for trial in run.leaderboard.trials:
        scores = run.leaderboard.scores(trial)
        is_best = bool(scores) and (best is None or scores[0].value > best)
        best = scores[0].value if is_best else best
        view.show(TrialStarted(trial.candidate))
        view.show(TrialFinished(trial.candidate, trial.outcome, scores, is_best))
    progress.stage = ""
    console.print(view.picture())
    draw_final(console, run)


def main(folder: str, output: str) -> None:
    """Reads a run folder, writes the picture."""
    console = Console(record=True, width=WIDTH, force_terminal=True, file=io.StringIO())
    draw(load_run(Path(folder)), console)
    svg = console.export_svg(title="evomerge", unique_id="evomerge-run")
    write_atomic(Path(output), FONT_FACES.sub("", svg))


if __name__ == "__main__":
    main(*sys.argv[1:])
