"""What people are shown of a model's answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from evomerge.evaluators.few_samples import _end, _start
from evomerge.evaluators.lm_eval.samples import _answer


def asked(*options: str, likeliest: str, kind: str = "loglikelihood"):
    """The requests of a document, and what a model finds of them."""
    return [
        (
            SimpleNamespace(request_type=kind, args=("prompt", option)),
            [(-1.0 if option == likeliest else -2.0, option == likeliest)],
        )
        for option in options
    ]


def test_the_answer_among_options_is_the_likeliest():
    assert _answer(asked(" a", " b", likeliest=" b")) == " b"


@pytest.mark.parametrize(
    ("likeliest", "shown"), [("two", "two"), ("one", "(another text is likelier)")]
)
def test_a_text_that_is_asked_for_alone_is_no_answer_unless_it_is_likeliest(likeliest, shown):
    assert _answer(asked("two", likeliest=likeliest)) == shown


def test_what_is_cut_of_a_long_text_is_counted():
    text = "a" * 100 + "b" * 200
    assert _start(text) == f"{'a' * 100}{'b' * 140} (… 60 characters)"
    assert _end(text) == f"(60 characters …) {'a' * 40}{'b' * 200}"
    assert _start("b" * 240) == _end("b" * 240) == "b" * 240
