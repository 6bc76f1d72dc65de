"""Keys of `genome:` that a file has under `space:`: one form for both, and where each stands.

`space: {name: parameters, merge_method: ties}` and `merge_method: ties` alone are one genome, the
second being mergekit-evolve's form.
"""

from __future__ import annotations

from dataclasses import replace

from evomerge.genome.merge_block import SPACE_KEYS
from evomerge.genome.yaml_file import YamlFile

_BELOW = "genome.space."


def lifted(source: YamlFile) -> YamlFile:
    """The file with the keys that all spaces share in `genome:` itself.

    One that stands in both places stays, and the schema refuses it.
    """
    block = source.data.get("genome")
    space = block.get("space") if isinstance(block, dict) else None
    if not isinstance(space, dict):
        return source
    moved = {key: value for key, value in space.items() if key in SPACE_KEYS - block.keys()}
    rest = {key: value for key, value in space.items() if key not in moved}
    return replace(
        source,
        data={**source.data, "genome": {**block, "space": rest, **moved}},
        in_space=source.in_space | set(moved),
    )


def place_of(key: str) -> str:
    """Where what an override sets stands after :func:`lifted`."""
    below = key.removeprefix(_BELOW)
    is_shared = below != key and below.replace("[", ".").partition(".")[0] in SPACE_KEYS
    return f"genome.{below}" if is_shared else key
