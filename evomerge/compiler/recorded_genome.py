"""The genome that a run folder holds, against the one of today."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import EvomergeError
from evomerge.foundations.reading import is_there
from evomerge.genome.difference import differences
from evomerge.genome.schema import Genome
from evomerge.genome.source import read_yaml
from evomerge.nouns.space import Space, from_data
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder

_BESIDE = ("run_dir", "trackers", "output")  # a run may be moved, kept for others, written anew
_OF_TRIALS = ("trial_timeout",)  # of `execution:`, what makes of a trial what it is
LIMITS = ("budget", "patience", "timeout")  # of `optimizer:`, how far a search goes
_FIRST_BASELINES = ["models", "base", "average"]  # of runs whose ledger does not say


def genome_digest(genome: Any) -> str:
    """Of all that makes a run itself: everything but where it is kept, and by whom."""
    return digest(_itself(genome))


def has_begun(run_dir: Path | None, genome: Any) -> bool:
    """Whether a folder holds a run of this very genome, perhaps with other limits.

    Args:
        run_dir: The run folder; None: there is none.
        genome: Content of the genome of today.
    """
    if run_dir is None or not is_there(RunFolder(run_dir).ledger):
        return False
    try:
        stored = read_yaml(RunFolder(run_dir).genome).data
    except EvomergeError:
        return False
    return not [*differences(without_limits(stored), without_limits(genome))]


def dtype_of(header: Mapping[str, Any], genome: Genome) -> str | None:
    """In which dtype a run makes its forward passes; None: in that of the models.

    It stays what it was when the run began, on whatever machine it goes on.
    """
    dtype: str | None = header.get("dtype", genome.evaluation_settings.dtype)
    return dtype


def with_its_baselines(genome: Genome, run_dir: Path) -> Genome:
    """A genome with the baselines that its run in a folder began with: trials are counted on."""
    try:
        header = Ledger.open(RunFolder(run_dir), read_only=True).header
    except EvomergeError:
        return genome  # whoever continues it says what is wrong with it
    return genome.model_copy(update={"baselines": header.get("baselines", _FIRST_BASELINES)})


def recorded_names(run_dir: Path | None) -> Mapping[str, Mapping[str, str]]:
    """The metrics that the first documents of the run in a folder named.

    Returns:
        Split -> task -> ``"metric,filter"``; nothing where no run has begun there.
    """
    if run_dir is None or not is_there(RunFolder(run_dir).ledger):
        return {}
    try:
        ledger = Ledger.open(RunFolder(run_dir), read_only=True)
    except EvomergeError:
        return {}  # whoever continues it says what is wrong with it
    names: Mapping[str, Mapping[str, str]] = ledger.header.get("metrics", {})
    return names


def recorded_header(run_dir: Path | None) -> Mapping[str, Any] | None:
    """What the run in a folder began with; None where no run has begun there."""
    if run_dir is None or not is_there(RunFolder(run_dir).ledger):
        return None
    try:
        return Ledger.open(RunFolder(run_dir), read_only=True).header
    except EvomergeError:
        return None  # whoever continues it says what is wrong with it


def recorded_space(run_dir: Path | None) -> Space | None:
    """The space that the run in a folder searches; None where no run has begun there."""
    header = recorded_header(run_dir)
    return None if header is None else space_in(header)


def space_in(header: Mapping[str, Any]) -> Space | None:
    """The space that a run began with; None where its ledger does not say, or says it otherwise."""
    try:
        return from_data(header["space"])
    except (KeyError, TypeError, ValueError):
        return None


def genome_changes(ledger: Ledger, genome: Any) -> list[str]:
    """One line for each key of the genome that is not as it was when the run began."""
    if is_of(ledger, genome):
        return []
    stored = stored_genome(ledger)
    if stored is None:
        return ["genome: another one, and the run folder's genome.yml cannot be read"]
    lines = [f"genome {line}" for line in differences(_itself(stored), _itself(genome))]
    if lines or is_of(ledger, stored):
        return lines
    return ["genome: the run folder's genome.yml was edited after the run began"]


def stored_genome(ledger: Ledger) -> Any:
    """The content of the genome in a run folder; None where it cannot be read."""
    try:
        return read_yaml(ledger.folder.genome).data
    except EvomergeError:  # whoever needs it says so
        return None


def without_limits(genome: Any) -> Any:
    """All of a genome that says what the first trials are: not how many there will be."""
    found = _itself(genome)
    block = found.get("optimizer", {}) if isinstance(found, Mapping) else None
    block = {"name": block} if isinstance(block, str) else block
    if not isinstance(block, Mapping):
        return found
    rest, chain = _without(block, LIMITS), block.get("chain")
    if isinstance(chain, list) and chain:
        last = {"name": chain[-1]} if isinstance(chain[-1], str) else chain[-1]
        rest = {**rest, "chain": [*chain[:-1], _without(last, LIMITS)]}
    return {**_without(found, ("optimizer",)), "optimizer": rest}


def workers_of(ledger: Ledger) -> int:
    """Workers that a run began with: its optimizer asks for no smaller generations, ever since."""
    if "workers" in ledger.header:
        return int(ledger.header["workers"])
    try:
        execution = read_yaml(ledger.folder.genome).data["execution"]
        return int(execution.get("workers", 1))
    except (EvomergeError, AttributeError, KeyError, TypeError, ValueError):
        return 1


def is_of(ledger: Ledger, genome: Any) -> bool:
    """Whether a run goes on with this very genome."""
    return ledger.genome_digest in _digests(genome)


def is_left_of(ledger: Ledger, genome: Any) -> bool:
    """Whether a run wrote this very genome into its folder: its own, or the one before.

    A kill may come between the ledger's word of larger limits and the file that has them.
    """
    later = [extension.genome_digest for extension in ledger.extensions]
    return not _digests(genome).isdisjoint([ledger.header["genome_digest"], *later][-2:])


def _digests(genome: Any) -> set[str]:
    """That of today, and those that older versions made."""
    return {genome_digest(genome), digest(_without(genome, _BESIDE)), digest(genome)}


def _itself(genome: Any) -> Any:
    """All of it that scores depend on: not where trials run, nor how many at once."""
    found = _without(genome, _BESIDE)
    execution = found.get("execution") if isinstance(found, Mapping) else None
    if not isinstance(execution, Mapping):
        return found
    kept = {key: execution[key] for key in _OF_TRIALS if key in execution}
    return {**_without(found, ("execution",)), **({"execution": kept} if kept else {})}


def _without(genome: Any, keys: Collection[str]) -> Any:
    if not isinstance(genome, Mapping):
        return genome
    return {key: value for key, value in genome.items() if key not in keys}
