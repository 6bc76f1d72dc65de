"""Many judgments, failing requests and a killed process: nothing is lost, nothing asked twice."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Event, Lock

import pytest

from evomerge.endpoint.chat import ChatAnswer, Endpoint
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.evaluators import EVALUATORS
from evomerge.evaluators.asking.asked import Message
from evomerge.evaluators.judge import remote_judge
from evomerge.evaluators.judge.asked_once import Request
from evomerge.evaluators.judge.kept_judgments import KeptJudgments, Remark, kept_in
from evomerge.evaluators.judge.remote_judge import RemoteJudge, RequestLimits
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import (
    EvaluationError,
    LedgerError,
    LostFileError,
    RunError,
    TrialTimeoutError,
)
from tests.scripted_llm import Script, completion, served
from tests.test_lifetime import comes

ASKED = [Request((Message("user", f"rate {number}"),)) for number in range(3)]


class Unreliable:
    """Of each text the first request fails in one of several ways, for one text in five.

    Attributes:
        answered: Text -> how often it was answered.
    """

    def __init__(self, count):
        self.failing = {one: random.Random(one).random() < 0.2 for one in range(count)}
        self.answered = Counter()
        self._lock = Lock()

    def __call__(self, text):
        number = int(text.split()[1])
        with self._lock:
            if self.failing.pop(number, False):
                return ((429, {}), (500, {}), (200, {"none": 1}), (503, b"<html>"))[number % 4]
            self.answered[text] += 1
        return (200, completion(f"[[{1 + number % 10}]]"))


def judge_at(url, kept, parallel=16):
    """A judge that forgets nothing, with so many requests at a time."""
    endpoint = Endpoint(url, "OPENAI_API_KEY", "m", {}, is_local=True)
    limits = RequestLimits(parallel, 4, 30.0)
    judge = RemoteJudge(["m"], lambda: endpoint, limits, "here")
    judge.keep_in(kept)
    return judge


@pytest.mark.parametrize("n_judgments", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_of_many_judgments_with_failures_none_is_lost_and_all_are_in_order(
    tmp_path, monkeypatch, n_judgments
):
    asked = [Request((Message("user", f"rate {number}"),)) for number in range(n_judgments)]
    monkeypatch.setattr(remote_judge, "FIRST_WAIT", 0.001)
    unreliable = Unreliable(n_judgments)
    assert 0.15 < sum(unreliable.failing.values()) / n_judgments < 0.25
    with served(Script(unreliable)) as url:
        kept = KeptJudgments(tmp_path)
        found = judge_at(url, kept).answers(asked, Deadline())
        assert [one.text for one in found] == [f"[[{1 + n % 10}]]" for n in range(n_judgments)]
        again = judge_at(url, KeptJudgments(tmp_path)).answers(asked[::-1], Deadline())
    assert again == found[::-1]
    assert set(unreliable.answered.values()) == {1}


ASKS_ALL = """
import sys
from pathlib import Path
from evomerge.evaluators.judge.kept_judgments import KeptJudgments
from evomerge.foundations.deadline import Deadline
from tests.judge.test_many_judgments import PARALLEL, judge_at, numbered
judge = judge_at(sys.argv[1], KeptJudgments(Path(sys.argv[2])), PARALLEL)
judge.answers(numbered(int(sys.argv[3])), Deadline())
"""
PARALLEL = 4


def numbered(count):
    return [Request((Message("user", f"rate {number}"),)) for number in range(count)]


class Halting:
    """Answers so many requests, and holds all others until they are let go.

    Attributes:
        answered: Text -> how often it was answered.
        most: Answers until it holds.
    """

    def __init__(self, most):
        self.answered, self.most, self.may_go = Counter(), most, Event()
        self._lock = Lock()

    def __call__(self, text):
        with self._lock:
            is_held = self.answered.total() >= self.most
            if not is_held:
                self.answered[text] += 1
        if is_held:
            self.may_go.wait()
        return (200, completion("[[7]]"))


@pytest.mark.parametrize(
    ("n_kills", "count"), [(1, 40), pytest.param(5, 600, marks=pytest.mark.slow)]
)
def test_a_kill_at_any_moment_has_no_judgment_that_came_asked_for_again(tmp_path, n_kills, count):
    halting, came = Halting(0), {}  # text -> how often it was answered until it came
    script = Script(halting)
    with served(script) as url:
        judge = judge_at(url, KeptJudgments(tmp_path), PARALLEL)
        texts = {judge._key(one): one.messages[0].content for one in numbered(count)}
        for number in range(n_kills):
            halting.most = count * (number + 1) // (n_kills + 1)
            command = [sys.executable, "-c", ASKS_ALL, url, str(tmp_path), str(count)]
            other = subprocess.Popen(command)
            assert comes(lambda: halting.answered.total() >= halting.most)
            assert other.poll() is None
            other.kill()  # the last answers may be on their way
            other.wait()
            known = KeptJudgments(tmp_path)
            known.refresh()
            for key, text in texts.items():
                if known.get(key) is not None:
                    came.setdefault(text, halting.answered[text])
        assert came
        halting.most = float("inf")
        found = judge.answers(numbered(count), Deadline())
        halting.may_go.set()
    assert [one.text for one in found] == ["[[7]]"] * count
    assert {text: halting.answered[text] for text in came} == came
    twice = {text for text, n in halting.answered.items() if n > 1}
    assert len(twice) <= n_kills * PARALLEL
    # A server that knows of such keys sees that it has answered these.
    assert all(len({*keys}) == 1 and all(keys) for keys in script.keys.values())
    assert any(len(keys) > 1 for keys in script.keys.values())  # which were held
    assert len({keys[0] for keys in script.keys.values()}) == count


@pytest.mark.parametrize(
    ("failures", "parts"),
    [
        ([None, (503, {}), (429, {})], {"0"}),
        ([(500, {}), (200, {"none": 1}), (504, {})], {"0", "1", "2"}),
    ],
)
def test_a_request_has_another_key_once_its_server_has_failed_it(monkeypatch, failures, parts):
    monkeypatch.setattr(remote_judge, "FIRST_WAIT", 0.001)
    script = Script(*failures, (200, completion("[[7]]")))
    with served(script) as url:
        judge_at(url, KeptJudgments()).answers(ASKED[:1], Deadline())
    keys = script.keys["rate 0"]
    assert len(keys) == 4
    assert {one.rpartition("-")[2] for one in keys} == parts
    assert len({one.rpartition("-")[0] for one in keys}) == 1


def test_a_failure_that_a_server_keeps_is_not_asked_for_by_a_later_command(tmp_path, monkeypatch):
    monkeypatch.setattr(remote_judge, "FIRST_WAIT", 0.001)
    script = Script((500, {}))
    with served(script) as url:
        for _ in range(2):
            judge_at(url, KeptJudgments(tmp_path)).answers(ASKED[:1], Deadline())
    assert len({*script.keys["rate 0"]}) == len(script.keys["rate 0"]) == 8


def test_each_run_has_keys_of_its_own_and_keeps_them(tmp_path):
    def key(run):
        return KeptJudgments(tmp_path / run).request_key("a")

    assert key("one") == key("one") != key("other")
    (tmp_path / "one" / "requests").write_text("\r\nEvil: 1\n")
    with pytest.raises(LedgerError, match="does not begin with the number of a run"):
        key("one")


def test_what_is_on_its_way_when_nobody_waits_any_more_is_not_asked_again(tmp_path):
    slow = Slow()
    with served(Script(slow)) as url, ThreadPoolExecutor(2) as pool:
        judge = judge_at(url, KeptJudgments(tmp_path))
        given_up = pool.submit(judge.answers, ASKED, Deadline())
        assert comes(lambda: slow.asked.total() == len(ASKED) or given_up.done())
        assert not given_up.done()
        while not given_up.done():
            judge.give_up()
        again = pool.submit(judge.answers, ASKED, Deadline())
        assert not wait([again], 0.3).done
        slow.may_answer.set()
        assert [one.text for one in again.result()] == ["[[7]]"] * len(ASKED)
    assert given_up.exception() is not None
    assert set(slow.asked.values()) == {1}


def test_what_is_on_its_way_when_a_trial_is_out_of_time_is_kept_and_asked_once(tmp_path):
    slow = Slow()
    with served(Script(slow)) as url, ThreadPoolExecutor(1) as pool:
        judge = judge_at(url, KeptJudgments(tmp_path))
        with pytest.raises(TrialTimeoutError):
            judge.answers(ASKED, Deadline(0.3))
        again = pool.submit(judge.answers, ASKED, Deadline())
        assert not wait([again], 0.3).done
        slow.may_answer.set()
        assert [one.text for one in again.result()] == ["[[7]]"] * len(ASKED)
    assert set(slow.asked.values()) == {1}


def test_what_a_late_answer_gave_back_as_it_was_asked_again_is_nobodys(tmp_path, monkeypatch):
    kept = KeptJudgments(tmp_path)
    judge, claim = judge_at("http://127.0.0.1:9/v1", kept), kept.claim
    key = judge._key(ASKED[0])
    judge._on_their_way = frozenset({key})  # of an earlier trial

    def late(keys):
        kept.keep(key, Remark("[[7]]"))
        return claim(keys)

    monkeypatch.setattr(kept, "claim", late)
    assert judge.answers(ASKED[:1], Deadline()) == [Remark("[[7]]")]
    assert claim({key}) == {key}


def test_a_judgment_is_on_the_disk_before_anybody_is_told_of_it(tmp_path, monkeypatch):
    kept, on_disk = KeptJudgments(tmp_path), []
    monkeypatch.setattr(os, "fsync", lambda handle: on_disk.append(os.fstat(handle).st_size))
    for key in "ab":
        kept.keep(key, Remark("one"))
        (file,) = tmp_path.glob("*.jsonl")
        assert on_disk[-1] == file.stat().st_size
    assert len(on_disk) == 2


def test_what_is_carried_is_on_the_disk_at_once(tmp_path, monkeypatch):
    old, on_disk = KeptJudgments(), []
    for key in "abc":
        old.keep(key, Remark(key))
    monkeypatch.setattr(os, "fsync", lambda handle: on_disk.append(os.fstat(handle).st_size))
    KeptJudgments(tmp_path).take(old)
    (file,) = tmp_path.glob("*.jsonl")
    assert on_disk == [file.stat().st_size]
    later = KeptJudgments(tmp_path)
    later.refresh()
    assert [later.get(key) for key in "abc"] == [*map(Remark, "abc")]


def test_a_line_that_a_kill_cut_off_is_asked_for_again_and_no_other(tmp_path):
    first, later = KeptJudgments(tmp_path), KeptJudgments(tmp_path)
    first.keep("a", Remark("one", "", 1, 2))
    first.keep("b", Remark("two\u2028\n"))
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    later.refresh()
    assert later.get("a") == Remark("one", "", 1, 2)
    assert later.get("b") is None
    file.write_bytes(whole)
    later.refresh()
    assert later.get("b") == Remark("two\u2028\n")


def test_a_line_that_a_full_disk_cut_off_spoils_no_other(tmp_path, monkeypatch):
    kept, written, room = KeptJudgments(tmp_path), os.write, [9]

    def full(handle, content):
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(handle, content[: room.pop()])

    kept.keep("a", Remark("one"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(LostFileError):
            kept.keep("b", Remark("two"))
    kept.keep("c", Remark("three"))
    later = KeptJudgments(tmp_path)
    later.refresh()
    assert [one.text for one in later.remarks] == ["one", "three"]


def test_what_is_known_moves_with_the_run_folder_and_to_a_fork(tmp_path):
    folder, fork = tmp_path / "run" / "judgments", tmp_path / "fork" / "judgments"
    kept = KeptJudgments()
    kept.keep("a", Remark("one"))
    shared = kept_in(folder)
    shared.take(kept)
    assert kept_in(folder) is shared
    EVALUATORS["judge"].carry(folder.parent, fork.parent)
    EVALUATORS["judge"].carry(tmp_path / "none", fork.parent)
    other = KeptJudgments(fork)
    other.refresh()
    assert other.get("a") == Remark("one")
    shutil.rmtree(folder)
    assert kept_in(folder).get("a") is None


@pytest.mark.parametrize("line", ["{", "[]", '{"key": "a"}', '{"key": "a", "text": 1}', "null"])
def test_a_damaged_file_is_named(tmp_path, line):
    (tmp_path / "1-x.jsonl").write_text(f"{line}\n")
    with pytest.raises(LedgerError, match=r"1-x\.jsonl: holds a line that is no judgment"):
        KeptJudgments(tmp_path).refresh()


def test_nobody_asks_a_server_before_it_wishes(monkeypatch):
    now, asked_at = [0.0], []

    class Hurried(remote_judge.Event):
        def wait(self, timeout=None):
            now[0] += timeout
            return super().wait(0)

    class Busy:
        def complete(self, messages, seconds, idempotency_key):
            asked_at.append(now[0])
            if len(asked_at) == 1:
                raise NoAnswerError("busy", wait=7.0)
            if len(asked_at) == 2:
                raise NoAnswerError("gone")
            return ChatAnswer("[[5]]")

    monkeypatch.setattr(remote_judge, "Event", Hurried)
    monkeypatch.setattr(remote_judge, "monotonic", lambda: now[0])
    judge = RemoteJudge(["m"], Busy, RequestLimits(1, 3, 30.0), "here")
    assert [one.text for one in judge.answers(ASKED[:2], Deadline())] == ["[[5]]"] * 2
    assert asked_at == [0.0, 7.0, 9.0, 9.0]  # as it wishes, then twice a second


def judging(failure, answered=True):
    """A judge that always fails so, once it has answered something."""

    class Failing:
        def complete(self, messages, seconds, idempotency_key):
            raise failure

    judge = RemoteJudge(["m"], Failing, RequestLimits(2, 1, 30.0), "here")
    kept = KeptJudgments()
    if answered:
        kept.keep("a", Remark("[[5]]"))
    judge.keep_in(kept)
    return judge


QUOTA = NoAnswerError("quota", wait=86400.0, status=429, cause="rate limit")
KEY = NoAnswerError("no key", may_pass=False, status=401, cause="key refused")
ODD = NoAnswerError("odd", may_pass=False, status=400, cause="HTTP status 400")
LATE = NoAnswerError("late", cause="time-out")
LONG = NoAnswerError("long", may_pass=False, is_too_long=True, cause="prompt too long")
MANY = [Request((Message("user", f"rate {number}"),)) for number in range(4)]


@pytest.mark.parametrize(
    ("failure", "asked", "answered"),
    [(QUOTA, MANY[:1], True), (KEY, MANY[:1], True), (ODD, MANY[:2], False), (LATE, MANY, True)],
)
def test_a_run_stops_where_nobody_judges_any_more(failure, asked, answered):
    wait = "; it asks to wait 86400 seconds, and 600 are waited for" if failure is QUOTA else ""
    told = rf"here: no judgment could be had \({failure.reason}{wait}\)"
    with pytest.raises(RunError, match=told):
        judging(failure, answered).answers(asked, Deadline())


@pytest.mark.parametrize(
    ("failure", "asked", "answered"),
    [
        (ODD, MANY, True),
        (ODD, MANY[:1], False),
        (ODD, [replace(MANY[0], repeat=n) for n in range(3)], False),
        (LATE, MANY[:3], True),
        (LONG, MANY, True),
        (LONG, MANY[:1], True),
    ],
)
def test_what_answers_may_have_caused_ends_no_run(failure, asked, answered):
    found = judging(failure, answered).answers(asked, Deadline())
    assert found == [Remark("", failure.cause)] * len(asked)


ASKS = """
import sys
from pathlib import Path
from evomerge.evaluators.judge.kept_judgments import KeptJudgments
from evomerge.foundations.deadline import Deadline
from tests.judge.test_many_judgments import ASKED, judge_at
judge = judge_at(sys.argv[1], KeptJudgments(Path(sys.argv[2])))
print([one.text for one in judge.answers(ASKED, Deadline())])
"""


class Slow:
    """Counts what it is asked, and answers when it may."""

    def __init__(self):
        self.asked, self.may_answer = Counter(), Event()
        self._lock = Lock()

    def __call__(self, text):
        with self._lock:
            self.asked[text] += 1
        assert self.may_answer.wait(60)
        return (200, completion("[[7]]"))


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_another_process_is_asking_is_waited_for_and_taken_over_if_it_dies(
    tmp_path, is_killed
):
    slow = Slow()
    with served(Script(slow)) as url:
        command = [sys.executable, "-c", ASKS, url, str(tmp_path)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert comes(lambda: slow.asked.total() == len(ASKED) or other.poll() is not None)
        assert other.poll() is None
        judge = judge_at(url, KeptJudgments(tmp_path))
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(judge.answers, ASKED, Deadline())
            assert not wait([found], 0.3).done  # it has asked nobody
            assert slow.asked.total() == len(ASKED)
            if is_killed:
                other.kill()
                # Its claims end one after the other.
                assert comes(lambda: slow.asked.total() > len(ASKED) or found.done())
                assert not found.done()
            slow.may_answer.set()
            assert [one.text for one in found.result()] == ["[[7]]"] * len(ASKED)
        told, _ = other.communicate()
    assert set(slow.asked.values()) == {2 if is_killed else 1}
    assert told == ("" if is_killed else f"{['[[7]]'] * len(ASKED)}\n")


def test_who_waits_for_another_process_can_be_given_up(tmp_path):
    kept = KeptJudgments(tmp_path)
    judge = judge_at("http://127.0.0.1:9/v1", kept)
    kept.claim = lambda keys: set()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(judge.answers, ASKED, Deadline())
        while not found.done():
            judge.give_up()
    assert isinstance(found.exception(), EvaluationError)
