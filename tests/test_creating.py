"""Where a user names a result: what is there stays, unless he says otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from evomerge.foundations.creating import (
    MARK,
    create,
    obstacle_to_folder,
    put_folder,
    refuse_inside_needed,
    refuse_occupied_folder,
)
from evomerge.foundations.errors import LostFileError, OccupiedError
from tests.hostile.things import SPECIAL, THINGS

LINKS = ("a link to nothing", "a loop of links", "a link elsewhere")


def state(folder: Path) -> dict[str, object]:
    """Kind and content of everything below a folder."""
    return {
        str(path.relative_to(folder)): (
            os.lstat(path).st_mode,
            os.lstat(path).st_ino,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", [*SPECIAL, *LINKS, "a folder"])
def test_what_is_no_file_is_never_written(place, kind, force):
    THINGS[kind](place / "x")
    before = state(place.parent)
    with pytest.raises(OccupiedError, match="x: is "):
        create(place / "x", "new", force=force)
    assert state(place.parent) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", [*SPECIAL, *LINKS, "a text"])
def test_what_is_no_folder_is_no_place_for_a_model(place, kind, force):
    THINGS[kind](place / "x")
    with pytest.raises(OccupiedError, match="x: is "):
        refuse_occupied_folder(place / "x", force=force)


@pytest.mark.parametrize("content", ["old", "", "new and more", "ne"])
def test_another_file_is_replaced_only_by_force(place, content):
    (place / "x").write_text(content)
    with pytest.raises(OccupiedError, match=r"x: exists, and holds something else. .* add --force"):
        create(place / "x", "new")
    assert (place / "x").read_text() == content
    assert create(place / "x", "new", force=True)
    assert (place / "x").read_text() == "new"


def test_the_same_content_is_no_overwrite(place):
    assert create(place / "below" / "x", "new")
    before = state(place)
    assert not create(place / "below" / "x", "new")
    assert state(place) == before


def test_what_appears_at_the_last_moment_is_kept(place, monkeypatch):
    made = os.open

    def other_was_faster(path, *arguments):
        (place / "x").write_text("theirs")
        return made(path, *arguments)

    monkeypatch.setattr(os, "open", other_was_faster)
    with pytest.raises(OccupiedError, match="x: has just appeared"):
        create(place / "x", "mine")
    assert (place / "x").read_text() == "theirs"


def test_a_file_that_cannot_be_written_whole_is_not_left(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LostFileError, match="No space left"):
        create(place / "x", "new")
    assert list(place.iterdir()) == []


def a_model(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    (folder / MARK).write_text("merge_method: linear")
    return folder


def test_a_built_folder_takes_the_place_of_nothing_or_of_an_empty_one(place):
    put_folder(a_model(place / "made", "1"), place / "new")
    (place / "empty").mkdir()
    put_folder(a_model(place / "made", "2"), place / "empty")
    assert (place / "new" / "config.json").read_text() == "1"
    assert (place / "empty" / "config.json").read_text() == "2"


def test_a_model_is_replaced_only_by_force(place):
    a_model(place / "x", "old")
    with pytest.raises(OccupiedError, match=r"x: holds a built model already. .* add --force"):
        put_folder(a_model(place / "made", "new"), place / "x")
    assert (place / "x" / "config.json").read_text() == "old"
    put_folder(place / "made", place / "x", force=True)
    assert (place / "x" / "config.json").read_text() == "new"


@pytest.mark.parametrize("name", ["diary.docx", ".env", "id_rsa", "notes.yml", "model.gguf"])
def test_a_model_with_files_that_no_build_writes_is_replaced_by_nobody(place, name):
    a_model(place / "x", "old")
    (place / "x" / name).write_text("mine")
    with pytest.raises(OccupiedError, match=f"other things than a built model, {name} among them"):
        refuse_occupied_folder(place / "x", force=True)


def test_a_model_that_nobody_built_is_replaced_by_nobody(place):
    a_model(place / "x", "trained for weeks")
    (place / "x" / MARK).unlink()
    with pytest.raises(OccupiedError, match=r"and no mergekit_config\.yml"):
        refuse_occupied_folder(place / "x", force=True)


def test_a_model_of_the_recipe_is_not_replaced_by_its_merge(place):
    a_model(place / "x", "a source")
    (place / "below").mkdir()
    with pytest.raises(OccupiedError, match="is a model of the recipe"):
        refuse_occupied_folder(place / "x", force=True, needed=[place / "below" / ".." / "x"])


@pytest.mark.parametrize("written", ["x/config.json", "x/new/below", "link/config.json"])
def test_nothing_is_written_into_a_model_of_the_recipe(place, written):
    a_model(place / "x", "a source")
    (place / "link").symlink_to("x")
    with pytest.raises(OccupiedError, match="link, which is a model of the recipe"):
        refuse_inside_needed(Path(written), [Path("org/model"), place / "link"])
    refuse_inside_needed(place / "x.yml", [Path("x")])


def test_a_folder_that_cannot_be_is_known_before_it_is_made(place, monkeypatch):
    (place / "file").write_text("")
    for path, reason in (
        ("file", "file is a file, expected a folder"),
        ("file/below", "file is a file, expected a folder"),
        ("x" * 5000, "no folder can have this name"),
        ("new/" + "x" * 300, "no folder can have this name"),
        ("new\0", "no folder can have this name"),
    ):
        assert reason in obstacle_to_folder(Path(path))
    assert obstacle_to_folder(place) == obstacle_to_folder(Path("new/below")) == ""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert obstacle_to_folder(Path("new")) == f"{place} may not be written by this user"
    monkeypatch.setattr(os, "statvfs", lambda path: Mock(f_flag=os.ST_RDONLY))
    assert obstacle_to_folder(Path("new/below")) == f"{place} is read-only"
    assert state(place).keys() == {"file"}


@pytest.mark.parametrize("other", ["below/mine", "config.json/mine", "link"])
def test_a_folder_with_other_things_is_replaced_by_nobody(place, other):
    (place / "x").mkdir()
    if other == "link":
        (place / "x" / "link").symlink_to("..")
    else:
        a_model((place / "x" / other).parent, "mine")
    before = state(place / "x")
    with pytest.raises(OccupiedError, match="x: holds other things than a built model"):
        put_folder(a_model(place / "made", "new"), place / "x", force=True)
    assert state(place / "x") == before


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_ctrl_c_between_two_moves_loses_neither(place, monkeypatch, moment):
    a_model(place / "x", "old")
    made = a_model(place / "made", "new")
    rename = Path.rename

    def interrupted(self, target):
        if self == made and moment == "before":
            raise KeyboardInterrupt
        rename(self, target)
        if self == made:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put_folder(made, place / "x", force=True)
    expected = {"before": "old", "after": "new"}[moment]
    assert (place / "x" / "config.json").read_text() == expected
    left = {"before": {"x", "made"}, "after": {"x"}}[moment]
    assert {path.name for path in place.iterdir()} == left


def test_a_model_that_cannot_be_moved_leaves_the_old_one(place, monkeypatch):
    a_model(place / "x", "old")
    made = a_model(place / "made", "new")
    rename = Path.rename

    def broken(self, target):
        if self == made:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(LostFileError, match="Input/output error"):
        put_folder(made, place / "x", force=True)
    assert (place / "x" / "config.json").read_text() == "old"
