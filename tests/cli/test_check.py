"""``evomerge check``: findings first, then what a run would search and take."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
import yaml

from evomerge.cli.main import entry_point
from evomerge.cli.problems import draw_findings, exit_code
from evomerge.foundations.findings import error, note, warning
from evomerge.merging.resident import ResidentMerger
from tests.evaluators.tiny_tasks import write_tasks
from tests.tiny_models import tiny_family

GENOME = """\
genome:
  models: [models/model_1, models/model_2]
  base_model: models/base
  merge_method: task_arithmetic
  granularity: layers
  layer_granularity: 1
tasks: [{name: tiny_choice, limit: 12}]
holdout: [{name: tiny_likelihood, metric: perplexity, samples: [14, 15, 16, 17]}]
task_search_path: [tasks]
evaluation: {device: cpu}
optimizer: {budget: 60}
baselines: [models, base, average]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    tiny_family(folder / "models")
    (folder / "tasks").mkdir()
    write_tasks(folder / "tasks")
    return folder


@pytest.fixture
def check(place, capsys, monkeypatch):
    """Runs ``evomerge check`` on a genome; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(place)

    def call(*options, genome=GENOME):
        (place / "g.yml").write_text(genome)
        with pytest.raises(SystemExit, match=r"^\d$") as ended:
            entry_point(["check", "g.yml", *options])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return call


def test_every_tensor_of_every_model_is_accounted_for(check):
    code, out, _ = check()
    assert code == 0
    assert "tensors" in out.splitlines()
    _, out, _ = check("--json")
    found = json.loads(out)["tensors"]
    assert [one["model"] for one in found] == [
        f"models/{n}" for n in ("model_1", "model_2", "base")
    ]
    assert all(len(one["merged"]) == 21 and not one["left_out"] for one in found)


def test_a_good_genome_is_told_whole_in_80_columns(check):
    code, out, err = check()
    assert code == 0
    titles = re.findall(r"^(\w[\w ]*)$", out, re.MULTILINE)
    wanted = ["space", "search", "tasks", "room", "time", "scored first"]
    assert [title for title in titles if title in wanted] == wanted
    assert "weight[model_1, layer 0]     real  [0, 1.5]  any     0.5" in out
    assert "10 parameters, gp: 60 trials, 1 at once" in out
    assert "each trial scores 12 documents in 48 rows of forward passes, at most" in out
    assert "holdout scores 4 documents with 5 models at most, baselines among them" in out
    assert re.search(r"holdout +tiny_likelihood +perplexity,none +lower +4 +4", out)
    assert re.search(r"3 sources +\d+ kB", out)
    assert "not measured; --probe" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "error" not in err


def test_seeds_are_scored_first_too(check, place):
    models = [{"model": f"models/model_{n}", "parameters": {"weight": 0.25}} for n in (1, 2)]
    recipe = {"merge_method": "task_arithmetic", "base_model": "models/base", "models": models}
    (place / "seed.yml").write_text(yaml.safe_dump(recipe))
    _, out, _ = check("--set", "optimizer.seed_from=seed.yml")
    first = out.partition("scored first\n")[2].partition("\n\n")[0].splitlines()
    assert first[-1] == "seed seed.yml  (outside the space)"
    assert first[-2].startswith("uniform average  (")


def test_what_one_would_have_tried_is_listed_and_counted(check):
    _, out, _ = check(genome=GENOME.replace("baselines: [models, base, average]\n", ""))
    first = out.partition("scored first\n")[2].partition("\n\n")[0].splitlines()
    weights = [f"task arithmetic {weight}  (a point of the space)" for weight in (0.3, 0.5, 0.7)]
    assert first[4:7] == weights
    assert first[-2:] == ["ties  (outside the space)", "slerp 0.5  (outside the space)"]
    assert "10 baselines before them" in out
    assert "holdout scores 4 documents with 6 models at most, baselines among them" in out


def test_the_recipe_at_the_end_is_one(check):
    recipe = yaml.safe_load(check()[1].partition("recipe with every parameter at its start\n")[2])
    assert recipe["merge_method"] == "task_arithmetic"


def test_every_mistake_of_models_tasks_and_search_is_told_at_once(check):
    genome = (
        GENOME.replace("models/model_2", "models/gone")
        .replace("tiny_choice, limit: 12", "tiny_choice, metric: accu")
        .replace("metric: perplexity", "metric: perplexities")
    )
    code, out, err = check(genome=genome)
    assert (code, out) == (2, "")
    assert re.search(r"^error: g.yml:2: genome.models\[1\]: ", err, re.MULTILINE)
    assert "error: g.yml:7: tasks[0].metric: task 'tiny_choice' has no metric 'accu'; did" in err
    assert "error: g.yml:8: holdout[0].metric: task 'tiny_likelihood' has no metric" in err
    assert err.rstrip().endswith("3 errors")


def test_mistakes_of_the_file_end_it_with_2(check):
    code, out, err = check(genome=GENOME + "sede: 1\nbudget: 3\n")
    assert (code, out) == (2, "")
    assert [line.split(": ")[2] for line in err.splitlines()[:-1]] == ["sede", "budget"]
    assert err.endswith("2 errors\n")


def test_warnings_count_where_they_are_asked_to(check):
    small = ("--set", "optimizer.budget=4")
    assert check(*small)[0] == 0
    code, out, err = check(*small, "--strict")
    assert code == 1
    assert "warning: --set: optimizer.budget: 4 trials for 10 parameters" in err
    assert "recipe with every parameter at its start" in out


def test_a_strict_run_does_not_begin_where_there_are_warnings(place, check, capsys):
    (place / "g.yml").write_text(GENOME)
    with pytest.raises(SystemExit, match="1"):
        entry_point(["run", "g.yml", "--strict", "--set", "optimizer.budget=4"])
    err = capsys.readouterr().err
    assert "--set: optimizer.budget: 4 trials for 10 parameters" in err
    assert "--strict, and there are warnings" in err
    assert not (place / "runs").exists()


def test_for_programs_it_is_json_and_nothing_else(check):
    code, out, err = check("--json", "--set", "tasks[0].limit=30", "--set", "holdout=[]")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert {
        "severity": "warning",
        "what": "30 documents of tiny_choice are asked for, it has 20; all are used",
        "where": "--set: tasks[0].limit",
        "fix": "",
    } in data["findings"]
    assert len(data["space"]) == data["plan"]["search"]["n_dims"] == 10
    assert data["plan"]["search"]["n_rows"] == 80
    assert {store["name"] for store in data["plan"]["room"]} == {"RAM", "disk"}
    assert (data["plan"]["time"], data["recipe"]["dtype"]) == (None, "float32")


def test_for_programs_a_wrong_genome_is_json_too(check):
    code, out, _ = check("--json", genome=GENOME + "sede: 1\n")
    data = json.loads(out)
    assert (code, data["space"], data["plan"], data["recipe"]) == (2, None, None, None)
    assert data["findings"][0]["what"].startswith("unknown key 'sede'; did you mean 'seed'?")


def test_a_probe_measures_and_says_what(check):
    code, out, _ = check("--probe", "--json")
    time = json.loads(out)["plan"]["time"]
    assert code == 0
    assert (time["few"][0], time["more"][0], time["n_documents"]) == (4, 12, 12)
    assert time["n_trials"] == 64
    fast, slow = time["run_s"]
    assert 0 < fast <= slow
    (holdout,) = time["finals"]
    assert (holdout["split"], holdout["n_trials"], holdout["n_documents"]) == ("holdout", 5, 4)
    assert 0 < holdout["seconds"] == time["finals_s"]
    assert re.search(
        r"the search takes .*\nholdout comes on top with about .*\nmeasured on this machine:\n",
        check("--probe")[1],
    )


def test_a_probe_times_merges_of_other_parameters(check, monkeypatch):
    merge, merged = ResidentMerger.merge, []

    def recorded(self, recipe, deadline):
        merged.append(recipe.digest)
        return merge(self, recipe, deadline)

    monkeypatch.setattr(ResidentMerger, "merge", recorded)
    assert check("--probe")[0] == 0
    assert len(merged) == len(set(merged)) == 6


def test_a_limit_of_the_search_leaves_the_holdout_whole(check, place):
    tasks = place / "tasks"
    rows = [{"a": n, "b": n, "options": ["one", "two"], "answer": 0} for n in range(8)]
    (tasks / "exam.jsonl").write_text("\n".join(map(json.dumps, rows)))
    other = (tasks / "likelihood.yaml").read_text().replace("tiny_likelihood", "tiny_exam")
    (tasks / "exam.yaml").write_text(other.replace("test.jsonl", "exam.jsonl"))
    exam = "[{name: tiny_exam, metric: perplexity}]"
    genome = re.sub(r"tasks: .*\nholdout: .*", f"tasks: [tiny_choice]\nholdout: {exam}", GENOME)
    genome += "limit: 3\n"
    _, out, _ = check(genome=genome)
    assert "each trial scores 3 documents" in out
    assert "holdout scores 8 documents" in out
    assert "holdout scores 5 documents" in check("--set", "holdout_limit=5", genome=genome)[1]


def test_findings_stand_in_the_order_of_their_severity(capsys):
    draw_findings([note("c", "k"), warning("b", fix="Do."), error("a"), error("aa")])
    assert capsys.readouterr().err == (
        "error: a.\nerror: aa.\nwarning: b. Do.\nnote: k: c.\n2 errors, 1 warning, 1 note\n"
    )


@pytest.mark.parametrize(
    ("findings", "strict", "code"),
    [
        ([], True, 0),
        ([note("x")], True, 0),
        ([warning("x")], False, 0),
        ([warning("x")], True, 1),
        ([warning("x"), error("y")], False, 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst(findings, strict, code):
    assert exit_code(findings, strict=strict) == code


def whatever_is_free(told):
    """What a check said, without the memory and the disk that are free at this moment."""
    code, *texts = told
    return code, [re.sub(r"[\d.]+ \w?B of", "", text).replace("─", "").split() for text in texts]


def test_a_second_check_of_frozen_checkpoints_reads_no_tensor(check, place, monkeypatch, tmp_path):
    lengths, pread = [], os.pread

    def counted(handle, n_bytes, at):
        lengths.append(n_bytes)
        return pread(handle, n_bytes, at)

    monkeypatch.setattr(os, "pread", counted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("evomerge.models.kept._SETTLED_NS", -(10**18))
    for name in ("one", "two"):
        shutil.copytree(place / "models" / "base", place / "models" / name, dirs_exist_ok=True)
    models = "[models/model_1, models/one, models/two]"
    genome = GENOME.replace("[models/model_1, models/model_2]", models)
    first = whatever_is_free(check(genome=genome))
    assert lengths
    lengths.clear()
    assert whatever_is_free(check(genome=genome)) == first
    assert lengths == []
