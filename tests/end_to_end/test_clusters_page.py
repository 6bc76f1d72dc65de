"""docs/clusters.md: every command of the page is run, or stands here with why it cannot be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.compiler.file_mistakes import genome_of
from evomerge.genome.source import parse_yaml
from tests.end_to_end.conftest import GENOME, ROOT
from tests.end_to_end.test_slurm_jobs import ALONE, IS_ALLOWED
from tests.end_to_end.test_workers import lines

PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
CANNOT_RUN = {
    "pip install": "tests have no network",
    "ray start --address=FIRST:6379": "there is one machine",
    "sbatch": "there is no Slurm; tests/end_to_end/test_slurm_jobs.py runs such scripts",
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_genomes_of_the_page_are_read():
    found = [line for block in blocks("yaml") for line in block.splitlines()]
    assert len(found) == 6
    for line in found:
        genome_of(parse_yaml(f"{GENOME}{line}\n", "page.yml"))


@pytest.mark.slow
@pytest.mark.skipif(not IS_ALLOWED, reason="`ray stop` would end other people's Ray")
def test_the_commands_of_the_page_run(workplace):
    pytest.importorskip("ray")
    (workplace / "genomes").mkdir()
    small = GENOME.replace("cma_es, budget: 6, population_size: 4", "random, budget: 4")
    (workplace / "genomes" / "skills.yml").write_text(small)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    skipped = {start for line in commands for start in CANNOT_RUN if line.startswith(start)}
    assert skipped == {*CANNOT_RUN}
    left = [line for line in commands if not line.startswith(tuple(CANNOT_RUN))]
    assert len(left) == 7
    script = workplace / "page.sh"
    script.write_text("\n".join(["set -ex", *left]) + "\n")
    done = subprocess.run(
        [*ALONE, "bash", str(script)],
        cwd=workplace,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *others = [
        sorted(str(trial) for trial in lines(workplace / "runs" / run) if trial["kind"] == "trial")
        for run in ("skills", "cluster", "local")
    ]
    assert first
    assert others == [first, first]
    for script in ("job.sh", "copies.sh"):
        assert subprocess.run(["bash", "-n", workplace / script], check=False).returncode == 0
