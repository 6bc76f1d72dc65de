"""A judge on this machine: it takes turns with the model that is scored.

Between its turns its weights wait in main memory, so that a GPU has room for what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from evomerge.evaluators.asking.asked import AskText, Message
from evomerge.evaluators.judge.asked_once import AskedOnce, Request
from evomerge.evaluators.judge.kept_judgments import Remark
from evomerge.evaluators.side_model import SideModel, loaded_writer, put_on
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import (
    EvaluationError,
    EvomergeError,
    OutOfMemoryError,
    RunError,
    told,
)
from evomerge.foundations.findings import Finding, error, warning
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference.base import LENGTHS, CutText, Written, context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from evomerge.evaluators.asking.prompt_reader import PromptReader
    from evomerge.evaluators.asking.respondent import EngineRespondent
    from evomerge.foundations.deadline import Deadline

TOO_LONG, CUT = "prompt too long", "cut off"
_DIVISORS = (1, 2, 4, 8)  # of the batch


class LocalJudge(AskedOnce):
    """A model of this machine; loaded when it is first asked.

    Args:
        model: Which one.
        max_tokens: Of a judgment.
        temperature: 0 for the likeliest; else judgments are drawn.
        seed: Root seed of what is drawn.
    """

    def __init__(self, model: SideModel, max_tokens: int, temperature: float, seed: int) -> None:
        drawn = [temperature, seed] if temperature else []
        super().__init__(lambda: ["local", model.fingerprint, model.dtype, max_tokens, *drawn])
        self._model = model
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._seed = seed

    def findings(
        self, prompts: Sequence[tuple[Request, int]], answer_tokens: int
    ) -> Iterator[Finding]:
        """Prompts that leave it no room for a judgment.

        Args:
            prompts: With empty answers of the model, each with how many of these are in it.
            answer_tokens: Of each of them, at most.
        """
        facts = self._model.facts
        if isinstance(facts, EvomergeError) or facts.tokenizer is None or facts.is_on_hub:
            return  # which is told of the model
        most = next((one for key in LENGTHS if (one := facts.text_config.get(key))), None)
        if not isinstance(most, int):
            return
        from evomerge.evaluators.asking.prompt_reader import PromptReader

        try:
            reader = PromptReader(self._model.tokenizer(), EvaluationBlock())
            needed = [
                (len(reader.context(self._prompt(reader, one).prompt)) + self._max_tokens, n)
                for one, n in prompts
            ]
        except RunError as unread:
            yield from (error(one.what, "local_model", one.fix) for one in unread.problems)
            return
        except Exception as broken:  # a chat template is a program, and the model's own
            fix = "Mend its chat template, or name another judge."
            yield error(f"its prompts cannot be written ({told(broken)})", "local_model", fix)
            return
        reads = f"the {most} tokens that {facts.name} reads, {self._max_tokens} of them to judge"
        fix = "Lower judge_tokens or max_tokens, or name a judge that reads more."
        n_never = sum(length > most for length, _ in needed)
        n_perhaps = sum(length + n * answer_tokens > most for length, n in needed) - n_never
        if n_never:
            many = f"{counted(n_never, 'prompt')} of {len(needed)}"
            yield warning(f"{many} never fit {reads}: no judgment", "local_model", fix)
        if n_perhaps:
            many = f"{counted(n_perhaps, 'prompt')} of {len(needed)}"
            what = (
                f"{many} may not fit {reads}, with answers of {answer_tokens} tokens: no judgment"
            )
            yield warning(what, "local_model", fix)

    def _judge(self, asked: Mapping[str, Request], deadline: Deadline) -> Mapping[str, str]:
        module, respondent = self._loaded.module, self._loaded.respondent
        prompts = {key: self._prompt(respondent.reader, one) for key, one in asked.items()}
        n_read = {key: len(respondent.reader.context(one.prompt)) for key, one in prompts.items()}
        room = context_length(module.config, respondent.reader.tokenizer) - self._max_tokens
        fitting = [key for key in prompts if n_read[key] <= room]
        with _moved(module, self._model.torch_device):
            said = _said(module, respondent, [prompts[key] for key in fitting], deadline)
        for key, text in zip(fitting, said, strict=True):
            cause = CUT if isinstance(text, CutText) else ""
            self._kept.keep(key, Remark(str(text), cause, n_read[key], len(text.tokens)))
        return {key: TOO_LONG for key in prompts if n_read[key] > room}

    @cached_property
    def _loaded(self) -> _Loaded:
        return _loaded(self._model, self._seed)

    def _prompt(self, reader: PromptReader, one: Request) -> AskText:
        """In the judge's own template; where that has no system, the user says it all."""
        messages = one.messages
        if len(messages) > 1 and messages[0].content.strip() not in reader.text(messages):
            messages = (Message("user", "\n\n".join(turn.content for turn in messages)),)
        return AskText(messages, self._max_tokens, temperature=self._temperature, draw=one.repeat)


def _said(
    module: PreTrainedModel,
    respondent: EngineRespondent,
    asked: Sequence[AskText],
    deadline: Deadline,
) -> Sequence[Written]:
    """The replies, in smaller batches where memory runs out."""
    for divisor in _DIVISORS:
        try:
            respondent.bind(module, deadline, divisor)
            return respondent.answers(asked, 1)
        except OutOfMemoryError as error:
            failure = error
    raise EvaluationError(f"the judge does not fit the memory ({failure})")


@contextmanager
def _moved(module: PreTrainedModel, device: str) -> Iterator[None]:
    """Has a model on its device, and in main memory afterwards.

    Raises:
        EvaluationError: its device has no room for it, or cannot be used.
    """
    try:
        put_on(module, device, "judge")
        yield
    finally:  # what had been moved before it failed comes back too
        module.to("cpu")  # type: ignore[arg-type]  # transformers' stubs know no names of devices


@dataclass
class _Loaded:
    """A model, and who answers with it."""

    module: PreTrainedModel
    respondent: EngineRespondent


# With the fingerprint of its files, and a seed; no memory is held longer than somebody has it.
_SHARED: WeakValueDictionary[tuple[SideModel, str, int], _Loaded] = WeakValueDictionary()


def _loaded(model: SideModel, seed: int) -> _Loaded:
    """The one of this process, whichever tasks name it, while they have it.

    Raises:
        RunError: it cannot be loaded.
    """
    from evomerge.evaluators.asking.respondent import EngineRespondent
    from evomerge.inference import ENGINES

    key = (model, model.fingerprint, seed)
    found = _SHARED.get(key)
    if found is None:
        module, tokenizer = loaded_writer(model, "judge")
        engine = ENGINES["transformers"](tokenizer)
        found = _SHARED[key] = _Loaded(module, EngineRespondent(engine, EvaluationBlock(), seed))
    return found
