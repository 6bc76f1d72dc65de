"""Paths through the layers of several models: which layer runs next, and how much it adds.

``hop`` has paths and how one is written as a recipe, ``edits``, ``mask`` and ``stack`` say what of
a path varies, ``fold`` where a scale may stand, ``layer_space`` makes the merge space of it.
"""
