from __future__ import annotations

import gzip

import pytest

from evomerge.endpoint.chat import ChatAnswer
from evomerge.endpoint.exchange import NoAnswerError
from evomerge.optimizers.llm.llm_settings import LlmSettings
from tests.scripted_llm import Script, completion, key_of, served, slow

KEY = "sk-sentinel-0123456789abcdefghij"
ASKED = [{"role": "user", "content": "?"}, {"role": "user", "content": "?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(url, seconds=20.0, **settings):
    return LlmSettings(base_url=url, **settings).connect().complete(ASKED, seconds)


def refusal(answer, seconds=20.0, **settings):
    script = Script(answer)
    with served(script) as url, pytest.raises(NoAnswerError, match=r"\w") as caught:
        ask(url, seconds, **settings)
    return caught.value


def test_a_request_holds_model_messages_and_what_the_settings_add():
    script = Script((200, completion("hello")))
    with served(script) as url:
        answer = ask(f"{url}/", model="m", extra_body={"max_tokens": 7, "seed": 1})
    assert answer == ChatAnswer("hello", "", 300, 20)
    assert script.asked == [
        {
            "model": "m",
            "messages": ASKED,
            "stream": False,
            "temperature": 0.0,
            "response_format": {"type": "json_object"},
            "max_tokens": 7,
            "seed": 1,
        }
    ]
    assert key_of(script.headers[0]) == KEY


def test_fields_that_a_server_refuses_can_be_left_out():
    script = Script((200, completion("hello")))
    with served(script) as url:
        ask(url, temperature=None, response_format="text")
    assert sorted(script.asked[0]) == ["messages", "model", "stream"]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (completion(None, refusal="I cannot"), ChatAnswer("", "you refused", 300, 20, "refusal")),
        (completion(None), ChatAnswer("", "", 300, 20)),
        (completion([{"type": "text"}]), ChatAnswer("", "", 300, 20)),
        (completion([{"text": "a"}, {"type": "image"}, "b"]), ChatAnswer("ab", "", 300, 20)),
        ({"choices": [{"message": {"content": "x"}}], "usage": [1]}, ChatAnswer("x")),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]},
         ChatAnswer("x", "it was cut off: it is too long", cause="cut off")),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
         ChatAnswer("x", "it was filtered out", cause="filtered out")),
        ({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}},
         ChatAnswer("x")),
    ],
)  # fmt: skip
def test_refusals_and_cut_replies_are_told_apart(body, answer):
    with served(Script((200, body))) as url:
        assert ask(url) == answer


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b"[]", b"null", b'{"choices": []}', b'{"choices": [7]}', b"\xff", b"[" * 9**6],
)
def test_a_body_that_is_no_completion_may_be_better_next_time(body):
    error = refusal((200, body))
    assert error.reason == "what came is no chat completion"
    assert error.may_pass


@pytest.mark.parametrize(
    ("status", "may_pass"),
    [(400, False), (401, False), (404, False), (408, True), (409, True), (422, False),
     (429, True), (500, True), (503, True), (307, False)],
)  # fmt: skip
def test_a_status_says_whether_waiting_helps(status, may_pass):
    error = refusal((status, {"error": {"message": "no such model"}}))
    assert (error.status, error.may_pass, error.is_too_long) == (status, may_pass, False)
    assert f"HTTP status {status}" in error.reason
    assert "no such model" in error.reason


