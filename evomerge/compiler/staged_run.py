"""The searches of a genome file, one after the other; most files hold one.

Each is an ordinary genome with an ordinary run. What one finds is built once, and is a model on
disk to those after it, while their ledgers hold the whole recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from evomerge.checks.reference_model import reference_of
from evomerge.compiler.compiled import Compiled, Examination, named_models
from evomerge.compiler.examine import examine
from evomerge.compiler.genome_file import GenomeFile, Stage
from evomerge.compiler.identity import other_run, refusal
from evomerge.compiler.other_models import with_other_models
from evomerge.compiler.recipe_sources import RecipeSource, RecipeSources, recipe_sources
from evomerge.foundations.errors import GenomeError, LedgerError, NoRunError
from evomerge.foundations.findings import Severity, error, problems
from evomerge.foundations.permissions import Permissions
from evomerge.foundations.reading import is_folder, is_there
from evomerge.foundations.scratch import scratch
from evomerge.genome.load import to_yaml
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts
from evomerge.models.foreseen import foreseen
from evomerge.nouns.events import Preparing
from evomerge.recipe.kept_stages import Made, folded
from evomerge.recipe.own_names import from_beside, located
from evomerge.recipe.plain import Recipe
from evomerge.run.changed_models import surely_changed
from evomerge.run.chosen import winners_of
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.shape import models_in
from evomerge.run.ledger.staged_folder import StagedFolder, begun_stages

Hear = Callable[[Preparing], None]


class StagedRun:
    """The searches of a file, and where their runs are.

    Args:
        file: The genome file.
        run_dir: The folder of the whole run.
        permissions: What the user allows.
        fork_dir: A folder for a run that takes over what is still true in ``run_dir``.
    """

    def __init__(
        self,
        file: GenomeFile,
        run_dir: Path,
        permissions: Permissions | None = None,
        fork_dir: Path | None = None,
    ) -> None:
        self.stages = file.stages
        self.folder = StagedFolder(fork_dir or run_dir)
        self._source = file.source
        self._before = None if fork_dir is None else StagedFolder(run_dir)
        self._permissions = permissions or Permissions()

    def run_dir(self, stage: Stage) -> Path:
        """The run folder of a stage."""
        return self.folder.stage(stage.name)

    def folders(self, stage: Stage) -> tuple[Path, Path | None]:
        """The run folder of a stage; of a fork where its run was, and where its own will be."""
        own = self.run_dir(stage)
        if self._before is None:
            return own, None
        before = self._before.stage(stage.name)
        has_begun = not stage.name or is_there(RunFolder(before).ledger)
        return (before, own) if has_begun else (own, None)

    @property
    def left(self) -> tuple[Stage, ...]:
        """The stages that are not over: the one that is being searched, and those after it."""
        return tuple(stage for stage in self.stages if not self.is_over(stage))

    def is_over(self, stage: Stage) -> bool:
        """Whether a later stage has begun, so that nothing of this one may change."""
        own, *later = self.stages[self.stages.index(stage) :]
        return self._has_begun(own) and any(map(self._has_begun, later))

    def _has_begun(self, stage: Stage) -> bool:
        return is_there(RunFolder(self.run_dir(stage)).ledger)

    @cached_property
    def _recipes(self) -> Mapping[str, RecipeSources]:
        """For each stage the recipes that it names for models."""
        return {one.name: recipe_sources(one.genome, self._permissions) for one in self.stages}

    @cached_property
    def examinations(self) -> tuple[Examination, ...]:
        """What files can show of each stage; of models that are yet to be made what is foreseen."""
        found, foreseen = [], dict[ModelName, ModelFacts | None]()
        for stage in self.stages:
            # One that is not over may find another winner yet: what it found so far is no model.
            over = [one.name for one in self.stages if one.name in stage.uses and self.is_over(one)]
            examination = self._examination(stage, self._made(over), foreseen)
            if any(stage.name in one.uses for one in self.stages):
                examination = _with_a_winner_to_merge(stage, examination)
            found.append(examination)
            if examination.compiled is not None and stage.name:
                name = ModelName(path=stage.name, is_stage=True)
                foreseen[name] = _like_its_models(stage, examination.compiled)
        return tuple(found)

    def check(self) -> None:
        """Looks at all stages and at the folder of the run.

        Raises:
            GenomeError: every mistake found in any stage, with file, line and key.
            LedgerError: a stage that is over is another one now, or the folder holds another
                kind of run, or a stage that is none any more.
            NoRunError: there is nothing to be forked.
        """
        self.refuse_folder()
        for one in self.stages:
            if self.is_over(one):
                refused = refusal(RunFolder(self.run_dir(one)), one.source.data, None)
                if refused:
                    raise LedgerError.of(refused)
                self._refuse_changed(one)
        wrong = [p for one in self.examinations for p in problems(one.findings, Severity.ERROR)]
        if wrong:
            raise GenomeError.of(list(dict.fromkeys(wrong)))

    def compiled(self, stage: Stage) -> Compiled:
        """A stage without mistakes, ready to be searched; what it merges of earlier ones is built.

        Raises:
            GenomeError: what was built cannot be searched.
        """
        known = self.examinations[self.stages.index(stage)].sound
        if not stage.uses and not self._recipes[stage.name].sound:
            return known
        return self._examination(stage, self._made(stage.uses), {}).sound

    def refuse_folder(self) -> None:
        """Does nothing where these stages may be searched.

        Raises:
            LedgerError: the folder holds another kind of run, or a stage that is none any more.
            NoRunError: there is nothing to be forked.
        """
        if not self.stages[0].name:
            return
        if self._before is not None and not begun_stages(self._before.path):
            raise NoRunError(
                "holds no run with stages",
                where=str(self._before.path),
                fix="Name the folder of one, or leave --fork out.",
            )
        self.folder.refuse_another([stage.name for stage in self.stages], to_yaml(self._source))

    def begin(self) -> None:
        """Writes down in the folder of the run which stages there are.

        Raises:
            LostFileError: it cannot be written.
        """
        if self.stages[0].name:
            self.folder.begin(to_yaml(self._source))

    def keep_for(self, stage: Stage, hear: Hear) -> None:
        """Builds what earlier stages found and recipes make, where a stage merges it.

        What is there already stays.

        Raises:
            RunError: mergekit stopped, or what it built is no sound model.
            LedgerError: models of an earlier stage have changed since it began.
            LostFileError: the folder cannot be written.
        """
        for one in self.stages:
            if one.name in stage.uses:
                self._refuse_changed(one)
                self._keep(one, hear)
        factory = self.examinations[self.stages.index(stage)].sound.tasks.worker_factory
        for source in self._recipes[stage.name].sound:
            folder = self._folder_of(source)
            if not is_folder(folder):
                what = f"{source.recipe.program} builds {source.name}, once"
                own = BuildSettings(factory.seed, factory.threads, factory.device)
                self._build(source.recipe, folder, own, what, hear)

    def _refuse_changed(self, stage: Stage) -> None:
        """Does nothing where the models of a stage that has begun are what they were then.

        Raises:
            LedgerError: which of them are others.
        """
        folder = RunFolder(self.run_dir(stage))
        recorded = models_in(Ledger.open(folder, read_only=True).header)
        named = [name for name, _ in named_models(stage.genome) if not name.is_stage]
        inside = [name for one in self._recipes[stage.name].sound for name in one.recipe.named]
        others = [
            f"model {name}: its files are others than when stage {stage.name} began"
            for name in dict.fromkeys([*named, *inside])
            if surely_changed(recorded, name)
        ]
        if others:
            raise other_run(folder, others)

    def _keep(self, stage: Stage, hear: Hear) -> None:
        (winner,) = winners_of(self.run_dir(stage))
        found = from_beside(winner.own_recipe, stage.name)
        folder = self.folder.model(stage.name, found)
        if is_folder(folder):
            return
        recipe = located(folded(found, self._made(stage.uses)), self.run_dir(stage))
        what = f"{recipe.program} builds what stage {stage.name} found, once"
        content = winner.content
        own = BuildSettings(
            int(content["merge_seed"]), int(content["threads"]), str(content["device"])
        )
        self._build(recipe, folder, own, what, hear)

    def _build(
        self, recipe: Recipe, folder: Path, settings: BuildSettings, what: str, hear: Hear
    ) -> None:
        import torch  # heavy; most files build nothing

        from evomerge.merging.built import build_into
        from evomerge.merging.factors import placed

        def report(share: float) -> None:
            if share:
                hear(Preparing(what, share))

        hear(Preparing(what))
        with scratch() as beside:
            build_into(
                placed(recipe, beside),
                folder,
                merge_seed=settings.merge_seed,
                threads=settings.threads or torch.get_num_threads(),
                device=settings.device,
                trust_remote_code=self._permissions.trust_remote_code,
                allow_pickle=self._permissions.pickle,
                report=report,
            )

    def _examination(
        self, stage: Stage, made: Made, foreseen: Mapping[ModelName, ModelFacts | None]
    ) -> Examination:
        own, recipes = self.run_dir(stage), self._recipes[stage.name]
        there = {
            ModelName(path=Path(path).name, is_stage=True): ModelName(path=path) for path in made
        }
        for one in recipes.sound:
            path = str(self._folder_of(one))
            if is_folder(path):
                there[one.name] = ModelName(path=path)
                made = {**made, path: one.recipe}
        genome = with_other_models(stage.genome, there)
        foreseen = {**foreseen, **recipes.foreseen}
        found = examine(genome, stage.source, self._permissions, own, made, foreseen)
        told = [replace(f, problem=stage.source.locate(f.problem)) for f in recipes.findings]
        return replace(found, stage=stage.name, findings=(*told, *found.findings))

    def _folder_of(self, source: RecipeSource) -> Path:
        """Where what a recipe makes is kept: by the name of its file, as no stage is called."""
        return self.folder.model(Path(source.name.path).name, source.recipe)

    def _made(self, names: Collection[str]) -> Made:
        """What the stages of some names found: where it is built already, and how."""
        found: dict[str, Recipe] = {}
        for one in self.stages:
            if one.name in names and is_there(RunFolder(self.run_dir(one)).best):
                recipe = from_beside(winners_of(self.run_dir(one))[0].own_recipe, one.name)
                folder = self.folder.model(one.name, recipe)
                if is_folder(folder):
                    found[str(folder)] = recipe
        return found


def _with_a_winner_to_merge(stage: Stage, found: Examination) -> Examination:
    """The same, with a mistake where no later stage can merge what the stage finds."""
    if found.compiled is None:
        return found
    space = found.compiled.merge_space
    recipe = space.recipe(space.space.decode(space.space.initial))
    if recipe.is_stage:
        return found
    what = f"mergekit-multi cannot make what space {space.name} finds for a later stage"
    where = stage.source.where(("genome", "space"))
    wrong = error(what, where, "Put this stage last.")
    return Examination((wrong, *found.findings), stage=found.stage)


def _like_its_models(stage: Stage, compiled: Compiled) -> ModelFacts:
    """What the model that a stage is to find will be like: its base, or its first model."""
    like = reference_of(compiled.context)
    assert like is not None  # it was compiled
    name = ModelName(path=stage.name, is_stage=True)
    return foreseen(like, name, donors=compiled.context.models)


@dataclass(frozen=True)
class BuildSettings:
    """What decides the bits of a model that mergekit builds, beside its recipe.

    Attributes:
        merge_seed: Of methods that draw.
        threads: Of the arithmetic; None: as many as torch takes by itself.
        device: Where it is merged.
    """

    merge_seed: int
    threads: int | None
    device: str
