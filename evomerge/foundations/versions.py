"""What a score depends on beside the genome: the versions of everything that computes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from evomerge import __version__

RECORDED_PACKAGES = ("mergekit", "lm_eval", "torch", "transformers", "optuna", "cmaes", "numpy")
# A score stands on these; the others only decide what is proposed.
SCORING_PACKAGES = ("mergekit", "lm_eval", "torch", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Installed versions, by package."""
    found = {"evomerge": __version__}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def scoring_versions() -> dict[str, str]:
    """Of what scores stand on, without what a build is for: CPUs and GPUs have one version."""
    found = versions()
    return {name: found[name].partition("+")[0] for name in ("evomerge", *SCORING_PACKAGES)}
