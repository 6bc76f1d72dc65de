"""Whole searches with a language model behind HTTP on loopback, and what a check says of one."""

from __future__ import annotations

import json
import logging

import pytest

from evomerge.compiler.make_optimizer import chosen_optimizer, obstacles, oddities
from evomerge.compiler.start import shown_models
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.merge_block import MergeDefinition
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from evomerge.nouns.events import Proposing, RunFinished
from evomerge.optimizers.llm.dialogue import Clock
from evomerge.optimizers.llm.evolution import Llm
from evomerge.optimizers.llm.llm_settings import LlmSettings
from evomerge.optimizers.search_context import SearchContext
from evomerge.run.ledger.artifact_store import ArtifactStore
from evomerge.run.ledger.history import Ledger
from evomerge.run.ledger.run_folder import RunFolder
from evomerge.run.limits import Limits
from evomerge.run.search import Search
from tests.contract.merge_space_cases import LLAMA
from tests.fake_executor import Recording
from tests.scripted_llm import Script, completion, recombined, served, slow
from tests.test_ledger import HEADER
from tests.test_search import baselines, history, objective, space_of

KEY = "sk-sentinel-0123456789abcdefghij"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(Llm, "clock", Clock(wait=lambda seconds: None))


def search(path, url, budget=16, **settings):
    merge_space, folder = space_of(), RunFolder(path)
    is_there = folder.ledger.is_file()
    return Search(
        merge_space=merge_space,
        optimizer=Llm(
            merge_space.space,
            seed=0,
            population_size=4,
            settings=LlmSettings(base_url=url, **settings),
            context=SearchContext(artifacts=ArtifactStore(folder)),
        ),
        objective=objective(),
        executor=Recording(()),
        ledger=Ledger.open(folder) if is_there else Ledger.create(folder, HEADER, "genome: {}\n"),
        baselines=baselines(merge_space),
        limits=Limits(budget),
    )


def finished(path, url, *arguments, **settings):
    run = search(path, url, *arguments, **settings)
    events = list(run.run())
    assert isinstance(events[-1], RunFinished)
    return run, events


def kept(path):
    files = sorted(RunFolder(path).optimizer.iterdir())
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def test_a_run_keeps_a_file_per_generation_and_says_whom_it_waits_for(tmp_path):
    with served(Script()) as url:
        _, events = finished(tmp_path / "run", url)
    records = kept(tmp_path / "run")
    assert list(records) == [f"generation-000{g}.json" for g in (1, 2, 3)]
    assert not any(record["is_fallback"] for record in records.values())
    said = [event.activity for event in events if isinstance(event, Proposing)]
    assert said[0] == "asking gpt-4o for generation 1 (0 tokens so far)"
    assert said[1:] == [
        f"asking gpt-4o for generation {g} ({(g - 1) * 320} tokens so far)" for g in (2, 3)
    ]


@pytest.mark.parametrize(
    "answers",
    [
        [(200, completion("I like merging."))],
        [(200, completion(None, refusal="I will not"))],
        [(200, b"<html>not this time</html>")],
        [(401, {"error": {"message": "bad key"}})],
        [(404, {"error": {"message": "no such model"}})],
        [(429, {}), (429, {}), recombined],
        [(503, b"")],
        [None],
    ],
)  # fmt: skip
def test_whatever_the_server_does_the_run_spends_its_budget(tmp_path, answers):
    with served(Script(*answers)) as url:
        run, _ = finished(tmp_path / "run", url)
    assert len(run.ledger.trials) == 5 + 16
    is_good = answers[-1] is recombined
    assert all(record["is_fallback"] is not is_good for record in kept(tmp_path / "run").values())


def test_a_server_that_is_slow_or_gone_costs_no_trial(tmp_path):
    script = Script()
    script.answers = [slow(script)]
    with served(script) as url:
        run, _ = finished(tmp_path / "slow", url, 8, request_timeout=0.1)
    assert len(run.ledger.trials) == 5 + 8
    run, _ = finished(tmp_path / "dead", url)
    assert len(run.ledger.trials) == 5 + 16
    problems = [a["problem"] for r in kept(tmp_path / "dead").values() for a in r["attempts"]]
    assert len(problems) == 3 + 1 + 1
    assert all("refused" in problem for problem in problems)


