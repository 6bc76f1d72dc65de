"""Several workers over real merges and tasks, through the command line."""

from __future__ import annotations

import gzip
import json
import pickle

import pytest

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.make_executor import worker_factory_for
from evomerge.compiler.start import search_for
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialFinished, TrialStarted
from evomerge.run.ledger.run_folder import RunFolder
from tests.backwards import with_backwards
from tests.end_to_end.conftest import told_in

TPE = ("--set", "optimizer={name: tpe, budget: 6}")
SHORT = ("--set", "baselines=[base]", "--set", "validation=[]", "--set", "holdout=[]")
TWO = (*TPE, "--set", "execution.workers=2")


def lines(folder):
    """Of its ledger, without the seconds."""
    text = (folder / "ledger.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()][1:]
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "idle", "elapsed")} for line in found
    ]


def test_what_builds_the_workers_of_a_run_begun_in_python_can_be_sent_to_them(
    workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    compiled = compile_genome(*load_genome(workplace / "genome.yml"))
    header = {"threads": 1, "dtype": None, "tasks": {}}
    factory = worker_factory_for(compiled, header, workplace / "out")
    assert pickle.loads(pickle.dumps(factory)) == factory


@pytest.mark.slow
def test_two_workers_are_asked_for_while_trials_are_out_and_the_run_is_replayed(
    workplace, evomerge
):
    evomerge("run", "genome.yml", "--run-dir", "two", *TWO)
    first = (workplace / "two" / "ledger.jsonl").read_bytes()
    kinds = [line["kind"] for line in lines(workplace / "two")]
    assert kinds.count("asked") >= 1
    assert kinds.count("trial") == 10
    again = evomerge("run", "genome.yml", "--run-dir", "two", *TWO)
    assert again.returncode == 0
    assert (workplace / "two" / "ledger.jsonl").read_bytes() == first
    shown = json.loads(evomerge("show", "two", "--json").stdout)
    assert 0 <= shown["idle_share"] < 1
    assert "workers idle" in evomerge("show", "two").stdout


def by_id(folder):
    """Trials and finals of a ledger, whichever was over first; and what each answered."""
    found = {
        (line["kind"], line.get("split"), line["id"]): line
        for line in lines(folder)
        if "id" in line
    }
    documents = {p.name: gzip.decompress(p.read_bytes()) for p in folder.glob("documents/*.gz")}
    return found, documents, RunFolder(folder).best.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "qmc"])
def test_two_workers_find_what_one_finds_trial_by_trial(workplace, evomerge, name):
    """Recipes, scores and answers: of baselines, the search, its finalists and the holdout."""
    settings = ("--set", f"optimizer={{name: {name}, budget: 10}}", "--set", "finalists=3")
    evomerge("run", "genome.yml", "--run-dir", "one", *settings, OMP_NUM_THREADS="1")
    evomerge("run", "genome.yml", "--run-dir", "two", *settings, "--set", "execution.workers=2")
    found, documents, best = by_id(workplace / "one")
    assert {split for _, split, _ in found} == {None, "validation", "holdout"}
    assert sum(kind == "trial" for kind, _, _ in found) == 14
    assert by_id(workplace / "two") == (found, documents, best)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "settings"),
    [
        ("processes", TPE),
        ("isolated", (*SHORT, "--set", "optimizer={name: random, budget: 2}")),
    ],
)
def test_one_worker_in_a_process_of_its_own_is_the_serial_run(
    workplace, evomerge, executor, settings
):
    apart = ("--set", f"execution.executor={executor}")
    evomerge("run", "genome.yml", "--run-dir", "here", *settings)
    evomerge("run", "genome.yml", "--run-dir", "apart", *settings, *apart)
    assert lines(workplace / "here") == lines(workplace / "apart")


@pytest.mark.slow
def test_gradient_trains_in_the_place_of_one_worker_which_is_back_afterwards(
    workplace, monkeypatch
):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    links = "[{name: gradient, epochs: 2, budget: 2}, {name: random, budget: 3}]"

    def run(name, n_workers):
        """Points and scores of all trials, and how many workers there were as each began."""
        own = [f"optimizer={{chain: {links}}}", f"execution.workers={n_workers}"]
        compiled = compile_genome(*load_genome(workplace / "genome.yml", own))
        search = search_for(compiled, workplace / name)
        there, found = {}, {}
        for event in search.run():
            if isinstance(event, TrialStarted):
                there.setdefault(str(event.candidate.origin), search.executor.n_workers)
            if isinstance(event, TrialFinished):
                scores = [score.value for score in event.scores]
                found[event.candidate.trial_id] = [*event.candidate.genotype, *scores]
        assert search.executor.n_workers == n_workers
        return found, there

    one, _ = run("one", 1)
    two, there = run("two", 2)
    trained = {who: n for who, n in there.items() if "epoch" in who}
    assert set(trained.values()) == {1, 2}  # the last is scored by both again
    assert {n for who, n in there.items() if "random" in who or "uniform" in who} == {2}
    assert one.keys() == two.keys()
    for trial_id, values in one.items():
        assert two[trial_id] == pytest.approx(values, abs=1e-4)


@pytest.mark.slow
def test_an_executor_that_does_not_fit_ends_the_run_before_it_begins(workplace, evomerge):
    settings = (*TWO, "--set", "execution.executor=serial")
    done = evomerge("run", "genome.yml", "--run-dir", "out", *settings, exit_code=2)
    assert "execution.executor: serial runs 1 trial at once, got 2 workers" in done.stderr
    assert not (workplace / "out").exists()


@pytest.mark.slow
def test_an_executor_that_the_table_holds_is_all_that_a_run_needs(workplace):
    """Nobody else knows that it is there: genome, check, schema, list, run and replay."""
    settings = (*TWO, "--set", "execution.executor=backwards")
    with with_backwards():
        assert "backwards" in told_in(workplace, "list", "executors")
        assert '"backwards"' in told_in(workplace, "schema")
        told_in(workplace, "check", "genome.yml", *settings)
        told_in(workplace, "run", "genome.yml", "--run-dir", "back", *settings)
        first = lines(workplace / "back")
        assert [line["id"] for line in first if line["kind"] == "trial"][:3] == [1, 2, 3]
        told_in(workplace, "run", "genome.yml", "--run-dir", "back", *settings)
    assert lines(workplace / "back") == first
    told_in(workplace, "show", "back")
