"""The evaluator that scores a live model by the likelihood it gives to whole texts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from evomerge.evaluators.base import Evaluator
from evomerge.evaluators.built_model import BuiltModel, Report, Scored
from evomerge.evaluators.perplexity.corpus import (
    FILTER,
    METRICS,
    Corpus,
    PerplexitySettings,
    corpus_of,
)
from evomerge.evaluators.task_contents import TaskContents
from evomerge.evaluators.task_facts import PartFacts, TaskFacts
from evomerge.foundations.canonical import digest
from evomerge.foundations.errors import EvaluationError, GenomeError, Problem, RunError, why
from evomerge.nouns.evaluation import Document, Evaluation, Metric, MetricKey

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from evomerge.evaluators.plain_mixture import PlainMixture
    from evomerge.foundations.deadline import Deadline
    from evomerge.inference.base import Engine
    from evomerge.merging.live_model import LiveModel

TEXTS_CHECKED = 8  # for their length
# Whatever torch and transformers raise on a model that they cannot load or run.
_FAILURES = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)


class Perplexity(Evaluator):
    """``perplexity: text.txt``: lower is better, and every document has a value of its own."""

    Settings = PerplexitySettings
    means = "transformers"
    _corpora: tuple[Corpus, ...] | None = None
    # Places of corpora that one model answers for -> what runs it, and their texts in its tokens.
    _engines: dict[tuple[int, ...], tuple[Engine, list[list[int]]]]

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._engines = {}

    def prepare(self) -> tuple[MetricKey, ...]:
        """Reads the files; the metric of each task, in their order.

        Raises:
            GenomeError: a file cannot be read or holds no texts, a metric is none; all together.
        """
        found = [corpus_of(task, f"tasks[{i}]", self.seed) for i, task in enumerate(self.tasks)]
        problems = [one for one in found if isinstance(one, Problem)]
        if problems:
            raise GenomeError.of(problems)
        self._corpora = tuple(one for one in found if isinstance(one, Corpus))
        return tuple(corpus.key for corpus in self._corpora)

    def evaluate(
        self, model: LiveModel, deadline: Deadline | None = None, batch_divisor: int = 1
    ) -> Evaluation:
        """See :meth:`Evaluator.evaluate`."""
        corpora = self._loaded()
        found: dict[int, list[float]] = {}
        for module, places in model.shared_out([corpus.key.task for corpus in corpora]):
            engine, tokens = self._engine_for(model, tuple(places))
            engine.bind(module, deadline, batch_divisor)
            given = iter(self._likelihoods(engine, tokens))
            found |= {place: list(islice(given, len(corpora[place].texts))) for place in places}
        return _evaluation(corpora, [one for place in sorted(found) for one in found[place]])

    def first_documents(
        self, model: LiveModel, deadline: Deadline | None = None
    ) -> tuple[Metric, ...]:
        """See :meth:`Evaluator.first_documents`; the names are known without."""
        few = [
            replace(corpus, texts=corpus.texts[:1], numbers=corpus.numbers[:1])
            for corpus in self._loaded()
        ]
        tokens = [tokens_of(corpus.texts[0], model.tokenizer) for corpus in few]
        engine = self._engine_of(model)
        engine.bind(model.module, deadline)
        found = self._likelihoods(engine, tokens)
        return _evaluation(few, found).metrics[: len(few)]

    def settle(self, keys: Sequence[MetricKey]) -> None:
        """See :meth:`Evaluator.settle`."""
        pairs = zip(self._loaded(), keys, strict=True)
        self._corpora = tuple(replace(corpus, key=key) for corpus, key in pairs)

    def identity(self) -> Mapping[str, str]:
        """Task name -> digest of its documents and of its metric."""
        return {
            one.key.task: digest([one.key.metric, list(one.numbers), list(one.texts)])
            for one in self._loaded()
        }

    def contents(self) -> tuple[TaskContents, ...]:
        """See :meth:`Evaluator.contents`; blanks and capitals make no other document."""
        return tuple(
            TaskContents(
                corpus.key.task,
                corpus.key.task,
                tuple(
                    (digest(" ".join(one.split()).casefold()), digest(one)) for one in corpus.texts
                ),
            )
            for corpus in self._loaded()
        )

    def facts(self) -> tuple[TaskFacts, ...]:
        """See :meth:`Evaluator.facts`."""
        return tuple(
            TaskFacts(
                one.key,
                higher_is_better=False,
                parts=(PartFacts(one.key.task, one.n_available, len(one.texts), 1.0, 0, False, 0),),
            )
            for one in self._loaded()
        )

    def warnings(
        self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
    ) -> tuple[str, ...]:
        """One sentence for each task whose documents are longer than what the model reads."""
        from evomerge.inference.base import context_length

        longest, found = context_length(config, tokenizer), []
        for one in self._loaded():
            few = one.texts[:TEXTS_CHECKED]
            n_long = sum(len(tokens_of(text, tokenizer)) > longest for text in few)
            if n_long:
                found.append(
                    f"{n_long} of the first {len(few)} documents of task {one.key.task!r} do not "
                    f"fit the {longest} tokens that the model reads; they are read in windows. "
                    "Make chunk_bytes smaller, or cut the lines of the file."
                )
        return tuple(found)

    def score_folder(
        self, built: BuiltModel, report: Report, recorded: Collection[str] = ()
    ) -> Scored:
        """See :meth:`Evaluator.score_folder`; transformers alone, one window at a time."""
        texts = [(one.key.task, text) for one in self._loaded() for text in one.texts]
        found = []
        try:
            module, tokenizer = built.opened_by(_opened)
            report(0.0)
            for task, text in texts:
                if built.mixture is not None:
                    cast("PlainMixture", module).answer_for(task)
                found.append(_alone(module, tokenizer, tokens_of(text, tokenizer)))
                report(len(found) / len(texts))
        except (*_FAILURES, MemoryError) as error:
            what = f"cannot be scored by transformers ({why(error)})"
            raise RunError(what, where=str(built.folder)) from error
        evaluation = _evaluation(self._loaded(), found)
        return evaluation.documents, {str(one.key): one.value for one in evaluation.metrics}

    def let_go(self) -> None:
        """See :meth:`Evaluator.let_go`."""
        self._engines = {}

    def _loaded(self) -> tuple[Corpus, ...]:
        """The documents, read when they are first asked for."""
        if self._corpora is None:
            self.prepare()
        return self._corpora or ()

    def _engine_for(
        self, model: LiveModel, places: tuple[int, ...]
    ) -> tuple[Engine, list[list[int]]]:
        """What answers for some corpora, and their texts; made once for a tokenizer."""
        known = self._engines.get(places)
        if known is None or known[0].tokenizer is not model.tokenizer:
            texts = [text for place in places for text in self._loaded()[place].texts]
            tokens = [tokens_of(text, model.tokenizer) for text in texts]
            known = self._engines[places] = self._engine_of(model), tokens
        return known

    def _engine_of(self, model: LiveModel) -> Engine:
        return self.engine(model.tokenizer, self.settings.batch_size, self.settings.engine)

    @staticmethod
    def _likelihoods(engine: Engine, tokens: Sequence[Sequence[int]]) -> list[float]:
        from evomerge.inference.shortage import freed_on_shortage, told_of_passes  # loads torch

        with freed_on_shortage(), told_of_passes():
            return engine.text_log_likelihoods(tokens)


def tokens_of(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens of a document, without any that the tokenizer would add.

    Raises:
        EvaluationError: there are none.
    """
    found: list[int] = tokenizer.encode(text, add_special_tokens=False)
    if not found:
        raise EvaluationError(f"the tokenizer has no token for the text {text[:40]!r}")
    return found


