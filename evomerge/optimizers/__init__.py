"""Who proposes: the table of optimizers, and what they tell of a run. A file or folder each.

======== =============================================================
name     what it is
======== =============================================================
auto     a rule that picks among the others
random   uniform random search, the baseline
cma_es   CMA-ES (``cmaes``), CatCMA with margin for mixed spaces
tpe      tree-structured Parzen estimator (Optuna)
gp       Gaussian process with expected improvement (Optuna)
nsga2    non-dominated sorting genetic algorithm II (Optuna)
qmc      quasi-Monte Carlo sequence (Optuna)
grid     every combination of values once
niches   M2N2: an archive that shares documents, complementary mates
swarm    Model Swarms: particles drawn to their own best and the swarm's
llm      LLM-Evo-Merge: a language model proposes each generation's mean
gradient DAM: learns the weights by back-propagation
======== =============================================================
"""

from collections.abc import Callable
from pathlib import Path

from evomerge.foundations.registry import Registry
from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.section import Section
from evomerge.optimizers.base import Optimizer

OPTIMIZERS: Registry[type[Optimizer]] = Registry(
    "optimizer",
    {
        "auto": "evomerge.optimizers.auto:Auto",
        "random": "evomerge.optimizers.random_search:RandomSearch",
        "cma_es": "evomerge.optimizers.cma_es:CmaEs",
        "tpe": "evomerge.optimizers.tpe:Tpe",
        "gp": "evomerge.optimizers.gp:GaussianProcess",
        "nsga2": "evomerge.optimizers.nsga2:Nsga2",
        "qmc": "evomerge.optimizers.qmc:QuasiMonteCarlo",
        "grid": "evomerge.optimizers.grid:Grid",
        "niches": "evomerge.optimizers.niches.m2n2:Niches",
        "swarm": "evomerge.optimizers.swarm.particles:Swarm",
        "llm": "evomerge.optimizers.llm.evolution:Llm",
        "gradient": "evomerge.optimizers.gradient.learner:Gradient",
    },
)

# Whose work between trials counts as time of the search: seconds, from all it kept in a folder.
KEPT_SECONDS: Registry[Callable[[Path], float]] = Registry(
    "work", {"gradient": "evomerge.optimizers.gradient.lessons:seconds_in"}
)

# Who has something to tell in a report, in its order; apart from their classes, which load what
# they search with.
SECTIONS: Registry[Callable[[RunRecord], Section | None]] = Registry(
    "section",
    {
        "swarm": "evomerge.optimizers.swarm.swarm_section:swarm_section",
        "gradient": "evomerge.optimizers.gradient.training_section:training_section",
        "llm": "evomerge.optimizers.llm.dialogues_section:dialogues_section",
    },
)
