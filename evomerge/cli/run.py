"""``evomerge run``: the search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import (
    genome_argument,
    json_option,
    permission_options,
    set_option,
)
from evomerge.cli.evolve_options import EvolveOptions, evolve_options
from evomerge.cli.interrupt import StoppedError, stopped_by_interrupt
from evomerge.cli.written import say
from evomerge.foundations.garbage import collect_again
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_file
from evomerge.foundations.text_safety import argument, one_name

if TYPE_CHECKING:
    from evomerge.cli.event_lines import LineView
    from evomerge.cli.live import LiveView
    from evomerge.compiler.genome_file import Stage
    from evomerge.compiler.staged_run import StagedRun
    from evomerge.foundations.findings import Finding
    from evomerge.genome.schema import Genome
    from evomerge.genome.yaml_file import YamlFile
    from evomerge.optimizers.base import Optimizer
    from evomerge.run.recorded_run import RecordedRun

_STOPPING = "stopping when {} is finished; Ctrl-C again leaves now"


@click.command(
    short_help="Search for the best merge, or continue a search.",
    epilog="Example: evomerge run genomes/skills.yml --set optimizer.budget=20",
)
@genome_argument
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The run folder. Default: the genome's run_dir, else runs/ and the file's name.",
)
@click.option(
    "--fork",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="NEW_RUN",
    help="Start a new run that takes over what the run folder found and what still holds.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at a warning: before the first trial, or after the baselines where a task cannot "
    "steer.",
)
@set_option
@permission_options
@evolve_options
@json_option
def run(
    genome: Path,
    run_dir: Path | None,
    fork: Path | None,
    strict: bool,
    overrides: tuple[str, ...],
    permissions: Permissions,
    evolve: EvolveOptions,
    as_json: bool,
) -> None:
    """Searches for the best merge; a run that was stopped is continued."""
    from evomerge.compiler.genome_file import read_genomes

    file = read_genomes(genome, overrides)
    given = file.genome.execution
    if own := evolve.overrides(given):
        file = read_genomes(genome, (*own, *overrides))
    for line in evolve.notes(given):
        say(line)
    run_dir = run_dir or evolve.storage_path
    folder = run_dir or default_run_dir(genome, file.genome)
    key = "--fork" if fork else "--run-dir" if run_dir else "run_dir"
    _refuse_folder(fork or folder, key, file.source)
    _refuse_written(fork or folder, file.stages)
    from evomerge.compiler.staged_run import StagedRun

    whole, ending = StagedRun(file, folder, permissions, fork), ""
    for stage in whole.left:
        if stage.name:
            say(f"stage {stage.name}")
        ending = _search(whole, stage, strict=strict)
        if stage is not whole.stages[-1]:
            say(f"stage {stage.name}: {ending}")
            _refuse_without_scores(whole.run_dir(stage))
    folder = whole.run_dir(whole.stages[-1])
    _tell(folder, ending, as_json)
    _refuse_without_scores(folder)


def _search(whole: StagedRun, stage: Stage, *, strict: bool) -> str:
    """Searches one stage to its end, or on from where it was stopped; how it ended."""
    from evomerge.foundations.library_log import kept_log

    view = _view(stage.genome)
    with kept_log(), view:
        from evomerge.compiler.download import with_models_here
        from evomerge.compiler.start import search_for
        from evomerge.nouns.events import Notice

        whole.check()
        if strict:
            for examination in whole.examinations:
                _refuse_warnings(examination.findings)
        with _continuable(whole):
            whole.keep_for(stage, view.show)
        compiled = whole.compiled(stage)
        compiled = with_models_here(compiled, view.show)
        if strict:  # what their tensors show among them
            _refuse_warnings(compiled.findings)
        whole.begin()
        search = search_for(compiled, *whole.folders(stage), view.show, is_strict=strict)

        def stop() -> None:
            search.stop()
            if search.proposer.optimizer.is_waiting:  # no trial is running that could be finished
                raise KeyboardInterrupt
            view.show(Notice(_STOPPING.format(_running(view, search.proposer.optimizer))))

        collect_again()
        with _continuable(whole), stopped_by_interrupt(stop):
            for event in search.run():
                view.show(event)
    if view.progress.is_stopped:
        raise StoppedError(f"{view.progress.ending}. {_how_to_continue(whole.folder.path)}")
    return view.progress.ending


@contextmanager
def _continuable(whole: StagedRun) -> Iterator[None]:
    """Says how to go on where the user leaves now."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        how = _how_to_continue(whole.folder.path)
        raise StoppedError(f"stopped. {how}", interrupt) from interrupt


