"""Builds a recipe on disk with mergekit's own commands, as any user of the recipe would."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import IncrementalNewlineDecoder
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO

from evomerge.foundations.errors import RunError
from evomerge.foundations.lifetime import own_children
from evomerge.foundations.scratch import scratch
from evomerge.genome.methods import METHODS
from evomerge.recipe.base import Command
from evomerge.recipe.plain import Recipe

_NO_CARD = "--no-write-model-card"
_STAGES = "-stages"  # ends the name of the folder where what is built on the way lies
LINES_KEPT = 20  # of mergekit's output in an error
_LOOKS_EVERY = 1.0  # seconds
_SECONDS_TO_END = 5.0  # before it is killed
_BAR = re.compile(r"(\d+)%\|")
_GRAPH = "Executing graph"  # the bar of the merge itself

Report = Callable[[float], None]


class KilledError(RunError):
    """mergekit was ended from outside, for want of memory as a rule: not by what it builds."""


def mergekit_commands(
    recipe: Recipe,
    files: Sequence[Path | str],
    out: Path | str,
    merge_seed: int,
    *,
    lora_cache: Path | str = "",
    packages: Collection[str] = (),
) -> list[str]:
    """What a person types to build a recipe, one line after the other.

    It writes no model card: for that mergekit asks the Hub about every model, folders too.

    Args:
        recipe: What they build.
        files: The exported YAML, as the recipe has its files.
        out: The folder to be written.
        merge_seed: Matters to what is random only.
        lora_cache: Folder for folded ``model+lora`` sources; mergekit demands one where a
            recipe has such sources.
        packages: Those that register its methods with mergekit.
    """
    options = [*_options(merge_seed, lora_cache), _NO_CARD]

    def program(command: Command) -> list[str]:
        return ["python", *_started(command, packages)] if packages else [command.program]

    return [
        shlex.join([*program(command), *command.arguments, *options])
        for command in recipe.commands(files, out, stages_of(out))
    ]


def _started(command: Command, packages: Collection[str]) -> list[str]:
    """Python's arguments that start a command of mergekit, after packages register with it."""
    if not packages:
        return ["-m", command.module]
    return ["-c", f"import {', '.join(packages)}; from {command.module} import main; main()"]


