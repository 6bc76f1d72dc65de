"""Strategies that damage files: bytes, texts of YAML, trees of data, lines of JSON."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

# Bits of text that readers of YAML, JSON, paths and terminals take for more than text.
FRAGMENTS = (
    "&a [*a, *a]", "*a", "<<: *a", "!!python/object:os.system x", "!!set {a, b}", "!!binary aGk=",
    "!!bool 7", "!!int x", "!!float ''", "!!timestamp 5", "!function utils.x", "- [", "{", "}}",
    ": ", "? ", "| ", ">-\n ", "---", "...", "%YAML 9.9", "%TAG ! x", "=", "~", "null", ".nan",
    "-.inf", "1e999", "0x" + "f" * 4000, "1" * 400, "1:59:59:59", "2024-13-45", "0o9", "0b2",
    "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\ufeff", "\t", "\r", '"\\ud800"', '"\\x1b[31m"',
    '"\\UFFFFFFFF"', "../../x", "/etc/passwd", "$(touch x)", "<script>", "[bold]", "# x", "NaN",
    "-Infinity", "1e400", "[" * 40, "{a: " * 40, "'", '"', "\n", "\n  ", "true", "on", "0",
)  # fmt: skip
# Values of every type, small and out of proportion.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**30, -(10**30), 0.0, -0.5, 1e-320, 1e308,
    float("inf"), float("-inf"), float("nan"), "", " ", "x", "0", "1e3", "nan", "a\nb", "a\x1bb",
    "\ud800", "../../x", "x" * 5000, [], {}, [[]], [None], [1, "x"], {"": 1}, {"a": {"b": []}},
    ["x", "x"], [0.1, 0.2], [2, 1], {"range": [0, 1]}, {"path": ["x"]}, {"model": {"model": 1}},
)  # fmt: skip
KEYS = ("", "x", "name", "value", "path", "model", "range", "choice", "\n", "\x1b", "__class__")


def mangled_bytes(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Files with bytes flipped, deleted, doubled, inserted, or in another encoding."""
    return st.builds(_damage, st.sampled_from(seeds), st.lists(_cut(), min_size=1, max_size=4))


def _cut() -> st.SearchStrategy[tuple[str, float, int, int]]:
    kinds = ("flip", "delete", "double", "insert", "cut off", "move", "encode")
    place = st.floats(0, 1, exclude_max=True)
    return st.tuples(st.sampled_from(kinds), place, st.integers(1, 60), st.integers(0, 10_000))


def _damage(content: bytes, cuts: Sequence[tuple[str, float, int, int]]) -> bytes:
    for kind, place, length, pick in cuts:
        at = int(place * len(content))
        part = content[at : at + length]
        if kind == "flip":
            content = content[:at] + bytes([pick % 256]) + content[at + 1 :]
        elif kind == "delete":
            content = content[:at] + content[at + length :]
        elif kind == "double":
            content = content[:at] + part * (1 + pick % 9) + content[at:]
        elif kind == "insert":
            fragment = FRAGMENTS[pick % len(FRAGMENTS)].encode("utf-8")
            content = content[:at] + fragment + content[at:]
        elif kind == "cut off":
            content = content[:at]
        elif kind == "move":
            content = content[at:] + content[:at]
        elif pick % 10 == 0:
            content = content.decode("utf-8", "replace").encode(("utf-16", "utf-32")[pick % 2])
    return content


Step = tuple[float, str, int, int]


def mangled_data(seeds: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Trees with nodes of other types, and keys dropped, renamed, doubled or moved."""
    kinds = ("replace", "drop", "rename", "add", "double", "wrap", "swap", "deepen", "reverse")
    step = st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(kinds),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
    )
    return st.builds(_graft, st.sampled_from(seeds), st.lists(step, min_size=1, max_size=4))


def _graft(seed: Any, steps: Sequence[Step]) -> Any:
    root = [copy.deepcopy(seed)]
    for place, kind, pick, other in steps:
        homes = _homes(root)
        home, key = homes[int(place * len(homes))]
        value = VALUES[pick % len(VALUES)]
        if kind == "drop" and home is not root:
            del home[key]
        elif kind == "rename" and isinstance(home, dict):
            home[KEYS[pick % len(KEYS)]] = home.pop(key)
        elif kind == "add" and isinstance(home[key], dict):
            home[key][KEYS[other % len(KEYS)]] = copy.deepcopy(value)
        elif kind == "double" and isinstance(home, list) and home is not root:
            home.insert(key, copy.deepcopy(home[key]))
        elif kind == "wrap":
            home[key] = [home[key]] if pick % 2 else {"value": home[key]}
        elif kind == "swap":
            further, further_key = homes[other % len(homes)]
            home[key] = copy.deepcopy(further[further_key])
        elif kind == "deepen":
            for _ in range(other % 60):
                home[key] = [home[key]]
        elif kind == "reverse" and isinstance(home[key], list):
            home[key] = home[key][::-1]
        else:
            home[key] = copy.deepcopy(value)
    return root[0]


def _homes(part: Any) -> list[tuple[Any, Any]]:
    """Every container with one of its keys, outermost first."""
    keys = list(part) if isinstance(part, dict) else range(len(part))
    found: list[tuple[Any, Any]] = [(part, key) for key in keys]
    for key in keys:
        if isinstance(part[key], (dict, list)):
            found += _homes(part[key])
    return found


def mangled_yaml(seeds: Sequence[str]) -> st.SearchStrategy[bytes]:
    """YAML files: half of them damaged as bytes, half as data."""
    trees = mangled_data([yaml.safe_load(text) for text in seeds])
    return mangled_bytes([text.encode() for text in seeds]) | trees.map(as_yaml)


def as_yaml(data: Any) -> bytes:
    """Any tree as YAML, repeated parts as anchors and aliases."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode("utf-8", "replace")


def mangled_lines(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Files of JSON lines: torn, doubled, reordered, of wrong types."""
    return mangled_bytes(seeds) | st.sampled_from(seeds).flatmap(_with_mangled_lines)


def _with_mangled_lines(content: bytes) -> st.SearchStrategy[bytes]:
    lines = content.splitlines()
    count = len(lines)
    trees = mangled_data([json.loads(line) for line in lines])
    edit = st.tuples(
        st.sampled_from(("tree", "drop", "double", "swap", "tear")), st.integers(0, 10_000), trees
    )

    def edited(edits: Sequence[tuple[str, int, Any]]) -> bytes:
        found = list(lines)
        for kind, pick, tree in edits:
            at = pick % len(found) if found else 0
            if kind == "tree" or not found:
                found[at : at + 1] = [json.dumps(tree).encode()]
            elif kind == "drop":
                del found[at]
            elif kind == "double":
                found.insert(pick % (at + 1), found[at])
            elif kind == "swap":
                other = pick * 7 % len(found)
                found[at], found[other] = found[other], found[at]
            else:
                found[at] = found[at][: pick % (len(found[at]) + 1)]
        return b"\n".join(found) + b"\n" * (len(found) != count)

    return st.lists(edit, min_size=1, max_size=4).map(edited)


def mangled_gzip(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Compressed files of JSON lines: the lines mangled, or the compressed bytes."""
    packed = [gzip.compress(seed, mtime=0) for seed in seeds]
    return mangled_bytes(packed) | mangled_lines(seeds).map(lambda c: gzip.compress(c, mtime=0))
