"""What mergekit takes as the chat template of a merge."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from evomerge.foundations.reading import listed

_SHORTEST_TEXT = 20  # letters


def template_names() -> list[str]:
    """The names of the templates that mergekit ships, in order."""
    folder = Path(str(files("mergekit._data.chat_templates")))
    return [path.stem for path in listed(folder) if path.suffix == ".jinja"]


def is_template(text: str) -> bool:
    """Whether it is ``auto``, one of the names, or a Jinja text; an empty one changes nothing."""
    if text in ("", "auto", *template_names()):
        return True
    return len(text) >= _SHORTEST_TEXT and "{" in text
