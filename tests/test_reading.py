"""The doors for reading: what is no regular file is a sentence, at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from evomerge.foundations.errors import EvomergeError, UnreadableError
from evomerge.foundations.reading import (
    is_file,
    is_folder,
    is_there,
    kind_of,
    listed,
    read_bytes,
    read_text,
)


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the whole path is too long for one


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


UNREADABLE = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (Path.mkdir, "is a folder, expected a regular file"),
    "a FIFO": (os.mkfifo, "is a FIFO, expected a regular file"),
    "a socket": (a_socket, "is a socket, expected a regular file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "is a device, expected"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "no such file"),
    "a loop of links": (a_loop, "symbolic links"),
    "a terabyte": (sparse, "1099511627776 bytes, more than the 100 it may have"),
    "a little too much": (lambda path: path.write_bytes(bytes(101)), "101 bytes, more than"),
    "no UTF-8": (lambda path: path.write_bytes(b"a\n\xff"), "byte 0xff is not UTF-8"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    make, message = UNREADABLE[kind]
    make(tmp_path / "x")
    with pytest.raises(UnreadableError) as caught:
        read_text(tmp_path / "x", 100)
    assert message in str(caught.value)
    assert str(tmp_path / "x") in str(caught.value)
    assert isinstance(caught.value, EvomergeError)
    assert isinstance(caught.value, OSError)


IMPOSSIBLE = {
    "too long": "x" * 300,
    "too long in all": "/".join(["x" * 200] * 30),
    "a null character": "a\0b",
    "half a character": "a\ud800b",
    "below a file": "file/x",
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_name_that_no_file_can_have_is_one_sentence_and_no_file(tmp_path, name):
    (tmp_path / "file").touch()
    path = tmp_path / IMPOSSIBLE[name]
    for door in (read_bytes, listed):
        with pytest.raises(UnreadableError, match="cannot be read"):
            door(path)
    assert not any(ask(path) for ask in (is_file, is_folder, is_there, kind_of))


def test_a_link_is_followed_only_where_links_may_be(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    assert read_text(tmp_path / "link") == "text"
    with pytest.raises(UnreadableError, match="is a symbolic link, expected a regular file"):
        read_text(tmp_path / "link", follow=False)


def test_as_many_bytes_as_are_allowed_are_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100))
    assert read_bytes(tmp_path / "file", 100) == bytes(100)


def test_a_folder_is_listed_in_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert [path.name for path in listed(tmp_path)] == ["a", "b"]


def test_a_file_without_a_size_is_read_to_its_end():
    assert read_bytes(Path("/proc/self/maps")).endswith(b"\n")


def test_a_large_limit_takes_no_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert read_bytes(tmp_path / "file", 1 << 50) == b"x"
