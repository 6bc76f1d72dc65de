"""lm-eval's LM interface over the live model: how likelihoods and texts are computed.

What they mean stays lm-eval's: encoding of context and continuation, the BOS rule, truncation
to the model's length and stop texts follow its `HFLM` with default arguments, so that scores
equal `lm_eval --model hf`. Two differences, both toward exactness: log-softmax runs in float32
whatever the model's dtype, and a generation ends at its own stop text or EOS, not when the
last row of its batch does.
"""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import torch
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from evomerge.deadline import Deadline
from evomerge.errors import GenomeError
from evomerge.evaluators.lm_eval.generation import generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # takes a second to load; a check has no model

Row = tuple[int, ...]
TokenRequest = tuple[Any, list[int], list[int]]  # request, context tokens, continuation tokens

# Rows x padded length of one forward pass under batch_size "auto". A constant per device
# class: the split into batches, and with it the last digits of a score, never changes.
TOKENS_PER_PASS = {"cpu": 4096, "mps": 4096}
TOKENS_PER_PASS_ELSEWHERE = 16384
# Logits turned to float32 at once; bounds memory where every position is scored.
SCORED_AT_ONCE = 2048


class LiveLanguageModel(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """Answers lm-eval's requests with whatever model is bound to it.

    Tokenised texts are kept, so that a text costs the tokenizer once per run.

    Args:
        tokenizer: Of every model that will be bound.
        batch_size: Rows per forward pass, or ``"auto"``: a fixed budget of tokens.
        template_name: One of the tokenizer's named chat templates; None for its default.
    """

    module: PreTrainedModel
    deadline: Deadline

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | Literal["auto"] = "auto",
        template_name: str | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.template_name = template_name
        self._encoded: dict[tuple[str, bool | None], array[int]] = {}

    def bind(
        self,
        module: PreTrainedModel,
        deadline: Deadline | None = None,
        batch_divisor: int = 1,
    ) -> None:
        """Sets the model that answers from now on.

        Args:
            module: The model.
            deadline: Looked at before each forward pass; None for no limit.
            batch_divisor: What the batch is divided by.
        """
        self.module = module
        self.deadline = deadline or Deadline()
        self._batch_divisor = batch_divisor
        self._device = module.device
        self._max_length = int(resolve_max_length(module.config, self.tokenizer))
        self._keeps_logits = "logits_to_keep" in inspect.signature(module.forward).parameters

    @property
    def eot_token_id(self) -> int | None:
        """End-of-text token, None where the tokenizer has none."""
        return self._as_id(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is replaced by: BOS, else EOS."""
        bos = self._as_id(self.tokenizer.bos_token_id)
        return self.eot_token_id if bos is None else bos

    @property
    def max_length(self) -> int:
        """Context length of the bound model, in tokens."""
        return self._max_length

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, part of lm-eval's interface."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text; special tokens as the tokenizer adds them by default.

        A text that already begins with the prefix token gets no second one.
        """
        key = (string, add_special_tokens)
        ids = self._encoded.get(key)
        if ids is None:
            settings = {}
            if add_special_tokens is not None:
                settings["add_special_tokens"] = add_special_tokens
            elif self._begins_with_prefix(string):
                settings["add_special_tokens"] = False
            ids = self._encoded[key] = array("i", self.tokenizer.encode(string, **settings))
        return ids.tolist()

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The chat as one prompt; without the system turn where the template refuses it."""
        settings: dict[str, Any] = {
            "chat_template": self.template_name,
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **settings))
        except TemplateError:
            turns = [turn for turn in chat_history if turn["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(turns, **settings))

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-likelihood of each whole text, in windows of the model's length."""
        windows: list[TokenRequest] = []
        ends: list[int] = []
        for request in requests:
            tokens = self.tok_encode(request.args[0])
            pairs = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1)
            windows += [(None, *make_disjoint_window(pair)) for pair in pairs]
            ends.append(len(windows))
        scores = [score for score, _ in self._loglikelihood_tokens(windows)]
        starts = [0, *ends[:-1]]
        return [sum(scores[start:end]) for start, end in zip(starts, ends, strict=True)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """The text generated for each ``(context, settings)`` request."""
        return generate(self, [request.args for request in requests])

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding gives it.

        Requests that read the same tokens (options of one token, repeated requests) share a row.
        """
        readers: dict[Row, list[int]] = {}
        for position, (texts, context, continuation) in enumerate(requests):
            self._check_length(texts, continuation)
            readers.setdefault(tuple(context + continuation[:-1]), []).append(position)
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for batch in self.batches(sorted(readers, key=lambda row: (-len(row), row))):
            owners = [readers[row] for row in batch]
            targets = [[requests[position][2] for position in owner] for owner in owners]
            scored = self._score(batch, targets)
            for position, answer in zip(chain.from_iterable(owners), scored, strict=True):
                answers[position] = answer
        return answers

    def batches(self, rows: Sequence[Row], extra: int = 0, budget: int = 1) -> Iterator[list[Row]]:
        """Splits rows, longest first, into forward passes.

        Args:
            rows: Token ids, ordered by falling length.
            extra: Tokens that each row will grow by.
            budget: Multiple of the token budget.
        """
        start = 0
        limit = TOKENS_PER_PASS.get(self.module.device.type, TOKENS_PER_PASS_ELSEWHERE) * budget
        while start < len(rows):
            self.deadline.check()
            length = min(len(rows[start]) + extra, self.max_length)
            count = limit // length if self.batch_size == "auto" else self.batch_size
            count = max(1, count // self._batch_divisor)
            yield list(rows[start : start + count])
            start += count

    def _score(
        self, rows: Sequence[Row], targets: Sequence[Sequence[Sequence[int]]]
    ) -> list[tuple[float, bool]]:
        """Scores the continuations that end each row.

        Args:
            rows: Context and continuation without its last token.
            targets: For each row, the continuations read from its last positions.

        Returns:
            One answer per continuation, in order.
        """
        # Padding on the right needs no mask: a causal model never looks ahead.
        kept_rows = [row[-self.max_length :] for row in rows]
        width = max(map(len, kept_rows))
        inputs = torch.tensor([[*row, *[0] * (width - len(row))] for row in kept_rows])
        row_index: list[int] = []
        column: list[int] = []
        read_from: list[int] = []
        wanted: list[int] = []
        for index, (row, continuations) in enumerate(zip(kept_rows, targets, strict=True)):
            longest = max(map(len, continuations))
            end = len(column) + longest
            column += range(len(row) - longest, len(row))
            row_index += [index] * longest
            for continuation in continuations:
                read_from += range(end - len(continuation), end)
                wanted += continuation
        logits = self._logits(inputs, row_index, column)
        values, greedy = _pick(logits, read_from, wanted)
        answers = []
        start = 0
        for continuation in (item for row in targets for item in row):
            end = start + len(continuation)
            answers.append((sum(values[start:end]), all(greedy[start:end])))
            start = end
        return answers

    @torch.no_grad()
    def _logits(
        self, inputs: torch.Tensor, row_index: list[int], column: list[int]
    ) -> torch.Tensor:
        """Logits at the given places, shape (places, vocabulary)."""
        device = self.module.device
        settings: dict[str, Any] = {"use_cache": False}
        kept = sorted(set(column))
        if self._keeps_logits:
            settings["logits_to_keep"] = torch.tensor(kept, device=device)
        else:
            kept = list(range(inputs.shape[1]))
        logits = self.module(inputs.to(device), **settings).logits
        place = {position: index for index, position in enumerate(kept)}
        picked: torch.Tensor = logits[row_index, [place[position] for position in column]]
        return picked

    def _check_length(self, texts: Any, continuation: Sequence[int]) -> None:
        if 0 < len(continuation) <= self.max_length:
            return
        text = "" if texts is None else f" {texts[1]!r}"
        raise GenomeError(
            f"the continuation{text} has {len(continuation)} tokens of its own, expected 1 to "
            f"{self.max_length}",
            fix="Choose another task or tokenizer.",
        )

    def _begins_with_prefix(self, string: str) -> bool:
        prefix = self.prefix_token_id
        return prefix is not None and bool(has_bos_prefix(string, self.tokenizer.decode(prefix)))

    @staticmethod
    def _as_id(value: Any) -> int | None:
        return value if isinstance(value, int) else None


def _pick(
    logits: torch.Tensor, read_from: Sequence[int], wanted: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """Log-probabilities of tokens, and whether each is the most likely one.

    Args:
        logits: Shape (places, vocabulary).
        read_from: Row of ``logits`` for each token.
        wanted: The tokens.
    """
    normalisers, best = [], []
    for chunk in torch.split(logits, SCORED_AT_ONCE):
        normalisers.append(torch.logsumexp(chunk.float(), dim=-1))
        best.append(chunk.argmax(dim=-1))
    places = torch.tensor(read_from, device=logits.device)
    tokens = torch.tensor(wanted, device=logits.device)
    values = logits[places, tokens].float() - torch.cat(normalisers)[places]
    return values.tolist(), (torch.cat(best)[places] == tokens).tolist()
