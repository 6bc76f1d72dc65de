"""Replies judged by a reward model, by a real one that transformers loads, and by their length."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from evomerge.evaluators.asking.asked import AskOther, AskText
from evomerge.evaluators.asking.asking_kind import Around
from evomerge.evaluators.composite import evaluator_for
from evomerge.evaluators.reward import Rewarded
from evomerge.evaluators.reward_model import Reward, RewardModel
from evomerge.evaluators.side_model import SideModel
from evomerge.foundations.deadline import Deadline
from evomerge.foundations.errors import EvaluationError, RunError, TrialTimeoutError
from evomerge.foundations.findings import Severity
from evomerge.genome.model_names import ModelName
from evomerge.genome.task_blocks import EvaluationBlock, Task
from evomerge.inference import ENGINES
from tests.evaluators.tiny_tasks import CHAT_TEMPLATE
from tests.tiny_models import tiny_model, tiny_reward_model, tiny_tokenizer

PAIRS = [("the quick", "brown fox"), ("a", ""), ("pack my box", "with five dozen jugs " * 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_reward_model(tmp_path_factory.mktemp("reward") / "model")


@pytest.fixture(autouse=True)
def _prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": prompt} for prompt, _ in PAIRS]
    (tmp_path / "rm.json").write_text(json.dumps({"dataset": "rm", "dev": rows, "test": rows[:1]}))


def made(folder, **settings):
    given = {"file": "rm.json", "model": str(folder), **settings}
    return Rewarded(Task.model_validate({"reward": given}), Around())


def alone(folder, pairs, pad):
    """What transformers gives each pair by itself."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = pad
    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    for prompt, reply in pairs:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(chat, tokenize=False)
            given = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        else:
            given = tokenizer(prompt, reply, return_tensors="pt")
        given.pop("token_type_ids", None)
        with torch.no_grad():
            found.append(float(model(**given).logits[0, 0]))
    return found


@pytest.mark.parametrize("pad", [3, None])
@pytest.mark.parametrize("template", [None, CHAT_TEMPLATE])
def test_replies_are_read_together_as_each_is_alone(tmp_path, pad, template):
    folder = tiny_reward_model(tmp_path / "model", pad_token_id=pad)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    found = RewardModel(SideModel(ModelName(path=str(folder)))).answers(PAIRS, Deadline())
    assert [one.value for one in found] == pytest.approx(alone(folder, PAIRS, pad), rel=1e-4)
    assert len({round(one.value, 4) for one in found}) == len(PAIRS)
    assert found[2].n_tokens > found[0].n_tokens > found[1].n_tokens


