"""The families of the zoo: who is merged with whom, and how far each went from the base.

Four are to tune on; the others are for the report, looked at once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skills import SPLIT_SIZES, WORDS
from task_files import SPLITS, task_name

FORMAT = 1  # of what make.py writes; another one makes every family anew
TUNING, REPORT = "tuning", "report"
GENOME_FILE = "genome.yml"
BASE = "base"


@dataclass(frozen=True)
class Course:
    """One stretch of training.

    Attributes:
        skills: What questions are drawn from; one named twice is drawn twice as often.
        n_steps: Optimizer steps of one batch each.
        learning_rate: At its highest.
    """

    skills: tuple[str, ...]
    n_steps: int
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Expert:
    """A model that goes on from the base.

    Attributes:
        name: Of its folder.
        course: What it learns.
        lora_rank: Rank of its adapter; None: all weights are trained.
        noise: What is added to every weight afterwards: normal noise of so many times the
            standard deviation of its tensor. Above 0 the expert is broken.
    """

    name: str
    course: Course
    lora_rank: int | None = None
    noise: float = 0.0


@dataclass(frozen=True)
class Family:
    """One set of experts and what is searched over it.

    Attributes:
        name: Of its folder.
        about: One line for the table.
        half: ``TUNING`` or ``REPORT``.
        architecture: As transformers calls it.
        base: What the common ancestor learns.
        experts: Those who go on from it.
        skills: What the tasks ask; no other questions judge a merge.
        merge: The genome's ``genome:`` block without its models.
        has_base: Whether the genome names the ancestor.
        fixed_weights: Expert -> its weight where that is not searched.
        n_layers: Of the models.
        width: Of the models; heads have 24.
        seed: Of weights and questions.
    """

    name: str
    about: str
    half: str
    architecture: str
    base: Course
    experts: tuple[Expert, ...]
    skills: tuple[str, ...]
    merge: dict[str, Any]
    has_base: bool = True
    fixed_weights: tuple[tuple[str, float], ...] = ()
    n_layers: int = 4
    width: int = 96
    seed: int = 0

    @property
    def digest(self) -> str:
        """Twelve hex digits: the same settings give the same digest."""
        text = json.dumps([FORMAT, WORDS, SPLIT_SIZES, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def genome(self, folder: Path) -> dict[str, Any]:
        """The genome file's content, with the paths of a family's folder."""
        models = [self._source(expert, folder) for expert in self.experts]
        block = {"models": models, **self.merge}
        if self.has_base:
            block["base_model"] = str(folder / BASE)
        return {"genome": block, **genome_frame(self.name, self.skills, folder)}

    def _source(self, expert: Expert, folder: Path) -> str | dict[str, Any]:
        path = str(folder / expert.name)
        model = path if expert.lora_rank is None else f"{folder / BASE}+{path}"
        weight = dict(self.fixed_weights).get(expert.name)
        return model if weight is None else {"model": model, "parameters": {"weight": weight}}


def genome_frame(family: str, skills: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What every genome of the zoo says of tasks and search."""
    tasks = {
        key: [task_name(family, skill, split) for skill in skills] for split, key in SPLITS.items()
    }
    return {
        **tasks,
        "task_search_path": [str(folder / "tasks")],
        "optimizer": {"name": "cma_es", "budget": 100},
    }


_WEIGHTS: dict[str, Any] = {"weight": {"range": [0, 1.5]}}
_BY_LAYERS: dict[str, Any] = {"granularity": "layers", "layer_granularity": 2}


def _expert(skill: str, n_steps: int, learning_rate: float = 1e-3, **settings: Any) -> Expert:
    return Expert(f"expert-{skill}", Course((skill,), n_steps, learning_rate), **settings)


