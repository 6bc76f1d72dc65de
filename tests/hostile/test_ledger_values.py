"""Any number in the place of any value of a ledger: shown, or refused with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.things import assert_told, command
from tests.recorded_runs import record_run

NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000)
OTHERS = (
    *('"nan"', '"inf"', '"-inf"', "null", "true", '"x"', '"\\u001b[2J"', '"a\\nb"', "[]", "{}"),
    *("-1", "0.5", "1e308", "-1e308", "5e-324", "9223372036854775808"),
)
KINDS = ("header", "trial", "final")


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Where values stand in a line; of a list, in its first two items."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value[:2])
        for key, part in parts:
            yield from leaves(part, (*path, key))
    else:
        yield path


def with_text(line: str, path: tuple, text: str) -> str:
    """The line with any text as one of its values."""
    content = part = json.loads(line)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = "@@"
    return json.dumps(content).replace('"@@"', text)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, list[str]]:
    record_run(folder := tmp_path_factory.mktemp("recorded") / "run")
    return folder, (folder / "ledger.jsonl").read_text().splitlines()


def told(recorded: tuple[Path, list[str]], kind: str, texts: tuple[str, ...]) -> Iterator[tuple]:
    """What each command does with each text in the place of each value of a kind of line."""
    folder, lines = recorded
    at = next(i for i, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    for path in leaves(json.loads(lines[at])):
        for text in texts:
            changed = [*lines[:at], with_text(lines[at], path, text), *lines[at + 1 :]]
            (folder / "ledger.jsonl").write_text("\n".join(changed) + "\n")
            for command_ in ("show", "export"):
                done = command(command_, folder)
                assert_told(done)
                yield at + 1, done
    (folder / "ledger.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_a_ledger_is_refused_with_its_line(recorded, kind):
    for number, done in told(recorded, kind, NO_NUMBERS[:1]):
        assert done.code == 1
        assert f"ledger.jsonl: line {number} is not" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_number_is_refused_wherever_it_stands(recorded, kind):
    assert {done.code for _, done in told(recorded, kind, NO_NUMBERS)} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_other_value_is_shown_or_refused(recorded, kind):
    assert {done.code for _, done in told(recorded, kind, OTHERS)} <= {0, 1}
