"""Reads the rows of a skills task from the file beside its YAML, whatever the working directory.

lm-eval's own `dataset_path: json` resolves `data_files` against the working directory; a
`custom_dataset` function does not.
"""

from __future__ import annotations

import json
from pathlib import Path

from datasets import Dataset


def load(file: str, **_metadata: object) -> dict[str, Dataset]:
    """The rows of one data file as lm-eval's test split.

    Args:
        file: Name of a .jsonl file in this folder; `dataset_kwargs` of the YAML.
        _metadata: lm-eval hands over the YAML's `metadata` as well; not used.
    """
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    return {"test": Dataset.from_list([json.loads(line) for line in text.splitlines()])}
