"""Strangers' texts as rich draws them: no markup, nothing that a terminal obeys."""

from __future__ import annotations

from rich.text import Text

from evomerge.foundations.text_safety import harmless


def plain(text: str = "", style: str = "") -> Text:
    """The text as it stands, harmless."""
    return Text(harmless(text), style=style)
