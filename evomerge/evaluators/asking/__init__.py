"""What kinds of judges are written on: documents, requests, and one evaluator for all of them.

A kind is one file: an :class:`~evomerge.evaluators.asking.asking_kind.AskingKind` with its
settings, which reads its documents, names its measures, and has one generator that judges a
document. What the generators of all tasks of a split ask is answered together.
"""
