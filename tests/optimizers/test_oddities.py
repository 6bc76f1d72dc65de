"""Settings that nobody can mean: refused or warned about before a run, with what to do."""

from __future__ import annotations

import pytest

from evomerge.compiler.make_optimizer import chosen_optimizer, obstacles, oddities
from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import validate_genome
from evomerge.genome.source import parse_yaml
from evomerge.merge_spaces import merge_space_for
from tests.contract.merge_space_cases import LLAMA
from tests.scripted_llm import Script, served

GENOME = "genome: {models: [a, b, c], base_model: z, merge_method: task_arithmetic}\ntasks: [x]\n"


def searched(block, rest=""):
    """The optimizers of a block, its genome, and the space."""
    source = parse_yaml(f"{GENOME}optimizer: {block}\n{rest}", "g.yml")
    genome = validate_genome(source)
    choice = chosen_optimizer(genome, source)
    return choice, genome, merge_space_for(genome.genome)(genome.genome, LLAMA, "bfloat16").space


def said(block):
    """What a check warns about, and what it refuses."""
    return [str(problem) for problem in oddities(*searched(block))]


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (
            "{name: gradient, epochs: 12, budget: 5}",
            "optimizer.epochs: the budget ends the training after 5 of 12 epochs, before its "
            "learning rate has fallen. Set it to 5, or raise budget.",
        ),
        (
            "{name: gradient, population_size: 8}",
            "optimizer.population_size: got 8, but an epoch is one trial. Leave it out.",
        ),
        (
            "{name: gradient, learning_rate: 50}",
            "optimizer.learning_rate: a step of 50 goes from one end of every weight's range to "
            "the other (1.5). Make it a twentieth of the range or less.",
        ),
        (
            "{name: gradient, prompts: {a: [{task: x}]}}",
            "optimizer.prompts: kl, mse and entropy are 0: nobody reads the prompts. Give one of "
            "them a weight under losses, or leave the prompts out.",
        ),
        (
            "{name: niches, n_startup_trials: 30, budget: 30}",
            "optimizer.n_startup_trials: the first 30 trials are drawn at random, the budget is "
            "30: nothing is learned from any. Make it smaller, or raise budget.",
        ),
        (
            "{name: niches, crossover: false, mutation: 0}",
            "optimizer.mutation: neither crossover nor mutation: every child is its parent. Give "
            "it a value above 0, or leave crossover on.",
        ),
        (
            "{name: tpe, n_startup_trials: 200}",
            "optimizer.n_startup_trials: the first 200 trials are drawn at random, the budget is "
            "100: nothing is learned from any. Make it smaller, or raise budget.",
        ),
        (
            "{name: tpe, budget: 8}",
            "optimizer.budget: the first 10 trials are drawn at random, the budget is 8: nothing "
            "is learned from any. Raise it above 10.",
        ),
        (
            "{chain: [random, {name: swarm, budget: 20}]}",
            "optimizer.chain[1].budget: 20 trials are one generation of swarm (20), which learns "
            "nothing from them. Raise it to 100 or more, or make population_size smaller.",
        ),
        (
            "{name: llm, request_timeout: 90, generation_timeout: 30, probe: false}",
            "optimizer.request_timeout: a request may take 90 seconds, all of a generation "
            "together 30. Make it smaller, or raise generation_timeout.",
        ),
        (
            "{name: llm, prompt_price: 2.5, probe: false}",
            "optimizer.completion_price: without completion_price no cost can be counted. Give "
            "both or none.",
        ),
        (
            "{chain: [random, {name: llm, probe: false}]}",
            "optimizer.chain[1].first_generation: the first generation is drawn anywhere, not "
            "where the optimizers before it arrived. Set it to start.",
        ),
    ],
)
def test_what_can_hardly_be_meant_is_told_with_what_to_do(block, sentence):
    assert said(block) == [sentence]


