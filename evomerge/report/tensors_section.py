"""Where every tensor of the models went in the winner of a run."""

from __future__ import annotations

from evomerge.nouns.section import Section
from evomerge.recipe.accounting import accounts_of
from evomerge.recipe.own_names import located, names_sum
from evomerge.report.unmerged_tensors import models_here
from evomerge.run.recorded_run import RecordedRun

_HEAD = ("model", "merged", "carried over", "left out")


def tensors_section(run: RecordedRun) -> Section | None:
    """One row per model or adapter; nothing where none of them is a folder here."""
    if not run.winners:
        return None
    candidate = run.winners[0].candidate
    recipe = located(candidate.recipe, run.ledger.folder.path)
    names = [name for name in recipe.models if not names_sum(name)]
    block = run.genome.genome
    given = (*(source.model for source in block.models), block.base_model)
    of_genome = [name for name in given if name is not None and not name.is_stage]
    if any(name.path in {one.path for one in of_genome} for name in recipe.models):
        names += of_genome  # what was trained of them has all of them in it
    accounts = [*accounts_of(recipe, models_here(dict.fromkeys(names)))]
    if not accounts:
        return None
    return Section(
        "tensors",
        f"tensors of the models in trial {candidate.trial_id}",
        _HEAD,
        tuple((account.model, *account.numbers) for account in accounts),
        tuple(sentence for account in accounts for sentence in account.sentences),
        {"trial": candidate.trial_id, "models": [account.data for account in accounts]},
    )
