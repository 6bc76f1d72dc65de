"""Every file in genomes/, recipes/ and tasks/ loads, so that none can rot."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from evomerge.compiler.genome_file import read_genomes
from evomerge.evaluators.judge.question_file import questions_in
from evomerge.genome.load import load_genome
from evomerge.genome.model_names import ModelName
from evomerge.genome.task_blocks import NAMED
from evomerge.merge_spaces import merge_space_for
from evomerge.models.architecture import Architecture
from evomerge.optimizers import OPTIMIZERS
from tests.judge.judge_files import judge_evaluator, write_rows

ROOT = Path(__file__).parents[1]
GENOMES = sorted(ROOT.glob("genomes/*.yml"))
RECIPES = sorted(ROOT.glob("recipes/*.yml"))
TASK_FOLDERS = sorted({path.parent for path in (ROOT / "tasks").glob("*/*.yaml")})
QUESTIONS = sorted(ROOT.glob("tasks/judge/question_*.jsonl"))

LLAMA_SHAPED = Architecture(
    "LlamaForCausalLM",
    32,
    ("model.embed_tokens.weight",),
    tuple(
        f"model.layers.{{layer}}.{kind}.weight"
        for kind in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "input_layernorm")
    ),
    ("model.norm.weight",),
    ("lm_head.weight",),
)


# Of models that see, the parts that mergekit infers of a LLaVA.
SEEING = replace(
    LLAMA_SHAPED,
    name="LlavaForConditionalGeneration",
    parts={
        "model.language_model.layers": replace(LLAMA_SHAPED, embeddings=(), final_norm=(), head=()),
        "default": replace(LLAMA_SHAPED, n_layers=0, layer_tensors=()),
        "model.vision_tower.layers": replace(
            LLAMA_SHAPED,
            n_layers=2,
            embeddings=(),
            layer_tensors=("model.vision_tower.layers.{layer}.mlp.fc1.weight",),
            final_norm=(),
            head=(),
        ),
    },
)


def first_recipe(genome):
    """The recipe where a search starts; what a stage is to find has its name for a path."""
    architecture = SEEING if genome.genome.modules else LLAMA_SHAPED
    merge_space = merge_space_for(genome.genome)(genome.genome, architecture, "bfloat16")
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    return recipe.with_models(lambda model: ModelName(path=model.path) if model.is_stage else model)


@pytest.mark.parametrize("path", GENOMES, ids=lambda path: path.stem)
def test_genome_loads_and_gives_recipes_that_mergekit_accepts(path):
    from mergekit.config import MergeConfiguration

    for stage in read_genomes(path).stages:
        optimizer = OPTIMIZERS[stage.genome.optimizer.name]
        optimizer.Settings.model_validate(stage.genome.optimizer.settings)
        recipe = first_recipe(stage.genome)
        assert recipe.documents
        for document in recipe.documents:
            assert MergeConfiguration.model_validate(dict(document))


@pytest.mark.parametrize("path", GENOMES, ids=lambda path: path.stem)
def test_the_recipe_where_a_search_starts_is_the_golden_one(path, is_golden):
    for stage in read_genomes(path).stages:
        name = "-".join(filter(None, (path.stem, stage.name)))
        is_golden(f"recipes/{name}.yml", first_recipe(stage.genome).to_yaml())


def test_mergekit_evolve_file_means_what_it_meant():
    genome, _ = load_genome(ROOT / "genomes" / "mergekit-evolve.yml")
    assert genome.optimizer.name == "cma_es"
    assert genome.optimizer.budget == 100
    merge_space = merge_space_for(genome.genome)(genome.genome, LLAMA_SHAPED, "bfloat16")
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial))
    assert len(recipe.config["slices"]) == 4
    sources = recipe.config["slices"][0]["sources"]
    assert [source["model"] for source in sources[:3]] == [
        source.model.text for source in genome.genome.models
    ]
    assert [entry.get("filter") for entry in sources[0]["parameters"]["weight"]] == [
        "self_attn",
        "mlp",
        None,
    ]
    assert recipe.config["parameters"]["normalize"] is True


def test_the_korean_merge_is_the_one_that_was_published():
    genome, _ = load_genome(ROOT / "genomes" / "llama31-korean.yml")
    merge_space = merge_space_for(genome.genome)(genome.genome, LLAMA_SHAPED, "bfloat16")
    recipe = merge_space.recipe(merge_space.space.decode(merge_space.space.initial)).config
    assert (recipe["base_model"], recipe["dtype"]) == ("meta-llama/Llama-3.1-8B", "bfloat16")
    assert recipe["parameters"] == {"normalize": True}
    sources = [slice_["sources"] for slice_ in recipe["slices"]]
    assert [s[0]["layer_range"] for s in sources] == [[n, n + 2] for n in range(0, 32, 2)]
    assert all(isinstance(s["parameters"]["weight"], float) for two in sources for s in two[:2])
    optimizer = genome.optimizer
    assert (optimizer.name, optimizer.population_size, optimizer.budget) == ("llm", 14, 11 * 14)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_plain_mergekit_yaml(path):
    from mergekit.config import MergeConfiguration

    assert MergeConfiguration.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("folder", TASK_FOLDERS, ids=lambda path: path.name)
def test_tasks_are_found_by_lm_eval(folder):
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False)
    files = [path for path in folder.glob("*.yaml") if "task:" in path.read_text(encoding="utf-8")]
    assert files
    assert len(manager.all_subtasks) + len(manager.all_groups) == len(files)


@pytest.mark.parametrize("path", QUESTIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("is_contest", [False, True], ids=["rated", "compared"])
def test_ten_questions_are_ready_for_a_judge(path, is_contest, tmp_path):
    questions = questions_in(str(path))
    said = [{"question_id": one.name, "choices": [{"turns": one.turns}]} for one in questions]
    opponent = {"opponent": str(write_rows(tmp_path / "o.jsonl", said))} if is_contest else {}
    prompts = ROOT / "tasks" / "judge" / "judge_prompts.jsonl"
    settings = {"questions": str(path), "prompts": str(prompts), "model": "m", "probe": False}
    own = {**settings, **opponent, "base_url": "http://localhost/v1"}
    evaluator = judge_evaluator({"judge": own})
    assert evaluator.facts()[0].n_documents == len(questions) == 10
    assert [one.severity.value for one in evaluator.findings()] == ["note"]


@pytest.mark.parametrize("path", GENOMES, ids=lambda path: path.stem)
def test_tasks_of_a_genome_are_in_its_folders_or_in_lm_eval(path):
    import lm_eval.tasks

    for stage in read_genomes(path).stages:
        refuse_unknown_tasks(stage.genome, path, Path(lm_eval.tasks.__file__).parent)


def refuse_unknown_tasks(genome, path, shipped):
    folders = [ROOT / folder for folder in genome.task_search_path] or [ROOT / "tasks" / "public"]
    own = {
        yaml.safe_load(line.partition(":")[2])
        for folder in folders
        for file in folder.glob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("task:")
    }
    for task in (*genome.tasks, *genome.validation, *genome.holdout):
        if task.kind != NAMED:  # its own kind looks for it
            continue
        known = task.name in own or any(shipped.rglob(f"{task.name}.yaml"))
        assert known, f"{path.name}: {task.name}"
