"""Genome -> Search: the only reader of the tables."""

from evomerge.compiler.download import with_models_here
from evomerge.compiler.examine import Compiled, Examination, compile_genome, examine
from evomerge.compiler.start import search_for

__all__ = ["Compiled", "Examination", "compile_genome", "examine", "search_for", "with_models_here"]
