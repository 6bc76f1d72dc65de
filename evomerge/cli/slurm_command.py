"""``evomerge slurm``: a job script that runs a genome on the nodes of a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import click

from evomerge.cli.arguments import genome_argument


@click.command(
    short_help="Write a Slurm job that runs a genome on several nodes.",
    epilog="Example: evomerge slurm genomes/skills.yml --nodes 2 --gpus-per-node 8 -o job.sh",
)
@genome_argument
@click.option("--nodes", type=click.IntRange(min=1), required=True, help="Nodes of the job.")
@click.option(
    "--gpus-per-node",
    type=click.IntRange(min=0),
    default=0,
    help="GPUs of each node: a worker for each. Default: none, and one worker per node.",
)
@click.option(
    "--cpus-per-node",
    type=click.IntRange(min=1),
    help="Cores of each node. Default: all that it has, for this job alone.",
)
@click.option(
    "--sbatch",
    "options",
    multiple=True,
    metavar="OPTION",
    help="An option of sbatch, e.g. --sbatch=--time=4:00:00. May be repeated.",
)
@click.option(
    "--setup",
    multiple=True,
    metavar="LINE",
    help="A line of shell before the run, e.g. 'module load cuda'. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The script; one that is there stays.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def slurm(
    genome: Path,
    nodes: int,
    gpus_per_node: int,
    cpus_per_node: int | None,
    options: tuple[str, ...],
    setup: tuple[str, ...],
    output: Path,
    arguments: tuple[str, ...],
) -> None:
    """Writes a job that runs a genome on its nodes; several of them have Ray.

    It may be started again, by hand or by Slurm, and then continues the run. What follows `--` are
    further arguments of `evomerge run`.
    """
    for one in options:
        if not one.startswith("--") or len(one.splitlines()) != 1:
            raise click.UsageError(f"--sbatch {one!r} is no option of sbatch, e.g. --time=4:00:00.")
    from evomerge.cli.run import run
    from evomerge.cli.written import say
    from evomerge.compiler.genome_file import read_genomes
    from evomerge.compiler.slurm_script import SlurmJob, slurm_script
    from evomerge.compiler.task_kinds import unallowed
    from evomerge.foundations.creating import create
    from evomerge.foundations.errors import GenomeError

    execution = read_genomes(genome).genome.execution
    job = SlurmJob(nodes, gpus_per_node, cpus_per_node, options, setup)
    # What no run takes is told here, not hours later by a job that dies.
    own = [re.sub(r"\$\(\(.*?\)\)", "1", job.execution(execution) or "")]  # the shell's sums
    with run.make_context("evomerge run", [str(genome), *arguments]) as of_run:
        file = read_genomes(genome, (*filter(None, own), *of_run.params["overrides"]))
        refused = [p for one in file.stages for p in unallowed(one.genome, one.source)]
        if refused and not of_run.params["allow_code"]:
            raise GenomeError.of(refused)
    create(output, slurm_script(job, genome, execution, arguments, Path.cwd()))
    say(f"sbatch {output}")
