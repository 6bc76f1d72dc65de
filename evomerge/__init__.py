"""evomerge: finds good merges of fine-tuned language models by searching."""

__version__ = "0.1.0"
