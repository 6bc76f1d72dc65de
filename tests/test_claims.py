"""What one process claims no other one has, until it gives it back or dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from evomerge.foundations import claims as claims_module
from evomerge.foundations.claims import Claims
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import LostFileError, TrialTimeoutError

HOLD = """
import sys
from pathlib import Path
from evomerge.foundations.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(sorted(claims.take(["a", "b"])), flush=True)
sys.stdin.readline()
claims.give_back(["a"])
print("gave a back", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which has claimed a and b."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "claims")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "['a', 'b']\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_has_what_it_claimed_until_it_gives_it_back_or_is_killed(other, tmp_path):
    claims = Claims(tmp_path / "claims")
    assert claims.take(["a", "b", "c"]) == {"c"}
    assert claims.take(["c"]) == {"c"}  # its own
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "gave a back\n"
    assert claims.take(["a", "b"]) == {"a"}
    other.kill()
    other.wait()
    with claims.held("b", Deadline()):
        assert Claims(tmp_path / "claims").take(["b"]) == {"b"}  # within a process nobody waits
    claims.close()


def test_who_waits_looks_at_the_deadline(other, tmp_path):
    claims = Claims(tmp_path / "claims")
    with pytest.raises(TrialTimeoutError), claims.held("a", Deadline(0.0)):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LostFileError, match="cannot be written"):
        Claims(tmp_path / "file" / "claims").take(["a"])


@pytest.mark.parametrize(
    ("code", "is_busy"),
    [(errno.EACCES, True), (errno.EAGAIN, True), (errno.EPERM, False), (errno.ENOLCK, False)],
)
def test_only_a_lock_of_somebody_else_keeps_one_waiting(tmp_path, monkeypatch, code, is_busy):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(claims_module.fcntl, "lockf", refuse)
    assert Claims(tmp_path / "claims").take(["a"]) == (set() if is_busy else {"a"})
