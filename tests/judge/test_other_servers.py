"""A judge behind a server that is not ours: ``transformers serve``, offline, with a tiny model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from transformers.utils import import_utils

from tests.evaluators.tiny_tasks import CHAT_TEMPLATE
from tests.judge.judge_files import judge_evaluator, judge_task, write_judge_files
from tests.judge.test_local_judge import opinionated

pytestmark = [
    pytest.mark.slow,  # it loads all of transformers for its server
    pytest.mark.skipif(
        not getattr(import_utils, "is_serve_available", lambda: False)(),
        reason="transformers[serving] is not installed",
    ),
]


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture
def served(tmp_path):
    """The URL of a server, and the name of its model, which says `[[7]]`."""
    model = opinionated(tmp_path / "judge", template=CHAT_TEMPLATE)
    port = free_port()
    start = "from transformers.cli.transformers import main; main()"
    place = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", start, "serve", str(model), *place],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while not answers(url):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
        yield f"{url}/v1", str(model)
    finally:
        server.kill()
        server.wait()


def answers(url):
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_transformers_own_server_judges(served, live_model, tmp_path):
    url, model = served
    folder = write_judge_files(tmp_path)
    task = judge_task(folder, url, model=model, extra_body={"max_tokens": 2}, parallel=2)
    evaluator = judge_evaluator(task, run_dir=tmp_path / "run")
    assert [str(one) for one in evaluator.findings() if one.severity.value == "error"] == []
    found = evaluator.evaluate(live_model)
    assert [one.values["rating,none"] for one in found.documents] == [7.0] * 3
    assert "[judgment: 7]" in found.documents[1].answer
    assert found.documents[1].values["completion_tokens,none"] > 0
    assert found.documents[1].values["prompt_tokens,none"] > 10
