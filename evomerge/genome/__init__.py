"""The genome file: its schema, and loading it with every mistake reported at once."""

from evomerge.genome.load import load_genome, to_yaml, validate_genome
from evomerge.genome.schema import Genome

__all__ = ["Genome", "load_genome", "to_yaml", "validate_genome"]
