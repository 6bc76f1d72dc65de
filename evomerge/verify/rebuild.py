"""Builds a winner with mergekit-yaml, scores it with lm-eval alone, compares with the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.compiler.recorded_genome import dtype_of
from evomerge.foundations.creating import refuse_occupied_folder
from evomerge.foundations.errors import EvomergeError, GenomeError
from evomerge.foundations.findings import Finding
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.scratch import scratch
from evomerge.genome.schema import Genome
from evomerge.genome.words import Split
from evomerge.training.own_models import located
from evomerge.verify import hindrances as obstacles
from evomerge.verify.differences import (
    TOLERANCE,
    Difference,
    compare_documents,
    compare_metrics,
)
from evomerge.verify.winners import Recorded, read

if TYPE_CHECKING:
    from evomerge.evaluators.lm_eval.lm_eval_alone import Reference

Watch = Callable[[str, float], None]  # hears what is done, and how far it is in [0, 1]


@dataclass(frozen=True)
class Verdict:
    """What came of one winner.

    Attributes:
        recorded: The winner as its run has it.
        differences: Where the built model differs.
        folder: The built model, where it was to be kept.
    """

    recorded: Recorded
    differences: tuple[Difference, ...]
    folder: Path | None

    @property
    def n_documents(self) -> int:
        """Documents compared."""
        return sum(map(len, self.recorded.documents.values()))

    @property
    def n_differing(self) -> int:
        """Documents that differ."""
        return sum(difference.doc_id is not None for difference in self.differences)


@dataclass(frozen=True)
class Verification:
    """Winners read and checked, ready to be built.

    Attributes:
        winners: What is verified.
        findings: Why the bits may differ here; nothing that makes a build impossible.
        device: Where it is built and scored.
    """

    winners: tuple[Recorded, ...]
    findings: tuple[Finding, ...]
    device: str
    _references: Mapping[Split, Reference]
    _permissions: Permissions
    _keep: Path | None

    @property
    def _genome(self) -> Genome:
        return self.winners[0].run.genome

    def verdict(self, winner: Recorded, watch: Watch) -> Verdict:
        """Builds, scores and compares one of the winners.

        Args:
            winner: One of ``winners``.
            watch: Hears how far it is.

        Raises:
            RunError: mergekit or lm-eval stopped.
        """
        own = self._keep
        if own is not None and len(self.winners) > 1:
            own = own / f"trial-{winner.trial_id:05d}"
        with _folder(own) as folder:
            self._build(winner, folder, watch)
            with _removed_if_stopped(folder):
                return Verdict(winner, tuple(self._differences(winner, folder, watch)), own)

    def _build(self, winner: Recorded, folder: Path, watch: Watch) -> None:
        from evomerge.merging.built import build_into
        from evomerge.merging.factors import placed

        def report(share: float) -> None:
            watch(f"mergekit-yaml builds trial {winner.trial_id}", share)

        report(0.0)
        header, run_dir = winner.run.ledger.header, winner.run.ledger.folder.path
        with scratch() as beside:
            build_into(
                located(placed(winner.trial.candidate.recipe, run_dir, beside), run_dir),
                folder,
                merge_seed=header["merge_seed"],
                threads=header["threads"],
                device=self.device,
                trust_remote_code=self._permissions.trust_remote_code,
                allow_pickle=self._permissions.pickle,
                report=report,
            )

    def _differences(self, winner: Recorded, folder: Path, watch: Watch) -> Iterator[Difference]:
        from evomerge.evaluators.lm_eval.hf_model import open_model

        watch("lm-eval loads the model", 0.0)
        settings = self._genome.evaluation_settings
        dtype = dtype_of(winner.run.ledger.header, self._genome)
        model = open_model(
            folder,
            settings.model_copy(update={"dtype": dtype}),
            device=self.device,
            threads=winner.run.ledger.header["threads"],
            trust_remote_code=self._permissions.trust_remote_code,
        )
        tolerance = TOLERANCE.get(_dtype(winner), TOLERANCE["float32"])
        for split, documents in winner.documents.items():

            def report(share: float, split: str = split) -> None:
                watch(f"lm-eval scores {'search' if split == 'tasks' else split} tasks", share)

            report(0.0)
            recorded = winner.metrics[split]
            found, metrics = self._references[split].score(model, report, recorded)
            yield from compare_documents(split, documents, found, tolerance)
            yield from compare_metrics(split, recorded, metrics, documents, tolerance)


def prepare(
    best_or_run: Path,
    permissions: Permissions,
    keep: Path | None = None,
    trial_id: int | None = None,
) -> Verification:
    """Reads what is to be verified and finds what stands against equal bits; builds nothing.

    Args:
        best_or_run: A run folder, or a best.yml in one.
        permissions: What the user allows models and tasks.
        keep: The folder for the built model, or for one folder each of several; None: a
            temporary folder.
        trial_id: This trial of the run instead of its winner.

    Raises:
        NoRunError: it is neither a run folder nor a best.yml.
        OccupiedError: ``keep`` holds something.
        LedgerError: the run folder contradicts itself.
        ModelError: models are missing.
        GenomeError: tasks are missing.
        RunError: the run has no such trial, or it failed.
    """
    if keep is not None:
        refuse_occupied_folder(keep)
    winners = read(best_or_run, trial_id)
    run = winners[0].run
    header = run.ledger.header
    recipes = [winner.trial.candidate.recipe.config for winner in winners]
    findings = [
        *obstacles.of_models(header, run.genome, permissions),
        *obstacles.of_versions(header),
        *obstacles.of_machine(header, recipes),
    ]
    obstacles.refuse(findings)
    references = _references(winners, permissions)
    for split, reference in references.items():
        findings += obstacles.of_tasks(header, split, reference.identity())
        findings += obstacles.of_sampling(reference.sampled)
    for dtype in sorted({_dtype(winner) for winner in winners}):
        findings += obstacles.of_precision(dtype)
    return Verification(
        winners, tuple(findings), _device(header["device"]), references, permissions, keep
    )


def _references(winners: tuple[Recorded, ...], permissions: Permissions) -> dict[Split, Reference]:
    """The tasks of every split that a winner was scored on."""
    from evomerge.evaluators.lm_eval.lm_eval_alone import Reference

    genome = winners[0].run.genome
    found: dict[Split, Reference] = {}
    for split in dict.fromkeys(split for winner in winners for split in winner.documents):
        try:
            found[split] = Reference(
                genome.split(split),
                genome.evaluation_settings,
                search_path=genome.task_search_path,
                seed=genome.seed,
                permissions=permissions,
            )
        except GenomeError as error:
            where = str(winners[0].run.ledger.folder.genome)
            raise GenomeError.of(
                [
                    type(p)(p.what, f"{where}: {split}{p.where.removeprefix('tasks')}", p.fix)
                    for p in error.problems
                ]
            ) from error
    return found


def _device(recorded: str) -> str:
    from evomerge.merging.bits import is_there

    return recorded if is_there(recorded) else "cpu"


def _dtype(winner: Recorded) -> str:
    """What the built model runs in."""
    config = winner.trial.candidate.recipe.config
    forced = dtype_of(winner.run.ledger.header, winner.run.genome)
    return str(forced or config.get("out_dtype") or config.get("dtype"))


@contextmanager
def _folder(own: Path | None) -> Iterator[Path]:
    """The folder to build into."""
    if own is not None:
        yield own
        return
    with scratch() as temporary:
        yield temporary / "model"


@contextmanager
def _removed_if_stopped(built: Path) -> Iterator[None]:
    """A model that could not be compared to its end is not kept."""
    try:
        yield
    except (EvomergeError, KeyboardInterrupt):
        shutil.rmtree(built, ignore_errors=True)
        raise
