"""The questions of a judge: ``question.jsonl``, and answers to them, as FastChat writes both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evomerge.evaluators.task_files import (
    all_read,
    brief,
    got,
    is_whole,
    json_rows,
    named_rows,
    text_under,
    wrong_line,
)

MOST_TURNS = 2
Answers = dict[str, tuple[str, ...]]  # question -> a text for each of its turns


@dataclass(frozen=True)
class JudgedQuestion:
    """One question, perhaps with another that follows upon its answer.

    Attributes:
        name: Its id; digits or any text.
        category: Such as ``writing``.
        turns: What the user says, one or two texts.
        references: A right answer to each turn; empty where there are none.
    """

    name: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


def questions_in(file: str) -> list[JudgedQuestion]:
    """The questions of a file, in its order.

    Raises:
        GenomeError: it cannot be read, or lines of it are no questions; all of these.
    """
    return list(named_rows(file, _question, "question_id").values())


def answers_in(file: str) -> Answers:
    """Answers to questions, those of the first choice.

    Raises:
        GenomeError: it cannot be read, or lines of it are no answers; all of these.
    """
    found: Answers = {}

    def note(numbered: tuple[int, Any]) -> None:
        line, row = numbered
        name = _name(row, file, line)
        if name in found:
            raise wrong_line(file, line, f"answers question {name} a second time")
        found[name] = _choice(row, file, line)

    all_read(json_rows(file), note)
    return found


def _question(row: Any, file: str, line: int) -> JudgedQuestion:
    name = _name(row, file, line)
    category = text_under(row, "category", file, line)
    turns = _texts(row.get("turns"))
    if not turns or len(turns) > MOST_TURNS or not all(map(str.strip, turns)):
        expected = f"expected a list of one or two texts (question {name})"
        raise wrong_line(file, line, f"{_has(row, 'turns')}, {expected}")
    references = _texts(row.get("reference") or [])
    if references is None or 0 < len(references) < len(turns):
        what = f"{_has(row, 'reference')}, expected a list with a text for each of its turns"
        raise wrong_line(file, line, f"{what} (question {name})")
    return JudgedQuestion(name, category.strip(), turns, references[: len(turns)])


def _name(row: Any, file: str, line: int) -> str:
    name = row.get("question_id") if isinstance(row, dict) else None
    if isinstance(name, bool) or not isinstance(name, (int, str)) or not str(name).strip():
        what = f"{_has(row, 'question_id')}, expected a number or a text"
        raise wrong_line(file, line, what)
    return str(name).strip()


def _choice(row: Any, file: str, line: int) -> tuple[str, ...]:
    choices = row.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = _texts(first.get("turns")) if isinstance(first, dict) else None
    if not turns:
        what = f"has no answer under 'choices[0].turns', got {got(first, 'turns')}"
        raise wrong_line(file, line, f"{what}, expected a list of texts")
    return turns


def _has(row: Any, key: str) -> str:
    """What a row has under a key, where that is not what it should be."""
    there = isinstance(row, dict) and key in row
    return f"has {brief(row[key])} under {key!r}" if there else f"has no {key!r}"


def _texts(value: Any) -> tuple[str, ...] | None:
    """A list of texts that can be written; None where it is none."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return tuple(value) if is_whole("".join(value)) else None


def unanswered(questions: list[JudgedQuestion], answers: Answers) -> Iterator[str]:
    """Names of questions of which a turn has no answer."""
    return (one.name for one in questions if len(answers.get(one.name, ())) < len(one.turns))
