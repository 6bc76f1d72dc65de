"""Scores how well a model foretells the texts of a file: bits per byte, perplexity per word.

A document is a line of a .jsonl file, or a chunk of a text file: whole paragraphs, as many as
there is room for. Every token is scored once, given what stands before it in its document; a
document that is longer than what the model reads is read in windows.
"""

from evomerge.evaluators.perplexity.foretelling import Perplexity

__all__ = ["Perplexity"]
