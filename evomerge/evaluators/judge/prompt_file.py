"""What a judge is asked: ``judge_prompts.jsonl``, as FastChat has it."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluators.asking.asked import Message
from evomerge.evaluators.task_files import is_whole, named_rows, wrong_line
from evomerge.foundations.errors import nearest

_FIELDS = ("name", "type", "system_prompt", "prompt_template", "output_format")


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt with places for a question and its answers.

    Attributes:
        name: As ``single-v1``.
        system: What the judge is told it is; may be empty.
        template: The prompt, its places in braces as Python formats texts.
        output_format: What the verdict looks like: ``[[rating]]`` or ``[[A]]``.
    """

    name: str
    system: str
    template: str
    output_format: str

    @property
    def places(self) -> tuple[str, ...]:
        """Names of what is filled in, each once."""
        return tuple(dict.fromkeys(name for _, name in _pieces(self.template) if name))

    def filled(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """The messages for a judge; braces in what is filled in mean nothing.

        Args:
            values: A text for each place, and perhaps others.
        """
        text = "".join(
            literal + (values[name] if name else "") for literal, name in _pieces(self.template)
        )
        system = (Message("system", self.system),) if self.system.strip() else ()
        return (*system, Message("user", text))

    @property
    def data(self) -> list[str]:
        """What judgments stand on."""
        return [self.system, self.template]


def prompts_in(file: str) -> dict[str, JudgePrompt]:
    """The prompts of a file, by name.

    Raises:
        GenomeError: it cannot be read, or lines of it are no prompts; all of these.
    """
    return named_rows(file, _prompt, "name")


def unfit(
    prompt: JudgePrompt | None,
    name: str,
    output: str,
    values: Sequence[str],
    needed: Sequence[str],
    known: Sequence[str],
) -> Iterator[str]:
    """Why a prompt cannot be asked, in parts of sentences.

    Args:
        prompt: As the file has it, None where it has none.
        name: That it should have.
        output: The format of its verdict.
        values: Places for which there is a text.
        needed: Those of them that it has to have.
        known: Names of all prompts of the file.
    """
    if prompt is None:
        yield f"has no prompt {name!r}{nearest(name, known)} (it has: {', '.join(known) or 'none'})"
        return
    if prompt.output_format != output:
        yield f"prompt {name!r} has the output_format {prompt.output_format!r}, expected {output!r}"
    for place in prompt.places:
        if place not in values:
            has = ", ".join(values)
            yield f"prompt {name!r} has a place {{{place}}} without a value (there are: {has})"
    for place in needed:
        if place not in prompt.places:
            yield f"prompt {name!r} has no place {{{place}}}: the judge would not see what it rates"


def _prompt(row: Any, file: str, line: int) -> JudgePrompt:
    own = row if isinstance(row, dict) else {}
    missing = [key for key in _FIELDS if not isinstance(own.get(key), str)]
    if missing:
        raise wrong_line(file, line, f"has no text under {', '.join(map(repr, missing))}")
    if not is_whole("".join(own[key] for key in _FIELDS)):
        raise wrong_line(file, line, "holds half of a character")
    try:
        list(_pieces(own["prompt_template"]))
    except ValueError as error:
        raise wrong_line(file, line, f"has a prompt_template that is none: {error}") from error
    return JudgePrompt(
        own["name"], own["system_prompt"], own["prompt_template"], own["output_format"]
    )


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """Text and the name of the place that follows it; empty where none does.

    Raises:
        ValueError: a brace stands alone, or a place is more than a name.
    """
    for literal, name, form, conversion in string.Formatter().parse(template):
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"{{{name}}} is no name of a place; write {{{{ for a brace")
        yield literal, name or ""
