"""``judge:`` by a model of this machine, in turns with the one that is scored."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from evomerge.evaluators.asking.respondent import EngineRespondent
from evomerge.evaluators.beside import Beside, largest_in_turn
from evomerge.evaluators.judge import local_judge
from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import (
    EvaluationError,
    OutOfMemoryError,
    RunError,
    TrialTimeoutError,
)
from tests.evaluators.tiny_tasks import CHAT_TEMPLATE
from tests.judge.judge_files import judge_evaluator, judge_task, write_judge_files
from tests.tiny_models import VOCAB_SIZE, tiny_config, tiny_tokenizer

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"


def opinionated(folder, verdict="[[7]]", template=""):
    """A model that says one thing whatever it reads: what it sees of any token is the same."""
    tokenizer = tiny_tokenizer([verdict])
    tokenizer.chat_template = template or None
    tokenizer.save_pretrained(folder)
    config = tiny_config("llama", vocab_size=VOCAB_SIZE + 1, max_position_embeddings=512)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.get_input_embeddings().weight.fill_(1.0)
        model.model.norm.weight.fill_(1.0)
        model.get_output_embeddings().weight[VOCAB_SIZE] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_judge_files(tmp_path)


def task(folder, model, **settings):
    own = {"model": None, "local_model": str(model), "judge_tokens": 2, **settings}
    return judge_task(folder, **own)


def test_a_model_of_this_machine_judges(folder, live_model, tmp_path):
    given = task(folder, opinionated(tmp_path / "judge"))
    evaluator = judge_evaluator(given, run_dir=tmp_path / "run")
    found = evaluator.evaluate(live_model)
    assert [one.values["rating,none"] for one in found.documents] == [7.0] * 3
    assert found.documents[1].values["completion_tokens,none"] == 2
    assert found.documents[1].values["prompt_tokens,none"] > 10
    assert "[judgment: 7]\n[[7]]" in found.documents[1].answer
    assert [one.severity.value for one in evaluator.findings()] == ["note"]
    ((what, held),) = evaluator.room().items()
    assert what == f"judge {tmp_path / 'judge'}"
    assert held.n_bytes > 1000
    again = judge_evaluator(given, run_dir=tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_judge, "_said", None)  # nobody is asked
        assert again.evaluate(live_model) == found


def test_scores_stand_on_every_byte_of_the_judge(folder, tmp_path):
    one, other = (opinionated(tmp_path / name, name) for name in ("[[3]]", "[[4]]"))
    first, second = (judge_evaluator(task(folder, model)).identity() for model in (one, other))
    assert first != second


def test_a_judge_whose_template_has_no_system_reads_it_all_the_same(folder, live_model, tmp_path):
    model = opinionated(tmp_path / "judge", template=NO_SYSTEM + CHAT_TEMPLATE)
    heard = []
    answers = EngineRespondent.answers

    def listen(self, asked, turn):
        heard.extend(self.reader.text(one.prompt) for one in asked if one.max_tokens == 2)
        return answers(self, asked, turn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EngineRespondent, "answers", listen)
        judge_evaluator(task(folder, model)).evaluate(live_model)
    assert len(heard) == 4
    assert all("you are single-" in one for one in heard)


def test_a_prompt_that_the_judge_cannot_read_whole_has_no_judgment(folder, live_model, tmp_path):
    given = task(folder, opinionated(tmp_path / "judge"), judge_tokens=500)
    with pytest.raises(EvaluationError, match=r"no rating: prompt too long \(3\)"):
        judge_evaluator(given).evaluate(live_model)
    *_, never = map(str, judge_evaluator(given).findings())
    assert "4 prompts of 4 never fit the 512 tokens that" in never
    longer = task(folder, tmp_path / "judge", judge_tokens=480, max_tokens=9)
    *_, perhaps = map(str, judge_evaluator(longer).findings())
    assert "of 4 may not fit the 512 tokens" in perhaps


def test_a_judge_whose_template_takes_no_prompt_is_told_before_a_run(folder, tmp_path):
    broken = opinionated(tmp_path / "judge", template="{{ raise_exception('never') }}")
    *_, told = map(str, judge_evaluator(task(folder, broken)).findings())
    assert "its prompts cannot be written (TemplateError: never). Mend its chat template" in told


def test_batches_are_halved_where_memory_runs_out_and_limits_of_time_hold(
    folder, live_model, tmp_path, monkeypatch
):
    bound = []
    answers, bind = EngineRespondent.answers, EngineRespondent.bind

    def binding(self, module, deadline, divisor):
        bound.append(divisor)
        bind(self, module, deadline, divisor)

    def short(self, asked, turn):
        if asked[0].max_tokens == 2 and bound[-1] < 4:
            raise OutOfMemoryError("none left")
        return answers(self, asked, turn)

    monkeypatch.setattr(EngineRespondent, "bind", binding)
    monkeypatch.setattr(EngineRespondent, "answers", short)
    evaluator = judge_evaluator(task(folder, opinionated(tmp_path / "judge")))
    assert evaluator.evaluate(live_model).metrics[0].value == 7.0
    assert bound[1:4] == [1, 2, 4]
    now = [0.0]
    late = Deadline(1.0, clock=lambda: now[0])
    now[0] = 2.0
    with pytest.raises(TrialTimeoutError):
        evaluator.evaluate(live_model, late)


def test_a_judge_that_is_none_is_told_before_a_run_and_stops_one(folder, live_model, tmp_path):
    evaluator = judge_evaluator(task(folder, opinionated(tmp_path / "judge")))
    for file in (tmp_path / "judge").glob("*.safetensors"):
        file.unlink()
    found = list(judge_evaluator(task(folder, tmp_path / "judge")).findings())
    assert [one.problem.where for one in found if one.severity.value == "error"] == [
        "tasks[0].judge.local_model"
    ]
    with pytest.raises(RunError, match="the judge cannot be loaded"):
        evaluator.evaluate(live_model)
    (tmp_path / "judge" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(RunError, match="the judge cannot be loaded"):
        evaluator.evaluate(live_model)
    headless = AutoModelForCausalLM.from_pretrained(opinionated(tmp_path / "whole"))
    headless.model.save_pretrained(tmp_path / "judge")
    with pytest.raises(RunError, match=r"lm_head\.weight is not among its weights"):
        evaluator.evaluate(live_model)


@pytest.mark.parametrize(
    "settings", [{}, {"model": "m", "local_model": "n"}, {"local_model": {"stage": "a"}}]
)
def test_one_judge_is_named(settings):
    with pytest.raises(ValidationError, match="judge"):
        JudgeSettings.model_validate({"questions": "q", "prompts": "p", **settings})


def test_a_judge_for_which_its_device_has_no_room_leaves_nothing_there(
    folder, live_model, tmp_path, monkeypatch
):
    moved = []

    def short(self, device):
        moved.append(device)
        if device == "cuda":
            raise torch.OutOfMemoryError("none left")
        return self

    given = task(folder, opinionated(tmp_path / "judge"), device="cuda")
    evaluator = judge_evaluator(given)
    monkeypatch.setattr(torch.nn.Module, "to", short)
    with pytest.raises(EvaluationError, match=r"cannot be moved to cuda \(.*none left\)"):
        evaluator.evaluate(live_model)
    assert moved == ["cuda", "cpu"]


def test_a_judge_whose_files_were_changed_is_another_judge(
    folder, live_model, tmp_path, monkeypatch
):
    given = task(folder, opinionated(tmp_path / "judge"), name="a")
    loaded, load = [], local_judge.loaded_writer

    def remember(*asked):
        module, tokenizer = load(*asked)
        loaded.append(weakref.ref(module))
        return module, tokenizer

    monkeypatch.setattr(local_judge, "loaded_writer", remember)
    one = judge_evaluator(given, {"judge": {**given["judge"], "name": "b", "repeats": 2}})
    first = one.evaluate(live_model)
    assert len(loaded) == 1  # for both tasks
    opinionated(tmp_path / "judge", "[[3]]")
    second = judge_evaluator(given, run_dir=tmp_path / "run").evaluate(live_model)
    assert (first.metrics[0].value, second.metrics[0].value) == (7.0, 3.0)
    assert [one() is None for one in loaded] == [False, False]
    del one
    gc.collect()
    assert all(one() is None for one in loaded)  # nobody has it any more


def test_what_a_judge_holds_is_counted_where_it_is(folder, tmp_path):
    model = opinionated(tmp_path / "judge")
    (here,) = judge_evaluator(task(folder, model, device="cpu")).room().values()
    (there,) = judge_evaluator(task(folder, model, device="cuda:1")).room().values()
    assert (here.n_running, here.by_turns) == (0, False)
    assert (there.n_waiting, there.n_running) == (here.n_bytes, here.n_bytes)
    larger = replace(there, n_running=2 * there.n_running)
    stays = Beside(0, 5, "cuda")
    held = {"judge": there, "teacher": larger, "reward model": stays, "cpu": here}
    assert largest_in_turn(held, "cuda:1") == {
        "reward model": 5,
        "teacher, in its turn": larger.n_running,
    }
    assert largest_in_turn(held, "cuda:0") == {"reward model": 5}
    assert largest_in_turn(held, "cpu") == {}
