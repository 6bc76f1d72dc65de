"""``python -m evomerge``."""

from evomerge.cli.main import entry_point

entry_point()
