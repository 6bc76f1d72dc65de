"""``evomerge doctor``: what is installed, what the machine has, what works with what."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING

import click

from evomerge.cli.arguments import json_option

if TYPE_CHECKING:
    from evomerge.checks.doctor.examination import Diagnosis
    from evomerge.checks.doctor.packages import Package

_WIDTH = 80
_COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(
    short_help="Show versions, devices and what works with what.",
    epilog="Example: evomerge doctor --json",
)
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Shows what is installed and what this machine has, and tells what does not work.

    Exit code 0: evomerge has all it needs. 1: something is missing, broken or of a version that
    evomerge is not tested with.
    """
    from evomerge.checks.doctor.examination import examine
    from evomerge.cli.written import print_json

    found = examine()
    if as_json:
        print_json(found.data())
    else:
        _draw(found)
    if found.has_errors:
        context.exit(1)


def _draw(found: Diagnosis) -> None:
    from evomerge.checks.doctor.packages import EXTRAS
    from evomerge.cli.drawn import plain_table

    click.echo(f"evomerge {found.version}\n")
    plain_table([_row(package) for package in found.packages])
    click.echo()
    plain_table(
        [
            {
                "extra": package.name,
                "installed": package.installed or "-",
                "what it enables": EXTRAS[package.name],
            }
            for package in found.extras
        ]
    )
    click.echo()
    plain_table([{"machine": name, "": value} for name, value in _machine(found)])
    if found.findings:
        click.echo()
    for finding in found.findings:
        name = finding.severity.value
        sentence = fill(f"{name}: {finding}", _WIDTH, subsequent_indent="  ")
        click.echo(click.style(name, fg=_COLORS[name]) + sentence.removeprefix(name))


def _row(package: Package) -> dict[str, str]:
    return {
        "package": package.name,
        "installed": package.installed or "-",
        "tested with": package.wanted,
        "state": package.state,
    }


def _machine(found: Diagnosis) -> Iterator[tuple[str, str]]:
    usable, cores = found.cores
    devices = found.devices
    threads = f", torch uses {devices['threads']} threads" if devices else ""
    kind = f" ({devices['cpu_capability']})" if devices else ""
    yield "cpu", f"{usable} of {cores} cores{kind}{threads}"
    free, total = found.memory
    yield "memory", f"{_gb(free)} of {_gb(total)} free"
    for index, gpu in enumerate(devices.get("cuda", ())):
        yield (
            f"cuda:{index}",
            f"{gpu['name']}, {_gb(gpu['free'])} of {_gb(gpu['total'])} free, compute capability "
            f"{gpu['capability']}",
        )
    if devices.get("mps"):
        yield "mps", "there"
    if devices and not devices.get("cuda") and not devices.get("mps"):
        yield "gpu", "none that torch can use"
    for disk in found.disks:
        yield disk.purpose, f"{_gb(disk.free)} free in {disk.path}"
    yield "Hub token", "there" if found.hub.has_token else "none; gated models need one"
    yield (
        "network",
        f"off by {', '.join(found.hub.offline)}" if found.hub.offline else "may be used",
    )


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
