from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from evomerge.foundations.errors import RunError
from evomerge.merging.resident import ResidentMerger
from evomerge.training.coefficients import Coefficients
from evomerge.training.mixture import Mixture
from tests.thinned import ZIGZAG, thinned
from tests.training.tiny_mixtures import LAYOUTS, mixture_of, order_of_sums, somewhere

METHODS = {
    "arithmetic": {"merge_method": "task_arithmetic"},
    "scaled": {"merge_method": "task_arithmetic", "parameters": {"lambda": 0.7}},
    "normalized": {"merge_method": "task_arithmetic", "normalize": True},
    "shares": {"merge_method": "linear"},
    "affine": {"merge_method": "linear", "allow_negative_weights": True},
    "sums": {"merge_method": "linear", "normalize": False},
}
TOKENS = torch.arange(4, 24).reshape(2, 10)


def loss_of(module) -> torch.Tensor:
    logits = module(TOKENS).logits.double()
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


def gradient_at(mixture, values, loss=loss_of):
    module = mixture.at(values).module
    with mixture.listening():
        loss(module).backward()
        return mixture.gradient(values)


def slopes(mixture, values, step=2e-3):
    """Central differences of the loss of merged models."""
    found = []
    for index in range(len(values)):
        moved = [values.copy(), values.copy()]
        moved[0][index] -= step
        moved[1][index] += step
        with torch.no_grad():
            low, high = (float(loss_of(mixture.at(one).module)) for one in moved)
        found.append((high - low) / (2 * step))
    return np.array(found)


# Every method once, every layout once, and both with a tied head.
PLACES = [
    *((method, "groups", tied) for method in METHODS for tied in (False, True)),
    *(("arithmetic", layout, False) for layout in LAYOUTS if layout != "groups"),
    ("shares", "smooth", True),
]


@pytest.mark.parametrize(("method", "layout", "tied"), thinned(PLACES, **ZIGZAG))
def test_the_model_at_a_genotype_is_the_model_of_its_recipe(family, method, layout, tied):
    fields = {**METHODS[method], **LAYOUTS[layout]}
    space = family.space(tied=tied, **fields)
    mixture = mixture_of(space)
    coefficients = mixture.coefficients
    values = somewhere(mixture)
    genotype = coefficients.genotype(values)
    np.testing.assert_allclose(coefficients.of(genotype), values, atol=1e-12)

    held = {k: v.clone() for k, v in mixture.at(values).module.state_dict().items()}
    merged = ResidentMerger(cache_bytes=0).merge(space.recipe(space.space.decode(genotype)))
    for name, tensor in merged.module.state_dict().items():
        torch.testing.assert_close(held[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "layout", "tied"), thinned(PLACES, **ZIGZAG))