_FAMILIES = (
    Family(
        "llama-mixed",
        "three skills that complement each other, one written and two chosen",
        TUNING,
        "llama",
        Course(("sort", "common", "lookup", "lookup"), 215, 3e-3),
        (_expert("sort", 120, 2e-3), _expert("common", 80), _expert("lookup", 160, 2e-3)),
        ("sort", "common", "lookup"),
        {"merge_method": "task_arithmetic", **_BY_LAYERS, "parameters": _WEIGHTS},
        seed=11,
    ),
    Family(
        "qwen3-sums",
        "three kinds of sums that went far from the base, all written",
        TUNING,
        "qwen3",
        Course(("plus", "minus", "times"), 260, 4e-3),
        (_expert("plus", 120, 2e-3), _expert("minus", 120, 2e-3), _expert("times", 120, 2e-3)),
        ("plus", "minus", "times"),
        {
            "merge_method": "ties",
            "granularity": "model",
            "normalize": False,
            "parameters": {**_WEIGHTS, "density": {"range": [0.2, 1]}},
        },
        seed=12,
    ),
    Family(
        "neox-conflict",
        "two near their base, all chosen, that answer a quarter of the questions differently; at "
        "most seven of eight answers can be right",
        TUNING,
        "gpt_neox",
        Course(("last", "first", "larger", "grammar"), 100, 2e-3),
        (
            Expert("expert-last", Course(("last", "larger"), 60)),
            Expert("expert-first", Course(("first", "grammar"), 60)),
        ),
        ("last", "first", "larger", "grammar"),
        {"merge_method": "linear", "granularity": "layer"},
        seed=13,
    ),
    Family(
        "llama-adapters",
        "four LoRA adapters of one base, all written",
        TUNING,
        "llama",
        Course(("cipher", "next", "back", "sort", "sort"), 185, 3e-3),
        (
            *(_expert(skill, 80, 2e-3, lora_rank=8) for skill in ("cipher", "next", "back")),
            _expert("sort", 200, 4e-3, lora_rank=8),
        ),
        ("cipher", "next", "back", "sort"),
        {"merge_method": "task_arithmetic", "granularity": "model", "parameters": _WEIGHTS},
        seed=14,
    ),
    Family(
        "gemma2-mixed",
        "three skills, one written and two chosen, at unequal distances",
        REPORT,
        "gemma2",
        Course(("rotate", "rotate", "count", "grammar"), 95, 3e-3),
        (_expert("rotate", 120, 2e-3), _expert("count", 80), _expert("grammar", 50)),
        ("rotate", "count", "grammar"),
        {"merge_method": "task_arithmetic", **_BY_LAYERS, "parameters": _WEIGHTS},
        seed=21,
    ),
    Family(
        "qwen3-broken",
        "five, of which one is what it learned under noise as large",
        REPORT,
        "qwen3",
        Course(("back", "swap", "swap", "vowel", "larger"), 180, 3e-3),
        (
            *(_expert("back", 80), _expert("swap", 120), _expert("vowel", 60)),
            *(_expert("larger", 120), _expert("next", 60, noise=1.0)),
        ),
        ("back", "swap", "vowel", "larger"),
        {"merge_method": "task_arithmetic", "granularity": "model", "parameters": _WEIGHTS},
        seed=22,
    ),
    Family(
        "llama-pair",
        "two whose base nobody has any more, one written and one chosen, for slerp",
        REPORT,
        "llama",
        Course(("cipher", "parity", "count"), 180, 3e-3),
        (_expert("cipher", 80), _expert("parity", 120)),
        ("cipher", "parity"),
        {"merge_method": "slerp", "granularity": "layer"},
        has_base=False,
        seed=23,
    ),
    Family(
        "llama-chat",
        "a chat vector: what made the base a chat model is added to one that learned another "
        "language; nobody was trained alone for a chat in that language",
        REPORT,
        "llama",
        Course(
            (
                *("chat_next", "chat_sort", "foreign_next", "foreign_sort"),
                *("foreign_chat_next", "foreign_chat_sort"),
            ),
            380,
            3e-3,
        ),
        (
            Expert("expert-foreign", Course(("foreign_next", "foreign_sort"), 80)),
            Expert("expert-chat", Course(("chat_next", "chat_sort"), 80)),
        ),
        ("chat_next", "foreign_next", "foreign_chat_next", "foreign_chat_sort"),
        {"merge_method": "task_arithmetic", **_BY_LAYERS, "parameters": _WEIGHTS},
        fixed_weights=(("expert-foreign", 1.0),),
        seed=24,
    ),
)
FAMILIES = {family.name: family for family in _FAMILIES}