def stages_of(out: Path | str) -> str:
    """The folder for what is built on the way to another one, beside it."""
    return f"{out}{_STAGES}"


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
    allow_pickle: Collection[str] = (),
    lora_cache: Path | None = None,
    report: Report | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Writes the recipe's model, configuration and tokenizer into a folder.

    Prints nothing. With the network off, models of the Hub are read from its cache, and no model
    card is written: it asks the Hub about every model, folders too.

    Args:
        recipe: What to build.
        out: The folder; created.
        merge_seed: Of what is random.
        threads: Of the arithmetic; the bits of some methods depend on it. None: torch's
            own choice.
        device: Where the arithmetic runs.
        trust_remote_code: Whether models may bring their own code.
        allow_pickle: Models and adapters whose weights may be in pickle files.
        lora_cache: Where ``model+lora`` sources are folded; None: a temporary folder.
        report: Hears how far mergekit is, in [0, 1].
        check: Called every second at least; what it raises ends the build.

    Raises:
        RunError: mergekit stopped, or cannot read the recipe; its last lines are kept. No command
            of it builds such a recipe.
        KilledError: the system ended it.
        ModelError: a model has its weights in pickle files, or code that a command would run.
    """
    if recipe.unbuilt:
        raise RunError(f"nothing builds it: {recipe.unbuilt}", where=str(out))
    recipe = _readable(recipe, allow_pickle, trust_remote_code)
    with scratch() as temporary:
        stages = temporary / stages_of(out.name)
        texts = {temporary / name: text for name, text in recipe.files(stages).items()}
        for file, text in texts.items():
            file.write_text(text, encoding="utf-8")
        cache = lora_cache or temporary / "lora"
        _fold(recipe, cache, trust_remote_code)
        options = [*_options(merge_seed, cache), "--device", device]
        options += ["--num-threads", str(threads)] if threads else []
        options += ["--trust-remote-code"] if trust_remote_code else []
        options += [_NO_CARD] if _is_offline() else []
        environment = {"TMPDIR": str(temporary)}  # what it leaves there goes, too
        environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
        for command in recipe.commands(list(texts), out, stages):
            started = _started(command, METHODS.packages(recipe.methods))
            line = [sys.executable, *started, *command.arguments, *options]
            code, said = _run(line, environment, report or _nobody, check or _nothing)
            if code:
                raise _stopped(command.program, code, said, out)


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    report: Report,
    check: Callable[[], None],
) -> tuple[int, list[str]]:
    """Runs mergekit to its end; it does not outlive a Ctrl-C, nor this process.

    Returns:
        Its exit code, and what it said.
    """
    with own_children():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,  # transformers would ask whether to trust a model's code
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    with process:
        try:
            said = list(_told(_lines(process.stdout, check), report))
        except BaseException:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_END)
            process.kill()
            raise
    return process.returncode, said


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _nobody(share: float) -> None:
    """Hears nothing."""


def _nothing() -> None:
    """Ends no build."""


def _lines(said: IO[bytes] | None, check: Callable[[], None]) -> Iterator[str]:
    """The lines of what is said, of what is redrawn as well; looks up where nothing is said."""
    if said is None:
        return
    decoder = IncrementalNewlineDecoder(getincrementaldecoder("utf-8")("replace"), translate=True)
    with DefaultSelector() as selector:
        selector.register(said, EVENT_READ)
        content, rest = b"-", ""
        while content:
            check()
            if selector.select(_LOOKS_EVERY):
                content = os.read(said.fileno(), 1 << 16)
                *lines, rest = (rest + decoder.decode(content, final=not content)).split("\n")
                yield from lines
    if rest:
        yield rest


def _told(lines: Iterable[str], report: Report) -> Iterator[str]:
    """What mergekit says, without its progress bars; they go to ``report``.

    A bar is redrawn after a carriage return, which ends a line here.
    """
    for line in lines:
        bar = _BAR.search(line)
        if bar is None:
            yield line.rstrip()
        elif line.startswith(_GRAPH):
            report(int(bar.group(1)) / 100)


def _stopped(program: str, code: int, said: Sequence[str], out: Path) -> RunError:
    if code != -signal.SIGKILL:
        return RunError(_reason(program, said), where=str(out))
    return KilledError(
        f"{program} was killed, most often because memory ran out",
        where=str(out),
        fix="Use fewer workers, or make room; then give the same command again.",
    )


def _reason(program: str, said: Sequence[str]) -> str:
    """Why mergekit stopped: its last line, and those before it without Python's traceback."""
    kept, in_traceback = [], False
    for line in filter(str.strip, said):
        in_traceback = line.startswith("Traceback") or (in_traceback and line.startswith(" "))
        if not in_traceback:
            kept.append(line)
    last = kept[-LINES_KEPT:] or ["it said nothing"]
    before = ["\nBefore that it said:", *last[:-1]] if last[1:] else []
    return f"{program} stopped: {last[-1]}" + "\n".join(before)


def _readable(recipe: Recipe, allow_pickle: Collection[str], trust_remote_code: bool) -> Recipe:
    """The recipe, its models looked at and where they can be reached."""
    from evomerge.merging.hub_cache import reachable  # loads mergekit; a command's text must not
    from evomerge.merging.own_code import refuse_code
    from evomerge.merging.pickled import refuse_pickles

    try:
        refuse_pickles(recipe, allow_pickle)
        if not trust_remote_code:
            refuse_code(recipe)
        return reachable(recipe)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(" ".join(str(error).split()), where="recipe") from error


def _fold(recipe: Recipe, cache: Path, trust_remote_code: bool) -> None:
    """Folds adapters beforehand: mergekit's own folding would shift its random stream."""
    from evomerge.merging.sources import fold_adapters  # loads torch; a command's text must not
    from evomerge.merging.structure import references

    cache.mkdir(parents=True, exist_ok=True)
    try:
        fold_adapters(references(recipe), cache, trust_remote_code=trust_remote_code)
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(" ".join(str(error).split()), where="recipe") from error
