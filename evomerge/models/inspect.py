"""A model as the genome names it -> its facts, without loading a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evomerge.foundations.errors import EvomergeError, ModelError
from evomerge.foundations.reading import SMALL, is_folder
from evomerge.genome.model_names import ModelName
from evomerge.genome.source import parse_yaml
from evomerge.models.facts import WEIGHT_INDEX, AdapterFacts, ModelFacts, TokenizerFacts
from evomerge.models.headers import read_tensors, weight_files
from evomerge.models.pickles import PICKLE_INDEX, read_pickles
from evomerge.models.repository import Repository, open_repository
from evomerge.models.tokenizer import read_tokenizer

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def read_model(name: ModelName, key: str = "", *, may_unpickle: bool = False) -> ModelFacts:
    """The facts of one model.

    Args:
        name: Folder or Hub id, revision, adapter.
        key: Where it stands in the genome.
        may_unpickle: Whether shapes may be read from pickle files.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
    """
    where = key or name.text
    try:
        files = _Files(open_repository(name.path, name.revision))
        adapter = _adapter(name, files)
        config = files.json("config.json")
        shards, missing = weight_files(files.sizes, files.json(WEIGHT_INDEX))
        tensors, broken = read_tensors(files.repository, shards)
        if may_unpickle and files.folder is not None and not (shards or missing):
            tensors, broken = read_pickles(files.folder, files.json(PICKLE_INDEX))
        return ModelFacts(
            folder=files.folder,
            files=files.sizes,
            tensors=tensors,
            missing=missing,
            name=name.text,
            reference=name.in_recipe,
            key=where,
            config=config,
            generation=files.json("generation_config.json"),
            tokenizer=files.tokenizer(),
            adapter=adapter,
            card=files.card(),
            broken={**files.broken, **broken},
        )
    except ModelError as error:
        problem = error.problems[0]
        fix = _hint(name) or problem.fix
        raise ModelError(problem.what, where=where, fix=fix) from error
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{name.text} cannot be read ({reason})",
            where=where,
            fix="Check the network and the access rights, or name another folder.",
        ) from error


def _hint(name: ModelName) -> str:
    """What to do about a folder whose own name was taken for a model with parts."""
    if name.in_recipe == name.text and "+" not in name.text and "@" not in name.text:
        return ""
    if not is_folder(name.text):
        return ""
    return f"For the folder of that name write {{model: {{path: {name.text}}}}}."


def _adapter(name: ModelName, files: _Files) -> AdapterFacts | None:
    """What stands behind ``+``; also the files themselves where they are an adapter alone."""
    if name.lora is not None:
        files = _Files(open_repository(name.lora, name.lora_revision))
    elif "config.json" in files.sizes or "adapter_config.json" not in files.sizes:
        return None
    weights = {n: size for n, size in files.sizes.items() if n == ADAPTER_WEIGHTS}
    tensors, broken = read_tensors(files.repository, weights)
    return AdapterFacts(
        folder=files.folder,
        files=files.sizes,
        tensors=tensors,
        name=name.lora or name.path,
        config=files.json("adapter_config.json"),
        broken={**files.broken, **broken},
    )


class _Files:
    """The small files of a repository; what cannot be read is noted once."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.folder = repository.folder
        self.sizes = repository.files
        self.broken: dict[str, str] = {}

    def bytes(self, name: str) -> bytes:
        """A file's content; empty where there is none, or one too large for its kind."""
        size = self.sizes.get(name, 0)
        if size > SMALL:
            self.broken[name] = f"it has {size} bytes, expected at most {SMALL}"
            return b""
        return self.repository.read(name) if name in self.sizes else b""

    def json(self, name: str) -> dict[str, Any]:
        """The object in a JSON file; empty where there is none or the file holds none."""
        content = self.bytes(name)
        if name not in self.sizes or name in self.broken:
            return {}
        try:
            found = json.loads(content)
        except (RecursionError, ValueError) as error:
            self.broken[name] = f"it is not JSON ({error})"
            return {}
        if not isinstance(found, dict):
            self.broken[name] = f"it holds {type(found).__name__}, expected an object"
            return {}
        return found

    def tokenizer(self) -> TokenizerFacts | None:
        """The tokenizer; None where there is none or its file is broken."""
        try:
            return read_tokenizer(self.sizes, self.json, self.bytes)
        except ValueError as error:
            self.broken["tokenizer.json"] = f"it cannot be read ({error})"
            return None

    def card(self) -> Mapping[str, Any]:
        """The YAML header of the README; empty where there is none."""
        text = self.bytes("README.md").decode(errors="replace").replace("\r\n", "\n")
        if not text.startswith("---\n"):
            return {}
        try:
            found = parse_yaml(text[4:].partition("\n---")[0], "README.md").data
        except EvomergeError:
            return {}  # a card is for people; a wrong one is no reason to stop
        return found if isinstance(found, dict) else {}
