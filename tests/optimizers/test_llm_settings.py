from __future__ import annotations

import pytest

from evomerge.optimizers.llm.llm_settings import LlmSettings


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.0.0.3/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://box.local/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://8.8.8.8/v1", False),
    ],
)
def test_a_server_nearby_needs_no_key(url, is_local):
    assert LlmSettings(base_url=url).is_local is is_local


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (
            {"base_url": "api.openai.com/v1"},
            "got 'api.openai.com/v1', expected an http or https URL",
        ),
        ({"base_url": "ftp://host/v1"}, "expected an http or https URL"),
        ({"base_url": "http:///v1"}, "expected an http or https URL"),
        ({"base_url": "http://host:port/v1"}, "expected an http or https URL"),
        ({"base_url": "https://me:secret@host/v1"}, "holds a name, a password, a query or"),
        ({"base_url": "http://host/v1?api_key=sk-live"}, "holds a name, a password, a query or"),
        ({"base_url": "http://host/v1#sk-live"}, "holds a name, a password, a query or a fragme"),
        ({"extra_body": {"api_key": "sk-live"}}, "holds api_key: the key belongs in the env"),
        ({"extra_body": {"a": [{"X-API-Key": "sk-live"}]}}, "holds X-API-Key: the key belongs"),
        ({"extra_body": {"h": {"Authorization": "x"}, "token": 1}}, "holds Authorization, token"),
        ({"extra_body": {"hf_token": "x"}}, "holds hf_token: the key belongs"),
        ({"extra_body": {"login": {"Password": "x"}}}, "holds Password: the key belongs"),
        ({"extra_body": {"client_secret": "x"}}, "holds client_secret: the key belongs"),
        ({"extra_body": {"key": "x"}}, "holds key: the key belongs"),
        ({"api_key_env": "HOME"}, "expected the name of an environment variable"),
        ({"extra_body": {"messages": []}}, "holds messages, which evomerge sets itself"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        LlmSettings(**fields)
