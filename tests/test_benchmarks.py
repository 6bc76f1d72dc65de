"""Benchmarks run, on sizes that tell nothing of speed, and print their tables."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
CALLS = {
    "gpu.py --device cpu --size tiny --rounds 1": ("merge, ties", "evomerge", "scoring"),
    "gpu.py --device cpu --size tiny --rounds 1 --plain": ("merge, linear", "plain", "scoring"),
    "growth.py --quick --trials 2 --threads 1 --svg {folder}/growth.svg": ("models", "trials"),
    "trial_overhead.py --trials 10 --documents 10 --threads 1": (
        "10 trials in 100 dimensions",
        "render",
        "all the rest",
    ),
    "merge.py --size 25m --rounds 1 --methods linear --no-memory": ("linear",),
    "scoring.py --documents 2 --prompts 2 --repeats 1 --threads 1 --settings defaults": (
        "own few-shot",
        "2 of 2 texts equal",
    ),
    "evaluations.py --documents 2 --prompts 2 --repeats 1 --threads 1 --layers 1": (
        "own few-shot",
        "the same result",
    ),
    "layer_trials.py --width 32 --layers 3 --documents 4 --trials 6": (
        "outside of forward passes",
        "the same recipe merged",
    ),
    "workers.py --trials 3 --documents 4 --width 32 --layers 2": ("workers 1:", "times as many"),
    "worker_memory.py --workers 2 --trials 3 --width 64 --layers 2 --dtype bfloat16": (
        "2 workers, sources in bfloat16",
        "with casts counted",
    ),
    "identity.py --gigabytes 0": ("first time", "afterwards"),
    "layouts.py --documents 2 --repeats 1 --threads 1": ("packed", "prefix", "zero-shot"),
}


def printed_by(call: str) -> str:
    script, *arguments = call.split()
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def _modules_in(module):
    return pkgutil.iter_modules(getattr(module, "__path__", ()))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_evomerge_is_there(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evomerge"):
            module = importlib.import_module(node.module)
            found = {*dir(module), *(one.name for one in _modules_in(module))}
            assert {one.name for one in node.names} <= found


def test_every_fault_of_the_table_has_its_place_in_the_package_and_its_tests():
    """Else `make mutants` ends before it begins, and nobody hears of it until then."""
    wrong = []
    for entry in yaml.safe_load((ROOT / "benchmarks" / "mutants.yml").read_text(encoding="utf-8")):
        text = (ROOT / "evomerge" / entry["file"]).read_text(encoding="utf-8")
        faults = entry["mutants"]
        wrong += [(entry["file"], one["was"]) for one in faults if text.count(one["was"]) != 1]
        wrong += [(entry["file"], one["now"]) for one in faults if one["now"] == one["was"]]
        files = [one.partition("::")[0] for one in entry["tests"] if one.startswith("tests/")]
        wrong += [(entry["file"], one) for one in files if not (ROOT / one).exists()]
        assert files
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_benchmark_prints_its_table(call, tmp_path):
    table = printed_by(call.format(folder=tmp_path))
    assert all(text in table for text in CALLS[call])
    for drawing in tmp_path.glob("*.svg"):
        assert drawing.read_text().startswith("<svg")


@pytest.mark.slow
def test_a_mixture_has_a_row_of_numbers_for_each_mean():
    _, header, *rows = printed_by("mixture.py --trials 3 --documents 10").splitlines()
    table = [dict(zip(header.split(), row.split(), strict=False)) for row in rows]
    assert [row["mean"] for row in table] == ["arithmetic", "geometric"]
    for row in table:
        assert 0 < float(row["least"]) <= float(row["median"])
        assert float(row["processor"]) > 0
        assert int(row["passes"]) == 0  # no trial runs a model


@pytest.mark.slow
def test_every_way_to_do_a_search_finds_the_same_score():
    table = printed_by("peers.py --quick --trials 2 --peer-trials 1 --rounds 1 --threads 1")
    header, *rows = [line for line in table.splitlines() if not line.startswith("1 threads")]
    assert header.split()[-1] == "score"
    assert [row[:14].strip() for row in rows] == [
        *["merge to disk"] * 2,
        *["in memory"] * 2,
        "evomerge run",
    ]
    assert len({row.split()[-1] for row in rows}) == 1
