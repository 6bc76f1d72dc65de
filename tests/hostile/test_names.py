"""Any name at any place where a name can stand: a command ends well, or with a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.conftest import _template, make_workplace  # noqa: F401  # a fixture
from tests.hostile.things import OBEYED, assert_told, command
from tests.recorded_runs import record_run

NAMES = [
    # Longer than a file's name, or a path, may be.
    *("x" * 255, "x" * 256, "x" * 300, "ü" * 128, "/".join(["x" * 200] * 25), "x/" * 3000 + "x"),
    *("../" * 2000 + "x", "./" * 100 + "x", "x" * 100_000),
    # What a terminal obeys or hides, what ends a line, what is no character.
    *("a\nb", "a\n", "\nb", "a\rb", "a\r\nb", "a\tb", "a\x0bb", "a\x0cb", "a\x00b", "\x00"),
    *("\x1b[31mred", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\y", "\x1bP1$r\x1b\\"),
    *("a\x07b", "a\x08b", "a\x7fb", "a\x85b", "a\x9b31mb", "a\u2028b", "a\u2029b"),
    *("a\u202eb", "a\u202db", "a\u2066b\u2069", "a\u200bb", "a\u200db", "a\ufeffb", "\u061ca"),
    *("a\ud800b", "a\udfffb", "a\udc80b", "\udcff\udcfe", "a\ufffeb", "a\uffffb"),
    # Names with a meaning of their own to systems, shells, formats and libraries.
    *(".", "..", "../..", "...", "/", "//", "/dev/null", "/dev/zero", "/dev/full"),
    *("/proc/self/mem", "/dev/fd/9", "/proc/self/fd", "/etc"),
    *( "~", "~root", "~/x", "-", "-x", "--help", "--", "@x"),
    *("x@y", "x@", "a@b@c", "+x", "x+y", "x+", "+", "$HOME", "$(touch x)", "`touch x`"),
    *("x;touch y", "x|y", "x&y", "x>y", "x*", "x?", "[x]", "x\\y", "C:\\x"),
    *("\\\\host\\x", "%s", "%n%d", "{}"),
    *("{0}", "{x!r}", "${x}", "#x", "x #y", "x: y", "x:", "- x", "? x", "! x", "!!python/x", "&a"),
    *("*a", "'", '"', "''", "|", ">", "null", "true", "1e5", "0x10", ".nan", "[bold]x[/bold]"),
    *("[/red]", "<b>x</b>", "&amp;", "{{ x }}", "{% x %}", "x ", " x", "x.", " ", "  ", "", "\t"),
    *("CON", "NUL.txt", "aux", "model.json", "x.safetensors", "config.json", "x.gguf", "x.bin"),
    *("http://x", "https://x/y", "file:///etc", "s3://x/y", "hf://x/y", "a/b/c", "org/model"),
    # Letters of all kinds.
    *("ü", "u\u0308", "模型", "نموذج", "שלום", "🙂", "👩\u200d👩\u200d👧", "e\u0301" * 50),
    *("Z\u0351\u036b", "İ", "ß", "ﬀ", "\u00a0", "\u3000x", "\uff58", "\U0001d54f", "\U0010ffff"),
]  # fmt: skip

RESULTS = {
    "-o": lambda name: ("export", "run", "-o", name),
    "--build": lambda name: ("export", "run", "--build", name),
    "schema -o": lambda name: ("schema", "-o", name),
    "swarm": lambda name: ("show", "run", "--swarm", name),
    "run": lambda name: ("show", "--", name),
    "best": lambda name: ("export", "--", name),
    "verify": lambda name: ("verify", "--", name),
    "genome": lambda name: ("check", "--", name),
    "init": lambda name: ("init", "--yes", "--", name),
}
SETTINGS = {
    "model": lambda name: {"genome": {"models": [name, "models/model_2"]}},
    "base": lambda name: {"genome": {"base_model": name}},
    "task": lambda name: {"tasks": [name]},
    "search path": lambda name: {"task_search_path": ["tasks", name]},
    "run_dir": lambda name: {"run_dir": name},
    "seed_from": lambda name: {"optimizer": {"seed_from": name}},
    "prompts": lambda name: {
        "optimizer": {
            "name": "gradient",
            "losses": {"kl": 1},
            "prompts": {"models/model_1": [{"file": name}], "models/model_2": [{"file": name}]},
        }
    },
    "task of a file": lambda name: {"tasks": [{"name": f"tasks/{name}"}]},
}

LOOKED_FOR = "task of a file"

ENDLESS = {("search path", "/"), ("search path", "//")}  # every file of this machine is read


def in_turn(places: dict, every: int) -> list:
    """Every name at some places, and every kind of name, of which there are many, at all."""
    return [
        (place, name)
        for index, name in enumerate(NAMES)
        for shift, place in enumerate(places)
        if (index + shift) % every == 0 and (place, name) not in ENDLESS
    ]


GIVEN = in_turn(RESULTS, 3)
WRITTEN = in_turn(SETTINGS, 4)
CALM = [name for name in NAMES if name.strip("./ ") and not name.startswith(("/", "../", "x/"))]
FOLDERS = CALM[::5]  # each is merged, which takes seconds


def short(value: object) -> str:
    return ascii(value)[:40] if isinstance(value, str) else str(value)


def sampled(cases: list, n: int) -> list:
    step = max(len(cases) // n, 1)
    return [
        pytest.param(*case, marks=[] if index % step == 0 else [pytest.mark.slow])
        for index, case in enumerate(cases)
    ]


def in_seconds(cases: list) -> list:
    """The same but that those which have all tasks of lm-eval looked through are slow."""
    return [
        pytest.param(
            *case.values, marks=pytest.mark.slow if case.values[0] == LOOKED_FOR else case.marks
        )
        for case in cases
    ]


def assert_harmless(done) -> None:
    assert_told(done)
    assert not OBEYED.search((done.out + done.err).replace("\n", "")), done


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    record_run(folder := tmp_path_factory.mktemp("recorded") / "run")
    return folder


@pytest.mark.parametrize(("place", "name"), sampled(GIVEN, 36), ids=short)
def test_a_name_on_the_command_line_is_used_or_told(recorded, tmp_path, monkeypatch, place, name):
    shutil.copytree(recorded, tmp_path / "place" / "run")
    (tmp_path / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "place")
    assert_harmless(command(*RESULTS[place](name)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "place"]
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.fixture
def workplace(_template, tmp_path, monkeypatch) -> Path:  # noqa: F811  # the fixture
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = make_workplace(_template, tmp_path / "workplace")
    monkeypatch.chdir(folder)
    return folder


def written(workplace: Path, change: dict) -> None:
    """The genome, with some of its keys as a stranger could write them."""
    genome = yaml.safe_load((workplace / "genome.yml").read_text())
    for key, value in change.items():
        genome[key] = {**genome[key], **value} if isinstance(value, dict) else value
    (workplace / "genome.yml").write_text(yaml.safe_dump(genome), errors="surrogatepass")


@pytest.mark.parametrize(("place", "name"), in_seconds(sampled(WRITTEN, 4)), ids=short)
def test_a_name_in_a_genome_is_used_or_told(workplace, place, name):
    written(workplace, SETTINGS[place](name))
    assert_harmless(command("check", "genome.yml"))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) for n in FOLDERS], ids=short
)
def test_a_model_whose_folder_has_any_name_is_refused_by_check_or_merged(workplace, name):
    try:
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(workplace / "models" / "model_1", workplace / name)
    except (OSError, ValueError):
        pytest.skip("no folder can have the name")
    written(workplace, {"genome": {"models": [{"model": {"path": name}}, "models/model_2"]}})
    checked = command("check", "genome.yml")
    assert_harmless(checked)
    if checked.code == 0:
        done = command("run", "genome.yml", "--run-dir", "out", "--set", "optimizer.budget=1")
        assert_harmless(done)
        assert done.code == 0, done
        assert "failed" not in done.err, done
