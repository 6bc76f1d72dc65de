"""Files that are not what a kind of task reads: a sentence each, whatever the kind."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.task_files import brief
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES

QUESTION = {"question": "two?", "choices": {"A": "one", "B": "two"}, "answer": "B"}
JUDGED = {"question_id": 1, "turns": ["say"], "category": "writing"}
PROMPT = {
    "name": "single-v1",
    "type": "single",
    "system_prompt": "",
    "prompt_template": "{question} {answer}",
    "output_format": "[[rating]]",
}
# Kind -> a row of its file, the key of it that is made wrong, and the task.
KINDS = {
    "choice": (QUESTION, "answer", {"file": "rows.jsonl"}),
    "abstain": (QUESTION, "question", {"file": "rows.jsonl"}),
    "exact": ({"question": "two?", "answer": "2"}, "answer", {"file": "rows.jsonl"}),
    "reward": ({"prompt": "say"}, "prompt", {"file": "rows.jsonl", "model": "org/none"}),
    "format": ({"prompt": "say"}, "prompt", {"file": "rows.jsonl"}),
    "perplexity": ({"text": "said"}, "text", {"file": "rows.jsonl"}),
    "divergence": ({"text": "said"}, "text", {"teachers": {"org/none": "rows.jsonl"}}),
    "judge": (JUDGED, "category", {"questions": "rows.jsonl", "prompts": "p.jsonl", "model": "m"}),
    "python": ({"any": 1}, None, {"run": "mine:f", "documents": "rows.jsonl"}),
    "command": ({"any": 1}, None, {"run": ["true"], "documents": "rows.jsonl"}),
}
WITH_TEXTS = [kind for kind, (_, key, _) in KINDS.items() if key]
SENTENCE = re.compile(r"tasks\[0\]\.(\w+)[\w./]*: .*'rows\.jsonl'.*[.?] [A-Z][^.]*.*\.", re.DOTALL)


def lines(*rows, end="\n"):
    return "".join(f"{json.dumps(row)}{end}" for row in rows).encode()


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_bytes(lines(PROMPT))
    Path("mine.py").write_text("def f(model, documents): ...\n")


def prepared(kind):
    task = Task.model_validate({kind: KINDS[kind][2]})
    permissions = Permissions(code=True)
    evaluator = evaluator_for(
        [task], EvaluationBlock(), ENGINES["transformers"], permissions=permissions
    )
    evaluator.prepare()
    return evaluator


def refused(kind):
    with pytest.raises(GenomeError) as raised:
        prepared(kind)
    told = [str(one) for one in raised.value.problems]
    assert all(SENTENCE.fullmatch(one)[1] == kind for one in told), told
    return told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lines, id="as it should be"),
        pytest.param(lambda row: b"\xef\xbb\xbf" + lines(row), id="byte order mark"),
        pytest.param(lambda row: lines(row, end="\r\n") + b"\r\n", id="lines of Windows"),
        pytest.param(lambda row: lines(row).rstrip(), id="last line open"),
    ],
)
def test_a_file_is_read_however_an_editor_leaves_it(kind, content):
    Path("rows.jsonl").write_bytes(content(KINDS[kind][0]))
    (contents,) = prepared(kind).contents()
    assert len(contents.documents) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no file"),
        (b"\xe9\n", "line 1 of 'rows.jsonl' is no text in UTF-8"),
        (b"\xef\xbb\xbf\n\n\xff\n", "line 3 of 'rows.jsonl' is no text in UTF-8"),
        (b"\n\0", "line 2 of 'rows.jsonl' holds zero bytes"),
        (b"{oops\n", "line 1 of 'rows.jsonl' is no JSON"),
        (b"[" * 100_000, "line 1 of 'rows.jsonl' is no JSON"),
    ],
)
def test_what_is_no_file_of_rows_is_told_with_its_line(kind, content, told):
    if content is not None:
        Path("rows.jsonl").write_bytes(content)
    (only,) = refused(kind)
    assert told in only


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("make", "told"), [(os.mkdir, "is a folder"), (os.mkfifo, "is a FIFO")], ids=["folder", "FIFO"]
)
def test_what_is_no_file_is_told_and_not_waited_for(kind, make, told):
    make("rows.jsonl")
    (only,) = refused(kind)
    assert told in only


@pytest.mark.parametrize("kind", WITH_TEXTS)
@pytest.mark.parametrize(
    ("given", "got"), [(7, "got 7, "), (None, "got None, "), (" ", "got ' ', ")]
)
def test_a_value_that_is_no_text_is_told_with_what_it_is(kind, given, got):
    row, key, _ = KINDS[kind]
    Path("rows.jsonl").write_bytes(lines({**row, key: given}))
    (only,) = refused(kind)
    assert f"line 1 of 'rows.jsonl' has no text under '{key}'" in only
    assert got in only


@pytest.mark.parametrize("kind", WITH_TEXTS)
def test_rows_without_their_key_are_told_all_at_once_with_the_keys_they_have(kind):
    row, key, _ = KINDS[kind]
    wrong = {(f"{key}s" if name == key else name): value for name, value in row.items()}
    rows = [{**wrong, **({"question_id": n} if kind == "judge" else {})} for n in range(2, 41)]
    Path("rows.jsonl").write_bytes(lines(row, *rows) + b"{oops\n")
    with pytest.raises(GenomeError) as raised:
        prepared(kind)
    first, *others, last = map(str, raised.value.problems)
    assert f"line 2 of 'rows.jsonl' has no text under '{key}'; did you mean '{key}s'?" in first
    assert f"{key}s" in first.partition("(it has: ")[2]
    assert len(others) == 9
    assert "30 more rows of the same file cannot be read either" in last  # one of them no JSON


@pytest.mark.parametrize("kind", WITH_TEXTS)
def test_half_of_a_character_is_no_text(kind):
    row, key, _ = KINDS[kind]
    Path("rows.jsonl").write_bytes(lines({**row, key: "a\ud800"}))
    (only,) = refused(kind)
    assert "line 1 of 'rows.jsonl' holds half of a character" in only


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"\n \r\n"], ids=["empty", "blank lines"])
def test_a_file_without_a_row_is_no_task(kind, content):
    Path("rows.jsonl").write_bytes(content)
    with pytest.raises(GenomeError) as raised:
        prepared(kind)
    (only,) = map(str, raised.value.problems)
    assert re.search(rf"tasks\[0\]\.{kind}.*: .*(no document|holds no text)", only)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([QUESTION], "'set.json' holds [{'question': 'two?', 'choices': {'A': 'one', 'B': "),
        ({"dev": [QUESTION], "icl_prompt": ["a"]}, "icl_prompt of 'set.json' is ['a'], expected a"),
        ({"dev": {"a": QUESTION}}, "'set.json' has no list 'dev' (it has: none)"),
    ],
)
def test_what_is_no_file_of_lists_is_told(content, told):
    Path("set.json").write_text(json.dumps(content))
    task = Task.model_validate({"choice": "set.json"})
    with pytest.raises(GenomeError) as raised:
        evaluator_for([task], EvaluationBlock(), ENGINES["transformers"]).prepare()
    assert told in str(raised.value)


def test_a_number_that_python_does_not_write_is_told_without_it():
    assert "too long to be written" in brief([10**5000])
