"""A real server on loopback, ``transformers serve``: a model talks nonsense, the run goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest

from evomerge.nouns.space import Real, Space
from evomerge.optimizers.llm.dialogue import Clock
from evomerge.optimizers.llm.evolution import Llm
from evomerge.optimizers.llm.llm_settings import LlmSettings
from tests.optimizers.labels import labels_of
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow
TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
PATIENCE = 240  # seconds for torch to load on a busy machine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    for package in ("fastapi", "uvicorn"):
        pytest.importorskip(package, reason=f"transformers serve needs {package}: see [dev]")
    folder = tiny_model(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=4096)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def url(model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log, cache = model.parent / "serve.log", model.parent / "cache"
    cache.mkdir()
    with log.open("wb") as out:
        server = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_CACHE": str(cache),
                "OMP_NUM_THREADS": "1",
            },
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address, server, log):
    opener = build_opener(ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            opener.open(address, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)  # a server of another process: nothing to wait on but itself
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def settings(url, model, **fields):
    beside = {"response_format": "text", "extra_body": {"max_tokens": 24}, **fields}
    return LlmSettings(base_url=url, model=str(model), request_timeout=120.0, **beside)


def test_a_real_server_shows_a_sign_of_life(url, model):
    settings(url, model).connect().probe(60.0)


def test_a_real_model_that_talks_nonsense_is_corrected_and_then_left_alone(url, model, monkeypatch):
    monkeypatch.setattr(Llm, "clock", Clock(wait=lambda seconds: None))
    space = Space(tuple(Real(f"weight_{index}", 0.0, 1.0) for index in range(3)))
    optimizer = Llm(space, seed=0, population_size=4, settings=settings(url, model))
    for _ in range(3):
        asked = optimizer.ask()
        optimizer.tell(asked, ((asked - 0.3) ** 2).sum(axis=1))
    for generation in (1, 2):
        kept = json.loads(optimizer.context.artifacts.recall(f"generation-{generation:04d}.json"))
        assert kept["is_fallback"]
        assert len(kept["attempts"]) == 3
        assert kept["bill"]["completion_tokens"] > 0
        assert kept["bill"]["prompt_tokens"] > 0
        for attempt in kept["attempts"]:
            assert attempt["reply"]
            assert attempt["problem"].startswith(("the reply is", "it was cut off"))
    assert np.isfinite(asked).all()
    assert labels_of(optimizer) == ("generation 2, fallback, near the best",) * 4
