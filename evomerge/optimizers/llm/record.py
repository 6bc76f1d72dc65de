"""What is kept of a generation: what was asked and replied, what it cost, what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.foundations.errors import LedgerError, told
from evomerge.foundations.text_safety import harmless
from evomerge.nouns.space import Space, Value
from evomerge.optimizers.llm.dialogue import Attempt, Dialogue, tokens
from evomerge.optimizers.llm.llm_settings import LlmSettings


@dataclass(frozen=True)
class Usage:
    """What requests took.

    Attributes:
        prompt_tokens: As the server counted them.
        completion_tokens: The same of the replies.
        seconds: From requests to answers, and of waiting.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
        )

    def cost(self, settings: LlmSettings) -> float | None:
        """In the currency of the prices; None without both of them."""
        if settings.prompt_price is None or settings.completion_price is None:
            return None
        total = self.prompt_tokens * settings.prompt_price
        total += self.completion_tokens * settings.completion_price
        return total / 1e6


@dataclass(frozen=True)
class Record:
    """What the search needs of a generation that was asked for.

    Attributes:
        mean: Parameter name -> value; None where the model proposed nothing that could be used.
        thought: The reasons that it gave.
        sigma: Noise around the mean.
        bill: What it took.
        was_silent: Whether nobody was there, however often asked.
    """

    mean: Mapping[str, Value] | None
    thought: str
    sigma: float
    bill: Usage
    was_silent: bool


def name_of(generation: int) -> str:
    """Under what a generation is kept."""
    return f"generation-{generation:04d}.json"


def records_in(folder: Path) -> list[Path]:
    """The file of each generation that is kept in a folder, in their order."""
    return sorted(folder.glob("generation-*.json"))


def record_of(dialogue: Dialogue, sigma: float) -> Record:
    """What came of a dialogue."""
    proposal, attempts = dialogue.proposal, dialogue.attempts
    seconds = sum(attempt.seconds + attempt.waited for attempt in attempts)
    return Record(
        None if proposal is None else proposal.point,
        "" if proposal is None else harmless(proposal.thought),
        sigma,
        Usage(*tokens(attempts), seconds),
        dialogue.was_silent,
    )


def to_json(
    record: Record, dialogue: Dialogue, generation: int, settings: LlmSettings, total: Usage
) -> bytes:
    """All that is kept of a generation; :func:`from_json` reads back what the search needs.

    Args:
        record: What came of it.
        dialogue: What was said.
        generation: Which one, from 1.
        settings: Who was asked.
        total: The bill of all generations, this one included.
    """
    data = {
        "generation": generation,
        "model": settings.model,
        "base_url": settings.base_url,
        "sigma": record.sigma,
        "is_fallback": record.mean is None,
        "was_silent": record.was_silent,
        "mean": None if record.mean is None else dict(record.mean),
        "thought": record.thought,
        "bill": _bill(record.bill, settings),
        "bill_so_far": _bill(total, settings),
        "prompt": [{k: harmless(v) for k, v in message.items()} for message in dialogue.prompt],
        "attempts": [_attempt(attempt) for attempt in dialogue.attempts],
    }
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def from_json(content: bytes, generation: int, space: Space) -> Record:
    """What :func:`to_json` wrote.

    Raises:
        LedgerError: it is damaged, or of another search.
    """
    try:
        data = json.loads(content)
        mean = data["mean"]
        _check(mean, data["generation"] == generation, space)
        bill = data["bill"]
        return Record(
            mean,
            str(data["thought"]),
            float(data["sigma"]),
            Usage(
                int(bill["prompt_tokens"]),
                int(bill["completion_tokens"]),
                float(bill["seconds"]),
            ),
            bool(data["was_silent"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LedgerError(
            f"cannot be read as what the model proposed ({told(error)})",
            where=name_of(generation),
            fix="Put the file back as it was, or start a new run folder.",
        ) from error


def genotype_of(mean: Mapping[str, Value], space: Space) -> NDArray[np.float64]:
    """The coordinates of a mean, shape (n_dims,)."""
    return np.clip(space.encode(mean), 0.0, 1.0)


def _check(mean: Any, is_same: bool, space: Space) -> None:
    if not is_same:
        raise ValueError("it is of another generation")
    if mean is not None and not np.isfinite(space.encode(mean)).all():
        raise ValueError("its mean is no point")


def _bill(bill: Usage, settings: LlmSettings) -> dict[str, Any]:
    cost = bill.cost(settings)
    priced = {} if cost is None else {"cost": cost}
    return {
        "prompt_tokens": bill.prompt_tokens,
        "completion_tokens": bill.completion_tokens,
        "seconds": round(bill.seconds, 3),
        **priced,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "correction": harmless(attempt.correction),
        "reply": harmless(attempt.answer.text),
        "problem": harmless(attempt.problem),
        "cause": attempt.cause,
        "prompt_tokens": attempt.answer.prompt_tokens,
        "completion_tokens": attempt.answer.completion_tokens,
        "seconds": round(attempt.seconds, 3),
        "waited": round(attempt.waited, 3),
    }
