"""Keys of the environment in texts that are shown or kept."""

from __future__ import annotations

import logging
import os

import pytest
from rich.console import Console

from evomerge.cli.event_lines import LineView
from evomerge.cli.live import LiveView
from evomerge.cli.progress import Progress
from evomerge.foundations.errors import EvaluationError
from evomerge.foundations.library_log import kept_log, log_to
from evomerge.foundations.secret import WITHHELD, without_keys
from evomerge.nouns.events import Notice, Warned

KEY = "sk-live-4f9A2c7eB81d"


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "API_KEY_2",
        "TOKEN3",
        "HF_TOKEN",
        "GITHUB_PAT",
        "aws_secret_access_key",
        "DB_PASSWORD",
        "CLIENT_SECRET",
        "FLASK_SECRET_KEY",
    ],
)
def test_a_key_is_cut_out_whatever_holds_it(monkeypatch, name):
    text = f"401: {KEY} is refused"
    assert without_keys(text) == text
    monkeypatch.setenv(name, KEY)
    assert without_keys(text) == "401: [key] is refused"
    assert str(EvaluationError(text, fix=f"Drop {KEY}.")) == "401: [key] is refused. Drop [key]."


@pytest.mark.parametrize(
    "value",
    [
        "EMPTY",
        "",
        "sk-1234567",
        "123456789012345",
        "localhost-model",
        "sk-no-key-required",
        "Correct Horse Battery 9",
        '{"type": "service_account", "auth_uri": "https://accounts.example/o/oauth2/auth"}',
        "https://keys.example/1",
    ],
)
def test_words_and_the_like_are_no_keys(monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    text = f"an EMPTY answer from https://hub.example/localhost/model, {value}"
    assert without_keys(text) == text


@pytest.mark.parametrize("name", ["CACHE_KEY", "MODEL_KEY", "KEY", "TOKENIZER", "PATH", "MYPAT"])
def test_other_variables_hold_none(monkeypatch, name):
    monkeypatch.setenv(name, KEY)
    assert without_keys(f"a {KEY}") == f"a {KEY}"


@pytest.mark.parametrize("value", ["Linux-evomerge-abc123", "meta-llama/Llama-3.1-8B"])
def test_paths_that_share_words_with_a_key_stay_as_they_are(monkeypatch, value):
    monkeypatch.setenv("CACHE_API_KEY", value)
    text = "/data/meta-llama/Llama-2-70B on linux: Linux-evomerge-2, EVOMERGE abc"
    assert without_keys(text) == text
    assert without_keys(f"a {value}.") == "a [key]."


def test_most_of_a_key_is_cut_out_and_in_disguise_withheld(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert without_keys(f"{KEY[:15]} {KEY[2:18]}...") == f"{KEY[:15]} [key]..."
    assert without_keys(f"{KEY.encode().hex()} is refused") == WITHHELD


def test_letters_alone_are_a_key_where_they_are_no_words(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", key := "hf_" + "aBcDeFgHiJkLmNoPqRsT")
    assert without_keys(f"{key}, refused") == "[key], refused"


@pytest.mark.parametrize("value", ["/9fA2c7eB81dX0q", "~4f9A2c7eB81dX", "./x4f9A2c7eB81d"])
def test_a_path_is_one_where_it_is_there(monkeypatch, tmp_path, value):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", value)
    assert without_keys(f"with {value}") == "with [key]"
    (file := tmp_path / "token_1").touch()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(file))
    assert without_keys(f"with {file}") == f"with {file}"


def test_bytes_that_are_no_text_may_stand_in_a_key(monkeypatch):
    monkeypatch.setitem(os.environb, b"GPG_SECRET_KEY", b"abc1\xffdefghijk2")
    held = os.environ["GPG_SECRET_KEY"]
    assert without_keys(f"with {held}, or none") == "with [key], or none"


@pytest.mark.parametrize("event", [Notice(f"sent {KEY}"), Warned(f"sent {KEY}")])
def test_notes_and_warnings_are_shown_without(monkeypatch, capsys, event):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    LineView(Progress(("loss",))).show(event)
    console = Console(record=True, width=80)
    LiveView(Progress(("loss",)), console).show(event)
    for text in (capsys.readouterr().err, console.export_text()):
        assert text.endswith(": sent [key]\n")


def test_what_a_library_logs_is_kept_without(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with kept_log():
        log_to(tmp_path / "log.txt")
        logging.getLogger("library").error("sent %s", KEY)
    assert (tmp_path / "log.txt").read_text().endswith("library: sent [key]\n")
