"""LoRA experts of one base: nothing dead is searched, and what was scored is what is built."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.genome_file import read_genomes
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import LedgerError
from tests.end_to_end.conftest import command_in, make_workplace
from tests.lora_experts import lora_expert
from tests.tiny_models import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # PEFT warns of heads

# The package has a function of that name.
examine = importlib.import_module("evomerge.compiler.examine")
RANDOM = {"name": "random", "budget": 3}


@pytest.fixture(scope="module")
def trained(_template, tmp_path_factory):
    """A workplace with a tied model, three adapters of it, and one that trains its embeddings."""
    folder = make_workplace(_template, tmp_path_factory.mktemp("experts") / "workplace")
    base = tiny_model(folder / "tied", "qwen2", tie_word_embeddings=True)
    for seed, name in enumerate("abc"):
        layers = [1] if name == "c" else None
        lora_expert(folder / name, base, seed, std=0.2, layers_to_transform=layers)
    lora_expert(folder / "tokens", base, 9, std=0.2, modules_to_save=["embed_tokens"])
    return folder


def genome_of(folder, models, **fields):
    genome = yaml.safe_load((folder / "genome.yml").read_text())
    own = {"models": [f"tied+{name}" for name in models], "base_model": "tied", **fields}
    genome["genome"] = {"merge_method": "task_arithmetic", "granularity": "layer", **own}
    genome["optimizer"] = RANDOM
    (folder / "experts.yml").write_text(yaml.safe_dump(genome))
    return command_in(folder)


def header_of(folder):
    return json.loads((folder / "ledger.jsonl").read_text().splitlines()[0])


def test_experts_are_searched_where_they_differ_from_their_base(trained):
    evomerge = genome_of(trained, "abc")
    said = evomerge("check", "experts.yml")
    found = [line for line in (said.stdout + said.stderr).splitlines() if "not searched" in line]
    assert found == [
        "note: experts.yml:9: genome.models: 7 of 12 parameters would change nothing and are not "
        "searched: all models are equal in embeddings, final norm; tied+c is equal to the base in "
        "layer 0."
    ]
    evomerge("run", "experts.yml", "--run-dir", "out")
    names = [parameter["name"] for parameter in header_of(trained / "out")["space"]]
    assert names == [
        *(f"weight[tied+{name}, layer {layer}]" for name in "ab" for layer in (0, 1)),
        "weight[tied+c, layer 1]",
    ]
    done = evomerge("verify", "out")
    assert "all 36 documents of 3 splits answer as recorded" in done.stdout


def test_a_run_goes_on_in_the_space_it_began_with(trained, monkeypatch):
    """As one that began when its models were on the Hub, and nobody could look into them."""
    genome_of(trained, "ab")
    monkeypatch.chdir(trained)
    (stage,) = read_genomes(Path("experts.yml")).stages
    genome, source = stage.genome, stage.source

    def space_in(folder):
        return compile_genome(genome, source, run_dir=folder).merge_space.space

    began = Path("began")
    with monkeypatch.context() as unseen:
        unseen.setattr(examine, "alike", lambda models, **settings: {})
        whole = space_in(None)
        compiled = compile_genome(genome, source, run_dir=began)
        on_hub = [replace(model, folder=None) for model in compiled.context.models]
        compiled = replace(compiled, context=replace(compiled.context, models=on_hub))
        search = search_for(compiled, began)
        search.ledger.close()
    told = [note for note in search.notes if "were not compared" in note]
    assert [note.partition(" were")[0] for note in told] == ["tensors of tied+a, tied+b, tied"]
    assert space_in(began) == whole
    later = Path("later")
    compiled = compile_genome(genome, source, run_dir=later)
    search = search_for(compiled, later)
    search.ledger.close()
    assert not [note for note in search.notes if "were not compared" in note]
    n_less = compiled.merge_space.space.n_dims
    assert n_less < whole.n_dims
    with monkeypatch.context() as unseen:
        unseen.setattr(examine, "alike", lambda models, **settings: {})
        said = f"the space: {n_less} parameters then, {whole.n_dims} now: weights of models that"
        with pytest.raises(LedgerError, match=said):
            search_for(compile_genome(genome, source, run_dir=later), later)


def test_a_tied_head_that_an_adapter_parts_is_told_and_scored_as_it_is_built(trained):
    evomerge = genome_of(trained, ["tokens", "a"])
    said = evomerge("check", "experts.yml")
    assert (
        "genome.models[0]: adapter_model.safetensors of tokens makes a head of its own (it trains "
        "embed_tokens), which config.json ties to the embeddings"
    ) in said.stdout + said.stderr
    evomerge("run", "experts.yml", "--run-dir", "parted")
    done = evomerge("verify", "parted")
    assert "all 36 documents of 3 splits answer as recorded" in done.stdout
