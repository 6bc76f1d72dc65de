"""The server that a command gets, asked by OpenAI's own client: it answers as the model does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch

from evomerge.evaluators.asking.asked import AskText, Message
from evomerge.evaluators.asking.respondent import EngineRespondent
from evomerge.evaluators.outside.model_server import ModelServer
from evomerge.evaluators.outside.openai_request import RefusedError, messages_of, prompts_of
from evomerge.foundations.deadline import Deadline
from evomerge.genome.task_blocks import EvaluationBlock
from evomerge.inference import ENGINES

PROMPT = "the quick brown"
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": PROMPT}]


@pytest.fixture
def respondent(chat_model):
    engine = ENGINES["transformers"](chat_model.tokenizer)
    respondent = EngineRespondent(engine, EvaluationBlock(apply_chat_template=True), 0)
    respondent.bind(chat_model.module, Deadline(), 1)
    return respondent


@pytest.fixture
def server(respondent):
    lock = threading.Lock()

    def hear(question):
        with lock:
            question.answers.set_result(respondent.answers(question.asked, 1))

    server = ModelServer(hear)
    yield server
    server.close()


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, max_retries=0) as client:
        yield client


def test_a_chat_is_read_in_the_models_template_and_written_by_it(client, respondent):
    said = client.chat.completions.create(model="any", messages=CHAT, max_tokens=5, n=2)
    chat = tuple(Message(**one) for one in CHAT)
    (expected,) = respondent.answers([AskText(chat, 5)], 0)
    assert [one.message.content for one in said.choices] == [str(expected)] * 2
    assert said.usage.completion_tokens == 2 * len(expected.tokens)
    assert [one.id for one in client.models.list()] == [said.model]


def test_texts_are_read_as_they_stand_and_end_at_a_stop(client, respondent):
    (expected,) = respondent.answers([AskText(PROMPT, 6, is_plain=True)], 0)
    found = client.completions.create(model="any", prompt=[PROMPT, PROMPT], max_tokens=6)
    assert [one.text for one in found.choices] == [str(expected)] * 2
    assert found.choices[0].finish_reason == "length"
    long = client.completions.create(model="any", prompt=[5] * 250)  # who says nothing has room
    assert 0 < long.usage.completion_tokens <= 6
    stop = str(expected).split()[1]
    cut = client.completions.create(model="any", prompt=PROMPT, max_tokens=6, stop=stop)
    assert str(expected).startswith(cut.choices[0].text)
    assert stop not in cut.choices[0].text
    settings = {"model": "any", "prompt": PROMPT, "max_tokens": 6, "temperature": 5, "n": 2}
    drawn = [
        [one.text for one in client.completions.create(**settings, seed=seed).choices]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 4


def test_log_probabilities_are_those_of_a_plain_pass(client, chat_model):
    tokenizer, module = chat_model.tokenizer, chat_model.module
    found = client.chat.completions.create(
        model="any", messages=CHAT, max_tokens=3, logprobs=True, top_logprobs=2
    )
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    content = found.choices[0].logprobs.content
    assert len(content) == 3
    for one in content:
        with torch.no_grad():
            last = torch.log_softmax(module(torch.tensor([prompt])).logits[0, -1].float(), -1)
        assert one.logprob == pytest.approx(float(last.max()), abs=1e-4)
        assert (one.token, len(one.top_logprobs)) == (tokenizer.decode([int(last.argmax())]), 2)
        assert one.top_logprobs[0].logprob == one.logprob
        prompt = [*prompt, int(last.argmax())]


@pytest.mark.parametrize("as_tokens", [False, True])
def test_an_echo_tells_the_log_probability_of_every_token_of_the_prompt(
    client, chat_model, as_tokens
):
    tokens = chat_model.tokenizer.encode(PROMPT)
    found = client.completions.create(
        model="any",
        prompt=tokens if as_tokens else PROMPT,
        max_tokens=0,
        echo=True,
        logprobs=1,
    ).choices[0]
    with torch.no_grad():
        logits = chat_model.module(torch.tensor([tokens])).logits[0].float()
    rows = torch.log_softmax(logits, -1)
    expected = [float(rows[i, token]) for i, token in enumerate(tokens[1:])]
    assert found.logprobs.token_logprobs[0] is None
    assert found.logprobs.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    best = [max(one.values()) for one in found.logprobs.top_logprobs[1:]]
    assert best == pytest.approx([float(row.max()) for row in rows[:-1]], abs=1e-4)
    assert PROMPT in found.text
    written = client.completions.create(
        model="any", prompt=PROMPT, max_tokens=2, echo=True, logprobs=1
    ).choices[0]
    assert len(written.logprobs.tokens) == len(tokens) + 2
    assert written.text.startswith(PROMPT)


def test_many_clients_at_a_time_get_their_own_answers(client):
    prompts = [f"{PROMPT} {word}" for word in ("fox", "dog", "jugs", "five")]

    def ask(prompt):
        return client.completions.create(model="any", prompt=prompt, max_tokens=4).choices[0].text

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, prompts * 3))
    assert together == list(map(ask, prompts)) * 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"stream": True}, "stream: texts come whole here"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is .* not offered"),
        ({"presence_penalty": 1}, "presence_penalty is 1, which is not offered"),
        ({"max_tokens": 100_000}, "100000 to be written are more than the"),
        ({"temperature": -1}, "temperature is -1, expected a number from 0"),
        ({"temperature": True}, "temperature is True, expected a number from 0"),
        ({"extra_body": {"stop": 5}}, "stop is 5, expected a text or a list"),
        ({"extra_body": {"stop": {"a": 1}}}, "stop is {'a': 1}, expected a text or a list"),
        ({"max_completion_tokens": 0}, "max_completion_tokens is 0, expected"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "role 'tool'"),
        ({"messages": []}, "messages is no list"),
    ],
)
def test_what_is_not_offered_is_refused_and_not_left_out(client, wrong, sentence):
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.chat.completions.create(**{"model": "any", "messages": CHAT, **wrong})


@pytest.mark.parametrize(
    ("read", "given"),
    [(prompts_of, ["a\ud800"]), (messages_of, [{"role": "user", "content": "\udc00"}])],
)
def test_half_of_a_character_is_refused(read, given):
    with pytest.raises(RefusedError, match="holds half of a character"):
        read(given)


def test_nobody_is_answered_without_the_key_and_nobody_once_it_is_closed(server, client):
    with pytest.raises(openai.AuthenticationError, match="not that of this server"):
        client.with_options(api_key="another").models.list()
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="any", input="x")
    server.close()
    with pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_who_waits_while_the_trial_ends_is_told():
    heard = threading.Event()
    server = ModelServer(lambda question: heard.set())
    with (
        ThreadPoolExecutor(1) as pool,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.token, max_retries=0) as client,
    ):
        waits = pool.submit(client.completions.create, model="any", prompt="x", max_tokens=1)
        assert heard.wait(60)
        server.close()
        with pytest.raises((openai.InternalServerError, openai.APIConnectionError)):
            waits.result(60)
