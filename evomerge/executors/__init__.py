"""Where trials run, and how many at once: the table of executors.

========= ==========================================================
name      where
========= ==========================================================
serial    one after the other, in this process
processes several at once, each in a process of its own
isolated  the same, each trial in a new process that ends with it
ray       several at once on a Ray cluster, each an actor
========= ==========================================================
"""

from evomerge.executors.base import Executor
from evomerge.foundations.registry import Registry

EXECUTORS: Registry[type[Executor]] = Registry(
    "executor",
    {
        "serial": "evomerge.executors.serial:Serial",
        "processes": "evomerge.executors.processes:Processes",
        "isolated": "evomerge.executors.isolated:Isolated",
        "ray": "evomerge.executors.ray_cluster:RayCluster",
    },
)
