"""A job script for Slurm: the same run on its nodes, as often as needed; several nodes have Ray."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.executors.own_settings import executor_settings
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.genome.execution_block import Execution

_OPENING = """\
#!/usr/bin/env bash
@directives@
# Written by `evomerge slurm`; started again, by whomever, it continues the run from its ledger.
set -euo pipefail

# A signal wakes the shell, also before the run is there. Before its time is over the job is queued
# again; a cancelled one ends.
woken= cancelled= running=
requeue() {
  woken=1
  scontrol requeue "$SLURM_JOB_ID" || echo "not queued again: sbatch this script to continue" >&2
}
trap requeue USR1
trap 'woken=1 cancelled=1; [ -z "$running" ] || kill "$running" 2> /dev/null || true' TERM

cd @folder@
export PATH=@programs@:"$PATH"  # of the environment it was written in
@setup@
"""

_ENDING = """
[ -z "$cancelled" ] || kill "$running" 2> /dev/null || true  # before it was known
code=0
wait "$running" || code=$?
while [ -n "$woken" ]; do
  woken= code=0
  wait "$running" || code=$?
done
"""

_ONE_NODE = """\
@command@ &
running=$!
"""

# RAY_TMPDIR holds sockets, whose paths the system limits. A job of 20000 + its number mod 10000 is
# alone on its nodes, and other services may have that port all the same.
_RAY = """\
cpus=@cpus@
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
export SLURM_JOB_NUM_NODES="${SLURM_JOB_NUM_NODES:-@nodes@}"

export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
export RAY_gcs_rpc_server_reconnect_timeout_s=15  # of nodes that wait for a head that is gone
export RAY_TMPDIR="${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID"
[ "${#RAY_TMPDIR}" -le 40 ] || RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"  # paths of sockets are short
mkdir -p "$RAY_TMPDIR"
trap 'rm -rf "$RAY_TMPDIR"' EXIT
# Nobody else on the network may use this cluster; nothing of the token is written.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')"
export RAY_AUTH_TOKEN

head="${hosts%%$'\\n'*}"  # where this script runs
port=$((20000 + SLURM_JOB_ID % 10000))
while (: < "/dev/tcp/$head/$port") 2> /dev/null; do port=$((port + 1)); done
export RAY_ADDRESS="$head:$port"

read -r -d '' on_each_node << 'NODE' || true
mkdir -p "$RAY_TMPDIR"  # there is one on each node
[ "$SLURM_NODEID" != 0 ] || rm -f "$RAY_TMPDIR.code"
trap 'rm -rf "$RAY_TMPDIR"; [ "$SLURM_NODEID" != 0 ] || rm -f "$ended"' EXIT
cpus="$1" ended="$RAY_TMPDIR.code"
shift
begin=(--num-cpus="$cpus" --num-gpus=@gpus@ --disable-usage-stats)
# Ray may exit with 0 where it did not start, and with 1 after a run that did well.
run=(bash -c 'code=0; "$@" || code=$?; echo "$code" > "$0"; exit "$code"' "$ended" "$@")
answers() { (: < "/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS##*:}") 2> /dev/null; }
code=0
if ray symmetric-run --help > /dev/null 2>&1; then  # from Ray 2.49 on
  ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" "${begin[@]}" \\
    -- "${run[@]}" || code=$?
elif [ "$SLURM_NODEID" = 0 ]; then
  address="$(getent ahostsv4 "${RAY_ADDRESS%:*}")"
  ray start --head --block --node-ip-address="${address%% *}" --port="${RAY_ADDRESS##*:}" \\
    "${begin[@]}" &
  ray=$!
  until answers || ! kill -0 "$ray" 2> /dev/null; do sleep 1; done
  ! kill -0 "$ray" 2> /dev/null || "${run[@]}" || code=$?
  kill "$ray" 2> /dev/null || true
  wait "$ray" || true
else
  until answers; do sleep 1; done
  ray start --block --address="$RAY_ADDRESS" "${begin[@]}" &
  ray=$!
  while answers && kill -0 "$ray" 2> /dev/null; do sleep 5; done  # else the run is over
  kill "$ray" 2> /dev/null || true
  wait "$ray" || true
fi
if [ "$SLURM_NODEID" = 0 ] && [ -s "$ended" ]; then
  code="$(cat "$ended")"
