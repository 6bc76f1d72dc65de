"""Ctrl-C while a language model is asked: there is no trial to finish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from tests.end_to_end.conftest import GENOME, ROOT
from tests.scripted_llm import Script, served

CMA = "{name: cma_es, budget: 6, population_size: 4}"


@pytest.mark.slow
def test_ctrl_c_during_a_request_ends_the_run_at_once(workplace):
    running: list[subprocess.Popen[str]] = []
    script = Script()

    def interrupting(prompt):
        running[0].send_signal(signal.SIGINT)
        script.is_over.wait()  # no answer, ever
        return "{}"

    script.answers = [interrupting]
    command = [sys.executable, "-m", "evomerge", "run", "genome.yml", "--run-dir", "out"]
    with served(script) as url:
        optimizer = (
            f"{{name: llm, base_url: '{url}', budget: 12, population_size: 4, probe: false}}"
        )
        (workplace / "genome.yml").write_text(GENOME.replace(CMA, optimizer))
        with subprocess.Popen(
            command,
            cwd=workplace,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        ) as process:
            running.append(process)
            said = process.stderr.read()
    assert process.returncode == 130
    assert "The same command continues it" in said
    assert "Ctrl-C again" not in said
    assert len(script.asked) == 1
    assert len(Ledger.open(RunFolder(workplace / "out"), read_only=True).trials) == 4 + 4
    assert not list((workplace / "out" / "optimizer").glob("generation-*"))
