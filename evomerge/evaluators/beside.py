"""What evaluators hold in memory beside the model that is scored, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Beside:
    """Something that takes memory in every worker.

    Attributes:
        n_waiting: Bytes in main memory.
        n_running: Bytes on its device, where that has a memory of its own.
        device: Which one, as torch names it.
        by_turns: Whether it is there only while it is asked: of all such things, one at a time.
    """

    n_waiting: int
    n_running: int = 0
    device: str = "cpu"
    by_turns: bool = False

    @property
    def n_bytes(self) -> int:
        """All of it."""
        return self.n_waiting + self.n_running


Room = Mapping[str, Beside]  # in words -> what it takes


def shared_room(rooms: Iterable[Room]) -> dict[str, Beside]:
    """What several hold in memory: what goes by one name they share, the largest of it."""
    found: dict[str, Beside] = {}
    for what, one in chain.from_iterable(room.items() for room in rooms):
        found[what] = max(found.get(what, one), one, key=lambda known: known.n_bytes)
    return found


def largest_in_turn(held: Room, device: str) -> dict[str, int]:
    """Bytes on a device: of what stays there, and of the largest that is there in its turn.

    Args:
        held: By all splits together.
        device: With or without a number; without one it is any of its kind.
    """
    here = {what: one for what, one in held.items() if _is_same(one.device, device)}
    in_turn = {what: one.n_running for what, one in here.items() if one.by_turns}
    stays = {what: one.n_running for what, one in here.items() if not one.by_turns}
    if in_turn:
        largest = max(in_turn, key=in_turn.__getitem__)
        stays[f"{largest}, in its turn"] = in_turn[largest]
    return {what: n_bytes for what, n_bytes in stays.items() if n_bytes}


def _is_same(one: str, other: str) -> bool:
    (kind, _, number), (other_kind, _, other_number) = one.partition(":"), other.partition(":")
    return kind == other_kind and (not number or not other_number or number == other_number)
