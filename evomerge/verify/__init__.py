"""A winner built and scored again apart from its run, compared with its ledger."""
