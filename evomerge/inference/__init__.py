"""From a live model to tokens: log-likelihoods, generation, and the passes that give them."""
