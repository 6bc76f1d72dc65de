"""``evomerge graft``: a text model as the language part of a copy of one that sees."""

from __future__ import annotations

from pathlib import Path

import click

from evomerge.cli.arguments import force_option


@click.command(
    short_help="Put a text model into a copy of one that sees.",
    epilog="Example: evomerge graft org/math-7b org/vl-7b -o models/vl-math",
)
@click.argument("text_model")
@click.argument("vision_model")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write.",
)
@force_option
def graft(text_model: str, vision_model: str, output: Path, force: bool) -> None:
    """Writes a copy of VISION_MODEL whose language part has the weights of TEXT_MODEL.

    mergekit merges no text model into one that sees; it merges this folder with any of its kind.
    Both are folders or Hub ids in the cache, and their language parts are of one kind and size.
    Everything else, the tokenizer too, stays VISION_MODEL's.
    """
    from evomerge.cli.written import say
    from evomerge.compiler.entrants import model_named
    from evomerge.foundations.counted import counted
    from evomerge.foundations.errors import ModelError
    from evomerge.merging.graft import write_graft
    from evomerge.models.grafted import other_settings
    from evomerge.models.inspect import read_model

    names = [model_named(one) for one in (text_model, vision_model)]
    for name in names:
        if name.lora is not None:
            raise ModelError("has an adapter", where=name.text, fix="Merge it into its base first.")
    text, whole = (read_model(name, name.text) for name in names)
    n_taken = write_graft(text, whole, output, force=force)
    for difference in other_settings(text, whole):
        say(f"warning: {difference}: it will answer otherwise than {text_model}")
    n_kept = len(whole.tensors) - n_taken
    say(f"{output}: {counted(n_taken, 'tensor')} of {text_model}, {n_kept} of {vision_model}")
