"""Who answers for the model that is scored: a run's engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.evaluators.asking.asked import (
    AskLikelihood,
    AskLikelyTokens,
    AskModel,
    AskNextTokens,
    AskText,
    AskTextLikelihood,
    LikelyToken,
)
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.foundations.seeding import stream_seed
from evomerge.inference.base import Continuation, Engine, GenerationRequest, Prompt

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.foundations.deadline import Deadline
    from evomerge.genome.task_blocks import EvaluationBlock

_AT_ONCE = 64  # rows of the whole vocabulary that are in memory


class Respondent(ABC):
    """Answers what is asked of one model.

    Args:
        tokenizer: Of the model.
        settings: How it is run.
        seed: Root seed of drawn texts.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: EvaluationBlock, seed: int
    ) -> None:
        self.reader = PromptReader(tokenizer, settings)
        self._seed = seed

    @abstractmethod
    def answers(self, asked: Sequence[AskModel], turn: int) -> list[Any]:
        """The answer to each request, in their order.

        Args:
            asked: No two are equal.
            turn: How many times it was asked before in this trial.
        """

    def generation(self, asked: AskText) -> GenerationRequest:
        """How a text is written: greedily, or drawn from a stream of its own."""
        sampling: dict[str, Any] = {"do_sample": False}
        seed = None
        if asked.temperature > 0:
            sampling = {"do_sample": True, "temperature": asked.temperature}
            seed = stream_seed(self._seed, "generation", asked.draw)
        return GenerationRequest(asked.max_tokens, self.reader.stops(asked), sampling, seed)

    def likeliest(self, log_probabilities: torch.Tensor, top: int) -> tuple[LikelyToken, ...]:
        """The first of some tokens, likeliest first.

        Args:
            log_probabilities: Of every token, (vocabulary).
            top: How many.
        """
        values, tokens = log_probabilities.topk(min(top, len(log_probabilities)))
        texts = (str(self.reader.tokenizer.decode([token])) for token in tokens.tolist())
        return tuple(map(LikelyToken, tokens.tolist(), texts, values.tolist()))


class EngineRespondent(Respondent):
    """Answers with an engine, kind of request by kind.

    What opens a trial is the same in the next one: its tokens are kept, as the same objects, by
    which the engine knows them.

    Args:
        engine: Runs the models.
        settings: How they are run.
        seed: Root seed of drawn texts.
    """

    def __init__(self, engine: Engine, settings: EvaluationBlock, seed: int) -> None:
        super().__init__(engine.tokenizer, settings, seed)
        self._engine = engine
        self._opening: dict[tuple[AskModel, int], Any] = {}

    def bind(self, module: PreTrainedModel, deadline: Deadline | None, batch_divisor: int) -> None:
        """Sets the model that answers; see :meth:`Engine.bind`."""
        self._engine.bind(module, deadline, batch_divisor)

    def answers(self, asked: Sequence[AskModel], turn: int) -> list[Any]:
        """See :meth:`Respondent.answers`.

        Raises:
            OutOfMemoryError: a forward pass did not fit the memory.
            EvaluationError: it failed.
        """
        from evomerge.inference.shortage import freed_on_shortage, told_of_passes  # loads torch

        ways: Mapping[type[AskModel], Callable[[Sequence[Any], bool], Sequence[Any]]] = {
            AskText: self._texts,
            AskLikelihood: self._likelihoods,
            AskTextLikelihood: self._text_likelihoods,
            AskNextTokens: self._next_tokens,
            AskLikelyTokens: self._likely_tokens,
        }
        found: list[Any] = [None] * len(asked)
        with freed_on_shortage():
            for kind, way in ways.items():
                places = [place for place, one in enumerate(asked) if type(one) is kind]
                if places:
                    read = self._read([asked[place] for place in places], is_opening=turn == 0)
                    with told_of_passes():
                        given = way(read, turn == 0)
                    for place, one in zip(places, given, strict=True):
                        found[place] = one
        return found

    def _read(self, asked: Sequence[AskModel], *, is_opening: bool) -> list[Any]:
        """Requests in tokens; those that open a trial once."""
        longest = self._engine.max_length
        if not is_opening:
            return [self._tokens(one, longest) for one in asked]
        read = []
        for one in asked:
            if (one, longest) not in self._opening:
                self._opening[one, longest] = self._tokens(one, longest)
            read.append(self._opening[one, longest])
        return read

    def _tokens(self, asked: AskModel, longest: int) -> Any:
        reader = self.reader
        if isinstance(asked, AskText):
            return Prompt(reader.prompt(asked, longest), self.generation(asked))
        if isinstance(asked, AskLikelihood):
            return Continuation(*reader.continuation(asked, longest))
        if isinstance(asked, AskLikelyTokens):
            tokens = tuple(reader.context(asked.prompt, is_plain=asked.is_plain)[-longest:])
            return tokens, asked.top
        return reader.whole(asked.text) if isinstance(asked, AskTextLikelihood) else asked.tokens

    def _texts(self, asked: Sequence[Prompt], is_opening: bool) -> Sequence[Any]:
        return self._engine.generate(asked)

    def _likelihoods(self, asked: Sequence[Continuation], is_opening: bool) -> Sequence[Any]:
        # What follows depends on answers: it must not drive out what is kept of the opening.
        kind = "continuations" if is_opening else "later continuations"
        return self._engine.log_likelihoods(asked, kind)

    def _text_likelihoods(self, asked: Sequence[list[int]], is_opening: bool) -> Sequence[Any]:
        return self._engine.text_log_likelihoods(asked)

    def _next_tokens(self, asked: Sequence[tuple[int, ...]], is_opening: bool) -> Sequence[Any]:
        return list(self._engine.next_token_log_probabilities(asked))

    def _likely_tokens(
        self, asked: Sequence[tuple[tuple[int, ...], int]], is_opening: bool
    ) -> Sequence[Any]:
        found: list[tuple[LikelyToken, ...]] = []
        for start in range(0, len(asked), _AT_ONCE):
            few = asked[start : start + _AT_ONCE]
            rows = self._engine.next_token_log_probabilities([tokens for tokens, _ in few])
            tops = (top for _, top in few)
            found += (self.likeliest(row, top) for row, top in zip(rows, tops, strict=True))
        return found
