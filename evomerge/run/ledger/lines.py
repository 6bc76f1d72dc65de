"""What a run found, as lines of JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from evomerge.nouns.evaluation import (
    Evaluation,
    Metric,
    MetricKey,
    Outcome,
    Sample,
    Tally,
    TrialState,
)
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate, Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.ledger.old_origins import origin_line


@dataclass(frozen=True)
class KnownOutcome:
    """What a run found for a recipe, documents included."""

    split: str
    digest: str
    outcome: Outcome


@dataclass(frozen=True)
class Turn:
    """The optimizer was asked for trials, or told of them.

    Attributes:
        kind: An ask has a turn only where trials were out.
        trial_ids: Which, in this order.
    """

    kind: Literal["asked", "told"]
    trial_ids: tuple[int, ...]

    def is_ask_for(self, first: int) -> bool:
        """Whether it is the ask whose first trial has this id."""
        return self.kind == "asked" and self.trial_ids[:1] == (first,)


@dataclass(frozen=True)
class Extension:
    """A search was given larger limits.

    Attributes:
        genome_digest: Of the genome from then on.
        was: ``budget``, ``patience`` and ``timeout`` until then; None is no limit.
        now: The same from then on.
        knew_finals: Whether it was over by then, and its final scores known.
    """

    genome_digest: str
    was: Mapping[str, Any]
    now: Mapping[str, Any]
    knew_finals: bool = False

    @property
    def raised(self) -> list[str]:
        """The limits that are others."""
        return [name for name, limit in self.now.items() if limit != self.was[name]]

    @property
    def has_more_time(self) -> bool:
        """Whether a search whose time was over goes on."""
        return "timeout" in self.raised

    @property
    def line(self) -> dict[str, Any]:
        """It as a line of a ledger."""
        return {
            "kind": "extended",
            "genome_digest": self.genome_digest,
            "was": dict(self.was),
            "now": dict(self.now),
        }


def known_line(entry: KnownOutcome) -> dict[str, Any]:
    """The line of an outcome that another run found."""
    return {
        "kind": "known",
        "split": entry.split,
        "digest": entry.digest,
        **outcome_line(entry.outcome),
        **_answers(entry.outcome),
    }


def trial_line(trial: Trial) -> dict[str, Any]:
    """The line of a finished trial, without its kind."""
    candidate = trial.candidate
    genotype = candidate.genotype
    return {
        "id": candidate.trial_id,
        "origin": origin_line(candidate.origin),
        "digest": candidate.recipe.digest,
        "recipe": dict(candidate.recipe.config),
        "genotype": None if genotype is None else [float(u) for u in genotype],
        "point": dict(candidate.point),
        **outcome_line(trial.outcome),
        **({"idle": round(trial.idle, 4)} if trial.idle else {}),
        **({} if trial.elapsed is None else {"elapsed": round(trial.elapsed, 4)}),
        **(_answers(trial.outcome) if candidate.is_baseline else {}),
    }


def trial_of(event: Mapping[str, Any]) -> Trial:
    """The trial a line tells of.

    Raises:
        ValueError, KeyError, TypeError: the line tells of none.
    """
    genotype = event["genotype"]
    candidate = Candidate(
        event["id"],
        _origin_of(event["origin"]),
        Recipe(event["recipe"]),
        None if genotype is None else np.array(genotype, dtype=np.float64),
        event["point"],
    )
    if candidate.recipe.digest != event["digest"]:
        raise ValueError(f"the recipe of trial {event['id']} does not have the digest beside it")
    return Trial(candidate, outcome_of(event), event.get("idle", 0.0), event.get("elapsed"))


def _origin_of(line: Mapping[str, Any]) -> Origin:
    said = {key: value for key, value in line.items() if key != "kind"}
    return Origin(OriginKind(line["kind"]), **said)


def outcome_line(outcome: Outcome) -> dict[str, Any]:
    """The part of a line that holds an outcome."""
    metrics = outcome.evaluation.metrics if outcome.evaluation else ()
    return {
        "state": outcome.state.value,
        "metrics": [_metric_line(metric) for metric in metrics],
        "failure": outcome.failure,
        "seconds": {stage: round(value, 4) for stage, value in outcome.seconds.items()},
        "batch_divisor": outcome.batch_divisor,
    }


def _answers(outcome: Outcome) -> dict[str, Any]:
    """How a baseline answered, for people; answers of other trials are in their documents."""
    evaluation = outcome.evaluation or Evaluation(())
    return {
        "samples": [asdict(sample) for sample in evaluation.samples],
        "tallies": [asdict(tally) for tally in evaluation.tallies],
    }


def _metric_line(metric: Metric) -> dict[str, Any]:
    return {
        **asdict(metric.key),
        "value": _finite(metric.value),
        "stderr": _finite(metric.stderr),
        "n": metric.n,
        "higher_is_better": metric.higher_is_better,
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no inf or NaN; they are kept as text."""
    return value if value is None or np.isfinite(value) else str(value)


def outcome_of(event: Mapping[str, Any]) -> Outcome:
    """The outcome a line holds.

    Raises:
        ValueError, KeyError, TypeError: it holds none.
    """
    state = TrialState(event["state"])
    evaluation = None
    if state is TrialState.COMPLETE:
        evaluation = Evaluation(
            tuple(_metric_of(line) for line in event["metrics"]),
            samples=tuple(Sample(**sample) for sample in event.get("samples", ())),
            tallies=tuple(Tally(**tally) for tally in event.get("tallies", ())),
        )
    return Outcome(state, evaluation, event["failure"], event["seconds"], event["batch_divisor"])


def _metric_of(line: Mapping[str, Any]) -> Metric:
    return Metric(
        MetricKey(line["task"], line["metric"], line["filter"]),
        float(line["value"]),
        None if line["stderr"] is None else float(line["stderr"]),
        line["n"],
        line["higher_is_better"],
    )
