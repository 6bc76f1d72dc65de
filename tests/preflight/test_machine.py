"""What does not fit this machine is told before it starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from evomerge.checks import machine_room as machine
from evomerge.checks.context import CheckContext
from evomerge.checks.need import Need
from evomerge.checks.resources import Storage, memory_needs, sizes_of
from evomerge.checks.search_plan import storage_of
from evomerge.compiler import auto_choice
from evomerge.foundations import machine as resources
from evomerge.foundations.findings import Severity
from evomerge.foundations.machine import Capacity, Holder, holders_in
from evomerge.foundations.sizes import size_text
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.models.facts import AdapterFacts, ModelFacts, TensorFacts
from evomerge.nouns.origin import Origin, OriginKind
from evomerge.nouns.trial import Candidate
from evomerge.recipe.plain import Recipe
from tests.contract.merge_space_cases import LLAMA

GB = 10**9
VOCABULARY, WIDTH = 32_000, 1_000
SEED = Origin(OriginKind.SEED)


def facts(name, width=WIDTH, folder=Path("here"), **others):
    """A model of embeddings and ten square layers, in bfloat16."""
    tensors = {"embed": TensorFacts((VOCABULARY, width), "BF16", 2 * VOCABULARY * width)}
    for layer in range(10):
        tensors[f"layer.{layer}"] = TensorFacts((width, width), "BF16", 2 * width * width)
    return ModelFacts(
        name=name, folder=folder, tensors=tensors, config={"vocab_size": VOCABULARY}, **others
    )


def context(models, rest="", device="cpu", run_dir=None):
    text = (
        f"genome: {{models: [a, b], merge_method: linear, out_dtype: bfloat16}}\ntasks: [x]\n{rest}"
    )
    genome = validate_genome(parse_yaml(text, "g.yml"))
    return CheckContext(genome, models=models, device=device, run_dir=run_dir)


def shortages(store):
    return [(finding.severity, str(finding)) for finding in machine.shortage(store)]


def test_the_sizes_of_the_models_are_those_of_their_headers():
    models = [facts("a"), facts("b", folder=None), facts("c", adapter=AdapterFacts(name="l"))]
    sizes = sizes_of(context(models).genome, models, "bfloat16")
    of_one = 2 * (VOCABULARY * WIDTH + 10 * WIDTH * WIDTH)
    assert (sizes.sources, sizes.downloads, sizes.adapted) == (3 * of_one, of_one, of_one)
    assert (sizes.n_values * sizes.item, sizes.largest) == (of_one, VOCABULARY * WIDTH)
    assert sizes.vocabulary == VOCABULARY


@pytest.mark.parametrize("granularity", ["space", "tensor", "column"])
def test_training_takes_a_gradient_and_its_state_and_columns_leave_checkpoints(
    tmp_path, granularity
):
    models = [facts("a"), facts("b")]
    rest = f"optimizer: {{name: gradient, granularity: {granularity}, epochs: 4, budget: 3}}\n"
    plain = context(models, rest, run_dir=tmp_path)
    assert not any("gradient" in what for what in needs_of(plain))  # its optimizer has errors
    definition = plain.genome.genome
    space = merge_space_for(definition)(definition, LLAMA, "bfloat16")
    needs = needs_of(replace(plain, merge_space=space, optimizer=Mock()))
    live = 2 * (VOCABULARY * WIDTH + 10 * WIDTH * WIDTH)
    assert needs["one gradient of the live model, at most"] == needs["live model"] == live
    if granularity == "space":
        assert needs["training: weights and moments"] == 3 * 8 * space.space.n_dims
        assert not any("checkpoints" in what for what in needs)
    elif granularity == "tensor":
        n_weights = space.by_tensor().space.n_dims
        assert n_weights > space.space.n_dims
        assert needs["training: weights and moments"] == 3 * 8 * n_weights
    else:
        # The table of embeddings and ten layers, of two models: numbers and two moments.
        assert needs["training: numbers of columns and moments"] == 3 * 4 * 2 * 11 * WIDTH
        assert needs["3 checkpoints, one per epoch"] == 3 * live


def test_what_recipes_of_several_merges_make_on_the_way_lies_on_the_disk():
    """One recipe for each worker at a time."""
    models = [facts("a"), facts("b")]
    plain = context(models, "execution: {workers: 2}\n")
    what = "models that several merges make on the way"
    definition = plain.genome.genome
    space = merge_space_for(definition)(definition, LLAMA, "bfloat16")
    assert not needs_of(replace(plain, merge_space=space)).get(what)
    stage = {"merge_method": "linear", "models": [{"model": "a"}]}
    seeds = tuple(
        Candidate(
            n, SEED, Recipe({"stages": [*({**stage, "name": str(i)} for i in range(n)), stage]})
        )
        for n in (1, 2, 3)
    )
    needs = needs_of(replace(plain, merge_space=space, seeds=seeds))
    assert needs[what] == (3 + 2) * 2 * (VOCABULARY * WIDTH + 10 * WIDTH * WIDTH)


@pytest.mark.parametrize("workers", [1, 4])
def test_of_which_need_training_holds_a_gradient_does_not_depend_on_its_words(workers):
    sizes = sizes_of(context([]).genome, [facts("a"), facts("b")], "bfloat16")
    for shared in (True, False):
        needs = memory_needs(sizes, GB, 4096, workers, shared=shared)
        found = [need.n_bytes for need in needs if need.has_gradient]
        assert found == [workers * sizes.n_values * sizes.item]


@pytest.mark.parametrize(
    ("has_gradient", "free", "is_short"), [(True, 19, True), (True, 20, False), (False, 19, False)]
)
def test_auto_trains_where_the_gradient_fits_beside_all_that_is_certain(
    monkeypatch, has_gradient, free, is_short
):
    needs = (
        Need("what learns", 8, has_gradient=has_gradient),
        Need("more", 4),
        Need("?", 9, False),
    )
    store = Storage("GPU memory", needs, Capacity(100, free))
    monkeypatch.setattr(auto_choice, "storage_of", lambda _: (store,))
    assert bool(auto_choice._shortage(context([]))) == is_short  # 12, 8 and passes of no width


def needs_of(one):
    return {need.what: need.n_bytes for store in storage_of(one) for need in store.needs}


def test_one_source_is_one():
    sizes = sizes_of(context([]).genome, [facts("a")], "bfloat16")
    assert memory_needs(sizes, GB, 4096, 1, shared=True)[0].what == "1 source"


def test_workers_share_files_that_are_mapped_and_what_is_made_of_them():
    sizes = sizes_of(context([]).genome, [facts("a"), facts("b")], "bfloat16")
    one, four = (
        [need.n_bytes for need in memory_needs(sizes, GB, 4096, workers, shared=True)]
        for workers in (1, 4)
    )
    assert four == [one[0], 4 * one[1], 4 * one[2], one[3], 4 * one[4]]
    on_gpu = memory_needs(sizes, GB, 4096, 4, shared=False)
    assert on_gpu[0].n_bytes == 4 * one[0]
    assert on_gpu[3].n_bytes == one[3]  # the same eighth of what is free
    assert one[3] == GB // 8  # less than both models in float32
    assert one[4] == 4096 * VOCABULARY * 2 + 2048 * VOCABULARY * 4


def test_models_larger_than_the_memory_are_refused_with_the_figures():
    many = [facts(str(index), width=1_000_000) for index in range(3)]
    found = [finding for finding in machine.memory_and_disk(context(many)) if "RAM" in str(finding)]
    assert [finding.severity for finding in found] == [Severity.ERROR]
    assert str(found[0]).startswith("RAM: the run takes 20.1 TB at least, there are ")
    assert "3 sources 60.2 TB, live model 20.1 TB, merging block by block 6" in str(found[0])
    assert "Use fewer workers" in str(found[0])


def test_sources_that_outgrow_the_memory_are_a_warning_as_they_are_read_from_their_files():
    sizes = sizes_of(context([]).genome, [facts("a"), facts("b")], "bfloat16")
    needs = memory_needs(sizes, GB, 4096, 1, shared=True)
    assert [need.is_certain for need in needs] == [False, True, True, False, False]
    assert not memory_needs(sizes, GB, 4096, 1, shared=False)[0].is_certain


def test_models_that_fit_are_no_finding():
    assert not [*machine.memory_and_disk(context([facts("a"), facts("b")]))]


def test_models_to_download_must_fit_the_disk(tmp_path):
    huge = facts("a", width=10_000_000, folder=None)
    found = [*machine.memory_and_disk(context([huge, facts("b")], run_dir=tmp_path))]
    assert any("models to download 2001 TB" in str(finding) for finding in found)


def test_what_is_merely_likely_not_to_fit_is_a_warning():
    needs = (Need("sources", 3 * GB), Need("logits of one pass, at most", 3 * GB, False))
    store = Storage("GPU memory", needs, Capacity(total=8 * GB, free=5 * GB))
    ((severity, sentence),) = shortages(store)
    assert severity is Severity.WARNING
    assert sentence == (
        "GPU memory: the run takes about 6.0 GB, 5.0 GB of 8.0 GB are free (sources 3.0 GB, "
        "logits of one pass, at most 3.0 GB). Use fewer workers, a smaller batch_size or "
        "evaluation.dtype: bfloat16."
    )
    assert not shortages(replace(store, capacity=Capacity(8 * GB, 7 * GB)))
    assert not shortages(replace(store, capacity=None))


def test_a_full_disk_is_an_error():
    store = Storage(
        "disk", (Need("models to download", 3 * GB),), Capacity(9 * GB, 1 * GB), Path("x")
    )
    ((severity, sentence),) = shortages(store)
    assert severity is Severity.ERROR
    assert sentence.startswith("disk of x: the run takes 3.0 GB at least, there are 1.0 GB")


def test_the_room_of_this_machine_is_asked_for(tmp_path):
    stores = storage_of(context([facts("a"), facts("b")], run_dir=tmp_path / "not yet"))
    assert [store.name for store in stores] == ["RAM", "disk"]
    assert all(
        store.capacity and 0 < store.capacity.free <= store.capacity.total for store in stores
    )


def test_a_device_that_is_not_there_is_an_error():
    (found,) = machine.device_is_there(context([], device="cuda:63"))
    assert str(found).startswith("evaluation.device: cuda:63 is not on this machine. Use auto")
    assert not [*machine.device_is_there(context([], device="cpu"))]


LISTING = f"""\
GPU-11, 77, /usr/bin/python3, 2048
GPU-11, {os.getpid()}, python, 4096
GPU-22, 88, VLLM::EngineCore, 61234
GPU-11, 99, [Not Found], [N/A]
"""


def test_other_processes_on_the_gpu_are_known_by_their_ids():
    own = (Holder(77, "/usr/bin/python3", 2 << 30), Holder(99, "[Not Found]", 0))
    assert holders_in(LISTING, "11") == own
    assert [holder.pid for holder in holders_in(LISTING, None)] == [77, 88, 99]


def test_without_a_gpu_nobody_holds_one():
    assert not resources.gpu_holders("cpu")
    assert not [*machine.gpu_shared(context([], device="cpu"))]


def test_a_run_folder_on_a_network_file_system_is_told():
    (found,) = machine.on_network(Path("runs/x"), "nfs4", resources.NETWORK_FILE_SYSTEMS)
    assert str(found).startswith(
        "run_dir: the run folder runs/x is on a network file system (nfs4)"
    )


def test_the_file_system_of_a_folder_that_is_not_there_yet_is_that_above_it(tmp_path):
    assert resources.file_system(tmp_path / "a" / "b") == resources.file_system(tmp_path) != ""
    assert not [*machine.run_folder(context([], run_dir=tmp_path / "a"))]


def test_a_run_folder_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = machine.run_folder(context([], run_dir=tmp_path / "file"))
    assert (found.severity, str(found)[:8]) == (Severity.ERROR, "run_dir:")
    assert "is a file, expected a folder" in str(found)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (14_480_000_000, "14.5 GB"),
        (999_960, "1.0 MB"),
        (5e14, "500 TB"),
    ],
)
def test_sizes_read_as_the_hub_writes_them(n_bytes, text):
    assert size_text(n_bytes) == text
