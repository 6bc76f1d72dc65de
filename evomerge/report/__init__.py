"""What a run folder tells: tables, curve, exports, HTML page, Optuna journal. Never prints."""
