"""Gradient searches over texts that are written: by right answers, and by any program's score."""

from __future__ import annotations

import gzip
import json
import random
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.compiler.examine import compile_genome
from evomerge.compiler.start import search_for
from evomerge.foundations.errors import LedgerError, LostFileError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.nouns.events import TrialFinished
from evomerge.optimizers.gradient.training_section import training_of
from evomerge.run.recorded_run import load_run
from evomerge.training.exercises import Exercises
from tests.end_to_end.conftest import GENOME, WORDS, make_workplace
from tests.killed import history
from tests.shared_fixtures import own_dataset_cache  # noqa: F401  # a fixture that acts on its own
from tests.tiny_models import tiny_family

N_DOCUMENTS, N_BASELINES, N_TOKENS = 12, 4, 5
OPTIMIZER = "{name: gradient, epochs: 3, batch_size: 4, budget: 3, learning_rate: 0.1}"
TASK = """
task: tiny_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: {target}
process_results: !function judge.{name}
generation_kwargs: {{until: ["zz"], max_gen_toks: 5, do_sample: false}}
metric_list: [{{metric: {name}, aggregation: mean, higher_is_better: true}}]
"""
JUDGE = '''
def match(doc, results):
    return {"match": float(results[0].strip() == doc["target"])}


def vowels(doc, results):
    """The share of vowels; no likelihood, and nothing right to copy."""
    return {"vowels": sum(letter in "aeiou" for letter in results[0]) / max(len(results[0]), 1)}
'''


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writing")
    tiny_family(folder / "models", drift=0.1)
    return folder


@pytest.fixture(scope="module")
def rows(template):
    """Prompts with what the two models write, in turn."""
    drawn, found = random.Random(1), []
    tokenizer = AutoTokenizer.from_pretrained(template / "models" / "base")
    writers = [
        AutoModelForCausalLM.from_pretrained(template / "models" / name).eval()
        for name in ("model_1", "model_2")
    ]
    for index in range(N_DOCUMENTS):
        text = " ".join(drawn.sample(WORDS, 4))
        tokens = tokenizer(text).input_ids
        n_read = len(tokens)
        for _ in range(N_TOKENS):
            with torch.no_grad():
                tokens.append(
                    int(writers[index % 2](torch.tensor([tokens])).logits[0, -1].argmax())
                )
        target = tokenizer.decode(tokens[n_read:], skip_special_tokens=True).strip()
        found.append({"text": text, "target": target})
    return found


@pytest.fixture
def workplace(template, rows, tmp_path, monkeypatch):
    folder = make_workplace(template, tmp_path / "workplace")
    tasks = folder / "tasks"
    file = tasks / "written.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / "judge.py").write_text(JUDGE)
    for name, target in (("match", '"{{target}}"'), ("vowels", '""')):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, file=file, target=target))
    head, _, _ = GENOME.partition("  granularity:")
    head += "  granularity: tensor\n"
    rest = f"tasks: [tiny_match]\ntask_search_path: [tasks]\noptimizer: {OPTIMIZER}\n"
    rest += "baselines: [models, base, average]\n"
    (folder / "genome.yml").write_text(head + rest)
    monkeypatch.chdir(folder)
    return folder


def begin(folder, *overrides):
    genome, source = load_genome(folder / "genome.yml", overrides)
    compiled = compile_genome(genome, source, Permissions(), folder / "run")
    return search_for(compiled, folder / "run")


@pytest.fixture
def taught(monkeypatch):
    """What each epoch learned."""
    found, now = [], Exercises.now

    def watched(self):
        found.append(now(self))
        return found[-1]

    monkeypatch.setattr(Exercises, "now", watched)
    return found