def bert(folder, positions=24):
    """A reward model that has so many positions and no more, as encoders do."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=3,
        max_position_embeddings=positions,
        **size,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [None, CHAT_TEMPLATE])
def test_of_a_reply_that_does_not_fit_the_end_is_not_read_and_that_is_told(tmp_path, template):
    folder, reply = bert(tmp_path / "bert", 40), "with five dozen jugs "
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    model = RewardModel(SideModel(ModelName(path=str(folder))))
    pairs = [("pack", "my box"), ("pack", reply * 9), ("pack", reply * 20)]
    short, cut, longer = model.answers(pairs, Deadline())
    assert (short.is_whole, cut.is_whole, longer.is_whole) == (True, False, False)
    assert cut.value == longer.value  # their beginnings are the same
    assert longer.n_tokens > cut.n_tokens > 40
    with pytest.raises(RunError, match=r"reads 40 tokens, and the prompt 'with five .* more"):
        model.answers([(reply * 20, "")], Deadline())
    (finding,) = made(folder).findings()
    assert finding.severity is Severity.WARNING
    assert "reads at most 40 tokens, prompt and reply together, and replies may" in str(finding)
    assert not [*made(folder, max_tokens=39).findings()]
    (odd,) = made(folder, max_tokens=39, device="nosuch").findings()
    assert "device: torch knows no device 'nosuch'. Use auto, or" in str(odd)


def test_a_pass_that_goes_beyond_the_positions_fails_the_trial_and_no_more(tmp_path):
    model = RewardModel(SideModel(ModelName(path=str(bert(tmp_path / "bert")))))
    model._opened()[0].config.max_position_embeddings = 10_000  # as a wrong config.json has it
    with pytest.raises(EvaluationError, match="the reward model failed"):
        model.answers([("a", "with five dozen jugs " * 20)], Deadline())


def test_passes_are_halved_where_memory_runs_out_and_the_deadline_is_looked_at(folder, monkeypatch):
    judge = RewardModel(SideModel(ModelName(path=str(folder))))
    whole = [one.value for one in judge.answers(PAIRS, Deadline())]
    model, _ = judge._opened()
    forward = type(model).forward

    def small(self, input_ids, **others):
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, input_ids=input_ids, **others)

    monkeypatch.setattr(type(model), "forward", small)
    assert [one.value for one in judge.answers(PAIRS, Deadline())] == pytest.approx(whole, rel=1e-4)
    with pytest.raises(TrialTimeoutError):
        judge.answers(PAIRS, Deadline(-1.0))


def test_a_pass_reads_no_more_tokens_than_it_may():
    judge = RewardModel(SideModel(ModelName(path="none")))
    judge._tokens = 20
    rows = [{"input_ids": [1] * length} for length in (3, 10, 5, 30, 5)]
    assert list(judge._batches(rows)) == [[3], [1, 2], [4, 0]]


@pytest.mark.parametrize(
    ("settings", "score"),
    [
        ({"shape": "reverse"}, -2.0),
        ({"reward_range": [-2, 6]}, 0.5),
        ({"reward_range": [-2, 6], "shape": "reverse"}, -0.5),
        ({"reward_range": [-2, 6], "shape": "concise", "length_range": [0, 100]}, 0.625),
        ({"reward_range": [-2, 6], "shape": "verbose", "length_range": [0, 100]}, 0.375),
        ({"reward_range": [-2, 1], "shape": "verbose", "length_range": [0, 10]}, 1.0),
    ],
)
def test_rewards_are_scaled_and_shaped_by_length(folder, settings, score):
    kind = made(folder, **settings)
    judging = kind.judge(next(iter(kind.items())))
    assert judging.send(None) == AskText("the quick", 200)
    asked = judging.send(" fox ")
    assert isinstance(asked, AskOther)
    assert asked.content == ("the quick", "fox")
    with pytest.raises(StopIteration) as over:
        judging.send(Reward(2.0, 25))
    assert over.value.value.values == {"reward": 2.0, "tokens": 25.0, "score": score}
    assert kind.measures[0].name == "score"
    assert kind.measures[2].higher_is_better == (settings.get("shape") == "verbose")


def test_a_task_is_scored_by_it_and_splits_share_the_model(folder, live_model):
    tasks = [
        Task.model_validate({"reward": {"file": "rm.json", "model": str(folder), "max_tokens": 4}}),
        Task.model_validate(
            {"reward": {"file": "rm.json", "model": str(folder), "max_tokens": 4, "name": "t"}}
        ),
    ]
    evaluator = evaluator_for(tasks, EvaluationBlock(), ENGINES["transformers"])
    evaluation = evaluator.evaluate(live_model)
    texts = [(one.prompt, one.answer) for one in evaluation.samples]
    assert [prompt for prompt, _ in texts[::2]] == [PAIRS[0][0], PAIRS[1][0]]
    one, two = evaluation.documents[0], evaluation.documents[len(PAIRS)]
    assert one.values == two.values
    wanted = alone(folder, [(PAIRS[0][0], one.answer)], 3)[0]
    assert one.values["reward,none"] == pytest.approx(wanted, rel=1e-4)
    ((what, held),) = evaluator.room().items()
    assert (what, held.n_bytes) == (f"reward model {folder}", pytest.approx(80_000, rel=0.5))
    assert list(evaluator.findings()) == []


def test_a_reward_model_whose_files_were_changed_is_another_and_the_former_is_let_go(
    live_model, tmp_path
):
    place = tiny_reward_model(tmp_path / "reward")
    given = {"reward": {"file": "rm.json", "model": str(place), "max_tokens": 4}}

    def scored():
        tasks = [Task.model_validate(given)]
        evaluator = evaluator_for(tasks, EvaluationBlock(), ENGINES["transformers"])
        return evaluator, evaluator.evaluate(live_model).metrics[0].value

    evaluator, first = scored()
    (kind,) = evaluator._kinds
    former = weakref.ref(kind._model._opened()[0])
    del evaluator, kind
    model = AutoModelForSequenceClassification.from_pretrained(place)
    with torch.no_grad():
        model.score.weight.mul_(-2)
    model.save_pretrained(place)
    _, second = scored()
    assert second == pytest.approx(-2 * first, rel=1e-4)
    gc.collect()
    assert former() is None


def test_scores_stand_on_every_byte_of_the_reward_model(folder, tmp_path):
    other = tiny_reward_model(tmp_path / "other")
    assert made(folder).stands_on() == made(other).stands_on()
    assert made(folder).stands_on() != made(folder, max_tokens=3).stands_on()
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rope_theta": 1.0}))
    assert made(folder).stands_on() != made(other).stands_on()


def test_what_is_no_reward_model_is_refused_by_check_and_when_it_is_loaded(tmp_path):
    two = tiny_reward_model(tmp_path / "two", num_labels=2)
    writer = tiny_model(tmp_path / "writer")
    for place, told, loading in (
        (two, "has 2 labels, expected one", "it has several labels"),
        (
            writer,
            "is LlamaForCausalLM, expected a model whose architecture ends in",
            "score.weight",
        ),
        (tmp_path / "none", "there is no folder", "cannot be loaded"),
    ):
        (finding,) = made(place).findings()
        assert (finding.severity, finding.problem.where) == (Severity.ERROR, "model")
        assert told in str(finding)
        with pytest.raises(RunError, match=loading):
            RewardModel(SideModel(ModelName(path=str(place)))).answers(PAIRS, Deadline())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda place: (place / "config.json").write_text("{"), "has no config.json that names"),
        (lambda place: [one.unlink() for one in place.glob("tokenizer*")], "has no tokenizer"),
        (lambda place: (place / "model.safetensors").write_bytes(b"cut"), "has no weights"),
    ],
    ids=["config", "tokenizer", "weights"],
)
def test_a_folder_that_is_no_whole_model_is_told_before_a_run_and_ends_one(tmp_path, spoil, told):
    place = tiny_reward_model(tmp_path / "reward")
    spoil(place)
    (finding,) = made(place).findings()
    assert (finding.severity, finding.problem.where) == (Severity.ERROR, "model")
    assert told in str(finding)
    with pytest.raises(RunError, match="the reward model cannot be loaded"):
        RewardModel(SideModel(ModelName(path=str(place)))).answers(PAIRS, Deadline())


def test_code_and_pickles_of_a_reward_model_are_refused_unless_they_are_allowed(folder, tmp_path):
    other = tiny_reward_model(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "a.B"}}))
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    own_code, pickled = made(other).findings()
    assert "needs Python code of its own" in str(own_code)
    assert "has its weights in pickle files alone" in str(pickled)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"shape": "concise"}, "shape concise adds reward and length, which needs a reward_range"),
        ({"reward_range": [3, 3]}, "does not rise"),
        ({"model": "org/reward+org/lora"}, "is no reward model by itself"),
        ({"shape": "short"}, "Input should be 'default', 'concise'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, settings, sentence):
    with pytest.raises(ValidationError, match=sentence):
        made(folder, **settings)
