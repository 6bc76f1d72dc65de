"""A check reports all models and the tasks together, each at its line of the genome."""

from __future__ import annotations

import pytest
from safetensors.numpy import load_file

from evomerge.compiler.examine import examine
from evomerge.foundations.findings import Severity
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from tests.evaluators.tiny_tasks import write_tasks
from tests.preflight.variants import config, tensors, variant
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own

GENOME = """
genome:
  models:
    - {missing}
    - {deep}
    - {tuned}
  base_model: {base}
  merge_method: task_arithmetic
"""


@pytest.fixture(scope="module")
def wrong_task(tmp_path_factory):
    """A task that lacks the metric; one of an unknown name is looked for in all of lm-eval's."""
    folder = write_tasks(tmp_path_factory.mktemp("tasks"))
    return f"tasks: [{{name: tiny_text, metric: no_such_metric}}]\ntask_search_path: [{folder}]\n"


def test_all_models_and_the_tasks_are_reported_at_once(base, tuned, tmp_path, wrong_task):
    deep = variant(tuned, tmp_path / "deep", config(num_hidden_layers=3))
    missing = tuned.with_name("model_2")
    file = tmp_path / "genome.yml"
    genome = GENOME.format(missing=missing, deep=deep, tuned=tuned, base=base)
    file.write_text(genome + wrong_task)
    examination = examine(*load_genome(file), Permissions())
    assert examination.has_errors
    text = "\n".join(map(str, examination.findings))
    assert f"{file}:4: genome.models[0]: there is no folder {missing}; did you mean" in text
    assert f"{file}:5: genome.models[1]: {deep} has 3 layers, expected 2 as {base}" in text
    assert "tasks[0].metric: task 'tiny_text' has no metric 'no_such_metric'" in text


def test_models_that_are_all_the_same_are_an_error_that_names_them(base, tmp_path, wrong_task):
    copies = [variant(base, tmp_path / name) for name in ("one", "two")]
    file = tmp_path / "genome.yml"
    file.write_text(
        f"genome: {{models: [{copies[0]}, {copies[1]}], base_model: {base}, "
        f"merge_method: task_arithmetic}}\n{wrong_task}"
    )
    (found,) = [
        finding
        for finding in examine(*load_genome(file), Permissions()).findings
        if "all models are the same" in str(finding)
    ]
    assert found.severity is Severity.ERROR
    assert f"the same: {copies[0]}, {copies[1]} and {base} hold equal tensors" in str(found)


def test_a_search_where_models_that_differ_are_equal_is_an_error_that_says_so(
    base, tuned, tmp_path, wrong_task
):
    def back(held):
        kept = load_file(base / "model.safetensors")
        return {n: kept[n] if "mlp" in n else tensor for n, tensor in held.items()}

    model = variant(tuned, tmp_path / "model", tensors(back))
    file = tmp_path / "genome.yml"
    file.write_text(
        f"genome:\n  models: [{model}]\n  base_model: {base}\n  merge_method: task_arithmetic\n"
        "  parameters: {weight: [{filter: mlp, range: [0, 1]}, {value: 1}]}\n"
        f"{wrong_task}"
    )
    text = "\n".join(map(str, examine(*load_genome(file), Permissions()).findings))
    assert "genome: nothing that is searched acts on a tensor in which the models differ" in text
    assert "all models are the same" not in text


def test_models_that_fit_reach_the_rules_and_the_merge_space(base, tuned, tmp_path, wrong_task):
    file = tmp_path / "genome.yml"
    file.write_text(
        f"genome: {{models: [{tuned}], base_model: {base}, merge_method: task_arithmetic}}\n"
        f"{wrong_task}"
    )
    examination = examine(*load_genome(file), Permissions())
    assert [f for f in examination.findings if "genome.models" in str(f)] == []
