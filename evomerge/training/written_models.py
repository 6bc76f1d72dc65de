"""Models that no recipe can say, as ordinary checkpoint folders of the run.

Every epoch's is kept, as each is a trial that may be validated, verified and exported: a run
takes as many times the size of a model as it has epochs. A folder that was removed to save room
is written again from the numbers of its epoch when the run goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from mergekit.io.tensor_writer import TensorWriter
from safetensors.torch import save_file

from evomerge.foundations.errors import RunError
from evomerge.foundations.files import writing
from evomerge.foundations.reading import is_file, is_folder, opened, real_path
from evomerge.merging.kernels.engine import Merged
from evomerge.recipe.own_names import TRAINED, place
from evomerge.training.coefficients import Numbers
from evomerge.training.column_mixture import ColumnMixture

MODEL, COEFFICIENTS = "model", "coefficients.safetensors"
SHARD_BYTES = 1_000_000_000  # held in memory while a checkpoint is written
_UNFINISHED = ".unfinished-"
_AT_A_TIME = 1 << 20


class Checkpoints:
    """Writes the models of numbers of columns.

    Each is a folder named after what is in it: ``model``, an ordinary checkpoint, and
    ``coefficients.safetensors``, what each column of each source is multiplied by.

    Args:
        mixture: Holds the sources, and the live model, which is overwritten.
        run_dir: The run folder, below which they are written by this process alone.
    """

    def __init__(self, mixture: ColumnMixture, run_dir: Path) -> None:
        self._mixture = mixture
        self._run_dir, self._folder = run_dir, run_dir / TRAINED
        for unfinished in self._folder.glob(f"{_UNFINISHED}*"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)

    def write(self, values: Numbers) -> Path:
        """The folder of the model with these numbers: all of it, or none.

        Raises:
            LostFileError: the disk is full, or the folder cannot be written.
        """
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(dir=self._folder, prefix=_UNFINISHED))
            try:
                self._fill(values, unfinished)
                folder = self._folder / _synced(unfinished)
                if not is_folder(folder):
                    unfinished.chmod(0o755)
                    unfinished.rename(folder)
                    _sync(self._folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        return folder / MODEL

    def name_of(self, folder: Path) -> str:
        """What a recipe of the run calls a folder, wherever the run folder is."""
        return folder.relative_to(self._run_dir).as_posix()

    def restore(self, name: str, values: Numbers) -> None:
        """Writes a folder again that is gone.

        Raises:
            RunError: its place is outside the run folder, or it is another model than it was.
        """
        folder = Path(place(name, self._run_dir))
        if real_path(folder).parents[1] != real_path(self._folder):
            raise RunError(
                f"a trained model is gone, and the run folder is {self._run_dir} now",
                where=str(folder),
                fix="Move the run folder back: its recipes name the models in it.",
            )
        if real_path(self.write(values)) != real_path(folder):
            raise RunError(
                "a trained model is gone, and training cannot be repeated to the bit here",
                where=str(folder),
                fix="Put it back, or continue the run on the machine and with the versions it "
                "was made with.",
            )

    def _fill(self, values: Numbers, folder: Path) -> None:
        model = folder / MODEL
        writer = TensorWriter(str(model), max_shard_size=SHARD_BYTES)

        def save(one: Merged) -> None:
            tensor = one.tensor()
            if tensor is not None:
                writer.save_tensor(one.name, tensor.cpu())

        self._mixture.at(values, save)
        writer.finalize()
        self._mixture.merger.write_frame(self._mixture.recipe, model)
        coefficients = self._mixture.columns.tensors(values)
        save_file(coefficients, folder / COEFFICIENTS)


def _synced(folder: Path) -> str:
    """A name after the content of all files, which are on the disk afterwards."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if is_file(path)):
        found.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with opened(path, follow=False) as file:
            while content := file.read(_AT_A_TIME):
                found.update(content)
            os.fsync(file.fileno())
    for inner in (folder / MODEL, folder):
        _sync(inner)
    return found.hexdigest()


def _sync(folder: Path) -> None:
    """Waits until the disk knows the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
