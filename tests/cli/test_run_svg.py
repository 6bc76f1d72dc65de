"""The README's picture is drawn from a run folder and needs nothing else."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

from tests.recorded_runs import record_run

SCRIPT = Path(__file__).parents[2] / "docs" / "images" / "make_run_svg.py"


def test_the_picture_is_svg_with_the_final_table_and_loads_nothing(tmp_path):
    record_run(tmp_path / "skills")
    file = tmp_path / "run.svg"
    runpy.run_path(str(SCRIPT))["main"](str(tmp_path / "skills"), str(file))
    text = file.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert "url(http" not in text
    shown = text.replace("&#160;", " ")
    assert "evomerge run genomes/skills.yml" in shown
    assert "winner (trial 13)" in shown
