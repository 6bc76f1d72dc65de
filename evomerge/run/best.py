"""best.yml: the winner with its recipe, point, scores and where it comes from."""

from __future__ import annotations

import re
from typing import Any

import yaml

from evomerge.foundations.files import write_atomic, writing
from evomerge.foundations.reading import is_folder, listed
from evomerge.nouns.evaluation import Metric
from evomerge.nouns.score_text import rounded, score_content
from evomerge.nouns.trial import Trial
from evomerge.recipe.plain import Recipe
from evomerge.run.leaderboard import Leaderboard
from evomerge.run.ledger.history import Ledger

FORMAT = 1
_OF_FRONT = re.compile(r"trial-.*\.yml", re.DOTALL)


def write_best(ledger: Ledger, leaderboard: Leaderboard, trial: Trial) -> None:
    """Replaces best.yml so that a reader never sees half of it."""
    write_atomic(ledger.folder.best, _text(best_content(ledger, leaderboard, trial)))


def write_front(ledger: Ledger, leaderboard: Leaderboard) -> None:
    """One file per point of the Pareto front; files of points that left it are removed."""
    folder = ledger.folder.front
    names = set()
    for trial in leaderboard.front():
        path = folder / f"trial-{trial.candidate.trial_id:05d}.yml"
        names.add(path.name)
        write_atomic(path, _text(best_content(ledger, leaderboard, trial)))
    for path in listed(folder) if is_folder(folder) else ():
        if _OF_FRONT.fullmatch(path.name) and path.name not in names:
            with writing(path):
                path.unlink()


def best_content(ledger: Ledger, leaderboard: Leaderboard, trial: Trial) -> dict[str, Any]:
    """What best.yml holds of a trial."""
    candidate = trial.candidate
    header = ledger.header
    evaluation = trial.outcome.evaluation
    content: dict[str, Any] = {
        "evomerge_best": FORMAT,
        "trial": candidate.trial_id,
        "origin": str(candidate.origin),
        **({"taught": True} if leaderboard.is_learned(trial) else {}),
        "objective": {
            label: score_content(score)
            for label, score in zip(
                leaderboard.objective.labels, leaderboard.scores(trial), strict=False
            )
        },
        "search": _metrics(evaluation.metrics if evaluation else ()),
    }
    for split in ("validation", "holdout"):
        final = ledger.finals.get((split, candidate.trial_id))
        if final is not None and final.evaluation is not None:
            content[split] = _metrics(final.evaluation.metrics)
    return {
        **content,
        "point": dict(candidate.point),
        "merge_seed": header["merge_seed"],
        "threads": header["threads"],
        "device": header["device"],
        "versions": dict(sorted(header["versions"].items())),
        **{key: header[key] for key in ("method_packages",) if key in header},
        "genome": header["genome"],
        "recipe": dict(candidate.recipe.config),
    }


def recipe_of(content: dict[str, Any]) -> Recipe:
    """The recipe in the content of a best.yml."""
    return Recipe(content["recipe"])


def _metrics(metrics: tuple[Metric, ...]) -> dict[str, Any]:
    return {
        str(metric.key): {
            "value": round(metric.value, 6),
            "stderr": rounded(metric.stderr),
            "n": metric.n,
            "higher_is_better": metric.higher_is_better,
        }
        for metric in metrics
    }


def _text(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
