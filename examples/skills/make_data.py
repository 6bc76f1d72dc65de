"""Writes the rows of the three skills: sort, reverse, twice.

A row shows seven letters. `sort` wants them in alphabetical order, `reverse` from last to first,
`twice` the one letter that is there two times (multiple choice between the letters shown).

No row of `tasks/skills/` is ever trained on: a hash of the letters alone, whatever their order and
skill, reserves one multiset in eight for the tasks, and training draws from the other seven.
Among the tasks, no two rows of any split or skill show the same letters.

Example: python examples/skills/make_data.py --check
"""

from __future__ import annotations

import json
import random
import string
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

SKILLS = ("sort", "reverse", "twice")
SPLIT_SIZES = {"search": 128, "validation": 128, "holdout": 300}
GUARDED = ("search", "validation")  # splits whose first rows are a text, too
GUARD_ROWS = 24  # of each skill in it
LETTERS = string.ascii_lowercase
N_LETTERS = 7
DATA_SEED = 20240313
RESERVED_OF = 8  # one multiset of letters in so many belongs to the tasks
TASKS_DIR = Path(__file__).resolve().parents[2] / "tasks" / "skills"


@dataclass(frozen=True)
class Row:
    """One question of one skill.

    Args:
        skill: A name in `SKILLS`.
        letters: The letters shown, `N_LETTERS` of them.
    """

    skill: str
    letters: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """What the model reads, e.g. ``sort k d a =``; no blank at the end."""
        return f"{self.skill} {' '.join(self.letters)} ="

    @property
    def answer(self) -> str:
        """What the model should write after the prompt and a blank."""
        if self.skill == "sort":
            return " ".join(sorted(self.letters))
        if self.skill == "reverse":
            return " ".join(reversed(self.letters))
        return next(letter for letter in self.letters if self.letters.count(letter) == 2)

    @property
    def key(self) -> str:
        """The letters without their order: equal keys never stand in two splits."""
        return "".join(sorted(self.letters))

    @property
    def is_reserved(self) -> bool:
        """True if the letters belong to the tasks, False if they may be trained on."""
        return zlib.crc32(self.key.encode()) % RESERVED_OF == 0

    def document(self) -> dict[str, object]:
        """The row as lm-eval reads it; `choices` only where there is something to choose."""
        if self.skill != "twice":
            return {"prompt": self.prompt, "answer": self.answer}
        choices = list(dict.fromkeys(self.letters))
        return {"prompt": self.prompt, "choices": choices, "label": choices.index(self.answer)}


def draw(skill: str, rng: random.Random) -> Row:
    """Any row of a skill, reserved or not."""
    if skill != "twice":
        return Row(skill, tuple(rng.sample(LETTERS, N_LETTERS)))
    letters = rng.sample(LETTERS, N_LETTERS - 1)
    letters.append(letters[0])
    rng.shuffle(letters)
    return Row(skill, tuple(letters))


def training_rows(skills: tuple[str, ...], rng: random.Random) -> Iterator[Row]:
    """Rows without end for training, none reserved; a skill named twice comes twice as often."""
    while True:
        row = draw(rng.choice(skills), rng)
        if not row.is_reserved:
            yield row


def task_rows() -> dict[tuple[str, str], list[Row]]:
    """All rows of the tasks: (skill, split) -> rows, the same at every call."""
    seen: set[str] = set()
    tables: dict[tuple[str, str], list[Row]] = {}
    for skill in SKILLS:
        rng = random.Random(f"{DATA_SEED}/{skill}")
        for split, size in SPLIT_SIZES.items():
            rows: list[Row] = []
            while len(rows) < size:
                row = draw(skill, rng)
                if row.is_reserved and row.key not in seen:
                    seen.add(row.key)
                    rows.append(row)
            tables[skill, split] = rows
    return tables


def data_files() -> dict[str, str]:
    """Name and content of every data file, e.g. ``sort_search.jsonl``."""
    tables = task_rows()
    files = {
        f"{skill}_{split}.jsonl": "".join(json.dumps(row.document()) + "\n" for row in rows)
        for (skill, split), rows in tables.items()
    }
    for split in GUARDED:
        turns = zip(*(tables[skill, split][:GUARD_ROWS] for skill in SKILLS), strict=True)
        texts = (f"{row.prompt} {row.answer}" for turn in turns for row in turn)
        files[f"text_{split}.jsonl"] = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    return files


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=TASKS_DIR,
    help="Folder for the .jsonl files.  [default: tasks/skills]",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file differs.")
def main(out: Path, check: bool) -> None:
    """Write the rows of the skills tasks, or check that the files hold them.

    Example: python examples/skills/make_data.py --check
    """
    differing = []
    for name, text in data_files().items():
        path = out / name
        if check:
            if not path.is_file() or path.read_bytes() != text.encode():
                differing.append(path)
        else:
            out.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
            click.echo(f"{name}: {text.count(chr(10))} rows")
    for path in differing:
        click.echo(f"{path}: differs from make_data.py. Run it without --check.", err=True)
    if differing:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
