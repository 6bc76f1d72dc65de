"""What a process leaves when it ends: no folder and no child, whatever ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from evomerge.scratch import scratch, scratch_root, share_root, sweep

ROOT = Path(__file__).parents[1]
PATIENCE = 30.0  # seconds, on a busy machine

OWNER = """
import multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from evomerge.lifetime import guardian, own_children, own_process
from evomerge.scratch import scratch, scratch_root
from tests.test_lifetime import sleeping_child

def tell(*pids):
    print(scratch_root(), *pids, flush=True)

def guardian_pid():
    return guardian()._process.pid

if __name__ == "__main__":
"""


def sleeping_child():
    signal.pause()


@pytest.fixture
def owner(tmp_path):
    """Starts a process of a few lines; gives it, its scratch root, and the ids it tells."""
    started = []

    def start(lines):
        script = tmp_path / "owner.py"
        script.write_text(OWNER + textwrap.indent(textwrap.dedent(lines), "    "))
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        root, *pids = process.stdout.readline().split()
        return process, Path(root), list(map(int, pids))

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def comes(condition):
    """Whether something becomes true in a while."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


CHILDREN = {
    "a command": "subprocess.Popen(['sleep', '1000'])",
    "a command with a session of its own": (
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    ),
    "a child of a child": (
        "subprocess.Popen(['sh', '-c', 'sleep 1000 & sleep 1000'], start_new_session=True)"
    ),
}
DEATHS = {
    "kill -9": lambda process: process.kill(),
    "kill -9 of the group": lambda process: os.killpg(process.pid, signal.SIGKILL),
    "its own end": lambda process: process.send_signal(signal.SIGINT),
}


@pytest.mark.parametrize("death", sorted(DEATHS))
@pytest.mark.parametrize("child", sorted(CHILDREN))
def test_what_an_owner_started_and_made_goes_with_it(owner, child, death):
    process, root, pids = owner(f"""
        with own_children(), scratch() as folder:
            (folder / "file").write_text("some")
            child = {CHILDREN[child]}
            tell(child.pid, guardian_pid())
            signal.pause()
        """)
    DEATHS[death](process)
    process.wait(PATIENCE)
    assert comes(lambda: all(map(is_gone, pids)))
    assert comes(lambda: not root.exists())
    assert [path.name for path in root.parent.iterdir()] == ["owner.py"]


def test_a_fork_goes_with_a_process_that_is_evomerges_alone(owner):
    process, root, pids = owner("""
        with own_process(), scratch():
            pid = os.fork()
            if pid == 0:
                signal.pause()
            tell(pid)
            signal.pause()
        """)
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: all(map(is_gone, pids)))
    assert comes(lambda: not root.exists())


WORKER = """
from evomerge.executors.base import Job
from evomerge.executors.slot import Slot
from tests.fake_executor import {factory}

slot = Slot({factory})
{after}
tell(slot.process.pid, guardian_pid())
signal.pause()
"""


def test_a_worker_goes_by_the_guardian_alone(owner):
    """As where the system knows no death signal: the worker asked for none."""
    after = "slot.give(Job(None), 1, None); slot.hear(None); slot.hear(None); slot.hear(None)"
    process, root, pids = owner(WORKER.format(factory="forgets_its_parent", after=after))
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: all(map(is_gone, pids)))
    assert comes(lambda: not root.exists())


@pytest.mark.skipif(sys.platform != "linux", reason="no death signal")
def test_a_worker_that_hangs_goes_without_the_guardian_and_the_next_start_tidies_up(
    owner, tmp_path, monkeypatch
):
    after = "slot.give(Job(None), 1, None); slot.hear(None); slot.hear(None); slot.hear(None)"
    process, root, (worker, guard) = owner(WORKER.format(factory="hangs_loaded", after=after))
    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: is_gone(worker))
    assert root.is_dir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sweep()
    assert not root.exists()


@pytest.mark.slow
def test_who_does_not_follow_a_sigterm_is_killed(owner):
    process, root, _ = owner("""
        signal.signal(signal.SIGTERM, lambda *_: None)
        with own_process(), scratch():
            tell()
            while True:
                time.sleep(1)
        """)
    process.terminate()
    assert process.wait(2 * PATIENCE) == -signal.SIGKILL
    assert comes(lambda: not root.exists())


# Folders


def test_a_scratch_folder_goes_with_what_is_in_it():
    with scratch() as folder:
        (folder / "below").mkdir()
        assert folder.parent == scratch_root()
    assert not folder.exists()


def test_a_ctrl_c_while_a_scratch_folder_is_made_leaves_none(tmp_path, monkeypatch):
    made = Path.mkdir

    def interrupted(self, *args, **kwargs):
        made(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), scratch():
        pytest.fail("the block began")
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_somebody_removed_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    share_root(tmp_path / "evomerge-shared")
    with scratch() as folder:
        assert folder.parent == tmp_path / "evomerge-shared"


def test_a_sweep_leaves_what_is_in_use_or_is_not_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used = scratch_root()
    (tmp_path / "evomerge-notes").mkdir()
    dead, linked = tmp_path / "evomerge-dead", tmp_path / "elsewhere"
    for folder in (dead, linked):
        folder.mkdir()
        (folder / ".owner").touch()
    (tmp_path / "evomerge-link").symlink_to(linked)
    sweep()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {used.name, "evomerge-notes", "elsewhere", "evomerge-link"}
    assert (linked / ".owner").is_file()


def test_the_guardian_takes_no_module_from_the_folder_of_the_command(owner, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    for name in ("psutil", "evomerge"):
        (here / f"{name}.py").write_text("open('taken', 'w').close()\n")
    monkeypatch.chdir(here)
    process, root, _ = owner("""
        with scratch():
            tell()
            signal.pause()
        """)
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: not root.exists())
    assert not (here / "taken").exists()