def _evaluation(corpora: Sequence[Corpus], log_likelihoods: Sequence[float]) -> Evaluation:
    """Metrics and documents, from the log-likelihood of each text.

    Raises:
        EvaluationError: a metric that the genome reads is no finite number.
    """
    left, documents = iter(log_likelihoods), list[Document]()
    own, others = list[Metric](), list[Metric]()
    for corpus in corpora:
        likelihoods = list(islice(left, len(corpus.texts)))
        by_metric = {
            metric: [value(*pair) for pair in zip(corpus.texts, likelihoods, strict=True)]
            for metric, value in _VALUES.items()
        }
        for index, number in enumerate(corpus.numbers):
            values = {f"{name},{FILTER}": given[index] for name, given in by_metric.items()}
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            documents.append(Document(corpus.key.task, number, finite))
        for name, given in by_metric.items():
            metric = _mean(MetricKey(corpus.key.task, name, FILTER), given)
            if metric.key == corpus.key:
                own.append(metric)
            elif math.isfinite(metric.value):
                others.append(metric)
        if not math.isfinite(own[-1].value):
            what = f"metric {corpus.key} is {own[-1].value}, expected a finite number"
            raise EvaluationError(what)
    return Evaluation((*own, *others), tuple(documents))


def _mean(key: MetricKey, values: Sequence[float]) -> Metric:
    """The mean over documents, with the standard error of a mean; lower is better."""
    n, mean = len(values), sum(values) / len(values)
    error = None
    if n > 1 and math.isfinite(mean):
        error = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (n - 1) / n)
    return Metric(key, mean, error, n, higher_is_better=False)


def _bits_per_byte(text: str, log_likelihood: float) -> float:
    return -log_likelihood / math.log(2) / len(text.encode())


def _word_perplexity(text: str, log_likelihood: float) -> float:
    try:
        return math.exp(-log_likelihood / len(text.split()))
    except OverflowError:  # of a broken model
        return math.inf


_VALUES = dict(zip(METRICS, (_bits_per_byte, _word_perplexity), strict=True))


def _opened(built: BuiltModel) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder, as transformers loads them."""
    import torch
    from transformers import AutoTokenizer

    from evomerge.evaluators.plain_mixture import module_of
    from evomerge.models.quiet import quiet_transformers

    torch.set_num_threads(built.threads)
    with quiet_transformers():
        return module_of(built), AutoTokenizer.from_pretrained(
            built.folder, trust_remote_code=built.trust_remote_code
        )


def _alone(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]
) -> float:
    """Log-likelihood of a text, a pass for each window."""
    import torch

    from evomerge.inference.base import context_length
    from evomerge.inference.windows import windows_of

    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    longest, total = context_length(module.config, tokenizer), 0.0
    for context, own in windows_of(tokens, eos if bos is None else bos, longest):
        row = torch.tensor([[*context, *own][:-1]], device=module.device)
        with torch.inference_mode():
            logits = module(row).logits[0, -len(own) :].float()
        wanted = torch.tensor(own, device=logits.device).unsqueeze(1)
        total += float(logits.log_softmax(-1).gather(1, wanted).sum())
    return total
