"""Keys of the environment in texts that are shown or kept."""

from __future__ import annotations

import logging

import pytest

from evomerge.cli.log import run_log
from evomerge.errors import EvaluationError
from evomerge.own_keys import without_keys

KEY = "sk-live-4f9A2c7eB81d"


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "HF_TOKEN", "aws_secret_access_key", "DB_PASSWORD", "CLIENT_SECRET"]
)
def test_a_key_is_cut_out_whatever_holds_it(monkeypatch, name):
    text = f"401: {KEY} is refused"
    assert without_keys(text) == text
    monkeypatch.setenv(name, KEY)
    assert without_keys(text) == "401: [key] is refused"
    assert str(EvaluationError(text, fix=f"Drop {KEY}.")) == "401: [key] is refused. Drop [key]."


@pytest.mark.parametrize("value", ["EMPTY", "", "/run/secrets/token", "https://keys.example/1"])
def test_words_and_places_are_no_keys(monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    text = f"an EMPTY answer, {value}"
    assert without_keys(text) == text


def test_what_a_library_logs_is_kept_without(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with run_log() as log:
        log.write_to(tmp_path / "log.txt")
        logging.getLogger("library").error("sent %s", KEY)
    assert (tmp_path / "log.txt").read_text().endswith("library: sent [key]\n")
