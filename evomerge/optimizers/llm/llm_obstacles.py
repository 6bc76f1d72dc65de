"""What keeps a language model from being asked, found before a run."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.endpoint.chat import NO_MODEL
from evomerge.endpoint.presence import key_obstacles, overheard, unlisted, unreachable
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import Problem
from evomerge.genome.schema import Genome
from evomerge.nouns.space import Space
from evomerge.optimizers.llm.llm_settings import LlmSettings
from evomerge.optimizers.llm.prompt import Example, Situation, messages, n_characters
from evomerge.optimizers.search_context import Brief

_VALUE_CHARACTERS = 8  # by which a value may be longer than the one it is estimated with
_TASK_CHARACTERS = 120  # of a task's metrics, in each place where it is named


def all_obstacles(space: Space, genome: Genome, settings: LlmSettings) -> Iterator[Problem]:
    """Everything at once; an endpoint is only probed where nothing else is in the way."""
    found = [*key_obstacles(settings), *_long_prompt(space, genome, settings)]
    yield from found
    if settings.probe and not found:
        without = "a run begins without it and draws its steps around the best trial meanwhile"
        yield from unreachable(settings, without)


def all_oddities(settings: LlmSettings, n_before: int) -> Iterator[Problem]:
    """What can hardly be meant.

    Args:
        settings: Whom to ask, and how.
        n_before: Trials that other optimizers propose before it.
    """
    if settings.request_timeout > settings.generation_timeout:
        yield Problem(
            f"a request may take {settings.request_timeout:g} seconds, all of a generation "
            f"together {settings.generation_timeout:g}",
            where="request_timeout",
            fix="Make it smaller, or raise generation_timeout.",
        )
    if (settings.prompt_price is None) != (settings.completion_price is None):
        missing = "prompt_price" if settings.prompt_price is None else "completion_price"
        yield Problem(
            f"without {missing} no cost can be counted", where=missing, fix="Give both or none."
        )
    if n_before and settings.first_generation == "uniform":
        yield Problem(
            "the first generation is drawn anywhere, not where the optimizers before it arrived",
            where="first_generation",
            fix="Set it to start.",
        )
    yield from overheard(settings)
    if settings.probe:
        yield from unlisted(settings)


def _long_prompt(space: Space, genome: Genome, settings: LlmSettings) -> Iterator[Problem]:
    n_needed, limit = smallest_prompt(space, genome), settings.max_prompt_characters
    if n_needed > limit:
        yield Problem(
            f"a prompt about {counted(space.n_dims, 'parameter')} takes about {n_needed} "
            f"characters with a single trial in it, got {limit}",
            where="max_prompt_characters",
            fix="Raise it for a model that reads so much, choose a coarser granularity, or use "
            "optimizer: cma_es.",
        )


def smallest_prompt(space: Space, genome: Genome) -> int:
    """Characters of the shortest prompt of a search, rounded up generously."""
    definition = genome.genome
    brief = Brief(
        models=tuple(source.model.text for source in definition.models),
        base=definition.base_model.text if definition.base_model else "",
        merge_method=definition.merge_method,
        tasks=tuple(task.name for task in genome.tasks),
    )
    example = Example(space.decode(space.initial), 0.0, dict.fromkeys(brief.tasks, 0.0))
    parents = dict.fromkeys(brief.models, example)
    prompt = messages(space, brief, Situation(1, 0.05, True, [example], parents))
    n_tasks = len(brief.tasks) * (len(brief.models) + 2)
    slack = _VALUE_CHARACTERS * space.n_dims + _TASK_CHARACTERS * n_tasks
    return n_characters(prompt) + slack


def advice(cause: str, settings: LlmSettings) -> str:
    """What to do where a model is not heard for a cause, as an answer has it."""
    if cause in ("key refused", "unusable key"):
        return f"Check the key in {settings.api_key_env}."
    if cause in (NO_MODEL, "no connection") or cause.startswith("HTTP status"):
        return "Check base_url and model; a base_url most often ends in /v1."
    return "`evomerge show` lists what was said."
