"""Builds a recipe on disk with ``mergekit-yaml``, as any user of the recipe would."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from evomerge.errors import RunError
from evomerge.recipe import Recipe

_MODULE = "mergekit.scripts.run_yaml"  # what the console script mergekit-yaml calls
LINES_KEPT = 20  # of mergekit's output in an error


def mergekit_command(
    recipe_file: Path | str, out: Path | str, merge_seed: int, *, lora_cache: Path | str = ""
) -> str:
    """The command a person types to build a recipe.

    Args:
        recipe_file: The exported YAML.
        out: The folder to be written.
        merge_seed: Matters to randomised methods only.
        lora_cache: Folder for folded ``model+lora`` sources; mergekit demands one where a
            recipe has such sources.
    """
    options = _options(merge_seed, lora_cache)
    return shlex.join(["mergekit-yaml", str(recipe_file), str(out), *options])


def _options(merge_seed: int, lora_cache: Path | str) -> list[str]:
    cache = ["--lora-merge-cache", str(lora_cache)] if lora_cache else []
    return ["--random-seed", str(merge_seed), *cache]


def build(
    recipe: Recipe,
    out: Path,
    *,
    merge_seed: int = 0,
    threads: int | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
    lora_cache: Path | None = None,
) -> None:
    """Writes the recipe's model, configuration and tokenizer into a folder.

    Prints nothing.

    Args:
        recipe: What to build.
        out: The folder; created.
        merge_seed: Of randomised methods.
        threads: Of the arithmetic; the bits of some methods depend on it. None: torch's
            own choice.
        device: Where the arithmetic runs.
        trust_remote_code: Whether models may bring their own code.
        lora_cache: Where ``model+lora`` sources are folded; None: a temporary folder.

    Raises:
        RunError: mergekit stopped; its last lines are kept.
    """
    with tempfile.TemporaryDirectory() as temporary:
        recipe_file = Path(temporary) / "recipe.yml"
        recipe_file.write_text(recipe.to_yaml(), encoding="utf-8")
        cache = lora_cache or Path(temporary) / "lora"
        _fold(recipe, cache, trust_remote_code)
        command = [sys.executable, "-m", _MODULE, str(recipe_file), str(out)]
        command += [*_options(merge_seed, cache), "--quiet", "--device", device]
        command += ["--num-threads", str(threads)] if threads else []
        command += ["--trust-remote-code"] if trust_remote_code else []
        finished = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    if finished.returncode:
        lines = (finished.stdout + finished.stderr).strip().splitlines()
        raise RunError("mergekit-yaml stopped:\n" + "\n".join(lines[-LINES_KEPT:]), where=str(out))


def _fold(recipe: Recipe, cache: Path, trust_remote_code: bool) -> None:
    """Folds adapters beforehand: mergekit's own folding would shift its random stream."""
    from evomerge.merging.sources import fold_adapters  # loads torch; a command's text must not
    from evomerge.merging.structure import Configuration

    cache.mkdir(parents=True, exist_ok=True)
    try:
        config = Configuration.model_validate(dict(recipe.config))
        fold_adapters(config, cache, trust_remote_code=trust_remote_code)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(" ".join(str(error).split()), where="recipe") from error
