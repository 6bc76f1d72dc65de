"""Options and fixtures of the whole suite."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from evomerge.foundations.garbage import collect_again, collecting_later
from tests import suite_seed

# The same examples on every machine: a suite that is red by chance tells nobody anything. New ones
# are looked for with --hypothesis-profile new.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.load_profile("fixed")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the files in tests/golden"
    )
    parser.addoption(
        "--model-seed", type=int, default=0, help="other weights for all tiny models (0)"
    )


def pytest_configure(config: pytest.Config) -> None:
    hear_signals()
    suite_seed.SUITE_SEED = config.getoption("--model-seed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What tests import stays: nobody looks for garbage in it, now or in any test."""
    with collecting_later():
        found = yield
    collect_again()
    gc.set_threshold(20_000, 20, 20)  # tests make much, and little of it in circles
    return found


def hear_signals() -> None:
    """Commands in tests follow signals even where the suite itself was told not to.

    A shell has what it starts in the background ignore Ctrl-C, nohup a closed terminal, and who is
    started inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What commands keep for later does not go to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def is_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with a file in tests/golden, or writes it with ``--update-golden``.

    Blanks at the ends of lines do not count.
    """

    def compare(name: str, text: str) -> None:
        file = GOLDEN / name
        text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"no {file.name} yet: run pytest --update-golden and read it"
        assert text == file.read_text(encoding="utf-8")

    return compare
