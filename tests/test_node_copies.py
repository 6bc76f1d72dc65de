"""Copies of models on a disk of each machine: made once, checked, and read instead."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.make_executor import worker_factory_for
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.errors import LostFileError, RunError
from evomerge.genome.load import load_genome
from evomerge.models.fingerprint import folder_digest
from evomerge.models.node_copies import copies_of
from evomerge.nouns.evaluation import TrialState
from evomerge.nouns.origin import proposed
from evomerge.nouns.trial import Candidate
from tests.end_to_end.conftest import make_workplace
from tests.tiny_models import tiny_family, tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tiny_model(tmp_path / "models" / "model")
    (folder / "optimizer.pt").write_bytes(b"of no use to a merge")
    return folder


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """Of every file: when it was written, and which it is."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in found}


def test_a_copy_is_made_once_and_holds_what_is_read(model: Path, tmp_path: Path) -> None:
    digests, root = {str(model): folder_digest(model)}, tmp_path / "disk" / "copies"
    (copy,) = map(Path, copies_of(digests, str(root)).values())
    assert copy.parent == root
    assert folder_digest(copy) == digests[str(model)]
    assert not (copy / "optimizer.pt").exists()
    assert [path for path in root.iterdir() if path != copy and path.suffix != ".lock"] == []
    first = states(root)
    assert copies_of(digests, str(root)) == {str(model): str(copy)}
    assert states(root) == first


def test_a_copy_that_somebody_changed_is_made_anew(model: Path, tmp_path: Path) -> None:
    digests = {str(model): folder_digest(model)}
    (copy,) = map(Path, copies_of(digests, str(tmp_path / "disk")).values())
    (copy / "config.json").write_text("{}")
    copies_of(digests, str(tmp_path / "disk"))
    assert (copy / "config.json").read_bytes() == (model / "config.json").read_bytes()


def test_a_model_that_changed_since_the_run_began_is_not_copied(
    model: Path, tmp_path: Path
) -> None:
    digests = {str(model): folder_digest(model)}
    (model / "config.json").write_text("{}")
    with pytest.raises(LostFileError, match="is not what the run began with"):
        copies_of(digests, str(tmp_path / "disk"))
    assert [path for path in (tmp_path / "disk").iterdir() if path.suffix != ".lock"] == []


def test_a_disk_without_room_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        LostFileError, match=r"disk/model-\w+ on node \S+: cannot be written \(No s"
    ):
        copies_of({str(model): folder_digest(model)}, str(tmp_path / "disk"))
    assert not [path for path in (tmp_path / "disk").iterdir() if path.is_dir()]


def test_a_disk_that_is_anothers_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileLock, *_: object) -> None:  # root may write everywhere
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(LostFileError, match=r"disk on node \S+: cannot be written \(Permission d"):
        copies_of({str(model): folder_digest(model)}, str(tmp_path / "disk"))


def test_a_variable_is_that_of_the_machine(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {str(model): folder_digest(model)}
    monkeypatch.setenv("EVOMERGE_TEST_DISK", str(tmp_path / "own"))
    (copy,) = copies_of(digests, "$EVOMERGE_TEST_DISK/copies").values()
    assert copy.startswith(str(tmp_path / "own" / "copies"))
    monkeypatch.delenv("EVOMERGE_TEST_DISK")
    with pytest.raises(RunError, match=r"execution\.copies: got \$EVOMERGE_TEST_DISK/copies"):
        copies_of(digests, "$EVOMERGE_TEST_DISK/copies")
    with pytest.raises(ValueError, match="expected a whole path"):
        RaySettings(copies="scratch")


def copy_and_note(model: str, digest: str, root: str, noted: str) -> None:
    """In a process: copies a model, and notes that it did."""
    real = shutil.copyfile

    def copyfile(source: Path, target: Path) -> None:
        with open(noted, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {source.name}\n")
        real(source, target)

    shutil.copyfile = copyfile
    copies_of({model: digest}, root)


@pytest.mark.slow
def test_of_two_processes_one_copies_and_the_other_waits(model: Path, tmp_path: Path) -> None:
    context, noted = multiprocessing.get_context("spawn"), tmp_path / "noted"
    arguments = (str(model), folder_digest(model), str(tmp_path / "disk"), str(noted))
    both = [context.Process(target=copy_and_note, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    copied = noted.read_text().split("\n")[:-1]
    assert len({line.split()[0] for line in copied}) == 1
    assert len({line.split()[1] for line in copied}) == len(copied)


def test_a_worker_reads_the_copies_and_not_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    tiny_family(tmp_path / "template" / "models")
    place = make_workplace(tmp_path / "template", tmp_path / "place")
    monkeypatch.chdir(place)
    own = (f"execution={{executor: ray, copies: {tmp_path}/disk}}",)
    compiled = compile_genome(*load_genome(place / "genome.yml", own))
    header = {"threads": 1, "dtype": None, "tasks": {}}
    factory = worker_factory_for(compiled, header, place / "out")
    assert len(factory.copied) == 3
    worker = factory(compiled.tasks.evaluators)
    (place / "models").rename(place / "elsewhere")
    space = compiled.merge_space
    recipes = [space.model_recipe(one.model) for one in compiled.genome.genome.models]
    recipes.append(space.recipe(space.space.decode(space.space.initial)))
    for index, recipe in enumerate(recipes):
        steps = worker.run(Candidate(index, proposed(), recipe), "tasks")
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                outcome = ended.value
                break
        assert outcome.state is TrialState.COMPLETE, outcome.failure