elif [ "$SLURM_NODEID" = 0 ]; then
  echo "the run has not ended by itself, if Ray ever started at $RAY_ADDRESS" >&2
  [ "$code" -ne 0 ] || code=1
fi
exit "$code"
NODE

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \\
  --cpus-per-task="$cpus" \\
  bash -c "$on_each_node" evomerge "$cpus" \\
  @command@ &
running=$!
"""


@dataclass(frozen=True)
class SlurmJob:
    """What a job asks Slurm for.

    Attributes:
        nodes: How many.
        gpus_per_node: Of each, a worker for each; 0: one worker per node.
        cpus_per_node: Cores of each node, shared by its workers; None: all that they have,
            for this job alone.
        options: Further options of ``sbatch``, as they are: ``--time=4:00:00``.
        setup: Lines of shell before the run is started.
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

    def needs_ray(self, given: Execution) -> bool:
        """Whether the run has its workers on a cluster that the job starts.

        Args:
            given: Of the genome.
        """
        return self.nodes > 1 or given.executor == "ray"

    def execution(self, given: Execution) -> str | None:
        """`execution:` for these nodes, as ``--set`` takes it; None: the genome's own fits.

        ``$cpus`` in it is the shell's: the cores of a node.

        Args:
            given: Of the genome.
        """
        each: dict[str, object] = {}
        if given.executor == "ray" or not (self.gpus_per_node or self.nodes > 1):
            return None
        if self.nodes > 1:
            cpus = f"$((cpus > {self.workers_per_node} ? cpus / {self.workers_per_node} : 1))"
            each = {"executor": "ray", "workers": self.nodes * self.workers_per_node}
            each |= {"num_cpus": cpus, "num_gpus": int(self.gpus_per_node > 0), "wait": 60}
        else:
            each = {"workers": self.gpus_per_node, "devices": "auto"}
        if given.trial_timeout is not None:
            each["trial_timeout"] = f"{given.trial_timeout:g}"
        return f"execution={{{', '.join(f'{key}: {value}' for key, value in each.items())}}}"


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

    Raises:
        GenomeError: the genome names a cluster that is not the job's own.
    """
    _refuse_other_cluster(execution)
    own = job.execution(execution)
    command = shlex.join([sys.executable, "-m", "evomerge", "run", str(genome)])
    command += f' --set "{own}"' if own else ""
    command += f" {shlex.join(arguments)}" if arguments else ""
    values = {
        "directives": "\n".join(f"#SBATCH {line}" for line in _directives(job, genome, execution)),
        "folder": shlex.quote(str(folder)),
        "programs": shlex.quote(str(Path(sys.executable).parent)),
        "setup": "\n".join(job.setup),
        "nodes": str(job.nodes),
        "cpus": str(job.cpus_per_node or '"${SLURM_CPUS_ON_NODE:-1}"'),
        "gpus": str(job.gpus_per_node),
        "command": command,
    }
    body = _RAY if job.needs_ray(execution) else _ONE_NODE
    return _filled(_OPENING + body + _ENDING, values) + 'exit "$code"\n'


def _filled(text: str, values: Mapping[str, str]) -> str:
    """With values in their places; what stands in a value is left alone."""
    return re.sub(r"@(\w+)@", lambda place: values.get(place[1], place[0]), text)


def _refuse_other_cluster(execution: Execution) -> None:
    settings = executor_settings(execution)
    if isinstance(settings, RaySettings) and settings.address != "auto":
        problem = Problem(
            f"got {settings.address!r}, and the job starts a cluster of its own",
            "execution.address",
            "Leave it out.",
        )
        raise GenomeError.of([problem])


def _directives(job: SlurmJob, genome: Path, execution: Execution) -> Iterator[str]:
    yield f"--job-name=evomerge-{re.sub(r'[^A-Za-z0-9_.-]', '_', genome.stem)}"
    yield f"--nodes={job.nodes}"
    yield "--ntasks-per-node=1"
    # Who says nothing is given one core; `ray symmetric-run` wants no other Ray beside its own.
    if job.cpus_per_node is None or job.needs_ray(execution):
        yield "--exclusive"
    if job.gpus_per_node:
        yield f"--gpus-per-node={job.gpus_per_node}"
    if job.cpus_per_node:
        yield f"--cpus-per-task={job.cpus_per_node}"
    yield from ("--requeue", "--open-mode=append", "--output=%x-%j.log", "--signal=B:USR1@120")
    yield from job.options
