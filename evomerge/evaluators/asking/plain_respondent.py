"""Who answers for a model folder: transformers alone, one row at a time.

What a run found is compared with this; nothing of how a run computes takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoTokenizer

from evomerge.evaluators.asking.asked import (
    AskFolder,
    AskLikelihood,
    AskModel,
    AskNextTokens,
    AskPlaces,
    AskText,
    AskTextLikelihood,
    AskTokens,
    Places,
)
from evomerge.evaluators.asking.respondent import Respondent, no_one_folder, write_down
from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.plain_mixture import PlainMixture, module_of
from evomerge.inference.base import CutText, Written, context_length
from evomerge.inference.windows import windows_of
from evomerge.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.genome.task_blocks import EvaluationBlock


class PlainRespondent(Respondent):
    """Answers with a module of transformers.

    Args:
        module: The model.
        tokenizer: Its own.
        settings: How it is run.
        seed: Root seed of drawn texts.
    """

    def __init__(
        self,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: EvaluationBlock,
        seed: int,
    ) -> None:
        super().__init__(tokenizer, settings, seed)
        self._module, self._tokenizer = module, tokenizer
        self._longest = context_length(module.config, tokenizer)

    def answer_for(self, task: str) -> None:
        """Has a mixture answer with the weights of a task from now on."""
        if isinstance(self._module, PlainMixture):
            self._module.answer_for(task)

    @torch.inference_mode()
    def answers(self, asked: Sequence[AskModel], turn: int) -> list[Any]:
        """See :meth:`Respondent.answers`."""
        ways: dict[type[AskModel], Any] = {
            AskText: self._text,
            AskLikelihood: self._likelihood,
            AskTextLikelihood: self._text_likelihood,
            AskNextTokens: self._next_tokens,
            AskPlaces: self._places,
            AskTokens: self._read_tokens,
            AskFolder: self._written_down,
        }
        return [ways[type(one)](one) for one in asked]

    def _text(self, asked: AskText) -> Written:
        generation = self.generation(asked)
        stops = list(generation.stops)
        row = self._row(self.reader.prompt(asked, self._longest))
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
        with quiet_transformers():
            output = self._module.generate(  # type: ignore[operator]  # a mixin mypy cannot see
                row,
                attention_mask=torch.ones_like(row),
                max_new_tokens=asked.max_tokens,
                stop_strings=stops or None,
                tokenizer=self._tokenizer if stops else None,
                pad_token_id=self._tokenizer.eos_token_id or 0,
                **generation.sampling,
            )
        tokens = output[0, row.shape[1] :].tolist()
        ends = self._tokenizer.eos_token_id
        kept = tokens[: tokens.index(ends)] if ends in tokens else tokens
        text = str(self._tokenizer.decode(kept, skip_special_tokens=True))
        places = [text.index(stop) for stop in stops if stop in text]
        if len(tokens) == asked.max_tokens and kept == tokens and not places:
            return CutText(text, tokens)
        return Written(text[: min(places, default=len(text))], tokens)

    def _likelihood(self, asked: AskLikelihood) -> tuple[float, bool]:
        return self._of(*self.reader.continuation(asked, self._longest))

    def _text_likelihood(self, asked: AskTextLikelihood) -> float:
        prefix = cast(int, self.reader.prefix)
        windows = windows_of(self.reader.whole(asked.text), prefix, self._longest)
        return sum(self._of(*window)[0] for window in windows)

    def _places(self, asked: AskPlaces) -> Any:
        tokens, first = self.reader.places(asked, self._longest)
        logits = self._module(self._row(tokens)).logits[0, first - 1 :].float()
        return asked.read(Places(tokens, first, logits.log_softmax(-1), self._tokenizer))

    def _written_down(self, asked: AskFolder) -> None:
        if isinstance(self._module, PlainMixture):
            raise no_one_folder()
        write_down(self._module, self._tokenizer, asked)

    def _read_tokens(self, asked: AskTokens) -> tuple[tuple[int, ...], int]:
        return tuple(self.reader.context(asked.prompt, is_plain=asked.is_plain)), self._longest

    def _next_tokens(self, asked: AskNextTokens) -> torch.Tensor:
        row = self._row(asked.tokens[-self._longest :])
        logits: torch.Tensor = self._module(row).logits[0, -1]
        return logits.float().log_softmax(-1)

    def _of(self, context: Sequence[int], own: Sequence[int]) -> tuple[float, bool]:
        """Log-likelihood of a continuation, and whether each of its tokens is the likeliest."""
        row = self._row([*context, *own][:-1][-self._longest :])
        logits = self._module(row).logits[0, -len(own) :].float()
        wanted = torch.tensor(own, device=logits.device)
        found = logits.log_softmax(-1).gather(1, wanted[:, None])
        return float(found.sum()), bool((logits.argmax(-1) == wanted).all())

    def _row(self, tokens: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(tokens)], device=self._module.device)


def opened(built: BuiltModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder, as transformers loads them."""
    torch.set_num_threads(built.threads)
    with quiet_transformers():
        return module_of(built), AutoTokenizer.from_pretrained(
            built.folder, trust_remote_code=built.trust_remote_code
        )
