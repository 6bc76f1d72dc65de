"""What evomerge does to an endpoint, one after the other: a probe, a question, a check, a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from evomerge.compiler.make_optimizer import obstacles, oddities
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.optimizers.llm.dialogue import Clock
from evomerge.optimizers.llm.evolution import Llm
from evomerge.optimizers.llm.llm_settings import LlmSettings
from tests.optimizers.test_llm_runs import asked_of, finished

RETRIES = 3
ASKED = [{"role": "system", "content": "-"}, {"role": "user", "content": "PARAMETER | x"}]


class Suffering:
    """What came of it.

    Attributes:
        texts: All that was said, raised or written.
        seconds: What each took, and what it was allowed.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds: dict[str, tuple[float, float]] = {}

    def see(self, name: str, allowed: float, act: Callable[[], object]) -> None:
        """Does something; only what is meant to be raised may be."""
        began = time.monotonic()
        try:
            self.texts.append(repr(act()))
        except NoAnswerError as error:
            self.texts += _told(error)
        self.seconds[name] = (time.monotonic() - began, allowed)


def suffer(url: str, folder: Path, seconds: float) -> Suffering:
    """All that a search does with an endpoint.

    Args:
        url: Of the endpoint.
        folder: Of a run, not there yet.
        seconds: A request may take.
    """
    found = Suffering()
    model = LlmSettings(base_url=url).connect()
    limits = {"request_timeout": seconds, "generation_timeout": 2 * seconds}
    with _impatient(seconds):
        found.see("a probe", seconds, lambda: model.probe(seconds))
        found.see("a question", seconds, lambda: model.complete(ASKED, seconds))
        found.see("a check", seconds, lambda: _checked(url))
        found.see(
            "a run", 2 * seconds, lambda: finished(folder, url, 8, max_retries=RETRIES, **limits)[1]
        )
    files = [file for file in folder.rglob("*") if file.is_file()]
    found.texts += [file.read_bytes().decode("utf-8", "replace") for file in files]
    return found


def _checked(url: str) -> list[str]:
    chosen = asked_of(f"base_url: '{url}'")
    return [str(problem) for rule in (obstacles, oddities) for problem in rule(*chosen)]


@contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Nobody waits between two requests, and a check's probe waits no longer than the others."""
    with (
        mock.patch.object(Llm, "clock", Clock(wait=lambda _: None)),
        mock.patch("evomerge.endpoint.endpoint_settings.PROBE_SECONDS", seconds),
    ):
        yield


def _told(error: BaseException | None) -> Iterator[str]:
    """All that an error and those behind it say."""
    while error is not None:
        yield f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
