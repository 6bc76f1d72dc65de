"""What the doctor says of packages and machines, good ones and bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomerge.checks.doctor import hardware as machine
from evomerge.checks.doctor.combinations import COMBINATIONS, NAMED, known
from evomerge.checks.doctor.imports import ask
from evomerge.checks.doctor.packages import EXTRAS, Package, extras, needed, python, quarrels
from evomerge.foundations.findings import Severity
from evomerge.foundations.machine import Holder, all_gpu_holders


def test_what_is_needed_comes_from_evomerges_own_metadata():
    found = {package.name: package for package in needed()}
    assert {"torch", "transformers", "mergekit", "lm-eval", "optuna"} <= set(found)
    assert found["transformers"].wanted == ">=5.0,<6"
    assert {package.state for package in found.values()} == {"ok"}
    assert python().state == "ok"
    assert "pytest" not in found  # of developers


@pytest.mark.parametrize(
    ("package", "state", "sentence"),
    [
        (Package("t", "5.1", ">=5,<6"), "ok", None),
        (Package("t", "5.0rc1", ">=4,<6"), "ok", None),
        (
            Package("t", None, ">=5,<6"),
            "missing",
            "t: is not installed, expected >=5,<6. Run `pip install 't>=5,<6'`.",
        ),
        (
            Package("t", "4.57", ">=5,<6"),
            "outside",
            "t: 4.57 is installed, evomerge is tested with >=5,<6. Run `pip install 't>=5,<6'`.",
        ),
        (
            Package("t", "5.1", ">=5,<6", broken="OSError: libt.so: no such file"),
            "broken",
            "t: 5.1 cannot be imported (OSError: libt.so: no such file).",
        ),
        (Package("t", None, is_needed=False), "missing", None),
    ],
)
def test_a_package_is_ok_missing_outside_or_broken(package, state, sentence):
    assert package.state == state
    finding = package.finding()
    assert (finding and str(finding)) == sentence
    assert finding is None or finding.severity is Severity.ERROR


def test_an_extra_that_is_broken_is_only_a_warning():
    finding = Package("ray", "2", is_needed=False, broken="ImportError: x").finding()
    assert finding is not None
    assert finding.severity is Severity.WARNING


def test_every_extra_says_what_it_enables():
    assert [package.name for package in extras()] == list(EXTRAS)
    assert not any(package.is_needed for package in extras())


def test_packages_that_ask_for_other_versions_of_each_other_are_told(tmp_path, monkeypatch):
    folder = tmp_path / "picky-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: picky\nVersion: 1.0\nRequires-Dist: click<1,>=0.5\n"
        'Requires-Dist: numpy<1; extra == "old"\nRequires-Dist: absent-package>=2\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = quarrels({"picky": "1.0"})
    assert str(finding).startswith("picky: 1.0 asks for click >=0.5,<1, installed is 8.")


def test_known_combinations_are_told_where_they_are_installed():
    assert {name for combination in COMBINATIONS for name in combination.packages} == set(NAMED)
    assert list(known({"mergekit": "0.1.5"})) == []
    (finding,) = known({"mergekit": "0.1.5", "transformers": "5.2"})
    assert str(finding).startswith(
        "mergekit 0.1.5 with transformers 5.2: mergekit refuses GPT-NeoX folders"
    )
    assert list(known({"datasets": "3.6"})) == []
    assert [str(finding).partition(":")[0] for finding in known({"datasets": "4.0"})] == [
        "datasets 4.0"
    ]


def test_imports_are_tried_and_each_failure_has_a_reason(tmp_path, monkeypatch):
    (tmp_path / "well.py").write_text("print('hello')")
    (tmp_path / "raises.py").write_text("raise OSError('libx.so:\\n not found')")
    (tmp_path / "dies.py").write_text("import os; os._exit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found, devices = ask(["well", "raises", "dies", "json"])
    assert found == {
        "well": "",
        "raises": "OSError: libx.so: not found",
        "dies": "importing it ends Python with code 7",
        "json": "",
    }
    assert devices == {}


def test_an_import_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found, _ = ask(["endless", "json"], timeout=2)
    assert found["endless"] == "importing takes longer than 2 s"


def test_room_is_looked_for_where_a_folder_will_be(tmp_path):
    runs, cache, builds = machine.disks(tmp_path / "not" / "yet", str(tmp_path))
    assert runs.free == cache.free > 0
    assert runs.is_writable
    assert (runs.path, builds.purpose) == (str(tmp_path / "not" / "yet"), "builds")


def test_processes_that_hold_a_gpu_are_read_from_nvidia_smi(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\necho 'GPU-1, 4711, /usr/bin/python, 20480'\necho 'GPU-2, 12, a, b, [N/A]'\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert all_gpu_holders() == (
        Holder(4711, "/usr/bin/python", 20 << 30),
        Holder(12, "a,b", 0),
    )
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert all_gpu_holders() == ()


def test_a_token_is_seen_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.delenv("HF_DATASETS_OFFLINE", raising=False)
    found = machine.hub()
    assert found.has_token
    assert found.offline == ("HF_HUB_OFFLINE",)
    assert "secret" not in repr(found)


def test_memory_and_cores_are_read():
    free, total = machine.memory()
    assert 0 < free <= total
    assert machine._total() == pytest.approx(total, rel=0.05)
    assert Path(machine.hub().cache).name
