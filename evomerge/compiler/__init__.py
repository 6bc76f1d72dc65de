"""Genome -> Search: the only reader of the tables."""
