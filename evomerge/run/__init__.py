"""One run: the loop, its ledger, who leads, and what it ends with."""
