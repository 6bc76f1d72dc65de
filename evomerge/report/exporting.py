"""A winner as a file, plain mergekit YAML, with comments that say what it is and what to do."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from evomerge.foundations.reading import is_folder
from evomerge.foundations.text_safety import harmless
from evomerge.genome.methods import METHODS
from evomerge.merging.build import mergekit_commands, stages_of
from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import score_text
from evomerge.recipe.adapter_sum import sum_in, sums_in
from evomerge.recipe.base import Hear
from evomerge.recipe.plain import Recipe
from evomerge.report.unmerged_tensors import tensor_sentences
from evomerge.run.changed_models import changed, changed_of
from evomerge.run.chosen import ChosenTrial

_WIDTH = 98
_RECIPE, _OUT = "recipe.yml", "merged"  # stand in the commands where no file is named
PURPOSE = "build what that run scored"  # of the files of a model that has changed since
_LORA_CACHE = "lora-cache"  # mergekit asks for a folder where a recipe has adapters


@dataclass(frozen=True)
class Export(ChosenTrial):
    """One trial to be written as a recipe.

    Attributes:
        adapters: The folders of the adapters that were written for it.
        changed: Its models whose files are known to be others than when it was scored.
    """

    adapters: tuple[Path, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def file_name(self) -> str:
        """What its file is called in a folder of several; its folder, where it needs one."""
        return f"trial-{self.trial_id:05d}" + ("" if self.needs_folder else ".yml")

    @property
    def needs_folder(self) -> bool:
        """Whether its commands read several files."""
        return len(self.recipe.files("")) > 1

    def placed(self, beside: Path) -> Export:
        """The same; its summed adapters, if it has any, written below a folder and named there.

        The recipe names it as the folder was named: a relative one builds where that is true.

        Raises:
            EvomergeError: what it is a sum of cannot be read, or it cannot be written.
        """
        names = {Path(one.lora or "").name for one in sums_in(self.recipe)}
        if not names:
            return self
        from evomerge.merging.factors import placed  # loads torch; a plain recipe must not

        recipe = placed(self.recipe, beside)
        named = dict.fromkeys(Path(model.lora) for model in recipe.models if model.lora)
        return replace(
            self,
            content={**self.content, "recipe": dict(recipe.config)},
            adapters=tuple(folder for folder in named if folder.name in names),
        )

    @property
    def sources(self) -> frozenset[Path]:
        """What the models of the recipe and their adapters are called; some are folders."""
        return frozenset(Path(place) for model in self.recipe.models for place in model.places)

    def to_yaml(self, recipe_file: str = _RECIPE, out: str = _OUT) -> str:
        """The recipe as one text under comment lines.

        Args:
            recipe_file: How the command names the file.
            out: How the command names the folder to build.
        """
        return self._commented([recipe_file], out, self.recipe.to_yaml())

    def texts(self, folder: Path, out: str = _OUT) -> dict[Path, str]:
        """Every file that its commands read, in a folder.

        Args:
            folder: Where they will be.
            out: How the commands name the folder to build.
        """
        own = {folder / name: text for name, text in self.recipe.files(stages_of(out)).items()}
        return {file: self._commented(list(own), out, text) for file, text in own.items()}

    def _commented(self, files: Sequence[Path | str], out: str, text: str) -> str:
        comments = "\n".join(map(_comment, self._lines(files, out)))
        return f"{comments}\n{text}"

    def _lines(self, files: Sequence[Path | str], out: str) -> Iterator[str]:
        content = self.content
        versions = dict(content["versions"])
        own = versions.pop("evomerge", "")
        origin = "" if content["origin"] == "optimizer" else f", {content['origin']}"
        yield f"Found by evomerge {own}: trial {content['trial']}{origin} of {content['genome']}"
        for label, score in content["objective"].items():
            yield f"  {label}: {_text(score['score'], score)}"
        for split in ("search", "validation", "holdout"):
            for name, metric in _own_metrics(content.get(split, {})):
                yield f"  {split} {name}: {_text(metric['value'], metric)}"
        if self.changed:
            yield "  These scores are of other weights: files are others since then, of"
            yield f"  {', '.join(self.changed)}."
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield from textwrap.wrap(f"Versions: {named}", _WIDTH, subsequent_indent="  ")
        done = "Scored" if self.recipe.unbuilt else "Merged"
        yield (
            f"{done} with seed {content['merge_seed']}, {content['threads']} threads, "
            f"device {content['device']}"
        )
        for sentence in tensor_sentences(self.recipe):
            yield from textwrap.wrap(  # names of folders and tensors stay whole
                sentence,
                _WIDTH,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        if sum_in(self.recipe) is not None:
            yield "Its adapter is written where the recipe is: export it with -o FILE."
        yield from self._what_to_do(files, out)
        if _random(self.recipe):
            yield (
                f"{', '.join(_random(self.recipe))} drops entries at random: the same bits "
                "need this seed, as many"
            )
            yield "threads (OMP_NUM_THREADS) and the same kind of device."
        for what in self.recipe.drawn:
            yield f"{what.capitalize()} are drawn at random: the same need this seed."

    def _what_to_do(self, files: Sequence[Path | str], out: str) -> Iterator[str]:
        names = list(map(str, self.sources))
        if self.recipe.unbuilt:
            yield f"No command builds it: {self.recipe.unbuilt}."
            yield from _where_to_stand("Score", names)
            yield "Score it:"
            yield f"  evomerge eval {shlex.join(map(str, files))} --tasks TASKS"
            return
        yield from _where_to_stand("Build", names)
        if any(not is_folder(name) for name in names):
            yield "Models of the Hub: without a network build it by `evomerge export --build`."
        if self.packages:
            methods = ", ".join(name for name in self.recipe.methods if not METHODS.is_own(name))
            yield f"{methods} is no method of mergekit: {', '.join(self.packages)} registers it and"
            yield "has to be installed where it is built."
        yield "Build it:"
        yield from (f"  {line}" for line in self.commands(files, out))

    def commands(self, files: Sequence[Path | str], out: str) -> list[str]:
        """What builds the model from the files."""
        has_adapters = any(model.lora for model in self.recipe.models)
        cache = _LORA_CACHE if has_adapters else ""
        seed = int(self.content["merge_seed"])
        return mergekit_commands(
            self.recipe, files, out, seed, lora_cache=cache, packages=self.packages
        )


def exports(chosen: Iterable[ChosenTrial]) -> list[Export]:
    """The same trials, to be written."""
    return [Export(one.content, one.run_dir) for one in chosen]


def with_changes(chosen: Sequence[Export], hear: Hear, *, asks_hub: bool = True) -> list[Export]:
    """The same with those of their models that have changed since they were scored.

    Args:
        chosen: What is to be written.
        hear: Takes a warning about each of these models.
        asks_hub: Whether models count that are no folders here.
    """
    found = changed_of(chosen, asks_hub=asks_hub)
    for model in dict.fromkeys(chain.from_iterable(found)):
        hear(changed(model, PURPOSE))
    return [replace(one, changed=models) for one, models in zip(chosen, found, strict=True)]


def _comment(line: str) -> str:
    """A comment line; a line break in a name must not end it."""
    return f"# {harmless(line)}".replace("\n", " ").rstrip()


def _own_metrics(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The first metric of each task, which is the one its score is."""
    seen = set()
    for name, metric in metrics.items():
        task = name.partition("/")[0]
        if task not in seen:
            seen.add(task)
            yield name, metric


def _text(value: float, content: Mapping[str, Any]) -> str:
    return score_text(Score(value, content["stderr"], content["n"]))


def _where_to_stand(verb: str, names: Iterable[str]) -> Iterator[str]:
    """What becomes of a folder's name that is no full path."""
    folders = sorted(name for name in names if _is_relative_folder(name))
    if folders:
        yield f"{verb} it where these folders are: {', '.join(folders)}."


def _is_relative_folder(name: str) -> bool:
    return not os.path.isabs(name) and is_folder(name)


def _random(recipe: Recipe) -> list[str]:
    """Those of its methods that draw."""
    own = (METHODS[name] for name in recipe.methods if METHODS.is_own(name))
    return [method.name for method in own if method.is_random]
