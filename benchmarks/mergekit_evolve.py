"""How mergekit-evolve 0.1.5 judges a recipe, written from mergekit's and lm-eval's public API.

The command itself does not start with current lm-eval. What is called, and with what, is that of
its ``evo/helpers.py`` and ``evo/actors.py``. Ray, the converting of models to one file and its
optimizer are left out, and planning in memory reads no configuration of a model twice.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from mergekit.architecture import get_architecture_info
from mergekit.config import MergeConfiguration
from mergekit.graph import Executor
from mergekit.merge import _model_out_config, run_merge
from mergekit.options import MergeOptions
from mergekit.plan import MergePlanner
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.genome.schema import Genome
from evomerge.recipe.plain import Recipe


class MergekitEvolve:
    """Its two ways of judging a recipe.

    Args:
        genome: Which tasks.
        folder: Where merges are written.
        dtype: Of the models that are scored; its own is bfloat16.
    """

    def __init__(self, genome: Genome, folder: Path, dtype: str) -> None:
        self.folder = folder
        self.dtype = dtype
        self.manager = TaskManager(include_path=list(genome.task_search_path))
        self.tasks = [task.name for task in genome.tasks]
        self.metrics: dict[str, str] = {}  # task -> "metric,filter", as evomerge reads them
        self.fewshot = genome.tasks[0].num_fewshot
        self.limit = genome.tasks[0].limit
        self.options = MergeOptions(quiet=True, out_shard_size=10**12)
        self.module: Any = None
        self.tokenizer: Any = None
        self.architecture: Any = None

    def disk(self, recipe: Recipe, batch: int | None, limit: int | None = None) -> float:
        """Merge to a folder, load it, build the tasks, score: `evo.helpers.evaluate_model`.

        Args:
            recipe: What to judge.
            batch: Its ``--batch-size``; None for none.
            limit: Documents of each task at most; None for the genome's.

        Returns:
            The mean of the tasks' metrics.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as built:
            run_merge(MergeConfiguration.model_validate(recipe.config), built, self.options)
            arguments = {"pretrained": built, "dtype": self.dtype, "use_cache": True}
            return self._score("huggingface", arguments, batch, limit)

    def memory(self, recipe: Recipe, batch: int | None, limit: int | None = None) -> float:
        """Merge into one live model, build the tasks, score: `evo.actors.InMemoryMergeEvaluator`.

        ``HFLM(pretrained=model)`` has a batch size of 1 there, whatever ``--batch-size`` says.
        """
        config = MergeConfiguration.model_validate(recipe.config)
        if self.module is None:
            self._load(config)
        output = _model_out_config(config, self.architecture)
        planner = MergePlanner(config, self.architecture, self.options, output)
        planner._plan()  # plan_in_memory raises with any current pydantic; this is what it does
        own = dict(self.module.named_parameters())
        name_of = {task: weight.name for weight, task in planner._tensors}
        for task, value in Executor(list(name_of), math_device="cpu").run(quiet=True):
            if name_of[task] in own:
                own[name_of[task]].data.copy_(value)
        # Made once there; it costs nothing, and so two batch sizes share one model.
        live = HFLM(self.module, tokenizer=self.tokenizer, batch_size=batch or 1, device="cpu")
        return self._score(live, None, None, limit)

    def _load(self, config: MergeConfiguration) -> None:
        donor = config.base_model.model.path
        self.architecture = get_architecture_info(config, self.options)
        dtype = getattr(torch, self.dtype)
        self.module = AutoModelForCausalLM.from_pretrained(donor, dtype=dtype).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(donor)

    def _score(
        self, model: Any, arguments: dict[str, Any] | None, batch: int | None, limit: int | None
    ) -> float:
        found = lm_eval.simple_evaluate(
            model=model,
            model_args=arguments,
            tasks=self.tasks,
            num_fewshot=self.fewshot,
            batch_size=batch,
            limit=self.limit if limit is None else limit,
            task_manager=self.manager,
            device="cpu",
            log_samples=False,
        )["results"]
        return statistics.mean(found[task][metric] for task, metric in self.metrics.items())
