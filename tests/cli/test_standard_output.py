"""What results are written to: any encoding, and a place without room."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.cli.main import entry_point
from tests.recorded_runs import record_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    record_run(folder := tmp_path_factory.mktemp("output") / "run")
    return folder


def finished(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-m", "evomerge", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, env=environment, **options)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_sign_that_an_encoding_lacks_ends_nothing(run, encoding):
    done = finished(
        "show",
        str(run),
        stdout=subprocess.PIPE,
        env={"PYTHONIOENCODING": encoding, "COLUMNS": "99"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"sort" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        pytest.param(("show", "--json"), marks=pytest.mark.slow),
        pytest.param(("export",), marks=pytest.mark.slow),
        ("list", "methods"),
    ],
    ids=" ".join,
)
def test_a_full_disk_behind_standard_output_is_one_sentence(run, arguments):
    named = () if arguments[0] == "list" else (str(run),)
    with Path("/dev/full").open("wb") as full:
        done = finished(*arguments, *named, stdout=full)
    assert done.returncode == 1
    told = done.stderr.decode().splitlines()
    assert told[-1].startswith("standard output: cannot be written (no space left).")
    assert "Traceback" not in done.stderr.decode()


def test_another_full_disk_is_not_called_standard_output(monkeypatch, capsys, tmp_path):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evomerge.cli.listing._summaries", full)
    with pytest.raises(SystemExit, match="1"):
        entry_point(["list", "spaces"])
    told = capsys.readouterr().err
    assert told.startswith("evomerge.cli.listing: a disk takes no more ([Errno 28] No space left")
    assert f"B here ({tmp_path})" in told
    assert "TMPDIR" in told
    assert "standard output" not in told
