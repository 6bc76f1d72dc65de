"""Runs that own code or the sources judge, to the verified model, and what code may do wrong."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from tests.end_to_end.conftest import WORDS
from tests.evaluators.ended_processes import has_gone

pytestmark = pytest.mark.slow

MINE = '''
import os, sys, time
from pathlib import Path

HERE = Path(__file__).parent
N_BEFORE = 5  # one of the first documents, then the models, base and average


def jugs(model, documents):
    replies = model.generate([one["prompt"] for one in documents], max_tokens=6)
    return [reply.count("u") / 6 for reply in replies]


def capricious(model):
    """Counts its calls over all processes, and does something else at some of them."""
    n = sum(1 for _ in HERE.glob("call-*"))
    (HERE / f"call-{n}-{os.getpid()}").touch()
    if n == N_BEFORE:
        raise OSError("no luck")
    if n == N_BEFORE + 1:
        sys.exit(7)
    if n == N_BEFORE + 2:
        time.sleep(3600)
    if n == N_BEFORE + 3:
        os.abort()
    return model.loglikelihoods([("the quick", " fox"), ("a lazy", " dog")])


def fickle(model):
    """Is another one after some calls, and takes the worker with it."""
    n = sum(1 for _ in HERE.glob("call-*"))
    (HERE / f"call-{n}-{os.getpid()}").touch()
    if n >= N_BEFORE and not (HERE / "changed").exists():  # two may have counted alike
        (HERE / "changed").touch()
        Path(__file__).write_text("fickle = lambda model: 1.0")
        os.kill(os.getppid(), 9)
    return model.loglikelihoods([("the quick", " fox"), ("a lazy", " dog")])
'''

JUDGE = """
import json, os, urllib.request

rows = [json.loads(line) for line in open(os.environ["EVOMERGE_DOCUMENTS"])]
body = json.dumps({"prompt": [row["prompt"] for row in rows], "max_tokens": 4}).encode()
headers = {"Authorization": "Bearer " + os.environ["EVOMERGE_API_KEY"]}
request = urllib.request.Request(os.environ["EVOMERGE_URL"] + "/v1/completions", body, headers)
texts = [one["text"] for one in json.load(urllib.request.urlopen(request))["choices"]]
print(json.dumps([len(text) for text in texts]))
"""


@pytest.fixture
def own(workplace):
    """The workplace with code of the user's, and what writes its genome."""
    (workplace / "mine.py").write_text(MINE)
    (workplace / "judge.py").write_text(JUDGE)
    for name, words in (("rows", WORDS[:6]), ("more", WORDS[6:])):
        rows = "".join(json.dumps({"prompt": f"the {word}"}) + "\n" for word in words)
        (workplace / f"{name}.jsonl").write_text(rows)

    def write(**keys):
        genome = yaml.safe_load((workplace / "genome.yml").read_text())
        del genome["validation"]
        (workplace / "genome.yml").write_text(yaml.safe_dump({**genome, **keys}))

    write.folder = workplace
    return write


def recorded(folder):
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_function_and_a_program_judge_a_run_and_the_built_winner(own, evomerge):
    judge = {"run": [sys.executable, "judge.py"], "documents": "rows.jsonl", "name": "length"}
    own(
        tasks=[
            {"python": {"run": "mine:jugs", "documents": "rows.jsonl", "low": 0, "high": 1}},
            {"command": judge, "weight": 0.01},
        ],
        holdout=[{"python": {"run": "mine:jugs", "documents": "more.jsonl", "name": "more"}}],
    )
    refused = evomerge("run", "genome.yml", "--run-dir", "out", exit_code=2)
    assert refused.stderr.count("Add --allow-code if you trust it") == 3
    assert not (own.folder / "out").exists()
    evomerge("run", "genome.yml", "--run-dir", "out", "--allow-code")
    assert '"prompt":"the quick"' in (own.folder / "out" / "ledger.jsonl").read_text()
    done = evomerge("verify", "out", "--allow-code")
    assert "documents of 2 splits answer as recorded" in done.stdout


def test_what_the_models_say_of_their_own_texts_steers_a_run_by_two_workers(own, evomerge):
    teachers = {"models/model_1": "rows.jsonl", "models/model_2": "more.jsonl"}
    judge = {"teachers": teachers, "field": "prompt"}
    own(tasks=[{"divergence": judge}], execution={"workers": 2})
    evomerge("run", "genome.yml", "--run-dir", "out")
    trials = [one for one in recorded(own.folder / "out") if one.get("state") == "complete"]
    by_name = [
        {one["metric"]: one["value"] for one in trial["metrics"]}
        for trial in trials
        if trial.get("split", "search") == "search"
    ]
    apart = [name for name in by_name[0] if name.startswith("from_")]
    assert sorted(apart) == ["from_models/model_1", "from_models/model_2"]
    assert all(min(one[name] for one in by_name) == pytest.approx(0, abs=1e-5) for name in apart)
    assert list((own.folder / "out" / "teachers").rglob("*.safetensors"))
    done = evomerge("verify", "out")
    assert "answer as recorded" in done.stdout


def test_what_own_code_does_wrong_costs_its_trial_and_the_run_goes_on(own, evomerge):
    own(
        tasks=[{"python": "mine:capricious"}],
        holdout=[{"name": "tiny_holdout", "limit": 12}],
        execution={"trial_timeout": 10},
    )
    evomerge("run", "genome.yml", "--run-dir", "out", "--allow-code")
    outcomes = recorded(own.folder / "out")
    told = " ".join(map(json.dumps, outcomes))
    assert "raised OSError: no luck (mine.py, line" in told
    assert "raised SystemExit: 7" in told
    assert "took longer than 10 seconds" in told
    assert "was ended by SIGABRT" in told
    pids = {int(file.name.rpartition("-")[2]) for file in own.folder.glob("call-*")}
    assert len(pids) >= 5
    assert all(has_gone(pid) for pid in pids)


def test_a_worker_that_is_built_anew_scores_with_no_code_but_that_of_the_run(own, evomerge):
    own(tasks=[{"python": "mine:fickle"}], execution={"workers": 2})
    ended = evomerge("run", "genome.yml", "--run-dir", "out", "--allow-code", exit_code=1)
    assert "task mine:fickle: a file, a program or a model that it names is not" in ended.stderr
    assert "Put it back, or begin another run." in ended.stderr
