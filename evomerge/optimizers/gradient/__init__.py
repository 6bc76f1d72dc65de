"""DAM: learns the weights by back-propagation."""
