"""Models whose files are others than when a run began, so that its scores are of other weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.findings import Finding, warning
from evomerge.foundations.reading import is_there
from evomerge.genome.model_names import ModelName
from evomerge.models.fingerprint import fingerprint
from evomerge.run.chosen import ChosenTrial
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import models_in
from evomerge.run.recorded_run import earlier_stages, load_run


def is_changed(recorded: Mapping[str, str], reference: Any) -> bool:
    """Whether the files of a model are others than line 1 of a ledger says.

    Args:
        recorded: ``models`` of that line.
        reference: The model as recipes name it.

    Raises:
        ModelError: what stands in a file's place is none.
        UnreadableError: a file cannot be read.
        OSError: the Hub cannot be reached.
        ValueError: the Hub does not say which commit it is.
    """
    now = fingerprint(reference)
    return recorded.get(_key(reference), now) != now


def changed(name: str, purpose: str) -> Finding:
    """What is said of a model that has changed.

    Args:
        name: Of the model.
        purpose: What the old files are good for, after "Put the old files back to".
    """
    return warning(
        "the model's files are others than when the run began, so answers will differ",
        name,
        f"Put the old files back to {purpose}.",
    )


def changed_of(trials: Sequence[ChosenTrial]) -> list[tuple[str, ...]]:
    """For each trial its models that have changed since its run, or an earlier stage, began.

    Nothing is known of a best.yml apart from its run, nor of models that cannot be read: whoever
    merges them says what is wrong.
    """
    recorded = {one.run_dir: _recorded(one.run_dir) for one in trials}
    seen: dict[ModelName, bool] = {}
    return [tuple(_changed(one, recorded[one.run_dir], seen)) for one in trials]


def _changed(
    one: ChosenTrial, recorded: Mapping[str, str], seen: dict[ModelName, bool]
) -> Iterator[str]:
    for model in one.recipe.named:
        if model not in seen:
            try:
                seen[model] = _key(model.in_recipe) in recorded and is_changed(
                    recorded, model.in_recipe
                )
            except (EvomergeError, OSError, ValueError):  # who builds or scores it tells that
                seen[model] = False
        if seen[model]:
            yield model.text


def _recorded(run_dir: Path | None) -> dict[str, str]:
    if run_dir is None or not is_there(RunFolder(run_dir).ledger):
        return {}
    run = load_run(run_dir)
    runs = [*earlier_stages(run), run]
    return {key: value for one in runs for key, value in models_in(one.ledger.header).items()}


def _key(reference: Any) -> str:
    return reference if isinstance(reference, str) else digest(reference)
