"""What workers make of the sources is made once, and in memory once."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from evomerge.executors.base import Job, JobFinished
from evomerge.executors.processes import Processes
from evomerge.foundations.scratch import scratch_root, shared_root
from evomerge.merging import shared_copies, sources
from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.resident import ResidentMerger
from evomerge.merging.shared_copies import SharedCopies, Sharing
from evomerge.merging.window import Window, is_mapped
from evomerge.nouns.evaluation import Outcome, TrialState
from evomerge.nouns.origin import proposed
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from tests.lora_experts import lora_expert
from tests.merging.built import SEED
from tests.merging.layouts import recipe_config
from tests.tiny_models import tiny_family, tiny_model

SMAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells what is in memory")
WORKSPACE = 64 << 20  # bytes; a copy of the sources is more
WIDTH, N_TOKENS = 128, 8192  # of embeddings of two megabytes in bfloat16


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("family")
    return tiny_family(folder, dtype="bfloat16", vocab_size=N_TOKENS, hidden_size=WIDTH)


@pytest.fixture(scope="module")
def other_tokens(tmp_path_factory: pytest.TempPathFactory, family: list[Path]) -> list[Path]:
    """The base, and a model that has one token more."""
    folder = tmp_path_factory.mktemp("other")
    sizes = {"vocab_size": N_TOKENS, "hidden_size": WIDTH}
    model = tiny_model(folder, dtype="bfloat16", seed=7, extra_tokens=["<more>"], **sizes)
    return [family[0], model]


def in_float32(method: str, models: list[Path]) -> Recipe:
    return Recipe(recipe_config(method, "models", models, dtype="float32"))


def union(models: list[Path]) -> Recipe:
    entries = [{"model": str(one), "parameters": {"weight": 0.5}} for one in models]
    linear = {"merge_method": "linear", "models": entries, "dtype": "float32"}
    return Recipe({**linear, "tokenizer_source": "union"})


def with_adapter(models: list[Path], adapter: Path) -> Recipe:
    entries = [
        {"model": f"{models[0]}+{adapter}", "parameters": {"weight": 0.5}},
        {"model": str(models[1]), "parameters": {"weight": 0.5}},
    ]
    return Recipe({"merge_method": "linear", "models": entries, "dtype": "float32"})


def weights(merger: ResidentMerger, recipe: Recipe) -> dict[str, torch.Tensor]:
    merger.merge(recipe)  # sources are cast from the second merge on
    merger.drop_live()  # else nothing of it is merged again
    return {name: t.clone() for name, t in merger.merge(recipe).module.state_dict().items()}


def made_in(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.rglob("*.safetensors"))


@pytest.mark.parametrize("kind", ["linear", "union", "adapter"])
def test_merges_are_the_same_and_the_second_worker_makes_nothing(
    family: list[Path],
    other_tokens: list[Path],
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = (
        union(other_tokens)
        if kind == "union"
        else with_adapter(family, lora_expert(tmp_path / "adapter", family[0], 1))
        if kind == "adapter"
        else in_float32(kind, family)
    )
    alone = weights(ResidentMerger(merge_seed=SEED), recipe)
    shared = tmp_path / "shared"

    def worker() -> ResidentMerger:
        return ResidentMerger(merge_seed=SEED, sharing=Sharing(2, shared))

    first = weights(worker(), recipe)
    made = made_in(shared)
    assert made
    monkeypatch.setattr(shared_copies, "save_file", None)  # nobody writes any more
    second = weights(worker(), recipe)
    assert made_in(shared) == made
    for other in (first, second):
        assert alone.keys() == other.keys()
        assert all(torch.equal(alone[name], other[name]) for name in alone)


def test_copies_are_mapped_and_each_worker_counts_its_part(
    family: list[Path], tmp_path: Path
) -> None:
    n_bytes = 4 * N_TOKENS * WIDTH
    budget = MemoryBudget(n_bytes, torch.device("cpu"))
    own = sources.Sources(budget=budget, sharing=Sharing(4, tmp_path))
    read = torch.zeros(N_TOKENS, WIDTH, dtype=torch.bfloat16)
    settled = own._settled(read, "embeddings of a pickle")
    assert is_mapped(settled)
    assert torch.equal(settled, read)
    cast = own._kept(settled, torch.float32)
    assert cast is not None
    assert is_mapped(cast)
    assert budget.left == n_bytes - n_bytes // 4
    assert own._kept(settled, torch.float32) is cast
    assert len(made_in(tmp_path)) == 2


def test_memory_is_divided_among_workers_where_it_is_not_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evomerge.merging.kept_memory.free_bytes", lambda device: 1 << 20)
    monkeypatch.setattr("evomerge.merging.window.free_bytes", lambda device: 1 << 20)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert MemoryBudget(None, cpu, 4).left == MemoryBudget(None, cpu).left // 4
    assert Window(None, cpu, 4)._left == Window(None, cpu)._left
    assert Window(None, gpu, 4)._left == Window(None, gpu)._left // 4


def test_a_disk_that_takes_no_more_leaves_everybody_a_copy_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: Any, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(shared_copies, "save_file", full)
    made = torch.ones(3)
    assert SharedCopies(tmp_path).tensor("key", lambda: made) is made
    assert {file.suffix for file in tmp_path.iterdir()} == {".lock"}


def make_slowly(folder: Path) -> None:
    """In a process: makes a tensor unless another one does, and notes that it did."""

    def make() -> torch.Tensor:
        with open(folder / "makers", "a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        (folder / "is_made").touch()
        while len(list(folder.glob("waits-*"))) < 2:  # until the other is here, too
            pass
        return torch.arange(4)

    (folder / f"waits-{os.getpid()}").touch()
    made = SharedCopies(folder / "tensors").tensor("key", make)
    if not torch.equal(made, torch.arange(4)):
        raise AssertionError(made)


@pytest.mark.slow
def test_of_two_processes_one_makes_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=make_slowly, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len((tmp_path / "makers").read_text().split()) == 1


# Memory of real workers


def mapped(pid: int, folder: Path) -> dict[str, int]:
    """Bytes of what a process maps of files below a folder: its part, and all that is there."""
    found, counts = {"Pss": 0, "Rss": 0}, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            counts = str(folder) in line and ".safetensors" in line
        elif counts and first[:-1] in found:
            found[first[:-1]] += int(line.split()[1]) << 10
    return found


def anonymous(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))


class MergesOnly:
    """A worker that merges and scores nothing; its failure says what it took."""

    def __init__(self) -> None:
        self._before = anonymous(os.getpid())
        self._merger = ResidentMerger(merge_seed=SEED, sharing=Sharing(2, shared_root()))

    def run(self, candidate: Candidate, *_: Any) -> Generator[str, None, Outcome]:
        yield "merge"
        for _ in range(2):
            self._merger.drop_live()
            self._merger.merge(candidate.recipe)
        took = anonymous(os.getpid()) - self._before
        return Outcome(TrialState.FAILED, failure=f"{os.getpid()} {took}")


def merges_only() -> MergesOnly:
    return MergesOnly()


def merged_by_two(recipe: Recipe, look: Callable[[list[int], list[int]], None]) -> None:
    """Has two workers merge one recipe, and looks at them while they live."""
    with ExitStack() as over:
        executor = Processes(merges_only, 2)  # type: ignore[arg-type]  # as far as used
        over.callback(executor.close)
        jobs = [Job(Candidate(index, proposed(), recipe)) for index in range(2)]
        done = [e.outcome.failure for e in executor.run(jobs) if isinstance(e, JobFinished)]
        pids, took = zip(*(map(int, told.split()) for told in done), strict=True)
        look(list(pids), list(took))


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a merge of a family in float32 takes."""

    files: int
    values: int


