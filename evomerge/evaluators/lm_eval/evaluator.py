"""The evaluator that scores a live model on lm-eval tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from lm_eval.defaults import DEFAULT_OTHER_SEED

from evomerge.evaluators.asking.asking_kind import AskingTogether
from evomerge.evaluators.asking.in_rounds import InRounds
from evomerge.evaluators.asking.rounds import Hearing
from evomerge.evaluators.built_model import BuiltModel, Report, Scored
from evomerge.evaluators.chat_prompts import template_for
from evomerge.evaluators.lm_eval import sanity
from evomerge.evaluators.lm_eval.answers import questions_of
from evomerge.evaluators.lm_eval.blame import prompt_of, whereabouts
from evomerge.evaluators.lm_eval.first_documents import named, settled
from evomerge.evaluators.lm_eval.isolation import inside_lm_eval
from evomerge.evaluators.lm_eval.language_model import LiveLanguageModel
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf, TaskEntry, load
from evomerge.evaluators.lm_eval.own_contents import contents_of
from evomerge.evaluators.lm_eval.own_facts import facts_of
from evomerge.evaluators.lm_eval.requests import Requests, Responses
from evomerge.evaluators.lm_eval.scoring import score
from evomerge.evaluators.lm_eval.task_digests import identity_of
from evomerge.evaluators.questions import Question
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import TaskFacts
from evomerge.foundations.errors import GenomeError
from evomerge.foundations.seeding import stream_seed
from evomerge.genome.task_blocks import Task
from evomerge.inference.base import context_length
from evomerge.inference.shortage import freed_on_shortage, told_of_passes
from evomerge.nouns.evaluation import Evaluation, Metric, MetricKey

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from evomerge.foundations.deadline import Deadline
    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel

TEXTS_CHECKED = 8  # per task, by `sanity_warnings`


class LmEval(InRounds):
    """Scores as `lm_eval.simple_evaluate` with its Hugging Face model does.

    Tasks are built once, requests once per tokenizer, texts tokenised once. Each evaluation then
    costs the forward passes, lm-eval's filters and its metrics. Few-shot examples use lm-eval's
    own default seed, so that scores equal those of its command line.
    """

    reads = InRounds.reads | {"num_fewshot", "language"}
    means = "lm-eval"
    _entries: tuple[TaskEntry, ...] | None = None
    _language_model: LiveLanguageModel | None = None
    # Places of tasks -> what they ask, and who reads it with that one's tokenizer.
    _parts: dict[tuple[int, ...], tuple[LiveLanguageModel, Requests]]
    _contents: tuple[TaskContents, ...] | None = None
    _facts: tuple[TaskFacts, ...] | None = None

    def prepare(self) -> tuple[MetricKey, ...]:
        """Loads tasks and data; the metric of each task, in the order of the tasks.

        Raises:
            GenomeError: unknown tasks, metrics, documents; all of them together.
        """
        return tuple(entry.key for entry in self.loaded())

    def hearings(self, model: LiveModel, engine: Engine, places: Sequence[int]) -> list[Hearing]:
        """See :meth:`InRounds.hearings`: one of all the documents of these tasks.

        Raises:
            GenomeError: the settings fit no model with this tokenizer.
        """
        language_model, requests = self._part_for(model, tuple(places))
        language_model.engine = engine
        return [_Documents.of(requests.asking(language_model, self._generation_seed), self.tasks)]

    def evaluation(self, heard: Sequence[Hearing]) -> Evaluation:
        """See :meth:`InRounds.evaluation`; all other metrics with a direction follow.

        Raises:
            EvaluationError: the forward passes gave no numbers, or code of a task failed.
        """
        responses: dict[Any, Sequence[Any]] = {}
        for one in heard:
            responses |= cast(_Documents, one).responses
        with self.inside(self._generation_seed):
            return score(self.loaded(), responses)

    def first_documents(
        self, model: LiveModel, deadline: Deadline | None = None
    ) -> tuple[Metric, ...]:
        """See :meth:`Evaluator.first_documents`."""
        language_model = self._language_model_of(model.tokenizer)
        language_model.bind(model.module, deadline)
        self._language_model = None  # requests for a few documents only

        def ask(n_documents: int) -> Responses:
            self._build_requests(language_model, n_documents)
            return _responses(Requests(self._leaves()), language_model)

        with self.inside(self._generation_seed), freed_on_shortage():
            found = settled(self.loaded(), ask)
        self._entries = tuple(entry for entry, _ in found)
        return tuple(metric for _, metric in found)

    def settle(self, keys: Sequence[MetricKey]) -> None:
        """See :meth:`Evaluator.settle`."""
        self._entries = tuple(map(named, self.loaded(), keys))

    def identity(self) -> Mapping[str, str]:
        """Task name -> digest of its documents, its settings and the metric read from it."""
        return {entry.key.task: identity_of(entry) for entry in self.loaded()}

    def contents(self) -> tuple[TaskContents, ...]:
        """Digests of the documents of each task, of each member of a group."""
        if self._contents is None:
            with self.inside():
                self._contents = tuple(contents_of(self.loaded()))
        return self._contents

    def facts(self) -> tuple[TaskFacts, ...]:
        """What is known of each task before a model is scored; after :meth:`prepare`."""
        with self.inside():
            return tuple(facts_of(entry) for entry in self.loaded())

    def questions(self, model: LiveModel) -> tuple[Question, ...]:
        """See :meth:`Evaluator.questions`."""
        language_model = self.language_model_for(model)
        language_model.bind(model.module)
        return questions_of(self.loaded(), language_model, self.inside)

    def warnings(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> tuple[str, ...]:
        """One sentence for each sign that model and tokenizer do not fit the prompts.

        Raises:
            GenomeError: the prompts cannot be built, or generations leave no room for them.
        """
        language_model = self._language_model_of(tokenizer)
        with self.inside():
            self._build_requests(language_model, n_documents=TEXTS_CHECKED)
        self._language_model = None  # requests for a few documents only
        max_length = context_length(config, tokenizer)
        texts = list(self._some_texts())
        has_bos = bool(tokenizer.bos_token) and all(
            text.startswith(str(tokenizer.bos_token)) for text in texts
        )
        found = (
            "" if has_bos else sanity.bos_warning(tokenizer, config),
            sanity.roundtrip_warning(tokenizer, texts),
            *(sanity.length_warning(tokenizer, max_length, leaf) for leaf in self._leaves()),
            *(sanity.answer_warning(leaf) for leaf in self._leaves()),
        )
        return tuple(filter(None, found))

    def score_folder(
        self, built: BuiltModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """See :meth:`Evaluator.score_folder`; lm-eval's own model and evaluation."""
        # lm-eval's own model is heavy, and nothing else needs it.
        from evomerge.evaluators.lm_eval.hf_model import ReferenceModel, open_model
        from evomerge.evaluators.lm_eval.lm_eval_alone import Reference

        opener: Callable[[BuiltModel], ReferenceModel] = open_model
        model = built.opened_by(opener)
        model.tokens_per_pass = self.engine.tokens_per_pass(built.device)
        reference = Reference(self.loaded(), built.settings, self.seed, self.permissions)
        return reference.score(model, report, recorded)

    def inside(self, torch_seed: int = DEFAULT_OTHER_SEED) -> AbstractContextManager[None]:
        """Where lm-eval's own code runs: quiet, seeded, and with what the user allows."""
        return inside_lm_eval(torch_seed, unsafe_code=self.permissions.unsafe_code)

    def loaded(self) -> tuple[TaskEntry, ...]:
        """The tasks as lm-eval holds them, read when they are first asked for."""
        if self._entries is None:
            with self.inside():
                self._entries = load(
                    self.tasks,
                    self.search_path,
                    self.settings.gen_kwargs,
                    self.seed,
                    unsafe_code=self.permissions.unsafe_code,
                )
        return self._entries

    def let_go(self) -> None:
        """See :meth:`Evaluator.let_go`."""
        super().let_go()
        self._language_model, self._parts = None, {}

    @property
    def _generation_seed(self) -> int:
        return stream_seed(self.seed, "generation")

    def _leaves(self) -> Iterator[Leaf]:
        return (leaf for entry in self.loaded() for leaf in entry.leaves)

    def _some_texts(self) -> Iterator[str]:
        for leaf in self._leaves():
            for request in islice(leaf.task.instances, TEXTS_CHECKED):
                yield "".join(part for part in request.args if isinstance(part, str))

    def language_model_for(self, model: LiveModel) -> LiveLanguageModel:
        """The language model for ``model``; requests are rebuilt for a new tokenizer."""
        language_model = self._language_model
        if language_model is None or language_model.tokenizer is not model.tokenizer:
            language_model = self._language_model_of(model.tokenizer)
            self._language_model = None  # its requests are gone, whatever comes of these
            with self.inside():
                self._build_requests(language_model)
            self._language_model, self._parts = language_model, {}
        return language_model

    def _part_for(
        self, model: LiveModel, places: tuple[int, ...]
    ) -> tuple[LiveLanguageModel, Requests]:
        """What some tasks ask, and who reads it: all by one but for a mixture by task."""
        language_model, entries = self.language_model_for(model), self.loaded()
        if places not in self._parts:
            leaves = [leaf for place in places for leaf in entries[place].leaves]
            is_all = len(places) == len(entries)
            own = language_model if is_all else self._language_model_of(model.tokenizer)
            self._parts[places] = own, Requests(leaves)
        return self._parts[places]

    def _language_model_of(self, tokenizer: PreTrainedTokenizerBase) -> LiveLanguageModel:
        template = self._chat_template(tokenizer)
        name = template if isinstance(template, str) else None
        engine = self.engine(tokenizer, self.settings.batch_size, self.settings.exactness)
        return LiveLanguageModel(engine, name)

    def _build_requests(
        self, language_model: LiveLanguageModel, n_documents: int | None = None
    ) -> None:
        """Builds the prompts of all documents, or of the first few of each task."""
        is_chat = bool(self._chat_template(language_model.tokenizer))
        multiturn = self.settings.fewshot_as_multiturn
        for leaf in self._leaves():
            leaf.task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
            try:
                leaf.task.build_all_requests(
                    limit=_fewest(leaf.limit, n_documents) if leaf.samples is None else None,
                    samples=None if leaf.samples is None else leaf.samples[:n_documents],
                    system_instruction=self.settings.system_instruction,
                    apply_chat_template=is_chat,
                    fewshot_as_multiturn=is_chat if multiturn is None else multiturn,
                    chat_template=language_model.apply_chat_template if is_chat else None,
                )
            # Templates and functions of the task run here, on every document.
            except (Exception, SystemExit) as error:
                reason = f"{prompt_of(error, leaf.number)}{whereabouts(error)}"
                what = f"the prompts of task {leaf.name!r} cannot be built ({reason})"
                raise GenomeError(what, where="tasks") from error

    def _chat_template(self, tokenizer: PreTrainedTokenizerBase) -> bool | str:
        """Whether a chat template is applied; its name where the genome names one."""
        return template_for(tokenizer, self.settings.apply_chat_template)


@dataclass
class _Documents(Hearing):
    """Documents of lm-eval's, which its own code judges once all are answered."""

    responses: Responses = field(default_factory=dict)

    @classmethod
    def of(cls, asking: Generator[Any, Any, Responses], tasks: Sequence[Task]) -> _Documents:
        """What some tasks ask."""

        def heard() -> AskingTogether:
            made.responses = yield from asking
            return ()

        made = cls(", ".join(task.name for task in tasks), (), heard())
        return made


def _responses(requests: Requests, language_model: LiveLanguageModel) -> Responses:
    """What a model answers.

    Raises:
        OutOfMemoryError: a forward pass did not fit the memory.
        EvaluationError: it failed.
    """
    with told_of_passes():
        return requests.ask(language_model)


def _fewest(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)
