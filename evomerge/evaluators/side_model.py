"""A model beside the one that is scored: which it is, where it runs, and what keeps it from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evomerge.evaluators.beside import Beside
from evomerge.foundations.errors import EvaluationError, EvomergeError, RunError, why
from evomerge.foundations.findings import Finding, error, note, warning
from evomerge.foundations.permissions import Permissions
from evomerge.genome.model_names import ModelName
from evomerge.models.facts import ModelFacts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Whatever torch and transformers raise on a model that they cannot load.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class SideModel:
    """Which model, and how it is run.

    Attributes:
        name: As the genome has it.
        device: ``auto`` for a GPU where there is one.
        dtype: Of its weights; None: that of its files.
        trust_remote_code: Whether it may bring its own code.
        may_unpickle: Whether its weights may be read from pickle files.
    """

    name: ModelName
    device: str = "auto"
    dtype: str | None = None
    trust_remote_code: bool = False
    may_unpickle: bool = False

    @classmethod
    def allowed(
        cls, name: ModelName, device: str, dtype: str | None, permissions: Permissions
    ) -> SideModel:
        """One that may do what the user allows."""
        may_unpickle = name.text in permissions.pickle
        return cls(name, device, dtype, permissions.trust_remote_code, may_unpickle)

    @property
    def path(self) -> str:
        """Folder or Hub id."""
        return str(self.name.path)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of every byte that is loaded of it, as it was when it was first asked for."""
        from evomerge.models import fingerprint  # it loads mergekit

        return fingerprint.fingerprint(self.name.in_recipe)

    @property
    def torch_device(self) -> str:
        """Where it runs."""
        import torch

        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def source(self) -> dict[str, Any]:
        """What transformers is told to load its files with, beside the path."""
        return {"revision": self.name.revision, "trust_remote_code": self.trust_remote_code}

    @property
    def weights(self) -> dict[str, Any]:
        """What it is told of the weights."""
        return {
            "dtype": self.dtype or "auto",
            "use_safetensors": None if self.may_unpickle else True,
        }

    @cached_property
    def facts(self) -> ModelFacts | EvomergeError:
        """What its small files say, or why they do not."""
        from evomerge.models.inspect import read_model

        try:
            return read_model(self.name, may_unpickle=self.may_unpickle)
        except EvomergeError as unread:
            return unread

    @property
    def n_bytes(self) -> int:
        """Of its weights; 0 where nobody knows."""
        if isinstance(self.facts, EvomergeError):
            return 0
        return sum(one.n_bytes for one in self.facts.tensors.values())

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its own.

        Raises:
            RunError: it cannot be loaded.
        """
        from transformers import AutoTokenizer

        from evomerge.models.quiet import quiet_transformers

        try:
            with quiet_transformers():
                found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                    self.path, **self.source
                )
        except (*_FAILURES, MemoryError) as failure:
            what = f"the tokenizer cannot be loaded ({why(failure)})"
            raise RunError(what, where=self.path) from failure
        return found

    def beside(self, *, by_turns: bool) -> Beside:
        """The memory that it takes.

        Args:
            by_turns: Whether it waits in main memory until it is asked.
        """
        device, n_bytes = self.torch_device, self.n_bytes
        if device.startswith("cpu"):
            return Beside(n_bytes)
        return Beside(n_bytes if by_turns else 0, n_bytes, device, by_turns)

    def findings(self, where: str) -> Iterator[Finding]:
        """What keeps it from being loaded.

        Args:
            where: The key that names it.
        """
        yield from self._device_findings()
        facts = self.facts
        if isinstance(facts, EvomergeError):
            yield from (error(p.what, where, p.fix) for p in facts.problems)
            return
        if not facts.architecture:
            what = f"{facts.name} has no config.json that names its architecture"
            yield error(what, where, "Name a folder with a whole model.")
        if facts.tokenizer is None:
            yield error(
                f"{facts.name} has no tokenizer", where, "Copy its tokenizer's files into it."
            )
        if "auto_map" in facts.config and not self.trust_remote_code:
            yield error(
                f"{facts.name} needs Python code of its own (auto_map)",
                where,
                "Read the code, then give --trust-remote-code.",
            )
        if facts.pickles and not facts.has_safetensors and not self.may_unpickle:
            yield error(
                f"{facts.name} has its weights in pickle files alone, which can run code",
                where,
                f"Read docs/security.md, then give --allow-pickle {facts.name}.",
            )
        if not (facts.tensors or facts.pickles or facts.is_on_hub):
            yield error(f"{facts.name} has no weights", where, "Name a folder with a whole model.")
        if facts.is_on_hub:
            yield note(f"{facts.name} is not on this machine; it is downloaded", where)

    def _device_findings(self) -> Iterator[Finding]:
        """A device that torch does not know, or does not find here; workers may be elsewhere."""
        from evomerge.merging.bits import is_there  # it loads torch

        fix = "Use auto, or a device that `evomerge doctor` lists."
        if self.device == "auto":
            return
        try:
            here = is_there(self.device)
        except RuntimeError:
            yield error(f"torch knows no device {self.device!r}", "device", fix)
        else:
            if not here:
                what = f"{self.device} is not on this machine, where {self.path} would run on it"
                yield warning(what, "device", fix)


def loaded_writer(model: SideModel, role: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model that writes, in main memory, and its tokenizer.

    Args:
        model: Which.
        role: What it is here, for messages.

    Raises:
        RunError: it cannot be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evomerge.models.quiet import quiet_transformers

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(model.path, **model.source)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                model.path, output_loading_info=True, **model.weights, **model.source
            )
        module, report = loaded
        if report["missing_keys"]:
            missing = min(report["missing_keys"])
            raise ValueError(f"{missing} is not among its weights, expected a model that writes")
    except (*_FAILURES, MemoryError, SafetensorError) as error:
        raise RunError(f"the {role} cannot be loaded ({why(error)})", where=model.path) from error
    return module.eval(), tokenizer


def put_on(module: PreTrainedModel, device: str, role: str) -> None:
    """Moves a model to where it runs.

    Args:
        module: The model; where this fails, parts of it may be on either side.
        device: Where.
        role: What it is here, for messages.

    Raises:
        EvaluationError: its device has no room for it, or cannot be used.
    """
    from evomerge.inference.shortage import give_back  # it loads torch

    try:
        module.to(device)  # type: ignore[arg-type]  # transformers' stubs know no names of devices
    except (RuntimeError, MemoryError, AssertionError) as error:  # of torch without CUDA
        give_back(error)
        what = f"the {role} cannot be moved to {device} ({why(error)})"
        raise EvaluationError(what, fix="Run it on another `device`.") from error
