"""Writes the models of the example as language parts of models that see, each a tiny LLaVA.

Vision tower and projector are random and the same in all of them: they stand for what a merge of
language parts must carry over whole.

Example: python examples/skills/make_seeing.py
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from make_data import SKILLS

DEFAULT_OUT = Path(__file__).resolve().parent / "models"
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "projection_dim": 32,
    "image_size": 16,
    "patch_size": 4,
}


def write_seeing(base: Path, folder: Path) -> None:
    """Writes a LLaVA with a language part like a text model's, all of it random, seed 0."""
    import torch
    from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration

    text = AutoConfig.from_pretrained(base)
    # No text of the example has a padding token, so that it may stand for the image.
    settings: dict[str, Any] = {"image_token_index": text.pad_token_id, "image_seq_length": 16}
    torch.manual_seed(0)
    config = LlavaConfig(text_config=text, vision_config=VISION, **settings)
    # mergekit finds the language part by the names that transformers has in memory.
    LlavaForConditionalGeneration(config).save_pretrained(folder, save_original_format=False)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)


@click.command()
@click.option("--out", default=DEFAULT_OUT, type=click.Path(path_type=Path), show_default=True)
def main(out: Path) -> None:
    """Writes seeing-base and seeing-SKILL beside the base and the experts in a folder."""
    from evomerge.genome.model_names import ModelName
    from evomerge.merging.graft import write_graft
    from evomerge.models.inspect import read_model

    with TemporaryDirectory() as temporary:
        empty = Path(temporary) / "seeing"
        write_seeing(out / "base", empty)
        whole = read_model(ModelName(path=str(empty)), "seeing")
        for name in ("base", *(f"expert-{skill}" for skill in SKILLS)):
            text = read_model(ModelName(path=str(out / name)), name)
            folder = out / f"seeing-{name.removeprefix('expert-')}"
            n_taken = write_graft(text, whole, folder, force=True)
            click.echo(f"{folder.name}: {n_taken} tensors of {name}")


if __name__ == "__main__":
    main()
