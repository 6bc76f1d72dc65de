"""Stop texts: where each row of a generation ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from evomerge.foundations.deadline import Deadline


class StopTexts:
    """Finds stop texts at the end of rows, with every new token.

    Args:
        tokenizer: Decodes the tail of a row.
        stops: Stop texts, none empty.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._last_letters = {stop[-1] for stop in stops}
        # Two more tokens than the text needs: it may come out in other pieces.
        encoded = [tokenizer.encode(stop, add_special_tokens=False) for stop in stops]
        self._tail = max(map(len, encoded), default=0) + 2
        self._endings: dict[int, bool] = {}

    def are_in(self, rows: Sequence[list[int]]) -> list[bool]:
        """Whether each row ends in a stop text.

        Args:
            rows: New tokens of each row, at least one.
        """
        found = [self._may_end(row[-1]) for row in rows]
        for index, row in enumerate(rows):
            if found[index]:
                text = self._tokenizer.decode(row[-self._tail :])
                found[index] = any(stop in text for stop in self._stops)
        return found

    def _may_end(self, token: int) -> bool:
        """Whether a stop text can end in this token; decoding every tail costs too much.

        True also where the token's own text may not be what it adds: parts of a letter, and
        blanks that a tokenizer drops at the beginning.
        """
        if token not in self._endings:
            text = self._tokenizer.decode([token])
            self._endings[token] = (
                "\ufffd" in text
                or " " in self._last_letters
                or any(letter in text for letter in self._last_letters)
            )
        return self._endings[token]


class StopAtText(StoppingCriteria):
    """Ends each row of transformers' ``generate`` at its own first stop text.

    Args:
        stops: The stop texts.
        prompt_width: Columns of prompt and padding, never searched.
        deadline: By when the trial has to be done.
    """

    def __init__(self, stops: StopTexts, prompt_width: int, deadline: Deadline) -> None:
        self._stops = stops
        self._prompt_width = prompt_width
        self._deadline = deadline
        self._is_done: torch.Tensor | None = None

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Which rows are done, shape (rows,); the deadline is looked at with every token."""
        self._deadline.check()
        if self._is_done is None:
            self._is_done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        open_rows = (~self._is_done).nonzero().flatten()
        found = self._stops.are_in(input_ids[open_rows, self._prompt_width :].tolist())
        self._is_done[open_rows] = torch.tensor(found, device=input_ids.device)
        return self._is_done


class StopBeams(StoppingCriteria):
    """Ends a beam search once the best of its texts ends in a stop text, as lm-eval has it.

    The rows of the pass are one prompt's beams, the best of them first. They change places: what
    ended a text may stand a little before its end when that text comes to be the first.

    Args:
        tokenizer: Decodes the tail of a row.
        stops: Stop texts, none empty.
        prompt_width: Columns of the prompt, never searched.
        deadline: By when the trial has to be done.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        stops: Sequence[str],
        prompt_width: int,
        deadline: Deadline,
    ) -> None:
        self._tokenizer = tokenizer
        encoded = {stop: tokenizer.encode(stop, add_special_tokens=False) for stop in stops}
        self._tails = {stop: len(ids) + 2 for stop, ids in encoded.items()}
        self._prompt_width = prompt_width
        self._deadline = deadline

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Whether the rows are done, all of them together, shape (rows,)."""
        self._deadline.check()
        new = input_ids[0, self._prompt_width :].tolist()
        tails = ((stop, self._tokenizer.decode(new[-tail:])) for stop, tail in self._tails.items())
        is_done = any(stop in text for stop, text in tails)
        return torch.full((len(input_ids),), is_done, device=input_ids.device)
