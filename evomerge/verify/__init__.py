"""A winner built and scored again by mergekit and lm-eval alone, compared with its ledger."""