def test_a_prompt_that_is_too_long_for_the_model_is_known_as_that():
    assert refusal((400, {"error": {"message": "maximum context length is 9"}})).is_too_long


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("soon", None),
        ("-1", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_a_server_says_how_long_to_wait(text, wait):
    script = Script((429, {}))
    script.extra["Retry-After"] = text
    with served(script) as url, pytest.raises(NoAnswerError, match="429") as caught:
        ask(url)
    assert caught.value.wait == wait


def test_the_client_itself_never_asks_twice():
    script = Script((500, {}))
    with served(script) as url, pytest.raises(NoAnswerError, match="500"):
        ask(url)
    assert len(script.asked) == 1


def test_a_slow_server_is_left_alone_after_a_while():
    script = Script()
    script.answers = [slow(script)]
    with served(script) as url, pytest.raises(NoAnswerError, match=r"no answer within 0\.2 s"):
        ask(url, 0.2)


def test_a_server_that_hangs_up_or_is_dead_gives_no_answer():
    assert "no answer" in refusal(None).reason
    with served(Script()) as url:
        pass
    with pytest.raises(NoAnswerError, match=r"no answer .*refused") as caught:
        ask(url)
    assert caught.value.status is None


def test_an_endless_answer_is_cut():
    assert "longer than 4 MiB" in refusal((200, b" " * (5 << 20))).reason


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize("body", [{"error": {"message": f"wrong: {KEY}"}}, KEY.encode()])
def test_a_key_that_a_server_echoes_is_in_no_reason(status, body):
    error = refusal((status, body))
    assert KEY[:8] not in f"{error.reason} {error!r} {error.__cause__!r}"


def test_a_key_that_a_model_repeats_is_in_no_answer():
    with served(Script((200, completion(f"my key is {KEY}")))) as url:
        assert ask(url).text == "my key is [key]"


def test_a_local_server_is_given_no_key_where_there_is_none(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    script = Script((200, completion("x")))
    with served(script) as url:
        ask(url)
    assert key_of(script.headers[0]) == "none-needed"


def test_no_proxy_stands_before_a_local_server(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with served(Script((200, completion("x")))) as url:
        assert ask(url).text == "x"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (f"{KEY[:9]}\n{KEY[9:]}", r"holds '\n' at position 10"),
        (f"{KEY[:9]}\r\nX-Other: {KEY[9:]}", r"holds '\r' at position 10"),
        (f"{KEY} # mine", "holds ' ' at position 33"),
        (f"{KEY}\u00e9", r"holds '\xe9' at position 33"),
        (f"\u201c{KEY}\u201d", r"holds '\u201c' at position 1"),
        (f"{KEY}\udcff", r"holds '\udcff' at position 33"),
        (f"{KEY}\x7f", r"holds '\x7f' at position 33"),
    ],
)
def test_a_key_that_no_header_may_hold_is_told_and_not_shown(monkeypatch, key, shown):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    script = Script((200, completion("x")))
    with served(script) as url, pytest.raises(NoAnswerError, match="OPENAI_API_KEY") as caught:
        ask(url)
    assert shown in caught.value.reason
    assert not caught.value.may_pass
    assert not any(KEY[i : i + 8] in caught.value.reason for i in range(len(KEY) - 7))
    assert script.headers == []


@pytest.mark.parametrize("key", [f"  {KEY}\n", f"\t{KEY}"])
def test_what_stands_around_a_key_is_not_sent(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    script = Script((200, completion("x")))
    with served(script) as url:
        ask(url)
    assert key_of(script.headers[0]) == KEY


def test_what_is_packed_is_not_read_but_its_status():
    script = Script((401, gzip.compress(b"no")), (200, gzip.compress(b"{}")))
    script.extra["Content-Encoding"] = "gzip"
    with served(script) as url:
        with pytest.raises(NoAnswerError, match="401") as refused:
            ask(url)
        with pytest.raises(NoAnswerError, match="is compressed"):
            ask(url)
    assert (refused.value.status, refused.value.may_pass) == (401, False)


def test_the_message_of_an_error_is_told_in_short():
    error = refusal((400, {"error": {"message": f"no\nsuch {'x' * 999}", "code": 7}}))
    assert error.reason == f"HTTP status 400: no such {'x' * 292}"
    assert refusal((400, {"error": "no"})).reason == "HTTP status 400: no"
    assert refusal((400, {"detail": [1]})).reason == 'HTTP status 400: {"detail": [1]}'
    assert refusal((502, b"<html>")).reason == "HTTP status 502: <html>"


@pytest.mark.parametrize("path", ["probe", "ask"])
def test_a_web_page_is_no_answer_of_a_model(path):
    script = Script((200, b"<html>welcome</html>"))
    script.extra = {"Content-Type": "text/html; charset=utf-8"}
    with served(script) as url, pytest.raises(NoAnswerError) as caught:
        _ = ask(url) if path == "ask" else LlmSettings(base_url=url).connect().probe(20.0)
    assert caught.value.reason.endswith("but a web page (HTTP status 200, text/html)")
    assert caught.value.status is None
