"""From recipe to weights: the resident merger, builds on disk, and what model files say."""
