"""What model folders and Hub ids say of themselves, without loading a weight.

Only ``config.json`` and the headers of the weight files are read, so a model that does not
fit is found before anything is downloaded or merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import get_safetensors_metadata
from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError
from mergekit.architecture import ModelArchitecture, arch_info_for_config
from mergekit.common import ModelReference
from mergekit.io.lazy_tensor_loader import ShardedTensorIndex
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig

from evomerge.architecture import Architecture
from evomerge.errors import ModelError, Problem
from evomerge.merging.hub import cached_snapshot
from evomerge.merging.sources import by_name, quiet_transformers

Shapes = Mapping[str, tuple[int, ...]]  # tensor name -> shape

_MARK = 987654321  # a layer index that no tensor name holds by chance
_NAMES_SHOWN = 3
# Buffers of old checkpoints that transformers computes itself today.
_COMPUTED = (".inv_freq", ".attention.bias", ".attn.bias", ".masked_bias", ".position_ids")


@dataclass(frozen=True)
class ModelFiles:
    """One model's configuration and tensor shapes."""

    name: str
    config: PreTrainedConfig
    family: ModelArchitecture
    shapes: Shapes

    @property
    def architecture(self) -> str:
        """Class name, by the configuration."""
        return (self.config.architectures or [""])[0]

    @property
    def n_layers(self) -> int:
        """Number of transformer layers, by the configuration."""
        (module,) = self.family.modules.values()
        n_layers: int = module.architecture.num_layers(self.config)
        return n_layers


def describe(
    models: Sequence[str | dict[str, Any]], *, trust_remote_code: bool = False
) -> Architecture:
    """The architecture that all models share.

    Vocabulary sizes may differ: see ``tokenizers_differ``.

    Args:
        models: Folders or Hub ids as a recipe names them, with ``+lora`` and ``@revision`` or as
            mappings.
        trust_remote_code: Whether models may bring their own code.

    Raises:
        ModelError: models cannot be read or do not fit together; every problem at once.
    """
    problems: list[Problem] = []
    files = []
    for reference in by_name(models).items():
        try:
            files.append(read_files(*reference, trust_remote_code=trust_remote_code))
        except ModelError as error:
            problems += error.problems
    for other in files[1:]:
        problems += _differences(files[0], other)
    problems += [problem for one in files for problem in _unknown_tensors(one)]
    if problems:
        raise ModelError.of(problems)
    return _architecture(files)


def read_files(
    name: str, model: str | dict[str, Any], *, trust_remote_code: bool = False
) -> ModelFiles:
    """Configuration and tensor shapes of one model.

    Args:
        name: For messages.
        model: As a recipe names it.
        trust_remote_code: Whether it may bring its own code.

    Raises:
        ModelError: no such model, no readable weights, or an unsupported architecture.
    """
    try:
        reference = ModelReference.model_validate(model)
        for part in filter(None, (reference.model, reference.lora)):
            _check_folder(part.path)
        with quiet_transformers():
            config = reference.config(trust_remote_code=trust_remote_code)
        shapes = dict(_shapes(reference))
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise ModelError(
            " ".join(str(error).split()), where=name, fix="Name a folder or a Hub id."
        ) from error
    names = config.architectures or ["(none in config.json)"]
    family = arch_info_for_config(config) if config.architectures else None
    if family is None or len(family.modules) != 1:
        raise ModelError(
            f"architecture {names[0]} is not a text model that mergekit knows", where=name
        )
    return ModelFiles(name, config, family, shapes)


def _check_folder(path: str) -> None:
    """Refuses the path of a missing folder, which the Hub would call a strange name."""
    parent = Path(path).parent
    is_path = path.startswith(("/", ".", "~")) or path.count("/") > 1
    if not Path(path).exists() and (is_path or (parent != Path() and parent.is_dir())):
        raise FileNotFoundError("no such folder")


def _shapes(reference: ModelReference) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensor shapes from a folder, the Hub's cache, or headers fetched from the Hub."""
    path = Path(reference.model.path)
    if not path.exists():
        cached = cached_snapshot(reference.model)
        if cached is None:
            yield from _hub_shapes(reference.model.path, reference.model.revision)
            return
        path = cached
    index = ShardedTensorIndex.from_disk(str(path))
    for shard in index.shards:
        file = Path(index.base_path) / shard.filename
        if not index.is_safetensors:
            loaded = torch.load(file, map_location="meta", weights_only=True)
            yield from ((name, tuple(tensor.shape)) for name, tensor in loaded.items())
            continue
        with safe_open(file, framework="pt") as header:
            for name in header.keys():  # noqa: SIM118  # not a mapping
                yield name, tuple(header.get_slice(name).get_shape())


