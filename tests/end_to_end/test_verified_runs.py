"""Winners built by the real mergekit-yaml, scored by lm-eval's own model, against their run."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge.foundations.canonical import digest
from evomerge.foundations.scratch import SCRATCH
from evomerge.run.best import best_content
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import ROOT, command_in, make_workplace

pytestmark = pytest.mark.slow

TRIAL = 9  # the optimizer's last


@pytest.fixture(scope="module")
def finished(_template, tmp_path_factory):
    """A workplace with a finished run of a randomised method in out/."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("finished") / "workplace")
    change = ("--set", "genome.merge_method=dare_linear")
    command_in(folder)("run", "genome.yml", "--run-dir", "out", *change)
    return folder


@pytest.fixture
def verify(place):
    def run(*arguments, exit_code=0):
        return command_in(place)("verify", *arguments, exit_code=exit_code)

    return run


@pytest.fixture
def trial(place, monkeypatch):
    """best.yml of a trial that the optimizer proposed, whoever won."""
    monkeypatch.chdir(place)
    run = load_run(Path("out"))
    content = best_content(run.ledger, run.leaderboard, run.ledger.trials[TRIAL])
    (place / "out" / "best.yml").write_text(yaml.safe_dump(content))
    return "out/best.yml"


def test_a_recorded_run_answers_as_recorded(verify):
    done = verify("out")
    assert done.stdout.endswith("all 36 documents of 3 splits answer as recorded\n")
    said = [line for line in done.stderr.splitlines() if not line.endswith("%")]
    assert said[1].startswith("mergekit-yaml builds trial ")
    assert [said[0], *said[2:]] == [
        "reads the run, its models and tasks",
        "loads the model that was built",
        "lm-eval scores search tasks",
        "lm-eval scores validation tasks",
        "lm-eval scores holdout tasks",
    ]


def test_a_randomised_merge_answers_as_recorded_and_may_be_kept(verify, place):
    done = verify("out", "--trial", str(TRIAL), "--keep", "kept")
    assert f"trial {TRIAL}: all " in done.stdout
    assert "model kept" in done.stdout
    assert (place / "kept" / "model.safetensors").is_file()


def test_a_changed_document_is_found(verify, trial, place):
    file = place / "out" / "documents" / f"trial-{TRIAL:05d}-tasks.jsonl.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    changed = json.loads(lines[3])
    before = changed["answer"]
    changed["answer"] = (before + 1) % 4
    lines[3] = json.dumps(changed)
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    out = verify(trial, exit_code=1).stdout
    assert ["tiny_search", "3", "answer", str(changed["answer"]), str(before)] in [
        line.split() for line in out.splitlines()
    ]
    assert out.splitlines()[-1].startswith(f"trial {TRIAL}: 1 of ")


def test_a_changed_metric_is_found(verify, trial, place):
    ledger = place / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    for index, line in enumerate(lines):
        event = json.loads(line)
        if event["kind"] == "trial" and event["id"] == TRIAL:
            event["metrics"][0]["value"] = 0.987
            lines[index] = json.dumps(event)
    ledger.write_text("\n".join(lines) + "\n")
    out = verify(trial, exit_code=1).stdout
    assert ["tiny_search", "all", "acc,none", "0.987"] in [
        line.split()[:4] for line in out.splitlines()
    ]
    assert re.search(r": 0 of (12|24) documents differ, and 1 metric$", out.splitlines()[-1])


def test_a_changed_recipe_is_found_by_its_answers(verify, trial, place):
    """Whoever forges a ledger well enough to be read is told by the model."""
    best = yaml.safe_load((place / trial).read_text())
    recipe = best["recipe"] = _with_weight(best["recipe"], 40.0)
    (place / trial).write_text(yaml.safe_dump(best))
    ledger = place / "out" / "ledger.jsonl"
    lines = ledger.read_text().splitlines()
    for index, line in enumerate(lines):
        event = json.loads(line)
        if event["kind"] == "trial" and event["id"] == TRIAL:
            lines[index] = json.dumps({**event, "recipe": recipe, "digest": digest(recipe)})
    ledger.write_text("\n".join(lines) + "\n")
    assert "documents differ" in verify(trial, exit_code=1).stdout


def _with_weight(part, weight):
    """The same recipe with every weight another one."""
    if isinstance(part, list):
        return [_with_weight(item, weight) for item in part]
    if not isinstance(part, dict):
        return part
    return {k: weight if k == "weight" else _with_weight(v, weight) for k, v in part.items()}


def test_a_model_that_cannot_be_read_is_told_without_a_traceback(verify, place):
    weights = place / "models" / "model_1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4000])
    error = verify("out", exit_code=2).stderr
    assert "model.safetensors of models/model_1 is broken" in error
    assert "Traceback" not in error


def test_a_build_that_has_no_place_is_told_without_a_traceback(verify, trial):
    error = verify(trial, "--keep", "genome.yml/below", exit_code=1).stderr
    assert "genome.yml/below: cannot be written (" in error
    assert "Traceback" not in error


def _heed_ctrl_c():
    """Suites started in the background ignore Ctrl-C, and their children with them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_one_sentence_and_nothing_behind(place, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "evomerge", "verify", "out"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("mergekit-yaml builds"):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert rest == "Stopped; nothing more was compared.\n"
    assert list(temporary.glob(f"{SCRATCH}*")) == []