def _refuse_folder(folder: Path, key: str, source: YamlFile) -> None:
    """What `check` says of a run folder that cannot be, before models and tasks are read."""
    from evomerge.foundations.creating import ANOTHER_FOLDER, obstacle_to_folder
    from evomerge.foundations.errors import GenomeError, Problem

    obstacle = obstacle_to_folder(folder)
    if obstacle:
        problem = Problem(obstacle, key, ANOTHER_FOLDER)
        raise GenomeError.of([problem if key.startswith("--") else source.locate(problem)])


def _refuse_written(folder: Path, stages: Sequence[Stage]) -> None:
    """Another process in the run folder, and what no run writes over, is told before models."""
    from evomerge.foundations.lock import refuse_written
    from evomerge.run.ledger.run_folder import RunFolder
    from evomerge.run.ledger.staged_folder import StagedFolder

    for stage in stages:
        own = StagedFolder(folder).stage(stage.name)
        refuse_written(own)
        RunFolder(own).refuse_special()


def _refuse_warnings(findings: Sequence[Finding]) -> None:
    """All warnings as what they are to a strict run: a reason not to begin."""
    from evomerge.foundations.errors import Problem, RunError
    from evomerge.foundations.findings import Severity, problems

    warnings = problems(findings, Severity.WARNING)
    if warnings:
        fix = "Mend what is told above, or leave --strict out."
        raise RunError.of([*warnings, Problem("--strict, and there are warnings", fix=fix)])


def _running(view: LiveView | LineView, optimizer: Optimizer) -> str:
    """What a first Ctrl-C lets come to its end."""
    is_training = view.progress.is_proposing and optimizer.activity
    return optimizer.activity.partition(":")[0] if is_training else "the running trial"


def _refuse_without_scores(folder: Path) -> None:
    """A search of which no trial could be scored found nothing, whatever the table says."""
    from evomerge.foundations.errors import RunError
    from evomerge.run.chosen import retry
    from evomerge.run.recorded_run import load_run

    searched = [t for t in load_run(folder).leaderboard.trials if not t.candidate.is_baseline]
    failures = [t.outcome.failure for t in searched if t.outcome.evaluation is None]
    if searched and len(failures) == len(searched):
        raise RunError(
            f"none of {len(searched)} merges could be scored, the last: {failures[-1]}",
            where=str(folder),
            fix=f"`evomerge show {argument(folder)} --failed` lists them; {retry(folder)}.",
        )


def _how_to_continue(folder: Path) -> str:
    again = argument(folder / "genome.yml")
    return f"The same command continues it, and so does `evomerge run {again}`."


def default_run_dir(genome: Path, definition: Genome) -> Path:
    """Where a run goes unless the user says: the genome of a run folder continues that run."""
    from evomerge.run.ledger.staged_folder import result_folder

    if is_file(result_folder(genome.parent) / "ledger.jsonl"):
        return genome.parent
    if definition.run_dir is not None:
        return Path(definition.run_dir)
    return Path("runs") / genome.stem


def _view(definition: Genome) -> LiveView | LineView:
    """What draws the run on standard error."""
    from rich.console import Console

    from evomerge.cli.event_lines import LineView
    from evomerge.cli.live import LiveView
    from evomerge.cli.progress import Progress
    from evomerge.nouns.objective import Objective

    progress = Progress(Objective(definition.objective, definition.split("tasks"), ()).labels)
    console = Console(stderr=True)
    return LiveView(progress, console) if console.is_terminal else LineView(progress)


def _tell(folder: Path, ending: str, as_json: bool) -> None:
    """The result, read back from the folder as any later command would."""
    from evomerge.cli.written import print_json
    from evomerge.report.summary import failures_of, summary
    from evomerge.run.chosen import retry
    from evomerge.run.recorded_run import load_run

    recorded = load_run(folder)
    if as_json:
        print_json(summary(recorded))
        return
    say(ending)
    failed = failures_of(recorded)
    if failed:
        say(f"{failed}: `evomerge show {argument(folder)} --failed` says why; {retry(folder)}")
    draw_result(recorded)


def draw_result(recorded: RecordedRun) -> None:
    """Prints the final tables, where the winner is, and what to do next."""
    from rich.console import Console

    from evomerge.cli.drawn import draw_final

    draw_final(Console(highlight=False), recorded)
    folder = recorded.ledger.folder
    best = folder.front if recorded.leaderboard.is_multi else folder.best
    say(f"\nwinner  {one_name(best)}\nreport  {one_name(folder.report)}", err=False)
    n_files = max((len(one.candidate.recipe.files("")) for one in recorded.winners), default=1)
    name = "recipe.yml" if n_files == 1 else "recipe"
    say(f"next    evomerge export {argument(folder.path)} -o {name}", err=False)
