"""The docs say what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["genome_tables.py", "optimizer_tables.py", "module_pages.py"])
def test_tables_of_the_pages_are_those_of_the_code(script):
    finished = subprocess.run(
        [sys.executable, f"docs/{script}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_links_between_the_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_commands_in_the_pages_exist():
    from evomerge.cli.main import COMMANDS

    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    named = {
        command
        for page in pages
        for command in re.findall(r"evomerge ([a-z]+)\b", page.read_text(encoding="utf-8"))
        if re.search(rf"[`$ ]evomerge {command}", page.read_text(encoding="utf-8"))
    }
    prose = {"finds", "is", "names", "decides", "raises", "seeds", "with"}
    assert named - prose <= set(COMMANDS)


def test_make_targets_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {
        target
        for page in pages
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))
    }
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_no_page_holds_both_sides_of_a_merge():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/*/README.md")]
    marks = re.compile(r"^(<{7}|>{7}|={7}$)", re.MULTILINE)
    assert not [page.name for page in pages if marks.search(page.read_text(encoding="utf-8"))]
