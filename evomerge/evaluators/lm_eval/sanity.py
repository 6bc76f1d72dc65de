"""Signs that a tokenizer and its model do not fit lm-eval's prompts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from evomerge.evaluators.lm_eval.blame import of_each
from evomerge.evaluators.lm_eval.lm_eval_tasks import Leaf
from evomerge.evaluators.lm_eval.own_facts import part_facts
from evomerge.foundations.errors import GenomeError

SHOWN = 40  # characters of a text quoted in a warning


def bos_warning(tokenizer: PreTrainedTokenizerBase, config: Any) -> str:
    """One sentence if the model expects a BOS that lm-eval will not give it, else "".

    lm-eval adds what the tokenizer adds by itself. A tokenizer that defines a BOS apart from
    EOS, does not add it and does not say so on purpose (``add_bos_token: false``) is suspect.

    Args:
        tokenizer: Of the model.
        config: The model's configuration.
    """
    bos = tokenizer.bos_token_id
    if bos is None or bos == tokenizer.eos_token_id:
        return ""
    if tokenizer.init_kwargs.get("add_bos_token") is False or bos in tokenizer.encode("a"):
        return ""
    model_type = getattr(config, "model_type", "model")
    return (
        f"the {model_type} tokenizer has a BOS token {tokenizer.bos_token!r} but does not add it, "
        "and neither does lm-eval; a model trained only with one scores near zero without it. "
        "Save the tokenizer with a post-processor that adds BOS, or with add_bos_token: false."
    )


def length_warning(tokenizer: PreTrainedTokenizerBase, max_length: int, leaf: Leaf) -> str:
    """One sentence if prompts of a task are longer than what the model reads, else "".

    Args:
        tokenizer: Of the model.
        max_length: Tokens the model reads.
        leaf: The task, with the prompts that are to be looked at.

    Raises:
        GenomeError: the answer alone takes all the room.
    """
    new_tokens = part_facts(leaf).max_new_tokens
    if new_tokens >= max_length:
        raise GenomeError(
            f"max_gen_toks {new_tokens} of task {leaf.name!r} leaves no room for a prompt, the "
            f"model reads {max_length} tokens",
            where="evaluation.gen_kwargs",
            fix=f"Set max_gen_toks below {max_length}.",
        )
    prompts = ["".join(filter(_is_text, request.args)) for request in leaf.task.instances]
    lengths = [len(tokenizer.encode(prompt)) for prompt in prompts]
    n_cut = sum(length + new_tokens > max_length for length in lengths)
    if leaf.task.OUTPUT_TYPE == "loglikelihood_rolling" or not n_cut:
        return ""
    answer = f" with {new_tokens} tokens for the answer" if new_tokens else ""
    return (
        f"{n_cut} of the first {len(lengths)} prompts of task {leaf.name!r} do not fit the "
        f"{max_length} tokens that the model reads{answer} (longest: {max(lengths)}); they lose "
        "their beginning. Use fewer worked examples or a smaller max_gen_toks."
    )


def answer_warning(leaf: Leaf) -> str:
    """One sentence if right answers are not among a task's options, else "".

    lm-eval counts such a document as wrong, whatever the model says.

    Args:
        leaf: The task, with the documents that are to be looked at.
    """
    task = leaf.task
    if task.OUTPUT_TYPE != "multiple_choice" or task.config.process_results is not None:
        return ""
    documents = {leaf.number(request.doc_id): request.doc for request in task.instances}
    n_lost = of_each(leaf.name, partial(_has_answer, task), documents.items()).count(False)
    if not n_lost:
        return ""
    return (
        f"the answer of {n_lost} of the first {len(documents)} documents of task {leaf.name!r} is "
        "not among its options; they count as wrong. Mend doc_to_target or doc_to_choice in its "
        "YAML."
    )


def _has_answer(task: Any, document: Any) -> bool:
    """Whether the answer, or every one of several, is an option or the number of one."""
    options = task.doc_to_choice(document)
    # A task whose options are questions to one answer names the right one as its text.
    answer = (task.doc_to_text if task.multiple_input else task.doc_to_target)(document)
    answers = answer if isinstance(answer, list) else [answer]
    return all(a < len(options) if isinstance(a, int) else a in options for a in answers)


def _is_text(argument: object) -> bool:
    return isinstance(argument, str)


def roundtrip_warning(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> str:
    """One sentence if a text does not survive encoding and decoding, else "".

    Blanks at either end are forgiven: many tokenizers add or drop one there.

    Args:
        tokenizer: To be tried.
        texts: The tasks' own texts.
    """
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        # The default cleanup removes blanks before punctuation, which lm-eval never sees.
        back = str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
        if back.strip() == text.strip():
            continue
        place = next((i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b), 0)
        start = max(0, place - SHOWN // 2)
        lost, got = text[start : start + SHOWN], back[start : start + SHOWN]
        blanks = "blanks vanish: " if "".join(back.split()) == "".join(text.split()) else ""
        return (
            f"the tokenizer does not give back the tasks' text, {blanks}{lost!r} becomes {got!r}. "
            "Check its pre-tokenizer and decoder, or choose another tokenizer."
        )
    return ""
