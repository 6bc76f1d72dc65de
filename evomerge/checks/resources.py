"""Memory and disk that a run takes, and what this machine has of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.checks.need import COMPUTED_BYTES, ITEM_BYTES, Need
from evomerge.foundations.counted import counted
from evomerge.genome.schema import Genome
from evomerge.genome.words import SIDE_BY_SIDE
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import ModelFacts, TensorFacts

if TYPE_CHECKING:
    from evomerge.foundations.machine import Capacity

HEADER_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
SHARE_OF_COPIES = 8  # sources are copied into the dtype of the merge in this part of free memory
SCORED_AT_ONCE = 2048  # positions whose logits are float32 at once
IN_BLOCKS = ("linear", "task_arithmetic", "slerp")  # never hold a whole tensor, on a CPU
WORKSPACE_BYTES = 64 << 20  # what these hold at once
PROCESS_BYTES = 1 << 30  # Python, torch, transformers and lm-eval themselves
RUN_FOLDER_BYTES = 100 << 20  # documents are compressed: a few MB per thousand trials


@dataclass(frozen=True)
class Storage:
    """A place where memory or disk is taken.

    Attributes:
        name: "RAM", "GPU memory" or "disk".
        needs: What takes it.
        capacity: What there is; None where nobody can tell.
        path: Where on the disk.
    """

    name: str
    needs: tuple[Need, ...]
    capacity: Capacity | None = None
    path: Path | None = None

    @property
    def n_bytes(self) -> int:
        """Everything it has to hold."""
        return sum(need.n_bytes for need in self.needs)

    @property
    def certain_bytes(self) -> int:
        """What it has to hold at the very least."""
        return sum(need.n_bytes for need in self.needs if need.is_certain)


@dataclass(frozen=True)
class Sizes:
    """What of the models decides the memory and disk a run takes.

    Attributes:
        sources: Bytes of all models, each once.
        n_values: Numbers in one candidate.
        item: Bytes of one of them in the live model.
        largest: Numbers in the largest tensor.
        n_sources: Models that are merged.
        vocabulary: Rows of the output head.
        copies: Bytes of all sources in the dtype that merges compute in, where it is another.
        downloads: Bytes that are not on this machine yet.
        adapted: Bytes of models that an adapter is folded into.
        n_columns: Columns of all tensors of one model together.
        made: Bytes of models that earlier stages will make.
        n_mixed: Models that are in memory at once for a mixture of them.
        staged: Bytes of models that recipes of several merges make on the way, at any one time.
    """

    sources: int
    n_values: int
    item: int
    largest: int
    n_sources: int
    vocabulary: int
    copies: int
    downloads: int
    adapted: int
    n_columns: int = 0
    made: int = 0
    n_mixed: int = 0
    staged: int = 0


def sizes_of(genome: Genome, models: Sequence[ModelFacts], out_dtype: str) -> Sizes | None:
    """The sizes of the models that could be read; None where none has tensors."""
    models = [model for model in models if model.tensors]
    if not models:
        return None
    kind = merge_space_for(genome.genome)
    in_sums = not kind.folds_adapters
    if in_sums:
        models = models[:1]  # all have the same base, and it alone is read
    first = max(models, key=lambda model: sum(_n_values(t) for t in model.tensors.values()))
    values = [_n_values(tensor) for tensor in first.tensors.values()]
    of_model = {m.name: sum(t.n_bytes for t in m.tensors.values()) for m in models}
    return Sizes(
        sources=sum(of_model.values()),
        n_values=sum(
            _n_values(tensor) * kind.n_copies(genome.genome, name)
            for name, tensor in first.tensors.items()
        ),
        item=ITEM_BYTES.get(genome.evaluation.dtype or out_dtype, COMPUTED_BYTES),
        largest=max(values),
        n_sources=len(models),
        vocabulary=_vocabulary(first),
        copies=_copies(models, genome.genome.dtype),
        downloads=sum(of_model[m.name] for m in models if m.is_on_hub),
        adapted=sum(of_model[m.name] for m in models if m.adapter is not None and not in_sums),
        n_columns=sum(tensor.shape[-1] for tensor in first.tensors.values() if tensor.shape),
        made=sum(of_model[m.name] for m in models if m.is_foreseen),
        n_mixed=_n_mixed(genome),
    )


def _n_mixed(genome: Genome) -> int:
    mixes = merge_space_for(genome.genome).mixes or SIDE_BY_SIDE in genome.baselines
    return len(genome.genome.models) if mixes else 0


def _copies(models: Sequence[ModelFacts], dtype: str) -> int:
    tensors = (tensor for model in models for tensor in model.tensors.values())
    other = (_n_values(tensor) for tensor in tensors if tensor.dtype != HEADER_NAMES[dtype])
    return sum(other) * ITEM_BYTES[dtype]


def _n_values(tensor: TensorFacts) -> int:
    return math.prod(tensor.shape)


def _vocabulary(model: ModelFacts) -> int:
    size = model.text_config.get("vocab_size")
    return size if isinstance(size, int) else 0


def memory_needs(
    sizes: Sizes,
    free: int,
    tokens_per_pass: int,
    workers: int,
    *,
    shared: bool,
    in_blocks: bool = False,
) -> list[Need]:
    """What sources, live models and forward passes take.

    Args:
        sizes: Of the models.
        free: Bytes that are free before the run.
        tokens_per_pass: Tokens of the largest forward pass.
        workers: Trials at once.
        shared: Whether workers share the sources and what they make of them: files that are
            mapped, not copied.
        in_blocks: Whether a merge holds blocks of a tensor, never a whole one.
    """
    copies = 1 if shared else workers
    live = sizes.n_values * sizes.item
    whole = sizes.largest * COMPUTED_BYTES * (sizes.n_sources + 2)
    merging = min(whole, WORKSPACE_BYTES) if in_blocks else whole
    logits = tokens_per_pass * sizes.vocabulary * sizes.item
    # What is free is divided among workers, on a GPU and here.
    kept = min(copies * sizes.copies, free // SHARE_OF_COPIES)
    scored = min(tokens_per_pass, SCORED_AT_ONCE) * sizes.vocabulary * COMPUTED_BYTES
    each = "" if workers == 1 else f", {workers} workers"
    mixed = [Need(f"live models of a mixture{each}", workers * sizes.n_mixed * live)]
    return [
        *(mixed if sizes.n_mixed else ()),
        Need(
            counted(sizes.n_sources, "source") + ("" if shared else each),
            copies * sizes.sources,
            is_certain=False,  # what does not fit is read from its files in every merge
        ),
        Need(f"live model{each}", workers * live, has_gradient=True),
        Need(
            f"merging {'block by block' if in_blocks else 'its largest tensor'}{each}",
            workers * merging,
        ),
        Need("copies of sources, cast" + ("" if shared else each), kept, False),
        Need(f"logits of one pass, at most{each}", workers * (logits + scored), False),
    ]


@dataclass(frozen=True)
class Training:
    """What learning by gradient takes beside the trials.

    Attributes:
        memory: Where the live model is.
        disk: In the run folder.
    """

    memory: tuple[Need, ...]
    disk: tuple[Need, ...] = ()


def training_of(sizes: Sizes, n_weights: int, n_checkpoints: int | None) -> Training:
    """What training takes; what a pass holds depends on its texts, and is not counted.

    Args:
        sizes: Of the models.
        n_weights: Parameters of the space.
        n_checkpoints: Epochs that each leave a checkpoint, where every column has a number;
            None where the weights of the space are trained.
    """
    # Gradients are given back one by one; many are held only where a framework delays them.
    gradient = Need("one gradient of the live model, at most", sizes.n_values * sizes.item, False)
    if n_checkpoints is None:
        return Training((gradient, Need("training: weights and moments", 3 * 8 * n_weights)))
    state = 3 * 4 * sizes.n_columns * sizes.n_sources
    written = n_checkpoints * sizes.n_values * sizes.item
    return Training(
        (gradient, Need("training: numbers of columns and moments", state)),
        (Need(f"{n_checkpoints} checkpoints, one per epoch", written),),
    )


def stores_of(
    sizes: Sizes,
    tokens_per_pass: int,
    workers: int,
    device: str,
    run_dir: Path | None,
    methods: Collection[str] = (),
    training: Training | None = None,
    others: Iterable[Need] = (),
    in_memory: Iterable[Need] = (),
    n_sharing: int | None = None,
) -> tuple[Storage, ...]:
    """Where a run takes memory and disk on this machine, and how much there is.

    Args:
        sizes: Of the models.
        tokens_per_pass: Tokens of the largest forward pass.
        workers: Trials at once.
        device: Of the live model.
        run_dir: The run folder, where known.
        methods: Merge methods of the run.
        training: What the optimizers train.
        others: What else is where the live model is.
        in_memory: What else is in main memory, wherever the live model is.
        n_sharing: Workers on one device; None: all of them.
    """
    from evomerge.foundations import machine as resources  # loads torch; a wrong genome must not

    ram, gpu = resources.memory(), resources.gpu_memory(device)
    is_gpu = device.startswith("cuda")
    free = ram.free if not is_gpu else gpu.free if gpu is not None else 0
    needs = memory_needs(
        sizes,
        free,
        tokens_per_pass,
        n_sharing or workers,
        shared=not is_gpu,
        in_blocks=not is_gpu and bool(methods) and set(methods) <= {*IN_BLOCKS},
    )
    needs += [*others, *(training.memory if training is not None else ())]
    processes = Need("Python and its libraries", _n_processes(workers) * PROCESS_BYTES, False)
    if is_gpu:
        each = "" if workers == 1 else f", {workers} workers"
        loading = Need(
            f"a model on its way to the GPU{each}", workers * sizes.n_values * sizes.item
        )
        stores = [
            Storage("RAM", (processes, loading, *in_memory), ram),
            Storage("GPU memory", tuple(needs), gpu),
        ]
    else:
        stores = [Storage("RAM", (processes, *needs, *in_memory), ram)]
    copies = min(sizes.copies, free // SHARE_OF_COPIES) if workers > 1 and not is_gpu else 0
    return (*stores, *_disks(sizes, run_dir, training, copies))


def _n_processes(workers: int) -> int:
    """Of several workers each has its own beside the controller's."""
    return workers if workers == 1 else workers + 1


def _disks(
    sizes: Sizes, run_dir: Path | None, training: Training | None, shared_copies: int
) -> Iterator[Storage]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from evomerge.foundations.machine import disk

    places: list[tuple[Path, tuple[Need, ...]]] = [
        (Path(HF_HUB_CACHE), (Need("models to download", sizes.downloads),)),
        (
            Path(tempfile.gettempdir()),
            (
                Need("models with their adapters", sizes.adapted),
                Need("models that several merges make on the way", sizes.staged),
                Need("copies of sources that workers share", shared_copies),
            ),
        ),
    ]
    if run_dir is not None:
        trained = () if training is None else training.disk
        folder = Need("the run folder", RUN_FOLDER_BYTES, False)
        made = Need("what earlier stages find, built once", sizes.made)
        places.append((run_dir, (folder, made, *trained)))
    for path, needs in places:
        if any(need.n_bytes for need in needs):
            yield Storage("disk", needs, disk(path), path)
