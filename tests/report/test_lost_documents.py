"""A file of documents that was cut in the middle counts as missing, with a sentence."""

from __future__ import annotations

from click.testing import CliRunner

from evomerge.cli.drawn import _label
from evomerge.cli.main import main
from evomerge.run.recorded_run import load_run
from tests.recorded_runs import record_run


def test_documents_that_are_cut_count_as_missing_and_are_told(tmp_path):
    run = record_run(tmp_path / "run")
    file = run.ledger.folder.documents(run.winners[0].candidate.trial_id, "tasks")
    run.ledger.close()
    whole = file.read_bytes()
    file.unlink()
    without = CliRunner().invoke(main, ["show", str(tmp_path / "run")])
    file.write_bytes(whole[: len(whole) // 2])
    cut = CliRunner().invoke(main, ["show", str(tmp_path / "run")])
    assert (without.exit_code, cut.exit_code) == (0, 0), cut.output
    assert cut.output.startswith(without.output[:200])
    assert "documents of trials that cannot be read" in cut.output
    assert file.name in "".join(cut.output.split())
    assert "They count as missing" in cut.output
    assert load_run(tmp_path / "run").documents(run.winners[0].candidate.trial_id) == ()


def test_a_long_label_keeps_the_trial_and_both_ends_of_the_model():
    assert _label("winner (trial 12)") == "winner (trial 12)"
    label = _label("winner (trial 12) = a-very-long-model-name-of-7b")
    assert label.startswith("winner (trial 12) = a-ver")
    assert label.endswith("of-7b")
    assert len(_label("a-very-long-model-name-of-seven-billion")) <= 30
