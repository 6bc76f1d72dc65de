"""A new run that takes over what another one found, as far as it is still true."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain

from evomerge.compiler.compiled import Compiled
from evomerge.compiler.identity import Header, changed_packages
from evomerge.compiler.recorded_genome import dtype_of
from evomerge.compiler.split_tasks import SPLITS
from evomerge.evaluators import EVALUATORS
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import GenomeError, LedgerError
from evomerge.foundations.versions import SCORING_PACKAGES
from evomerge.genome.load import load_genome, to_yaml
from evomerge.merge_spaces.baselines import baselines
from evomerge.nouns.evaluation import Document, Outcome, TrialState
from evomerge.recipe.own_names import names_sum
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.lines import KnownOutcome
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import models_in
from evomerge.trackers.feed import targets_of


@dataclass(frozen=True)
class Fork:
    """A forked run folder.

    Attributes:
        ledger: Of the new run.
        note: What was taken over, and why not more.
    """

    ledger: Ledger
    note: str


def fork(compiled: Compiled, header: Header, old: RunFolder, new: RunFolder) -> Fork:
    """Starts a run folder with the outcomes of another run that hold for this genome too.

    An outcome holds while the models of its recipe, the tasks of its split, the settings of the
    evaluation and everything that computes are what they were.

    Raises:
        LedgerError: the old folder holds no run, or the new one is being written.
        LostFileError: the new folder cannot be written.
    """
    source = Ledger.open(old, read_only=True, salvage=True)
    obstacles = _obstacles(compiled, source, header)
    valid = [] if obstacles else _valid(source, header)
    known = [entry for entry in valid if _may_be_used(compiled, entry)]
    mirrors = targets_of(compiled.genome.trackers)

    def carry() -> None:
        tasks = (task for split in SPLITS for task in compiled.genome.split(split))
        for kind in dict.fromkeys(task.kind for task in tasks):
            EVALUATORS[kind].carry(old.path, new.path)

    ledger = Ledger.create(new, header, to_yaml(compiled.source), known, mirrors, carry)
    return Fork(ledger, _note(old, known, obstacles))


def carried(compiled: Compiled, header: Header, ledger: Ledger) -> list[KnownOutcome]:
    """What another run, which goes on as it is, found of the models that a run begins with.

    Args:
        compiled: The run that begins.
        header: Line 1 of its ledger.
        ledger: Of the other.
    """
    if _obstacles(compiled, ledger, header):
        return []
    first = baselines(compiled.merge_space, compiled.genome.baselines)
    digests = {candidate.recipe.digest for candidate in first}
    known = (entry for entry in _valid(ledger, header) if entry.digest in digests)
    return [entry for entry in known if _may_be_used(compiled, entry)]


def _may_be_used(compiled: Compiled, entry: KnownOutcome) -> bool:
    """Whether it holds the tokens that an optimizer learns from, if one does."""
    is_read = any(chosen.kind.needs_tokens for chosen in compiled.choice)
    return not is_read or entry.split != "tasks" or _has_tokens(entry.outcome)


def _obstacles(compiled: Compiled, source: Ledger, now: Header) -> list[str]:
    """Why no outcome of a run holds any more."""
    then = source.header
    found = [
        f"{name} was {then['versions'].get(name)}, now {now['versions'].get(name)}"
        for name in SCORING_PACKAGES
        if then["versions"].get(name) != now["versions"].get(name)
    ]
    found += changed_packages(then, now)
    found += [
        f"{key} was {then[key]}, now {now[key]}"
        for key in ("device", "threads", "merge_seed")
        if then[key] != now[key]
    ]
    try:
        genome, _ = load_genome(source.folder.genome)
    except GenomeError:
        return [*found, "its genome.yml cannot be read"]
    if genome.evaluation_settings != compiled.genome.evaluation_settings:
        found.append("evaluation has other settings")
    elif dtype_of(then, genome) != dtype_of(now, compiled.genome):
        found.append("forward passes were made in another dtype")
    return found


def _valid(source: Ledger, now: Header) -> Iterator[KnownOutcome]:
    then = source.header
    splits = [s for s in SPLITS if s in now["tasks"] and then["tasks"].get(s) == now["tasks"][s]]
    here = models_in(now)
    changed = {name for name, was in models_in(then).items() if was != here.get(name, was)}
    if changed and now.get("inside") and "inside" not in then:
        return  # of an older version, which did not say what its sources were built from
    seen = set()
    for entry in chain(_own(source, changed), [] if changed else _inherited(source)):
        key = (entry.split, entry.digest)
        holds = entry.outcome.state is TrialState.COMPLETE and entry.split in splits
        if holds and key not in seen:
            seen.add(key)
            yield entry


def _own(source: Ledger, changed: set[str]) -> Iterator[KnownOutcome]:
    """What the run scored itself, of recipes without changed models."""
    scored = {("tasks", trial_id): trial.outcome for trial_id, trial in source.trials.items()}
    finals = {**source.earlier_finals, **source.finals}
    for (split, trial_id), outcome in {**scored, **finals}.items():
        recipe = source.trials[trial_id].candidate.recipe
        names = {model.key for model in recipe.named}
        may_have_changed = changed & names or (changed and any(map(names_sum, recipe.models)))
        if not may_have_changed:
            with suppress(LedgerError):  # broken documents: this one is scored again
                documents = source.documents(trial_id, split)
                yield KnownOutcome(split, recipe.digest, _with_documents(outcome, documents))


def _inherited(source: Ledger) -> Iterator[KnownOutcome]:
    """What the run took over from another, whether it came to it again or not."""
    for split, digest in source.known:
        with suppress(LedgerError):  # broken documents: this one is scored again
            outcome = source.known_outcome(split, digest)
            if outcome is not None:
                yield KnownOutcome(split, digest, outcome)


def _with_documents(outcome: Outcome, documents: tuple[Document, ...]) -> Outcome:
    if outcome.evaluation is None:
        return outcome
    return replace(outcome, evaluation=replace(outcome.evaluation, documents=documents))


def _has_tokens(outcome: Outcome) -> bool:
    """Whether the tokens of all texts that were written were kept."""
    documents = () if outcome.evaluation is None else outcome.evaluation.documents
    return all(one.written is not None for one in documents if isinstance(one.answer, str))


def _note(old: RunFolder, known: list[KnownOutcome], obstacles: list[str]) -> str:
    if obstacles:
        return f"nothing of {old.path} holds here: {'; '.join(obstacles)}"
    n_trials = sum(entry.split == "tasks" for entry in known)
    finals = len(known) - n_trials
    told = f"{counted(n_trials, 'trial')} and {counted(finals, 'final score')}"
    return f"{told} of {old.path} hold here; none is repeated"
