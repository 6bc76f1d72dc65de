"""Hugging Face models in this process: what several rows begin with is computed once.

``trees`` finds what rows have in common, ``tree_passes`` runs the model over it, ``likelihoods``
and ``generation`` ask for passes and read from them, ``greedy`` keeps rows in slots,
``pass_budget`` says how much one pass reads.
"""
