"""Tasks that cannot be used, or do not mean what their user thinks; real lm-eval, no network."""

from __future__ import annotations

import datasets
import huggingface_hub.constants
import lm_eval.tasks
import pytest

from evomerge.checks import task_rules as rules
from evomerge.checks.context import CheckContext
from evomerge.checks.fit import tokenizer_and_texts
from evomerge.compiler.split_tasks import load_tasks
from evomerge.evaluators.lm_eval import index
from evomerge.foundations.findings import Severity
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.genome.words import FINAL_SPLITS
from evomerge.models.facts import ModelFacts, TokenizerFacts
from tests.evaluators.asking_double import with_echo
from tests.evaluators.tiny_tasks import write_tasks
from tests.tiny_models import tiny_config, tiny_tokenizer


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def folder(own_cache, tmp_path_factory):
    """The tiny tasks; tests add files of their own."""
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def examine(folder):
    """``examine("[tiny_choice]", rest)``: what loading gave, and the context for the rules."""

    def loaded(tasks, rest="", permissions=None, **parts):
        text = f"genome: {{models: [a], merge_method: linear}}\ntasks: {tasks}\n{rest}"
        genome = validate_genome(parse_yaml(text + f"\ntask_search_path: [{folder}]\n", "g.yml"))
        tasks = load_tasks(genome, permissions or Permissions())
        context = CheckContext(genome, evaluators=tasks.evaluators, **parts)
        return [str(problem) for problem in tasks.problems], context

    return loaded


@pytest.fixture
def define(folder):
    """``define("broken", "test_split: test", "test_split: tst")``: a task with one change."""

    def write(name, old, new, of="choice"):
        text = (folder / f"{of}.yaml").read_text().replace("tag: tiny_choices\n", "")
        assert old in text
        own = text.replace(f"task: tiny_{of}\n", f"task: {name}\n").replace(old, new)
        (folder / f"{name}.yaml").write_text(own)

    return write


