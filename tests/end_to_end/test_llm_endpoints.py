"""The command line before endpoints that misbehave: nothing leaks, each limit holds, runs end."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest

from tests.end_to_end.conftest import GENOME
from tests.endpoint.disguises import KEY
from tests.endpoint.leaks import leaks
from tests.endpoint.misbehaviours import HOLDING, PROMPT
from tests.endpoint.wire import misbehaving

pytestmark = pytest.mark.slow
CMA = "{name: cma_es, budget: 6, population_size: 4}"
ECHOING = (
    "the key in each field",  # to a check, which warns
    "the key as JSON escapes",  # to a check, which fails
    "the key for a header's value",  # to a run that begins
    "the key for a status",
    "the key as base64",
    "the key, in a sentence",
    "the key for an error's body in UTF-16",
    "the key as split over fields of JSON in JSON",
    "the key for a parameter",
    "the key for a reason",
)
SLOW = (
    "drips a body of status 500",
    "drips headers",
    "interim answers without end",
    "drips the key in a body of status 429",
    "drips a chunk's length",
    "never answers",
)


def in_turn(parts):
    turns = itertools.cycle(parts)
    return lambda wire: next(turns)(wire)


def genome_for(url, **settings):
    told = "".join(f", {name}: {value}" for name, value in settings.items())
    optimizer = f"{{name: llm, base_url: '{url}', budget: 16, population_size: 4{told}}}"
    return GENOME.replace(CMA, optimizer)


def left_behind(folder):
    """What each file says that a command wrote."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".safetensors", ".lock"):
            raw = path.read_bytes()
            yield (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", "replace")


def test_a_key_that_a_server_echoes_is_in_no_file_and_on_no_terminal(workplace, evomerge):
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_LOG": "debug", "HTTPX_LOG_LEVEL": "debug"}
    with misbehaving(in_turn([PROMPT[name] for name in ECHOING])) as url:
        (workplace / "genome.yml").write_text(genome_for(url))
        said = [
            evomerge("check", "genome.yml", **environment),
            evomerge("check", "genome.yml", "--json", exit_code=2, **environment),
            evomerge("run", "genome.yml", "--run-dir", "out", **environment),
            evomerge("show", "out", **environment),
            evomerge("show", "out", "--json", **environment),
        ]
    kept = [json.loads(f.read_bytes()) for f in (workplace / "out/optimizer").glob("*.json")]
    assert len(kept) == 3
    assert sum(len(generation["attempts"]) for generation in kept) >= 5
    texts = [*left_behind(workplace / "out"), *(s.stdout for s in said), *(s.stderr for s in said)]
    assert [found for text in texts for found in leaks(text, KEY)] == []
    assert any("[key]" in text for text in texts)


def test_a_server_that_never_comes_to_an_end_costs_a_run_no_more_than_it_may(workplace, evomerge):
    limits = {"probe": "false", "request_timeout": 0.3, "generation_timeout": 1.0}
    with misbehaving(in_turn([HOLDING[name] for name in SLOW])) as url:
        (workplace / "genome.yml").write_text(genome_for(url, **limits))
        said = evomerge("run", "genome.yml", "--run-dir", "out", OPENAI_API_KEY=KEY)
    kept = [json.loads(f.read_bytes()) for f in (workplace / "out/optimizer").glob("*.json")]
    assert len(kept) == 3
    for generation in kept:
        assert generation["is_fallback"]
        assert generation["bill"]["seconds"] < 1.0 + 3.0  # on a busy machine
        assert all(a["problem"].startswith("no answer within") for a in generation["attempts"])
    texts = [*left_behind(workplace / "out"), said.stdout, said.stderr]
    assert [found for text in texts for found in leaks(text, KEY)] == []
