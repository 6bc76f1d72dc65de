"""Runs that another model judges, played by a script on loopback: whole, killed and continued."""

from __future__ import annotations

import json
import threading
from collections import Counter

import pytest
import yaml

from tests.end_to_end.conftest import ROOT, command_in
from tests.end_to_end.dying import Command
from tests.judge.judge_files import judge_task, letters, write_judge_files
from tests.scripted_llm import Script, served

pytestmark = pytest.mark.slow


class Counted:
    """Judges by letters, counts what it answered, and falls silent after a number of answers.

    Attributes:
        answered: Text -> how often it was answered.
        most: Answers until it falls silent; None: never.
    """

    def __init__(self, most=None):
        self.answered = Counter()
        self.most = most
        self.is_over = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, text):
        with self._lock:
            is_silent = self.most is not None and self.answered.total() >= self.most
            if not is_silent:
                self.answered[text] += 1
        if is_silent:
            self.is_over.wait()
        return letters(text)


def test_lm_eval_perplexity_and_a_judge_steer_one_search(workplace):
    genome = yaml.safe_load((ROOT / "genomes" / "judged.yml").read_text())
    models = workplace / "models"
    genome["genome"]["models"] = [str(models / "model_1"), str(models / "model_2")]
    genome["genome"] |= {"base_model": str(models / "base"), "layer_granularity": 1}
    judge = Counted()
    with served(Script(judge)) as url:
        genome["tasks"][3]["judge"] |= {"base_url": url, "prompt_price": 1, "completion_price": 2}
        genome["optimizer"]["budget"] = 3
        genome |= {"limit": 3, "validation_limit": 3, "holdout_limit": 3}
        file, run = workplace / "judged.yml", str(workplace / "out")
        file.write_text(yaml.safe_dump(genome))
        evomerge = command_in(ROOT)
        checked = evomerge("check", str(file))
        assert "judges all questions once by" in checked.stdout + checked.stderr
        evomerge("run", str(file), "--run-dir", run)
        shown = evomerge("show", run).stdout
        told = json.loads(evomerge("show", run, "--json").stdout)
        in_full = evomerge("show", run, "--answers", "0").stdout
        verified = evomerge("verify", run)
    assert "judges: what their judgments took" in shown
    assert "[judgment: " in in_full
    assert "all 21 documents of 3 splits answer as recorded" in verified.stdout
    assert set(judge.answered.values()) == {1}
    asked = told["judgments"]["asked"]
    assert asked["n_judgments"] == len(judge.answered)
    assert asked["cost"] == pytest.approx(len(judge.answered) * 340 / 1e6)
    assert [one["trial"] for one in told["judgments"]["trials"]] == [*range(len(told["trials"]))]
    assert "Rating: [[" in (workplace / "out" / "report.html").read_text()


def test_a_run_killed_while_it_is_judged_pays_for_no_judgment_twice(workplace):
    write_judge_files(workplace)
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    del genome["validation"], genome["holdout"]
    genome["optimizer"]["budget"] = 3
    judge = Counted(most=7)

    def run(url, folder):
        genome["tasks"] = ["tiny_search", judge_task(workplace, url, parallel=2)]
        (workplace / "judged.yml").write_text(yaml.safe_dump(genome))
        return Command(workplace, ("run", "judged.yml", "--run-dir", folder))

    def has_seven():
        files = (workplace / "out" / "judgments").glob("*.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files) == 7

    with served(Script(judge)) as url:
        command = run(url, "out")
        assert command.ended("kill -9", has_seven) != 0
        assert command.left() == []
        judge.most = None
        judge.is_over.set()
        command.run()
        told = Counter(judge.answered)
        # Scores do not hold under another batch, judgments of the same answers do; another
        # processor may have some answer end otherwise, which is judged anew.
        changed = ("--fork", "forked", "--set", "evaluation.batch_size=3")
        Command(workplace, ("run", "out/genome.yml", *changed)).run()
        assert set(told.values()) == {1}
        assert {text: judge.answered[text] for text in told} == told
        run(url, "whole").run()
    assert {judge.answered[text] for text in told} == {2}  # once in each of both runs
    best = [(workplace / name / "best.yml").read_text() for name in ("out", "whole")]
    assert best[0] == best[1]
