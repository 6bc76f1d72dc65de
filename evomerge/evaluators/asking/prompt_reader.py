"""What requests are in the tokens of a model: templates, special tokens, and room for an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evomerge.evaluators.asking.asked import (
    AskLikelihood,
    AskPlaces,
    AskText,
    Message,
    Prompt,
    Tokens,
)
from evomerge.evaluators.chat_prompts import template_for, templated
from evomerge.foundations.errors import EvaluationError, GenomeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evomerge.genome.task_blocks import EvaluationBlock

ROLES = {"system": "", "user": "User: ", "assistant": "Assistant: "}  # of a chat without a template
NEXT_TURN = "\nUser:"  # ends what is written in such a chat


class PromptReader:
    """Reads requests with one tokenizer.

    Args:
        tokenizer: Of the model.
        settings: Whether a template is applied, and what the system says.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: EvaluationBlock) -> None:
        self.tokenizer = tokenizer
        self._template = template_for(tokenizer, settings.apply_chat_template)
        self._system = settings.system_instruction

    @property
    def prefix(self) -> int | None:
        """What an empty text is replaced by: BOS, else EOS."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        found = eos if bos is None else bos
        return found if isinstance(found, int) else None

    def text(self, prompt: Prompt, *, is_plain: bool = False) -> str:
        """A prompt as the model reads it.

        Without a template a single message stands alone; those of a longer chat have their
        speaker before them.
        """
        if isinstance(prompt, Tokens):
            return str(self.tokenizer.decode(list(prompt.ids)))
        if is_plain and isinstance(prompt, str):
            return prompt
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        if self._system and messages[0].role != "system" and not is_plain:
            messages = (Message("system", self._system), *messages)
        if self._template and not is_plain:
            name = self._template if isinstance(self._template, str) else None
            return templated(self.tokenizer, [one._asdict() for one in messages], name)
        if not is_dialogue(prompt):
            return "\n\n".join(one.content for one in messages)
        turns = [f"{ROLES.get(one.role, '')}{one.content}" for one in messages]
        return "\n".join([*turns, ROLES["assistant"].rstrip()])

    def stops(self, asked: AskText) -> tuple[str, ...]:
        """What ends a text: its own stops, and the next turn where only words tell turns apart."""
        alone = asked.is_plain or not self._template
        return (*asked.stops, NEXT_TURN) if alone and is_dialogue(asked.prompt) else asked.stops

    def prompt(self, asked: AskText, max_length: int) -> tuple[int, ...]:
        """What a text is written after: as many of the last tokens as there is room for.

        Raises:
            GenomeError: the text leaves no room for a prompt.
            EvaluationError: there is nothing to begin with.
        """
        if asked.max_tokens >= max_length:
            raise GenomeError(
                f"{asked.max_tokens} tokens of an answer leave no room for a prompt, the model "
                f"reads {max_length}",
                where="tasks",
                fix="Have shorter answers written.",
            )
        tokens = self.context(asked.prompt, is_plain=asked.is_plain)
        return tuple(tokens[-(max_length - asked.max_tokens) :])

    def context(self, prompt: Prompt, *, is_plain: bool = False) -> list[int]:
        """The tokens of a prompt, with the special tokens that the tokenizer adds, once.

        Raises:
            EvaluationError: there are none.
        """
        if isinstance(prompt, Tokens):
            return list(prompt.ids)
        tokens = self._encoded(self.text(prompt, is_plain=is_plain))
        return tokens or [self._begin()]

    def continuation(self, asked: AskLikelihood, max_length: int) -> tuple[list[int], list[int]]:
        """Context and continuation, encoded as one text; blanks between them are the latter's.

        Raises:
            EvaluationError: the continuation has no token, or more than the model reads.
        """
        before = self.text(asked.prompt, is_plain=asked.is_plain)
        context = before.rstrip()
        whole = before + asked.continuation
        n_before = len(self._encoded(context)) if context else 0
        tokens = self._encoded(whole) if context else self._bare(whole)
        own = tokens[n_before:]
        if not 0 < len(own) <= max_length:
            raise EvaluationError(
                f"the continuation {asked.continuation[:40]!r} has {len(own)} tokens of its own, "
                f"expected 1 to {max_length}"
            )
        return tokens[:n_before] or [self._begin()], own

    def after(self, asked: AskText, text: str) -> tuple[int, ...]:
        """The tokens that a model writes a text in, once it has read the prompt."""
        before = self.text(asked.prompt, is_plain=asked.is_plain)
        read, whole = self._encoded(before), self._encoded(before + text)
        is_same = whole[: len(read)] == read
        return tuple(whole[len(read) :] if is_same else self._bare(text))

    def places(self, asked: AskPlaces, max_length: int) -> tuple[tuple[int, ...], int]:
        """A text whole, and how many of its tokens stand before the first place.

        Raises:
            EvaluationError: it is longer than what the model reads.
        """
        context = self.context(asked.prompt, is_plain=asked.is_plain)
        tokens = (*context, *asked.written)
        if len(tokens) > max_length:
            what = f"a text of {len(tokens)} tokens is to be read, the model reads {max_length}"
            raise EvaluationError(what, fix="Have shorter texts judged.")
        return tokens, 1 if asked.is_whole else len(context)

    def whole(self, text: str) -> list[int]:
        """The tokens of a whole text, without any that the tokenizer would add.

        Raises:
            EvaluationError: there are none.
        """
        found = self._bare(text)
        if not found:
            raise EvaluationError(f"the tokenizer has no token for the text {text[:40]!r}")
        return found

    def _bare(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return found

    def _encoded(self, text: str) -> list[int]:
        """A template may have written the first token already."""
        bos = self.tokenizer.bos_token
        if isinstance(bos, str) and text.startswith(bos):
            return self._bare(text)
        found: list[int] = self.tokenizer.encode(text)
        return found

    def _begin(self) -> int:
        if self.prefix is None:
            raise EvaluationError(
                "the tokenizer has neither BOS nor EOS for a text to begin with",
                fix="Choose another task or tokenizer.",
            )
        return self.prefix


def is_dialogue(prompt: Prompt) -> bool:
    """Whether more than one message is somebody's turn."""
    return isinstance(prompt, tuple) and sum(one.role != "system" for one in prompt) > 1
