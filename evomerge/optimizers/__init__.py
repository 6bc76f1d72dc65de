"""Who proposes: the table of optimizers. One file each, one line here.

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
niches   M2N2: an archive that shares documents, complementary mates
swarm    Model Swarms: particles drawn to their own best and the swarm's
llm      LLM-Evo-Merge: a language model proposes each generation's mean
gradient DAM: learns the weights by back-propagation
======== =============================================================
"""

from evomerge.foundations.registry import Registry
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
        "niches": "evomerge.optimizers.niches.m2n2:Niches",
        "swarm": "evomerge.optimizers.swarm.particles:Swarm",
        "llm": "evomerge.optimizers.llm.evolution:Llm",
        "gradient": "evomerge.optimizers.gradient.learner:Gradient",
    },
)
