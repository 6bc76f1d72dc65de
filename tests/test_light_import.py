"""`evomerge --help` and a wrong genome never wait for torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "transformers", "mergekit", "lm_eval", "optuna", "cmaes", "httpcore2", "datasets"),
    "scipy",
)
LOADED = f"import sys, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"

HELP = """
from click.testing import CliRunner
from evomerge.cli.main import main
result = CliRunner().invoke(main, ["--help"])
assert result.exit_code == 0, result.output
"""
BAD_FILE = """
from click.testing import CliRunner
from evomerge.cli.main import main
result = CliRunner().invoke(main, ["check", sys.argv[1]])
assert result.exit_code, result.output
"""
LOAD = """
from pathlib import Path
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import load_genome
try:
    load_genome(Path(sys.argv[1]))
except GenomeError:
    pass
else:
    raise AssertionError("the file is wrong")
"""
EVAL = """
from click.testing import CliRunner
from evomerge.cli.main import main
result = CliRunner().invoke(main, ["eval", "./nosuch", "--tasks", "arc_easy,no=such", "--limit=3"])
told = str(result.exception)
assert "there is no folder" in told and "no=such" in told, told
"""
HELD = """
from pathlib import Path
from click.testing import CliRunner
from evomerge.cli.main import main
from evomerge.foundations.lock import RunLock
Path("out").mkdir()
lock = RunLock(Path("out"))
text = Path(sys.argv[1]).read_text().replace("tie", "linear").replace("[]", "[arc_easy]")
Path("good.yml").write_text(text)
result = CliRunner().invoke(main, ["run", "good.yml", "--run-dir", "out"])
assert "is writing this run right now" in str(result.exception), result.exception
"""
TABLES = """
import evomerge.compiler, evomerge.run.search
from evomerge.optimizers import OPTIMIZERS
[OPTIMIZERS.summary(name) for name in OPTIMIZERS]
"""


@pytest.mark.parametrize(
    "code",
    [HELP, BAD_FILE, LOAD, EVAL, HELD, TABLES],
    ids=["help", "check", "load", "eval", "held", "tables"],
)
def test_nothing_heavy_is_loaded(tmp_path, code):
    path = tmp_path / "bad.yml"
    path.write_text("genome: {models: [a, b], merge_method: tie}\ntasks: []\n")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{LOADED}", str(path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
