"""Who answers for the model that is scored: a run's engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from evomerge.evaluators.asking.asked import (
    AskFolder,
    AskInTokens,
    AskLikelihood,
    AskModel,
    AskNextTokens,
    AskPlaces,
    AskText,
    AskTextLikelihood,
    AskTokens,
    Places,
)
from evomerge.evaluators.asking.prompt_reader import PromptReader
from evomerge.foundations.errors import EvaluationError
from evomerge.foundations.seeding import stream_seed
from evomerge.inference.base import Continuation, Engine, GenerationRequest, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.foundations.deadline import Deadline
    from evomerge.genome.task_blocks import EvaluationBlock


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


def write_down(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: AskFolder
) -> None:
    """Writes a model and its tokenizer into a folder."""
    from evomerge.models.quiet import quiet_transformers  # loads transformers

    with quiet_transformers():
        module.save_pretrained(asked.folder)
    tokenizer.save_pretrained(asked.folder)


def no_one_folder() -> EvaluationError:
    """What to say of a mixture."""
    return EvaluationError("a mixture is several models, which no one folder holds")


class EngineRespondent(Respondent):
    """Answers with an engine, kind of request by kind.

    What opens a trial most often opens the next one too: its tokens are kept until then, as the
    same objects, by which the engine knows them.

    Args:
        engine: Runs the models; its ``engine``.
        settings: How they are run.
        seed: Root seed of drawn texts.
    """

    def __init__(self, engine: Engine, settings: EvaluationBlock, seed: int) -> None:
        super().__init__(engine.tokenizer, settings, seed)
        self.engine = engine
        # Kind of request -> those that opened the last trial, for a context length, in tokens.
        self._opening: dict[type[AskModel], dict[tuple[AskModel, int], Any]] = {}

    def bind(self, module: PreTrainedModel, deadline: Deadline | None, batch_divisor: int) -> None:
        """Sets the model that answers; see :meth:`Engine.bind`."""
        self.engine.bind(module, deadline, batch_divisor)

    def answers(self, asked: Sequence[AskModel], turn: int) -> list[Any]:
        """See :meth:`Respondent.answers`.

        Raises:
            OutOfMemoryError: a forward pass did not fit the memory.
            EvaluationError: it failed.
        """
        from evomerge.inference.shortage import freed_on_shortage, told_of_passes  # loads torch
        from evomerge.inference.texts import drawn_by  # likewise

        ways: Mapping[type[AskModel], Callable[[Sequence[Any], bool], Sequence[Any]]] = {
            AskText: self._texts,
            AskLikelihood: self._likelihoods,
            AskTextLikelihood: self._text_likelihoods,
            AskNextTokens: self._next_tokens,
            AskPlaces: self._places,
            AskTokens: self._read_tokens,
            AskFolder: self._written_down,
        }
        found: list[Any] = [None] * len(asked)
        with freed_on_shortage():
            for kind, way in ways.items():
                places = [place for place, one in enumerate(asked) if type(one) is kind]
                many = {
                    place: one
                    for place, one in enumerate(asked)
                    if isinstance(one, AskInTokens) and one.like is kind
                }
                if not places and not many:
                    continue
                read = self._read([asked[place] for place in places], is_opening=turn == 0)
                read += chain.from_iterable(one.requests for one in many.values())
                seed = next((one.seed for one in many.values() if one.seed is not None), None)
                with told_of_passes(), drawn_by(seed):
                    given = iter(way(read, turn == 0))
                for place in places:
                    found[place] = next(given)
                for place, one in many.items():
                    found[place] = list(islice(given, len(one.requests)))
        return found

    def _read(self, asked: Sequence[AskModel], *, is_opening: bool) -> list[Any]:
        """Requests in tokens; those that open a trial once."""
        longest = self.engine.max_length
        if not asked:
            return []
        if not is_opening:
            return [self._tokens(one, longest) for one in asked]
        known = self._opening.get(type(asked[0]), {})
        own = {
            (one, longest): known[one, longest]
            if (one, longest) in known
            else self._tokens(one, longest)
            for one in asked
        }
        self._opening[type(asked[0])] = own
        return list(own.values())

    def _tokens(self, asked: AskModel, longest: int) -> Any:
        reader = self.reader
        if isinstance(asked, AskText):
            return Prompt(reader.prompt(asked, longest), self.generation(asked))
        if isinstance(asked, AskLikelihood):
            return Continuation(*reader.continuation(asked, longest))
        if isinstance(asked, AskPlaces):
            return asked, reader.places(asked, longest)
        if isinstance(asked, AskTokens):
            return tuple(reader.context(asked.prompt, is_plain=asked.is_plain))
        if isinstance(asked, AskTextLikelihood):
            return reader.whole(asked.text)
        return asked.tokens if isinstance(asked, AskNextTokens) else asked

    def _texts(self, asked: Sequence[Prompt], is_opening: bool) -> Sequence[Any]:
        return self.engine.generate(asked)

    def _likelihoods(self, asked: Sequence[Continuation], is_opening: bool) -> Sequence[Any]:
        # What follows depends on answers: it must not drive out what is kept of the opening.
        kind = "continuations" if is_opening else "later continuations"
        return self.engine.log_likelihoods(asked, kind)

    def _text_likelihoods(self, asked: Sequence[list[int]], is_opening: bool) -> Sequence[Any]:
        return self.engine.text_log_likelihoods(asked)

    def _next_tokens(self, asked: Sequence[tuple[int, ...]], is_opening: bool) -> Sequence[Any]:
        return list(self.engine.next_token_log_probabilities(asked))

    def _places(self, asked: Sequence[Any], is_opening: bool) -> Sequence[Any]:
        rows = [row for _, row in asked]
        found: list[Any] = [None] * len(asked)
        for index, log_probabilities in self.engine.log_probabilities_along(rows):
            one, (tokens, first) = asked[index]
            tokenizer = self.reader.tokenizer
            found[index] = one.read(Places(tokens, first, log_probabilities, tokenizer))
        return found

    def _written_down(self, asked: Sequence[AskFolder], is_opening: bool) -> Sequence[Any]:
        from evomerge.merging.mixed_model import MixedModel  # loads torch

        if isinstance(self.engine.module, MixedModel):
            raise no_one_folder()
        for one in asked:
            write_down(self.engine.module, self.reader.tokenizer, one)
        return [None] * len(asked)

    def _read_tokens(self, asked: Sequence[tuple[int, ...]], is_opening: bool) -> Sequence[Any]:
        return [(tokens, self.engine.max_length) for tokens in asked]