@pytest.mark.parametrize(
    "block",
    [
        "{name: gradient, epochs: 5, budget: 5}",
        "{name: tpe, n_startup_trials: 10, budget: 11}",
        "{chain: [{name: random, budget: 20}, {name: tpe, budget: 5}]}",
        "{name: swarm, budget: 40}",
        "cma_es",
        "gradient",
    ],
)
def test_what_can_be_meant_is_not_told(block):
    assert said(block) == []


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "{name: llm, sigma_low: 0.5, sigma_high: 0.1}",
            r"optimizer.sigma_low: got 0.5, above sigma_high \(0.1\).*Exchange the two",
        ),
        (
            "{name: swarm, minimum_step_length: 2}",
            r"optimizer.minimum_step_length: got 2, above step_length \(1\)",
        ),
        ("{name: swarm, particle_dropout: 0.9999999}", r"optimizer.particle_dropout: got 0.9999"),
        ("{name: niches, n_startup_trials: 1000000000}", "got 1000000000, expected less than or"),
        ("{name: niches, alpha: 1.0e+9}", "optimizer.alpha: got 1000000000.0, expected less than"),
        ("{name: swarm, inertia: .inf}", "optimizer.inertia: got inf, expected a finite number"),
        ("{name: llm, generation_timeout: .inf}", "optimizer.generation_timeout: got inf"),
        ("{name: cma_es, sigma: true}", "optimizer.sigma: got True, expected a number"),
        ("{name: tpe, n_startup_trials: true}", "got True, expected a whole number"),
        (
            "{name: gradient, prompts: {a: [{file: p.jsonl, split: test}]}}",
            r"optimizer.prompts.a\[0\].split: only a data set has splits. Leave it out",
        ),
        (
            "{name: gradient, prompts: {a: [{task: x, column: text}]}}",
            r"optimizer.prompts.a\[0\].column: a task has no columns",
        ),
        (
            "{name: gradient, losses: {kll: 1}}",
            "optimizer.losses.kll: unknown key 'kll'; did you mean 'kl'",
        ),
        (
            "{name: gradient, losses: {colour: 1}}",
            r"unknown key 'colour' \(known: entropy, kl, l1, l2, mse, nll, overlap, similarity, "
            r"weighted_overlap\)",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(block, message):
    with pytest.raises(GenomeError, match=message):
        said(block)


def listing(*names):
    return (200, {"object": "list", "data": [{"id": name} for name in names]})


def test_a_model_that_its_server_does_not_list_is_told_and_may_still_be_asked(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    with served(Script(listing("gpt-4o-mini", "gpt-5"))) as url:
        (found,) = said(f"{{name: llm, model: gpt-4o-mni, base_url: '{url}'}}")
    assert found.startswith(f"optimizer.model: {url} lists no model 'gpt-4o-mni'; did you mean")
    assert found.endswith("(listed: gpt-4o-mini, gpt-5). Name one of them, unless the server "
                          "loads what it does not list.")  # fmt: skip


@pytest.mark.parametrize(
    "answer", [listing("gpt-4o"), listing(), (200, b"no JSON"), (200, [1]), (500, {}), None]
)
def test_a_list_that_says_nothing_is_no_finding(monkeypatch, answer):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    with served(Script(answer)) as url:
        assert said(f"{{name: llm, base_url: '{url}'}}") == []


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", []),
        ("execution: {executor: serial}", []),
        ("execution: {workers: 2}", []),
        (
            "execution: {executor: processes}",
            [
                "optimizer.name: models are trained in the process of the run, got "
                "execution.executor: processes with 1 worker. Use executor: serial for one worker, "
                "executor: processes for several, or optimizer: cma_es."
            ],
        ),
        (
            "execution: {executor: ray, workers: 2}",
            [
                "optimizer.name: models are trained in the process of the run, got "
                "execution.executor: ray with 2 workers. Use executor: serial for one worker, "
                "executor: processes for several, or optimizer: cma_es."
            ],
        ),
    ],
)
def test_who_trains_needs_the_trials_in_the_process_of_the_run(rest, said):
    assert [str(problem) for problem in obstacles(*searched("gradient", rest))] == said
    assert obstacles(*searched("tpe", rest)) == []
