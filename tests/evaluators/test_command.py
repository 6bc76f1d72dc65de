"""A program of the user's as judge: what it is told and prints, how it fails, what it leaves."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from evomerge.evaluators.asking import language_gate
from evomerge.evaluators.asking.asked import AskText, AskTokens
from evomerge.evaluators.built_model import BuiltModel
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.outside import openai_form
from evomerge.evaluators.outside.command_conversation import CommandConversation
from evomerge.evaluators.outside.model_server import Inquiry
from evomerge.evaluators.outside.replies import Withheld
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, GenomeError, RunError, TrialTimeoutError
from evomerge.foundations.permissions import Permissions
from evomerge.genome.load import load_genome
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.evaluators.ended_processes import has_gone

JUDGE = """
import beside, json, os, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(row):
    body = json.dumps({"prompt": row["prompt"], "max_tokens": 5}).encode()
    headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    url = os.environ["OPENAI_BASE_URL"] + "/completions"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        return json.load(answer)["choices"][0]["text"]

rows = [json.loads(line) for line in open(os.environ["EVOMERGE_DOCUMENTS"])]
with ThreadPoolExecutor(4) as pool:
    texts = list(pool.map(ask, rows))
print("judging")
print(json.dumps([{"score": len(text), "answer": text} for text in texts]))
"""
ROOT = Path(__file__).parents[2]
NEEDS_SETSID = pytest.mark.skipif(shutil.which("setsid") is None, reason="macOS has no setsid")
PROMPTS = ("one dog", "two", "three jugs", "four")


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    (tmp_path / "judge.py").write_text(JUDGE)
    (tmp_path / "beside.py").touch()
    rows = [{"prompt": text} for text in PROMPTS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)


def made(*given, allowed=True, places=()):
    return evaluator_for(
        [Task.model_validate(one) for one in given],
        EvaluationBlock(),
        ENGINES["transformers"],
        search_path=places,
        permissions=Permissions(code=allowed),
    )


def shell(script, **more):
    return {"command": {"run": ["sh", "-c", script], **more}}


JUDGED = {"command": {"run": [sys.executable, "judge.py"], "documents": "rows.jsonl"}}


def test_a_program_asks_the_model_and_its_scores_are_documents(
    live_model, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    evaluator = made({**JUDGED, "samples": [3, 0, 1]})
    (key,) = evaluator.prepare()
    found = evaluator.evaluate(live_model)
    assert str(key) == "command/score,none"
    assert [one.doc_id for one in found.documents] == [0, 1, 3]
    assert [one.values["score,none"] for one in found.documents] == [
        len(one.answer) for one in found.documents
    ]
    assert [one.prompt for one in found.samples] == [PROMPTS[0], PROMPTS[1], PROMPTS[3]]
    metric = found.metrics[0]
    assert (metric.n, metric.higher_is_better) == (3, True)
    assert metric.stderr is not None
    assert evaluator.evaluate(live_model) == found
    built = BuiltModel(model_folder, EvaluationBlock(), "cpu", 1)
    assert evaluator.score_folder(built, lambda share: None)[0] == found.documents


def test_of_a_reply_in_another_language_a_program_is_told_nothing(live_model, monkeypatch):
    plain = made(JUDGED)
    plain.prepare()
    replies = [one.answer for one in plain.evaluate(live_model).documents]
    monkeypatch.setattr(
        language_gate, "other_language", lambda text, wanted: "de" if text == replies[2] else None
    )
    gated = made({"command": {**JUDGED["command"], "language": "ja"}})
    gated.prepare()
    documents = gated.evaluate(live_model).documents
    assert [one.values["score,none"] for one in documents] == [
        0 if reply == replies[2] else len(reply) for reply in replies
    ]
    assert [one.values["in_language,none"] for one in documents] == [1, 1, 0, 1]
    assert documents[2].answer == f"{replies[2]} (in de, expected ja)"


def test_a_reply_that_is_withheld_says_so_in_the_form_of_the_api():
    def ask(asked):
        wanted = {AskTokens: ((1, 2, 3), 100), AskText: Withheld("", ())}
        return [wanted[type(one)] for one in asked]

    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    (choice,) = openai_form.chat(body, ask)["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "content_filter")


def test_replies_that_nobody_sees_cannot_be_held_to_a_language():
    with pytest.raises(GenomeError, match=r"of a model in a folder the program has replies"):
        made({"command": {"run": ["true"], "model": "folder", "language": "ja"}})


def test_clients_that_ask_at_a_time_get_their_own_answers():
    conversation = CommandConversation(
        "own", ["true"], None, wants_folder=False, sets_openai=True, check=list
    )
    conversation._waiting = [Inquiry(("a", "b")), Inquiry(("c",)), Inquiry(("d", "e"))]
    waiting = [*conversation._waiting]
    conversation._answer("ABCDE")
    assert [one.answers.result(0) for one in waiting] == ["AB", "C", "DE"]


def test_a_model_is_written_down_for_a_program_that_wants_its_folder(live_model, tmp_path):
    script = 'cp -r "$EVOMERGE_MODEL" kept && echo "$EVOMERGE_MODEL" > where && echo 0.5'
    evaluator = made(shell(script, model="folder"))
    evaluator.prepare()
    assert evaluator.evaluate(live_model).metrics[0].value == 0.5
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "kept")
    theirs = live_model.module.state_dict()
    assert all(theirs[name].equal(tensor) for name, tensor in kept.state_dict().items())
    assert (tmp_path / "kept" / "tokenizer.json").is_file()
    assert not Path((tmp_path / "where").read_text().strip()).exists()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo good", "sh printed 'good', expected JSON"),
        ("true", "sh printed nothing, expected JSON"),
        ("echo 0.5; echo broke >&2; exit 3", r"sh ended with exit status 3 \(broke\)"),
        ("kill -9 $$", "sh was ended by SIGKILL"),
        ("echo NaN", "score 0 is nan, expected a finite number"),
        ("echo '{\"accuracy\": 1}'", "score 0 is None, expected a number"),
        ("echo -1", r"score 0 is -1, outside \[0, inf\]"),
        ("yes", "sh printed more than 16 MiB, expected scores"),
        ('echo "$OPENAI_API_KEY"', r"sh printed '\*\*\*', expected JSON"),
        ('echo "$EVOMERGE_API_KEY" >&2; exit 1', r"exit status 1 \(\*\*\*\)"),
    ],
)
def test_a_program_that_fails_is_told(live_model, script, sentence):
    evaluator = made(shell(script, low=0, name="mine"))
    evaluator.prepare()
    with pytest.raises(EvaluationError, match=f"^mine: .*{sentence}"):
        evaluator.evaluate(live_model)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("echo 1", r"\./judge: it cannot be started \(.*Exec format error: './judge'\)\. Run it"),
        ("#!/nowhere/python\n", r"\./judge: it cannot be started \(.*No such file"),
    ],
)
def test_a_program_that_cannot_be_started_ends_the_run(live_model, tmp_path, content, sentence):
    (tmp_path / "judge").write_text(content)
    (tmp_path / "judge").chmod(0o755)
    evaluator = made({"command": {"run": ["./judge"]}})
    evaluator.prepare()
    with pytest.raises(RunError, match=sentence):
        evaluator.evaluate(live_model)


def test_a_byte_order_mark_and_lines_of_windows_are_no_part_of_what_is_printed(live_model):
    evaluator = made(shell(r"printf '\357\273\277[0.5]\r\n'"))
    evaluator.prepare()
    assert evaluator.evaluate(live_model).metrics[0].value == 0.5


@pytest.mark.parametrize(
    ("starter", "ending"),
    [
        ("", "sleep 600"),
        ("", "echo 1"),
        pytest.param("setsid", "echo 1", marks=NEEDS_SETSID),  # in a session of its own
    ],
)
def test_what_a_program_started_ends_with_it_and_it_ends_with_the_deadline(
    live_model, tmp_path, starter, ending
):
    child = "echo $$ > child; exec sleep 600"
    evaluator = made(
        shell(f"{starter} sh -c '{child}' & until [ -s child ]; do sleep 0.01; done; {ending}")
    )
    evaluator.prepare()
    if ending == "echo 1":
        assert evaluator.evaluate(live_model).metrics[0].value == 1.0
    else:
        with pytest.raises(TrialTimeoutError, match="took longer than 1 seconds"):
            evaluator.evaluate(live_model, Deadline(1.0))
    assert has_gone(int((tmp_path / "child").read_text()))


def test_the_users_own_key_stays_where_it_is_wanted(live_model, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    script = 'test "$OPENAI_API_KEY" = mine && test -n "$EVOMERGE_URL" && echo 1'
    evaluator = made(shell(script, sets_openai=False))
    evaluator.prepare()
    assert evaluator.evaluate(live_model).metrics[0].value == 1.0


def test_a_key_of_the_environment_that_a_program_returns_is_not_kept(live_model, monkeypatch):
    monkeypatch.setenv("MINE_API_KEY", "sk-SECRETSECRET123")
    texts = ", ".join(
        f'\\"{name}\\": \\"a $MINE_API_KEY\\"' for name in ("prompt", "answer", "target")
    )
    evaluator = made(shell(f'echo "{{\\"score\\": 1, {texts}}}"'))
    evaluator.prepare()
    found = evaluator.evaluate(live_model)
    assert found.documents[0].answer == "a [key]"
    shown = found.samples[0]
    assert (shown.prompt, shown.answer, shown.target) == ("a [key]",) * 3


def test_nothing_is_run_without_permission_and_all_mistakes_are_told(tmp_path):
    (tmp_path / "plain.sh").write_text("touch ran\n")
    with pytest.raises(GenomeError) as raised:
        made(
            {"command": ["sh", "plain.sh"]},
            {"command": ["./plain.sh"]},
            {"command": {"run": ["no-such-program"], "files": ["none"], "name": "b"}},
            {"command": {"run": ["python3", "gone.py"], "name": "c"}},
            {"command": {"run": ["python3", "package"], "name": "d"}},  # it may be a folder
            allowed=False,
        ).prepare()
    told = "\n".join(map(str, raised.value.problems))
    assert (
        "tasks[0].command: would run sh plain.sh, which needs permission. Add --allow-cod" in told
    )
    assert "tasks[1].command: './plain.sh' cannot be run. Make it executable" in told
    assert "tasks[2].command: there is no program 'no-such-program'" in told
    assert "tasks[2].command.files[0]: no file 'none'" in told
    assert "tasks[3].command: no file 'gone.py' for python3 to run. Mend" in told
    assert "no file 'package'" not in told
    assert not (tmp_path / "ran").exists()
    with pytest.raises(GenomeError, match="low 2 is not below high 1"):
        made(shell("true", low=2, high=1)).prepare()


def test_the_shipped_examples_of_a_function_and_a_program_judge_alike(live_model, monkeypatch):
    genome = load_genome(ROOT / "genomes" / "own-judges.yml")[0]
    monkeypatch.chdir(ROOT)
    function, program = genome.tasks[:2]
    rows = {"documents": program.given["documents"]}
    evaluator = made(
        {"python": {**function.given, **rows, "name": "sort"}, "limit": 5},
        {"command": {**program.given, "name": "reverse"}, "limit": 5},
        places=["examples/judges"],
    )
    evaluator.prepare()
    found = evaluator.evaluate(live_model)
    mine, theirs = ([d for d in found.documents if d.task == t] for t in ("sort", "reverse"))
    assert [one[1:] for one in mine] == [one[1:] for one in theirs]
    assert any(one.answer for one in mine)


def test_the_files_of_a_command_are_part_of_what_scores_stand_on(live_model, tmp_path):
    task = {"command": ["sh", "-c", "echo 1", "judge.py"]}
    before, again = made(task), made(task)
    (key,), _ = before.prepare(), again.prepare()
    (finding,) = before.findings()
    assert "its rows of forward passes are not counted" in str(finding)
    assert key.task == "sh -c echo 1 judge.py"
    assert before.identity() == again.identity()
    (tmp_path / "judge.py").write_text(JUDGE + "\n")
    after = made(task)
    after.prepare()
    assert before.identity() != after.identity()
    with pytest.raises(RunError, match=r"judge.py is not what it was when the run began"):
        before.evaluate(live_model)


REACHES = """
import os, socket
from urllib.parse import urlsplit
place = urlsplit(os.environ["EVOMERGE_URL"])
open("where", "w").write(f"{place.hostname} {place.port}")
socket.create_connection(("127.0.0.1", place.port), 5).close()
try:
    socket.create_connection(("127.0.0.2", place.port), 5)
except ConnectionRefusedError:
    print(1)
else:
    print(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine on Linux")
def test_the_server_is_on_loopback_alone_and_nobody_listens_once_the_trial_is_over(
    live_model, tmp_path
):
    task = {"command": {"run": [sys.executable, "-c", REACHES]}}
    found = made(task).evaluate(live_model)
    assert found.metrics[0].value == 1.0
    host, port = (tmp_path / "where").read_text().split()
    assert host == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 5)
