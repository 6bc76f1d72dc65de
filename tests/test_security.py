"""What a stranger's files can do: be read, or be refused; see docs/security.md."""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evomerge.cli.main import main
from evomerge.compiler.file_mistakes import genome_of
from evomerge.evaluators import KEEPS
from evomerge.evaluators.lm_eval import LmEval
from evomerge.evaluators.lm_eval.isolation import CODE_EVAL, inside_lm_eval
from evomerge.foundations.errors import (
    GenomeError,
    LedgerError,
    MergeError,
    ModelError,
    OccupiedError,
    Problem,
)
from evomerge.foundations.files import write_atomic
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome, read_source
from evomerge.genome.model_names import ModelName
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from evomerge.merging.build import build
from evomerge.merging.pickled import refuse_pickles
from evomerge.merging.resident import ResidentMerger
from evomerge.models.inspect import read_model
from evomerge.recipe.plain import Recipe
from evomerge.report.exporting import Export, exports
from evomerge.report.page import report_html
from evomerge.run.chosen import winners_of
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder, refuse_of_run
from evomerge.run.recorded_run import load_run
from tests.end_to_end.conftest import _template, evomerge, workplace  # noqa: F401  # fixtures
from tests.evaluators.tiny_tasks import write_tasks
from tests.recorded_runs import record_run
from tests.syntax_trees import PACKAGE, trees
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[1]
SMALL = "genome: {models: [a, b], merge_method: linear}\ntasks: [x]\n"
MEMORY = 2 << 30  # bytes a reader may take for a bomb, Python and numpy included


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run."""
    record_run(folder := tmp_path_factory.mktemp("finished") / "run")
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def printed(*arguments: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main.main([str(argument) for argument in arguments], standalone_mode=False)
    return out.getvalue()


def renamed(folder: Path, name: str) -> Path:
    """The run folder with another name for its first task, as a stranger could write it."""
    text = folder.joinpath("ledger.jsonl").read_text()
    folder.joinpath("ledger.jsonl").write_text(text.replace('"sort_search"', json.dumps(name)))
    text = folder.joinpath("genome.yml").read_text()
    folder.joinpath("genome.yml").write_text(text.replace("sort_search", json.dumps(name)))
    return folder


def edited_best(folder: Path, **changes: object) -> Path:
    best = folder / "best.yml"
    best.write_text(yaml.safe_dump({**yaml.safe_load(best.read_text()), **changes}))
    return best


# YAML


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch MARK']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/new:subprocess.Popen [[touch, MARK]]",
        "!function MARK.run",
    ],
)
def test_a_tag_makes_no_object(tmp_path, value):
    mark, file = tmp_path / "mark", tmp_path / "g.yml"
    value = value.replace("MARK", str(mark))
    file.write_text(f"{SMALL}evaluation:\n  system_instruction: {value}\n")
    with pytest.raises(GenomeError, match=r"tag '.*' is not read"):
        load_genome(file)
    file.write_text(SMALL)
    with pytest.raises(GenomeError, match=r"--set .*tag '.*' is not read"):
        load_genome(file, [f"run_dir={value}"])
    file.write_text(f"evomerge_best: {value}\n")
    with pytest.raises(GenomeError, match=r"tag '.*' is not read"):
        winners_of(file)
    assert not mark.exists()


LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
BOMBS = {
    "aliases of aliases": LAUGHS.encode(),
    "one long text many times": f"a: &a {'x' * 400_000}\nb: [{'*a, ' * 90_000}]".encode(),
    "an alias of itself": b"a: &a [*a, *a]",
    "lists in lists": b"[" * 200_000,
    "mappings in mappings": b"{a: " * 50_000,
    "blocks in blocks": b"- " * 100_000,
    "base 60": b"a: 1" + b":59" * 300_000,
    "hexadecimal": b"a: 0x" + b"f" * 900_000,
    "decimal": b"a: " + b"9" * 900_000,
}
READ_BOMBS = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
from evomerge.foundations.errors import EvomergeError
from evomerge.genome.load import load_genome
from evomerge.genome.model_names import ModelName
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.ledger.kept_documents import read_documents
for file in sorted(Path(sys.argv[2]).iterdir()):
    read = load_genome if file.suffix == ".yml" else read_documents
    if file.is_dir():
        read = lambda folder: Ledger.open(RunFolder(folder), read_only=True)
    try:
        read(file)
    except EvomergeError as error:
        print(file.name, error)
"""


