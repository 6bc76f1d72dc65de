"""Language models that say what a script says: in this process, or behind HTTP on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evomerge.endpoint.chat import ChatAnswer, Message
from evomerge.optimizers.llm.llm_settings import LlmSettings

Reply = Callable[[str], Any]  # what the user's message asks -> what the model says


def recombined(prompt: str) -> str:
    """A sensible model: the mean of the trials in the prompt's table, the better the heavier."""
    rows = [line.split(" | ") for line in prompt.splitlines() if " | " in line]
    start = next(i for i, row in enumerate(rows) if row[0] == "PARAMETER")
    mean: dict[str, Any] = {}
    for name, allowed, *texts in rows[start + 1 :]:
        values = [json.loads(text) for text in texts]
        if not allowed.startswith("["):
            mean[name] = values[0]
            continue
        weights = range(len(values), 0, -1)
        middle = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        mean[name] = round(middle) if allowed.endswith("whole") else middle
    return json.dumps({"thought": "between the best", "mean": mean})


class ScriptedModel:
    """A model without a server.

    Args:
        replies: What it says, in turn, the last one for ever; an exception is raised.
    """

    def __init__(self, *replies: Reply | ChatAnswer | Exception) -> None:
        self.replies = list(replies) or [recombined]
        self.heard: list[list[Message]] = []
        self.seconds: list[float] = []

    def complete(
        self, messages: Sequence[Message], seconds: float, idempotency_key: str = ""
    ) -> ChatAnswer:
        self.heard.append([dict(message) for message in messages])
        self.seconds.append(seconds)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, ChatAnswer):
            return reply
        prompt = messages[1]["content"]
        return ChatAnswer(reply(prompt), "", len(prompt) // 4, 100)

    def probe(self, seconds: float) -> tuple[str, ...]:
        return ()


class ScriptedSettings(LlmSettings):
    """Settings that lead to the sensible model, at no address."""

    def connect(self) -> ScriptedModel:
        return ScriptedModel()


# On loopback


class Script:
    """What a server does, and what it was asked.

    Args:
        answers: Status and body of each request, in turn, the last one for ever; None hangs up;
            a function makes what is said, or status and body, from the last message.
    """

    def __init__(self, *answers: tuple[int, Any] | Reply | None) -> None:
        self.answers = list(answers) or [recombined]
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.keys: dict[str, list[str]] = {}  # last message -> Idempotency-Key of each request
        self.extra: dict[str, str] = {}  # headers of each answer
        self.is_over = threading.Event()  # what a slow server waits for

    def next(self) -> tuple[int, Any] | Reply | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def completion(content: Any, **fields: Any) -> dict[str, Any]:
    """The body of a chat completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **fields},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}


def slow(script: Script) -> Reply:
    """An answer that comes only when the test is over."""

    def reply(prompt: str) -> str:
        script.is_over.wait()
        return "{}"

    return reply


@contextmanager
def served(script: Script) -> Iterator[str]:
    """A server that follows a script; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            script.headers.append(dict(self.headers))
            if body is not None:
                script.asked.append(body)
                text = str(body["messages"][-1]["content"])
                script.keys.setdefault(text, []).append(self.headers["Idempotency-Key"] or "")
            answer = script.next()
            if answer is None:
                return
            if callable(answer):
                said = answer(body["messages"][-1]["content"]) if body else {"data": []}
                answer = (200, completion(said)) if isinstance(said, str) else said
                answer = answer if isinstance(answer, tuple) else (200, answer)
            status, content = answer
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in script.extra.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked is gone
                self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        script.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def key_of(headers: dict[str, str]) -> str:
    """The key that came with a request."""
    found = {name.lower(): value for name, value in headers.items()}
    return found["authorization"].removeprefix("Bearer ")
