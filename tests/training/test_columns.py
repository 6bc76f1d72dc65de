from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from evomerge.foundations.errors import RunError
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.own_names import TRAINED, located, of_trained
from evomerge.recipe.plain import Recipe
from evomerge.training.coefficients import Coefficients
from evomerge.training.column_mixture import ColumnMixture
from evomerge.training.columns import tables_of
from evomerge.training.descent import State
from evomerge.training.written_models import Checkpoints
from tests.thinned import thinned
from tests.training.test_mixture import METHODS, PLACES, Storages, gradient_at, loss_of
from tests.training.test_trainer import EVERYTHING, trainer_of
from tests.training.tiny_mixtures import LAYOUTS, mixture_of, order_of_sums, somewhere


def columns_of(space):
    return ColumnMixture(ResidentMerger(cache_bytes=0), Coefficients(space))


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def scattered(mixture, seed=0):
    """Numbers of columns that differ from one another, inside their ranges."""
    columns = mixture.columns
    start = columns.of(mixture.coefficients._space.space.initial)
    moved = start + np.random.default_rng(seed).normal(0, 0.1, len(columns))
    return columns.settled(moved.astype(np.float32))


@pytest.mark.parametrize(("method", "layout", "tied"), thinned(PLACES))
def test_the_model_at_the_start_is_the_merge_of_the_genotype(family, method, layout, tied):
    fields = {**METHODS[method], **LAYOUTS[layout]}
    mixture = columns_of(family.space(tied=tied, **fields))
    values = somewhere(mixture)
    genotype = mixture.coefficients.genotype(values)
    start = mixture.columns.of(genotype)
    np.testing.assert_allclose(mixture.columns.genotype(start), genotype, atol=1e-6)
    found = state_of(mixture.at(start))
    for name, tensor in mixture.merger.merge(mixture.coefficients.recipe(values)).module \
            .state_dict().items():  # fmt: skip
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("method", "architecture", "tied"),
    [
        ("arithmetic", "llama", False),
        pytest.param("arithmetic", "llama", True, marks=pytest.mark.slow),
        pytest.param("scaled", "qwen2", False, marks=pytest.mark.slow),
        pytest.param("normalized", "llama", False, marks=pytest.mark.slow),
        pytest.param("shares", "gpt_neox", False, marks=pytest.mark.slow),
        pytest.param("sums", "llama", True, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_the_slopes_of_the_loss_by_single_columns(family, method, architecture, tied):
    space = family.space(architecture=architecture, tied=tied, **METHODS[method])
    mixture = columns_of(space)
    values = scattered(mixture)
    found = gradient_at(mixture, values)
    steepest = [  # of every tensor and source
        stretch.start + int(np.abs(found[stretch]).argmax())
        for stretch in mixture.columns.stretches
    ]
    for index in steepest:
        low, high = values.copy(), values.copy()
        low[index] -= 1e-2
        high[index] += 1e-2
        with torch.no_grad():
            slope = float(loss_of(mixture.at(high).module) - loss_of(mixture.at(low).module))
        step = float(high[index] - low[index])
        assert found[index] == pytest.approx(slope / step, rel=4e-2, abs=1e-3)


def test_columns_of_a_tensor_add_up_to_its_one_weight(family):
    space = family.space(**LAYOUTS["tensors"])
    mixture, scalars = columns_of(space), mixture_of(space)
    values = somewhere(scalars)
    by_column = gradient_at(mixture, mixture.columns.of(scalars.coefficients.genotype(values)))
    by_tensor = gradient_at(scalars, values)
    added = np.zeros(len(values))
    for place in mixture.columns.places:
        table = mixture.columns.rows(by_column, place)
        added[list(place.acting.values())] += table.sum(axis=1)
    np.testing.assert_allclose(added, by_tensor, rtol=0, atol=order_of_sums(scalars, by_tensor))


def test_a_column_moves_what_reads_its_input_and_nothing_else(family):
    mixture = columns_of(family.space(architecture="qwen2"))
    values = mixture.columns.of(mixture.coefficients._space.space.initial)
    before = state_of(mixture.at(values))
    places = {place.tensor.name: place for place in mixture.columns.places}
    widths = {}
    for name in (
        *("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.bias"),
        *("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
    ):
        place, moved = places[name], values.copy()
        moved[place.first] += 0.5
        after = mixture.at(moved).module.state_dict()
        changed = {key: (after[key] != before[key]) for key in before}
        assert [key for key, where in changed.items() if where.any()] == [name]
        widths[name] = place.table.width
        where = place.table.of(changed[name])
        assert where[:, 0].any()
        assert not where[:, 1:].any()
    assert widths["model.layers.0.self_attn.q_proj.bias"] == 1
    assert widths["model.norm.weight"] == before["model.norm.weight"].numel()


def test_where_a_matrix_holds_its_inputs_as_rows_they_are_its_columns():
    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16, n_positions=8)
    module = GPT2LMHeadModel(config)
    homes = dict(module.named_parameters())
    table = tables_of(homes, module)["transformer.h.0.mlp.c_fc.weight"]
    home = homes["transformer.h.0.mlp.c_fc.weight"]
    assert home.shape == (8, 32)
    assert table.of(home).shape == (32, 8)
    assert table.of(home).data_ptr() == home.data_ptr()
    widths = {name: one.width for name, one in tables_of(homes, module).items()}
    assert widths["transformer.h.0.mlp.c_fc.bias"] == 1
    assert widths["transformer.ln_f.bias"] == widths["transformer.wte.weight"] == 8


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_written_folder_is_the_live_model_to_the_bit(family, tmp_path, tied, dtype):
    space = family.space(tied=tied, out_dtype=dtype)
    mixture = columns_of(space)
    values = scattered(mixture)
    folder = Checkpoints(mixture.save, tmp_path).write(values)
    live = state_of(mixture.at(values))
    loaded = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert loaded.keys() == live.keys()
    for name, tensor in loaded.items():
        assert tensor.dtype is getattr(torch, dtype)
        assert torch.equal(tensor, live[name].to(tensor.dtype)), name
    merged = ResidentMerger(cache_bytes=0).merge(of_trained(str(folder))).module.state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in loaded.items())
    assert any((tmp_path / TRAINED).glob("*/model/tokenizer*"))
    assert [path.name for path in (tmp_path / TRAINED).iterdir()] == [folder.parent.name]


def test_the_coefficients_beside_it_are_what_the_columns_are_multiplied_by(family, tmp_path):
    space = family.space("linear")
    mixture = columns_of(space)
    values = scattered(mixture)
    folder = Checkpoints(mixture.save, tmp_path).write(values)
    held = load_file(folder.parent / "coefficients.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    models = [source.model.path for source in space.definition.models]
    sources = [load_file(f"{model}/model.safetensors")[name] for model in models]
    rows = [held[f"{name}:{model}"] for model in models]
    place = next(place for place in mixture.columns.places if place.tensor.name == name)
    own = torch.from_numpy(mixture.columns.rows(values, place))
    assert torch.equal(torch.stack(rows), own)  # nothing is divided
    assert float((own.sum(dim=0) - 1).abs().max()) > 0.05
    expected = sum(row * source for row, source in zip(rows, sources, strict=True))
    written = load_file(folder / "model.safetensors")[name]
    torch.testing.assert_close(written, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_columns_without_a_range_of_the_genome_are_free(family, method):
    columns = columns_of(family.space(method)).columns
    values = np.linspace(-2, 3, len(columns), dtype=np.float32)
    np.testing.assert_array_equal(columns.settled(values), values)
    genotype = columns.genotype(values)
    assert ((genotype >= 0) & (genotype <= 1)).all()


@pytest.mark.parametrize(
    ("fields", "low", "high"),
    [
        ({"merge_method": "linear", "normalize": True}, 0, 1),
        ({"parameters": {"weight": {"range": [0.1, 0.7]}}}, 0.1, 0.7),
    ],
)
def test_what_the_genome_says_of_weights_holds_for_columns(family, fields, low, high):
    mixture = columns_of(family.space(**fields))
    values = mixture.columns.settled(np.linspace(-2, 3, len(mixture.columns), dtype=np.float32))
    assert (values.min(), values.max()) == pytest.approx((low, high))
    place = mixture.columns.places[0]
    assert place.divides == ("normalize" in fields)
    total = mixture.columns.multipliers(torch.from_numpy(values), place).sum(dim=0)
    assert bool(torch.isclose(total, torch.ones(())).all()) == place.divides


@pytest.mark.parametrize("normalize", [None, True, False])
def test_a_column_of_an_average_is_never_without_any_number(family, normalize):
    mixture = columns_of(family.space("linear", normalize=normalize))
    columns = mixture.columns
    values = columns.of(mixture.coefficients._space.space.initial)
    place = next(p for p in columns.places if p.tensor.name.endswith("0.mlp.down_proj.weight"))
    columns.rows(values, place)[:, 3] = 0
    settled = columns.settled(values)
    np.testing.assert_allclose(columns.rows(settled, place)[:, 3], 1 / 3)
    held = mixture.at(settled).module.get_parameter(place.tensor.name)
    stored = [entry[0] for entry in place.tensor.inputs.stored().values()]
    torch.testing.assert_close(held[:, 3], torch.stack(stored).mean(dim=0)[:, 3])


def test_a_task_vector_may_be_left_out_of_a_column(family):
    columns = columns_of(family.space()).columns
    nothing = np.zeros(len(columns), np.float32)
    np.testing.assert_array_equal(columns.settled(nothing), nothing)


def test_similarity_of_columns_is_the_sum_over_tensors_of_mean_cosines(family):
    mixture = columns_of(family.space("linear", architecture="qwen2"))
    columns, values = mixture.columns, scattered(mixture)
    expected = 0.0
    for place in columns.places:
        if place.table.width > 1:  # a bias has one number per model
            a, b, c = torch.from_numpy(columns.rows(values, place)).double()
            cosine = torch.nn.functional.cosine_similarity
            pairs = [cosine(x, y, dim=0) for x, y in ((a, b), (a, c), (b, c))]
            expected += float(torch.stack(pairs).mean())
    trainer = trainer_of(mixture, losses={"nll": 0, "similarity": 1.0})
    terms, _ = trainer._weight_terms(values)
    assert terms["similarity"] == pytest.approx(expected)
    assert expected > 2  # no mean


def test_a_folder_that_is_gone_is_written_again_or_refused(family, tmp_path):
    mixture = columns_of(family.space())
    values = scattered(mixture)
    columns = tmp_path / TRAINED
    (columns / ".unfinished-of-a-killed-process").mkdir(parents=True)
    checkpoints = Checkpoints(mixture.save, tmp_path)
    folder = checkpoints.write(values)
    assert checkpoints.write(values) == folder
    folder.parent.rename(tmp_path / "away")
    checkpoints.restore(checkpoints.name_of(folder), values)
    assert folder.is_dir()
    assert [path.name for path in columns.iterdir()] == [folder.parent.name]
    with pytest.raises(RunError, match=r"cannot be repeated to the bit here\. Put it back"):
        checkpoints.restore(str(columns / "other" / "model"), values)
    with pytest.raises(RunError, match=r"is gone, and the run folder.*Move the run folder back"):
        checkpoints.restore(str(tmp_path / "elsewhere" / "other" / "model"), values)


def test_training_columns_lowers_more_than_training_one_weight_per_model(family, tmp_path):
    space = family.space()
    told = {}
    for name, mixture in {"column": columns_of(space), "space": mixture_of(space)}.items():
        trainer = trainer_of(mixture, epochs=6, batch_size=4)
        genotype, state = space.space.initial, None
        for epoch in range(6):
            lesson = trainer.epoch(epoch, genotype, state, seed=epoch)
            genotype, state = lesson.genotype, lesson.state
        told[name] = lesson.losses["nll"]
        assert ((genotype >= 0) & (genotype <= 1)).all()
    assert told["column"] < told["space"]
    assert State.from_bytes(state).values.dtype == np.float64


def test_numbers_of_columns_stay_float32_and_every_term_can_be_on_with_mofo(family, tmp_path):
    mixture = columns_of(family.space(architecture="qwen2"))
    checkpoints = Checkpoints(mixture.save, tmp_path)
    trainer = trainer_of(mixture, checkpoints=checkpoints, losses=EVERYTHING, mofo=0.3)
    start = mixture.coefficients._space.space.initial
    lesson = trainer.epoch(0, start, None, seed=0)
    assert set(lesson.losses) == set(EVERYTHING)
    assert all(np.isfinite(list(lesson.losses.values())))
    state = State.from_bytes(lesson.state)
    assert {part.dtype for part in (state.values, state.first, state.second)} == {np.dtype("f4")}
    moved = state.values != mixture.columns.of(start)
    biases = [place for place in mixture.columns.places if place.table.width == 1]
    assert biases
    assert all(moved[place.stretch].all() for place in biases)
    assert lesson.config == of_trained(lesson.folder).config
    assert located(of_trained(lesson.folder), tmp_path) == of_trained(str(tmp_path / lesson.folder))
    assert (tmp_path / lesson.folder).is_dir()
    trainer.restore(lesson)


@pytest.mark.parametrize(
    "models", [-1, "text", [], [3], [{}], [{"model": 4}], {"model": "a"}, None]
)
def test_what_names_no_model_of_a_run_stays_as_it_is(models, tmp_path):
    recipe = Recipe({"merge_method": "linear", "models": models})
    assert located(recipe, tmp_path) is recipe


def test_angles_of_columns_are_those_between_columns_of_task_vectors(family):
    mixture = columns_of(family.space())
    angles = mixture.angles()
    place = next(p for p in mixture.columns.places if p.tensor.name.endswith("down_proj.weight"))
    stored = {model: e[0].double() for model, e in place.tensor.inputs.stored().items()}
    a, b = (stored[model] - stored[place.tensor.task.base_model] for model in place.models[:2])
    theta = torch.acos(torch.nn.functional.cosine_similarity(a, b, dim=0))
    at = int(mixture.columns.positions[place.first])
    found = angles[0, at : at + place.table.width]
    torch.testing.assert_close(found, torch.sin(2 * theta) ** 2, rtol=1e-3, atol=1e-4)


def test_a_step_of_columns_needs_less_than_one_gradient_of_the_model(family):
    wide = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 6}
    mixture = columns_of(family.space(granularity="layer", model=wide))
    values = scattered(mixture)
    module = mixture.at(values).module
    sizes = [p.numel() * p.element_size() for p in module.parameters()]
    tokens = torch.tensor([[5, 9]])
    with Storages() as storages, mixture.listening():
        mixture.at(values + np.float32(0.001))
        module(tokens).logits.sum().backward()
        mixture.gradient(values)
    assert max(sizes) <= storages.peak < sum(sizes) / 2
