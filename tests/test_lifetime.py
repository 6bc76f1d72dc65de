"""What a process leaves when it ends: no folder and no child, whatever ended it."""

from __future__ import annotations

import itertools
import json
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

from evomerge.foundations.scratch import scratch, scratch_root, share_root, sweep
from tests.thinned import thinned

ROOT = Path(__file__).parents[1]
PATIENCE = 30.0  # seconds, on a busy machine

OWNER = """
import multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from evomerge.foundations.lifetime import guardian, own_children, own_process
from evomerge.foundations.scratch import scratch, scratch_root
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


@pytest.mark.parametrize(
    ("death", "child"), thinned(itertools.product(sorted(DEATHS), sorted(CHILDREN)))
)
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


@pytest.mark.skipif(sys.platform != "linux", reason="no death signal")
def test_a_fork_of_a_thread_outlives_the_thread(owner):
    _, _, pids = owner("""
        import threading, warnings
        warnings.simplefilter("ignore")  # of forks of many threads
        asked, answered = os.pipe(), os.pipe()

        def fork():
            if os.fork() == 0:
                os.write(answered[1], os.read(asked[0], 1))
                os._exit(0)

        with own_process():
            thread = threading.Thread(target=fork)
            thread.start()
            thread.join()
            while len(os.listdir("/proc/self/task")) > 1:
                pass
            os.close(answered[1])
            os.write(asked[1], b"x")
            tell(len(os.read(answered[0], 1)))
            signal.pause()
        """)
    assert pids == [1]


WORKER = """
from evomerge.executors.base import Job
from evomerge.executors.slot import Slot
from tests.fake_executor import {factory}

slot = Slot({factory})
{after}
tell(slot.process.pid, guardian_pid())
signal.pause()
"""


@pytest.mark.slow
def test_a_worker_goes_by_the_guardian_alone(owner):
    """As where the system knows no death signal: the worker asked for none."""
    after = "slot.give(Job(None), 1, None); slot.hear(None); slot.hear(None); slot.hear(None)"
    process, root, pids = owner(WORKER.format(factory="forgets_its_parent", after=after))
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: all(map(is_gone, pids)))
    assert comes(lambda: not root.exists())


def test_a_folder_that_a_child_made_elsewhere_goes_with_the_owner(owner, tmp_path):
    """The child has a guardian of its own, which the owner's must leave alone."""
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import signal, sys; from pathlib import Path\n"
        "from evomerge.foundations.scratch import scratch\n"
        "with scratch(above=Path(sys.argv[1])): print(flush=True); signal.pause()"
    )
    process, _, pids = owner(f"""
        with own_children(), scratch():
            command = [sys.executable, "-c", {code!r}, {str(tmp_path / "elsewhere")!r}]
            child = subprocess.Popen(command, stdout=subprocess.PIPE)
            child.stdout.readline()
            tell(child.pid)
            signal.pause()
        """)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    process.kill()
    process.wait(PATIENCE)
    assert comes(lambda: all(map(is_gone, pids)))
    assert comes(lambda: list((tmp_path / "elsewhere").iterdir()) == [])


def test_a_folder_below_the_root_needs_no_guardian_of_its_own(owner):
    _, _, pids = owner("""
        from evomerge.foundations.scratch import share_root
        root = scratch_root()
        pid = os.fork()
        if pid == 0:
            share_root(root)
            with scratch(above=root):
                tell(int(guardian()._process is None))
            os._exit(0)
        signal.pause()
        """)
    assert pids == [1]


GONE = """
import os, sys
from evomerge.foundations import guardian
guardian.SECONDS_TO_LEAVE = 0.0
answers = iter([int(sys.argv[1])] * 3)
os.getppid = lambda: next(answers, 1)
guardian.main(int(sys.argv[1]), "no such token")
"""


def test_a_guardian_whose_owner_goes_as_it_is_to_be_killed_tidies_up(tmp_path):
    owner = subprocess.Popen(["true"])
    owner.wait()
    (tmp_path / "folder").mkdir()
    command = [sys.executable, "-c", GONE, str(owner.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        told = f"{json.dumps(str(tmp_path / 'folder'))}\n".encode() + bytes([signal.SIGTERM])
        os.write(process.stdin.fileno(), told)
        assert process.wait(PATIENCE) == 0
    assert not (tmp_path / "folder").exists()


@pytest.mark.slow
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
