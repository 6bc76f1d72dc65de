"""Where candidates come from as older versions wrote it: one text, read by pattern here alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evomerge.nouns.origin import Origin, OriginKind, proposed

_KINDS = {kind.value: kind for kind in (OriginKind.MODEL, OriginKind.BASE, OriginKind.SEED)}
_EPOCH = re.compile(r"(?:^|, )epoch (\d{1,6})$")
_PARTICLE = re.compile(r"(?:^|, )particle (\d{1,6}), iteration (\d{1,6})$")
_ISLAND = re.compile(r"island (\d{1,6}) ")


def origin_in(text: str) -> Origin:
    """The record that a text stood for, without which of several optimizers it means."""
    kind, _, name = text.partition(" ")
    if kind in _KINDS and name:
        return Origin(_KINDS[kind], name)
    if text == str(Origin(OriginKind.AVERAGE)):
        return Origin(OriginKind.AVERAGE)
    if kind.rstrip(",") != OriginKind.OPTIMIZER.value:
        return Origin(OriginKind.FIXED, text)
    if match := _EPOCH.search(name):
        return proposed(name, is_taught=True, epoch=int(match[1]))
    if match := _PARTICLE.search(name):
        return proposed(name, particle=int(match[1]), iteration=int(match[2]))
    return proposed(name)


def origin_line(origin: Origin) -> dict[str, Any]:
    """Where a candidate comes from as a ledger holds it, without what is not said."""
    line = {
        "name": origin.name,
        "link": origin.link,
        "numbers": dict(origin.numbers),
        "is_taught": origin.is_taught,
    }
    return {"kind": origin.kind.value, **{key: value for key, value in line.items() if value}}


class OldOrigins:
    """Lines of a ledger -> the same with a record where an older version wrote a text.

    The names of islands say whose a trial is. Links of a chain follow one another: the next one
    begins where a trial has another's name, or the epochs or iterations begin anew.

    Args:
        header: Line 1 of the ledger.
    """

    def __init__(self, header: Mapping[str, Any]) -> None:
        self._links = re.split(r" -> | \| ", header["optimizer"])
        self._link = 0
        self._places: list[Mapping[str, int]] = []  # of this link

    def read(self, event: dict[str, Any]) -> dict[str, Any]:
        """The line; lines are read in their order."""
        text = event.get("origin")
        if event.get("kind") != "trial" or not isinstance(text, str):
            return event
        origin = origin_in(text)
        if not origin.is_baseline and len(self._links) > 1:
            origin = replace(origin, link=self._link_of(origin))
        return {**event, "origin": origin_line(origin)}

    def _link_of(self, origin: Origin) -> int:
        if match := _ISLAND.match(origin.name):
            return min(max(int(match[1]), 1), len(self._links)) - 1
        name, last = origin.name.partition(", ")[0], len(self._links)
        if name != self._links[self._link] or self._begins_anew(origin.numbers):
            later = (i for i in range(self._link + 1, last) if self._links[i] == name)
            self._link, self._places = next(later, self._link), []
        self._places.append(origin.numbers)
        return self._link

    def _begins_anew(self, now: Mapping[str, int]) -> bool:
        """Whether the search was here, or farther, before."""
        iteration = now.get("iteration", 0)
        return bool(now) and any(
            now == one or iteration < one.get("iteration", 0) for one in self._places
        )