def sizes(family: list[Path]) -> Sizes:
    files = [(model / "model.safetensors").stat().st_size for model in family]
    return Sizes(sum(files), files[0] // 2)


@pytest.mark.slow
@pytest.mark.parametrize("is_adapted", [False, True])
def test_two_workers_have_sources_and_copies_in_memory_once(
    tmp_path: Path, is_adapted: bool
) -> None:
    family = tiny_family(tmp_path, dtype="bfloat16", vocab_size=1 << 17, hidden_size=WIDTH)
    adapter = lora_expert(tmp_path / "adapter", family[0], 1) if is_adapted else None
    recipe = with_adapter(family, adapter) if adapter else in_float32("linear", family)
    n_read = 2  # of the family, or the adapted base and one more
    own = sizes(family)
    files, live = own.files // len(family) * n_read, 4 * own.values
    casts = 2 * files

    def look(pids: list[int], took: list[int]) -> None:
        root = scratch_root()
        of_root = [mapped(pid, root) for pid in pids]
        of_both = [mapped(pid, tmp_path) for pid in pids]
        in_root = casts + (files // n_read if is_adapted else 0)
        for found, expected in ((of_root, in_root), (of_both, files if not is_adapted else 0)):
            if expected:
                assert sum(one["Pss"] for one in found) <= 1.02 * expected
                assert all(one["Rss"] >= 0.9 * expected for one in found)
        assert all(n_bytes <= live + WORKSPACE for n_bytes in took)

    merged_by_two(recipe, look)
