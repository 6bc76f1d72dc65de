"""Has another model rate what a model answers, as MT-Bench does: 1 to 10, or against an opponent.

Files are as FastChat has them: ``question.jsonl`` with one or two turns, ``judge_prompts.jsonl``,
and for an opponent's or reference answers ``model_answer/MODEL.jsonl``.

Source: Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (2023),
arXiv:2306.05685; FastChat's ``llm_judge``.
Differs: the model's own chat template; a rating is the last ``[[number]]`` of a reply and lies in
[1, 10]; what cannot be had is missing, never a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from evomerge.evaluators.asking.asked import AskOther, AskText, Message
from evomerge.evaluators.asking.asking_kind import (
    Around,
    Asking,
    AskingKind,
    Item,
    Judgement,
    Lesson,
    NotAskedError,
    RightReply,
    Shown,
)
from evomerge.evaluators.beside import Room
from evomerge.evaluators.judge.asked_once import AskedOnce, Request
from evomerge.evaluators.judge.judge_findings import findings_of
from evomerge.evaluators.judge.judge_measures import (
    COST,
    SPREAD,
    TOKENS,
    TURNS,
    measures_for,
    spread_values,
    token_values,
)
from evomerge.evaluators.judge.judge_settings import JudgeSettings
from evomerge.evaluators.judge.kept_judgments import (
    FOLDER,
    KeptJudgments,
    Remark,
    copy_judgments,
    kept_in,
)
from evomerge.evaluators.judge.local_judge import LocalJudge
from evomerge.evaluators.judge.prompt_file import JudgePrompt, prompts_in, unfit
from evomerge.evaluators.judge.question_file import (
    JudgedQuestion,
    answers_in,
    questions_in,
    unanswered,
)
from evomerge.evaluators.judge.rating import UnreadableReplyError
from evomerge.evaluators.judge.remote_judge import RemoteJudge, RequestLimits
from evomerge.evaluators.judge.ruling import Duel, Grade, Ruling
from evomerge.evaluators.kind_of_task import Measure
from evomerge.evaluators.side_model import SideModel
from evomerge.foundations.errors import GenomeError, Problem
from evomerge.foundations.findings import Finding
from evomerge.genome.task_blocks import Task

T = TypeVar("T")
_N_NAMED = 5  # questions in a message


class Judge(AskingKind[JudgedQuestion]):
    """``judge: {questions: ..., prompts: ..., model: ...}``: higher is better, from 1 to 10."""

    Settings = JudgeSettings
    settings: JudgeSettings
    measures: tuple[Measure, ...] = (Grade.measure, Duel.measure, *TURNS, SPREAD, *TOKENS, COST)
    is_verifiable = False  # a judgment costs, and may be another tomorrow
    too_long = "their beginnings are not read. Shorten the questions, or lower max_tokens."

    def __init__(self, task: Task, around: Around) -> None:
        super().__init__(task, around)
        settings = self.settings
        self.max_new_tokens = settings.max_tokens
        self.most_missing = settings.most_missing
        self.measures = tuple(measures_for(settings))
        self._questions: Sequence[JudgedQuestion] = ()
        self._prompts: Mapping[str, JudgePrompt] = {}
        self._ruling: Ruling = Grade()
        self._beside: SideModel | None = None
        self._judge = self._local() or self._remote()

    def items(self) -> Iterator[Item[JudgedQuestion]]:
        """See :meth:`AskingKind.items`."""
        files, settings = _Files(), self.settings
        questions = files.read("questions", settings.questions, questions_in)
        prompts = files.read("prompts", settings.prompts, prompts_in)
        references = files.read("references", settings.references, answers_in)
        opponent = files.read("opponent", settings.opponent, answers_in)
        files.refuse()
        found = [self._with_references(one, references or {}) for one in questions or ()]
        if opponent is not None:
            self._ruling = Duel(opponent)
            files.note("opponent", _unanswered(settings.opponent, found, opponent))
        self._prompts = prompts or {}
        self.rounds = max((len(one.turns) for one in found), default=1)
        files.refuse()
        files.note("prompts", self._unfit(found))
        files.refuse()
        self._questions = found
        for one in found:
            rivals = () if opponent is None else opponent[one.name][: len(one.turns)]
            temperature = self.settings.temperature_of(one.category)
            row = [one.name, list(one.turns), list(one.references), list(rivals), temperature]
            yield Item(one, "\n".join(one.turns), row)

    def judge(self, item: Item[JudgedQuestion]) -> Asking:
        """See :meth:`AskingKind.judge`; an answer is judged while the next one is written."""
        question = item.content
        temperature = self.settings.temperature_of(question.category)
        chat: tuple[Message, ...] = ()
        answers: list[str] = []
        remarks: list[list[Remark]] = []  # of each turn
        asked: list[AskOther] = []
        try:
            for turn, text in enumerate(question.turns):
                chat = (*chat, Message("user", text))
                ask = AskText(chat if turn else text, self.max_new_tokens, temperature=temperature)
                reply, *heard = yield [ask, *asked]
                remarks += [heard] if turn else []
                answers.append(str(reply).strip())
                chat = (*chat, Message("assistant", answers[-1]))
                asked = self._asked(question, turn, answers)
            remarks.append((yield asked))
        except NotAskedError:  # judgments of the answers before the last one are paid for
            pass
        return self._judged(question, answers, remarks)

    def lesson(self, item: Item[JudgedQuestion]) -> Lesson | None:
        """See :meth:`AskingKind.lesson`: of one turn, the answer that was rated best."""
        question = item.content
        if len(question.turns) > 1:
            return None
        temperature = self.settings.temperature_of(question.category)
        return RightReply(AskText(question.turns[0], self.max_new_tokens, temperature=temperature))

    def findings(self) -> Iterator[Finding]:
        """See :meth:`AskingKind.findings`."""
        asked: list[tuple[Any, int]] = [
            (each.content, turn + 1)
            for one in self._questions
            for turn in range(len(one.turns))
            for each in self._asked(one, turn, [""] * len(one.turns))
        ]
        yield from findings_of(self.settings, self._questions, len(asked))
        if self._beside is not None:
            yield from self._beside.findings("local_model")
        if isinstance(self._judge, LocalJudge):
            yield from self._judge.findings(asked, self.max_new_tokens)

    def room(self) -> Room:
        """See :meth:`AskingKind.room`."""
        held = None if self._beside is None else self._beside.beside(by_turns=True)
        return {f"judge {self.settings.judge_name}": held} if held and held.n_bytes else {}

    def stands_on(self) -> list[object]:
        """See :meth:`AskingKind.stands_on`; not where the judge is reached, or how patiently."""
        settings = self.settings
        names = sorted(name for name in self._prompts if name.startswith(self._ruling.names))
        return [
            {name: self._prompts[name].data for name in names},
            [*self._who(), settings.repeats, settings.max_tokens],
        ]

    def keep_in(self, run_dir: Path | None) -> None:
        """See :meth:`AskingKind.keep_in`."""
        self._judge.keep_in(KeptJudgments() if run_dir is None else kept_in(run_dir / FOLDER))

    @classmethod
    def carry(cls, old: Path, new: Path) -> None:
        """See :meth:`KindOfTask.carry`."""
        copy_judgments(old / FOLDER, new / FOLDER)

    def _who(self) -> list[Any]:
        """What tells one judge from another: of a local one every byte."""
        own = self.settings
        if self._beside is None:
            return [own.model, own.body]
        return [self._beside.fingerprint, own.dtype, own.judge_tokens, own.temperature]

    def _remote(self) -> AskedOnce:
        own = self.settings
        return RemoteJudge(
            [own.base_url, own.model, own.body],
            own.connect,
            RequestLimits(own.parallel, own.attempts, own.request_timeout),
            f"judge {own.judge_name}",
        )

    def _local(self) -> AskedOnce | None:
        own, around = self.settings, self.around
        if own.local_model is None:
            return None
        self._beside = SideModel.allowed(own.local_model, own.device, own.dtype, around.permissions)
        temperature = own.temperature or 0.0
        return LocalJudge(self._beside, own.judge_tokens, temperature, around.seed)

    def _with_references(
        self, question: JudgedQuestion, others: Mapping[str, tuple[str, ...]]
    ) -> JudgedQuestion:
        """The question with the references that its judge is shown."""
        if question.category not in self.settings.referenced:
            return replace(question, references=())
        given = others.get(question.name, ())[: len(question.turns)]
        return (
            replace(question, references=given) if len(given) == len(question.turns) else question
        )

    def _unfit(self, questions: Sequence[JudgedQuestion]) -> Iterator[str]:
        """What keeps the prompts from being asked, each once."""
        for question in questions:
            answers = [""] * len(question.turns)
            for turn in range(len(question.turns)):
                name = self._name(question, turn)
                values = [*self._ruling.places(question, turn, answers)[0]]
                needed = self._ruling.needed_places(turn)
                own = self._prompts.get(name)
                known = [*self._prompts]
                yield from unfit(own, name, self._ruling.output, values, needed, known)

    def _name(self, question: JudgedQuestion, turn: int) -> str:
        return self._ruling.prompt_name(turn, is_referenced=bool(question.references))

    def _asked(self, question: JudgedQuestion, turn: int, answers: Sequence[str]) -> list[AskOther]:
        """What a turn is judged by, repeat after repeat."""
        prompt = self._prompts[self._name(question, turn)]
        filled = [prompt.filled(one) for one in self._ruling.places(question, turn, answers)]
        return [
            AskOther(self._judge, Request(messages, repeat))
            for repeat in range(self.settings.repeats)
            for messages in filled
        ]

    def _judged(
        self, question: JudgedQuestion, answers: Sequence[str], remarks: Sequence[Sequence[Remark]]
    ) -> Judgement:
        """What came of a question; nobody may have been asked about its last answer."""
        by_repeat = [self._read(own) for own in remarks]
        by_turn = [[one for one in own if isinstance(one, float)] for own in by_repeat]
        lacks = [one for own in by_repeat for one in own if isinstance(one, str)]
        means = [sum(own) / len(own) for own in by_turn if own]
        values = token_values(self.settings, [one for own in remarks for one in own])
        is_whole = len(means) == len(answers)
        if is_whole:
            values[self._ruling.measure.name] = sum(means) / len(means)
            values |= spread_values(by_turn, self.settings.repeats)
        if is_whole or len(remarks) < len(answers):
            values |= {turn.name: one for turn, one in zip(TURNS, means, strict=False)}
        told = "\n\n".join(
            f"[answer {turn}]\n{answer}" + (f"\n\n{self._told(*judged)}" if judged else "")
            for turn, (answer, judged) in enumerate(
                zip_longest(answers, zip(remarks, by_repeat, strict=True)), 1
            )
        )
        turns = question.turns[: len(answers)]
        shown = Shown("\n\n".join(turns), told, "\n\n".join(question.references))
        return Judgement(values, told, shown, "" if is_whole else next(iter(lacks), ""))

    def _read(self, remarks: Sequence[Remark]) -> list[float | str]:
        """The value of each repeat, or why it has none."""
        n_each = len(remarks) // self.settings.repeats
        found: list[float | str] = []
        for start in range(0, len(remarks), n_each):
            own = remarks[start : start + n_each]
            try:
                found.append(self._ruling.value([one.text for one in own]))
            except UnreadableReplyError as error:
                found.append(next((one.problem for one in own if one.problem), str(error)))
        return found

    def _told(self, remarks: Sequence[Remark], found: Sequence[float | str]) -> str:
        """Judgments of one answer, for people."""
        n_each = len(remarks) // len(found)
        return "\n\n".join(
            f"[judgment: {f'{value:g}' if isinstance(value, float) else value}]\n"
            + "\n\n".join(one.text for one in remarks[place * n_each : (place + 1) * n_each])
            for place, value in enumerate(found)
        )


class _Files:
    """Reads files, and remembers what is wrong with all of them."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def read(self, key: str, file: str | None, way: Callable[[str], T]) -> T | None:
        """What a file holds; None where there is none, or it cannot be read."""
        try:
            return None if file is None else way(file)
        except GenomeError as error:
            self._problems += (replace(one, where=key) for one in error.problems)
            return None

    def note(self, key: str, found: Iterator[str]) -> None:
        """Remembers what is wrong under a key, each thing once."""
        self._problems += (Problem(what, key, "Mend the file.") for what in dict.fromkeys(found))

    def refuse(self) -> None:
        """Does nothing where all is well.

        Raises:
            GenomeError: everything that is wrong.
        """
        if self._problems:
            raise GenomeError.of(self._problems)


def _unanswered(
    file: str | None, questions: list[JudgedQuestion], answers: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    missing = [*unanswered(questions, dict(answers))]
    if missing:
        more = f" and {len(missing) - _N_NAMED} more" if len(missing) > _N_NAMED else ""
        yield f"{file!r} lacks answers to questions {', '.join(missing[:_N_NAMED])}{more}"
