"""Who listens to a run and keeps it for others: the page, Optuna's journal."""
