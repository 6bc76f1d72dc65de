"""The command line: parse, call, draw. The only package that prints."""