def test_a_run_that_goes_on_asks_only_for_what_is_new(tmp_path):
    with served(Script()) as url:
        whole, _ = finished(tmp_path / "whole", url)
        finished(tmp_path / "run", url, 12)
    script = Script((500, {}))
    with served(script) as url:
        finished(tmp_path / "run", url, 12)
    assert script.asked == script.headers == []
    script = Script()
    with served(script) as url:
        resumed, _ = finished(tmp_path / "run", url)
    assert len(script.asked) == 1
    assert history(resumed.ledger) == history(whole.ledger)


def test_the_key_is_in_no_file_prompt_or_log(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    leaking = json.dumps({"thought": KEY, "mean": KEY})
    good = completion("")

    def thoughtful(prompt):
        return json.dumps({**json.loads(recombined(prompt)), "thought": f"I saw {KEY}"})

    script = Script(
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        (429, {"error": {"message": KEY, "code": KEY}}),
        (200, {**good, "choices": [{"message": {"content": leaking}}]}),
        (500, KEY.encode()),
        thoughtful,
    )
    script.extra["X-Echo"] = KEY
    with served(script) as url:
        finished(tmp_path / "run", url, 28)
    records = kept(tmp_path / "run")
    assert any("[key]" in record["thought"] for record in records.values())
    shown = caplog.text + "".join(capfd.readouterr())
    shown += "".join(json.dumps(body) for body in script.asked)
    shown += "".join(f.read_bytes().decode("latin-1") for f in tmp_path.rglob("*") if f.is_file())
    pieces = {KEY[i : i + 8] for i in range(len(KEY) - 7)}
    assert [piece for piece in pieces if piece in shown] == []


# What a check says


def asked_of(settings="", rest=""):
    text = (
        "genome: {models: [a, b, c], base_model: z, merge_method: task_arithmetic, granularity: "
        f"layer}}\ntasks: [x]\noptimizer: {{name: llm{settings and ', '}{settings}}}\n{rest}"
    )
    source = parse_yaml(text, "g.yml")
    genome = validate_genome(source)
    choice = chosen_optimizer(genome, source)
    return choice, genome, merge_space_for(genome.genome)(genome.genome, LLAMA, "bfloat16").space


def said(settings="", rest=""):
    return [str(problem) for problem in obstacles(*asked_of(settings, rest))]


@pytest.mark.parametrize("answer", [(200, {"data": [{"id": "other"}]}), (500, {})])
def test_a_check_asks_the_server_once(answer):
    script = Script(answer)
    with served(script) as url:
        choice, genome, space = asked_of(f"base_url: '{url}'")
        assert obstacles(choice, genome, space) == []
        found = [str(problem) for problem in oddities(choice, genome, space)]
    assert len(script.headers) == 1
    assert any("lists no model 'gpt-4o'" in one for one in found) == (answer[0] == 200)


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("http://models.example.com/v1", True),
        ("https://models.example.com/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://192.168.0.7:8000/v1", False),
    ],
)
def test_a_key_that_would_travel_in_the_clear_is_warned_about(url, is_told):
    found = [str(problem) for problem in oddities(*asked_of(f"base_url: '{url}', probe: false"))]
    told = f"optimizer.base_url: the key, prompts and replies travel to {url} in the clear. Use"
    assert any(one.startswith(told) for one in found) == is_told


@pytest.mark.parametrize(
    "settings",
    [
        f"base_url: 'http://127.0.0.1:8011/v1?api_key={KEY}'",
        f"base_url: 'http://127.0.0.1:8011/v1#{KEY}'",
        f"base_url: 'http://me:{KEY}@127.0.0.1:8011/v1'",
        f"extra_body: {{api_key: {KEY}}}",
        f"extra_body: {{a: [{{auth: {{access_token: {KEY}}}}}]}}",
    ],
)
def test_a_key_in_a_genome_is_refused_and_not_repeated(settings):
    with pytest.raises(GenomeError, match="environment variable that api_key_env names") as refused:
        asked_of(settings)
    assert KEY[:8] not in str(refused.value)


