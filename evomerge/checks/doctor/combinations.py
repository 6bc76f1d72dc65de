"""Versions that are known not to work together, though each is within its range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from evomerge.foundations.findings import Finding, note, warning


@dataclass(frozen=True)
class Combination:
    """One thing that does not work.

    Attributes:
        packages: Package -> versions; all of them installed together.
        what: What does not work.
        fix: What to do instead.
        report: How bad it is.
    """

    packages: Mapping[str, str]
    what: str
    fix: str
    report: Callable[[str, str, str], Finding] = note

    def is_here(self, installed: Mapping[str, str]) -> bool:
        """Whether these versions are installed."""
        return all(
            name in installed and SpecifierSet(versions).contains(installed[name], prereleases=True)
            for name, versions in self.packages.items()
        )


COMBINATIONS = (
    Combination(
        {"mergekit": "", "lm-eval": ">=0.4.12"},
        "mergekit-evolve does not start: it looks for lm_eval.models.vllm_causallms",
        "Run its genome with `evomerge run`, unchanged.",
    ),
    Combination(
        {"mergekit": "<=0.1.5", "transformers": ">=5"},
        "mergekit refuses GPT-NeoX folders that transformers 5 saved: the attention buffers it "
        "asks for are no longer written",
        "Use the folder from the Hub, or add attention.bias, masked_bias and rotary_emb.inv_freq.",
    ),
    Combination(
        {"datasets": ">=4"},
        "tasks whose data set has a loading script cannot be loaded",
        "Choose a task whose data are files; `evomerge check` loads them before a run.",
    ),
    Combination(
        {"torch": "<2.6"},
        "transformers refuses to read pickle weights (.bin) with it",
        "Use safetensors, or torch 2.6.",
        warning,
    ),
)


NAMED = tuple(sorted({name for combination in COMBINATIONS for name in combination.packages}))


def known(installed: Mapping[str, str]) -> Iterator[Finding]:
    """What does not work with what is installed.

    Args:
        installed: Package -> version, of those ``NAMED`` that are there.
    """
    for combination in COMBINATIONS:
        if combination.is_here(installed):
            names = [f"{name} {installed[name]}" for name in combination.packages]
            yield combination.report(combination.what, " with ".join(names), combination.fix)
