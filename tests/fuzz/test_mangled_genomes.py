"""A damaged genome loads, or is refused in sentences; so is everything compiled without models."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.compiler.chosen_space import with_space
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.make_optimizer import chosen_optimizer, optimizer_for
from evomerge.genome.load import load_genome, to_yaml
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from tests.fuzz.endings import drawing, ends_well, examples
from tests.fuzz.mangling import FRAGMENTS, VALUES, as_yaml, mangled_yaml
from tests.test_genome import FULL
from tests.test_shipped_files import GENOMES, LLAMA_SHAPED, SEEING

TEXTS = [path.read_text(encoding="utf-8") for path in GENOMES]
STAGED = [text for text in TEXTS if "stages:" in text]
SEEDS = [text for text in TEXTS if "name: gradient" not in text and text not in STAGED] + [FULL]
KEYS = (
    "seed", "optimizer", "optimizer.budget", "optimizer.population_size", "optimizer.sigma",
    "tasks", "tasks[0]", "tasks[0].limit", "tasks.0.weight", "genome.models[1]", "genome",
    "genome.models[0].parameters.weight.range[0]", "genome.parameters.density", "run_dir",
    "genome.layer_granularity", "execution.workers", "x.y.z", "tasks[9]", "[0]", "a..b", "",
)  # fmt: skip


def compile_without_models(file: Path, overrides: tuple[str, ...] = ()) -> None:
    """Everything up to the first recipe that needs no file but the genome."""
    genome, source = load_genome(file, overrides)
    assert parse_yaml(to_yaml(source), "copy").data == source.data or "nan" in to_yaml(source)
    choice = chosen_optimizer(genome, source)
    genome = with_space(genome, source)
    architecture = SEEING if genome.genome.modules else LLAMA_SHAPED
    merge_space = merge_space_for(genome.genome)(genome.genome, architecture, "bfloat16")
    space = merge_space.space
    merge_space.recipe(space.decode(space.initial)).to_yaml()
    optimizer_for(choice, genome, space).ask()


def mangle(seeds, read, file, n_examples):
    @drawing(n_examples)
    @given(mangled_yaml(seeds))
    def each(content):
        file.write_bytes(content)
        ends_well(lambda: read(file))

    each()


@examples(100, 3600)
def test_a_mangled_genome_ends_in_sentences(n_examples, tmp_path):
    mangle(SEEDS, compile_without_models, tmp_path / "genome.yml", n_examples)


@examples(40, 1200)
def test_a_mangled_override_ends_in_sentences(n_examples, tmp_path):
    file = tmp_path / "genome.yml"
    file.write_text(FULL, encoding="utf-8")
    values = st.sampled_from(FRAGMENTS) | st.sampled_from(VALUES).map(
        lambda value: as_yaml(value).decode()
    )
    override = st.builds("{}={}".format, st.sampled_from(KEYS), values) | st.text(max_size=20)

    @drawing(n_examples)
    @given(st.lists(override, min_size=1, max_size=3))
    def each(overrides):
        ends_well(lambda: compile_without_models(file, tuple(overrides)))

    each()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_seeds_themselves_end_well(seed, tmp_path):
    (tmp_path / "genome.yml").write_text(seed, encoding="utf-8")
    assert ends_well(lambda: compile_without_models(tmp_path / "genome.yml"))


@examples(60, 1200)
def test_mangled_stages_end_in_sentences(n_examples, tmp_path):
    mangle(STAGED, read_genomes, tmp_path / "genome.yml", n_examples)
