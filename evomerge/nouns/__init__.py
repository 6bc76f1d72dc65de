"""What everybody speaks of: space, trial, event, score, and two of them side by side."""