METRICS = "metric_list:"
# What is changed in the YAML of a task, and what is said of it.
BROKEN = {
    "not_yaml": (METRICS, "foo: [1, 2\n" + METRICS, "has a file that is not YAML (", "Mend the fi"),
    "no_include": (METRICS, "include: gone.yml\n" + METRICS, "needs the file '", "/gone.yml'"),
    "unknown_key": ("output_type:", "outputtype:", "has the unknown key 'outputtype'; did", ""),
    "unknown_metric": ("metric: acc,", "metric: accu,", "has the unknown metric 'accu'; did", ""),
    "no_split": ("test_split: test", "test_split: tst", "has test_split: tst, and its", "Mend"),
    "no_data": ("test.jsonl", "gone.jsonl", "needs the file '", "gone.jsonl', which is not there."),
    "no_package": (
        METRICS,
        "process_results: !function needy.score\n" + METRICS,
        "needs the package 'no_such_package', which is not installed. Run `pip install no_such",
        "",
    ),
    "extra": (
        METRICS,
        "process_results: !function extra.score\n" + METRICS,
        "needs the package 'fugashi', which is not installed. Run `pip install 'lm-eval[japanese",
        "",
    ),
    "no_module": (
        METRICS,
        "process_results: !function gone.f\n" + METRICS,
        "calls gone.py, wh",
        "",
    ),
    "no_function": (
        METRICS,
        "process_results: !function functions.gone\n" + METRICS,
        "calls 'gone', which ",
        "functions.py does not have. Mend the name after !function.",
    ),
    "exits": (
        METRICS,
        "process_results: !function leaving.score\n" + METRICS,
        "cannot be built (SystemExit: 0, in <module> (",
        "",
    ),
    "script": (
        "dataset_path: json",
        "dataset_path: FOLDER/script",
        "/script, which is a loading script; datasets 4 runs none. Point its dataset_path",
        "",
    ),
    "no_documents": ("test.jsonl", "empty.jsonl", "empty.jsonl, which hold no documents. Put", ""),
    "broken_data": ("test.jsonl", "broken.jsonl", "broken.jsonl, which cannot be read (", "Mend"),
    "template": ("doc_to_target: answer", "doc_to_target: '{{ x | y }}'", "template that f", ""),
    "unsafe": (
        METRICS,
        "unsafe_code: true\n" + METRICS,
        "runs code that the model wrote. Add --c",
        "",
    ),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_task_that_cannot_be_built_says_why_and_what_to_do(examine, define, folder, name):
    old, new, *expected = BROKEN[name]
    (folder / "needy.py").write_text("import no_such_package\n")
    (folder / "extra.py").write_text("raise ModuleNotFoundError('no fugashi', name='fugashi')\n")
    (folder / "leaving.py").write_text("raise SystemExit(0)\n")
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.jsonl").write_text("not JSON\n")
    (folder / "script").mkdir(exist_ok=True)
    (folder / "script" / "script.py").write_text("import datasets\n")
    define(name, old, new.replace("FOLDER", str(folder)))
    (problem,), _ = examine(f"[{name}]")
    assert problem.startswith(f"tasks[0].name: task '{name}' ")
    assert all(text in problem for text in expected), problem


def test_an_unknown_filter_is_told_with_the_known_ones(examine, define):
    define("filters", "function: regex,", "function: regexx,", of="text")
    (problem,), _ = examine("[filters]")
    assert "has the unknown filter 'regexx'; did you mean 'regex'? (known: custom, " in problem


def test_data_that_is_not_here_while_offline_says_so(examine, define, monkeypatch):
    for module, name in (
        (datasets.config, "HF_HUB_OFFLINE"),
        (huggingface_hub.constants, "HF_HUB_OFFLINE"),
    ):
        monkeypatch.setattr(module, name, True)
    define("on_hub", "dataset_path: json", "dataset_path: org/none")
    (problem,), _ = examine("[on_hub]")
    assert "reads the dataset org/none, which is not on this machine, and the Hub is out" in problem
    assert "Run once with the network on" in problem


def test_the_tasks_of_every_split_are_told_at_once(examine, define):
    define("one", "test_split: test", "test_split: tst")
    found, _ = examine(
        "[one, {name: tiny_text, metric: acc}]", "holdout: [{name: tiny_choice, metric: f1}]"
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "tasks[0].name",
        "tasks[1].metric",
        "holdout[0].metric",
    ]
    assert "(it has: exact_match,whole, exact_match,first-letter)" in found[1]


@pytest.fixture(params=["a folder", pytest.param("all", marks=pytest.mark.slow)])
def _own_tasks(request, monkeypatch):
    """All of lm-eval's own tasks, which takes six seconds, or those of one of its folders."""

    def one_folder(folders):
        own = str(index._OWN / "hellaswag")
        return lm_eval.tasks.TaskManager(include_path=[own, *folders], include_defaults=False)

    if request.param != "all":
        monkeypatch.setattr(index, "_full_manager", one_folder)


@pytest.mark.usefixtures("_own_tasks")
def test_an_unknown_task_is_told_with_the_nearest_of_lm_evals_own(examine):
    found, _ = examine("[tiny_choise, helaswag]")
    assert "tasks[0].name: unknown task 'tiny_choise'; did you mean 'tiny_choice'?" in found[0]
    assert "tasks[1].name: unknown task 'helaswag'; did you mean 'hellaswag'?" in found[1]
    assert "add the folder of its YAML to `task_search_path`" in found[1]


def test_code_of_a_model_runs_only_where_the_user_allows_it(examine, define):
    define("coder", METRICS, "unsafe_code: true\n" + METRICS)
    assert examine("[coder]", permissions=Permissions(unsafe_code=True))[0] == []


def findings(rule, context):
    return [(finding.severity, str(finding)) for finding in rule(context)]


@pytest.mark.parametrize(
    ("tasks", "rest", "where", "wanted"),
    [
        ("[{name: tiny_choice, limit: 50}]", "", "tasks[0].limit", 50),
        ("[{name: tiny_choice, samples: 21}]", "", "tasks[0].samples", 21),
        ("[tiny_choice]", "limit: 40", "limit", 40),
        ("[tiny_choice]", "limit: 40\nshuffle: true", "limit", 40),
    ],
)
def test_more_documents_than_there_are_is_told(examine, tasks, rest, where, wanted):
    _, context = examine(tasks, rest)
    assert findings(rules.documents, context) == [
        (
            Severity.WARNING,
            f"{where}: {wanted} documents of tiny_choice are asked for, it has 20; all are used.",
        )
    ]
    assert not findings(rules.documents, examine("[{name: tiny_choice, limit: 20}]")[1])


def test_each_split_has_its_own_limit(examine):
    exam = "holdout: [{name: tiny_text, metric: 'exact_match,whole'}]\n"
    _, context = examine("[{name: tiny_choice, limit: 2}]", f"{exam}limit: 40\nholdout_limit: 30")
    ((_, sentence),) = findings(rules.documents, context)
    assert sentence.startswith("holdout_limit: 30 documents of tiny_text are asked for, it has 20")


def test_examples_from_the_documents_that_are_scored_are_told(examine, define):
    splits = "training_split: train\ntest_split: test\nfewshot_split: train\n"
    define("own_shots", splits, "test_split: test\n")
    _, context = examine("[{name: own_shots, num_fewshot: 2}]")
    ((severity, sentence),) = findings(rules.worked_examples, context)
    assert severity is Severity.WARNING
    assert sentence.startswith(
        "tasks[0].num_fewshot: own_shots has no split for worked examples; its 2 show the answers"
    )
    for good in ("own_shots", "{name: tiny_choice, num_fewshot: 2}"):
        assert not findings(rules.worked_examples, examine(f"[{good}]")[1])


def test_the_direction_of_a_metric_that_is_better_when_lower_is_told(examine):
    _, context = examine(
        "[{name: tiny_likelihood, metric: perplexity}, {name: tiny_choice, metric: acc}]"
    )
    assert findings(rules.directions, context) == [
        (
            Severity.NOTE,
            "tasks[0]: lower perplexity,none is better; its score is perplexity,none with a minus "
            "sign.",
        )
    ]


def test_a_weight_below_0_is_told_to_turn_the_metric_around(examine):
    _, context = examine("[{name: tiny_likelihood, metric: perplexity, weight: -1}, tiny_choice]")
    ((severity, sentence),) = findings(rules.directions, context)
    assert severity is Severity.WARNING
    assert (
        "tasks[0].weight: weight -1 makes the search look for a worse perplexity,none: lower is"
        in sentence
    )


def test_a_group_without_a_score_of_its_own_is_told(examine):
    _, context = examine("[{name: tiny_bare_group, metric: acc}]")
    ((severity, sentence),) = findings(rules.groups, context)
    assert severity is Severity.NOTE
    assert sentence.startswith(
        "tasks[0]: tiny_bare_group has no score of its own; the mean over all documents of its 2"
    )
    assert not findings(rules.groups, examine("[{name: tiny_group, metric: acc}]")[1])


INSTRUCT = ModelFacts(
    name="org/instruct", tokenizer=TokenizerFacts({}, None, "", {}, {}, "a digest", True, False)
)


def test_an_instruct_model_without_its_template_is_told(examine):
    _, context = examine(
        "[tiny_text]", "evaluation: {apply_chat_template: false}", models=[INSTRUCT]
    )
    ((severity, sentence),) = findings(rules.chat_template, context)
    assert severity is Severity.WARNING
    assert (
        "evaluation.apply_chat_template: prompts get no chat template, and org/instruct" in sentence
    )


def test_a_merged_tokenizer_without_the_template_of_its_models_is_told(examine):
    parts = {"models": [INSTRUCT], "tokenizer": tiny_tokenizer()}
    ((_, sentence),) = findings(rules.chat_template, examine("[tiny_text]", **parts)[1])
    assert "the merged models' tokenizer has no chat template, so prompts get none" in sentence
    base = ModelFacts(name="org/base", tokenizer=None)
    assert not findings(rules.chat_template, examine("[tiny_text]", models=[base])[1])


TEXT = 'name: tiny_text, metric: "exact_match,whole"'


@pytest.fixture
def read(examine):
    """Findings where prompts are read with the tiny tokenizer by a model of some length."""

    def found(tasks, rest="", length=256):
        config = tiny_config("llama", max_position_embeddings=length)
        _, context = examine(tasks, rest, tokenizer=tiny_tokenizer(), config=config)
        about_texts = ("BOS", "does not give back")
        return [
            pair
            for pair in findings(tokenizer_and_texts, context)
            if not any(text in pair[1] for text in about_texts)
        ]

    return found


def test_prompts_that_the_model_cannot_read_whole_are_told(read):
    assert not read(f"[{{{TEXT}}}]")
    ((severity, sentence),) = read(f"[{{{TEXT}, num_fewshot: 5}}]", length=100)
    assert severity is Severity.WARNING
    assert "prompts of task 'tiny_text' do not fit the 100 tokens that the model reads" in sentence
    assert "with 12 tokens for the answer" in sentence


def test_an_answer_that_takes_all_the_room_is_an_error(read):
    ((severity, sentence),) = read(f"[{{{TEXT}}}]", "evaluation: {gen_kwargs: {max_gen_toks: 256}}")
    assert severity is Severity.ERROR
    assert sentence == (
        "evaluation.gen_kwargs: max_gen_toks 256 of task 'tiny_text' leaves no room for a prompt, "
        "the model reads 256 tokens. Set max_gen_toks below 256."
    )


def test_splits_after_the_search_leave_room_for_their_answers_too(read):
    rest = "evaluation: {gen_kwargs: {max_gen_toks: 256}}"
    for split in FINAL_SPLITS:
        ((severity, sentence),) = read("[tiny_choice]", f"{rest}\n{split}: [{{{TEXT}}}]")
        assert severity is Severity.ERROR
        assert "leaves no room for a prompt" in sentence


def test_prompts_that_cannot_be_built_are_an_error(read):
    ((severity, sentence),) = read("[{name: tiny_choice, num_fewshot: 9}]")
    assert severity is Severity.ERROR
    assert "the prompts of task 'tiny_choice' cannot be built" in sentence


def test_answers_that_are_no_options_are_told(read, define):
    define("no_answers", "doc_to_target: answer", "doc_to_target: answr")
    ((severity, sentence),) = read("[no_answers]")
    assert severity is Severity.WARNING
    assert sentence.startswith("the answer of 8 of the first 8 documents of task 'no_answers' is")
    assert not read("[tiny_choice]")


def test_facts_count_the_rows_of_a_trial(examine):
    group = "{name: tiny_group, metric: acc, limit: 5}"
    _, context = examine(f"[{group}, {{{TEXT}}}]")
    group, text = context.evaluators["tasks"].facts()
    assert (len(group.parts), group.n_documents, group.n_rows) == (2, 10, 5 * 4 + 5 * 3)
    assert (text.n_rows, text.max_new_tokens, text.parts[0].n_available) == (20, 12, 20)


def test_what_a_kind_knows_of_its_own_is_told_where_it_stands(examine):
    with with_echo():
        _, context = examine(f"[{{{TEXT}}}]", "holdout: [tiny_choice, {echo: {prompts: '2'}}]")
        (found,) = rules.told_by_kinds(context)
    assert str(found) == "holdout[1].echo.prompts: it only echoes. Ask something."


def test_tasks_that_teach_nothing_are_named_to_who_searches_by_gradient(examine, tmp_path):
    (tmp_path / "a.txt").write_text("the quick brown fox")
    tasks = f"[{{echo: all, weight: 2}}, tiny_choice, {{perplexity: {tmp_path / 'a.txt'}}}]"
    with with_echo():
        _, context = examine(tasks, "optimizer: {chain: [gradient, cma_es]}")
        (found,) = rules.lessons(context)
        assert (found.severity, found.problem.where) == (Severity.NOTE, "tasks[0]")
        assert found.problem.what == (
            "all is scored and teaches nothing: what would be right of it is not known, and "
            "gradient learns from the other tasks and its prompts alone"
        )
        _, context = examine(tasks, "optimizer: cma_es")
        assert [*rules.lessons(context)] == []


def test_a_mixture_is_no_folder_for_a_command(examine):
    task = "[{command: {run: [sh], model: folder, name: mine}}]"
    context = examine(task, "baselines: [models, mixture]", Permissions(code=True))[1]
    (found,) = rules.folders_of_mixtures(context)
    assert (found.severity, found.problem.where) == (Severity.WARNING, "tasks[0].command.model")
    assert "a mixture is several models" in found.problem.what
    context = examine(task.replace("folder", "server"), "baselines: [models, mixture]")[1]
    assert [*rules.folders_of_mixtures(context)] == []
