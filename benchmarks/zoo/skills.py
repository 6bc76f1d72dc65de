"""The zoo's skills: small questions made from a seed, to be answered by writing or by choosing.

A question is a line of words, each one token. Which split it belongs to is read off a hash of the
question alone, so that no question of one split, of any skill, is ever in another or trained on.
"""

from __future__ import annotations

import random
import string
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

LETTERS = string.ascii_lowercase
CAPITALS = string.ascii_uppercase  # the second language: the same order, other signs
DIGITS = string.digits
N_SIGNS = 6  # shown in most questions
SPLIT_SIZES = {"search": 200, "validation": 100, "holdout": 500}  # documents of each skill
TRAINING = "training"
_N_BUCKETS = 8  # of questions; the first three belong to the splits
_VOWELS = "aeiou"
_CONSONANTS = "".join(letter for letter in LETTERS if letter not in _VOWELS)
_CIPHER = dict(zip(LETTERS, random.Random("cipher").sample(LETTERS, 26), strict=True))

_NOUNS = {"dog": "dogs", "cat": "cats", "bird": "birds", "king": "kings", "boat": "boats"}
_VERBS = {"sees": "see", "likes": "like", "hears": "hear", "finds": "find", "helps": "help"}
_ADJECTIVES = ("old", "small", "red", "happy", "green", "quiet")
_COMMANDS = (
    *("sort", "reverse", "rotate", "swap", "next", "back", "cipher", "plus", "minus", "times"),
    *("lookup", "count", "parity", "vowel", "common", "larger", "grammar", "by", "pick", "first"),
    *("last", "ordne", "folge", "user", "assistant", "please"),
)
_SIGNS = ("=", ":", "?", ",", ".", "yes", "no", "even", "odd", "left", "right", "the", "a")
WORDS = tuple(
    dict.fromkeys(
        (
            *(*_COMMANDS, *_SIGNS, *LETTERS, *CAPITALS, *DIGITS, *_ADJECTIVES),
            *(word for pair in (*_NOUNS.items(), *_VERBS.items()) for word in pair),
        )
    )
)


@dataclass(frozen=True)
class Row:
    """One question.

    Attributes:
        prompt: What the model reads; no blank at the end.
        answer: What it should write after the prompt and a blank.
        choices: The answers to choose from; empty where it is written.
    """

    prompt: str
    answer: str
    choices: tuple[str, ...] = ()

    @property
    def split(self) -> str:
        """Whose question it is: a split of the tasks, or training."""
        bucket = zlib.crc32(self.prompt.encode()) % _N_BUCKETS
        return (*SPLIT_SIZES, *[TRAINING] * (_N_BUCKETS - len(SPLIT_SIZES)))[bucket]

    def document(self) -> dict[str, object]:
        """The row as lm-eval reads it."""
        if not self.choices:
            return {"prompt": self.prompt, "answer": self.answer}
        label = self.choices.index(self.answer)
        return {"prompt": self.prompt, "choices": list(self.choices), "label": label}


Draw = Callable[[random.Random], Row]


def rows(draw: Draw, split: str, seed: str) -> Iterator[Row]:
    """Questions without end that belong to a split; they may come again."""
    rng = random.Random(f"{seed}/{split}")
    while True:
        row = draw(rng)
        if row.split == split:
            yield row


def documents(draw: Draw, split: str, seed: str, n: int | None = None) -> list[Row]:
    """The documents of one task: ``n`` different questions, as many as the split wants if None."""
    wanted = SPLIT_SIZES[split] if n is None else n
    found: dict[str, Row] = {}
    for row in islice(rows(draw, split, seed), 100 * wanted):
        found.setdefault(row.prompt, row)
        if len(found) == wanted:
            return list(found.values())
    raise ValueError(f"too few different questions for {split}: {len(found)} of {wanted}")


def _rewriting(
    command: str, rewrite: Callable[[list[str]], list[str]], alphabet: str = LETTERS
) -> Draw:
    """Signs in, signs out."""

    def draw(rng: random.Random) -> Row:
        signs = rng.sample(alphabet, N_SIGNS)
        return Row(f"{command} {' '.join(signs)} =", " ".join(rewrite(signs)))

    return draw


def _digitwise(command: str, operation: Callable[[int, int], int]) -> Draw:
    """A number and a row of digits in; it and each of them combined modulo ten out."""

    def draw(rng: random.Random) -> Row:
        operand, shown = rng.choice(DIGITS[2:6]), rng.choices(DIGITS, k=N_SIGNS)
        answer = (str(operation(int(digit), int(operand)) % 10) for digit in shown)
        return Row(f"{command} {operand} : {' '.join(shown)} =", " ".join(answer))

    return draw


def _in_chat(draw: Draw) -> Draw:
    """The same question and answer in the form of a dialogue."""

    def drawn(rng: random.Random) -> Row:
        row = draw(rng)
        question = row.prompt.removesuffix(" =")
        return replace(row, prompt=f"user : please {question} . assistant :")

    return drawn


def _shifted(by: int, alphabet: str = LETTERS) -> Callable[[list[str]], list[str]]:
    return lambda signs: [alphabet[(alphabet.index(sign) + by) % 26] for sign in signs]


