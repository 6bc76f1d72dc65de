"""What keeps a language model from being asked, found before a run."""

from __future__ import annotations

from collections.abc import Iterator

from evomerge.endpoint.chat import NO_MODEL, flaw_of_key, key_in
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import Problem, nearest
from evomerge.foundations.text_safety import one_line
from evomerge.genome.schema import Genome
from evomerge.nouns.space import Space
from evomerge.optimizers.llm.llm_settings import LlmSettings
from evomerge.optimizers.llm.prompt import Example, Situation, messages, n_characters
from evomerge.optimizers.search_context import Brief

_SHOWN = 10  # models of a list
_COMPARED = 1000  # models of a list, of which one may be meant
_VALUE_CHARACTERS = 8  # by which a value may be longer than the one it is estimated with
_TASK_CHARACTERS = 120  # of a task's metrics, in each place where it is named


def all_obstacles(space: Space, genome: Genome, settings: LlmSettings) -> Iterator[Problem]:
    """Everything at once; an endpoint is only probed where nothing else is in the way."""
    found = [*_key(settings), *_long_prompt(space, genome, settings)]
    yield from found
    if settings.probe and not found:
        yield from _unreachable(settings)


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
    if settings.is_overheard:
        yield Problem(
            f"the key, prompts and replies travel to {settings.base_url} in the clear",
            where="base_url",
            fix="Use https.",
        )
    yield from _unlisted(settings)


def _unlisted(settings: LlmSettings) -> Iterator[Problem]:
    """A model that its server does not name, which may be its list's fault."""
    listed = settings.sign_of_life if settings.probe else ()
    if isinstance(listed, NoAnswerError):
        return
    if listed and settings.model not in listed:
        known = ", ".join(one_line(name) for name in listed[:_SHOWN])
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        yield Problem(
            f"{settings.base_url} lists no model {settings.model!r}"
            f"{nearest(settings.model, listed[:_COMPARED])} (listed: {known}{more})",
            where="model",
            fix="Name one of them, unless the server loads what it does not list.",
        )


def _key(settings: LlmSettings) -> Iterator[Problem]:
    name = settings.api_key_env
    if not settings.is_local and not key_in(name):
        yield Problem(
            f"the environment variable {name} is not set, {settings.base_url} needs a key",
            where="api_key_env",
            fix=f"Run `export {name}=...`, or name another variable.",
        )
    flaw = flaw_of_key(name)
    if flaw:
        yield Problem(flaw, where="api_key_env", fix=f"Run `export {name}=...` with the key alone.")


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


def _unreachable(settings: LlmSettings) -> Iterator[Problem]:
    answer = settings.sign_of_life
    if not isinstance(answer, NoAnswerError):
        return
    if answer.status in (401, 403):
        yield Problem(
            f"{settings.base_url} refuses the key ({answer.reason})",
            where="api_key_env",
            fix=f"Put a valid one into {settings.api_key_env}.",
        )
    elif answer.status is None or 300 <= answer.status < 400:
        yield Problem(
            f"{settings.base_url}: {answer.reason}",
            where="base_url",
            fix="Start the server or mend the URL; with probe: false a run begins without "
            "it and draws its steps around the best trial meanwhile.",
        )
