"""A reward model: how good it finds replies to prompts, a number each.

It is what transformers loads for the classification of sequences, with one label: a number. It
reads prompt and reply in its own chat template, and as a pair of texts where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from evomerge.evaluators.asking.asked import Outsider
from evomerge.evaluators.side_model import SideModel
from evomerge.foundations.errors import EvaluationError, RunError, why

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.foundations.deadline import Deadline

TOKENS_OF_A_PASS = {"cpu": 2048}
TOKENS_ELSEWHERE = 16384
_SHOWN = 40  # characters of a prompt
# Whatever torch and transformers raise on a model that they cannot load.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Reward:
    """What a reward model says of a reply.

    Attributes:
        value: Its number.
        n_tokens: Of the reply, as its tokenizer counts them.
        is_whole: Whether it read all of it; else the end did not fit.
    """

    value: float
    n_tokens: int
    is_whole: bool = True


class RewardModel(Outsider):
    """Scores pairs of prompt and reply; loaded when it is first asked, and kept.

    Args:
        place: Which one.
    """

    def __init__(self, place: SideModel) -> None:
        self._place = place
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
        self._tokens = 0  # of a pass; 0: not known yet

    def answers(self, asked: Sequence[tuple[str, str]], deadline: Deadline) -> Sequence[Reward]:
        """See :meth:`Outsider.answers`; prompt and reply each.

        Of replies that do not fit after their prompts, the ends are not read.

        Raises:
            RunError: it cannot be loaded, or a prompt does not fit.
            EvaluationError: it has no number for a reply, or memory does not hold one row.
        """
        from evomerge.inference.base import context_length

        model, tokenizer = self._opened()
        # Tables of positions may be longer than what there is to read.
        most = min(context_length(model.config, tokenizer), tokenizer.model_max_length)
        fitted = [self._fitted(tokenizer, pair, most) for pair in asked]
        rows = [row for row, _ in fitted]
        values: dict[int, float] = {}
        for places in self._batches(rows):
            deadline.check()
            values |= zip(places, self._values(model, [rows[i] for i in places]), strict=True)
        return [
            Reward(values[place], len(tokenizer(reply)["input_ids"]), fitted[place][1])
            for place, (_, reply) in enumerate(asked)
        ]

    def _fitted(
        self, tokenizer: PreTrainedTokenizerBase, pair: tuple[str, str], most: int
    ) -> tuple[dict[str, list[int]], bool]:
        """What is read for a pair, and whether that is all of it.

        Raises:
            RunError: the prompt alone is longer than what it reads.
        """
        prompt, reply = pair
        row = _row(tokenizer, prompt, reply)
        n_over = len(row["input_ids"]) - most
        if n_over <= 0:
            return row, True
        ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
        n_kept = len(ids)
        while n_over > 0 and n_kept > 0:
            n_kept = max(n_kept - n_over, 0)
            row = _row(tokenizer, prompt, str(tokenizer.decode(ids[:n_kept])))
            n_over = len(row["input_ids"]) - most
        if n_over > 0:
            begun = prompt if len(prompt) <= _SHOWN else f"{prompt[:_SHOWN]}..."
            raise RunError(
                f"the reward model reads {most} tokens, and the prompt {begun!r} has {n_over} more",
                where=self._place.path,
                fix="Shorten the prompt, or name a model that reads more.",
            )
        return row, False

    def _opened(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is None:
            self._loaded = _load(self._place)
            kind = self._loaded[0].device.type
            self._tokens = TOKENS_OF_A_PASS.get(kind, TOKENS_ELSEWHERE)
        return self._loaded

    def _batches(self, rows: Sequence[dict[str, list[int]]]) -> Iterator[list[int]]:
        """Places of rows that are read in one pass, long ones first."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
        start = 0
        while start < len(order):
            longest = len(rows[order[start]]["input_ids"])
            batch = order[start : start + max(self._tokens // longest, 1)]
            yield batch
            start += len(batch)

    def _values(self, model: PreTrainedModel, rows: list[dict[str, list[int]]]) -> list[float]:
        """Of some rows; half of them at a time where memory runs out."""
        from evomerge.inference.shortage import give_back, is_shortage

        try:
            return _passed(model, rows)
        except (RuntimeError, MemoryError, IndexError) as error:
            if not is_shortage(error) or len(rows) == 1:
                raise EvaluationError(f"the reward model failed: {why(error)}") from error
            give_back(error)
        half = len(rows) // 2
        self._tokens = max(self._tokens // 2, 1)
        return [*self._values(model, rows[:half]), *self._values(model, rows[half:])]


# With the fingerprint of its files; no memory is held longer than somebody has it.
_SHARED: WeakValueDictionary[tuple[SideModel, str], RewardModel] = WeakValueDictionary()


def reward_model(place: SideModel) -> RewardModel:
    """The one of this process: tasks and splits that name the same share it while they have it."""
    return _SHARED.setdefault((place, place.fingerprint), RewardModel(place))


def _load(place: SideModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer.

    Raises:
        RunError: they cannot be loaded, or the model has no trained number.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from evomerge.models.quiet import quiet_transformers

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(place.path, **place.source)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                place.path,
                **place.weights,
                output_loading_info=True,
                **place.source,
            )
        missing = sorted(report["missing_keys"])
        if missing or model.config.num_labels != 1:
            what = f"{missing[0]} is not among its weights" if missing else "it has several labels"
            raise ValueError(f"{what}, expected a reward model, which gives one number")
        return model.to(place.torch_device).eval(), tokenizer
    except (*_FAILURES, MemoryError, SafetensorError) as error:
        what = f"the reward model cannot be loaded ({why(error)})"
        raise RunError(what, where=place.path) from error


def _row(tokenizer: PreTrainedTokenizerBase, prompt: str, reply: str) -> dict[str, list[int]]:
    """What is read for a pair."""
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        found = tokenizer(str(text), add_special_tokens=False)
    else:
        found = tokenizer(prompt, reply)
    names = ("input_ids", "attention_mask", "token_type_ids")
    return {name: list(found[name]) for name in names if name in found}


def _passed(model: PreTrainedModel, rows: Sequence[dict[str, list[int]]]) -> list[float]:
    """One pass.

    transformers finds the end of a row by the padding; where a model names none, an id that no
    row holds stands for it, so that a row is read in company as it is alone.
    """
    import torch

    config = model.config
    named = config.get_text_config().pad_token_id
    held = {token for row in rows for token in row["input_ids"]}
    pad = next(id_ for id_ in range(len(held) + 1) if id_ not in held) if named is None else named
    width = max(len(row["input_ids"]) for row in rows)
    filled = {
        name: [row[name] + [filling] * (width - len(row[name])) for row in rows]
        for name, filling in (("input_ids", pad), ("attention_mask", 0), ("token_type_ids", 0))
        if name in rows[0]
    }
    inputs = {name: torch.tensor(one, device=model.device) for name, one in filled.items()}
    config.get_text_config().pad_token_id = config.pad_token_id = pad
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(**inputs).logits
    finally:
        config.get_text_config().pad_token_id = config.pad_token_id = named
    return [float(value) for value in logits[:, 0].float()]
