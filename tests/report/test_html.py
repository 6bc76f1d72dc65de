"""report.html stands alone, holds what the run holds, and trusts no text."""

import re
from html.parser import HTMLParser

import pytest

from evomerge.report.page import report_html, write_report
from tests.recorded_runs import record_run

VOID = {"meta", "br"}  # the others close themselves with a slash


class Page(HTMLParser):
    """Collects tags and text; notes tags that are closed in the wrong order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def run(tmp_path):
    return record_run(tmp_path / "<run & co>")


def test_the_page_is_well_formed_and_needs_nothing_else(run):
    page = Page(report_html(run))
    assert page.open == []
    assert page.links == []
    assert "script" not in page.tags
    assert "url(" not in report_html(run)


def test_texts_of_users_are_escaped(run):
    page = Page(report_html(run))
    assert "<run & co>" in page.texts
    assert "merge: weights <sum> to nothing" in page.texts


def test_every_trial_has_a_row_and_a_mark(run):
    page = Page(report_html(run))
    n_searched = sum(not t.candidate.is_baseline for t in run.leaderboard.trials)
    assert page.tags.count("circle") == n_searched - 1  # one failed
    assert page.tags.count("table") == 6
    assert any("merge_method: task_arithmetic" in text for text in page.texts)


def test_errors_and_documents_stand_beside_every_score(run):
    page = Page(report_html(run))
    assert any("Searching pays: +" in text for text in page.texts)
    numbers = [text for text in page.texts if re.match(r"-?\d+\.\d{4}", text)]
    axis = [text for text in numbers if "±" not in text]
    assert len(axis) == 5  # the scale of the curve
    n_scores = sum(text not in axis and " to " not in text for text in numbers)
    assert sum(text.startswith("n=") for text in page.texts) == n_scores > 60


def test_a_run_of_baselines_only_has_a_page(tmp_path):
    run = record_run(tmp_path / "run", n_trials=0, has_finals=False)
    assert "svg" not in Page(report_html(run)).tags


def test_the_page_is_written_into_the_run_folder(run):
    write_report(run)
    assert run.ledger.folder.report.read_text(encoding="utf-8") == report_html(run)
