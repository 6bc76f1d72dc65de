"""The genome file: its schema, and loading it with every mistake reported at once."""
