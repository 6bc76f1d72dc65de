"""The genome file as a frozen object: its top level and `optimizer:`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from evomerge.genome.block import Block, Number, Whole, fits
from evomerge.genome.execution_block import Execution
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.misfit import MisfitError
from evomerge.genome.task_blocks import NAMED, EvaluationBlock, Task
from evomerge.genome.words import (
    N_FINALISTS,
    SPLITS,
    TRACKERS,
    USUAL_BASELINES,
    Baseline,
    Split,
    limit_key,
)

Objective = Literal["weighted_sum", "normalized", "worst", "harmonic_mean", "per_task"]


def _with_the_models(baselines: list[Baseline]) -> list[Baseline]:
    """The models are always scored: they say what each task can tell."""
    return baselines if "models" in baselines else ["models", *baselines]


class OptimizerLink(Block):
    """One optimizer of a chain, or one island; further keys are its own settings."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "auto",
        description="One of `evomerge list optimizers`; `auto` picks by a rule and says what.",
    )
    budget: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Trials of this link. Default: an equal share of what the others leave."
    )
    population_size: Annotated[Whole, Field(ge=1, le=10_000)] | None = Field(
        None, description="Trials per generation. Default: the optimizer's own."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def settings(self) -> dict[str, Any]:
        """The optimizer's own settings."""
        return dict(self.model_extra or {})


class OptimizerBlock(OptimizerLink):
    """Who searches, and for how long; further keys are the optimizer's own settings."""

    budget: Annotated[Whole, Field(ge=1)] = Field(
        100,
        description="Trials the optimizer proposes; the baselines come on top. Of a chain by "
        "default the sum of its links' budgets, where each has one.",
    )
    chain: Annotated[list[OptimizerLink], Field(min_length=1)] | None = Field(
        None,
        description="Optimizers that follow one another instead of one `name`; each begins where "
        "the best trial so far is and knows all trials before it.",
    )
    islands: Annotated[list[OptimizerLink], Field(min_length=2)] | None = Field(
        None,
        description="Optimizers that search side by side instead of one `name`, each with a "
        "population of its own; the best of each migrate to the others.",
    )
    migrate_every: Annotated[Whole, Field(ge=1)] = Field(
        20, description="Trials of all islands together between two migrations."
    )
    start: Literal["best", "average"] = Field(
        "best",
        description="Where the search begins: at the `best` merge scored before it, or at the "
        "uniform `average` of the models (of a density, at its largest).",
    )
    seed_from: str | list[str] = Field(
        default_factory=list,
        description="Run folders, `best.yml` files or recipes whose merges are tried first, so "
        "that the search begins from them.",
    )
    seed: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="Seed of the optimizer alone. Default: from the root seed."
    )
    patience: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Stop after so many trials without a better one."
    )
    timeout: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="Stop after so many seconds; what runs then is given up."
    )

    @classmethod
    def _long_form(cls, value: Any) -> Any:
        value = super()._long_form(value)
        if not isinstance(value, dict) or "budget" in value:
            return value
        parts = value.get("chain") or value.get("islands")
        if not isinstance(parts, list):
            return value
        budgets = [link.get("budget") for link in parts if isinstance(link, dict)]
        if parts and len(budgets) == len(parts) and all(isinstance(b, int) for b in budgets):
            return {**value, "budget": sum(budgets)}
        return value

    @fits("chain", "islands", "budget")
    def _links_share_the_budget(self) -> Iterator[MisfitError]:
        if not self.parts:
            return
        given = [link.budget for link in self.parts if link.budget is not None]
        n_open, n_given = len(self.parts) - len(given), sum(given)
        if n_given + n_open > self.budget or (not n_open and n_given < self.budget):
            needed = f"{n_given} trials" + (f" and {n_open} without any" if n_open else "")
            who = "the links of the chain" if self.chain else "the islands"
            yield MisfitError(f"{who} have {needed}, the budget is {self.budget}", "budget")

    @fits("chain", "islands")
    def _one_or_several(self) -> Iterator[MisfitError]:
        given = {"name", "population_size"} & self.model_fields_set | set(self.settings)
        beside = ", ".join(sorted(given))
        if self.chain and self.islands:
            yield MisfitError("a chain beside islands", "islands", fix="Give one of the two.")
        elif self.chain and given:
            yield MisfitError(f"{beside} beside a chain: each link has its own", "chain")
        elif self.islands and given:
            yield MisfitError(f"{beside} beside islands: each has its own", "islands")
        key = "chain" if self.chain else "islands"
        for index, link in enumerate(self.parts):
            if link.name == "auto":
                yield MisfitError(
                    f"{key}[{index}] is auto, which picks a chain of its own",
                    key,
                    index,
                    fix="Name an optimizer there, or leave all to auto.",
                )

    @fits("islands", "migrate_every")
    def _migrants_have_islands(self) -> Iterator[MisfitError]:
        if "migrate_every" in self.model_fields_set and not self.islands:
            yield MisfitError("only islands have migrants", "migrate_every", fix="Leave it out.")

    @property
    def title(self) -> str:
        """Who searches, in a few words."""
        return (" | " if self.islands else " -> ").join(link.name for link in self.links)

    @property
    def parts(self) -> tuple[OptimizerLink, ...]:
        """The links of a chain, or the islands, as the file has them; empty of a single one."""
        return tuple(self.chain or self.islands or ())

    @property
    def links(self) -> tuple[OptimizerLink, ...]:
        """The optimizers, each with its budget; often one."""
        if not self.parts:
            return (self,)
        given = sum(link.budget for link in self.parts if link.budget is not None)
        waiting = [index for index, link in enumerate(self.parts) if link.budget is None]
        share, more = divmod(self.budget - given, len(waiting)) if waiting else (0, 0)
        budgets = {index: share + (position < more) for position, index in enumerate(waiting)}
        return tuple(
            link if index not in budgets else link.model_copy(update={"budget": budgets[index]})
            for index, link in enumerate(self.parts)
        )

    @property
    def seeds(self) -> tuple[str, ...]:
        """What the search is seeded from."""
        return (self.seed_from,) if isinstance(self.seed_from, str) else tuple(self.seed_from)


