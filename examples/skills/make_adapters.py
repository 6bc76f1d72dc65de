"""Cuts the three experts of the example to LoRA adapters of their base, the nearest of a rank.

What an adapter cannot hold, embeddings and norms, stays the base's; how much of each change that
leaves out is told, and stands in the adapter's `fit.json`.

Example: python examples/skills/make_adapters.py --rank 32
"""

from __future__ import annotations

from pathlib import Path

import click
from make_data import SKILLS

DEFAULT_OUT = Path(__file__).resolve().parent / "models"


@click.command()
@click.option("--out", default=DEFAULT_OUT, type=click.Path(path_type=Path), show_default=True)
@click.option("--rank", default=32, type=click.IntRange(1), show_default=True)
def main(out: Path, rank: int) -> None:
    """Writes adapter-SKILL beside each expert-SKILL in a folder."""
    from evomerge.genome.model_names import ModelName
    from evomerge.merging.lora_fit import Change, nearest_of_rank, weights_in
    from evomerge.merging.lora_output import write_lora
    from evomerge.merging.resident import ResidentMerger
    from evomerge.recipe.plain import Recipe

    merger = ResidentMerger()

    def live(folder: Path):
        models = [{"model": str(folder)}]
        return merger.merge(Recipe({"merge_method": "passthrough", "models": models}))

    for skill in SKILLS:
        change = Change(weights_in(live(out / f"expert-{skill}")), live(out / "base"))
        base = ModelName(path=str(out / "base"))
        lora = nearest_of_rank(change, rank, base, lambda share: None)
        write_lora(lora, out / f"adapter-{skill}", force=True)
        left = f"{lora.total.relative:.0%} of the change left out"
        click.echo(f"adapter-{skill}: rank {rank}, {left}")


if __name__ == "__main__":
    main()
