"""A data file of zeros has no first line that anybody could wait for."""

from __future__ import annotations

from evomerge.evaluators.lm_eval.folders import unreadable


def test_data_of_zeros_is_refused_before_anybody_reads_it(tmp_path):
    (tmp_path / "good.jsonl").write_text('{"a": 1}\n' * 200)
    (tmp_path / "other.bin").write_bytes(bytes(4096))
    with (tmp_path / "hole.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    (problem,) = unreadable([str(tmp_path)])
    assert problem.what.endswith("hole.jsonl holds zero bytes where text should begin")