class Genome(Block):
    """One search: what may vary, what judges it, who searches."""

    genome: MergeDefinition = Field(description="What may vary.")
    tasks: Annotated[list[Task], Field(min_length=1)] = Field(
        description="Search tasks: they steer the search."
    )
    validation: list[Task] = Field(
        default_factory=list, description="Tasks the best trials are scored on after the search."
    )
    holdout: list[Task] = Field(
        default_factory=list, description="Tasks looked at once, at the end; never steer."
    )
    finalists: Annotated[Whole, Field(ge=1)] = Field(
        N_FINALISTS,
        description="Best trials that are scored on `validation`, and at most as many more that "
        "cannot be told from the best; of several objectives it is the whole front.",
    )
    objective: Objective = Field(
        "weighted_sum",
        description="`weighted_sum`; `normalized`: each task scaled between base (0) and best "
        "parent (1); `worst`; `harmonic_mean`; `per_task`: one objective per task (nsga2).",
    )
    baselines: Annotated[list[Baseline], AfterValidator(_with_the_models)] = Field(
        default_factory=lambda: list(USUAL_BASELINES),
        description="What is scored before the search and has to be beaten: `models`, `base`, "
        "`average`, and what one would have tried, where models and base allow it: "
        "`task_arithmetic` (0.3, 0.5, 0.7, 1 for every model), `ties`, `slerp` (half way). The "
        "models always are among them. `mixture`, unless named, is none of them: the mean of the "
        "models' probabilities, which costs what all of them cost and stands beside the merges: it "
        "never wins.",
    )
    optimizer: OptimizerBlock = Field(
        default_factory=OptimizerBlock, description="Who searches, and for how long."
    )
    evaluation: EvaluationBlock = Field(
        default_factory=EvaluationBlock, description="How the live model is run."
    )
    execution: Execution = Field(default_factory=Execution, description="Where trials run.")
    trackers: list[str] = Field(
        default_factory=lambda: list(TRACKERS),
        description="Who keeps the run for others while it goes on; `evomerge list trackers`.",
    )
    output: Literal["recipe", "adapter"] = Field(
        "recipe", description="What `export RUN -o` writes; an `adapter` is a LoRA of the base."
    )
    run_dir: str | None = Field(
        None, description="The run folder. Default: `runs/` and the genome file's name."
    )
    seed: Annotated[Whole, Field(ge=0)] = Field(0, description="Root of everything random.")
    task_search_path: list[str] = Field(
        default_factory=list, description="Folders with lm-eval task YAML of your own."
    )
    limit: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="First so many documents of every search task."
    )
    validation_limit: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="The same of every validation task. Default: all."
    )
    holdout_limit: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="The same of every holdout task. Default: all."
    )
    num_fewshot: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="Worked examples in each prompt, for every task."
    )
    shuffle: bool = Field(
        False, description="With these limits: draw the documents at random (seeded)."
    )
    random_init: bool = Field(
        False, description="Start the search at a random point instead of the best baseline."
    )
    apply_chat_template: bool | None = Field(
        None, description="mergekit-evolve's place for `evaluation.apply_chat_template`."
    )
    fewshot_as_multiturn: bool | None = Field(
        None, description="mergekit-evolve's place for `evaluation.fewshot_as_multiturn`."
    )

    @fits("baselines")
    def _baselines_stand_once(self) -> Iterator[MisfitError]:
        twice = sorted({kind for kind in self.baselines if self.baselines.count(kind) > 1})
        if twice:
            yield MisfitError(f"baselines stand twice: {', '.join(twice)}", "baselines")

    @fits("tasks")
    def _search_tasks(self) -> Iterator[MisfitError]:
        yield from self._of_split("tasks")

    @fits("validation")
    def _validation_tasks(self) -> Iterator[MisfitError]:
        yield from self._of_split("validation")

    @fits("holdout")
    def _holdout_tasks(self) -> Iterator[MisfitError]:
        yield from self._of_split("holdout")

    def _of_split(self, split: Split) -> Iterator[MisfitError]:
        tasks: list[Task] = getattr(self, split)
        names = [task.name for task in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            what = f"tasks stand twice: {', '.join(twice)}"
            yield MisfitError(what, split, fix=_named_apart(tasks, twice))
        if tasks and not any(task.weight for task in tasks):
            yield MisfitError("all weights are 0", split)

    @fits("tasks", "holdout")
    def _holdout_apart(self) -> Iterator[MisfitError]:
        steering = {task.name for task in self.tasks}
        both = sorted(steering & {task.name for task in self.holdout})
        if both:
            yield MisfitError(
                f"holdout tasks must not steer the search, {', '.join(both)} also stands in tasks",
                "holdout",
                fix=_named_apart(self.holdout, both),
            )

    @fits("objective", *SPLITS)
    def _weights_have_a_harmonic_mean(self) -> Iterator[MisfitError]:
        for split in SPLITS:
            weights = [task.weight for task in getattr(self, split)]
            is_wrong = any(weights) and any(weight <= 0 for weight in weights)
            if self.objective == "harmonic_mean" and is_wrong:
                yield MisfitError(
                    f"harmonic_mean needs weights above 0, got {min(weights):g}", split
                )

    def split(self, name: Split) -> tuple[Task, ...]:
        """The tasks of a split with its limit and the file's num_fewshot filled in."""
        tasks: list[Task] = getattr(self, name)
        limit = getattr(self, limit_key(name))
        return tuple(self._filled(task, limit) for task in tasks)

    def _filled(self, task: Task, limit: int | None) -> Task:
        changes: dict[str, Any] = {}
        if task.num_fewshot is None:
            changes["num_fewshot"] = self.num_fewshot
        if task.limit is None and task.samples is None and limit is not None:
            changes["samples" if self.shuffle else "limit"] = limit
        return task.model_copy(update=changes)

    @property
    def evaluation_settings(self) -> EvaluationBlock:
        """`evaluation:` with mergekit-evolve's two keys in their place."""
        changes = {
            key: getattr(self, key)
            for key in ("apply_chat_template", "fewshot_as_multiturn")
            if getattr(self, key) is not None and getattr(self.evaluation, key) is None
        }
        return self.evaluation.model_copy(update=changes)


def _named_apart(tasks: Sequence[Task], names: Sequence[str]) -> str:
    """What helps tasks that are called alike by their kind, each with documents of its own."""
    kinds = [task.kind for task in tasks if task.name in names and task.kind != NAMED]
    if not kinds:
        return ""
    return f"If they are others, name them apart: {kinds[0]}: {{name: ..., ...}}."
