"""Copies of a tiny model with one thing changed, and what the rules of models say of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from evomerge.checks.context import CheckContext
from evomerge.checks.rules import of_models
from evomerge.foundations.errors import ModelError
from evomerge.foundations.findings import Finding, Severity
from evomerge.foundations.findings import error as error_finding
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.genome.schema import Genome
from evomerge.models.facts import ModelFacts
from evomerge.models.inspect import read_model

Change = Callable[[Path], object]


def variant(source: Path, target: Path, *changes: Change) -> Path:
    """A copy of a model folder with some changes made to it."""
    shutil.copytree(source, target)
    for change in changes:
        change(target)
    return target


def config(**values: Any) -> Change:
    """Sets fields of ``config.json``; None removes one."""
    return in_json("config.json", **values)


def in_json(file: str, **values: Any) -> Change:
    """Sets fields of a JSON file; None removes one."""

    def change(folder: Path) -> None:
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        content = {k: v for k, v in {**content, **values}.items() if v is not None}
        path.write_text(json.dumps(content))

    return change


def tensors(change_of: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Change:
    """Replaces the tensors of ``model.safetensors`` by what a function makes of them."""

    def change(folder: Path) -> None:
        file = folder / "model.safetensors"
        changed = change_of(load_file(file))
        save_file({n: np.ascontiguousarray(t) for n, t in changed.items()}, file, {"format": "pt"})

    return change


def without(*parts: str) -> Change:
    """Removes the tensors whose names hold one of some texts."""
    return tensors(
        lambda held: {n: t for n, t in held.items() if not any(part in n for part in parts)}
    )


def removed(*files: str) -> Change:
    """Removes files."""

    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def written(file: str, text: str) -> Change:
    """Writes a file."""
    return lambda folder: (folder / file).write_text(text)


def token(index: int, text: str) -> Change:
    """Gives an id of ``tokenizer.json`` to an added token."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer.json"
        content = json.loads(path.read_text())
        kept = [t for t in content["added_tokens"] if t["id"] != index]
        like = {**content["added_tokens"][0], "id": index, "content": text}
        content["added_tokens"] = sorted([*kept, like], key=lambda t: t["id"])
        path.write_text(json.dumps(content))

    return change


def card(**fields: Any) -> Change:
    """Writes a model card."""
    return written("README.md", f"---\n{json.dumps(fields)}\n---\n# A model\n")


def adapter(folder: Path, *, rank: int = 2, width: int = 32, **settings: Any) -> Path:
    """Writes a LoRA adapter for the query projection of layer 0."""
    folder.mkdir(parents=True)
    given = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {"lora_A": np.zeros((rank, width)), "lora_B": np.zeros((width, rank))}
    save_file(
        {f"{name}.{k}.weight": v.astype(np.float32) for k, v in factors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def check(
    models: Sequence[object],
    *,
    permissions: Permissions | None = None,
    **definition: Any,
) -> list[Finding]:
    """What is found about some models; those that cannot be read are among it."""
    names = [ModelName.model_validate(m if isinstance(m, dict) else str(m)) for m in models]
    block = {"models": [{"model": n.in_recipe} for n in names], "merge_method": "linear"}
    genome = Genome.model_validate({"genome": {**block, **definition}, "tasks": ["any"]})
    allowed = permissions or Permissions()
    found: list[Finding] = []
    read: list[ModelFacts] = []
    for index, name in enumerate(names):
        try:
            may_unpickle = name.text in allowed.pickle
            read.append(read_model(name, f"genome.models[{index}]", may_unpickle=may_unpickle))
        except ModelError as error:
            found += [error_finding(p.what, p.where, p.fix) for p in error.problems]
    context = CheckContext(genome, allowed, tuple(read))
    return [*found, *of_models(context)]


def lines(findings: Sequence[Finding], severity: Severity | None = None) -> str:
    """Findings as text, one a line."""
    return "\n".join(f"{f.severity.value}: {f}" for f in findings if severity in (None, f.severity))
