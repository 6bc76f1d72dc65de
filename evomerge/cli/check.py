"""``evomerge check``: everything that files can show, without a merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import genome_argument, json_option, permission_options, set_option
from evomerge.cli.garbage import collect_again
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions

if TYPE_CHECKING:
    from evomerge.checks.probe import Probe
    from evomerge.checks.search_plan import Plan
    from evomerge.compiler.compiled import Compiled, Examination


@click.command(
    short_help="Check a genome, its models and its tasks.",
    epilog="Example: evomerge check genomes/skills.yml",
)
@genome_argument
@click.option("--strict", is_flag=True, help="Exit with 1 where there are warnings.")
@click.option(
    "--probe",
    "is_probed",
    is_flag=True,
    help="Merge a few times, score a few documents, and guess how long the run takes.",
)
@set_option
@permission_options
@json_option
def check(
    genome: Path,
    strict: bool,
    is_probed: bool,
    overrides: tuple[str, ...],
    permissions: Permissions,
    as_json: bool,
) -> None:
    """Tells what is wrong with a genome, its models and its tasks, and what a run would take.

    No weights are loaded unless --probe asks for it. Models on the Hub are not downloaded.

    Exit code 0: a run can begin. 1: --strict, and there are warnings. 2: there are errors.
    """
    from evomerge.cli.problems import draw_findings, exit_code
    from evomerge.foundations.library_log import kept_log

    with kept_log():
        from evomerge.cli.run import default_run_dir
        from evomerge.compiler.checked import examine_file

        examination = examine_file(genome, overrides, permissions, default_run_dir)
        compiled = examination.compiled
        plan = measured = None
        if compiled is not None:
            try:
                plan, measured = _planned(compiled, is_probed)
            except GenomeError as mistakes:
                examination, compiled = _with_errors(examination, compiled, mistakes), None
    if as_json:
        from evomerge.cli.plan_table import check_data
        from evomerge.cli.written import print_json

        print_json(check_data(examination.findings, compiled, plan, measured))
    else:
        draw_findings(examination.findings)
        if compiled is not None and plan is not None:
            from evomerge.cli.plan_table import draw_plan

            draw_plan(compiled, plan, measured)
    click.get_current_context().exit(exit_code(examination.findings, strict=strict))


def _planned(compiled: Compiled, is_probed: bool) -> tuple[Plan, Probe | None]:
    """What the run will take, and how long if that was asked."""
    from evomerge.checks.search_plan import plan_of

    plan = plan_of(compiled.context)
    if not is_probed or plan.trials is None:
        return plan, None
    from evomerge.checks.probe import probe

    collect_again()
    tasks = compiled.tasks
    measured = probe(compiled.merge_space, tasks.worker_factory, plan.trials, tasks.evaluators)
    return plan_of(compiled.context), measured  # metrics have the names that results gave them


def _with_errors(
    examination: Examination, compiled: Compiled, mistakes: GenomeError
) -> Examination:
    """What the files showed, and what the first document of a task did."""
    from evomerge.compiler.compiled import Examination
    from evomerge.compiler.first_scored import located
    from evomerge.foundations.findings import error

    found = located(mistakes, compiled.source).problems
    return Examination((*(error(p.what, p.where, p.fix) for p in found), *examination.findings))
