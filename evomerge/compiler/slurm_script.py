"""A job script for Slurm: starts Ray on the nodes, and the same run on them, as often as needed."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.genome.execution_block import Execution

_SCRIPT = """\
#!/usr/bin/env bash
{directives}
# Written by `evomerge slurm`; started again, by whomever, it continues the run from its ledger.
set -euo pipefail
cd {folder}
export PATH={programs}:"$PATH"  # of the environment it was written in
{setup}
export RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="${{TMPDIR:-/tmp}}/ray-$SLURM_JOB_ID"
# Nobody else on the network may use this cluster; nothing of the token is written.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')"
export RAY_AUTH_TOKEN

hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
export RAY_ADDRESS="${{hosts%%$'\\n'*}}:$((20000 + SLURM_JOB_ID % 10000))"

trap 'scontrol requeue "$SLURM_JOB_ID"' USR1  # the time is nearly over
srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 \\
  ray symmetric-run --address "$RAY_ADDRESS" --min-nodes {nodes}{start} -- \\
  {command} &
steps=$!
until wait "$steps"; do
  code=$?
  kill -0 "$steps" 2> /dev/null || exit "$code"  # else a signal woke it
done
"""


@dataclass(frozen=True)
class SlurmJob:
    """What a job asks Slurm for.

    Attributes:
        nodes: How many.
        gpus_per_node: Of each, a worker for each; 0: one worker per node.
        cpus_per_node: Cores of each node, shared by its workers; None: Slurm's default.
        options: Further options of ``sbatch``, as they are: ``--time=4:00:00``.
        setup: Lines of shell before Ray is started.
    """

    nodes: int
    gpus_per_node: int = 0
    cpus_per_node: int | None = None
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()

    @property
    def workers_per_node(self) -> int:
        """One for each GPU, where there are any."""
        return self.gpus_per_node or 1

    def execution(self, given: Execution) -> str | None:
        """`execution:` for these nodes, as ``--set`` takes it; None: the genome names Ray itself.

        Args:
            given: Of the genome.
        """
        if given.executor == "ray":
            return None
        cpus = max((self.cpus_per_node or 1) // self.workers_per_node, 1)
        parts = {"executor": "ray", "workers": self.nodes * self.workers_per_node}
        parts |= {"num_cpus": cpus, "num_gpus": int(self.gpus_per_node > 0), "wait": 60}
        if given.trial_timeout is not None:
            parts["trial_timeout"] = f"{given.trial_timeout:g}"
        return f"execution={{{', '.join(f'{key}: {value}' for key, value in parts.items())}}}"


def slurm_script(
    job: SlurmJob, genome: Path, execution: Execution, arguments: Sequence[str], folder: Path
) -> str:
    """The text of the script.

    Args:
        job: What it asks for.
        genome: The file, as the user names it.
        execution: Of that file.
        arguments: Further arguments of ``evomerge run``.
        folder: Where the run is started; all nodes see it.
    """
    own = job.execution(execution)
    command = ["python", "-m", "evomerge", "run", str(genome)]
    command += [*(("--set", own) if own else ()), *arguments]
    start = [f"--num-gpus={job.gpus_per_node}", "--disable-usage-stats"]
    start += [f"--num-cpus={job.cpus_per_node}"] if job.cpus_per_node else []
    return _SCRIPT.format(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(job, genome)),
        folder=shlex.quote(str(folder)),
        programs=shlex.quote(str(Path(sys.executable).parent)),
        setup="\n".join(job.setup),
        nodes=job.nodes,
        start="".join(f" {one}" for one in start),
        command=shlex.join(command),
    )


def _directives(job: SlurmJob, genome: Path) -> list[str]:
    name = re.sub(r"[^\w.-]", "_", genome.stem)
    lines = [f"--job-name=evomerge-{name}", f"--nodes={job.nodes}", "--ntasks-per-node=1"]
    lines += [f"--gpus-per-node={job.gpus_per_node}"] if job.gpus_per_node else []
    lines += [f"--cpus-per-task={job.cpus_per_node}"] if job.cpus_per_node else []
    lines += ["--requeue", "--open-mode=append", "--output=%x-%j.log", "--signal=B:USR1@120"]
    return [*lines, *job.options]