@pytest.mark.slow
def test_bombs_end_in_sentences_within_bounded_memory(tmp_path):
    for name, content in BOMBS.items():
        (tmp_path / f"{name}.yml").write_bytes(content)
    zeros = io.BytesIO()
    with gzip.open(zeros, "wb", compresslevel=1) as file:
        for _ in range(260):
            file.write(bytes(1 << 20))
    (tmp_path / "documents.gz").write_bytes(zeros.getvalue())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.jsonl").write_bytes(b"[" * 900_000 + b"\n{}\n")
    done = subprocess.run(
        [sys.executable, "-c", READ_BOMBS, str(MEMORY), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(BOMBS) + 2, done.stdout
    assert "bytes unpacked" in said[-2] or "bytes unpacked" in done.stdout


def test_a_pipe_in_place_of_a_genome_is_not_waited_for(run):
    (run / "genome.yml").unlink()
    os.mkfifo(run / "genome.yml")
    with pytest.raises(GenomeError, match="is a FIFO, expected a regular file"):
        load_genome(run / "genome.yml")
    with pytest.raises(LedgerError, match=r"genome.yml: is a FIFO; a run holds files only"):
        load_run(run)


# Writing elsewhere


WRITTEN = [
    "genome.yml", "ledger.jsonl", "best.yml", "report.html", "run.svg", "log.txt",
    "study.journal", ".lock", ".lock-owner", "documents", "front",
]  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_is_written_through_a_link_in_a_run_folder(run, tmp_path, name):
    target, link = tmp_path / "target", run / name
    if link.is_dir():
        shutil.move(link, target)
    elif link.exists():
        target.write_bytes(link.read_bytes())
        link.unlink()
    else:
        target.write_text("mine")
    before = target.read_bytes() if target.is_file() else sorted(target.iterdir())
    link.symlink_to(target)
    with pytest.raises(LedgerError, match=f"{name}: is a symbolic link; .* Remove it"):
        Ledger.open(RunFolder(run))
    if name != "ledger.jsonl":
        (run / "ledger.jsonl").unlink()
    with pytest.raises(LedgerError, match=f"{name}: is a symbolic link"):
        Ledger.create(RunFolder(run), {}, "genome: {}\n")
    assert (target.read_bytes() if target.is_file() else sorted(target.iterdir())) == before


def test_a_link_among_the_documents_is_seen_too(run, tmp_path):
    (run / "documents" / "trial-00000-tasks.jsonl.gz").unlink(missing_ok=True)
    (run / "documents" / "trial-00000-tasks.jsonl.gz").symlink_to(tmp_path / "target")
    with pytest.raises(LedgerError, match="is a symbolic link"):
        Ledger.open(RunFolder(run))


@pytest.mark.parametrize("folder", KEEPS.values())
def test_a_link_among_what_tasks_keep_is_seen_and_nobody_writes_there(run, tmp_path, folder):
    (run / folder / "deep").mkdir(parents=True)
    with pytest.raises(OccupiedError, match="belongs to a run"):
        refuse_of_run(run / folder / "deep" / "kept")
    (run / folder / "deep" / "kept").symlink_to(tmp_path / "target")
    with pytest.raises(LedgerError, match="is a symbolic link"):
        Ledger.open(RunFolder(run))


def test_a_file_is_replaced_and_never_written_through(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "link", "theirs")
    assert (tmp_path / "target").read_text() == "mine"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("trial", {"id": "../../x"}),
        ("trial", {"id": -1}),
        ("trial", {"digest": "../../x"}),
        ("final", {"split": "../../x"}),
        ("final", {"id": 4711}),
        ("known", {"digest": "../../x"}),
        ("header", {"device": "--help"}),
        ("header", {"threads": "2; touch x"}),
        ("header", {"merge_seed": -1}),
        ("execute", {}),
    ],
)
def test_names_of_files_in_a_ledger_are_checked(run, kind, change):
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    at = next((i for i, line in enumerate(lines) if line["kind"] == kind), 1)
    lines[at] = {**lines[at], "kind": kind, **change}
    (run / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(LedgerError, match=rf"line {at + 1} is not"):
        load_run(run)


@pytest.mark.parametrize(
    "change",
    [
        {"trial": "../../x"},
        {"trial": 10**12},
        {"device": "--lora-merge-cache"},
        {"threads": 10**9},
        {"merge_seed": "$(touch x)"},
        {"genome": "a\nmerge_method: slerp"},
        {"versions": {"torch": "2\nmodels: []"}},
        {"recipe": ["x"]},
        {"recipe": {"merge_method": {}}},
    ],
)
def test_values_of_a_best_file_are_checked(run, change):
    with pytest.raises(LedgerError, match=next(iter(change))):
        winners_of(edited_best(run, **change))


def test_no_name_adds_a_line_to_an_exported_recipe(run):
    (one,) = exports(winners_of(run))
    evil = "x\nmerge_method: passthrough\n\u2028base_model: evil\r\nmodels: []"
    content = {
        **one.content,
        "genome": evil,
        "origin": evil,
        "device": evil,
        "versions": {evil: evil},
        "objective": {evil: next(iter(one.content["objective"].values()))},
    }
    text = Export(content).to_yaml(recipe_file=evil, out=evil)
    assert yaml.safe_load(text) == dict(one.recipe.config)


# What people see


def test_a_message_holds_nothing_that_a_terminal_obeys():
    problem = Problem("a \x1b[2J b \x9b31m c \u202e d \r e", "\x1b]0;x\x07", "f\x08")
    assert str(problem) == "␛]0;x␇: a ␛[2J b \ufffd31m c \ufffd d ␍ e. f␈"
    assert len(str(Problem("x" * 10_000))) < 1000


@pytest.mark.parametrize("character", ["\\e[31m", "\\x9b", "\\0", "\\u202e", "\\ud800"])
def test_a_genome_with_a_control_character_is_refused(tmp_path, character):
    file = tmp_path / "g.yml"
    file.write_text(f'{SMALL}run_dir: "a{character}b"\n')
    with pytest.raises(GenomeError, match=r"g.yml:3: run_dir: holds the character '.*'. Remove"):
        load_genome(file)


def test_failures_and_answers_are_shown_harmless(run):
    ledger = run / "ledger.jsonl"
    evil = json.dumps("merge: \x1b[2J\x9b31m [bold]no[/x] \u202e")[1:-1]
    ledger.write_text(ledger.read_text().replace("merge: weights <sum> to nothing", evil))
    out = printed("show", run, "--failed")
    assert "merge: ␛[2J" in out
    assert "[bold]no[/x]" in out
    assert not set(out) & set("\x1b\x9b\u202e")


def test_a_name_that_looks_like_markup_is_shown_as_it_is(run, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert "[/red]" in printed("show", renamed(run, "[/red]"))
    record_run(tmp_path / "front", objective="per_task", optimizer="nsga2")
    assert "[/red]" in printed("show", renamed(tmp_path / "front", "[/red]"))


def test_a_name_in_a_report_is_text(run):
    evil = '<script>alert("x")</script>'
    page = report_html(load_run(renamed(run, evil)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


# Code in models


class Evil:
    """Pickled, it is a command that runs when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def pickled(tmp_path) -> Path:
    """A model with its weights in a pickle file only."""
    model = tiny_model(tmp_path / "pickled")
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return model


def parent(model: Path | str) -> Recipe:
    return Recipe({"merge_method": "passthrough", "models": [{"model": str(model)}]})


def test_pickled_weights_are_read_only_if_allowed_by_name(pickled, tmp_path):
    message = r"in a pickle file \(pytorch_model.bin\).* allow it with --allow-pickle"
    with pytest.raises(ModelError, match=message):
        ResidentMerger().merge(parent(pickled))
    with pytest.raises(ModelError, match=message):
        ResidentMerger(allow_pickle={"another"}).merge(parent(pickled))
    with pytest.raises(ModelError, match=message):
        build(parent(pickled), tmp_path / "out")
    assert ResidentMerger(allow_pickle={str(pickled)}).merge(parent(pickled)).module


def test_a_pickle_that_was_allowed_still_runs_nothing(pickled, tmp_path):
    mark = tmp_path / "mark"
    torch.save({"model.norm.weight": Evil(mark)}, pickled / "pytorch_model.bin")
    with pytest.raises(MergeError, match="Weights only load failed"):
        ResidentMerger(allow_pickle={str(pickled)}).merge(parent(pickled))
    assert not mark.exists()


def test_a_pickled_adapter_is_refused_beside_a_sound_model(tmp_path):
    model = tiny_model(tmp_path / "model")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    torch.save({}, adapter / "adapter_model.bin")
    (adapter / "decoy.safetensors").touch()
    recipe = parent(f"{model}+{adapter}")
    with pytest.raises(ModelError, match=r"adapter has weights .*\(adapter_model.bin\)"):
        refuse_pickles(recipe, {str(model)})
    refuse_pickles(recipe, {str(adapter)})
    refuse_pickles(recipe, {f"{model}+{adapter}"})


def test_an_index_of_safetensors_that_names_a_pickle_is_refused(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "model.safetensors").rename(model / "weights.bin")
    index = {"weight_map": {"model.norm.weight": "weights.bin"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"\(weights.bin\)"):
        refuse_pickles(parent(model), ())


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize("shard", ["../x", "/x", "a/../../x", "below/x", "..", "", "a\\x", "../\0"])
def test_shards_elsewhere_are_refused_and_not_read(tmp_path, index, shard):
    model = tiny_model(tmp_path / "model")
    shutil.copy(model / "model.safetensors", tmp_path / "x")
    (model / "model.safetensors").unlink()
    (model / index).write_text(json.dumps({"weight_map": {"model.norm.weight": shard}}))
    with pytest.raises(ModelError, match=rf"{index} cannot be read \(it names .* own folder"):
        refuse_pickles(parent(model), {str(model)})
    facts = read_model(ModelName(path=str(model)), may_unpickle=True)
    assert not facts.tensors
    assert shard in facts.missing or shard in facts.broken


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, "\0"])
def test_an_index_that_is_none_is_a_sentence(tmp_path, content):
    model = tiny_model(tmp_path / "model")
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"cannot be read \(it is no index of weights"):
        refuse_pickles(parent(model), ())


def test_an_adapter_that_imports_a_module_is_refused(tmp_path):
    model = tiny_model(tmp_path / "model")
    (model / "adapter_config.json").write_text('{"megatron_config": {"a": 1}}')
    with pytest.raises(ModelError, match="megatron_config, which imports the module it names"):
        refuse_pickles(parent(model), ())


def test_code_of_a_model_is_not_run(tmp_path):
    model, mark = tiny_model(tmp_path / "model"), tmp_path / "mark"
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(MergeError, match="trust_remote_code"):
        ResidentMerger().merge(parent(model))
    assert not mark.exists()


def transplant(model, tokens):
    said = {"model": str(model), "tokenizer_source": str(tokens), "approximation_method": "zero"}
    return Recipe({"merges": [], "transplant": said})


@pytest.mark.parametrize("which", [0, 1], ids=["model", "tokens"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "evil.T"]}}),
        ("config.json", {"auto_map": {"AutoTokenizer": [None, "evil.T"]}}),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
    ],
    ids=["tokenizer", "config", "other config"],
)
def test_code_of_a_tokenizer_is_not_run_by_a_command_that_trusts_it(
    name, settings, which, tmp_path
):
    models, mark = [tiny_model(tmp_path / "one"), tiny_model(tmp_path / "two")], tmp_path / "mark"
    file = models[which] / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    (models[which] / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    with pytest.raises(ModelError, match="would run unasked") as refused:
        build(transplant(*models), tmp_path / "out")
    assert not mark.exists()
    assert str(models[which]) in str(refused.value)


def test_pickled_weights_beside_tokens_are_refused_where_they_are_read(pickled, tmp_path):
    sound = tiny_model(tmp_path / "sound")
    with pytest.raises(ModelError, match="has weights in a pickle file"):
        refuse_pickles(transplant(sound, pickled), ())
    refuse_pickles(transplant(sound, pickled), {str(pickled)})


# Code in tasks


def test_a_task_that_runs_what_a_model_wrote_needs_the_flag(tmp_path):
    write_tasks(tmp_path)
    file = tmp_path / "text.yaml"
    file.write_text(f"{file.read_text()}unsafe_code: true\n")

    def evaluator(permissions: Permissions) -> LmEval:
        search_path = [str(tmp_path)]
        tasks = [Task(name="tiny_text", metric="exact_match,whole")]
        return LmEval(
            tasks,
            EvaluationBlock(),
            ENGINES["transformers"],
            search_path=search_path,
            permissions=permissions,
        )

    with pytest.raises(GenomeError, match=r"runs code .* Add --confirm-run-unsafe"):
        evaluator(Permissions()).prepare()
    assert evaluator(Permissions(unsafe_code=True)).prepare()


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_metrics_may_run_code_only_with_the_flag_whatever_the_environment_says(monkeypatch, before):
    monkeypatch.delenv(CODE_EVAL, raising=False)
    if before is not None:
        monkeypatch.setenv(CODE_EVAL, before)
    with inside_lm_eval():
        assert CODE_EVAL not in os.environ
    with inside_lm_eval(unsafe_code=True):
        assert os.environ[CODE_EVAL] == "1"
    assert os.environ.get(CODE_EVAL) == before


@pytest.mark.parametrize(
    "key", ["trust_remote_code", "allow_pickle", "confirm_run_unsafe_code", "unsafe_code"]
)
@pytest.mark.parametrize("place", ["", "evaluation.", "execution.", "tasks[0]."])
def test_no_file_can_grant_a_permission(tmp_path, key, place):
    file = tmp_path / "g.yml"
    file.write_text("genome: {models: [a, b], merge_method: linear}\ntasks: [{name: x}]\n")
    with pytest.raises(GenomeError, match=f"unknown key '{key}'"):
        genome_of(read_source(file, [f"{place}{key}=true"]))


# Secrets


@pytest.mark.slow
def test_no_key_of_the_environment_is_written_or_shown(workplace, evomerge):  # noqa: F811  # fixtures
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY")
    canaries = {name: f"hf_canary{i}{'x' * 30}" for i, name in enumerate(names)}
    shown = [
        evomerge("run", "genome.yml", "--set", "optimizer.budget=2", **canaries),
        evomerge("export", "runs/genome", "-o", "recipe.yml", **canaries),
        evomerge("show", "runs/genome", "--json", **canaries),
        evomerge("run", "genome.yml", "--set", "tasks=[nothing]", exit_code=2, **canaries),
    ]
    written = [path for path in workplace.rglob("*") if path.suffix != ".safetensors"]
    assert any(path.name == "log.txt" for path in written)
    texts = [path.read_bytes() for path in written if path.is_file()]
    texts += [gzip.decompress(path.read_bytes()) for path in written if path.suffix == ".gz"]
    texts += [f"{one.stdout}{one.stderr}".encode() for one in shown]
    assert not [text for text in texts if b"canary" in text]


# The code itself


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


@cache
def all_calls() -> list[tuple[ast.Call, str]]:
    """Of the whole package, each with what is called."""
    every = (call for tree in trees().values() for call in calls(tree))
    return [(call, ast.unparse(call.func)) for call in every]


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), "")


def test_nothing_runs_text_as_code():
    wrong = []
    for call, name in all_calls():
        runs = name in {"eval", "exec", "__import__", "compile", "os.system", "os.popen"}
        runs |= name.startswith(("pickle.", "marshal.", "shelve.", "dill."))
        runs |= name in {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all"}
        starts = name.startswith(("subprocess.", "os.exec", "os.spawn"))
        runs |= starts and "shell=" in ast.unparse(call)
        runs |= name == "torch.load" and keyword(call, "weights_only") != "True"
        runs |= name in {"np.load", "numpy.load"} and keyword(call, "allow_pickle") not in (
            "",
            "False",
        )
        wrong += [ast.unparse(call)] if runs else []
    assert wrong == []


def test_remote_code_is_trusted_only_where_a_person_said_so():
    """The value is handed on under its own name, from the flags of the command line down."""
    wrong = []
    for call, name in all_calls():
        value = keyword(call, "trust_remote_code")
        is_handed_on = not value or value == "False" or value.endswith("trust_remote_code")
        is_opened = re.match(r"Auto\w+\.from_pretrained$", name)
        has_options = any(given.arg is None for given in call.keywords)
        if not is_handed_on or (is_opened and not value and not has_options):
            wrong.append(ast.unparse(call))  # without a value transformers asks on the terminal
    assert wrong == []


def test_permissions_are_made_of_flags_alone():
    """No module but the one of the command line's arguments makes a permission."""
    with_values = {
        file.relative_to(PACKAGE).as_posix()
        for file, tree in trees().items()
        for call in calls(tree)
        if ast.unparse(call.func) == "Permissions" and (call.args or call.keywords)
    }
    assert with_values == {"cli/arguments.py"}
    assert Permissions() == Permissions(False, frozenset(), False)
