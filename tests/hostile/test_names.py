"""Any name at any place where a name can stand: a command ends well, or with a sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.conftest import _template, make_workplace  # noqa: F401  # a fixture
from tests.hostile.things import OBEYED, assert_told, command

NAMES = [
    # Longer than a file's name, or a path, may be.
    *("x" * 255, "x" * 256, "x" * 300, "ü" * 128, "/".join(["x" * 200] * 25), "x/" * 3000 + "x"),
    *("../" * 2000 + "x", "./" * 100 + "x", "x" * 100_000),
    # What a terminal obeys or hides, what ends a line, what is no character.
    *("a\nb", "a\n", "\nb", "a\rb", "a\r\nb", "a\tb", "a\x0bb", "a\x0cb", "a\x00b", "\x00"),
    *("\x1b[31mred", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\y", "\x1bP1$r\x1b\\"),
    *("a\x07b", "a\x08b", "a\x7fb", "a\x85b", "a\x9b31mb", "a\u2028b", "a\u2029b"),
    *("a\u202eb", "a\u202db", "a\u2066b\u2069", "a\u200bb", "a\u200db", "a\ufeffb", "\u061ca"),
    *("a\ud800b", "a\udfffb", "a\udc80b", "\udcff\udcfe", "a\ufffeb", "a\uffffb"),
    # Names with a meaning of their own to systems, shells, formats and libraries.
    *(".", "..", "../..", "...", "/", "//", "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem"),
    *("/dev/fd/9", "/proc/self/fd", "/etc", "~", "~root", "~/x", "-", "-x", "--help", "--", "@x"),
    *("x@y", "x@", "a@b@c", "+x", "x+y", "x+", "+", "$HOME", "$(touch x)", "`touch x`", "x;touch y"),
    *("x|y", "x&y", "x>y", "x*", "x?", "[x]", "x\\y", "C:\\x", "\\\\host\\x", "%s", "%n%d", "{}"),
    *("{0}", "{x!r}", "${x}", "#x", "x #y", "x: y", "x:", "- x", "? x", "! x", "!!python/x", "&a"),
    *("*a", "'", '"', "''", "|", ">", "null", "true", "1e5", "0x10", ".nan", "[bold]x[/bold]"),
    *("[/red]", "<b>x</b>", "&amp;", "{{ x }}", "{% x %}", "x ", " x", "x.", " ", "  ", "", "\t"),
    *("CON", "NUL.txt", "aux", "model.json", "x.safetensors", "config.json", "x.gguf", "x.bin"),
    *("http://x", "https://x/y", "file:///etc", "s3://x/y", "hf://x/y", "a/b/c", "org/model"),
    # Letters of all kinds.
    *("ü", "u\u0308", "模型", "نموذج", "שלום", "🙂", "👩\u200d👩\u200d👧", "e\u0301" * 50, "Z\u0351\u036b"),
    *("İ", "ß", "ﬀ", "\u00a0", "\u3000x", "ｘ", "𝕏", "\U0010ffff"),
]  # fmt: skip
