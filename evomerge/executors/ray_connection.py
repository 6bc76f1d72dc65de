"""Connecting to a Ray cluster, or starting one: quietly, and with what is wrong in a sentence."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.foundations.errors import RunError, told
from evomerge.foundations.lifetime import guardian, own_children

if TYPE_CHECKING:
    from evomerge.executors.ray_settings import RaySettings

_LOG = logging.getLogger(__name__)
_SECONDS_TO_ANSWER = 5.0  # of the address of a cluster
_LONGEST = 26  # a local cluster has sockets in its folder, whose paths the system limits
_STORE = 128 << 20  # bytes of a local cluster's object store: only results pass through it


def temporary_folder() -> Path:
    """A folder to connect from, and for what a local cluster keeps; gone with this process."""
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _LONGEST else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="ray-evo-", dir=place))
    guardian().remove_later(folder)
    return folder


def connect(settings: RaySettings, folder: Path) -> None:
    """Connects this process.

    Args:
        settings: Which cluster, and what its workers are given.
        folder: See :func:`temporary_folder`.

    Raises:
        RunError: no cluster answers there, or it is no match.
    """
    import ray

    address = settings.address
    known = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if known not in ("", "auto", "local"):
        _refuse_silent(known)
    environment = _absolute(settings.runtime_env) or None
    own: dict[str, Any] = {}
    if address == "local":
        own = {"object_store_memory": _STORE, "_temp_dir": str(folder)}
    _keep_quiet()
    try:
        with own_children(), _signals_as_they_were(), _inside(folder):
            ray.init(
                address,
                include_dashboard=False,
                configure_logging=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=environment,
                **own,
            )
    except Exception as error:  # whatever its parts raise: gRPC, sockets, its own
        raise _unusable(address, error) from error


def answers(address: str) -> bool:
    """Whether somebody listens at ``HOST:PORT``."""
    return _why_silent(address) is None


def _refuse_silent(address: str) -> None:
    """Says within seconds what Ray takes a minute for."""
    error = _why_silent(address)
    if error is not None:
        raise RunError(
            f"nothing answers at {address!r} ({told(error)})",
            where="execution.address",
            fix="Give HOST:PORT of `ray start --head`, or use address: local.",
        ) from error


def _why_silent(address: str) -> Exception | None:
    """What keeps one from connecting to ``HOST:PORT``; None where somebody listens."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER):
            return None
    except (OSError, ValueError, OverflowError) as error:
        return error


def _unusable(address: str, error: Exception) -> RunError:
    """Why a cluster that may be there cannot be worked with."""
    said = str(error)
    if "Version mismatch" in said:
        both = re.findall(r"(Ray|Python): (\S+)", said)
        there, here = (
            " and ".join(f"{what} {which}" for what, which in pair) for pair in (both[:2], both[2:])
        )
        return RunError(
            f"the cluster at {address!r} has {there}, and here are {here}",
            where="execution.address",
            fix="Install the same on every node, and start the cluster and the run with that.",
        )
    return RunError(
        f"no Ray cluster can be used at {address!r} ({told(error)})",
        where="execution.address",
        fix="Start one with `ray start --head`, or use address: local; one that asks for tokens "
        "needs RAY_AUTH_MODE=token here too.",
    )


def _absolute(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """With its folders as they are meant, from wherever they are read."""
    found = dict(runtime_env)
    if isinstance(found.get("working_dir"), str):
        found["working_dir"] = _whole(found["working_dir"])
    if isinstance(found.get("py_modules"), list):
        found["py_modules"] = [_whole(one) for one in found["py_modules"]]
    return found


def _whole(folder: str) -> str:
    return folder if "://" in folder else os.path.abspath(folder)


def _keep_quiet() -> None:
    """What Ray says of workers that died goes to the log; it would print it among the results."""
    from ray._private import worker as driver

    def log(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        _LOG.warning("Ray: %s", "\n".join(map(str, data.get("lines", ()))))

    logging.getLogger("ray").setLevel(logging.ERROR)
    driver.print_to_stdstream = log


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    """Ray takes SIGTERM for its own, which is the command's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Ray has workers import from where it was started, which may be anybody's folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
