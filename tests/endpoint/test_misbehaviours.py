"""Servers that misbehave in 200 ways: no key comes back, no time is lost, the run goes on."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.endpoint.disguises import KEY
from tests.endpoint.leaks import leaks, plain_leaks
from tests.endpoint.misbehaviours import COSTLY, HOLDING, PROMPT
from tests.endpoint.sufferers import suffer
from tests.endpoint.wire import misbehaving

MARGIN = 15.0  # seconds beyond a limit, for what was read to be cleaned on a busy machine
LONG, SHORT = 20.0, 0.05  # seconds a request may take


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def suffered(tmp_path, caplog, capfd):
    """Plays a part for all that evomerge does, and gives what came of it, if it may be seen."""
    caplog.set_level(logging.DEBUG)

    def play(part, seconds, look=leaks):
        with misbehaving(part) as url:
            found = suffer(url, tmp_path / "run", seconds)
        texts = [*found.texts, caplog.text, *capfd.readouterr()]
        assert [found for text in texts for found in look(text, KEY)] == []
        late = {n: s for n, (s, allowed) in found.seconds.items() if s > allowed + MARGIN}
        assert late == {}
        assert (tmp_path / "run" / "optimizer" / "generation-0001.json").is_file()
        return found, "\n".join(texts)

    return play


# Whatever disguises a key, `tests/endpoint/test_secret.py` finds; each also comes by wire if asked.
AS = [name for name in PROMPT if name.startswith("the key as ")]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if i % 6 or (n in AS and AS.index(n) % 4) else ())
        for i, n in enumerate(PROMPT)
    ],
)
def test_whatever_a_server_says_no_key_is_kept_shown_or_raised(suffered, name):
    _, texts = suffered(PROMPT[name], LONG)
    assert "no answer within" not in texts  # else nothing but a time-out was tried


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if i % 3 else ()) for i, n in enumerate(HOLDING)],
)
def test_however_long_a_server_goes_on_each_limit_holds(suffered, name):
    found, texts = suffered(HOLDING[name], SHORT)
    assert "no answer within 0.05 seconds" in texts
    assert found.seconds["a probe"][0] >= SHORT  # it was the limit that ended it


@pytest.mark.slow
@pytest.mark.parametrize("name", COSTLY)
def test_what_is_costly_to_read_is_read_in_time_and_leaks_nothing(suffered, name):
    suffered(COSTLY[name], LONG, plain_leaks)


@pytest.mark.slow
def test_all_of_it_in_one_process_fills_no_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.endpoint.whole_table", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENAI_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["parts"] == len({**PROMPT, **HOLDING, **COSTLY}) > 200
    assert figures["peak_mib"] < 300
    assert figures["late"] == {}
    assert done.stderr == ""


def test_a_key_in_disguise_costs_the_reply_a_plain_one_only_itself(suffered, tmp_path):
    for name, is_fallback in (("the key, whole", False), ("the key as JSON escapes", True)):
        suffered(PROMPT[name], LONG)
        kept = json.loads((tmp_path / "run/optimizer/generation-0001.json").read_bytes())
        assert kept["is_fallback"] is is_fallback
        assert ("[key]" in kept["thought"]) is not is_fallback
        said = " ".join(attempt["problem"] for attempt in kept["attempts"])
        assert ("the answer holds the key in disguise" in said) is is_fallback
        (tmp_path / "run").rename(tmp_path / name)
