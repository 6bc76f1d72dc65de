"""``evomerge check``: everything that files can show, without a merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evomerge.cli.arguments import genome_argument, json_option, permission_options, set_option
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.garbage import collect_again
from evomerge.foundations.permissions import Permissions

if TYPE_CHECKING:
    from evomerge.checks.probe import Probe
    from evomerge.checks.search_plan import Plan
    from evomerge.compiler.compiled import Compiled, Examination
    from evomerge.foundations.findings import Finding


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
        from evomerge.compiler.checked import examine_stages

        examined = examine_stages(genome, overrides, permissions, default_run_dir)
        checked = [_checked(one, is_probed) for one in examined]
    findings = list(dict.fromkeys(f for one in checked for f in one.examination.findings))
    if as_json:
        from evomerge.cli.written import print_json

        print_json(_data(checked, findings))
    else:
        draw_findings(findings)
        for one in checked:
            if one.plan is not None:
                from evomerge.cli.plan_table import draw_plan

                if one.examination.stage:
                    click.echo(f"\nstage {one.examination.stage}")
                draw_plan(one.examination.sound, one.plan, one.measured)
    click.get_current_context().exit(exit_code(findings, strict=strict))


@dataclass(frozen=True)
class _Checked:
    """What came of one search of the file."""

    examination: Examination
    plan: Plan | None = None
    measured: Probe | None = None

    @property
    def data(self) -> dict[str, Any]:
        """All of it for programs."""
        from evomerge.cli.plan_table import check_data

        found = self.examination
        return check_data(found.findings, found.compiled, self.plan, self.measured)


def _data(checked: Sequence[_Checked], findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs: the one search, or all stages under what was found of them."""
    if not checked[0].examination.stage:
        return checked[0].data
    from evomerge.cli.plan_table import check_data

    stages = [{"stage": one.examination.stage, **one.data} for one in checked]
    return {"findings": check_data(findings, None, None, None)["findings"], "stages": stages}


def _checked(examination: Examination, is_probed: bool) -> _Checked:
    """With the plan of a search that can begin."""
    compiled = examination.compiled
    if compiled is None:
        return _Checked(examination)
    is_there = not any(model.is_foreseen for model in compiled.context.models)
    try:
        return _Checked(examination, *_planned(compiled, is_probed and is_there))
    except GenomeError as mistakes:
        return _Checked(_with_errors(examination, compiled, mistakes))


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
    told = (error(p.what, p.where, p.fix) for p in found)
    return Examination((*told, *examination.findings), stage=examination.stage)
