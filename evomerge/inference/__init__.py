"""From a live model to tokens: the table of engines. A file or folder each, one line here."""

from evomerge.foundations.registry import Registry
from evomerge.inference.base import Engine

ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "transformers": "evomerge.inference.transformers.transformers_engine:TransformersEngine",
        "reference": "evomerge.inference.reference:ReferenceEngine",
    },
)
