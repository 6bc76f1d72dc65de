"""The door to Ray: what a cluster has, actors and what they say. Imports ray late."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from evomerge.executors.ray_connection import answers, connect, temporary_folder
from evomerge.executors.ray_room import Node, held_now, holders_in, shortfall
from evomerge.foundations.counted import counted
from evomerge.foundations.errors import MissingExtraError, RunError, why
from evomerge.foundations.versions import scoring_versions

if TYPE_CHECKING:
    from evomerge.executors.base import MakeWorker, Message
    from evomerge.executors.ray_settings import RaySettings

_LOOKS_EVERY = 5.0  # seconds
_SECONDS_OF_SILENCE = 15.0  # of a head that is restarting
_SECONDS_TO_TELL = 30.0  # until a cluster knows that a node is gone


class RaySession:
    """A connection to a cluster, made when it is first needed.

    Args:
        settings: Which cluster, and what a worker is given.
    """

    def __init__(self, settings: RaySettings) -> None:
        self.settings = settings
        self._is_open = False
        self._is_own = False  # the connection: whoever made it before goes on with it
        self._folder: Path | None = None  # where it was made, and of a local cluster
        self._looked = 0.0  # when the head was asked
        self._silent_since: float | None = None  # when it did not answer first; None: it answers
        self._is_headless = False  # it is gone

    def open(self, n_workers: int) -> None:
        """Connects, and sees that there is room for all workers.

        Raises:
            MissingExtraError: ray is not installed.
            RunError: no cluster answers, or it has too little for the workers.
        """
        if self._is_open:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                "executor 'ray' needs a package that is not installed",
                where="execution.executor",
                fix="Run `pip install 'evomerge[ray]'`.",
            ) from error
        if not ray.is_initialized():
            self._folder = temporary_folder()
            try:
                connect(self.settings, self._folder)
            except BaseException:
                self._remove_folder()
                raise
            self._is_own = True
        self._is_open = True
        self._looked = monotonic()
        try:
            self._await_room(n_workers)
        except BaseException:
            self.close()
            raise

    def _await_room(self, n_workers: int) -> None:
        """Waits a little for nodes to come."""
        until = monotonic() + self.settings.wait
        wanted = self.settings.resources
        while True:
            nodes = self.nodes()
            lacking = shortfall(nodes, wanted, n_workers)
            if not lacking:
                break
            if monotonic() > until:
                raise RunError(
                    lacking,
                    where="execution.workers",
                    fix="Use fewer workers, ask for less for each, or add nodes.",
                )
            sleep(0.2)
        n_gpus = sum(node["Resources"].get("GPU", 0) for node in nodes)
        if n_gpus and "num_gpus" not in self.settings.model_fields_set:
            raise RunError(
                f"the cluster has {counted(int(n_gpus), 'GPU')}, and no worker asks for any",
                where="execution.num_gpus",
                fix="Set it to 1, or to 0 to keep to the CPUs.",
            )

    def nodes(self) -> list[Node]:
        """Those that are alive.

        Raises:
            RunError: the head is gone.
        """
        import ray

        self._await_head()
        found = ray.nodes()  # type: ignore[no-untyped-call]  # ray types a part of itself
        return [node for node in found if node["Alive"]]

    def refuse_lost_head(self) -> None:
        """Does nothing while the head of the cluster answers; Ray itself ends this process then.

        Raises:
            RunError: it has been silent for a while.
        """
        if monotonic() - self._looked >= _LOOKS_EVERY:
            self._look()

    def _await_head(self) -> None:
        """Waits for a head that is silent: who asks it anything waits until Ray ends him.

        Raises:
            RunError: it has been silent for a while.
        """
        while not self._look():
            sleep(0.2)

    def _look(self) -> bool:
        """Whether the head answers now."""
        import ray

        address = ray.get_runtime_context().gcs_address
        self._looked = monotonic()
        if answers(address):
            self._silent_since = None
            return True
        if self._silent_since is None:  # nobody may have asked for long before
            self._silent_since = self._looked
        if self._looked - self._silent_since > _SECONDS_OF_SILENCE:
            self._is_headless = True
            raise RunError(
                f"the head of the Ray cluster at {address} is gone",
                where="execution",
                fix="Start the cluster again; the same command continues.",
            )
        return False

    def queue(self, n_waiting: int) -> str:
        """Who keeps workers waiting that the cluster could hold; empty where nobody does.

        Args:
            n_waiting: Workers that are not placed.
        """
        import ray
        from ray._private import state

        self._await_head()
        free = state.available_resources_per_node()  # type: ignore[no-untyped-call]  # see nodes
        jobs = state.jobs()  # type: ignore[no-untyped-call]  # ray types a part of itself
        own = ray.get_runtime_context().get_job_id()
        holders = holders_in(state.actors().values(), jobs, own)
        return held_now(self.nodes(), free, self.settings.resources, n_waiting, holders)

    def actor(self, kind: type[Any], make_worker: MakeWorker) -> Any:
        """A new actor; where it will be, the cluster finds out in its own time."""
        import ray

        self._await_head()
        wanted = self.settings.resources
        has_folder = "working_dir" in self.settings.runtime_env
        return (
            ray.remote(kind)
            .options(
                num_cpus=wanted["CPU"],  # else it takes one more beside what is asked for
                num_gpus=wanted.get("GPU", 0),
                memory=wanted.get("memory"),
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            )
            .remote(make_worker, None if has_folder else os.getcwd(), scoring_versions())
        )

    def ready(self, streams: Sequence[Any], seconds: float) -> list[Any]:
        """Those that have something to say now or within some seconds."""
        import ray

        if not streams:
            sleep(seconds)
            return []
        found, _ = ray.wait(list(streams), num_returns=1, timeout=seconds, fetch_local=False)
        more, _ = ray.wait(list(streams), num_returns=len(streams), timeout=0, fetch_local=False)
        return list(more or found)

    def message(self, stream: Any) -> tuple[Message, Exception | None]:
        """The next message of an actor, or how it died.

        Raises:
            RunError: it cannot be built on its node.
        """
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError, RuntimeEnvSetupError

        try:
            return ray.get(next(stream)), None
        except (RayTaskError, RuntimeEnvSetupError) as error:
            raise _unbuilt(error) from error
        except RayActorError as error:
            if error.actor_init_failed:
                raise _unbuilt(error) from error
            return None, error
        except (RayError, StopIteration) as error:
            return None, error

    def is_of_node(self, death: Exception, node: str) -> bool:
        """Whether a worker died with its node; waits until the cluster knows."""
        from ray.exceptions import ActorUnavailableError, NodeDiedError, ObjectLostError

        if isinstance(death, (NodeDiedError, ObjectLostError)):
            return True
        until = monotonic() + (
            _SECONDS_TO_TELL if isinstance(death, ActorUnavailableError) else 0.0
        )
        while True:
            if node not in {one["NodeID"] for one in self.nodes()}:
                return True
            if monotonic() >= until:
                return isinstance(death, ActorUnavailableError)
            sleep(0.2)

    def why_it_died(self, death: Exception) -> str:
        """What Ray says of it, without its advice."""
        from ray.exceptions import OutOfMemoryError

        if isinstance(death, OutOfMemoryError):  # pages of it
            place = re.search(r"\(IP: ([^,)]+)", str(death))
            return f"Ray ended it as memory ran low on node {place[1] if place else 'unknown'}"
        said = why(death).partition("Some common causes")[0]
        return (
            said.rpartition("worker process has died.")[2].strip().rstrip(".") or "it says nothing"
        )

    def kill(self, actor: Any) -> None:
        """Ends an actor at once; what it has to say is not heard."""
        import ray

        if self._is_headless:  # its node ends it
            return
        with suppress(Exception):  # it is dead, or its cluster is
            ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """Leaves the cluster; one of its own ends."""
        if not self._is_open:
            return
        self._is_open = False
        if self._is_own:
            import ray

            self._is_own = False
            if not self._is_headless:  # else at the end of the process, when all is told
                ray.shutdown()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _unbuilt(error: Exception) -> RunError:
    """A worker that could not even be begun: its node lacks something."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, RunError):
        return cause
    return RunError(
        f"no worker can be started on the cluster ({' '.join(str(error).split())[-500:]})",
        where="execution.executor",
        fix="Install the same evomerge on every node, or give runtime_env what they lack.",
    )
