"""Installed packages against the ranges that evomerge's own metadata names."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from evomerge.foundations.findings import Finding, error, warning

OWN = "evomerge"
# Package -> what it adds; none of it is needed by a search.
EXTRAS: Mapping[str, str] = {
    "peft": "LoRA adapters as sources of a merge",
    "sentencepiece": "tokenizers that exist only as tokenizer.model",
    "hf_xet": "faster downloads from the Hub",
    "optuna-dashboard": "a run's study.journal in the browser",
    "bitsandbytes": "serving a winner in 8 or 4 bits; merging needs unquantised weights",
    "vllm": "serving a winner; a search scores with transformers",
    "ray": "mergekit-evolve's workers; a search starts its own processes",
}
# What to import of a package, where it is not its name: of some the part that loads the rest.
MODULES: Mapping[str, str] = {
    "pyyaml": "yaml", "lm-eval": "lm_eval.evaluator", "mergekit": "mergekit.merge",
    "huggingface-hub": "huggingface_hub", "optuna-dashboard": "optuna_dashboard",
    "pydantic-core": "pydantic_core", "typing-extensions": "typing_extensions",
}  # fmt: skip


@dataclass(frozen=True)
class Package:
    """One package.

    Attributes:
        name: As an installer knows it.
        installed: Its version, None where it is absent.
        wanted: The versions evomerge is tested with; empty for any.
        is_needed: Whether evomerge does not work without it.
        broken: Why it cannot be imported; empty where it can, or where nobody tried.
    """

    name: str
    installed: str | None
    wanted: str = ""
    is_needed: bool = True
    broken: str = ""

    @property
    def module(self) -> str:
        """What ``import`` calls it."""
        return MODULES.get(self.name, self.name)

    @property
    def state(self) -> str:
        """``"ok"``, ``"missing"``, ``"outside"`` or ``"broken"``."""
        if self.installed is None:
            return "missing"
        if self.broken:
            return "broken"
        is_inside = SpecifierSet(self.wanted).contains(self.installed, prereleases=True)
        return "ok" if is_inside else "outside"

    def finding(self) -> Finding | None:
        """What is wrong with it, if anything is."""
        install = f"Run `pip install '{self.name}{self.wanted}'`."
        if self.state == "missing":
            what = f"is not installed, expected {self.wanted or 'any version'}"
            return error(what, self.name, install) if self.is_needed else None
        if self.state == "broken":
            report = error if self.is_needed else warning
            return report(f"{self.installed} cannot be imported ({self.broken})", self.name)
        if self.state == "outside":
            what = f"{self.installed} is installed, evomerge is tested with {self.wanted}"
            return error(what, self.name, install)
        return None


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of the packages that are installed."""
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def python() -> Package:
    """The interpreter, as a package."""
    wanted = metadata(OWN).json.get("requires_python", "")
    return Package("python", platform.python_version(), str(wanted))


def needed() -> list[Package]:
    """What evomerge's metadata names, alphabetically."""
    names = {own.name.lower().replace("_", "-"): str(own.specifier) for own in _requirements(OWN)}
    return [Package(name, _version(name), _in_order(names[name])) for name in sorted(names)]


def extras() -> list[Package]:
    """What adds something, installed or not."""
    return [Package(name, _version(name), is_needed=False) for name in EXTRAS]


def quarrels(packages: Mapping[str, str]) -> Iterator[Finding]:
    """Installed packages that ask for other versions of each other.

    Args:
        packages: Name -> version of what is installed.
    """
    for name, installed in packages.items():
        for wanted in _requirements(name):
            have = _version(wanted.name)
            if have is None or wanted.specifier.contains(have, prereleases=True):
                continue
            yield warning(
                f"{installed} asks for {wanted.name} {_in_order(str(wanted.specifier))}, "
                f"installed is {have}",
                name,
            )


def _requirements(name: str) -> Iterator[Requirement]:
    """What a package always needs on this platform."""
    for text in requires(name) or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue  # of a package built long ago; installers skip it too
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield wanted


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _in_order(specifier: str) -> str:
    """The lower bound first, as people write it."""
    return ",".join(sorted(specifier.split(","), key=lambda part: not part.startswith(">")))
