"""Judges from outside: functions and programs of the user's, in processes of their own.

They are told of the model through a handle or a server, and nothing of theirs runs in a worker:
what hangs, exits, fills the memory or leaves children costs its trial, and the run goes on.
"""
