"""Disks that take no more while trials run: real ones, of a few megabytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.end_to_end.conftest import ROOT
from tests.end_to_end.dying import with_hooks
from tests.faulty_runs import trials_in

pytestmark = pytest.mark.slow  # a run of three or four seconds, given twice
N_TRIALS = 10  # baselines and the budget of the workplace's genome
IN_A_NAMESPACE = ("unshare", "--map-root-user", "--mount")


@pytest.fixture(scope="module", autouse=True)
def _namespaces(tmp_path_factory):
    """Mounts that nobody else sees, as Linux gives them to anybody in most places."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare of util-linux is not installed")
    folder = tmp_path_factory.mktemp("probe")
    probe = (*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", folder)
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("disk", ["tmp", "out"])
def test_a_full_disk_is_told_and_the_same_command_goes_on(workplace, tmp_path, disk, workers):
    """That of the temporary folder, or that of the run folder."""
    place, kept = with_hooks(workplace), tmp_path / "kept"
    (place / "tasks" / "hang").write_text("search 1")  # a model is merged, its trial not recorded
    arguments = ("run", "genome.yml", "--run-dir", "out")
    own = ("--set", f"execution.workers={workers}")
    module = (sys.executable, "-m", "tests.end_to_end.crowded_disk")
    done = subprocess.run(
        [*IN_A_NAMESPACE, *module, str(place), disk, str(kept), *arguments, *own],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["first"] == 1, found["said"]
    last = found["said"].strip().splitlines()[-1]
    where = re.escape(str(place / disk))
    told = {
        "tmp": rf"temporary folder: there is no room in {where} \(.*No space left on device.*\)\. "
        r"Make room there, or name another folder by TMPDIR; the same command then continues\.",
        "out": r"out/\S+: cannot be written \(No space left on device\)\. Make room or mend "
        r"the folder, then give the same command again\.",
    }
    assert re.fullmatch(told[disk], last), found["said"]
    assert "Traceback" not in found["said"]
    assert found["left"] == []
    assert found["again"] == 0
    run = kept / "after" if disk == "out" else place / "out"
    trials = trials_in(run)
    assert sorted(line["id"] for line in trials) == list(range(N_TRIALS))
    assert {line["state"] for line in trials} == {"complete"}
    if disk == "out":  # what was recorded stays as it was
        before = trials_in(kept / "between")
        assert trials[: len(before)] == before
