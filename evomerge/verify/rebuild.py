"""Builds a winner with mergekit, has it scored apart from its run, compares both.

Of a mixture, which nothing builds, the members are loaded by transformers alone, those that are
merges once mergekit built them, and combined by a few lines that no run uses.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from evomerge.compiler.recorded_genome import dtype_of
from evomerge.evaluators.base import Evaluator, problems_of_split
from evomerge.evaluators.built_model import BuiltMixture, BuiltModel
from evomerge.evaluators.composite import evaluator_for
from evomerge.foundations.creating import refuse_occupied_folder
from evomerge.foundations.errors import EvomergeError, GenomeError, RunError, UnknownNameError
from evomerge.foundations.files import writing
from evomerge.foundations.findings import Finding
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_folder
from evomerge.foundations.scratch import scratch
from evomerge.genome.methods import METHODS
from evomerge.genome.schema import Genome
from evomerge.genome.words import Split
from evomerge.inference import ENGINES
from evomerge.merging.registered_methods import register_methods
from evomerge.recipe.own_names import located
from evomerge.run.recorded_run import earlier_stages
from evomerge.verify import hindrances as obstacles
from evomerge.verify.differences import (
    TOLERANCE,
    Difference,
    compare_documents,
    compare_metrics,
)
from evomerge.verify.winners import Recorded, read

Watch = Callable[[str, float], None]  # hears what is done, and how far it is in [0, 1]


@dataclass(frozen=True)
class Rebuilt:
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
    _judges: Mapping[Split, Evaluator]
    _permissions: Permissions
    _keep: Path | None

    @property
    def _genome(self) -> Genome:
        return self.winners[0].run.genome

    def verdict(self, winner: Recorded, watch: Watch) -> Rebuilt:
        """Builds, scores and compares one of the winners.

        Args:
            winner: One of ``winners``.
            watch: Hears how far it is.

        Raises:
            RunError: mergekit or a judge stopped.
        """
        own = self._keep
        if own is not None and len(self.winners) > 1:
            own = own / f"trial-{winner.trial_id:05d}"
        with _folder(own) as folder:
            built = self._built(winner, folder, watch)
            with _removed_if_stopped(folder):
                return Rebuilt(winner, tuple(self._differences(winner, built, watch)), own)

    def _built(self, winner: Recorded, folder: Path, watch: Watch) -> BuiltModel:
        from evomerge.merging.built import build_into
        from evomerge.merging.factors import placed
        from evomerge.merging.member_folders import member_folders
        from evomerge.merging.pickled import refuse_pickles
        from evomerge.merging.whole_model import unbuildable

        header, run_dir = winner.run.ledger.header, winner.run.ledger.folder.path
        recipe = located(winner.trial.candidate.recipe, run_dir)
        program = recipe.program or "mergekit"

        def report(share: float) -> None:
            watch(f"{program} builds trial {winner.trial_id}", share)

        options = {
            "merge_seed": header["merge_seed"],
            "threads": header["threads"],
            "device": self.device,
            "trust_remote_code": self._permissions.trust_remote_code,
            "allow_pickle": self._permissions.pickle,
            "report": report,
        }
        settings, mixture, pool = self._genome.evaluation_settings, None, recipe.pool
        as_it_is = unbuildable(recipe, self._permissions.pickle)
        if as_it_is is not None and is_folder(as_it_is.path):
            refuse_pickles(recipe, self._permissions.pickle)
            folder = _given(Path(as_it_is.path), folder, is_kept=self._keep is not None)
        elif pool is not None:
            members = member_folders(recipe, folder, **options)
            mixture, folder = BuiltMixture(tuple(members), pool), members[0]
        else:
            report(0.0)
            with scratch() as beside:
                build_into(placed(recipe, beside), folder, **options)
        return BuiltModel(
            folder,
            settings.model_copy(update={"dtype": dtype_of(header, self._genome)}),
            self.device,
            header["threads"],
            self._permissions.trust_remote_code,
            mixture,
        )

    def _differences(
        self, winner: Recorded, built: BuiltModel, watch: Watch
    ) -> Iterator[Difference]:
        watch("loads the model that was built", 0.0)
        tolerance = TOLERANCE.get(_dtype(winner), TOLERANCE["float32"])
        for split, documents in winner.documents.items():
            judge, recorded = self._judges[split], winner.metrics[split]
            what = f"{judge.means} scores {'search' if split == 'tasks' else split} tasks"
            found, metrics = judge.score_folder(built, partial(watch, what), recorded)
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
    unbuilt = next(filter(None, (one.trial.candidate.recipe.unbuilt for one in winners)), "")
    if keep is not None and unbuilt:
        raise RunError(
            f"there is no built model to keep: {unbuilt}", where=str(keep), fix="Leave out --keep."
        )
    run = winners[0].run
    header = run.ledger.header
    recipes = [winner.trial.candidate.recipe for winner in winners]
    if not all(METHODS.is_own(method) for recipe in recipes for method in recipe.methods):
        register_methods(tuple(header.get("method_packages", ())), permissions)
    of_models = chain(
        *(
            obstacles.of_models(one.ledger.header, one.genome, permissions)
            for one in (run, *earlier_stages(run))
        ),
        obstacles.of_sources(header, recipes),
    )
    findings = [
        *dict.fromkeys(of_models),  # stages may share a model
        *obstacles.of_versions(header, permissions),
        *obstacles.of_machine(header, recipes),
    ]
    obstacles.refuse(findings)
    judges = _judges(winners, permissions)
    for split, judge in judges.items():
        findings += obstacles.of_tasks(header, split, judge.identity())
        findings += obstacles.of_judges(judge)
    for dtype in sorted({_dtype(winner) for winner in winners}):
        findings += obstacles.of_precision(dtype)
    comparable = tuple(_comparable(winner, judges) for winner in winners)
    device = _device(header["device"])
    return Verification(comparable, tuple(findings), device, judges, permissions, keep)


def _judges(winners: tuple[Recorded, ...], permissions: Permissions) -> dict[Split, Evaluator]:
    """What scores every split that a winner was scored on."""
    genome, found = winners[0].run.genome, {}
    for split in dict.fromkeys(split for winner in winners for split in winner.documents):
        try:
            judge = evaluator_for(
                genome.split(split),
                genome.evaluation_settings,
                ENGINES[genome.evaluation.backend],
                search_path=genome.task_search_path,
                seed=genome.seed,
                permissions=permissions,
            )
            judge.prepare()
        except (GenomeError, UnknownNameError) as error:
            where = str(winners[0].run.ledger.folder.genome)
            raise GenomeError.of(
                replace(problem, where=f"{where}: {problem.where}")
                for problem in problems_of_split(error, split)
            ) from error
        found[split] = judge
    return found


def _comparable(winner: Recorded, judges: Mapping[Split, Evaluator]) -> Recorded:
    """The winner without what nobody can score apart from its run.

    Raises:
        RunError: nothing is left.
    """
    documents, metrics = {}, {}
    for split, own in winner.documents.items():
        alone = judges[split].unverifiable
        parts = [facts for facts in judges[split].facts() if facts.key.task in alone]
        names = alone.union(part.name for facts in parts for part in facts.parts)
        documents[split] = tuple(one for one in own if one.task not in names)
        metrics[split] = {
            key: value
            for key, value in winner.metrics[split].items()
            if key.rpartition("/")[0] not in names
        }
    if not any(documents.values()):
        raise RunError(
            "none of its tasks can be scored apart from the run, so there is nothing to compare",
            where=str(winner.run.ledger.folder.path),
            fix="`evomerge export` writes the recipe for mergekit-yaml.",
        )
    return replace(winner, documents=documents, metrics=metrics)


def _device(recorded: str) -> str:
    from evomerge.merging.bits import is_there

    return recorded if is_there(recorded) else "cpu"


def _dtype(winner: Recorded) -> str:
    """What the built model runs in."""
    forced = dtype_of(winner.run.ledger.header, winner.run.genome)
    return str(forced or winner.trial.candidate.recipe.dtype)


def _given(model: Path, folder: Path, *, is_kept: bool) -> Path:
    """A model that is no merge, and that no command of mergekit reads: its own folder."""
    if is_kept:
        with writing(folder):  # it may be there, empty
            shutil.copytree(model, folder, dirs_exist_ok=True)
        return folder
    return model


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
