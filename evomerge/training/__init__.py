"""Learning by back-propagation where to merge: sources frozen, coefficients trained."""
