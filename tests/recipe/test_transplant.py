"""A model with the tokens of another one: what its file says, and what mergekit makes of it."""

from __future__ import annotations

import pytest
import torch
import yaml

from evomerge.foundations.errors import GenomeError, LostFileError, MergeError
from evomerge.merging.build import KilledError
from evomerge.merging.mergers import Mergers
from evomerge.merging.resident import ResidentMerger
from evomerge.recipe.file import documents_of, recipe_of
from evomerge.recipe.plain import Recipe
from tests.tiny_models import tiny_model, tiny_tokenizer


def read(said, folder):
    file = folder / "transplant.yml"
    file.write_text(yaml.safe_dump({"transplant": said}, sort_keys=False), encoding="utf-8")
    return recipe_of(documents_of(file), lambda finding: None)


def test_its_command_is_the_one_that_people_type(tmp_path):
    said = {"model": "org/one", "tokenizer_source": "org/other", "k": 8, "cosine_similarity": True}
    recipe = read({**said, "magikarp": False}, tmp_path)
    [command] = recipe.commands([], "out", "stages")
    assert " ".join([command.program, *command.arguments]) == (
        "mergekit-tokensurgeon org/one org/other out --k 8 --cosine-similarity --no-magikarp"
    )
    assert [model.text for model in recipe.models] == ["org/one"]
    assert [model.text for model in recipe.named] == ["org/one", "org/other"]
    assert (recipe.copied, recipe.whole_models, recipe.is_stage) == (None, frozenset(), False)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"approximation_method": "guess", "k": 0}, ("approximation_method: ", "k: ", "got 0")),
        ({"tokenizer_source": "--trust-remote-code"}, ("is no plain name of a model",)),
        ({"tokenizer_source": "base"}, ("base is no plain name of a model",)),
        ({"model": "org/one+org/adapter"}, ("org/one+org/adapter is no plain name",)),
        ({"kk": 3, "magikarp": "yes"}, ("kk: Extra inputs", "magikarp: ", "got 'yes'")),
    ],
)
def test_what_the_command_would_refuse_is_told_at_once(tmp_path, said, told):
    with pytest.raises(GenomeError) as refused:
        read({"model": "org/one", "tokenizer_source": "org/other", **said}, tmp_path)
    assert all(text in str(refused.value) for text in told)


def test_it_stands_alone_in_its_document(tmp_path):
    with pytest.raises(GenomeError, match="stands alone in its document"):
        read("org/one", tmp_path)


def test_new_rows_that_are_drawn_are_told():
    def drawn(**said):
        return Recipe({"merges": [], "transplant": {"model": "a", **said}}).drawn

    for method in ("omp", "mp_rope"):
        assert not drawn(approximation_method=method)
    for method in ("randn", "landmark_pca", "john_hewitt"):
        assert drawn(approximation_method=method) == drawn(new_vocab_noise=0.1) != ()


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [
        (-9, "", KilledError),
        (1, "OSError: [Errno 28] No space left on device", LostFileError),
        (1, "ValueError: k", MergeError),
    ],
)
def test_what_a_machine_lacks_is_no_failure_of_the_recipe(tmp_path, monkeypatch, code, said, error):
    monkeypatch.setattr("evomerge.merging.build._run", lambda *_: (code, [said]))
    model = str(tiny_model(tmp_path / "model"))
    recipe = read({"model": model, "tokenizer_source": model}, tmp_path)
    with pytest.raises(error):
        Mergers(ResidentMerger).merge(recipe)


@pytest.mark.slow
def test_it_lives_with_the_tokens_of_the_one_and_the_weights_of_the_other(tmp_path):
    new = ["wombat", "quokka"]
    one = tiny_model(tmp_path / "one")
    other = tiny_model(tmp_path / "other", seed=1, extra_tokens=new)
    said = {"model": str(one), "tokenizer_source": str(other), "approximation_method": "zero"}
    live = Mergers(ResidentMerger).merge(read(said, tmp_path))
    before = Mergers(ResidentMerger).merge(
        Recipe({"merge_method": "passthrough", "models": [{"model": str(one)}]})
    )
    assert live.tokenizer.get_vocab() == tiny_tokenizer(new).get_vocab()
    for name, tensor in before.module.state_dict().items():
        held = live.module.state_dict()[name]
        assert torch.equal(held[: len(tensor)], tensor), name
        assert len(held) - len(tensor) == (2 if "embed" in name or "lm_head" in name else 0)
        assert not held[len(tensor) :].any()
