"""The table of mixtures of experts says what mergekit-moe itself says."""

from __future__ import annotations

import itertools
import json
from typing import get_args

import pytest
from mergekit.moe import ALL_OUTPUT_ARCHITECTURES
from mergekit.moe.config import Expert, MoEMergeConfig
from mergekit.moe.mixtral import MISTRAL_INFO
from mergekit.moe.qwen import QWEN2_INFO
from mergekit.moe.qwen3 import QWEN3_INFO

from evomerge.recipe.moe import EXPERT, JOINED
from evomerge.recipe.moe_outputs import OUTPUTS, GateMode, OutputName, output_of

TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "GPTNeoXForCausalLM": "gpt_neox",
}
INFOS = {"mixtral": MISTRAL_INFO, "deepseek": MISTRAL_INFO, "qwen": QWEN2_INFO, "qwen3": QWEN3_INFO}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for architecture, kind in TYPES.items():
        found[architecture] = folder = tmp_path_factory.mktemp(kind)
        config = {"model_type": kind, "architectures": [architecture], "num_hidden_layers": 2}
        (folder / "config.json").write_text(json.dumps(config))
    return found


def chosen(config):
    """As mergekit-moe chooses."""
    wanted = (config.architecture or "").lower()
    fitting = [
        one
        for one in ALL_OUTPUT_ARCHITECTURES
        if one.name().lower().startswith(wanted) and one.supports_config(config)
    ]
    names = [one.name().lower().split()[0] for one in fitting]
    return "mixtral" if "mixtral" in names else names[0] if names else None


def test_each_choice_is_mergekits(folders):
    shares = [(), (True,), (False,), (True, True)]
    for architecture, wanted, shared, mode in itertools.product(
        TYPES, (None, *OUTPUTS), shares, ("hidden", "random")
    ):
        model = str(folders[architecture])
        config = MoEMergeConfig(
            base_model=model,
            experts=[{"source_model": model, "positive_prompts": ["x"]}] * 2,
            gate_mode=mode,
            architecture=wanted,
            shared_experts=[
                {"source_model": model, "positive_prompts": ["x"] if has else None}
                for has in shared
            ],
        )
        assert output_of(architecture, wanted, shared, mode) == chosen(config), config


def test_the_tensors_that_it_takes_are_those_that_mergekit_lists(folders):
    for name, output in OUTPUTS.items():
        info = INFOS[name]
        config = MoEMergeConfig(base_model=str(folders[output.made_of[-1]]), experts=[])
        listed = {
            weight.name.removeprefix("model.layers.0.")
            for weight in info.all_weights(config.base_model.config())
            if ".layers.0." in weight.name
        }
        assert output.takes == listed


def test_every_key_and_name_is_known():
    assert set(MoEMergeConfig.model_fields) == JOINED
    assert set(Expert.model_fields) == EXPERT
    assert set(get_args(OutputName)) == set(OUTPUTS)
    assert {"hidden", "hidden_avg", "hidden_last", "cheap_embed", "random", "uniform_random"} == {
        *get_args(GateMode)
    }