def test_multipliers_give_the_tensors_that_mergekit_merges(family, method, layout, tied):
    mixture = mixture_of(family.space(tied=tied, **METHODS[method], **LAYOUTS[layout]))
    values = somewhere(mixture)
    held = mixture.at(values).module.state_dict()
    multipliers = mixture.reach.multipliers(torch.from_numpy(values))
    for row, tensor in enumerate(mixture.reach.tensors):
        stored = {model: entry[0] for model, entry in tensor.inputs.stored().items()}
        models = mixture.reach.models[row]
        is_linear = tensor.task.method_name == "linear"
        zero = 0.0 if is_linear else stored[tensor.task.base_model]
        merged = zero + sum(
            multipliers[row, column] * (stored[model] - zero) for column, model in enumerate(models)
        )
        torch.testing.assert_close(held[tensor.name].double(), merged.double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("method", "layout", "tied"),
    [
        ("arithmetic", "groups", False),
        ("arithmetic", "groups", True),
        ("scaled", "smooth", False),
        ("normalized", "groups", False),
        ("sums", "smooth", True),
        ("shares", "groups", True),
    ],
)
def test_gradients_are_the_slopes_of_the_loss_of_merged_models(family, method, layout, tied):
    mixture = mixture_of(family.space(tied=tied, **METHODS[method], **LAYOUTS[layout]))
    values = somewhere(mixture)
    found = gradient_at(mixture, values)
    np.testing.assert_allclose(found, slopes(mixture, values), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("layout", ["kinds", "tensors"])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_buffers_that_no_group_of_tensors_names_are_merged_all_the_same(family, method, layout):
    space = family.space(method, architecture="gpt_neox", **LAYOUTS[layout])
    assert space.architecture.has_buffers
    mixture = mixture_of(space)
    buffers = {t.name for t in mixture.reach.tensors if t.name.endswith(".masked_bias")}
    assert buffers
    moved = zip(mixture.reach.tensors, mixture.reach.moves, strict=True)
    assert {tensor.name for tensor, moves in moved if not moves} >= buffers
    assert np.all(gradient_at(mixture, somewhere(mixture)) != 0)


@pytest.mark.parametrize("architecture", thinned(["qwen2", "mistral", "gpt_neox", "gemma2"]))
def test_gradients_are_right_for_other_architectures(family, architecture):
    mixture = mixture_of(family.space(architecture=architecture, granularity="layer"))
    values = somewhere(mixture)
    found = gradient_at(mixture, values)
    np.testing.assert_allclose(found, slopes(mixture, values), rtol=2e-2, atol=2e-3)


def test_embeddings_norms_head_and_layers_are_all_moved(family):
    mixture = mixture_of(family.space(**LAYOUTS["tensors"]))
    assert np.all(gradient_at(mixture, somewhere(mixture)) != 0)


def test_a_weight_the_genome_fixes_is_not_moved_but_counts(family):
    space = family.space(granularity="layer")
    models = [source.model.text for source in space.definition.models]
    fixed = [{"model": models[0], "parameters": {"weight": 0.4}}, *models[1:]]
    mixture = mixture_of(family.space(granularity="layer", models=fixed))
    values = somewhere(mixture)
    assert set(mixture.coefficients.models) == {1, 2}
    np.testing.assert_allclose(
        gradient_at(mixture, values), slopes(mixture, values), rtol=2e-2, atol=1e-3
    )


def test_gradients_of_several_passes_add_up(family):
    mixture = mixture_of(family.space(granularity="layer"))
    values = somewhere(mixture)
    module = mixture.at(values).module
    with mixture.listening():
        for _ in range(3):
            (loss_of(module) / 3).backward()
        several = mixture.gradient(values)
    at_once = gradient_at(mixture, values)
    order = order_of_sums(mixture, at_once)
    np.testing.assert_allclose(several, at_once, rtol=0, atol=order)


def test_afterwards_the_model_has_no_gradients_and_wants_none(family):
    mixture = mixture_of(family.space())
    values = somewhere(mixture)
    gradient_at(mixture, values)
    for parameter in mixture.at(values).module.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad


class Storages(torch.utils._python_dispatch.TorchDispatchMode):
    """Bytes of the storages made inside that are alive, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {t.untyped_storage()._cdata for t in _tensors([args, kwargs or {}])}
        for tensor in _tensors([result]):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in known and key not in self.alive:
                self.alive[key] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def _tensors(tree):
    return [t for t in torch.utils._pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def test_a_step_needs_less_than_one_gradient_of_the_model(family):
    wide = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 6}
    mixture = mixture_of(family.space(granularity="layer", model=wide))
    values = somewhere(mixture)
    module = mixture.at(values).module
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    largest = max(p.numel() * p.element_size() for p in module.parameters())
    tokens = torch.tensor([[5, 9]])
    with Storages() as storages, mixture.listening():
        mixture.at(values + 0.001)
        module(tokens).logits.sum().backward()
        mixture.gradient(values)
    assert largest <= storages.peak < size / 3  # gradients, activations, blocks: all of it


def test_a_model_whose_tensors_are_not_the_checkpoints_is_refused(family):
    mixture = mixture_of(family.space())
    mixture.at(somewhere(mixture))
    mixture.merger._weights.in_place = False
    refusal = pytest.raises(RunError, match=r"fuses or renames the tensors.*Use cma_es")
    with refusal, mixture.listening():
        pass


def test_angles_are_one_at_45_degrees_and_zero_between_parallel_and_orthogonal(family):
    mixture = mixture_of(family.space())
    angles = mixture.angles()
    assert angles.shape == (3, 1)
    vectors = {index: [] for index in range(3)}
    for models, tensor in zip(mixture.reach.models, mixture.reach.tensors, strict=True):
        stored = {model: entry[0].double() for model, entry in tensor.inputs.stored().items()}
        for index, model in enumerate(models):
            vectors[index].append((stored[model] - stored[tensor.task.base_model]).flatten())
    flat = [torch.cat(parts) for parts in vectors.values()]
    for row, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        theta = torch.acos(torch.nn.functional.cosine_similarity(flat[a], flat[b], dim=0))
        assert float(angles[row, 0]) == pytest.approx(float(torch.sin(2 * theta) ** 2), rel=1e-3)


def test_coefficients_of_shares_stay_on_the_simplex(family):
    coefficients = Coefficients(family.space("linear"))
    settled = coefficients.settled(np.array([-0.5, 0.4, 0.8]))
    np.testing.assert_allclose(settled, [0, 1 / 3, 2 / 3])
    assert isinstance(mixture_of(family.space("linear")), Mixture)