def test_right_answers_are_learned_as_they_were_written(workplace, taught):
    search = begin(workplace)
    list(search.run())
    documents = [search.ledger.documents(trial) for trial in (0, 1)]  # of the two models
    right = [
        documents[0][i].written if documents[0][i].values["match,none"] else documents[1][i].written
        for i in range(N_DOCUMENTS)
        if documents[0][i].values["match,none"] or documents[1][i].values["match,none"]
    ]
    assert len(right) >= N_DOCUMENTS - 2  # a right answer to nearly all
    assert len(taught) == 3
    learned = [text.tokens[text.first :] for text in taught[0]["tiny_match"]]
    assert len(learned) == N_DOCUMENTS
    assert set(right) <= set(learned)
    epochs = training_of(load_run(workplace / "run"))
    best = [-epochs[0].lesson.to_beat, *(epoch.score for epoch in epochs if epoch.is_best)]
    assert best == sorted(best)


@pytest.mark.slow
def test_documents_that_are_gone_are_an_error_and_not_other_lessons(workplace):
    one, n_done = "optimizer.budget=1", 0
    search = begin(workplace, one)
    for event in search.run():
        n_done += isinstance(event, TrialFinished)
        if n_done == N_BASELINES:
            search.stop()
    file = workplace / "run" / "documents" / "trial-00000-tasks.jsonl.gz"
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(LostFileError, match=r"00000-tasks.*the documents of a trial are gone"):
        list(begin(workplace, one).run())
    bare = re.sub(rb',"written":\[[^]]*\]', b"", gzip.decompress(content))
    file.write_bytes(gzip.compress(bare))  # as an older version wrote them
    with pytest.raises(LedgerError, match="was recorded without the tokens"):
        list(begin(workplace, one).run())
    file.write_bytes(content)
    events = list(begin(workplace, one).run())
    assert [e.candidate.label for e in events if isinstance(e, TrialFinished)][-1] == "epoch 1"


@pytest.mark.slow
def test_tokens_are_kept_for_those_who_learn_from_them_and_a_fork_writes_them_anew(workplace):
    search = begin(workplace, "optimizer={name: random, budget: 1}")
    list(search.run())
    search.ledger.close()
    assert not [one for t in range(5) for one in search.ledger.documents(t) if one.written]
    genome, source = load_genome(workplace / "genome.yml", ["optimizer.budget=1"])
    compiled = compile_genome(genome, source, Permissions(), workplace / "run")
    forked = search_for(compiled, workplace / "run", workplace / "forked")
    list(forked.run())
    assert all(one.written for t in range(5) for one in forked.ledger.documents(t))


@pytest.mark.slow
def test_a_run_that_was_stopped_learns_the_same_texts(workplace):
    vowels = ("tasks=[tiny_vowels]",)
    list(begin(workplace, *vowels).run())
    expected = history(workplace / "run")
    (workplace / "run").rename(workplace / "whole")
    search, n_done = begin(workplace, *vowels), 0
    for event in search.run():
        n_done += isinstance(event, TrialFinished)
        if n_done == N_BASELINES + 2:
            search.stop()
    assert history(workplace / "run") != expected
    list(begin(workplace, *vowels).run())
    assert history(workplace / "run") == expected


def test_a_program_that_scores_texts_can_be_learned_from(workplace, taught):
    """There is no likelihood and no target: the best-scored answers so far are the text."""
    search = begin(workplace, "tasks=[tiny_vowels]")
    list(search.run())
    assert len(taught) == 3
    best: dict[int, tuple[float, list[tuple[int, ...]]]] = {}
    for trial in range(N_BASELINES + 3):
        if trial >= N_BASELINES:
            texts = taught[trial - N_BASELINES]["tiny_vowels"]
            learned = [text.tokens[text.first :] for text in texts]
            allowed = {tokens for _, known in best.values() for tokens in known}
            assert len(learned) > N_DOCUMENTS / 2
            assert set(learned) <= allowed
        for document in search.ledger.documents(trial):
            value, known = best.get(document.doc_id, (-1.0, []))
            mine = document.values["vowels,none"]
            if mine >= value:
                others = known if mine == value else []
                best[document.doc_id] = (mine, [*others, document.written])
    epochs = training_of(load_run(workplace / "run"))
    scores = [-epochs[0].lesson.to_beat, *(epoch.score for epoch in epochs if epoch.is_best)]
    assert scores == sorted(scores)