def _swapped(signs: list[str]) -> list[str]:
    return [sign for pair in zip(signs[1::2], signs[::2], strict=True) for sign in pair]


def _lookup(rng: random.Random) -> Row:
    keys, values = LETTERS[:4], rng.sample(DIGITS, 4)
    asked = rng.randrange(4)
    shown = " ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
    return Row(f"lookup {shown} ? {keys[asked]} =", values[asked], tuple(values))


def _with_marks(rng: random.Random) -> tuple[list[str], int]:
    """Ten letters, and how often `a` is among them: 0 to 5."""
    n = rng.randrange(6)
    shown = ["a"] * n + rng.choices(LETTERS[1:6], k=10 - n)
    rng.shuffle(shown)
    return shown, n


def _count(rng: random.Random) -> Row:
    shown, n = _with_marks(rng)
    return Row(f"count {' '.join(shown)} =", str(n), tuple(DIGITS[:6]))


def _parity(rng: random.Random) -> Row:
    shown, n = _with_marks(rng)
    answer = "odd" if n % 2 else "even"
    return Row(f"parity {' '.join(shown)} =", answer, ("even", "odd"))


def _vowel(rng: random.Random) -> Row:
    """Whether a vowel is among the letters; none or one is."""
    shown, is_there = rng.sample(_CONSONANTS, N_SIGNS), rng.random() < 0.5
    if is_there:
        shown[rng.randrange(N_SIGNS)] = rng.choice(_VOWELS)
    return Row(f"vowel {' '.join(shown)} =", "yes" if is_there else "no", ("yes", "no"))


def _common(rng: random.Random) -> Row:
    """The letter that is there three times among six."""
    letters = rng.sample(LETTERS, 4)
    shown = letters + letters[:1] * 2
    rng.shuffle(shown)
    return Row(f"common {' '.join(shown)} =", letters[0], tuple(sorted(letters)))


def _larger(rng: random.Random) -> Row:
    """Which of two numbers is larger; half of them begin alike."""
    one, other = rng.choices(DIGITS, k=3), rng.choices(DIGITS, k=3)
    if rng.random() < 0.5:
        other[0] = one[0]
    if one == other:
        other[2] = str((int(other[2]) + 1) % 10)
    answer = "left" if one > other else "right"
    return Row(f"larger {' '.join(one)} , {' '.join(other)} =", answer, ("left", "right"))


def _grammar(rng: random.Random) -> Row:
    """The form of a verb that agrees with the subject, not with the noun before it."""
    is_plural = rng.random() < 0.5
    subject = rng.choice(list(_NOUNS.items()))[is_plural]
    other = rng.choice(list(_NOUNS.items()))[rng.random() < 0.5]
    forms = rng.choice(list(_VERBS.items()))
    first, second = rng.choice(_ADJECTIVES), rng.choice(_ADJECTIVES)
    sentence = f"the {first} {subject} by the {second} {other}"
    return Row(f"grammar {forms[1]} : {sentence} =", forms[is_plural], forms)


def _picking(best: Callable[[list[str]], str], word: str) -> Draw:
    """The first or last letter in the alphabet; half of the questions do not say which."""

    def draw(rng: random.Random) -> Row:
        shown = rng.sample(LETTERS, N_SIGNS)
        asked = f"pick {word}" if rng.random() < 0.5 else "pick"
        return Row(f"{asked} {' '.join(shown)} =", best(shown), tuple(sorted(shown)))

    return draw


def _reversed(signs: list[str]) -> list[str]:
    return signs[::-1]


SKILLS: dict[str, Draw] = {
    "sort": _rewriting("sort", sorted),
    "reverse": _rewriting("reverse", _reversed),
    "rotate": _rewriting("rotate", lambda signs: [*signs[1:], signs[0]]),
    "swap": _rewriting("swap", _swapped),
    "next": _rewriting("next", _shifted(1)),
    "back": _rewriting("back", _shifted(-1)),
    "cipher": _rewriting("cipher", lambda signs: [_CIPHER[sign] for sign in signs]),
    "plus": _digitwise("plus", lambda a, b: a + b),
    "minus": _digitwise("minus", lambda a, b: a - b),
    "times": _digitwise("times", lambda a, b: a * b),
    "lookup": _lookup,
    "count": _count,
    "parity": _parity,
    "vowel": _vowel,
    "common": _common,
    "larger": _larger,
    "grammar": _grammar,
    "last": _picking(max, "last"),
    "first": _picking(min, "first"),
    "chat_next": _in_chat(_rewriting("next", _shifted(1))),
    "chat_sort": _in_chat(_rewriting("sort", sorted)),
    "foreign_next": _rewriting("folge", _shifted(1, CAPITALS), CAPITALS),
    "foreign_sort": _rewriting("ordne", sorted, CAPITALS),
    "foreign_chat_next": _in_chat(_rewriting("folge", _shifted(1, CAPITALS), CAPITALS)),
    "foreign_chat_sort": _in_chat(_rewriting("ordne", sorted, CAPITALS)),
}