def _hub_shapes(repo: str, revision: str | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    try:
        metadata = get_safetensors_metadata(repo, revision=revision)
    except (HfHubHTTPError, NotASafetensorsRepoError) as error:
        raise ValueError(f"no safetensors headers on the Hub: {error}") from error
    for file in metadata.files_metadata.values():
        yield from ((name, tuple(info.shape)) for name, info in file.tensors.items())


def _differences(first: ModelFiles, other: ModelFiles) -> Iterator[Problem]:
    """Why two models cannot be merged; vocabulary size apart."""
    if first.architecture != other.architecture:
        yield Problem(
            f"architecture {other.architecture}, expected {first.architecture} as {first.name}",
            where=other.name,
            fix="Merge models of one architecture.",
        )
        return
    if first.n_layers != other.n_layers:
        yield Problem(
            f"{other.n_layers} layers, expected {first.n_layers} as {first.name}",
            where=other.name,
            fix="Merge models of equal depth.",
        )
        return
    vocabulary = _vocabulary_axes(first)
    for name in sorted(first.shapes.keys() & other.shapes.keys()):
        expected, got = list(first.shapes[name]), list(other.shapes[name])
        if name in vocabulary and len(got) == len(expected):
            got[vocabulary[name]] = expected[vocabulary[name]]
        if got != expected:
            yield Problem(
                f"{name} has shape {list(other.shapes[name])}, expected"
                f" {list(first.shapes[name])} as in {first.name}",
                where=other.name,
                fix="Merge models of equal width.",
            )
            return  # one wrong width shows in every tensor
    # A head may be tied in one model and not in the other: mergekit reads the embeddings.
    own = [n for n in first.shapes.keys() ^ other.shapes.keys() if n not in vocabulary]
    own = [name for name in sorted(own) if not name.endswith(_COMPUTED)]
    if own:
        yield Problem(
            f"{len(own)} tensors are in only one of it and {first.name}: {_some(own)}",
            where=other.name,
            fix="Merge models saved in the same form.",
        )


def _unknown_tensors(model: ModelFiles) -> Iterator[Problem]:
    """Tensors that a merge would drop without a word."""
    known = {
        name
        for weight in model.family.all_weights(model.config)
        for name in (weight.name, *(weight.aliases or ()), *(weight.tied_names or ()))
    }
    unknown = sorted(n for n in model.shapes if n not in known and not n.endswith(_COMPUTED))
    if unknown:
        yield Problem(
            f"mergekit knows no tensors {_some(unknown)} in {model.architecture} and"
            " would leave them out",
            where=model.name,
            fix="Use a model whose tensors mergekit knows all.",
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown}, ..." if len(names) > _NAMES_SHOWN else shown


def _vocabulary_axes(model: ModelFiles) -> dict[str, int]:
    weights = model.family.all_weights(model.config)
    return {w.name: w.vocabulary_axis for w in weights if w.vocabulary_axis is not None}


def _architecture(files: Sequence[ModelFiles]) -> Architecture:
    first = files[0]
    (module,) = first.family.modules.values()
    prefix = module.weight_prefix or ""
    present = {name for one in files for name in one.shapes}
    post = module.architecture.post_weights(first.config)
    layer = (
        prefix + weight.name.replace(str(_MARK), "{layer}")
        for weight in module.architecture.layer_weights(_MARK, first.config)
    )
    return Architecture(
        name=first.architecture,
        n_layers=first.n_layers,
        embeddings=tuple(prefix + w.name for w in module.architecture.pre_weights(first.config)),
        layer_tensors=tuple(
            name
            for name in layer
            if name.format(layer=0) in present and not name.endswith(_COMPUTED)
        ),
        final_norm=tuple(prefix + w.name for w in post if w.vocabulary_axis is None),
        head=tuple(
            prefix + w.name
            for w in post
            if w.vocabulary_axis is not None and prefix + w.name in present
        ),
    )
