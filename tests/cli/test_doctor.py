"""``evomerge doctor``: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from evomerge.checks.doctor.examination import Diagnosis
from evomerge.checks.doctor.hardware import Disk, Hub
from evomerge.checks.doctor.packages import Package
from evomerge.cli.doctor import _draw
from evomerge.foundations.findings import error, note

EXAMINATION = Diagnosis(
    version="0.1.0",
    packages=(
        Package("python", "3.11.7", ">=3.10"),
        Package("torch", "2.13.0", ">=2.4"),
        Package("transformers", "4.57.1", ">=5.0,<6"),
        Package("optuna", None, ">=5.0,<6"),
    ),
    extras=(
        Package("peft", "0.21.2", is_needed=False),
        Package("bitsandbytes", None, is_needed=False),
    ),
    devices={
        "threads": 16,
        "cpu_capability": "AVX2",
        "mps": False,
        "cuda": [
            {
                "name": "NVIDIA H200",
                "capability": "9.0",
                "free": 100_000_000_000,
                "total": 150_000_000_000,
            }
        ],
    },
    cores=(16, 32),
    memory=(100_000_000_000, 128_000_000_000),
    holders=(),
    disks=(Disk("runs", "runs", 64_000_000_000, True),),
    hub=Hub(True, ("HF_HUB_OFFLINE",), "cache"),
    findings=(
        error("4.57.1 is installed, evomerge is tested with >=5.0,<6", "transformers", "Mend it."),
        note("a sentence so long that it does not fit into one line of eighty columns", "m 1"),
    ),
)


def test_tables_line_up_at_80_columns(capsys, monkeypatch, is_golden):
    monkeypatch.setenv("COLUMNS", "80")
    _draw(EXAMINATION)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    is_golden("cli/doctor.txt", out)


def test_the_data_for_programs_is_json():
    data = json.loads(json.dumps(EXAMINATION.data()))
    assert [package["state"] for package in data["packages"]] == ["ok", "ok", "outside", "missing"]
    assert data["extras"][0]["enables"] == "LoRA adapters as sources of a merge"
    assert data["findings"][0] == {
        "severity": "error",
        "what": "4.57.1 is installed, evomerge is tested with >=5.0,<6",
        "where": "transformers",
        "fix": "Mend it.",
    }
    assert EXAMINATION.has_errors


@pytest.mark.slow  # imports everything for real
def test_this_machine_is_fine():
    command = [sys.executable, "-m", "evomerge", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    data = json.loads(done.stdout)
    assert {package["state"] for package in data["packages"]} == {"ok"}
    assert data["devices"]["threads"] >= 1


@pytest.mark.slow  # imports everything for real
def test_a_version_that_nobody_tested_ends_with_exit_code_1(tmp_path):
    folder = tmp_path / "cmaes-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: cmaes\nVersion: 0.1\n")
    command = [sys.executable, "-m", "evomerge", "doctor"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "error: cmaes: 0.1 is installed, evomerge is tested with >=0.12." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
