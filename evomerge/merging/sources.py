"""Source tensors, each read once: memory-mapped, in the dtype they are stored in.

mergekit's own loaders do the reading, so names, aliases, tied weights and converted
checkpoint layouts resolve exactly as in a build. LoRA adapters are folded into their
model once, into a folder.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import reduce
from io import StringIO
from pathlib import Path

import torch
from mergekit.common import ModelReference, dtype_from_name
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import GatherTensors, LoaderCache, LoadTensor
from mergekit.merge_methods.task_adapter import ExecuteMergeMethodTask
from mergekit.options import MergeOptions
from mergekit.tokenizer import BuildTokenizer, PermutedVocabulary, TokenizerInfo

from evomerge.foundations.lock import alone
from evomerge.foundations.reading import is_there
from evomerge.foundations.scratch import scratch, scratch_root
from evomerge.merging.alignment import n_unmoved, settled
from evomerge.merging.kept_memory import MemoryBudget
from evomerge.merging.offload import offloaded
from evomerge.merging.prefetch import Prefetched, Prefetcher
from evomerge.merging.shared_copies import ALONE, SMALL, Sharing
from evomerge.merging.window import Window, expect, forget, is_mapped, tells_what_is_mapped
from evomerge.models.quiet import quiet_transformers

_CPU = torch.device("cpu")
_Entries = Mapping[ModelReference, tuple[torch.Tensor, torch.dtype | None]]


def build_tokenizer(task: BuildTokenizer) -> TokenizerInfo:
    """Runs mergekit's task without its progress bar."""
    with contextlib.redirect_stderr(StringIO()):
        return task.execute()


def fold_adapters(
    models: Iterable[ModelReference], cache: Path, *, trust_remote_code: bool
) -> None:
    """Merges every ``model+lora`` into a folder of its own, unless it is there.

    One worker does it while the others wait. The folder appears by rename, so nobody reads half
    of it. Names are mergekit's, so ``mergekit-yaml --lora-merge-cache`` finds it too.
    """
    for model in models:
        if model.lora is None:
            continue
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = cache / Path(model.model._unique_id() + "_" + model.lora._unique_id())
        if is_there(target):
            continue
        folding = alone(scratch_root() / f"{target.name}.lock")
        with folding, scratch(cache) as temporary, quiet_transformers():
            if is_there(target):
                continue
            merged = model.merged(cache_dir=str(temporary), trust_remote_code=trust_remote_code)
            with contextlib.suppress(FileExistsError):  # another run was faster
                shutil.move(merged.model.path, target)


