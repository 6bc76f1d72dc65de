"""Everything the doctor looks at, once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evomerge import __version__
from evomerge.checks.doctor import hardware as machine
from evomerge.checks.doctor.combinations import NAMED, known
from evomerge.checks.doctor.imports import ask
from evomerge.checks.doctor.packages import (
    EXTRAS,
    Package,
    extras,
    needed,
    python,
    quarrels,
    versions_of,
)
from evomerge.foundations.findings import Finding, Severity, note, warning
from evomerge.foundations.machine import Holder, all_gpu_holders, usable_cores

_LITTLE = 5 << 30  # bytes; one small model and its merge
# In this order: what needs torch comes after it, so that torch's own fault is told as torch's.
_FIRST = ("torch", "transformers", "safetensors", "mergekit", "lm-eval")


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        version: Of evomerge.
        packages: Python and what evomerge needs.
        extras: What would add something.
        devices: What torch says of them.
        cores: Usable and all cores.
        memory: Free and total bytes of RAM.
        holders: Processes that hold GPU memory.
        disks: Room.
        hub: How the Hub is reached.
        findings: What is wrong, or good to know; errors first.
    """

    version: str
    packages: tuple[Package, ...]
    extras: tuple[Package, ...]
    devices: Mapping[str, Any]
    cores: tuple[int, int]
    memory: tuple[int, int]
    holders: tuple[Holder, ...]
    disks: tuple[machine.Disk, ...]
    hub: machine.Hub
    findings: tuple[Finding, ...] = field(default=())

    @property
    def has_errors(self) -> bool:
        """Whether evomerge lacks something it needs."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def data(self) -> dict[str, Any]:
        """All of it for programs."""
        return {
            "evomerge": self.version,
            "packages": [_package_data(package) for package in self.packages],
            "extras": [
                {**_package_data(package), "enables": EXTRAS[package.name]}
                for package in self.extras
            ],
            "cpu": {"cores": self.cores[1], "usable_cores": self.cores[0]},
            "memory": {"free": self.memory[0], "total": self.memory[1]},
            "devices": dict(self.devices),
            "gpu_processes": [asdict(holder) for holder in self.holders],
            "disks": [asdict(disk) for disk in self.disks],
            "hub": asdict(self.hub),
            "findings": [
                {"severity": finding.severity.value, **asdict(finding.problem)}
                for finding in self.findings
            ],
        }


def examine(run_folder: Path = Path("runs")) -> Diagnosis:
    """Looks at packages and machine; takes as long as importing them does.

    Args:
        run_folder: Where runs would go.
    """
    holders = all_gpu_holders()  # before torch opens the GPU for itself
    packages, beside = needed(), extras()
    modules = {package.name: package.module for package in (*packages, *beside)}
    there = [p.name for p in (*packages, *beside) if p.installed is not None]
    order = sorted(there, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    broken, devices = ask([modules[name] for name in order])

    def tried(package: Package) -> Package:
        return replace(package, broken=broken.get(package.module, ""))

    hub = machine.hub()
    examination = Diagnosis(
        version=__version__,
        packages=(python(), *map(tried, packages)),
        extras=tuple(map(tried, beside)),
        devices=devices,
        cores=(usable_cores(), os.cpu_count() or 1),
        memory=machine.memory(),
        holders=holders,
        disks=tuple(machine.disks(run_folder, hub.cache)),
        hub=hub,
    )
    findings = sorted(_findings(examination), key=lambda finding: finding.severity.rank)
    return replace(examination, findings=tuple(findings))


def _findings(found: Diagnosis) -> Iterator[Finding]:
    for package in (*found.packages, *found.extras):
        finding = package.finding()
        if finding is not None:
            yield finding
    names = [p.name for p in (*found.packages, *found.extras) if p.name != "python"]
    yield from quarrels(versions_of(names))
    yield from known(versions_of(NAMED))
    for disk in found.disks:
        if disk.free < _LITTLE:
            yield warning(
                f"{disk.free / 1e9:.1f} GB free, a merge of small models needs about 5",
                f"{disk.purpose} ({disk.path})",
                "Make room.",
            )
        if not disk.is_writable:
            yield warning("cannot be written", f"{disk.purpose} ({disk.path})", "Choose another.")
    for holder in found.holders:
        yield note(
            f"holds {holder.n_bytes / 1e9:.1f} GB of GPU memory",
            f"process {holder.pid} ({holder.name})",
            "End it if it is yours and forgotten.",
        )


def _package_data(package: Package) -> dict[str, Any]:
    return {**asdict(package), "state": package.state}