def test_what_only_sounds_like_a_key_may_be_sent():
    body = "{max_tokens: 9, stop_token_ids: [1], prompt_cache_key: a, logit_bias: {'1': 2}}"
    assert asked_of(f"extra_body: {body}")


def test_folders_of_this_machine_are_not_sent():
    definition = MergeDefinition.model_validate(
        {
            "models": ["/experts/secret/math", "/experts/b+/experts/loras/code"],
            "base_model": "/experts/base",
            "merge_method": "linear",
        }
    )
    assert shown_models(definition) == (("math", "code"), "base")
    twins = definition.model_copy(
        update={"base_model": definition.models[0].model, "models": definition.models[:1]}
    )
    assert shown_models(twins) == (("math",), "math")


def test_a_server_that_answers_is_fine_whatever_its_list_of_models():
    for answer in ((200, {"data": []}), (404, {}), (500, {})):
        script = Script(answer)
        with served(script) as url:
            assert said(f"base_url: '{url}'") == []
        assert len(script.headers) == 1
        assert script.asked == []


def test_a_server_that_does_not_answer_is_refused_with_what_to_do():
    with served(Script()) as url:
        pass
    (problem,) = said(f"base_url: '{url}'")
    assert problem.startswith(f"optimizer.base_url: {url}: no answer (ConnectionRefusedError: ")
    assert "Start the server or mend the URL; with probe: false a run begins" in problem
    assert said(f"base_url: '{url}', probe: false") == []


def test_a_redirect_is_in_the_way_and_so_is_a_web_page():
    script = Script((302, b""), (200, b"<html>welcome</html>"))
    with served(script) as url:
        (problem,) = said(f"base_url: '{url}'")
        assert "HTTP status 302" in problem
        script.extra = {"Content-Type": "text/html"}
        (problem,) = said(f"base_url: '{url}'")
        assert "no list of models but a web page" in problem


def test_a_key_that_the_server_refuses_is_told_without_the_key():
    with served(Script((401, {"error": {"message": f"wrong key {KEY}"}}))) as url:
        (problem,) = said(f"base_url: '{url}'")
    assert problem.startswith(f"optimizer.api_key_env: {url} refuses the key (HTTP status 401")
    assert KEY[:8] not in problem


def test_a_missing_key_is_told_with_its_variable(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert said() == [
        "optimizer.api_key_env: the environment variable OPENAI_API_KEY is not set, "
        "https://api.openai.com/v1 needs a key. Run `export OPENAI_API_KEY=...`, or name another "
        "variable."
    ]


def test_a_key_that_cannot_be_sent_is_told_without_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}")
    (problem,) = said("base_url: 'http://127.0.0.1:9/v1'")
    assert problem == (
        r"optimizer.api_key_env: the key in OPENAI_API_KEY holds '\n' at position 33, expected "
        "letters, digits and signs of ASCII without a space or line break. Run `export "
        "OPENAI_API_KEY=...` with the key alone."
    )


def test_a_prompt_that_overflows_is_refused_with_what_to_use():
    (problem,) = said("max_prompt_characters: 1500, probe: false")
    assert problem.startswith("optimizer.max_prompt_characters: a prompt about ")
    assert "a coarser granularity, or use optimizer: cma_es." in problem


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            "base_url: localhost",
            "optimizer.base_url: got 'localhost', expected an http or https URL",
        ),
        ("sigma_low: 0", "optimizer.sigma_low: got 0, expected greater than 0"),
        (f"api_key_env: {KEY}", "optimizer.api_key_env: expected the name of an environment"),
        (f"api_key: {KEY}", "optimizer.api_key: unknown key"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_their_key_and_never_quote_a_key(settings, sentence):
    with pytest.raises(GenomeError) as caught:
        said(settings)
    assert sentence in str(caught.value)
    assert KEY[:8] not in str(caught.value)
