"""What a language model cost, and why it was of no use, is read from the run folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from evomerge.cli.main import main
from evomerge.endpoint.chat import ChatAnswer
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.foundations.errors import LedgerError
from evomerge.optimizers.llm.dialogue import Clock
from evomerge.optimizers.llm.dialogues_section import dialogues_section
from evomerge.optimizers.llm.evolution import Llm
from evomerge.optimizers.search_context import SearchContext
from evomerge.report.page import report_html
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.run_folder import RunFolder
from tests.recorded_runs import SPACE, record_run
from tests.scripted_llm import ScriptedModel, ScriptedSettings, recombined

BUSY = NoAnswerError("HTTP status 429: slow down", status=429, cause="rate limit")
GONE = NoAnswerError("no answer (refused)", cause="no connection")
# What the model does in each generation, and why that is of no use in the end.
GENERATIONS = [
    ([recombined], ""),
    ([lambda prompt: "no JSON", lambda prompt: '{"mean": [1]}', recombined], ""),
    ([ChatAnswer("", "you refused", 10, 1, "refusal")] * 3, "refusal"),
    ([BUSY] * 3, "rate limit"),
    ([lambda prompt: "{}"] * 3, "wrong shape"),
    ([GONE] * 3, "no connection"),
    ([GONE], "no connection"),
]


@pytest.fixture
def folder(tmp_path):
    """A run folder in which a scripted model was asked."""
    run = record_run(tmp_path / "run", optimizer="llm")
    model = ScriptedModel(*(reply for replies, _ in GENERATIONS for reply in replies))

    class Settings(ScriptedSettings):
        def connect(self):
            return model

    class Unhurried(Llm):
        clock = Clock(wait=lambda seconds: None)

    optimizer = Unhurried(
        SPACE,
        seed=0,
        settings=Settings(prompt_price=1.0, completion_price=2.0),
        context=SearchContext(artifacts=ArtifactStore(run.ledger.folder)),
    )
    for _ in range(len(GENERATIONS) + 1):
        asked = optimizer.ask()
        optimizer.tell(asked, ((asked - 0.3) ** 2).sum(axis=1) + np.arange(len(asked)) * 1e-3)
    return run


def test_each_generation_says_what_it_took_and_why_it_fell_back(folder):
    section = dialogues_section(folder)
    data = section.data["generations"]
    assert [entry["fallback"] for entry in data] == [cause for _, cause in GENERATIONS]
    assert [entry["n_requests"] for entry in data] == [len(r) for r, _ in GENERATIONS]
    assert data[1]["causes"] == ["bad JSON", "wrong shape"]
    mended = section.head.index("mended")
    told = [row[mended] for row in section.rows]
    assert told == ["", "bad JSON, wrong shape", *[""] * 5]  # what fell back was not mended
    total = section.data["total"]
    assert total["fallbacks"] == {
        "no connection": 2,
        "refusal": 1,
        "rate limit": 1,
        "wrong shape": 1,
    }
    tokens = (entry["prompt_tokens"] for entry in data)
    assert total["prompt_tokens"] == sum(tokens) > 0
    expected = (total["prompt_tokens"] + 2 * total["completion_tokens"]) / 1e6
    assert total["cost"] == pytest.approx(expected)


@pytest.mark.slow
def test_show_and_the_report_tell_it(folder):
    told = "5 fell back to a step around the best trial: no connection (2), refusal (1), "
    path = str(folder.ledger.folder.path)
    shown = CliRunner().invoke(main, ["show", path]).output
    page = report_html(folder)
    for text in (shown, page):
        assert told in text
        assert "7 generations of gpt-4o: 17 requests, " in text
    data = json.loads(CliRunner().invoke(main, ["show", path, "--json"]).output)
    assert data["llm"]["total"]["n_requests"] == 17


def test_a_broken_record_is_one_sentence(folder):
    ArtifactStore(folder.ledger.folder).keep("generation-0002.json", b"{}")
    with pytest.raises(LedgerError, match=r"generation-0002.json: cannot be read"):
        dialogues_section(folder)


def test_a_run_without_a_model_has_no_such_section(tmp_path):
    assert dialogues_section(record_run(tmp_path / "run")) is None
    assert RunFolder(tmp_path / "run").ledger.is_file()
