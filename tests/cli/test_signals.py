"""SIGTERM, SIGHUP, a closed terminal and the end of input, as the command line takes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from evomerge.cli import main as command_line
from evomerge.cli.interrupt import StoppedError, Terminated, exit_code_of

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0

# A command that says where it is, then waits; it must unwind.
WAITING = """
import os, signal, sys
import click
from evomerge.cli.main import entry_point, main
from evomerge.cli import interrupt as interrupts
from evomerge.cli.interrupt import StoppedError, stopped_by_interrupt

@main.command()
@click.argument("how")
def wait(how):
    try:
        if how == "as a run":
            with stopped_by_interrupt(lambda: print("once", flush=True)):
                print("here", flush=True)
                while True:
                    signal.pause()
        if how == "swallows":
            interrupts.SECONDS_TO_UNWIND = 0.0
            while True:
                try:
                    print("here", flush=True)
                    signal.pause()
                except BaseException:
                    print("swallowed", flush=True)
        print("here", flush=True)
        if how == "writes":
            while True:
                click.echo("a line", err=True)
        signal.pause()
    except KeyboardInterrupt as interrupt:
        raise StoppedError("stopped; this is how to go on", interrupt) from interrupt
    finally:
        open("unwound", "w").close()

entry_point()
"""


def start(tmp_path, how, ignored=(), **streams):
    def set_signals():
        for name in ("SIGHUP", "SIGTERM"):
            handler = signal.SIG_IGN if name in ignored else signal.SIG_DFL
            signal.signal(getattr(signal, name), handler)

    return subprocess.Popen(
        [sys.executable, "-c", WAITING, "wait", how],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        start_new_session=True,
        preexec_fn=set_signals,
        **streams,
    )


@pytest.mark.parametrize(
    ("numbers", "how", "exit_code"),
    [
        ([signal.SIGTERM], "anywhere", 143),
        ([signal.SIGHUP], "anywhere", 129),
        ([signal.SIGTERM], "as a run", 143),
        ([signal.SIGINT, signal.SIGTERM], "as a run", 143),
        ([signal.SIGINT, signal.SIGINT], "as a run", 130),
        ([signal.SIGTERM, signal.SIGTERM], "anywhere", 143),
    ],
)
def test_a_signal_unwinds_the_command_with_one_sentence_and_its_own_exit_code(
    tmp_path, numbers, how, exit_code
):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(tmp_path, how, **pipes) as process:
        assert process.stdout.readline() == "here\n"
        for number in numbers:
            process.send_signal(number)
            if number == signal.SIGINT and process.stdout.readline() == "":
                break
        _, said = process.communicate(timeout=PATIENCE)
    # At its very end Python gives signals back to the system, which ends the process by the
    # second; shells have the same number for either.
    assert process.returncode in (exit_code, 128 - exit_code)
    assert said.strip() == "stopped; this is how to go on"
    assert (tmp_path / "unwound").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_where_the_first_signal_is_swallowed_a_later_one_ends_the_process(tmp_path, number):
    with start(tmp_path, "swallows", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "swallowed\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number


def test_who_started_it_under_nohup_meant_it(tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(tmp_path, "anywhere", ignored=["SIGHUP"], **pipes) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 143


@pytest.mark.parametrize("ignored", [[], ["SIGHUP"]], ids=["heard", "not heard"])
def test_writing_to_a_terminal_that_is_gone_ends_the_command_as_its_closing_does(tmp_path, ignored):
    master, terminal = os.openpty()
    process = start(
        tmp_path, "writes", ignored, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    with process:
        assert process.stdout.readline() == "here\n"
        os.close(master)
        assert process.wait(PATIENCE) == 129
    assert (tmp_path / "unwound").exists()


def test_an_exit_code_is_128_and_the_signal():
    assert exit_code_of(None) == 130
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert exit_code_of(Terminated(signal.SIGTERM)) == 143
    assert StoppedError("x", Terminated(signal.SIGHUP)).exit_code == 129


def raising(monkeypatch, error):
    """The command line with a command that raises."""

    def command():
        raise error

    name = "raises"
    commands = {**command_line.main.commands, name: click.command(name)(command)}
    monkeypatch.setattr(command_line.main, "commands", commands)
    command_line.entry_point([name])


def test_an_end_of_file_inside_is_an_error_of_its_own_and_no_stop(monkeypatch):
    with pytest.raises(EOFError, match="No data left in file"):
        raising(monkeypatch, EOFError("No data left in file"))


def test_the_end_of_input_at_a_question_is_a_stop(monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        raising(monkeypatch, click.Abort())
    assert caught.value.code == 130
    assert "Stopped." in capsys.readouterr().err
