"""How ``evomerge eval`` draws and what it refuses; the real thing is in tests/end_to_end."""

from __future__ import annotations

import pytest
import yaml
from rich.console import Console

from evomerge.cli.main import entry_point
from evomerge.cli.score_table import draw_scores
from evomerge.nouns.comparison import Comparison
from evomerge.nouns.evaluation import MetricKey
from evomerge.nouns.objective import Score
from evomerge.report.score_rows import BY_TASKS, ScoreRow
from tests.tiny_models import tiny_model

MODELS = ("examples/models/base", "runs/skills", "merges/ties.yml")


def row(name, depth, values, metric="acc", *, sign=True, n=300):
    scores = tuple(None if v is None else Score(v, 0.0201, n) for v in values)
    gains = [
        None
        if values[0] is None or v is None
        else Comparison((1 if sign else -1) * (v - values[0]), 0.0133, n, 20)
        for v in values[1:]
    ]
    return ScoreRow(name, depth, MetricKey(name, metric), sign, scores, (None, *gains))


ROWS = [
    row("mmlu", 0, (0.25, 0.5, 0.255), n=14042),
    row(BY_TASKS, 1, (0.26, 0.49, 0.25), n=14042),
    row("mmlu_stem", 1, (0.2, 0.4, None), n=3000),
    row("mmlu_high_school_european_history", 2, (0.3, 0.1, 0.3)),
    row("wikitext", 0, (12.5, 11.25, 13.75), "word_perplexity", sign=False, n=62),
]


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_lines_up(is_golden, width, capsys):
    draw_scores(Console(width=width, highlight=False), ROWS, MODELS)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    is_golden(f"cli/eval_{width}.txt", out)


@pytest.fixture
def refused(capsys):
    def call(*arguments):
        capsys.readouterr()  # of models that were made
        with pytest.raises(SystemExit, match="2"):
            entry_point(["eval", *arguments])
        return capsys.readouterr().err.splitlines()

    return call


def test_tasks_are_named_in_one_way(refused):
    one_of = "Error: Name tasks with --tasks, or a genome that has them with --genome."
    assert refused("model")[-1] == one_of
    assert refused("model", "--tasks", "mmlu", "--genome", "g.yml")[-1] == one_of
    assert refused("model", "--tasks", "a", "--split", "tasks")[-1].startswith("Error: --split is")


@pytest.mark.slow
def test_everything_that_is_wrong_is_told_at_once(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "text.yml").write_text("just text\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "ledger.jsonl").touch()
    names = ("./gone", "none.yml", "text.yml", "empty", "runs", "a+b+c")
    told = refused(*names, "--tasks", "arc_eesy,x=y")
    assert [line.split(": ")[0] for line in told] == [
        "./gone",
        "none.yml",
        "text.yml",
        "empty",
        "runs",
        "a+b+c",
        "--tasks x=y",
    ]
    assert "it holds no model, but runs: one. Name one of them." in told[4]
    (told,) = refused(str(tiny_model(tmp_path / "base")), "--tasks", "arc_eesy")
    assert told.startswith("--tasks arc_eesy: ")
    assert "did you mean 'arc_easy'?" in told


def test_what_is_there_is_not_replaced(refused, tmp_path):
    (tmp_path / "scores.json").write_text("mine")
    told = refused("model", "--tasks", "x", "-o", str(tmp_path / "scores.json"))
    assert "scores.json" in told[-1]
    assert (tmp_path / "scores.json").read_text() == "mine"


def test_what_is_read_is_not_replaced(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yml").write_text("mine")
    (told,) = refused("./r.yml", "--tasks", "x", "-o", "r.yml", "--force")
    assert told == "r.yml: it is read here. Name another file."
    assert (tmp_path / "r.yml").read_text() == "mine"


@pytest.mark.slow
def test_what_a_run_reads_again_is_not_replaced(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["ledger.jsonl", "genome.yml", "best.yml", "documents/trial-00001-tasks.jsonl.gz"]
    names += ["optimizer/columns/a.json"]
    (tmp_path / "here").symlink_to("run")
    for name in names:
        file = tmp_path / "run" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    for name in names:
        for folder in ("run", "here"):
            (told,) = refused("model", "--tasks", "x", "-o", f"{folder}/{name}", "--force")
            assert told.startswith(f"{folder}/{name}: belongs to a run, which would be lost.")
    (tmp_path / "run" / "ledger.jsonl").unlink()
    assert "belongs" not in str(refused("model", "--tasks", "x", "-o", "run/best.yml", "--force"))


def test_a_model_is_not_written_into(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text")
    config = tiny_model(tmp_path / "base") / "config.json"
    before = config.read_text()
    (told,) = refused("base", "--tasks", "perplexity=text.txt", "-o", "base/config.json", "--force")
    assert told.startswith("base/config.json: lies in base, which is a model of the recipe.")
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("device", "what"),
    [("foo", "got 'foo', expected auto, cpu"), ("cuda:63", "cuda:63 is not on this machine")],
)
def test_a_device_that_is_not_there_is_told_with_the_rest(refused, device, what):
    told = refused("./gone", "--tasks", ",", "--device", device)
    assert [line.split(": ")[0] for line in told] == ["./gone", "--tasks", "--device"]
    assert what in told[-1]


def test_a_folder_of_recipes_is_no_model(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text")
    (tmp_path / "moe.yml").write_text("experts: []")
    (tmp_path / "merges.yml").write_text("a: b")
    (told,) = refused(str(tmp_path), "--tasks", "perplexity=text.txt")
    assert told.startswith(f"{tmp_path}: it holds no model, but merges.yml, moe.yml. Name the run")


def test_models_that_do_not_fit_are_told_before_a_weight_is_read(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text")
    tiny_model(tmp_path / "base")
    tiny_model(tmp_path / "wide", hidden_size=64)
    tiny_model(tmp_path / "other", extra_tokens=["<more>"])
    members = [{"model": name, "weight": 0.5} for name in ("base", "other")]
    (tmp_path / "mixture.yml").write_text(yaml.safe_dump({"mixture": members}))
    for name in ("wide", "other"):
        models = [{"model": m, "parameters": {"weight": 1}} for m in ("base", name)]
        recipe = {"merge_method": "linear", "models": models}
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(recipe))
        (tmp_path / f"{name}_union.yml").write_text(
            yaml.safe_dump({**recipe, "tokenizer_source": "union"})
        )
    names = ("base", "other", "wide.yml", "other.yml", "other_union.yml", "mixture.yml")
    told = refused(*names, "--tasks", "perplexity=text.txt")
    assert [line.split(": ")[0] for line in told] == ["wide.yml", "other.yml", "mixture.yml"]
    assert "tensors" in told[0]
    assert "vocab_size" in told[1]
    assert "other has 1 token not as in base" in told[2]  # other rows alone would do
