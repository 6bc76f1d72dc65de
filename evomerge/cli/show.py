"""``evomerge show``: a run folder as it stands, also while it is being searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli.arguments import force_option, json_option
from evomerge.foundations.counted import counted

if TYPE_CHECKING:
    from evomerge.nouns.trial import Trial
    from evomerge.run.recorded_run import RecordedRun

_N_SHOWN = 10


@click.command(
    short_help="Show a run: winner, parents, convergence, trials.",
    epilog="Example: evomerge show runs/skills --last 20",
)
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--last", type=click.IntRange(min=1), help="The last so many trials, not the best.")
@click.option("--failed", is_flag=True, help="The failed trials and why.")
@click.option(
    "--answers",
    metavar="TRIAL",
    type=click.IntRange(min=0),
    help="What a trial answered, document by document, and nothing else.",
)
@click.option(
    "--swarm",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the utilities of a swarm there, as utility_scratchpad.json has them.",
)
@force_option
@json_option
def show(
    run_folder: Path,
    last: int | None,
    failed: bool,
    answers: int | None,
    swarm: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Shows a run: the winner beside its parents, the convergence, the best trials."""
    from evomerge.run.recorded_run import load_run

    if last is not None and failed:
        raise click.UsageError("--last and --failed choose different trials; give one of them.")
    run = load_run(run_folder)
    if swarm is not None:
        _write_swarm(run, swarm, force=force)
    if answers is not None:
        _tell_answers(run, answers, as_json=as_json)
    elif as_json:
        from evomerge.cli.written import print_json
        from evomerge.report.sections import sections_of
        from evomerge.report.summary import summary

        sections = {section.name: section.data for section in sections_of(run)}
        print_json({**summary(run), **sections, "trials": _trials_data(run)})
    else:
        title, trials = _chosen(run, last, failed)
        _draw(run, title, trials)
        if failed and trials:
            from evomerge.run.chosen import retry

            click.echo(retry(run_folder))


def _tell_answers(run: RecordedRun, trial_id: int, *, as_json: bool) -> None:
    from rich.console import Console

    from evomerge.cli.answer_table import answers_data, draw_answers
    from evomerge.cli.written import print_json

    documents = answers_data(run, trial_id)
    if as_json:
        print_json({"trial": trial_id, "documents": documents})
    else:
        draw_answers(Console(highlight=False), documents, trial_id)


def _write_swarm(run: RecordedRun, file: Path, *, force: bool) -> None:
    import json

    from evomerge.cli.written import write_result
    from evomerge.foundations.errors import RunError
    from evomerge.optimizers.swarm.swarm_tracks import swarm_of

    history = swarm_of(run)
    if history is None:
        raise RunError(
            "no swarm has searched here",
            where=str(run.ledger.folder.path),
            fix="Name a run of `optimizer: swarm` that has tried something.",
        )
    write_result(f"{json.dumps(history.scratchpad(), indent=1)}\n", file, force=force)


def _chosen(run: RecordedRun, last: int | None, failed: bool) -> tuple[str, list[Trial]]:
    """Which trials to list, and what to call them."""
    from evomerge.nouns.evaluation import TrialState

    if failed:
        wrong = [t for t in run.leaderboard.trials if t.outcome.state is TrialState.FAILED]
        return counted(len(wrong), "failed trial") if wrong else "no trial failed", wrong
    if not run.leaderboard.trials:
        return "no trial yet", []
    if last is not None:
        return f"last {counted(last, 'trial')}", list(run.leaderboard.trials[-last:])
    best = run.leaderboard.ranked()[:_N_SHOWN]
    return "best trials on the search tasks" if best else "no trial is complete", best


def _draw(run: RecordedRun, title: str, trials: list[Trial]) -> None:
    from rich.console import Console

    from evomerge.cli.drawn import draw_final
    from evomerge.cli.plain_text import plain
    from evomerge.cli.report_sections import draw_section
    from evomerge.cli.trials import draw_trials
    from evomerge.report.curve import curve_of, text_plot
    from evomerge.report.sections import sections_of
    from evomerge.report.summary import headline

    console = Console(highlight=False)
    console.print(plain(headline(run), "dim"), soft_wrap=True)
    if run.winners:
        draw_final(console, run, every_split=True)
    plot = text_plot(curve_of(run), min(console.width, 90))
    if plot:
        console.print("\nconvergence", style="bold")
        console.print(plain("\n".join(plot)))
    for section in sections_of(run):
        draw_section(console, section)
    draw_trials(console, run, title, trials)


def _trials_data(run: RecordedRun) -> list[dict[str, Any]]:
    from evomerge.nouns.score_text import score_content

    return [
        {
            "trial": trial.candidate.trial_id,
            "origin": str(trial.candidate.origin),
            "state": trial.outcome.state.value,
            "scores": [score_content(score) for score in run.leaderboard.scores(trial)],
            "point": dict(trial.candidate.point),
            "seconds": dict(trial.outcome.seconds),
            "failure": trial.outcome.failure,
        }
        for trial in run.leaderboard.trials
    ]
