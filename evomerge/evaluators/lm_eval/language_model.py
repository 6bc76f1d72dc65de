"""lm-eval's LM interface over the live model: how likelihoods and texts are computed.

What they mean stays lm-eval's: encoding of context and continuation, the BOS rule, truncation
to the model's length and stop texts follow its `HFLM` with default arguments, so that scores
equal `lm_eval --model hf`. Two differences, both toward exactness: log-softmax runs in float32
whatever the model's dtype, and a generation ends at its own stop text or EOS, not when the
last row of its batch does.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain, islice
from operator import is_
from typing import TYPE_CHECKING, Any, Literal

import torch
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import GenomeError
from evomerge.inference.generation import generate, group
from evomerge.inference.greedy import SlotMemory
from evomerge.inference.likelihoods import (
    Stage,
    TokenRequest,
    answers_from,
    largest,
    n_read,
    rows_of,
    scoring_pass,
)
from evomerge.inference.pass_budget import Budget, PassBudgets
from evomerge.inference.sharing import may_share
from evomerge.inference.tree_passes import read_stem, row_logits, tree_logits
from evomerge.inference.trees import alone_on, lay_out, lay_out_apart

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # takes a second to load; a check has no model


class LiveLanguageModel(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """Answers lm-eval's requests with whatever model is bound to it.

    Tokenised texts are kept, so that a text costs the tokenizer once per run.

    Args:
        tokenizer: Of every model that will be bound.
        batch_size: Rows per forward pass, or ``"auto"``: a budget of tokens, see `PassBudgets`.
        template_name: One of the tokenizer's named chat templates; None for its default.
        engine: ``"fast"`` computes tokens that rows share once, ``"reference"`` row by row.

    Attributes:
        budgets: How much one forward pass reads.
        slots: Where generations keep what they have read.
        shares: Whether the bound model computes shared tokens once.
    """

    module: PreTrainedModel
    deadline: Deadline
    shares: bool

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int | Literal["auto"] = "auto",
        template_name: str | None = None,
        engine: Literal["fast", "reference"] = "fast",
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.budgets = PassBudgets(batch_size)
        self.slots = SlotMemory()
        self.template_name = template_name
        self.engine = engine
        self._encoded: dict[tuple[str, bool | None], array[int]] = {}
        self._made: dict[tuple[Any, ...], tuple[list[Instance], Any]] = {}

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
        if module is not getattr(self, "module", None):
            module.tie_weights()  # as lm-eval's own does, whatever heads the files held
        self.module = module
        self.deadline = deadline or Deadline()
        self.budgets.bind(module.device, batch_divisor)
        self._device = module.device
        self._max_length = int(resolve_max_length(module.config, self.tokenizer))
        self.shares = self.engine == "fast" and may_share(module)

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

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding gives it."""
        pairs = self._once(("pairs",), requests, lambda: list(map(self.pair, requests)))
        return self._answers("pairs", requests, pairs)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-likelihood of each whole text, in windows of the model's length."""
        texts = self._once(
            ("windows", self.max_length), requests, lambda: list(map(self.windows, requests))
        )
        windows = list(chain.from_iterable(texts))
        scores = (score for score, _ in self._answers("windows", requests, windows))
        return [sum(islice(scores, len(text))) for text in texts]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """The text generated for each ``(context, settings)`` request."""
        texts = self._once(
            ("texts", self.max_length),
            requests,
            lambda: group(self, [request.args for request in requests]),
        )
        return generate(self, texts)

    def pair(self, request: Instance) -> TokenRequest:
        """Context and continuation, encoded as one text.

        A context that is empty, or blank and gives no token, is the prefix token.
        """
        context, continuation = request.args
        if context:
            encoded, tokens = self._encode_pair(context, continuation)
            if encoded:
                return (request.args, encoded, tokens)
        else:
            tokens = self.tok_encode(continuation, add_special_tokens=False)
        prefix = self.prefix_token_id
        if prefix is None:
            raise GenomeError(
                "a prompt is empty, and the tokenizer has neither BOS nor EOS to begin with",
                fix="Choose another task or tokenizer.",
            )
        return (request.args, [prefix], tokens[1:] if tokens[:1] == [prefix] else tokens)

    def windows(self, request: Instance) -> list[TokenRequest]:
        """A whole text, in parts that fit the model."""
        tokens = self.tok_encode(request.args[0])
        pairs = get_rolling_token_windows(tokens, self.prefix_token_id, self.max_length, 1)
        return [(None, *make_disjoint_window(pair)) for pair in pairs]

    def _loglikelihood_tokens(
        self, requests: Sequence[TokenRequest], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """The same for requests that are encoded; part of lm-eval's interface."""
        longest = self._longest(requests)
        stages = self._planned(requests, self.budgets.of("tokens", longest))
        return self._run(stages, len(requests))

    def _answers(
        self, kind: str, requests: Sequence[Instance], encoded: Sequence[TokenRequest]
    ) -> list[tuple[float, bool]]:
        longest = self._once(
            (f"longest of {kind}", self.max_length), requests, lambda: self._longest(encoded)
        )

        def stages() -> list[Stage]:
            budget = self.budgets.of(kind, longest)
            key = (kind, self.max_length, self.shares, self._device.type, budget)
            planned: list[Stage] = self._once(key, requests, lambda: self._planned(encoded, budget))
            return planned

        self.budgets.find(kind, longest, lambda: self._run(largest(stages()), len(encoded)))
        return self._run(stages(), len(encoded))

    def _longest(self, requests: Sequence[TokenRequest]) -> int:
        """Tokens of the longest row."""
        lengths = (len(context) + len(own) - 1 for _, context, own in requests)
        return min(max(lengths, default=1), self.max_length)

    def _planned(self, requests: Sequence[TokenRequest], budget: Budget) -> list[Stage]:
        """Stems in the order they are computed, each with the passes that continue it."""
        for texts, _, continuation in requests:
            self._check_length(texts, continuation)
        readers = rows_of(requests, self.max_length)
        read = n_read(requests, readers)
        alone = alone_on(self._device.type)
        branchings = lay_out(read, budget.tokens, alone) if self.shares else lay_out_apart(read)
        return [
            (
                stem,
                [
                    scoring_pass(batch, stem, requests, readers)
                    for batch in budget.split_by_length(trees, len(stem))
                ],
            )
            for stem, trees in branchings
        ]

    @torch.no_grad()
    def _run(self, stages: Sequence[Stage], n_requests: int) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = [(0.0, False)] * n_requests
        for stem, passes in stages:
            self.deadline.check()
            kept = read_stem(self.module, stem)
            for scored in passes:
                self.deadline.check()
                if self.shares:
                    logits = tree_logits(self.module, scored.block, kept)
                else:
                    logits = row_logits(self.module, scored.block)
                for position, answer in answers_from(logits, scored):
                    answers[position] = answer
        return answers

    def _once(
        self, key: tuple[Any, ...], requests: Sequence[Instance], make: Callable[[], Any]
    ) -> Any:
        """What was made of the very same requests before; else it is made now."""
        known = self._made.get(key)
        if known is None or len(known[0]) != len(requests) or not all(map(is_, known[0], requests)):
            known = self._made[key] = (list(requests), make())
        return known[1]

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
