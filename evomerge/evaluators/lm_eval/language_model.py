"""lm-eval's LM interface over an inference engine: what its requests are in tokens.

What they mean stays lm-eval's: encoding of context and continuation, the BOS rule, truncation
to the model's length and stop texts follow its `HFLM` with default arguments, so that scores
equal `lm_eval --model hf`. Two differences, both toward exactness: log-softmax runs in float32
whatever the model's dtype, and a generation ends at its own stop text or EOS, not when the
last row of its batch does.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs

from evomerge.evaluators.chat_prompts import templated
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import GenomeError
from evomerge.inference.base import Continuation, Engine, GenerationRequest, LogLikelihood, Prompt
from evomerge.inference.once import Once

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # takes a second to load; a check has no model

DEFAULT_MAX_GEN_TOKS = 256  # lm-eval's, where the task gives none


class LiveLanguageModel(TemplateLM):  # type: ignore[misc]  # lm_eval ships no types
    """Answers lm-eval's requests with whatever model is bound to it.

    Tokenised texts are kept, so that a text costs the tokenizer once per run.

    Args:
        engine: What runs the models, with their tokenizer.
        template_name: One of the tokenizer's named chat templates; None for its default.
    """

    def __init__(self, engine: Engine, template_name: str | None = None) -> None:
        super().__init__()
        self.tokenizer = engine.tokenizer
        self.engine = engine
        self.template_name = template_name
        self._encoded: dict[tuple[str, bool | None], array[int]] = {}
        self._once = Once()

    def bind(
        self,
        module: PreTrainedModel,
        deadline: Deadline | None = None,
        batch_divisor: int = 1,
    ) -> None:
        """Sets the model that answers from now on; see :meth:`Engine.bind`."""
        self.engine.bind(module, deadline, batch_divisor)
        self._device = module.device

    @property
    def eot_token_id(self) -> int | None:
        """End-of-text token, None where the tokenizer has none."""
        return self.engine.eot_token_id

    @property
    def prefix_token_id(self) -> int | None:
        """What an empty context is replaced by: BOS, else EOS."""
        return self.engine.prefix_token_id

    @property
    def max_length(self) -> int:
        """Context length of the bound model, in tokens."""
        return self.engine.max_length

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
        return templated(
            self.tokenizer,
            chat_history,
            self.template_name,
            add_generation_prompt=add_generation_prompt,
        )

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[LogLikelihood]:
        """Log-likelihood of each continuation, and whether greedy decoding gives it."""
        return self.engine.log_likelihoods(self.pairs(requests))

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-likelihood of each whole text, in windows of the model's length."""
        return self.engine.text_log_likelihoods(self.wholes(requests))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """The text generated for each ``(context, settings)`` request."""
        return list(self.engine.generate(self.prompts(requests)))

    def pairs(self, requests: Sequence[Instance]) -> Sequence[Continuation]:
        """What :meth:`loglikelihood` is asked, in tokens; made once for the same requests.

        Raises:
            GenomeError: a continuation has no token, or more than the model reads.
        """
        key = ("pairs", self.max_length)
        pairs: list[Continuation] = self._once(key, requests, lambda: self._pairs(requests))
        return pairs

    def wholes(self, requests: Sequence[Instance]) -> Sequence[list[int]]:
        """What :meth:`loglikelihood_rolling` is asked, likewise."""
        texts: list[list[int]] = self._once(
            ("whole",), requests, lambda: [self.tok_encode(one.args[0]) for one in requests]
        )
        return texts

    def prompts(self, requests: Sequence[Instance]) -> Sequence[Prompt]:
        """What :meth:`generate_until` is asked, likewise.

        Raises:
            GenomeError: the settings of a text leave no room for it, or for its prompt.
        """
        prompts: list[Prompt] = self._once(
            ("prompts", self.max_length),
            requests,
            lambda: [self.prompt(*request.args) for request in requests],
        )
        return prompts

    def pair(self, request: Instance) -> Continuation:
        """Context and continuation, encoded as one text.

        A context that is empty, or blank and gives no token, is the prefix token.
        """
        context, continuation = request.args
        if context:
            encoded, tokens = self._encode_pair(context, continuation)
            if encoded:
                return Continuation(encoded, tokens)
        else:
            tokens = self.tok_encode(continuation, add_special_tokens=False)
        prefix = self.prefix_token_id
        if prefix is None:
            raise GenomeError(
                "a prompt is empty, and the tokenizer has neither BOS nor EOS to begin with",
                fix="Choose another task or tokenizer.",
            )
        return Continuation([prefix], tokens[1:] if tokens[:1] == [prefix] else tokens)

    def windows(self, request: Instance) -> list[Continuation]:
        """A whole text, in parts that fit the model."""
        return self.engine.windows(self.tok_encode(request.args[0]))

    def prompt(self, context: str, given: Mapping[str, Any]) -> Prompt:
        """What a text is generated after: as many of the last tokens as there is room for."""
        generation = self.generation(given)
        has_bos = has_bos_prefix(context, getattr(self.tokenizer, "bos_token", None))
        ids = self.tok_encode(context, add_special_tokens=not has_bos)
        if not ids and self.prefix_token_id is not None:
            ids = [self.prefix_token_id]  # nothing can be generated from nothing
        return Prompt(tuple(ids[-(self.max_length - generation.max_tokens) :]), generation)

    def generation(self, given: Mapping[str, Any]) -> GenerationRequest:
        """One request's generation settings, by lm-eval's rules.

        Raises:
            GenomeError: they leave no room for a prompt, or for an answer.
        """
        sampling: dict[str, Any] = dict(normalize_gen_kwargs(dict(given), DEFAULT_MAX_GEN_TOKS))
        eot = self.eot_token_id
        eos = None if eot is None else self.tokenizer.decode(eot, skip_special_tokens=False)
        stops = handle_stop_sequences(sampling.pop("until", None), eos=eos)
        max_tokens = int(sampling.pop("max_gen_toks"))
        if max_tokens < 1:
            raise GenomeError(
                f"max_gen_toks {max_tokens} leaves no room for an answer",
                where="evaluation.gen_kwargs",
                fix="Set max_gen_toks to 1 or more.",
            )
        if max_tokens >= self.max_length:
            raise GenomeError(
                f"max_gen_toks {max_tokens} leaves no room for a prompt, the model reads "
                f"{self.max_length} tokens",
                where="evaluation.gen_kwargs",
                fix=f"Set max_gen_toks below {self.max_length}.",
            )
        if not sampling.get("do_sample"):
            sampling.pop("temperature", None)
        return GenerationRequest(max_tokens, tuple(filter(None, stops)), sampling)

    def _loglikelihood_tokens(self, requests: Sequence[Any], **kwargs: Any) -> list[LogLikelihood]:
        """The same for requests that are encoded; part of lm-eval's interface."""
        return self.engine.log_likelihoods([Continuation(*one[1:]) for one in requests], "tokens")

    def _pairs(self, requests: Sequence[Instance]) -> list[Continuation]:
        """Of each request.

        Raises:
            GenomeError: a continuation has no token, or more than the model reads.
        """
        pairs = list(map(self.pair, requests))
        for request, (_, tokens) in zip(requests, pairs, strict=True):
            if not 0 < len(tokens) <= self.max_length:
                raise GenomeError(
                    f"the continuation {request.args[1]!r} has {len(tokens)} tokens of its own, "
                    f"expected 1 to {self.max_length}",
                    fix="Choose another task or tokenizer.",
                )
        return pairs

    def _begins_with_prefix(self, string: str) -> bool:
        prefix = self.prefix_token_id
        return prefix is not None and bool(has_bos_prefix(string, self.tokenizer.decode(prefix)))
