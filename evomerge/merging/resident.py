"""The resident merger: from a recipe to a model in memory, nothing written to disk.

Sources are read once and stay; one live model stays and is overwritten in place. The
arithmetic is mergekit's, task by task in mergekit's own order: its kernels, or faster ones
that round in the same places. So the weights equal those that ``mergekit-yaml`` writes, to
the bit at the same number of threads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from mergekit.common import dtype_from_name
from transformers import PreTrainedConfig, PreTrainedModel

from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import MergeError
from evomerge.foundations.reading import is_folder
from evomerge.merging.built_files import BuiltFolder, Outputs, Tokenizers
from evomerge.merging.factors import Sums
from evomerge.merging.hub_cache import reachable
from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.kernels.engine import Kernels, Merged, TensorMerger
from evomerge.merging.live_model import LiveModel
from evomerge.merging.live_weights import Weights
from evomerge.merging.merge_failures import failures_told
from evomerge.merging.pickled import refuse_pickles
from evomerge.merging.shared_copies import ALONE, Sharing
from evomerge.merging.sources import Sources
from evomerge.merging.structure import Structure
from evomerge.merging.window import Window
from evomerge.models.quiet import quiet_transformers
from evomerge.recipe.plain import Recipe

STRUCTURES_KEPT = 4  # the search's own, and a few baselines'
Change = Callable[[Iterator[Merged]], Iterator[Merged]]


class ResidentMerger:
    """Merges recipe after recipe into one live model.

    Not safe to use from several threads: mergekit's loaders are shared by the process.

    Args:
        device: Where sources stay, merges are computed and the model runs.
        dtype: Of the live model, e.g. ``"bfloat16"``; None: what a built folder loads in.
        merge_seed: Of randomised methods, as ``mergekit-yaml --random-seed``; every merge
            starts from it.
        trust_remote_code: Whether models may bring their own code.
        allow_pickle: Models and adapters whose weights may be in pickle files.
        lora_cache: Where folded ``model+lora`` sources are kept, to be shared or reused;
            None: a temporary folder.
        cache_bytes: Memory for what merges share: ranks, random numbers, task vectors, copies
            of sources in the dtype that recipes compute in. None: an eighth of what is free
            now, at most 8 GiB, for all workers together. Without room a merge computes them as it
            goes.
        source_bytes: Of the sources that may stay in memory; the rest is read from its files in
            every merge. None: what is free now, on a GPU five eighths of it. The weights are the
            same.
        folders: Folders of local models; one that vanishes must not be taken for a Hub id.
        engine: ``"fast"``, or ``"reference"`` for mergekit's kernels only. The weights are
            the same.
        tokenizers: Those read so far, of mergers whose models are scored in turn: an equal one is
            the same object, and requests are not tokenised again. None: its own.
        sharing: The workers whose memory it is.

    Attributes:
        dtype: As given.
        merge_seed: As given.
        allow_pickle: As given.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        merge_seed: int = 0,
        trust_remote_code: bool = False,
        allow_pickle: Collection[str] = (),
        lora_cache: Path | None = None,
        cache_bytes: int | None = None,
        source_bytes: int | None = None,
        folders: Sequence[Path] = (),
        engine: Literal["fast", "reference"] = "fast",
        tokenizers: Tokenizers | None = None,
        sharing: Sharing = ALONE,
    ) -> None:
        self._device = device
        self.dtype = dtype
        self.merge_seed = merge_seed
        self.allow_pickle = allow_pickle
        self._folders = tuple(folders)
        self._sums = Sums()
        n_workers = sharing.n_workers
        budget = MemoryBudget(cache_bytes, torch.device(device), n_workers)
        self._engine = TensorMerger(fast=engine == "fast", merge_seed=merge_seed, budget=budget)
        self._sources = Sources(
            device=device,
            trust_remote_code=trust_remote_code,
            lora_cache=lora_cache,
            budget=budget,
            window=Window(source_bytes, torch.device(device), n_workers),
            sharing=sharing,
        )
        self._outputs = Outputs(self._sources.options, tokenizers)
        self._plans: OrderedDict[str, _Plan] = OrderedDict()
        self._n_kept = STRUCTURES_KEPT
        self._weights: Weights | None = None
        self._weights_key: _WeightsKey | None = None

    @property
    def device(self) -> torch.device:
        """Where sources stay, merges are computed and the model runs."""
        return torch.device(self._device)

    @property
    def trust_remote_code(self) -> bool:
        """Whether models may bring their own code."""
        return bool(self._sources.options.trust_remote_code)

    @property
    def homes(self) -> Mapping[str, torch.Tensor] | None:
        """The live model's tensors by their names in a built folder; None: not one tensor each."""
        weights = self._weights
        return dict(weights.bound) if weights is not None and weights.in_place else None

    def structure(self, recipe: Recipe) -> Structure:
        """The plan that a recipe shares with all that differ from it in parameter values only."""
        return self._plan(reachable(recipe), recipe).structure

    def names(self, recipe: Recipe) -> frozenset[str]:
        """The tensors that its models hold of those that a built folder may have."""
        return self.structure(recipe).names

    def keep(self, n_structures: int) -> None:
        """Makes room for the plans of recipes that are merged in turn."""
        self._n_kept = STRUCTURES_KEPT + n_structures

    def drop_live(self) -> None:
        """Gives back the memory of the live model, whoever has it; the next merge loads one."""
        if self._weights is not None:
            self._weights.release()
        self._weights = self._weights_key = None

    def forget_structures(self, coming: Recipe | None = None) -> None:
        """Drops all plans and what their kernels keep, so that others have the memory."""
        self._plans.clear()

    def surroundings(self, recipe: Recipe) -> BuiltFolder:
        """What a built folder holds beside the weights."""
        return self._plan(reachable(recipe), recipe).output

    def dtype_in(self, folder: BuiltFolder) -> torch.dtype:
        """That of a live model with such surroundings, float32 where nobody says."""
        dtype = dtype_from_name(self.dtype) or folder.config.dtype
        return dtype if isinstance(dtype, torch.dtype) else torch.float32

    def load(self, config: PreTrainedConfig, tensors: Mapping[str, torch.Tensor]) -> Weights:
        """A model beside its own, as a folder with these tensors loads."""
        return Weights.load(config, tensors, device=self._device, dtype=self.dtype)

    def write_frame(self, recipe: Recipe, folder: Path) -> None:
        """Writes what a built folder holds beside the weights: configuration and tokenizer."""
        self._outputs.write(self.structure(recipe), folder)

    def merge(
        self, recipe: Recipe, deadline: Deadline | None = None, change: Change | None = None
    ) -> LiveModel:
        """The recipe's model; the one merged before is overwritten or dropped.

        The global random state of torch is left as it was.

        Args:
            recipe: What to merge.
            deadline: Looked at between tensors; None for no limit.
            change: What becomes of the tensors on their way into the model.

        Raises:
            LostFileError: a file of a model is gone or broken.
            TrialTimeoutError: the deadline is over.
            MergeError: mergekit cannot merge it, or a merged weight is not finite.
            ModelError: the models of the recipe cannot give a complete model.
        """
        with self._merging(recipe, deadline) as (plan, merged):
            module = self._written(plan, merged if change is None else change(merged))
        module.generation_config = plan.output.generation
        return LiveModel(module=module, tokenizer=plan.output.tokenizer)

    def send(
        self, recipe: Recipe, take: Callable[[Iterator[Merged]], None], deadline: Deadline | None
    ) -> None:
        """Merges a recipe into somebody else's tensors; the live model is left as it is.

        Args:
            recipe: What to merge.
            take: Uses the tensors, each before the next.
            deadline: As for :meth:`merge`, which has the errors.
        """
        with self._merging(recipe, deadline) as (_, merged):
            take(merged)

    @contextmanager
    def _merging(
        self, recipe: Recipe, deadline: Deadline | None
    ) -> Iterator[tuple[_Plan, Iterator[Merged]]]:
        """The plan and the tensors of a recipe, in mergekit's order and from its random state."""
        cuda = [self._device] if torch.device(self._device).type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.no_grad(), failures_told():
            fold = self._sums.fold_of(recipe)
            named = recipe if fold is None else fold.base
            recipe = reachable(named)
            plan = self._plan(recipe, named)
            # All that transformers.set_seed, which mergekit calls, means to the kernels.
            torch.default_generator.manual_seed(self.merge_seed)
            if cuda:
                torch.cuda.manual_seed_all(self.merge_seed)
            merged = self._engine.merged(
                plan.structure, plan.kernels, recipe, deadline or Deadline()
            )
            merged = merged if fold is None else fold.applied(merged)
            try:
                yield plan, merged
            except MergeError as error:
                raise self._with_source(plan.structure, error) from error

    def _plan(self, recipe: Recipe, named: Recipe) -> _Plan:
        """The plan of a recipe, which ``named`` is with its models as the user named them."""
        key = recipe.structure_key
        if key not in self._plans:
            self.refuse(named)
            with quiet_transformers():
                structure = Structure.of(recipe, self._sources)
                self._plans[key] = _Plan(
                    structure, self._outputs.of(structure), self._engine.kernels(structure)
                )
            if len(self._plans) > self._n_kept:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _with_source(self, structure: Structure, error: MergeError) -> MergeError:
        """The error, with the models that hold NaN or infinity in the tensor that it names."""
        (problem,) = error.problems
        broken = []
        for planned in structure.tensors:
            if planned.name == problem.where:
                inputs = self._sources.inputs(planned.task, structure.tokenizer)
                for model, (tensor, _) in inputs.stored().items():
                    if not torch.isfinite(tensor.float()).all():  # float8 has no isfinite
                        broken.append(str(model))
                inputs.release()
        if not broken:
            return error
        what = f"{problem.what}: NaN or infinity stands there in {', '.join(broken)}"
        return MergeError(what, where=problem.where)

    def refuse(self, recipe: Recipe) -> None:
        """Does nothing where the models of a recipe are there and may be read.

        Raises:
            FileNotFoundError: a folder is gone.
            ModelError: one has pickle files, and is not allowed to.
        """
        for folder in self._folders:
            if not is_folder(folder):
                raise FileNotFoundError(f"there is no folder {folder}")
        refuse_pickles(recipe, self.allow_pickle)

    def _written(self, plan: _Plan, merged: Iterator[Merged]) -> PreTrainedModel:
        """The live model with these tensors: the last one where it has a place for each of them."""
        weights = self._weights
        if weights is None or not weights.in_place or plan.weights_key != self._weights_key:
            del weights
            self.drop_live()  # before the new one takes memory
            found = ((one.name, one.tensor()) for one in merged)
            return self._loaded(plan, {name: self._kept(t) for name, t in found if t is not None})
        left_out = weights.write(merged)
        if left_out:  # by a method that gives it with other numbers
            kept = {name: t for name, t in weights.bound.items() if name not in left_out}
            return self._loaded(plan, kept)
        return weights.module

    def _loaded(self, plan: _Plan, tensors: Mapping[str, torch.Tensor]) -> PreTrainedModel:
        self._weights = self.load(plan.output.config, tensors)
        self._weights_key = (plan.output.config_text, frozenset(tensors))
        return self._weights.module

    def _kept(self, tensor: torch.Tensor) -> torch.Tensor:
        """In the dtype of the live model, whose storage it becomes, where that rounds nothing."""
        live = dtype_from_name(self.dtype)
        if live is None or not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
            return tensor
        is_exact = torch.promote_types(tensor.dtype, live) == live
        return tensor.to(live) if is_exact else tensor


_WeightsKey = tuple[str, frozenset[str]]  # configuration and tensor names of a checkpoint


@dataclass
class _Plan:
    """A structure, what surrounds its weights, and which live model can hold them."""

    structure: Structure
    output: BuiltFolder
    kernels: Kernels

    @cached_property
    def weights_key(self) -> _WeightsKey:
        """Of the model that a merge gives, if it gives every tensor that it has inputs for."""
        return self.output.config_text, self.structure.names
