"""The run folder and its ledger: what a run found, on disk before it goes on."""
