"""Chats as a tokenizer's template writes them, where the genome wants one and there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evomerge.foundations.errors import GenomeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def template_for(tokenizer: PreTrainedTokenizerBase, wanted: bool | str | None) -> bool | str:
    """Whether a chat template is applied; its name where the genome names one.

    Args:
        tokenizer: Which may have templates.
        wanted: ``apply_chat_template`` of the genome.

    Raises:
        GenomeError: the tokenizer has no such template.
    """
    template = tokenizer.chat_template
    if wanted is None:
        return template is not None
    where = "evaluation.apply_chat_template"
    if wanted is not False and template is None:
        raise GenomeError("the tokenizer has no chat template", where=where, fix="Write false.")
    if isinstance(wanted, str) and not (isinstance(template, dict) and wanted in template):
        names = ", ".join(sorted(template)) if isinstance(template, dict) else "no names"
        raise GenomeError(f"no chat template {wanted!r} (the tokenizer has: {names})", where=where)
    return wanted


def templated(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    name: str | None = None,
    *,
    add_generation_prompt: bool = True,
) -> str:
    """A chat as one prompt; without the system turn where the template refuses it.

    Args:
        tokenizer: With a template.
        messages: ``role`` and ``content`` of each.
        name: One of several templates; None for the default.
        add_generation_prompt: Whether an answer is to follow; else the last message goes on.
    """
    from jinja2 import TemplateError  # transformers loads it with the first template

    settings: dict[str, Any] = {
        "chat_template": name,
        "tokenize": False,
        "add_generation_prompt": add_generation_prompt,
        "continue_final_message": not add_generation_prompt,
    }
    try:
        return str(tokenizer.apply_chat_template(list(messages), **settings))
    except TemplateError:
        turns = [turn for turn in messages if turn["role"] != "system"]
        return str(tokenizer.apply_chat_template(turns, **settings))