class Sources:
    """Every tensor the recipes of one process need, by model and name.

    Args:
        device: Where the tensors stay. On ``"cpu"`` they stay memory-mapped.
        trust_remote_code: Whether models may bring their own code.
        lora_cache: Where folded adapters are kept; None: a temporary folder that is
            removed with this object.
        budget: Keeps copies in the dtype that recipes compute in, which saves casting in
            every merge; None: nothing is kept.
        window: Which tensors stay on the device; the others are read from their files, or from
            the host's memory where they are in none, in every merge. None: those that fit now.
        sharing: The workers whose memory it is; what they make of the sources is there once.
    """

    def __init__(
        self,
        *,
        device: str = "cpu",
        trust_remote_code: bool = False,
        lora_cache: Path | None = None,
        budget: MemoryBudget | None = None,
        window: Window | None = None,
        sharing: Sharing = ALONE,
    ) -> None:
        self._device = torch.device(device)
        self._copies, self._n_workers = sharing.copies, sharing.n_workers
        self._names: dict[int, str] = {}  # ids of tensors -> all that decides what they are
        self._window = window or Window(None, self._device)
        self._prefetcher = Prefetcher(self._device) if self._device.type == "cuda" else None
        self._passing: set[int] = set()  # ids of mapped tensors that do not stay
        self._tensors: dict[LoadTensor, torch.Tensor | None] = {}
        self._views: dict[tuple[int, int], torch.Tensor] = {}  # of first rows
        self._casts: dict[tuple[int, torch.dtype], torch.Tensor] = {}
        self._budget = budget or MemoryBudget(0, self._device)
        if lora_cache is None and self._copies is not None and sharing.folder is not None:
            lora_cache = sharing.folder / "lora"
        elif lora_cache is None:
            # Made only when a recipe has an adapter.
            lora_cache = scratch_root() / f"lora-{secrets.token_hex(8)}"
            weakref.finalize(self, shutil.rmtree, lora_cache, ignore_errors=True)
        self._lora_cache = lora_cache
        self.options = MergeOptions(
            quiet=True, trust_remote_code=trust_remote_code, lora_merge_cache=str(lora_cache)
        )

    def open(self, config: MergeConfiguration) -> None:
        """Makes mergekit's loaders ready for a recipe's models; call before planning it."""
        fold_adapters(
            config.referenced_models(),
            self._lora_cache,
            trust_remote_code=self.options.trust_remote_code,
        )
        cache = LoaderCache()
        cache.loaders.clear()  # shared by the whole process, and never fresh by itself
        cache.setup(options=self.options)

    def inputs(self, task: ExecuteMergeMethodTask, tokenizer: TokenizerInfo | None) -> InputTensors:
        """The tensors one merge task works on, permuted where a tokenizer is named."""
        gather = task.gather_tensors
        if isinstance(gather, GatherTensors):
            return self._inputs(self._loaded(gather))
        if not isinstance(gather, PermutedVocabulary) or tokenizer is None:
            raise TypeError(f"no way to feed {type(gather).__name__} to {task.method_name}")
        stored = self._loaded(gather.gather_tensors)
        n_rows = n_unmoved(gather, tokenizer, {model: t for model, (t, _) in stored.items()})
        if n_rows is None:
            return self._permuted(gather, tokenizer, stored)
        common = _common(stored)
        rows = n_rows if gather.vocabulary_axis == 0 else None  # else there are no others
        return self._inputs({m: (self._first(t, rows), common) for m, (t, _) in stored.items()})

    def _permuted(
        self, gather: PermutedVocabulary, tokenizer: TokenizerInfo, stored: _Entries
    ) -> InputTensors:
        """Rows in the order of the output's tokens, in temporary files; mergekit moves them."""
        if not stored:
            return self._inputs(stored)
        names = {str(model): model for model in stored}

        def make() -> dict[str, torch.Tensor]:
            raw = InputTensors({model: (t.to(_CPU), dtype) for model, (t, dtype) in stored.items()})
            moved = gather.execute(tokenizer_info=tokenizer, tensors=raw.cast())
            of_models = {name: (model, stored[model][0].dtype) for name, model in names.items()}
            return {name: settled(moved.pop(m), dtype) for name, (m, dtype) in of_models.items()}

        copies = self._copies
        found = copies.tensors(_told(gather, tokenizer), make) if copies is not None else make()
        entries, passing, common = {}, [], _common(stored)
        for name, tensor in found.items():
            entries[names[name]] = (tensor, common)
            if self._window.holds(tensor):
                entries[names[name]] = (tensor.to(self._device), common)
            elif is_mapped(tensor):
                passing.append(tensor)
        self._inputs(stored).release()
        return InputTensors(
            entries, device=self._device, passing=passing, prefetch=self._prefetcher
        )

    def _loaded(self, gather: GatherTensors) -> _Entries:
        """GatherTensors, with the cast to the recipe's dtype left for later."""
        found = {
            model: (self._resident(load), dtype_from_name(load.dtype))
            for model, load in zip(gather.weight_info, gather.arguments().values(), strict=True)
        }
        return {model: (t, dtype) for model, (t, dtype) in found.items() if t is not None}

    def _inputs(self, tensors: _Entries) -> InputTensors:
        passing = [tensor for tensor, _ in tensors.values() if id(tensor) in self._passing]
        return InputTensors(
            tensors, self._kept, device=self._device, passing=passing, prefetch=self._prefetcher
        )

    def _first(self, tensor: torch.Tensor, n_rows: int | None) -> torch.Tensor:
        """The first rows of a resident tensor: always the same view of it."""
        if n_rows is None or len(tensor) == n_rows:
            return tensor
        key = (id(tensor), n_rows)
        if key not in self._views:
            self._views[key] = view = tensor[:n_rows]
            if id(tensor) in self._names:
                self._names[id(view)] = f"{n_rows} rows of {self._names[id(tensor)]}"
            if id(tensor) in self._passing:
                self._passing.add(id(view))
        return self._views[key]

    def _resident(self, load: LoadTensor) -> torch.Tensor | None:
        key = load.model_copy(update={"dtype": None, "device": None})
        if key not in self._tensors:
            read = key.execute()
            self._tensors[key] = None if read is None else self._settled(read, repr(key))
        return self._tensors[key]

    def _settled(self, read: torch.Tensor, name: str) -> torch.Tensor:
        """A tensor where it stays: on the device, in its file, or in a temporary one."""
        stays = self._window.holds(read)
        if stays and self._device != _CPU:
            return read.to(self._device)
        copies = self._copies if read.nbytes > SMALL else None
        if (copies or not stays) and tells_what_is_mapped() and not is_mapped(read):
            if copies is not None:
                read = copies.tensor(name, lambda: read)
            else:
                read = offloaded(read.shape, read.dtype).copy_(read)
        if not stays and is_mapped(read):  # else in the host's memory; to forget it would erase it
            self._passing.add(id(read))
        self._names[id(read)] = name
        return read

    def _kept(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
        """A resident tensor in another dtype, kept from now on; None: there is no room."""
        key = (id(tensor), dtype)  # resident tensors live as long as this object
        if key in self._casts:
            return self._casts[key]
        n_bytes, name = tensor.numel() * dtype.itemsize, self._names.get(id(tensor))
        copies = self._copies if self._device == _CPU and n_bytes > SMALL else None
        if copies is not None and name is not None:
            # Each worker counts its part.
            if not self._budget.grants(self, n_bytes // self._n_workers):
                return None
            made = copies.tensor(f"{dtype} of {name}", lambda: tensor.to(dtype))
        elif not self._budget.grants(self, n_bytes):
            return None
        else:
            made = tensor.to(self._device, dtype)
        self._casts[key] = made
        return made


def _common(tensors: _Entries) -> torch.dtype:
    """The dtype that mergekit brings tensors to whose rows it moves."""
    dtypes = [dtype or tensor.dtype for tensor, dtype in tensors.values()]
    return reduce(torch.promote_types, dtypes)


def _told(gather: PermutedVocabulary, tokenizer: TokenizerInfo) -> str:
    """All that decides how rows are moved; mergekit's own text of a task has addresses in it."""
    read = [repr(load) for _, load in sorted(gather.gather_tensors.arguments().items())]
    tokens = sorted((token, repr(own)) for token, own in dict(**(gather.tokens or {})).items())
    asked = [gather.base_model, gather.pad_to_multiple_of, gather.vocabulary_axis]
    moves = {str(model): sorted(own.items()) for model, own in tokenizer.permutations.items()}
    names = sorted(tokenizer.tokenizer.get_vocab().items())
    return json.dumps([read, tokens, list(map(str, asked)), names, moves])


class InputTensors:
    """Resident tensors by model, each with the dtype a recipe wants it in.

    Args:
        tensors: Model -> tensor as stored, and the dtype to compute in (None: as it is).
        keep: Casts a tensor into memory that it keeps, or returns None where there is no room;
            None: there is none.
        device: Where merges are computed.
        passing: Those of the tensors that do not stay in memory.
        prefetch: Brings these to the device; None where it reads them as they are.

    Attributes:
        device: As given.
        is_passing: Whether some do not stay.
    """

    def __init__(
        self,
        tensors: Mapping[ModelReference, tuple[torch.Tensor, torch.dtype | None]],
        keep: Callable[[torch.Tensor, torch.dtype], torch.Tensor | None] | None = None,
        *,
        device: torch.device = _CPU,
        passing: Sequence[torch.Tensor] = (),
        prefetch: Prefetcher | None = None,
    ) -> None:
        self._tensors = tensors
        self._keep = keep
        self._passing = passing
        self._prefetcher = prefetch
        self._coming: Future[Prefetched] | None = None
        self.device = device
        self.is_passing = bool(passing)

    def stored(self) -> Mapping[ModelReference, tuple[torch.Tensor, torch.dtype | None]]:
        """The tensors as they are stored, with the dtypes to compute in."""
        return self._tensors

    def cast(self) -> dict[ModelReference, torch.Tensor]:
        """The tensors as mergekit's kernels get them; unchanged ones are not copied."""
        kept, here = self.kept(), self._received()
        return {
            model: here.get(id(kept[model]), kept[model]).to(
                self.device, dtype or kept[model].dtype
            )
            for model, (_, dtype) in self._tensors.items()
        }

    def expect(self) -> None:
        """Begins to read those that do not stay: they are merged next."""
        if not self.is_passing:
            return
        if self._prefetcher is None:
            for tensor in self._passing:
                expect(tensor)
            return
        not_kept = set(map(id, self.kept().values()))
        sent = [tensor for tensor in self._passing if id(tensor) in not_kept]
        self._coming = self._prefetcher.send(sent) if sent else None

    def _received(self) -> dict[int, torch.Tensor]:
        coming, self._coming = self._coming, None
        return {} if coming is None else coming.result().received()

    def release(self, start: int = 0, stop: int | None = None) -> None:
        """Gives the memory of those back that do not stay, from element to element."""
        self._coming = None  # nobody asked for them
        for tensor in self._passing:
            forget(tensor.view(-1)[start:stop])

    def kept(self) -> dict[ModelReference, torch.Tensor]:
        """In the dtypes to compute in where a copy is kept, else as they are stored."""
        return {model: self._or_kept(*entry) for model, entry in self._tensors.items()}

    def _or_kept(self, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        if dtype is None or dtype == tensor.dtype or self._keep is None:
            return tensor
        cast = self._keep(tensor, dtype)
        return tensor if cast is None else cast
