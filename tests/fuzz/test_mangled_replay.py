"""A run whose ledger was damaged goes on, or is refused in sentences."""

from __future__ import annotations

from hypothesis import given

from tests.fuzz.endings import drawing, ends_well, examples
from tests.fuzz.mangling import mangled_lines
from tests.test_search import search

BUDGET = 4


def run_to_the_end(folder, optimizer: str, *, resume: bool) -> None:
    begun = search(folder, optimizer=optimizer, budget=BUDGET, population=2, resume=resume)
    try:
        list(begun.run())
    finally:
        begun.ledger.close()


@examples(25, 700)
def test_a_run_with_a_mangled_ledger_goes_on_or_is_refused(n_examples, tmp_path):
    run_to_the_end(tmp_path, "random", resume=False)
    ledger = tmp_path / "ledger.jsonl"
    whole = ledger.read_bytes()

    @drawing(n_examples)
    @given(mangled_lines([whole]))
    def each(content):
        ledger.write_bytes(content)
        ends_well(lambda: run_to_the_end(tmp_path, "random", resume=True))

    each()
    ledger.write_bytes(whole)
    assert ends_well(lambda: run_to_the_end(tmp_path, "random", resume=True))
